package embedding

import (
	"bytes"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take; building takes the most.
const patience = 3 * time.Minute

// command is what runs in a terminal.
type command struct {
	cmd   *exec.Cmd
	where string // on the page
	ended chan struct{}
	err   error // when it has ended

	mu      sync.Mutex
	out     bytes.Buffer
	changed chan struct{} // closed when more is printed
}

func start(t *testing.T, where, dir string, env []string, text string) *command {
	t.Helper()
	c := &command{cmd: exec.Command("bash", "-e", "-c", text), where: where, ended: make(chan struct{}), changed: make(chan struct{})}
	c.cmd.Dir, c.cmd.Env = dir, env
	c.cmd.Stdout, c.cmd.Stderr = c, c
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, c.cmd.Start())
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		c.signal(syscall.SIGKILL)
		<-c.ended
	})
	return c
}

// Write takes what the command prints.
func (c *command) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
	return c.out.Write(p)
}

func (c *command) printed() (string, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String(), c.changed
}

// signal is for all processes of the command, as Ctrl+C is.
func (c *command) signal(s syscall.Signal) {
	select {
	case <-c.ended:
	default:
		syscall.Kill(-c.cmd.Process.Pid, s)
	}
}

// wait waits for the end.
func (c *command) wait(t *testing.T) {
	t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		out, _ := c.printed()
		t.Fatalf("%s: has not ended, and printed\n%s", c.where, out)
	}
}

// succeed waits for the end, which is to be a good one.
func (c *command) succeed(t *testing.T) {
	t.Helper()
	if c.wait(t); c.err != nil {
		out, _ := c.printed()
		t.Fatalf("%s: %v, and printed\n%s", c.where, c.err, out)
	}
}

// prints waits until these lines are there, in this order, … being anything.
func (c *command) prints(t *testing.T, want string) {
	t.Helper()
	pattern := "(?m)"
	for _, line := range strings.Split(strings.TrimRight(want, "\n"), "\n") {
		pattern += "^" + strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + `$(?s:.*)`
	}
	lines, deadline := regexp.MustCompile(pattern), time.After(patience)
	for {
		out, changed := c.printed()
		if lines.MatchString(out) {
			return
		}
		select {
		case <-changed:
		case <-c.ended:
			if out, _ := c.printed(); !lines.MatchString(out) {
				t.Fatalf("%s: ended (%v), and printed\n%s\nwithout\n%s", c.where, c.err, out, want)
			}
			return
		case <-deadline:
			t.Fatalf("%s: printed\n%s\nwithout\n%s", c.where, out, want)
		}
	}
}
