package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// What is measured in a process of its own, chosen by the environment.
const (
	childKind    = "FANFARE_BENCH_CHILD"
	childDir     = "FANFARE_BENCH_DIR"
	childUsers   = "FANFARE_BENCH_USERS"
	childChanges = "FANFARE_BENCH_CHANGES" // that nearly fill a delta
)

// answer is a line that a child prints.
type answer struct {
	What  string
	Value float64
}

func tell(what string, value float64) error {
	return json.NewEncoder(os.Stdout).Encode(answer{what, value})
}

func runChild(ctx context.Context, kind string) error {
	users, err := strconv.Atoi(os.Getenv(childUsers))
	if err != nil {
		return err
	}
	changes, err := strconv.Atoi(os.Getenv(childChanges))
	if err != nil {
		return err
	}
	who, err := newPeople()
	if err != nil {
		return err
	}
	c := &child{who: who, users: users, changes: changes, dir: os.Getenv(childDir)}
	switch kind {
	case "fill":
		return c.fill(ctx)
	case "reopen":
		return c.reopen(ctx)
	case "heap":
		return c.heap(ctx)
	case "delta":
		return c.deltaHeap(ctx)
	case "import":
		return c.importHeap(ctx)
	case "node":
		return c.node(ctx)
	}
	return fmt.Errorf("no child %q", kind)
}

type child struct {
	who     *people
	users   int
	changes int
	dir     string
	p       *fanfare.Pusher
}

// change changes different users, so many that the delta is nearly full: each is an entry, beside those of the postings.
func (c *child) change(ctx context.Context) error {
	n := c.changes
	step, began := c.users/n, uint64(time.Now().UnixNano()) // other values than the child before
	return callers(concurrent, func(caller int) error {
		who := c.who.clone()
		r := rand.New(rand.NewPCG(began, uint64(caller)))
		for i := caller; i < n; i += concurrent {
			if err := c.p.SetAttributes(ctx, who.id(i*step), map[string]string{"city": who.towns.Draw(r)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// fill leaves a delta that is nearly full and waits to be killed.
func (c *child) fill(ctx context.Context) (err error) {
	if c.p, err = fanfare.Open(c.dir, fanfare.Options{}); err != nil {
		return err
	}
	if err := c.change(ctx); err != nil {
		return err
	}
	s, err := c.p.Stats(ctx)
	if err != nil {
		return err
	}
	if err := tell("journal", float64(s.JournalBytes)); err != nil {
		return err
	}
	<-ctx.Done()
	return errors.New("not killed")
}

// reopen says how long it takes to open and waits to be killed.
func (c *child) reopen(ctx context.Context) (err error) {
	began := time.Now()
	if c.p, err = fanfare.Open(c.dir, fanfare.Options{}); err != nil {
		return err
	}
	if err := tell("open", time.Since(began).Seconds()); err != nil {
		return err
	}
	<-ctx.Done()
	return errors.New("not killed")
}

func liveHeap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// heap says how much memory lives: after opening, and for each connected user.
func (c *child) heap(ctx context.Context) (err error) {
	hub := transport.OnlineFunc(func(context.Context, string, *transport.Message) error { return nil })
	before := liveHeap()
	if c.p, err = fanfare.Open(c.dir, fanfare.Options{Online: hub}); err != nil {
		return err
	}
	if err := tell("opened", liveHeap()-before); err != nil {
		return err
	}
	n := min(c.users, 200_000)
	sessions := make([]*fanfare.Session, 0, n)
	ids := make([]string, 0, n)
	for i := range n {
		ids = append(ids, c.who.id(i))
	}
	before = liveHeap()
	for _, id := range ids {
		s, err := c.p.Connect(ctx, id)
		if err != nil {
			return err
		}
		sessions = append(sessions, s)
	}
	for c.p.Online() < n {
		time.Sleep(time.Millisecond)
	}
	if err := tell("session", (liveHeap()-before)/float64(n)); err != nil {
		return err
	}
	runtime.KeepAlive(sessions)
	runtime.KeepAlive(ids)
	return c.p.Close(ctx)
}

// deltaHeap says how much memory lives with a delta that is nearly full.
func (c *child) deltaHeap(ctx context.Context) (err error) {
	before := liveHeap()
	if c.p, err = fanfare.Open(c.dir, fanfare.Options{}); err != nil {
		return err
	}
	if err := c.change(ctx); err != nil {
		return err
	}
	if err := tell("delta", liveHeap()-before); err != nil {
		return err
	}
	return c.p.Close(ctx)
}

// importHeap says how much the heap grows to while users are imported.
func (c *child) importHeap(ctx context.Context) (err error) {
	if c.p, err = fanfare.Open(c.dir, fanfare.Options{}); err != nil {
		return err
	}
	if err := c.p.SetAttributeNames(ctx, names); err != nil {
		return err
	}
	stop, done := make(chan struct{}), make(chan float64, 1)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		peak := uint64(0)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			select {
			case <-stop:
				done <- float64(peak)
				return
			case <-tick.C:
			}
		}
	}()
	if _, err := c.p.Import(ctx, c.who.users(0, c.users), nil); err != nil {
		return err
	}
	close(stop)
	if err := tell("peak", <-done); err != nil {
		return err
	}
	return c.p.Close(ctx)
}

// runningChild is a child and its answers.
type runningChild struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func (b *bench) child(ctx context.Context, kind, dir string, users int, env ...string) (*runningChild, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	changes := min(users, 950_000) * 9 / 10 // and some 46,000 postings, of the 1,000,000 entries that are the bound
	if b.quick {
		changes /= 10
	}
	cmd.Env = append(os.Environ(), childKind+"="+kind, childDir+"="+dir, childUsers+"="+strconv.Itoa(users), childChanges+"="+strconv.Itoa(changes))
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &runningChild{cmd, in, bufio.NewScanner(out)}, cmd.Start()
}

// next returns the next answer.
func (c *runningChild) next(what string) (float64, error) {
	if !c.out.Scan() {
		return 0, fmt.Errorf("the child ended: %w", c.cmd.Wait())
	}
	var a answer
	if err := json.Unmarshal(c.out.Bytes(), &a); err != nil {
		return 0, err
	}
	if a.What != what {
		return 0, fmt.Errorf("the child says %q, not %q", a.What, what)
	}
	return a.Value, nil
}

func (c *runningChild) kill() error {
	if err := c.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = c.cmd.Wait() // killed: an error
	return nil
}

// open is how long it takes to open: after a complete Close, and after a kill with a full delta in the journal.
func (b *bench) open(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	var closed, killed []float64
	for range b.rounds {
		if err := b.close(); err != nil {
			return err
		}
		began := time.Now()
		if err := b.reopen(fanfare.Options{}); err != nil {
			return err
		}
		closed = append(closed, time.Since(began).Seconds()*1e3)
	}
	b.add(limit("open.closed", "ms", closed, 50, "≤ 50 ms"))
	if err := b.close(); err != nil {
		return err
	}
	c, err := b.child(ctx, "fill", b.home(), b.users)
	if err != nil {
		return err
	}
	journal, err := c.next("journal")
	if err != nil {
		return err
	}
	if err := c.kill(); err != nil {
		return err
	}
	for range b.rounds {
		c, err := b.child(ctx, "reopen", b.home(), b.users)
		if err != nil {
			return err
		}
		took, err := c.next("open")
		if err != nil {
			return err
		}
		killed = append(killed, took)
		if err := c.kill(); err != nil {
			return err
		}
	}
	b.add(limit("open.killed", "s", killed, 3, "≤ 3 s").with("%.0f MB of journal", journal/1e6))
	return b.reopen(fanfare.Options{})
}

// deltaBytes is the default of Options.DeltaBytes.
const deltaBytes = 128 << 20

// heap is the memory that lives in a process that does nothing else.
func (b *bench) heap(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	var opened, session, delta []float64
	ask := func(kind string, into map[string]*[]float64, order ...string) error {
		if err := b.close(); err != nil {
			return err
		}
		c, err := b.child(ctx, kind, b.home(), b.users)
		if err != nil {
			return err
		}
		for _, what := range order {
			v, err := c.next(what)
			if err != nil {
				return err
			}
			*into[what] = append(*into[what], v)
		}
		return c.cmd.Wait()
	}
	answers := map[string]*[]float64{"opened": &opened, "session": &session, "delta": &delta}
	for range b.rounds {
		if err := ask("heap", answers, "opened", "session"); err != nil {
			return err
		}
	}
	if err := ask("delta", answers, "delta"); err != nil {
		return err
	}
	if err := b.reopen(fanfare.Options{}); err != nil {
		return err
	}
	for _, bytes := range [][]float64{opened, delta} {
		for i := range bytes {
			bytes[i] /= 1e6
		}
	}
	b.add(limit("heap.opened", "MB", opened, 64, "≤ 64 MB"))
	b.add(limit("heap.delta", "MB", delta, 64+deltaBytes/1e6, "≤ 64 MB above the delta's bound").with("a delta that is nearly full, as its bound is %d MB", deltaBytes/1_000_000))
	b.add(limit("heap.session", "bytes", session, 600, "≤ 600 bytes"))
	dir := filepath.Join(b.dir, "import-heap")
	defer os.RemoveAll(dir)
	users := min(b.users, 3_000_000)
	if b.quick {
		users /= 3
	}
	c, err := b.child(ctx, "import", dir, users)
	if err != nil {
		return err
	}
	peak, err := c.next("peak")
	if err != nil {
		return err
	}
	if err := c.cmd.Wait(); err != nil {
		return err
	}
	r := limit("heap.import", "MB", []float64{peak / 1e6}, 2*3*deltaBytes/1e6, "≤ 2 × 3 × the delta's bound")
	r.Users = users
	b.add(r.with("highest, garbage included"))
	return nil
}
