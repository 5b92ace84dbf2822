package cluster

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/fanfare-im/fanfare"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

// patience is how long a test waits for what must happen; nothing waits for its end.
const patience = 30 * time.Second

// again is after how long a node asks again, where a test is about what is lost.
const again = 50 * time.Millisecond

// town is a NATS server with presences connected to it.
type town struct {
	url   string
	turns chan struct{} // after a turn of a loop
	log   *logs
}

type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func newTown(tb testing.TB) *town {
	tb.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		tb.Fatal(err)
	}
	s.Start()
	tb.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		tb.Fatal("the server is not ready")
	}
	return &town{url: s.ClientURL(), turns: make(chan struct{}, 1), log: new(logs)}
}

func (tn *town) connect(tb testing.TB) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect(tn.url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// node is a presence with short intervals that has not been started.
func (tn *town) node(nc *nats.Conn, name string) *presence {
	p := newPresence(nc, "test", name, slog.New(tn.log))
	p.tellEvery, p.beatEvery, p.learn = 2*time.Millisecond, 10*time.Millisecond, time.Millisecond
	p.goneAfter, p.retry = patience, patience
	p.turned = func() {
		select {
		case tn.turns <- struct{}{}:
		default:
		}
	}
	return p
}

func (tn *town) start(tb testing.TB, name string, number uint64, settle func([]uint32, func(uint64))) *presence {
	tb.Helper()
	p := tn.node(tn.connect(tb), name)
	begin(tb, p, number, settle)
	return p
}

func begin(tb testing.TB, p *presence, number uint64, settle func([]uint32, func(uint64))) {
	tb.Helper()
	if settle == nil {
		settle = func(_ []uint32, done func(uint64)) { done(number) }
	}
	if err := p.Start(number, settle); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
	})
}

// TestPresenceStartsWhenAllAreKnown: Start waits no longer than until it is known who is connected to the nodes that are expected.
func TestPresenceStartsWhenAllAreKnown(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	a, c := tn.start(t, "a", 1, nil), tn.start(t, "c", 3, nil)
	for i := range uint32(1000) {
		a.Joined(i << 8)
		c.Joined(i<<8 + 1)
	}
	tn.until(t, "told", func() bool { return a.Others() == 1000 && c.Others() == 1000 })
	for i, gone := range []bool{false, false, true, true} {
		b := tn.node(tn.connect(t), "b")
		b.learn = patience
		switch i {
		case 0:
			b.expected = func() []string { return []string{"a", "c"} }
		case 1: // of c it is not known yet that it belongs to them
			b.expected, b.least = func() []string { return []string{"a"} }, 2
		case 2:
			b.learn = 50 * time.Millisecond
			b.expected = func() []string { return []string{"a", "c", "d"} }
		case 3:
			b.learn = 50 * time.Millisecond
			b.expected, b.least = func() []string { return []string{"a", "c"} }, 3
		}
		since := time.Now()
		begin(t, b, 2, nil)
		if took := time.Since(since); took >= patience || gone && took < b.learn {
			t.Errorf("begun after %v", took)
		}
		if n := b.Others(); !gone && n != 2000 {
			t.Errorf("%d are elsewhere", n)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// until waits for something that comes true by what the nodes tell each other.
func (tn *town) until(tb fataler, what string, is func() bool) {
	tb.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !is() {
		select {
		case <-tn.turns:
		case <-late.C:
			if !is() {
				tb.Fatalf("%s: not within %v\n%s", what, patience, tn.log)
			}
			return
		}
	}
}

func (tn *town) untilNodes(tb fataler, p *presence, want ...uint64) {
	tb.Helper()
	tn.until(tb, fmt.Sprintf("%s knows %d", p.name, want), func() bool { return slices.Equal(p.Nodes(), want) })
}

// logs keeps what is logged.
type logs struct {
	mu   sync.Mutex
	text []string
}

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) WithGroup(string) slog.Handler            { return l }
func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.text = append(l.text, line)
	return nil
}

func (l *logs) count(level slog.Level, part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.text {
		if strings.HasPrefix(line, level.String()) && strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.text, "\n")
}

func TestPresenceJoinAndLeave(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	a, b, c := tn.start(t, "a", 1, nil), tn.start(t, "b", 2, nil), tn.start(t, "c", 3, nil)
	tn.untilNodes(t, a, 2, 3)
	tn.untilNodes(t, b, 1, 3)
	tn.untilNodes(t, c, 1, 2)

	const last = 1<<32 - 1
	a.Joined(7)
	a.Joined(70_000)
	a.Joined(last)
	b.Joined(7)
	b.Joined(8)
	tn.until(t, "c knows the users of a and b", func() bool { return c.Others() == 4 })
	tn.until(t, "a knows the users of b", func() bool { return a.Elsewhere(7) && a.Elsewhere(8) })
	tn.until(t, "b knows the users of a", func() bool { return b.Elsewhere(70_000) && b.Elsewhere(last) })
	for _, o := range []uint32{7, 8, 70_000, last} {
		if !c.Elsewhere(o) {
			t.Errorf("for c, %d is not elsewhere", o)
		}
	}
	if n := a.Others(); n != 1 { // 8: 7 is here too
		t.Errorf("a: %d others", n)
	}
	if a.Elsewhere(70_000) || a.Elsewhere(last-1) || a.Elsewhere(6) {
		t.Error("a: a user who is nowhere else is elsewhere")
	}

	a.Left(7) // b still has the user
	a.Left(last)
	if n := a.Others(); n != 2 {
		t.Errorf("a, without 7: %d others", n)
	}
	tn.until(t, "c knows that a user has left", func() bool { return !c.Elsewhere(last) })
	if !c.Elsewhere(7) || c.Others() != 3 {
		t.Errorf("c: 7 is elsewhere: %v, %d others", c.Elsewhere(7), c.Others())
	}
	c.Joined(7)
	if n := c.Others(); n != 2 {
		t.Errorf("c, with 7: %d others", n)
	}
	b.Left(7)
	tn.until(t, "c knows that 7 is nowhere else", func() bool { return !c.Elsewhere(7) })
	if n := c.Others(); n != 2 {
		t.Errorf("c: %d others", n)
	}
}

// A message that is lost is noticed by the next number, and all is asked for.
func TestPresenceGap(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	var losing atomic.Bool
	var lost, asks atomic.Int32
	a := tn.node(tn.connect(t), "a")
	a.lose = func(h *wireHead) bool {
		if h.kind == kindAsk {
			asks.Add(1)
		}
		return false
	}
	begin(t, a, 1, nil)
	b := tn.node(tn.connect(t), "b")
	b.lose = func(h *wireHead) bool {
		if losing.Load() && h.kind == kindChanges {
			lost.Add(1)
			return true
		}
		return false
	}
	begin(t, b, 2, nil)
	tn.untilNodes(t, b, 1)

	a.Joined(1)
	tn.until(t, "b knows 1", func() bool { return b.Elsewhere(1) })
	if n := asks.Load(); n != 0 {
		t.Errorf("%d times asked for all, with nothing lost", n)
	}
	losing.Store(true)
	a.Joined(2)
	a.Left(1)
	tn.until(t, "the changes are lost", func() bool { return lost.Load() > 0 })
	tn.until(t, "b knows 2 by a beat", func() bool { return b.Elsewhere(2) && !b.Elsewhere(1) && b.Others() == 1 })
	if n := asks.Load(); n == 0 {
		t.Error("known without asking")
	}
	losing.Store(false)
	a.Joined(3)
	tn.until(t, "b knows 3", func() bool { return b.Elsewhere(3) && b.Others() == 2 })
}

// Questions for all, and single parts, are lost too.
func TestPresenceLostParts(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	a := tn.start(t, "a", 1, nil)
	for i := range uint32(100) {
		for j := range uint32(5000) {
			a.Joined(i<<16 + j*13)
		}
	}
	watch := tn.start(t, "watch", 3, nil)
	tn.until(t, "told", func() bool { return watch.Others() == 500_000 }) // or b is told changes, and asks for nothing
	var parts int
	b := tn.node(tn.connect(t), "b")
	b.retry = again
	b.lose = func(h *wireHead) bool {
		if h.kind == kindPart {
			parts++
			return parts == 2 // of the first four
		}
		return false
	}
	begin(t, b, 2, nil)
	tn.until(t, "b knows all", func() bool { return b.Others() == 500_000 })
	b.Close()
	if parts < 6 {
		t.Errorf("%d parts: nothing has been asked for again", parts)
	}
}

func TestPresenceMillion(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	a := tn.start(t, "a", 1, nil)
	for i := range uint32(1_000_000) {
		a.Joined(i * 3)
	}
	watch := tn.start(t, "watch", 2, nil)
	tn.until(t, "told", func() bool { return watch.Others() == 1_000_000 })

	nc := tn.connect(t)
	b := tn.node(nc, "b")
	since := time.Now()
	begin(t, b, 3, nil)
	tn.until(t, "b knows all", func() bool { return b.Others() == 1_000_000 })
	t.Logf("known after %v, %d bytes", time.Since(since), nc.Stats().InBytes)
	if n := nc.Stats().InBytes; n > 1_000_000 {
		t.Errorf("%d bytes", n)
	}
	for i := range uint32(1_000_000) {
		if !b.Elsewhere(i*3) || b.Elsewhere(i*3+1) {
			t.Fatalf("%d is wrong", i*3)
		}
	}
	a.Left(0)
	a.Joined(1)
	tn.until(t, "changes on top of all", func() bool { return b.Elsewhere(1) && !b.Elsewhere(0) && b.Others() == 1_000_000 })
}

// A node that is not heard is gone; when it is heard again, with the same epoch, it is learnt again.
func TestPresenceSilence(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	a, c := tn.start(t, "a", 1, nil), tn.start(t, "c", 3, nil)
	var deaf atomic.Bool
	b := tn.node(tn.connect(t), "b")
	b.lose = func(h *wireHead) bool {
		lost := h.name == "a" && deaf.Load()
		if o := b.others["a"]; lost && o != nil { // the time that it takes is no matter, and others are not to be silent for as long on a slow machine
			o.silent = b.goneAfter
		}
		return lost
	}
	begin(t, b, 2, nil)
	a.Joined(1)
	a.Joined(2)
	c.Joined(2)
	tn.until(t, "b knows them", func() bool { return b.Others() == 2 && slices.Equal(b.Nodes(), []uint64{1, 3}) })

	deaf.Store(true)
	tn.untilNodes(t, b, 3)
	tn.until(t, "b knows that 1 is nobody's", func() bool { return !b.Elsewhere(1) })
	if !b.Elsewhere(2) || b.Others() != 1 {
		t.Errorf("2, who is connected to c: %v, %d others", b.Elsewhere(2), b.Others())
	}
	if n := tn.log.count(slog.LevelWarn, "counts as gone"); n != 1 {
		t.Errorf("logged %d times\n%s", n, tn.log)
	}
	a.Joined(4)
	a.Left(2)
	tn.until(t, "c knows 4", func() bool { return c.Elsewhere(4) })
	deaf.Store(false)
	tn.untilNodes(t, b, 1, 3)
	tn.until(t, "b knows a's users again", func() bool { return b.Elsewhere(1) && b.Elsewhere(4) && b.Others() == 3 })
	a.Left(1)
	tn.until(t, "b follows a", func() bool { return !b.Elsewhere(1) })
}

// Time in which the process was stopped does not count as others' silence.
func TestPresenceOwnPause(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	p := tn.node(tn.connect(t), "p")
	p.settle, p.lastTick, p.goneAfter = nil, time.Now(), 5*time.Second
	o := p.meet(&wireHead{kind: kindBeat, name: "o", node: 9, epoch: 1})
	p.lastTick = p.lastTick.Add(-time.Hour)
	p.tick()
	if len(p.Nodes()) != 1 || o.silent > time.Second {
		t.Errorf("after an hour's pause: silent for %v, nodes %d", o.silent, p.Nodes())
	}
	for range 10 {
		p.lastTick = p.lastTick.Add(-time.Second)
		p.tick()
	}
	if len(p.Nodes()) != 0 {
		t.Errorf("silent for %v of listening, and there", o.silent)
	}
}

func TestPresenceGoodbye(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	a, b := tn.start(t, "a", 1, nil), tn.node(tn.connect(t), "b")
	b.goneAfter = time.Hour
	begin(t, b, 2, nil)
	a.Joined(5)
	tn.until(t, "b knows 5", func() bool { return b.Elsewhere(5) })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	tn.untilNodes(t, b)
	if b.Elsewhere(5) || b.Others() != 0 {
		t.Errorf("5 is elsewhere: %v, %d others", b.Elsewhere(5), b.Others())
	}
	if n, err := b.Settle(t.Context(), 5); n != 0 || err != nil {
		t.Errorf("settled at %d, %v", n, err)
	}
}

func TestPresenceClosed(t *testing.T) { // alone: it looks at all goroutines
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(patience) {
		t.Fatal("not ready")
	}
	tn := &town{url: s.ClientURL(), turns: make(chan struct{}, 1), log: new(logs)}
	var list []*presence
	for i, name := range []string{"a", "b", "unstarted"} {
		nc, err := nats.Connect(tn.url)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		p := tn.node(nc, name)
		if name != "unstarted" {
			if err := p.Start(uint64(i), func([]uint32, func(uint64)) {}); err != nil { // no answer, ever
				t.Fatal(err)
			}
		}
		p.Joined(uint32(i))
		list = append(list, p)
	}
	a := list[0]
	tn.untilNodes(t, a, 1)
	result := settleAsync(context.Background(), a, 1)
	tn.until(t, "the question is under way", func() bool {
		list[1].mu.Lock()
		defer list[1].mu.Unlock()
		return len(list[1].answering) == 1
	})
	for _, p := range list {
		for range 2 {
			if err := p.Close(); err != nil {
				t.Errorf("%s: %v", p.name, err)
			}
		}
	}
	if o := settled(t, result); !errors.Is(o.err, fanfare.ErrClosed) {
		t.Errorf("Settle, while closed: %v", o)
	}
	for _, p := range list {
		p.Joined(77)
		p.Left(77)
		if p.Elsewhere(1) || p.Others() != 0 || len(p.Nodes()) != 0 {
			t.Errorf("%s, closed: %v %d %d", p.name, p.Elsewhere(1), p.Others(), p.Nodes())
		}
		if _, err := p.Settle(t.Context(), 1); !errors.Is(err, fanfare.ErrClosed) {
			t.Errorf("%s: Settle: %v", p.name, err)
		}
		if err := p.Start(1, nil); !errors.Is(err, fanfare.ErrClosed) {
			t.Errorf("%s: Start: %v", p.name, err)
		}
	}
}

// A process that was killed and runs again has another epoch: its users are those of the new one. Should the old one be heard again, it is ignored, loudly.
func TestPresenceSameName(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	b := tn.start(t, "b", 2, nil)
	old := tn.node(tn.connect(t), "a")
	old.started = old.started.Add(-time.Minute)
	var stopped atomic.Bool
	old.lose = func(h *wireHead) bool { return h.kind != kindAsk } // it does not hear of the other, as before a partition ends
	begin(t, old, 1, nil)
	old.Joined(1)
	tn.until(t, "b knows 1", func() bool { return b.Elsewhere(1) })

	young := tn.node(tn.connect(t), "a")
	young.lose = func(*wireHead) bool { return stopped.Load() }
	begin(t, young, 11, nil)
	young.Joined(2)
	tn.untilNodes(t, b, 11)
	tn.until(t, "b knows 2", func() bool { return b.Elsewhere(2) && !b.Elsewhere(1) })
	tn.until(t, "b says so", func() bool { return tn.log.count(slog.LevelError, "two processes") == 1 })
	tn.until(t, "the younger says so", func() bool {
		return tn.log.count(slog.LevelError, "another process runs under the name of this node") == 1
	})
	old.Joined(3)
	young.Joined(4)
	tn.until(t, "b knows 4", func() bool { return b.Elsewhere(4) })
	if b.Elsewhere(1) || b.Elsewhere(3) || b.Others() != 2 {
		t.Errorf("users of the older process: %v %v, %d others", b.Elsewhere(1), b.Elsewhere(3), b.Others())
	}
	if err := young.Close(); err != nil {
		t.Fatal(err)
	}
	tn.untilNodes(t, b, 1)
	tn.until(t, "b knows the older one's users again", func() bool { return b.Elsewhere(1) && b.Elsewhere(3) && !b.Elsewhere(4) })
}

// asked is a node's settle function that keeps what it is asked for.
type asked struct {
	mu    sync.Mutex
	calls []call
	came  chan struct{}
}

type call struct {
	ordinals []uint32
	done     func(uint64)
}

func newAsked() *asked { return &asked{came: make(chan struct{}, 1000)} }

func (a *asked) settle(ordinals []uint32, done func(uint64)) {
	a.mu.Lock()
	a.calls = append(a.calls, call{ordinals, done})
	a.mu.Unlock()
	a.came <- struct{}{}
}

// next waits for the next call.
func (a *asked) next(t *testing.T) call {
	t.Helper()
	select {
	case <-a.came:
	case <-time.After(patience):
		t.Fatal("not asked")
	}
	return a.take()
}

// take returns the call that came.
func (a *asked) take() call {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.calls[0]
	a.calls = a.calls[1:]
	return c
}

type outcome struct {
	position uint64
	err      error
}

func settleAsync(ctx context.Context, p *presence, ordinal uint32) chan outcome {
	c := make(chan outcome, 1)
	go func() {
		n, err := p.Settle(ctx, ordinal)
		c <- outcome{n, err}
	}()
	return c
}

// settled waits for the outcome.
func settled(t *testing.T, c chan outcome) outcome {
	t.Helper()
	select {
	case o := <-c:
		return o
	case <-time.After(patience):
		t.Fatal("not settled")
		return outcome{}
	}
}

func TestPresenceSettle(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	slow := newAsked()
	a := tn.start(t, "a", 1, nil)
	if n, err := a.Settle(t.Context(), 1); n != 0 || err != nil {
		t.Errorf("alone: %d, %v", n, err)
	}
	tn.start(t, "b", 2, func(_ []uint32, done func(uint64)) { done(1000) })
	tn.start(t, "c", 3, slow.settle)
	tn.untilNodes(t, a, 2, 3)

	got := settleAsync(t.Context(), a, 7)
	c := slow.next(t)
	if !slices.Equal(c.ordinals, []uint32{7}) {
		t.Errorf("asked for %d", c.ordinals)
	}
	select {
	case o := <-got:
		t.Errorf("%v before the last node has answered", o)
	default:
	}
	c.done(999)
	c.done(5000) // an answer is given once
	if o := settled(t, got); o != (outcome{1000, nil}) {
		t.Errorf("settled: %v", o)
	}

	// Later callers do not wait for the round that is under way, but for one of their own.
	first := settleAsync(t.Context(), a, 8)
	held := slow.next(t)
	second := settleAsync(t.Context(), a, 9)
	slow.next(t).done(2000)
	if o := settled(t, second); o != (outcome{2000, nil}) {
		t.Errorf("the second: %v", o)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	third := settleAsync(ctx, a, 10)
	slow.next(t)
	cancel(nil)
	if o := settled(t, third); !errors.Is(o.err, context.Canceled) {
		t.Errorf("given up: %v", o)
	}
	held.done(3000)
	if o := settled(t, first); o != (outcome{3000, nil}) {
		t.Errorf("the first: %v", o)
	}
}

// A node that answers nobody holds up everybody, until it is gone.
func TestPresenceSettleDead(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	dead := newAsked()
	var deaf atomic.Bool
	a := tn.node(tn.connect(t), "a")
	a.lose = func(h *wireHead) bool {
		lost := h.name == "c" && deaf.Load()
		if o := a.others["c"]; lost && o != nil {
			o.silent = a.goneAfter
		}
		return lost
	}
	begin(t, a, 1, nil)
	tn.start(t, "b", 2, nil)
	tn.start(t, "c", 3, dead.settle)
	tn.untilNodes(t, a, 2, 3)
	var list []chan outcome
	for i := range uint32(100) {
		list = append(list, settleAsync(t.Context(), a, i))
	}
	dead.next(t)
	deaf.Store(true)
	for _, c := range list {
		if o := settled(t, c); o != (outcome{2, nil}) {
			t.Errorf("settled: %v", o)
		}
	}
	if !slices.Equal(a.Nodes(), []uint64{2}) {
		t.Errorf("nodes %d", a.Nodes())
	}
}

// With a node that is there and does not answer, callers give up by their contexts, and their rounds and ordinals go with them.
func TestPresenceSettleGivenUp(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	mute := newAsked()
	a := tn.start(t, "a", 1, nil)
	tn.start(t, "b", 2, mute.settle)
	tn.untilNodes(t, a, 2)
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		var list []chan outcome
		for i := range uint32(maxRounds) {
			list = append(list, settleAsync(ctx, a, i))
			mute.next(t)
		}
		for i := range uint32(20) { // these wait for one of the rounds to end
			list = append(list, settleAsync(ctx, a, i))
		}
		cancel()
		for _, c := range list {
			if o := settled(t, c); !errors.Is(o.err, context.Canceled) {
				t.Errorf("settled: %v", o)
			}
		}
	}
	tn.until(t, "nobody waits", a.idle)
	got := settleAsync(t.Context(), a, 5)
	for {
		select {
		case o := <-got:
			if o != (outcome{50, nil}) {
				t.Errorf("settled: %v", o)
			}
			return
		case <-mute.came: // also what was asked before: of those who gave up, the last may have begun a round when the first had ended theirs
			mute.take().done(50)
		case <-time.After(patience):
			t.Fatal("not settled")
		}
	}
}

func (p *presence) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting) == 0
}

// Ten thousand callers share a few rounds.
func TestPresenceSettleTogether(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	slow := newAsked()
	a := tn.node(tn.connect(t), "a")
	a.mostOrdinals = 6000
	begin(t, a, 1, nil)
	tn.start(t, "b", 2, slow.settle)
	tn.untilNodes(t, a, 2)
	const n = 10_000
	results := make(chan outcome, n)
	for i := range uint32(n) {
		go func() {
			position, err := a.Settle(t.Context(), i)
			results <- outcome{position, err}
		}()
	}
	var calls []call
	for range maxRounds { // these are held until all callers are there
		calls = append(calls, slow.next(t))
	}
	under := 0
	for _, c := range calls {
		under += len(c.ordinals)
	}
	tn.until(t, "all callers wait", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		waiting := under
		for _, r := range a.waiting {
			waiting += len(r.callers)
		}
		return waiting == n
	})
	for _, c := range calls {
		c.done(1)
	}
	rounds, told := maxRounds, under
	for told < n {
		c := slow.next(t)
		if rounds++; len(c.ordinals) > 6000 {
			t.Errorf("a round of %d", len(c.ordinals))
		}
		told += len(c.ordinals)
		c.done(1)
	}
	for range n {
		if o := settled(t, results); o != (outcome{1, nil}) {
			t.Fatal(o)
		}
	}
	if rounds > maxRounds+2 {
		t.Errorf("%d rounds", rounds)
	}
}

// Questions and answers that are lost are made good, and a node that is asked again for what it is at is not asked twice.
func TestPresenceSettleLost(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	var questions, answers atomic.Int32
	a := tn.node(tn.connect(t), "a")
	a.retry = again
	a.lose = func(h *wireHead) bool { return h.kind == kindSettled && answers.Add(1) == 1 }
	begin(t, a, 1, nil)
	slow := newAsked()
	b := tn.node(tn.connect(t), "b")
	b.lose = func(h *wireHead) bool { return h.kind == kindSettle && questions.Add(1) == 1 }
	begin(t, b, 2, slow.settle)
	tn.untilNodes(t, a, 2)
	got := settleAsync(t.Context(), a, 3)
	c := slow.next(t)
	before := questions.Load()
	tn.until(t, "asked again", func() bool { return questions.Load() > before+1 })
	if len(slow.came) != 0 {
		t.Error("settling twice at once")
	}
	c.done(10) // lost
	slow.next(t).done(20)
	if o := settled(t, got); o != (outcome{20, nil}) {
		t.Errorf("settled: %v", o)
	}
}

func TestPresenceHostile(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	a, b := tn.start(t, "a", 1, nil), tn.start(t, "b", 2, nil)
	a.Joined(1)
	tn.until(t, "b knows 1", func() bool { return b.Elsewhere(1) })
	nc := tn.connect(t)
	for _, seed := range hostileSeeds() {
		for _, subject := range []string{b.toAll, b.toOne(b.epoch)} {
			if err := nc.Publish(subject, seed); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	a.Joined(2)
	tn.until(t, "b goes on", func() bool { return b.Elsewhere(2) })
	tn.until(t, "a has read them too", func() bool {
		return tn.log.count(slog.LevelWarn, "another version") > 1 && tn.log.count(slog.LevelWarn, "cannot be read") > 1
	})
	if n := tn.log.count(slog.LevelWarn, "another version"); n != 2 { // of a and b
		t.Errorf("version: %d warnings\n%s", n, tn.log)
	}
	if n := tn.log.count(slog.LevelWarn, "cannot be read"); n != 2 {
		t.Errorf("malformed: %d warnings\n%s", n, tn.log)
	}
}

// hostileSeeds are messages that are well formed, and such that are nearly so.
func hostileSeeds() [][]byte {
	h := func(k wireKind) []byte { return (&wireHead{k, "x", 9, 99, 5}).append(nil) }
	var s sheets
	var few, many, both words
	few[3], both[3] = 0xa0, 0xff
	for i := range many {
		many[i] = 0x5555_5555_5555_5555
	}
	s.add(0, &few, nil)
	s.add(9, &many, &few)
	s.add(65535, nil, &few)
	s.end()
	sections := s.done[0]
	u := func(b []byte, list ...uint64) []byte {
		for _, v := range list {
			b = binary.AppendUvarint(b, v)
		}
		return b
	}
	good := [][]byte{
		u(h(kindHello), 3), u(h(kindBeat), 4), append(u(h(kindChanges), 1), sections...), h(kindGoodbye), h(kindAsk),
		append(u(h(kindPart), 1, 0, 2), sections...), appendOrdinals(u(h(kindSettle), 1), []uint32{5, 1, 1<<32 - 1}), u(h(kindSettled), 1, 2),
	}
	seeds := slices.Clone(good)
	for _, g := range good {
		seeds = append(seeds, g[:len(g)-1], append([]byte{2}, g[1:]...), append(slices.Clone(g), 1, 2, 3))
	}
	s = sheets{}
	s.add(1, &both, &few)
	s.end()
	seeds = append(seeds, append(u(h(kindChanges), 1), s.done[0]...))
	wild := slices.Clone(good[2])
	wild[len(h(kindChanges))+10] ^= 0xff
	return append(seeds, nil, []byte{wireVersion}, h(200), wild, u(h(kindSettle), 1, 1<<60), append(u(h(kindChanges), 1), 0xff, 0xff, 3),
		u(h(kindPart), 1, 0, 0, 0), u(h(kindChanges), 1, 1, 5, 3, 1, 2, 3, 0))
}

// The bytes are a format: nodes of two releases talk to each other while a cluster is upgraded.
func TestPresenceFormat(t *testing.T) {
	t.Parallel()
	h := wireHead{kindChanges, "node-1", 0x0102030405060708, 0xa1a2a3a4a5a6a7a8, 300}
	var s sheets
	var joined, left words
	joined[0], left[1023] = 1<<5|1<<7, 1<<63
	s.add(0, &joined, nil)
	s.add(300, nil, &left)
	s.end()
	message := append(binary.AppendUvarint(h.append(nil), 5), s.done[0]...)
	const want = "0103" + "066e6f64652d31" + "0102030405060708" + "a1a2a3a4a5a6a7a8" + "ac02" + "05" + "02" +
		"00" + "14" + "3a30000001000000" + "00000100" + "10000000" + "05000700" + "00" +
		"ac02" + "00" + "12" + "3a30000001000000" + "00000000" + "10000000" + "ffff"
	if got := hex.EncodeToString(message); got != want {
		t.Errorf("changes:\n got %s\nwant %s", got, want)
	}
	got, r, err := readHead(message)
	if err != nil || got != h || r.uvarint(100) != 5 {
		t.Fatalf("%+v, %v", got, err)
	}
	list, err := r.sections()
	if err != nil || len(list) != 2 || list[0].block != 0 || list[1].block != 300 || list[0].left != nil || list[1].joined != nil ||
		!slices.Equal(list[0].joined.ToArray(), []uint32{5, 7}) || !slices.Equal(list[1].left.ToArray(), []uint32{65535}) {
		t.Errorf("read back: %+v, %v", list, err)
	}

	ordinals := appendOrdinals(nil, []uint32{1<<32 - 1, 3, 300})
	if got := hex.EncodeToString(ordinals); got != "03"+"03"+"a902"+"d3fdffff0f" {
		t.Errorf("ordinals: %s", got)
	}
	back, err := (&wireReader{rest: ordinals}).ordinals()
	if err != nil || !slices.Equal(back, []uint32{3, 300, 1<<32 - 1}) {
		t.Errorf("read back: %d, %v", back, err)
	}
}

// A full block, one of a size where the form of a set changes, and their parts come through.
func TestPresenceSets(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 4095, 4096, 4097, 65_535, 65_536} {
		var w, back words
		for i := range n {
			w[i/64] |= 1 << (i % 64)
		}
		r := wireReader{rest: appendSet(nil, &w)}
		set, err := readSet(r.bytes(r.uvarint(maxSet)))
		if err != nil {
			t.Fatalf("%d users: %v", n, err)
		}
		if set.WriteDenseTo(back[:]); back != w {
			t.Errorf("%d users: others are read back", n)
		}
	}
	runs := roaring.New()
	runs.AddRange(10, 1000)
	runs.RunOptimize()
	two := roaring.BitmapOf(1, 70_000)
	high := roaring.BitmapOf(70_000)
	for _, set := range []*roaring.Bitmap{runs, two, high, roaring.New()} {
		raw, err := set.ToBytes()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readSet(raw); !errors.Is(err, errMalformed) {
			t.Errorf("%v: %v", set, err)
		}
	}
}

// With nobody beating, nodes know each other by the hello of the later one, and its answer.
func TestPresenceHello(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	a, b := tn.node(tn.connect(t), "a"), tn.node(tn.connect(t), "b")
	a.beatEvery, b.beatEvery = time.Hour, time.Hour
	begin(t, a, 1, nil)
	begin(t, b, 2, nil)
	tn.untilNodes(t, a, 2)
	tn.untilNodes(t, b, 1)
}

// TestPresenceHelloLost has nodes begin at the same time, and neither hear what the other says first.
func TestPresenceHelloLost(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	a, b := tn.node(tn.connect(t), "a"), tn.node(tn.connect(t), "b")
	var both sync.WaitGroup
	for i, p := range []*presence{a, b} {
		p.beatEvery, p.learn = time.Hour, patience
		p.expected = func() []string { return []string{[]string{"b", "a"}[i]} }
		heard := false
		p.lose = func(*wireHead) bool {
			first := !heard
			heard = true
			return first
		}
		both.Go(func() { begin(t, p, uint64(i+1), nil) })
	}
	both.Wait()
	if !slices.Equal(a.Nodes(), []uint64{2}) || !slices.Equal(b.Nodes(), []uint64{1}) {
		t.Errorf("nodes %d and %d", a.Nodes(), b.Nodes())
	}
}

func FuzzPresenceMessage(f *testing.F) {
	for _, seed := range hostileSeeds() {
		f.Add(seed)
	}
	tn := newTown(f)
	nc := tn.connect(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		p := tn.node(nc, "me")
		p.settle = func(_ []uint32, done func(uint64)) { done(1) }
		p.hear((&wireHead{kindHello, "x", 9, 99, 5}).append(nil)) // without a number
		p.hear(binary.AppendUvarint((&wireHead{kindBeat, "x", 9, 99, 5}).append(nil), 0))
		for range 2 {
			p.hear(data)
			p.tick()
			p.turn()
		}
		p.running.Wait()
		// The counter is what the nodes' sets say.
		all := make(map[uint32]bool)
		for _, o := range p.others {
			for n, users := range o.users {
				if users.IsEmpty() {
					t.Error("an empty set is kept")
				}
				for _, low := range users.ToArray() {
					all[uint32(n)<<16|low] = true
				}
			}
		}
		if p.Others() != len(all) {
			t.Errorf("%d others, want %d", p.Others(), len(all))
		}
		for o := range all {
			if !p.Elsewhere(o) {
				t.Errorf("%d is not elsewhere", o)
			}
		}
	})
}

// Whatever happens, in the end each node knows what is so.
func TestPresenceModel(t *testing.T) {
	t.Parallel()
	tn := newTown(t)
	var conns []*nats.Conn
	for range 3 {
		conns = append(conns, tn.connect(t))
	}
	rapid.Check(t, func(rt *rapid.T) {
		var nodes [3]*presence
		var lossy [3]*atomic.Int32 // in thousandths
		here := [3]map[uint32]bool{}
		start := func(i int) {
			p, loss := tn.node(conns[i], string(rune('a'+i))), new(atomic.Int32)
			p.retry = again
			p.lose = func(*wireHead) bool { return rand.IntN(1000) < int(loss.Load()) }
			if err := p.Start(uint64(i), func(_ []uint32, done func(uint64)) { done(uint64(i)) }); err != nil {
				rt.Fatal(err)
			}
			nodes[i], lossy[i], here[i] = p, loss, make(map[uint32]bool)
		}
		for i := range nodes {
			start(i)
		}
		defer func() {
			for _, p := range nodes {
				p.Close()
			}
		}()
		node := rapid.IntRange(0, 2)
		ordinal := rapid.OneOf(rapid.Uint32Range(0, 20), rapid.Uint32Range(65_530, 65_540), rapid.Uint32())
		rt.Repeat(map[string]func(*rapid.T){
			"join": func(rt *rapid.T) {
				i, o := node.Draw(rt, "node"), ordinal.Draw(rt, "ordinal")
				nodes[i].Joined(o)
				here[i][o] = true
			},
			"leave": func(rt *rapid.T) {
				i, o := node.Draw(rt, "node"), ordinal.Draw(rt, "ordinal")
				nodes[i].Left(o)
				delete(here[i], o)
			},
			"lossy": func(rt *rapid.T) {
				lossy[node.Draw(rt, "node")].Store(rapid.Int32Range(0, 900).Draw(rt, "loss"))
			},
			"told": func(rt *rapid.T) { <-tn.turns },
			"again": func(rt *rapid.T) {
				i := node.Draw(rt, "node")
				if err := nodes[i].Close(); err != nil {
					rt.Fatal(err)
				}
				start(i)
			},
		})
		for _, l := range lossy {
			l.Store(0)
		}
		for i, p := range nodes {
			elsewhere := make(map[uint32]bool)
			others := 0
			for j := range nodes {
				for o := range here[j] {
					if j != i {
						elsewhere[o] = true
					}
				}
			}
			for o := range elsewhere {
				if !here[i][o] {
					others++
				}
			}
			tn.until(rt, fmt.Sprintf("node %d knows what is so", i), func() bool {
				if p.Others() != others || len(p.Nodes()) != 2 {
					return false
				}
				for j := range nodes {
					for o := range here[j] {
						if p.Elsewhere(o) != elsewhere[o] {
							return false
						}
					}
				}
				return true
			})
		}
	})
}

// Users come and go, one by one, over ten million ordinals; the loop tells another node of them meanwhile.
func BenchmarkPresenceJoined(b *testing.B) {
	tn := newTown(b)
	p := tn.start(b, "a", 1, nil)
	tn.start(b, "b", 2, nil)
	tn.untilNodes(b, p, 2)
	b.ReportAllocs()
	i := uint32(0)
	for b.Loop() {
		if o := i / 2 * 7919 % 10_000_000; i%2 == 0 {
			p.Joined(o)
		} else {
			p.Left(o)
		}
		i++
	}
}

func BenchmarkPresenceElsewhere(b *testing.B) {
	tn := newTown(b)
	p, other := tn.start(b, "a", 1, nil), tn.start(b, "b", 2, nil)
	for i := range uint32(1_000_000) {
		other.Joined(i * 10)
	}
	tn.until(b, "told", func() bool { return p.Others() == 1_000_000 })
	i, n := uint32(0), 0
	for b.Loop() {
		if p.Elsewhere(i % 10_000_000) {
			n++
		}
		i++
	}
}

func BenchmarkPresenceSettle(b *testing.B) {
	tn := newTown(b)
	tn.start(b, "b", 2, nil)
	tn.start(b, "c", 3, nil)
	p := tn.start(b, "a", 1, nil)
	tn.untilNodes(b, p, 2, 3)
	const callers = 256
	var next atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			var own []time.Duration
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				since := time.Now()
				if _, err := p.Settle(context.Background(), uint32(i)); err != nil {
					b.Error(err)
				}
				own = append(own, time.Since(since))
			}
			mu.Lock()
			took = append(took, own...)
			mu.Unlock()
		})
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(b.N)/float64(max(1, p.lastID)), "callers/round")
}
