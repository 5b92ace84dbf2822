package fanfare

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

var crashKills = flag.Int("crash.kills", 8, "how often the crash test kills its child")

// children are what this test binary does instead of testing, chosen by the environment.
var children = map[string]func(){"crash": crashChild, "plans": planChild}

const (
	crashWorkers = 6
	crashUsers   = 5 // of each worker
)

// crashOp is one call of a worker of the child. Each worker has users of its own
// and one call at a time, so what was answered is what must be there.
type crashOp struct {
	Worker int
	Kind   string
	User   string   `json:",omitempty"`
	Value  string   `json:",omitempty"` // tag, attribute value, key of a push, message ID
	Users  []string `json:",omitempty"`
}

// crashLog is written with one system call a line: it survives the process, if
// not the machine.
type crashLog struct {
	mu sync.Mutex
	f  *os.File
}

func (l *crashLog) line(kind string, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		l.mu.Lock()
		_, err = l.f.Write(append(append([]byte(kind+" "), b...), '\n'))
		l.mu.Unlock()
	}
	if err != nil {
		panic(err)
	}
}

// crashChild works on the directory until it is killed: by itself, at a random moment that
// may come while it opens.
func crashChild() {
	seed, _ := strconv.ParseUint(os.Getenv("FANFARE_SEED"), 10, 64)
	rnd := rand.New(rand.NewPCG(seed, 1))
	time.AfterFunc(time.Duration(rnd.IntN(150_000))*time.Microsecond, func() {
		self, _ := os.FindProcess(os.Getpid())
		self.Kill()
	})
	f, err := os.OpenFile(os.Getenv("FANFARE_LOG"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	log := &crashLog{f: f}
	online := transport.OnlineFunc(func(_ context.Context, user string, m *transport.Message) error {
		log.line("V", crashOp{User: user, Value: m.ID})
		return nil
	})
	p, err := Open(os.Getenv("FANFARE_DIR"), Options{Online: online, DeltaEntries: 1 + rnd.IntN(300), blockBits: 4})
	if err != nil {
		panic(err)
	}
	if err := p.SetAttributeNames(context.Background(), map[int]string{0: "city"}); err != nil {
		panic(err)
	}
	for w := range crashWorkers {
		go (&crashWorker{p: p, log: log, n: w, seed: seed, rnd: rand.New(rand.NewPCG(seed, uint64(w)+2))}).work()
	}
	select {}
}

type crashWorker struct {
	p        *Pusher
	log      *crashLog
	n        int
	seed     uint64
	count    int
	rnd      *rand.Rand
	sessions []*Session
	tasks    []string
}

func crashUser(worker, i int) string { return fmt.Sprintf("w%d-u%d", worker, i) }

func (w *crashWorker) work() {
	for {
		op := w.choose()
		w.log.line("B", op)
		if err := w.do(op); err != nil && !errors.Is(err, ErrUnknownUser) {
			fmt.Fprintln(os.Stderr, op, err)
			os.Exit(3)
		} else if err != nil {
			op.Kind = "nothing"
		}
		w.log.line("D", op)
		if w.rnd.IntN(4) == 0 { // connections come and go; they change nothing that must be there
			w.reconnect()
		}
	}
}

func (w *crashWorker) choose() crashOp {
	w.count++
	op := crashOp{Worker: w.n, User: crashUser(w.n, w.rnd.IntN(crashUsers)), Value: strconv.Itoa(w.rnd.IntN(4))}
	switch x := w.rnd.IntN(100); {
	case x < 20:
		op.Kind = "tag"
	case x < 30:
		op.Kind = "untag"
	case x < 45:
		op.Kind = "city"
	case x < 60:
		op.Kind = "register"
	case x < 63:
		op.Kind = "unregister"
	case x < 66:
		op.Kind, op.Users = "import", []string{op.User, crashUser(w.n, 100+w.rnd.IntN(50)), crashUser(w.n, 100+w.rnd.IntN(50))}
	case x < 80:
		op.Kind, op.Value = "push", fmt.Sprintf("key-%d-%d-%d", w.n, w.seed, w.count)
		for i := range crashUsers {
			op.Users = append(op.Users, crashUser(w.n, i))
		}
	case x < 82 && len(w.tasks) > 0:
		op.Kind, op.Value = "withdraw", w.tasks[w.rnd.IntN(len(w.tasks))]
	default:
		op.Kind, op.Value = "ack", ""
		for m, err := range w.p.Pending(context.Background(), op.User) {
			if err == nil {
				op.Value = m.ID
			}
			break
		}
		if op.Value == "" {
			op.Kind = "register"
		}
	}
	return op
}

func (w *crashWorker) do(op crashOp) error {
	ctx, p := context.Background(), w.p
	switch op.Kind {
	case "tag":
		return p.AddTags(ctx, op.User, op.Value)
	case "untag":
		return p.RemoveTags(ctx, op.User, op.Value)
	case "city":
		return p.SetAttributes(ctx, op.User, map[string]string{"city": op.Value})
	case "register":
		return p.Register(ctx, op.User)
	case "unregister":
		return p.Unregister(ctx, op.User)
	case "import":
		_, err := p.Import(ctx, func(yield func(User, error) bool) {
			for _, id := range op.Users {
				if !yield(User{ID: id, Tags: []string{op.Value}}, nil) {
					return
				}
			}
		}, nil)
		return err
	case "push":
		t, err := p.Push(ctx, Message{Body: []byte("x"), To: Users(op.Users...), Lifetime: week, Key: op.Value})
		if err == nil {
			w.tasks = append(w.tasks, t.ID)
		}
		return err
	case "withdraw":
		return p.Withdraw(ctx, op.Value)
	case "ack":
		return p.Ack(ctx, op.User, op.Value)
	}
	panic(op.Kind)
}

func (w *crashWorker) reconnect() {
	if len(w.sessions) > 1 {
		w.sessions[0].Close()
		w.sessions = w.sessions[1:]
		return
	}
	id := crashUser(w.n, w.rnd.IntN(crashUsers))
	if _, err := w.p.store.Ordinal(id); err != nil {
		return // Connect would register it, which is a change of its own
	}
	op := crashOp{Worker: w.n, Kind: "register", User: id}
	w.log.line("B", op)
	s, err := w.p.Connect(context.Background(), id)
	if err != nil {
		fmt.Fprintln(os.Stderr, "connect", err)
		os.Exit(3)
	}
	w.log.line("D", op)
	w.sessions = append(w.sessions, s)
}

// crashModel is what must be there of one worker's users.
type crashModel struct {
	users map[string]*crashUserModel
	keys  map[string]bool // pushes
}

type crashUserModel struct {
	tags    map[string]bool
	city    string
	pending map[string]bool // message IDs, or "key " and the key of a push
}

func (m *crashModel) clone() *crashModel {
	c := &crashModel{users: map[string]*crashUserModel{}, keys: maps.Clone(m.keys)}
	for id, u := range m.users {
		c.users[id] = &crashUserModel{maps.Clone(u.tags), u.city, maps.Clone(u.pending)}
	}
	return c
}

func (m *crashModel) register(id string) *crashUserModel {
	if m.users[id] == nil {
		m.users[id] = &crashUserModel{tags: map[string]bool{}, pending: map[string]bool{}}
	}
	return m.users[id]
}

// apply changes the model as an answered call changes the store. IDs tells the message ID of a push by its key.
func (m *crashModel) apply(op crashOp, ids map[string]string) {
	u := m.users[op.User]
	switch op.Kind {
	case "tag":
		u.tags[op.Value] = true
	case "untag":
		delete(u.tags, op.Value)
	case "city":
		u.city = op.Value
	case "register":
		m.register(op.User)
	case "unregister":
		delete(m.users, op.User)
	case "import":
		for _, id := range op.Users {
			m.register(id).tags[op.Value] = true
		}
	case "push":
		m.keys[op.Value] = true
		for _, id := range op.Users {
			if u := m.users[id]; u != nil {
				u.pending[ids[op.Value]] = true
			}
		}
	case "withdraw":
		for _, u := range m.users {
			delete(u.pending, op.Value)
		}
	case "ack":
		if u != nil {
			delete(u.pending, op.Value)
		}
	}
}

// TestCrash kills a process that works on a directory, again and again, and
// compares what is there afterwards with the process's own log of what was answered.
func TestCrash(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir, logs := t.TempDir(), t.TempDir()
	models := make([]*crashModel, crashWorkers)
	for i := range models {
		models[i] = &crashModel{users: map[string]*crashUserModel{}, keys: map[string]bool{}}
	}
	delivered := map[string]bool{}
	opened := 0
	for kill := range *crashKills {
		logFile := filepath.Join(logs, strconv.Itoa(kill))
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "FANFARE_CHILD=crash", "FANFARE_DIR="+dir, "FANFARE_LOG="+logFile,
			"FANFARE_SEED="+strconv.FormatUint(rnd.Uint64()>>1, 10))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != -1 && exit.ExitCode() != 1 || len(out) > 0 {
			t.Fatalf("kill %d: the child ended by itself: %v\n%s", kill, err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, "blocks.db")); err != nil {
			continue // killed while the directory was made
		}
		// Half of the time a copy is examined, and the next child goes on where this one was killed.
		at := dir
		if kill%2 == 0 {
			at = copyDir(t, dir)
		}
		opened++
		examine(t, at, logFile, models, delivered)
		if t.Failed() {
			t.Fatalf("after kill %d", kill)
		}
	}
	acknowledged := 0
	for _, m := range models {
		acknowledged += len(m.keys)
	}
	t.Logf("%d kills, %d times examined, %d pushes", *crashKills, opened, acknowledged)
	if acknowledged == 0 {
		t.Fatal("the children came to nothing")
	}
}

func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(filepath.Join(to, "copy"), os.DirFS(dir)))
	return filepath.Join(to, "copy")
}

// examine opens the directory and compares it with the models, which it brings up to date.
func examine(t *testing.T, dir, logFile string, models []*crashModel, delivered map[string]bool) {
	t.Helper()
	ctx := context.Background()
	p, err := Open(dir, Options{})
	must(t, err)
	defer func() { must(t, p.Close(ctx)) }()
	must(t, p.Check(ctx))
	ids := map[string]string{}
	for task, err := range p.Tasks(ctx) {
		must(t, err)
		ids[task.Info().Key] = task.ID
	}
	open := readCrashLog(t, logFile, models, delivered, ids)
	for w, m := range models {
		for key := range m.keys {
			if ids[key] == "" {
				t.Errorf("the acknowledged push %s is lost", key)
			}
		}
		problem := m.compare(p, w, ids, delivered)
		if problem != "" && open[w] != nil {
			// The last call was not answered: it may have been made.
			with := m.clone()
			if _, known := with.users[open[w].User]; known || slices.Contains([]string{"register", "import", "push", "withdraw"}, open[w].Kind) {
				with.apply(*open[w], ids)
			}
			if other := with.compare(p, w, ids, delivered); other == "" {
				models[w], problem = with, ""
			} else {
				problem += "; or, with the last call " + fmt.Sprint(*open[w]) + ": " + other
			}
		}
		if problem != "" {
			t.Error(problem)
		}
	}
}

// readCrashLog brings the models to what was answered, and returns the call of each worker that was not.
func readCrashLog(t *testing.T, logFile string, models []*crashModel, delivered map[string]bool, ids map[string]string) map[int]*crashOp {
	t.Helper()
	open := map[int]*crashOp{}
	b, err := os.ReadFile(logFile)
	if errors.Is(err, os.ErrNotExist) {
		return open
	}
	must(t, err)
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		var op crashOp
		kind, rest, _ := strings.Cut(s.Text(), " ")
		if json.Unmarshal([]byte(rest), &op) != nil {
			continue // the line that the kill cut off
		}
		switch kind {
		case "V":
			delivered[op.User+" "+op.Value] = true
		case "B":
			open[op.Worker] = &op
		case "D":
			delete(open, op.Worker)
			models[op.Worker].apply(op, ids)
		}
	}
	return open
}

// compare says how a worker's users differ from the model; nothing if they do not.
func (m *crashModel) compare(p *Pusher, worker int, ids map[string]string, delivered map[string]bool) string {
	ctx := context.Background()
	for i := range 150 {
		id := crashUser(worker, i)
		want := m.users[id]
		u, err := p.User(ctx, id)
		if errors.Is(err, ErrUnknownUser) {
			if want != nil {
				return id + " is lost"
			}
			continue
		}
		if err != nil {
			return err.Error()
		}
		if want == nil {
			return id + " is known, and should not be"
		}
		if tags := slices.Sorted(maps.Keys(want.tags)); !slices.Equal(tags, u.Tags) || want.city != u.Attributes["city"] {
			return fmt.Sprintf("%s has tags %v and city %q, not %v and %q", id, u.Tags, u.Attributes["city"], tags, want.city)
		}
		got := map[string]bool{}
		for msg, err := range p.Pending(ctx, id) {
			if err != nil {
				return err.Error()
			}
			got[msg.ID] = true
			if !want.pending[msg.ID] {
				return fmt.Sprintf("%s waits for %s, which it has or was never to get", id, msg.ID)
			}
		}
		for msg := range want.pending {
			if !got[msg] && !delivered[id+" "+msg] {
				return fmt.Sprintf("%s does not wait for %s any more and never got it", id, msg)
			}
		}
	}
	return ""
}
