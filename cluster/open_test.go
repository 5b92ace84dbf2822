package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
)

// inbox is an Online transport that keeps what each user got.
type inbox struct {
	mu  sync.Mutex
	got map[string][]string
	new chan struct{} // closed at the next delivery
}

func newInbox() *inbox { return &inbox{got: make(map[string][]string), new: make(chan struct{})} }

func (b *inbox) Deliver(_ context.Context, user string, m *transport.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got[user] = append(b.got[user], string(m.Body))
	close(b.new)
	b.new = make(chan struct{})
	return nil
}

// wants waits until a user has got messages, and nothing else.
func (b *inbox) wants(ctx context.Context, t *testing.T, user string, bodies ...string) {
	t.Helper()
	for {
		b.mu.Lock()
		got, more := slices.Clone(b.got[user]), b.new
		b.mu.Unlock()
		if len(got) >= len(bodies) {
			if !slices.Equal(got, bodies) {
				t.Fatalf("%s got %q, and not %q", user, got, bodies)
			}
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("%s got %q of %q in time", user, got, bodies)
		}
	}
}

// lastPort is the last that unused has tried, of those that no connection and no listener without a port of its own is given: from 10000 to 19999.
var lastPort atomic.Uint32

func init() { lastPort.Store(rand.Uint32N(10_000)) }

// unused are addresses of loopback, where nobody listens; no two calls return the same.
func unused(t testing.TB, n int) (list []string) {
	t.Helper()
	for try := 0; len(list) < n; try++ {
		address := fmt.Sprint("127.0.0.1:", 10_000+lastPort.Add(1)%10_000)
		l, err := net.Listen("tcp", address)
		if err == nil {
			err = l.Close()
			list = append(list, address)
		}
		if err != nil && try >= 100 {
			t.Fatal(err)
		}
	}
	return list
}

// nodeLog is a logger of the test.
type nodeLog struct {
	t    testing.TB
	name string
	mu   *sync.Mutex
	over *bool
}

func (w nodeLog) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !*w.over {
		w.t.Logf("%s: %s", w.name, b)
	}
	return len(b), nil
}

// trio is three nodes on loopback.
type trio struct {
	*testing.T
	ctx       context.Context
	dir       string
	addresses []string
	nodes     [3]*fanfare.Pusher
	boxes     [3]*inbox
	change    func(i int, o *Options)
	logMu     sync.Mutex
	over      bool
}

func newTrio(t *testing.T) *trio {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	c := &trio{T: t, ctx: ctx, dir: t.TempDir(), addresses: unused(t, 3), change: func(int, *Options) {}}
	t.Cleanup(func() {
		c.stop(0, 1, 2)
		cancel()
		c.logMu.Lock()
		c.over = true
		c.logMu.Unlock()
	})
	return c
}

func (c *trio) path(i int) string { return filepath.Join(c.dir, c.name(i)) }
func (c *trio) name(i int) string { return string(rune('a' + i)) }

func (c *trio) options(i int) Options {
	o := Options{Name: c.name(i), Listen: c.addresses[i], Peers: c.addresses}
	o.Online = c.boxes[i]
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(nodeLog{c.T, c.name(i), &c.logMu, &c.over}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	c.change(i, &o)
	return o
}

// start opens nodes, all at the same time.
func (c *trio) start(list ...int) {
	c.Helper()
	var all sync.WaitGroup
	for _, i := range list {
		c.boxes[i] = newInbox()
		all.Go(func() {
			p, err := Open(c.ctx, c.path(i), c.options(i))
			if err != nil {
				c.Errorf("%s: %v", c.name(i), err)
				return
			}
			c.nodes[i] = p
		})
	}
	all.Wait()
	if c.Failed() {
		c.FailNow()
	}
}

// stop checks nodes and closes them, at the same time.
func (c *trio) stop(list ...int) {
	c.Helper()
	var all sync.WaitGroup
	for _, i := range list {
		p := c.nodes[i]
		c.nodes[i] = nil
		if p == nil {
			continue
		}
		if s, err := p.Stats(c.ctx); err == nil && s.Refused == nil {
			if err := p.Check(c.ctx); err != nil {
				c.Errorf("%s: %v", c.name(i), err)
			}
		}
		all.Go(func() {
			if err := p.Close(c.ctx); err != nil {
				c.Errorf("close %s: %v", c.name(i), err)
			}
		})
	}
	all.Wait()
}

func (c *trio) push(i int, to fanfare.Audience, body string) *fanfare.Task {
	c.Helper()
	task, err := c.nodes[i].Push(c.ctx, fanfare.Message{To: to, Body: []byte(body), Lifetime: time.Hour})
	if err != nil {
		c.Fatal(err)
	}
	return task
}

func (c *trio) connect(i int, user string) *fanfare.Session {
	c.Helper()
	s, err := c.nodes[i].Connect(c.ctx, user)
	if err != nil {
		c.Fatal(err)
	}
	return s
}

// agree waits until nodes have applied what the first of them has, and wants the same of all.
func (c *trio) agree(list ...int) {
	c.Helper()
	want, err := c.nodes[list[0]].Stats(c.ctx)
	if err != nil {
		c.Fatal(err)
	}
	for _, i := range list[1:] {
		for {
			s, err := c.nodes[i].Stats(c.ctx)
			if err != nil {
				c.Fatal(err)
			}
			if s.Position >= want.Position {
				if s.Users != want.Users || s.Pushes != want.Pushes {
					c.Errorf("%s has %d users and %d pushes, %s has %d and %d", c.name(i), s.Users, s.Pushes, c.name(list[0]), want.Users, want.Pushes)
				}
				break
			}
			if !pause(c.ctx, 5*time.Millisecond) {
				c.Fatalf("%s is at %d, and not at %d in time", c.name(i), s.Position, want.Position)
			}
		}
	}
}

// TestEverywhere: what is pushed on one node comes to the users of all, in order; who was away gets it on whichever node they come back to, and once.
func TestEverywhere(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.start(0, 1, 2)
	users := []string{"ann", "bob", "cid"}
	for i, user := range users {
		defer c.connect(i, user).Close()
	}
	away := c.connect(0, "dan")
	away.Close()
	c.agree(0, 1, 2)
	for i := range c.nodes {
		c.push(i, fanfare.All(), fmt.Sprint("m", i))
		c.agree(i, 0, 1, 2)
	}
	for i, user := range users {
		c.boxes[i].wants(c.ctx, t, user, "m0", "m1", "m2")
	}
	c.agree(0, 1, 2)
	back := c.connect(2, "dan")
	c.boxes[2].wants(c.ctx, t, "dan", "m0", "m1", "m2")
	back.Close()
	back = c.connect(1, "dan")
	defer back.Close()
	c.push(0, fanfare.Users("dan"), "m3")
	c.boxes[1].wants(c.ctx, t, "dan", "m3")
	for i, p := range c.nodes {
		for p.Online() != 4 {
			if !pause(c.ctx, 5*time.Millisecond) {
				t.Fatalf("%s: %d online", c.name(i), p.Online())
			}
		}
		if is, err := p.Connected(c.ctx, "ann"); !is || err != nil {
			t.Errorf("%s: ann is connected: %v, %v", c.name(i), is, err)
		}
	}
}

// TestRestart: a node that is opened again goes on from where it was, and who is connected to the others gets what was pushed meanwhile.
func TestRestart(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.start(0, 1, 2)
	defer c.connect(1, "ann").Close()
	c.connect(0, "bob").Close()
	c.push(0, fanfare.All(), "m0")
	c.stop(0)
	c.push(2, fanfare.All(), "m1")
	c.boxes[1].wants(c.ctx, t, "ann", "m0", "m1")
	c.start(0)
	c.agree(1, 0)
	defer c.connect(0, "bob").Close()
	c.boxes[0].wants(c.ctx, t, "bob", "m0", "m1")
}

// TestMinority: one node of three refuses changes, in time and saying why; it still delivers what it has.
func TestMinority(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.start(0, 1, 2)
	c.connect(0, "ann").Close()
	c.push(0, fanfare.All(), "m0")
	c.agree(0, 1, 2)
	c.stop(1, 2)
	began := time.Now()
	_, err := c.nodes[0].Push(c.ctx, fanfare.Message{To: fanfare.All(), Body: []byte("m1"), Key: "k", Lifetime: time.Hour})
	if took := time.Since(began); !errors.Is(err, fanfare.ErrUnavailable) || took > patience { // Timeout is 5 s
		t.Errorf("pushed by one of three after %v: %v", took, err)
	}
	defer c.connect(0, "ann").Close()
	c.boxes[0].wants(c.ctx, t, "ann", "m0")
	c.start(1)
	if _, err := c.nodes[1].Push(c.ctx, fanfare.Message{To: fanfare.All(), Body: []byte("m1"), Key: "k", Lifetime: time.Hour}); err != nil {
		t.Error(err)
	}
	c.boxes[0].wants(c.ctx, t, "ann", "m0", "m1")
}

// TestJoin: a node whose directory is lost fetches the state of another, when the log does not go back to the beginning any more.
func TestJoin(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.start(0, 1, 2)
	c.connect(0, "ann").Close()
	for n := range 30 {
		c.push(n%3, fanfare.All(), fmt.Sprint("m", n))
	}
	c.loseNode()
	left := filepath.Join(c.path(2), joinDir+".new") // of one that was killed
	if err := os.MkdirAll(filepath.Join(left, "some"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.start(2)
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Error("left behind:", left, err)
	}
	c.agree(0, 2)
	var want []string
	for n := range 31 {
		want = append(want, fmt.Sprint("m", n))
	}
	c.push(2, fanfare.All(), "m30")
	defer c.connect(2, "ann").Close()
	c.boxes[2].wants(c.ctx, t, "ann", want...)
}

// loseNode stops the last node and removes its directory, and cuts the log, so that it needs the state of another. It returns the last position.
func (c *trio) loseNode() uint64 {
	c.Helper()
	c.stop(2)
	if err := os.RemoveAll(c.path(2)); err != nil {
		c.Fatal(err)
	}
	for _, p := range c.nodes[:2] {
		if err := p.Check(c.ctx); err != nil { // which folds
			c.Fatal(err)
		}
	}
	return c.cutLog()
}

// cutLog cuts the log behind its last record, as is done in the course of days, and returns where that was.
func (c *trio) cutLog() uint64 {
	c.Helper()
	s, err := c.observe("observer").js.Stream(c.ctx, streamName("fanfare"))
	if err == nil {
		err = s.Purge(c.ctx)
	}
	if err != nil {
		c.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}

// joining is a node that has a log and the others, and nothing else.
func joining(t *testing.T, site *site, dir string) *node {
	t.Helper()
	nc, js := site.connect(0)
	o := &Options{Name: "new", Cluster: "c", Replicas: 1, Options: fanfare.Options{Logger: silent()}}
	l, err := openLog(within(t), js, o)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(t.Context())
	n := &node{o: o, dir: dir, log: l, snapshots: newSnapshots(nc, "c", silent()), members: newTestMembers(t, site, member{Name: "new"}), running: running}
	t.Cleanup(func() {
		stop()
		n.all.Wait()
	})
	return n
}

// stateAt returns the blocks of a store with a user, as a node of a log has them at a position.
func stateAt(t *testing.T, log [16]byte, position uint64) []byte {
	t.Helper()
	dir := t.TempDir()
	p, err := fanfare.Open(dir, fanfare.Options{})
	if err == nil {
		err = errors.Join(p.Register(t.Context(), "ann"), p.Close(t.Context()), store.Attach(dir, log, position))
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "blocks.db"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestJoinAnew: a node passes over a snapshot that is damaged, one that breaks off and one that nobody goes on with, and takes another one.
func TestJoinAnew(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	n := joining(t, site, t.TempDir())
	state := stateAt(t, n.log.id, 7)
	s, own := site.snapshots(0), n.snapshots.own()
	takes := make(chan string, 8)
	for subject, f := range map[string]func(m *nats.Msg){
		s.subject: func(m *nats.Msg) { _ = s.nc.PublishRequest(m.Reply, own, []byte{snapshotOffer}) },
		own:       func(m *nats.Msg) { takes <- m.Reply },
	} {
		if _, err := s.nc.Subscribe(subject, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	joined := make(chan error, 1)
	ctx := within(t)
	go func() { joined <- n.join(ctx, 5) }()

	begin := append(make([]byte, snapshotHead), binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, 7), uint64(len(state)))...)
	begin = sealed(begin, snapshotData, 0)
	piece := sealed(append(make([]byte, snapshotHead), state[:1000]...), snapshotData, snapshotBegin)
	piece[500] ^= 1
	to := <-takes
	for _, m := range [][]byte{begin, piece} {
		if err := s.nc.PublishRequest(to, s.own(), m); err != nil {
			t.Fatal(err)
		}
	}
	broken := errors.New("broken")
	if err := s.send(ctx, <-takes, func(_ context.Context, begin func(uint64, int64) (store.Taker, error)) error {
		_, err := begin(7, int64(len(state)))
		return errors.Join(err, broken)
	}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := s.nc.PublishRequest(<-takes, s.own(), begin); err != nil { // and nothing more
		t.Fatal(err)
	}
	if err := s.send(ctx, <-takes, sends(7, state, nil)); err != nil {
		t.Error(err)
	}
	if err := <-joined; err != nil {
		t.Fatal(err)
	}
	place, err := store.PlaceOf(n.dir)
	if err != nil || place.Log == nil || *place.Log != n.log.id || place.Position != 7 {
		t.Error(place, err)
	}
	if entries, err := os.ReadDir(n.dir); err != nil || len(entries) != 2 {
		t.Error(entries, err)
	}
}

// TestJoinWithoutRoom: what is wrong with the node's own directory is no reason to ask for another snapshot.
func TestJoinWithoutRoom(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n := joining(t, site, dir)
	var sent atomic.Int32
	answers(t, site.snapshots(0), 7, func(ctx context.Context, begin func(uint64, int64) (store.Taker, error)) error {
		sent.Add(1)
		return sends(7, blocks(2*snapshotWindow), nil)(ctx, begin)
	})
	ctx := within(t)
	if err := n.join(ctx, 5); err == nil || ctx.Err() != nil {
		t.Error(err, ctx.Err())
	}
	if n := sent.Load(); n != 1 {
		t.Error("it was sent", n, "times")
	}
}

// TestJoinHoldsLog: the log is kept for a node from when it begins to fetch a state.
func TestJoinHoldsLog(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	n := joining(t, site, t.TempDir())
	gate := make(chan error)
	stop := answers(t, site.snapshots(0), 7, sends(7, blocks(1000), gate))
	ctx, cancel := context.WithCancel(within(t))
	joined := make(chan error, 1)
	go func() { joined <- n.join(ctx, 5) }()
	for {
		all, err := n.members.look(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := all["new"]; ok {
			if e.Folded != 7 {
				t.Errorf("it is kept after %d", e.Folded)
			}
			break
		}
		pause(ctx, 10*time.Millisecond)
	}
	cancel()
	if err := <-joined; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	stop()
}

// observe connects to the servers as a fourth one, which is none of the nodes.
func (c *trio) observe(name string) *connection {
	c.Helper()
	conn, err := connect(c.ctx, filepath.Join(c.dir, name), &Options{Name: name, Cluster: "fanfare", Listen: unused(c, 1)[0], Peers: c.addresses[:2], Options: fanfare.Options{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { conn.close(context.Background()) })
	if err := conn.ready(c.ctx); err != nil {
		c.Fatal(err)
	}
	return conn
}

// TestSeed: a cluster begins with the directory of one process; a node that has another is refused.
func TestSeed(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.change = func(_ int, o *Options) { o.Seed = "b" }
	alone, err := fanfare.Open(c.path(1), fanfare.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"ann", "bob"} {
		if err := alone.AddTags(c.ctx, user, "x"); errors.Is(err, fanfare.ErrUnknownUser) {
			err = alone.Register(c.ctx, user)
			if err == nil {
				err = alone.AddTags(c.ctx, user, "x")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := alone.Push(c.ctx, fanfare.Message{To: fanfare.All(), Body: []byte("before"), Lifetime: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := alone.Close(c.ctx); err != nil {
		t.Fatal(err)
	}
	c.start(0, 1, 2)
	c.push(0, fanfare.Tag("x"), "after")
	c.agree(0, 1, 2)
	defer c.connect(2, "ann").Close()
	c.boxes[2].wants(c.ctx, t, "ann", "before", "after")
	defer c.connect(0, "bob").Close()
	c.boxes[0].wants(c.ctx, t, "bob", "before", "after")

	c.stop(0)
	if err := os.RemoveAll(c.path(0)); err != nil {
		t.Fatal(err)
	}
	other, err := fanfare.Open(c.path(0), fanfare.Options{})
	if err == nil {
		err = errors.Join(other.Register(c.ctx, "eve"), other.Close(c.ctx))
	}
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Open(c.ctx, c.path(0), c.options(0)); !errors.Is(err, fanfare.ErrForeignFile) {
		t.Error("opened with a store of its own:", p, err)
	}
}

// TestNobodyHasTheState: a cluster whose only state was lost with its node's files is waited for, and then it is the others that are missing.
func TestNobodyHasTheState(t *testing.T) {
	t.Parallel()
	dir, all := t.TempDir(), within(t)
	alone, err := fanfare.Open(dir, fanfare.Options{})
	if err == nil {
		err = errors.Join(alone.Register(all, "ann"), alone.Close(all))
	}
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Name: "a", Seed: "a"}
	p, err := Open(all, dir, o)
	if err == nil {
		err = p.Close(all)
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.db"))
	for _, name := range files {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for long := 3 * time.Second; ; long *= 2 { // a slow machine does not come to that soon
		ctx, cancel := context.WithTimeout(all, long)
		p, err := Open(ctx, dir, o)
		cancel()
		if err == nil || all.Err() != nil {
			t.Fatal(p, err)
		}
		if errors.Is(err, fanfare.ErrUnavailable) && errors.Is(err, errNoSnapshot) {
			return
		}
	}
}

// TestFirstCommand: a node that has just been opened knows already what the others do not.
func TestFirstCommand(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), within(t)
	o := Options{Name: "a"}
	p, err := Open(ctx, dir, o)
	if err == nil {
		err = p.Close(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	o.fill()
	conn, err := connect(ctx, filepath.Join(dir, natsDir), &o)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := openBucket(ctx, conn.js, memberBucket(o.Cluster, 1))
	if err == nil {
		err = newMembers(kv, member{Name: "old", Apply: 0}, o.Logger).put(ctx)
	}
	if err = errors.Join(err, conn.close(ctx)); err != nil {
		t.Fatal(err)
	}
	if p, err = Open(ctx, dir, Options{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	defer p.Close(ctx)
	if err := p.Register(ctx, "ann"); !errors.Is(err, fanfare.ErrUpgrading) {
		t.Error(err)
	}
}

// TestNoDeployment: a NATS deployment that is not there is waited for, and is what is missing.
func TestNoDeployment(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	p, err := Open(ctx, t.TempDir(), Options{Name: "a", URL: "nats://" + unused(t, 1)[0]})
	if !errors.Is(err, fanfare.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(p, err)
	}
}

// TestCloseEnds: what goes on by itself is waited for no longer than Close may.
func TestCloseEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	n := &node{stop: cancel}
	end := make(chan struct{})
	n.all.Go(func() { <-end })
	if err := n.close(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(end)
	n.all.Wait()
}

// TestAble: a node that is behind what is asked for, or does not trust its state any more, offers none.
func TestAble(t *testing.T) {
	t.Parallel()
	s, err := store.Open(t.TempDir(), store.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	n := &node{store: s}
	if !n.able(0) || n.able(1) {
		t.Error(n.able(0), n.able(1))
	}
	s.Refuse(errors.New("the test's"))
	if n.able(0) {
		t.Error("it offers what it does not trust")
	}
}

// pervert gives a node that is stopped another state, of the same position of the log.
func (c *trio) pervert(i int) {
	c.Helper()
	place, err := store.PlaceOf(c.path(i))
	if err != nil {
		c.Fatal(err)
	}
	other := filepath.Join(c.path(i), joinDir)
	p, err := fanfare.Open(other, fanfare.Options{})
	if err != nil {
		c.Fatal(err)
	}
	err = errors.Join(p.Register(c.ctx, "bob"), p.Close(c.ctx), store.Attach(other, *place.Log, place.Position))
	if err != nil {
		c.Fatal(err)
	}
}

// TestDiverged: a node whose state is another than the others' stops, and the others go on.
func TestDiverged(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	failed := make(chan error, 16)
	c.change = func(i int, o *Options) {
		if i == 1 {
			o.Hooks.Error = func(err error) { failed <- err }
		}
	}
	c.start(0, 1, 2)
	if err := c.nodes[0].Register(c.ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	c.agree(0, 1)
	c.stop(1)
	c.pervert(1)
	c.start(1)
	var refused error
	for n := 0; refused == nil; n++ {
		if err := c.nodes[0].AddTags(c.ctx, "ann", fmt.Sprint(n%8)); err != nil {
			t.Fatal(err)
		}
		refused = c.nodes[1].Register(c.ctx, "cid")
	}
	if !errors.Is(refused, fanfare.ErrDiverged) {
		t.Error("refused with", refused)
	}
	if err := soon(t, failed); !errors.Is(err, fanfare.ErrDiverged) {
		t.Error("the hook was told", err)
	}
	for _, i := range []int{0, 2} {
		if err := c.nodes[i].AddTags(c.ctx, "ann", "x"); err != nil {
			t.Errorf("%s: %v", c.name(i), err)
		}
	}
	// Without its directory it is whole again.
	c.stop(1)
	if err := os.RemoveAll(c.path(1)); err != nil {
		t.Fatal(err)
	}
	c.change = func(int, *Options) {}
	c.start(1)
	c.agree(0, 1)
}
