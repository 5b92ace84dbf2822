package fanfare

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/internal/fault"
	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// fakeCluster is a log in memory, and who is there.
type fakeCluster struct {
	mu      sync.Mutex
	records [][]byte
	more    chan struct{} // closed when there is another record
	nodes   []*fakeNode
}

// fakeNode is a node of it.
type fakeNode struct {
	c       *fakeCluster
	store   *store.Store
	mu      sync.Mutex
	stalls  uint64 // if not 0 the node gets no record behind it
	resumed chan struct{}
	grants  map[string]chan context.CancelFunc // leases that the node has are taken from it by the function sent
	node    uint64
	settle  func([]uint32, func(uint64))
	here    map[uint32]bool
	working atomic.Int32 // leases that the node has
}

func newFakeCluster() *fakeCluster { return &fakeCluster{more: make(chan struct{})} }

// open opens a node. It has no lease until grant.
func (c *fakeCluster) open(t *testing.T, dir string, o Options) (*Pusher, *fakeNode) {
	t.Helper()
	n := &fakeNode{c: c, grants: make(map[string]chan context.CancelFunc), here: make(map[uint32]bool), resumed: make(chan struct{})}
	peers.Join(&o, &peers.Cluster{
		Log: n, Timeout: 5 * time.Second, Presence: n, Leases: n,
		Opened: func(s *store.Store) { n.store = s },
		Close:  func(context.Context) error { return nil },
	})
	return testPusher(t, dir, o), n
}

func (*fakeNode) ID() [16]byte { return [16]byte{1} }

func (*fakeNode) Version() int { v, _ := store.Versions(); return v }

func (n *fakeNode) Append(ctx context.Context, _ string, record []byte) (uint64, error) {
	if ctx.Err() != nil {
		return 0, store.ErrUnavailable
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.c.records = append(n.c.records, record)
	close(n.c.more)
	n.c.more = make(chan struct{})
	return uint64(len(n.c.records)), nil
}

func (n *fakeNode) Last(context.Context) (uint64, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return uint64(len(n.c.records)), nil
}

func (n *fakeNode) Record(_ context.Context, position uint64) ([]byte, error) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.c.records[position-1], nil
}

func (n *fakeNode) Records(ctx context.Context, after uint64) iter.Seq2[store.JournalRecord, error] {
	return func(yield func(store.JournalRecord, error) bool) {
		for {
			n.c.mu.Lock()
			more, some := n.c.more, n.c.records[after:]
			n.c.mu.Unlock()
			for _, r := range some {
				n.mu.Lock()
				stalls, goOn := n.stalls != 0 && after >= n.stalls, n.resumed
				n.mu.Unlock()
				if stalls {
					select {
					case <-goOn:
					case <-ctx.Done():
						return
					}
				}
				after++
				if !yield(store.JournalRecord{Position: after, Record: r}, nil) {
					return
				}
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}
}

// stall has the node get nothing more of the log, until the function returned is called.
func (n *fakeNode) stall() (goOn func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stalls, n.resumed = n.store.Applied(), make(chan struct{})
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.stalls = 0
		close(n.resumed)
	}
}

func (*fakeNode) Folded(uint64) {}

func (*fakeNode) Summed(uint64, uint64) {}

func (n *fakeNode) lease(name string) chan context.CancelFunc {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.grants[name] == nil {
		n.grants[name] = make(chan context.CancelFunc)
	}
	return n.grants[name]
}

// grant gives a lease to the node, until the function returned is called.
func (n *fakeNode) grant(name string) (lose context.CancelFunc) { return <-n.lease(name) }

func (n *fakeNode) Hold(ctx context.Context, name string, work func(context.Context)) {
	for ctx.Err() == nil {
		held, lose := context.WithCancel(ctx)
		select {
		case n.lease(name) <- lose:
			n.working.Add(1)
			work(held)
			n.working.Add(-1)
		case <-ctx.Done():
		}
		lose()
	}
}

func (n *fakeNode) Start(node uint64, settle func([]uint32, func(uint64))) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.node, n.settle = node, settle
	n.c.nodes = append(n.c.nodes, n)
	return nil
}

func (n *fakeNode) set(ordinal uint32, is bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.here[ordinal] = is
}

func (n *fakeNode) Joined(ordinal uint32) { n.set(ordinal, true) }

func (n *fakeNode) Left(ordinal uint32) { n.set(ordinal, false) }

func (n *fakeNode) others() (list []*fakeNode) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	for _, o := range n.c.nodes {
		if o != n {
			list = append(list, o)
		}
	}
	return list
}

func (n *fakeNode) Elsewhere(ordinal uint32) bool {
	return slices.ContainsFunc(n.others(), func(o *fakeNode) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.here[ordinal]
	})
}

func (*fakeNode) Others() int { return 0 }

func (n *fakeNode) Nodes() (list []uint64) {
	for _, o := range n.others() {
		list = append(list, o.node)
	}
	return list
}

func (n *fakeNode) Settle(ctx context.Context, ordinal uint32) (position uint64, err error) {
	for _, o := range n.others() {
		answer := make(chan uint64, 1)
		o.settle([]uint32{ordinal}, func(at uint64) { answer <- at })
		select {
		case at := <-answer:
			position = max(position, at)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return position, nil
}

func (n *fakeNode) Close() error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.c.nodes = slices.DeleteFunc(n.c.nodes, func(o *fakeNode) bool { return o == n })
	return nil
}

// TestLeaseGoesOnFromTheCheckpoint: a node that gets the lease of a platform while the last checkpoint is in the log, but not
// applied here yet, notifies nobody again.
func TestLeaseGoesOnFromTheCheckpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, dir := newFakeCluster(), t.TempDir()
		var logA, logB tryLog
		phones := func(log *tryLog) []transport.Mobile {
			f := transporttest.NewPhones("apns")
			log.watch(f)
			return []transport.Mobile{f}
		}
		a, nodeA := c.open(t, filepath.Join(dir, "a"), Options{Mobile: phones(&logA)})
		_, nodeB := c.open(t, filepath.Join(dir, "b"), Options{Mobile: phones(&logB)})
		importPhones(t, a, "apns", "x", "y")
		mustTask(t, a, notice(week))
		synctest.Wait()
		goOn := nodeB.stall()
		lose := nodeA.grant(peers.Phones("apns"))
		time.Sleep(time.Minute)
		if n := len(logA.take()); n != 2 {
			t.Fatal(n, "notified by the first node")
		}
		lose()
		synctest.Wait()
		nodeB.grant(peers.Phones("apns"))
		time.Sleep(time.Minute)
		goOn()
		time.Sleep(time.Minute)
		if again := logB.take(); len(again) != 0 {
			t.Error("notified again:", again)
		}
	})
}

// TestRefusingNodeLeaves: a node whose state is not to be trusted has no lease, and is not one that others wait for.
func TestRefusingNodeLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, dir := newFakeCluster(), t.TempDir()
		online := func() Options {
			return Options{Online: new(transporttest.Recorder), Mobile: []transport.Mobile{transporttest.NewPhones("apns")}}
		}
		a, _ := c.open(t, filepath.Join(dir, "a"), online())
		_, nodeB := c.open(t, filepath.Join(dir, "b"), online())
		nodeB.grant(peers.Background)
		nodeB.grant(peers.Phones("apns"))
		must(t, a.Register(context.Background(), "u"))
		nodeB.store.Refuse(store.ErrDiverged)
		task := mustTask(t, a, now("1"))
		time.Sleep(3 * sweepEvery)
		synctest.Wait()
		if g := progress(t, task); g.Ended.IsZero() {
			t.Errorf("the task waits for a node that applies nothing: %+v", g)
		}
		for _, name := range []string{peers.Background, peers.Phones("apns")} {
			select {
			case <-nodeB.lease(name):
				t.Error("it wants a lease:", name)
			default:
			}
		}
		if n := nodeB.working.Load(); n != 0 {
			t.Error("it holds leases:", n)
		}
	})
}

// TestNodeWithoutRoomHasNoLease: a node that applies nothing for want of room does nothing that is once in the cluster, and does again when there is room.
func TestNodeWithoutRoomHasNoLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, dir, disk := newFakeCluster(), t.TempDir(), new(fault.Disk)
		a, _ := c.open(t, filepath.Join(dir, "a"), Options{})
		_, nodeB := c.open(t, filepath.Join(dir, "b"), Options{Mobile: []transport.Mobile{transporttest.NewPhones("apns")}, DeltaEntries: 10, disk: disk})
		leases := []string{peers.Background, peers.Phones("apns")}
		for round := range 2 {
			for _, name := range leases {
				nodeB.grant(name)
			}
			synctest.Wait()
			if n := nodeB.working.Load(); n != 2 {
				t.Error("leases that it holds:", n)
			}
			disk.Fill()
			for i := range 40 {
				must(t, a.Register(t.Context(), fmt.Sprint(round, " ", i)))
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			for _, name := range leases {
				select {
				case <-nodeB.lease(name):
					t.Error("it wants a lease:", name)
				default:
				}
			}
			held := nodeB.working.Load()
			disk.Free()
			time.Sleep(time.Minute)
			if held != 0 {
				t.Fatal("it holds leases:", held)
			}
		}
	})
}

// TestSecondNodeIsNotRobbed: a user with connections to two nodes gets a message on both, also when one has delivered it, and the task is over by
// that, before the other has come to it, or while it has failed there.
func TestSecondNodeIsNotRobbed(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"lane behind", "failed", "catching up"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, c, dir := context.Background(), newFakeCluster(), t.TempDir()
				recA, recB := new(transporttest.Recorder), new(transporttest.Recorder)
				a, _ := c.open(t, filepath.Join(dir, "a"), Options{Online: recA})
				b, _ := c.open(t, filepath.Join(dir, "b"), Options{Online: recB, Workers: 1, DeliverTimeout: time.Hour})
				must(t, a.Register(ctx, "u"))
				must(t, a.Register(ctx, "v"))
				synctest.Wait()
				connect(t, b, recB, "v")
				connect(t, a, recA, "u")
				if how != "catching up" {
					connect(t, b, recB, "u")
				}
				synctest.Wait()
				release := func() {}
				if how == "failed" {
					recB.FailNext("u", 5, errors.New("not now"))
				} else {
					release = recB.Block("v")
					mustTask(t, a, Message{Body: []byte("0"), To: Users("v"), Lifetime: week})
					synctest.Wait()
				}
				if how == "catching up" {
					connect(t, b, recB, "u")
					synctest.Wait()
				}
				task := mustTask(t, a, Message{Body: []byte("1"), To: Users("u"), Lifetime: week})
				time.Sleep(time.Second)
				synctest.Wait()
				if g := progress(t, task); g.Delivered != 1 || g.Ended.IsZero() {
					t.Fatalf("%+v", g)
				}
				release()
				time.Sleep(time.Minute)
				wantBodies(t, recA, "u", "1")
				wantBodies(t, recB, "u", "1")
			})
		})
	}
}

// TestLeaseLostAtAWithdrawal: a recall that waits for the batch under way is not waited for here when another node sees to it.
func TestLeaseLostAtAWithdrawal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, c := context.Background(), newFakeCluster()
		phones := transporttest.NewPhones("apns")
		release := phones.Block()
		a, node := c.open(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}})
		importPhones(t, a, "apns", "x")
		task := mustTask(t, a, notice(week))
		lose := node.grant(peers.Phones("apns"))
		time.Sleep(time.Minute)
		must(t, a.Withdraw(ctx, task.ID))
		lose()
		synctest.Wait()
		a.delivery.flightsMu.Lock()
		defer a.delivery.flightsMu.Unlock()
		if n := len(a.delivery.flights); n != 0 {
			t.Error("fan-outs that go on:", n)
		}
		release()
	})
}

// TestPushOfANodeThatIsNotKnownYet: the node that ends what others have left behind has applied the push of one that it does not know to be there yet.
func TestPushOfANodeThatIsNotKnownYet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, dir, rec := newFakeCluster(), t.TempDir(), new(transporttest.Recorder)
		b, nodeB := c.open(t, filepath.Join(dir, "b"), Options{Online: rec, DeliverTimeout: time.Hour})
		nodeB.grant(peers.Background)
		must(t, b.Register(context.Background(), "u"))
		connect(t, b, rec, "u")
		a, nodeA := c.open(t, filepath.Join(dir, "a"), Options{Online: new(transporttest.Recorder)})
		must(t, nodeA.Close())
		release := rec.Block("u")
		task := mustTask(t, a, now("1"))
		time.Sleep(3 * sweepEvery)
		if g := progress(t, task); !g.Ended.IsZero() {
			t.Errorf("it is over: %+v", g)
		}
		must(t, nodeA.Start(nodeA.node, nodeA.settle))
		release()
		time.Sleep(3 * sweepEvery)
		wantEnd(t, task, 1, 0)
	})
}

// TestLeaseOfWhatCannotBeRead: a node that cannot read what there is to notify tries again at its leisure.
func TestLeaseOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, node := newFakeCluster().open(t, t.TempDir(), Options{Mobile: []transport.Mobile{transporttest.NewPhones("apns")}})
		must(t, a.store.Close(t.Context()))
		began := time.Now()
		for range 5 {
			node.grant(peers.Phones("apns"))
		}
		if took := time.Since(began); took < 4*sweepEvery {
			t.Error("five tries in", took)
		}
		_ = a.Close(t.Context()) // its store is closed already
	})
}
