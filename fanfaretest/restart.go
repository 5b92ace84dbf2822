package fanfaretest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
)

const (
	// closePatience is how long a Close may take, and callPatience how long a call of a transport may hold it up.
	closePatience = time.Minute
	callPatience  = 5 * time.Second
)

// Reopen closes the Pusher, unless the host has done so, and opens the directory again, as a program does that is restarted. Connections end: who is
// to be connected then connects again. With options, at most one, they are those of the new program, and take the place of Options.Fanfare. The old p.Pusher is closed, and its
// tasks with it: [fanfare.Pusher.Task] finds them again.
func (p *Pusher) Reopen(t testing.TB, o ...fanfare.Options) {
	t.Helper()
	p.Disk.Free()
	if err := p.close(p.life); err != nil {
		t.Fatalf("fanfaretest: close: %v%s", err, held(p.life))
	}
	p.restart(t, o)
}

// Crash ends the Pusher as SIGKILL ends a process, and opens what it leaves in a copy of the directory. Nothing is durable that was not when it was called: a write under way is made
// before, later ones fail, and calls of the old p.Pusher that wait for one return an error. Its transports and hooks are not called any more; connections end, and options are as with [Pusher.Reopen]. What
// was delivered and not yet committed is delivered again, as after a real crash: see the duplicates of the guarantees.
//
// What is not simulated: a loss of power, by which what was written and not synced is lost; and a kill in the midst of a commit, after which the next process
// sees the commit or does not, as it does when the kill comes just after it or just before. A Deliver that is under way returns to nobody, but the
// Recorder may still record it, as a client does whose connection had it in a buffer. The host's own Online is not closed, nor are its Mobile transports kept from being called while the old Pusher ends.
func (p *Pusher) Crash(t testing.TB, o ...fanfare.Options) {
	t.Helper()
	p.Disk.under.Kill()
	p.life.crash()
	left := filepath.Join(p.home, fmt.Sprint("crash-", len(p.past)+1))
	if err := copyFiles(left, p.dir); err != nil {
		t.Fatalf("fanfaretest: copy what the crash leaves: %v", err)
	}
	_ = p.close(p.life) // which cannot be clean
	p.dir = left
	p.restart(t, o)
}

func (p *Pusher) restart(t testing.TB, o []fanfare.Options) {
	t.Helper()
	if len(o) > 1 {
		t.Fatalf("fanfaretest: a restart was given %d options, of which it takes one", len(o))
	}
	if p.o.Fanfare.Online != nil {
		p.Recorder.OnDeliver(nil) // which was the host's, and may be another's now
	}
	if len(o) == 1 {
		p.o.Fanfare = o[0]
	}
	p.past = append(p.past, p.life)
	p.mu.Lock()
	clear(p.sessions)
	p.mu.Unlock()
	p.open(t)
}

// close closes the Pusher of a life, however long transports do not return.
func (p *Pusher) close(l *life) error {
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	hurry := time.AfterFunc(callPatience, func() {
		if len(l.calls()) > 0 {
			cancel()
		}
	})
	defer hurry.Stop()
	err := p.Pusher.Close(ctx)
	if errors.Is(err, fanfare.ErrClosed) {
		return nil
	}
	return err
}

// copyFiles copies the files of a directory. One that goes meanwhile is one that nobody needs any more.
func copyFiles(to, from string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if err := copyFile(filepath.Join(to, e.Name()), filepath.Join(from, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// end is what New leaves for the end of the test.
func (p *Pusher) end() {
	t := p.t
	t.Helper()
	p.Disk.Free()
	if s, err := p.Stats(context.Background()); err == nil && s.Stuck > 0 {
		t.Errorf("fanfaretest: at the test's end %s left behind, past the DeliverTimeout, and not returned%s", count(int(s.Stuck), "Deliver"), held(p.life))
	}
	if err := p.close(p.life); err != nil && !(errors.Is(err, context.Canceled) && held(p.life) != "") { // what held it up is told below
		t.Errorf("fanfaretest: close: %v", err)
	}
	for _, l := range append(slices.Clone(p.past), p.life) {
		if text := held(l); text != "" {
			t.Errorf("fanfaretest: a transport has not returned, although the context of its call has ended%s\n\ta Hang must be released before the test ends", text)
		}
	}
	if err := check(p.dir); err != nil {
		t.Errorf("fanfaretest: the directory is not as it should be: %v", err)
	}
}

// check looks at a directory that is closed, whoever closed it.
func check(dir string) error {
	p, err := open(dir, fanfare.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	return errors.Join(p.Check(context.Background()), p.Close(context.Background()))
}

// held tells, in further lines, which calls of transports are under way.
func held(l *life) (text string) {
	for _, call := range l.calls() {
		text += "\n\tunder way: " + call
	}
	return text
}
