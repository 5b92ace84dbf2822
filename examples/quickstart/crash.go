package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// The process that kills itself finds what it needs in its environment.
const (
	crashDir   = "FANFARE_QUICKSTART_CRASH_DIR"
	crashLog   = "FANFARE_QUICKSTART_CRASH_LOG"
	crashShare = "FANFARE_QUICKSTART_CRASH_SHARE"
)

// Exit codes after an error, and after Ctrl+C. They are not that of a killed process.
const (
	exitFailed      = 3
	exitInterrupted = 130
)

// doomed is a process that pushes and is dead before the push is out.
type doomed struct {
	dir   string
	log   string  // gets a line for each delivery; a dead process has no memory
	share float64 // percent of the users
}

func crashFromEnvironment() *doomed {
	share, err := strconv.ParseFloat(os.Getenv(crashShare), 64)
	if err != nil {
		return nil
	}
	return &doomed{dir: os.Getenv(crashDir), log: os.Getenv(crashLog), share: share}
}

func (d *doomed) audience() fanfare.Audience { return fanfare.Sample(d.share, "crash") }

func (d *doomed) message() fanfare.Message {
	return fanfare.Message{
		From: "operations", Body: []byte("Maintenance tonight at 02:00."), To: d.audience(), Lifetime: week, Key: "maintenance",
	}
}

// crash lets a process of its own be killed in the middle of a push, and shows
// that the push goes on when the directory is opened again.
func (s *show) crash(ctx context.Context) error {
	s.title("5. A process is killed in the middle of a push")
	if err := s.close(); err != nil {
		return err
	}
	logs, err := os.MkdirTemp("", "fanfare-quickstart-log-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(logs)
	d := &doomed{dir: s.dir, log: filepath.Join(logs, "delivered"), share: s.share(5, 20, 50_000)}
	if err := s.runDoomed(ctx, d); err != nil {
		return err
	}
	before, err := d.delivered()
	if err != nil {
		return err
	}
	s.say("%s users had the message by then.", count(len(before)))

	began := time.Now()
	if err := s.open(); err != nil {
		return err
	}
	s.say("The directory is opened again, in %s.", took(began))
	task, err := s.p.Push(ctx, d.message())
	if err != nil {
		return err
	}
	s.say("The same push again, in case it was lost: a duplicate, which changes nothing: %s.", yes(task.Duplicate))
	if _, err := s.connect(ctx, d.audience()); err != nil {
		return err
	}
	if err := s.follow(ctx, task, "the push goes on", func(p fanfare.Progress) bool { return p.Pending == 0 }); err != nil {
		return err
	}
	return s.tally(ctx, d, task.ID, before)
}

// tally counts who has the message how often, from the dead process and from this one.
func (s *show) tally(ctx context.Context, d *doomed, messageID string, before map[string]int) error {
	var once, twice, more, never int64
	for user, err := range s.p.Members(ctx, d.audience()) {
		if err != nil {
			return err
		}
		switch before[user] + s.hub.times(user, messageID) {
		case 0:
			never++
		case 1:
			once++
		case 2:
			twice++
		default:
			more++
		}
	}
	s.say("Of %s users %s got it once, %s twice, %s more often, %s never.",
		count(once+twice+more+never), count(once), count(twice), count(more), count(never))
	if twice > 0 {
		s.say("Twice: the process died after it had delivered and before it had noted so. Both carry the same ID; a client drops the second.")
	}
	if never > 0 || more > 0 {
		return errors.New("the push did not survive the crash as promised")
	}
	return nil
}

// runDoomed runs this program again as the process that dies.
func (s *show) runDoomed(ctx context.Context, d *doomed) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), crashDir+"="+d.dir, crashLog+"="+d.log, crashShare+"="+strconv.FormatFloat(d.share, 'g', -1, 64))
	cmd.Stdout, cmd.Stderr = s.w, os.Stderr
	err = cmd.Run()
	switch code := cmd.ProcessState.ExitCode(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil || code == exitFailed:
		return fmt.Errorf("the process should have been killed: %s", cmd.ProcessState)
	}
	s.say("The process is dead (%s).", cmd.ProcessState)
	return nil
}

// pushAndDie is that process: it pushes, waits until a third of the audience is
// known to have the message, and kills itself.
func (d *doomed) pushAndDie(ctx context.Context, out io.Writer) error {
	s := &show{screen: newScreen(out), dir: d.dir}
	if err := s.open(); err != nil {
		return err
	}
	users, err := s.connect(ctx, d.audience())
	if err != nil {
		return err
	}
	// When a message without a lifetime is out, everyone has caught up with what waited.
	hello, err := s.p.Push(ctx, fanfare.Message{Body: []byte("hello"), To: d.audience()})
	if err != nil {
		return err
	}
	if err := hello.Wait(ctx); err != nil {
		return err
	}
	s.say("Another process has the directory now, and %s users are connected to it.", count(len(users)))

	log, err := os.Create(d.log)
	if err != nil {
		return err
	}
	m := d.message()
	s.hub.precede(slowly(log, m.From, len(users)))
	task, err := s.p.Push(ctx, m)
	if err != nil {
		return err
	}
	err = s.follow(ctx, task, "delivering", func(p fanfare.Progress) bool { return p.Delivered*3 >= p.Total })
	if err != nil {
		return err
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	if err := self.Kill(); err != nil {
		return err
	}
	<-ctx.Done()
	return errors.New("still alive")
}

// slowly notes each delivery of a sender's messages, and makes them take a
// second in all, as a network would, so that there is a middle to die in.
func slowly(log io.Writer, from string, users int) func(string, *transport.Message) error {
	var mu sync.Mutex
	rest, n := max(users/100, 1), 0
	return func(user string, m *transport.Message) error {
		if m.From != from {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if n++; n%rest == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		_, err := fmt.Fprintln(log, user)
		return err
	}
}

// delivered reads the log of the dead process: how often each user had the message.
func (d *doomed) delivered() (map[string]int, error) {
	file, err := os.Open(d.log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	times := make(map[string]int)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		times[lines.Text()]++
	}
	return times, lines.Err()
}
