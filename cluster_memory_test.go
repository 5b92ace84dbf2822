package fanfare

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/fanfare-im/fanfare/store"
)

const (
	memoryTimeout = 2 * time.Second // how long a change waits for the log in memory
	memorySilence = 3 * time.Second // after which a node that nothing is heard of counts as gone
)

// memoryCluster is what the nodes of one process have in place of a cluster: the log, who is connected to which node, and leases. All of it is in memory, and in
// the bubble of the test. Nodes can be slow, cut off, and dead, and changes can be lost.
type memoryCluster struct {
	id [16]byte

	mu       sync.Mutex
	news     chan struct{} // closed at the next change of what is below
	records  []memoryRecord
	ids      map[string]uint64
	late     [][]byte // are added behind the next record
	nodes    []*memoryNode
	leases   map[string]*memoryLease
	digests  map[uint64]uint64
	compared int
	differ   error
}

type memoryRecord struct {
	bytes []byte
	added time.Time
}

// memoryFault is what becomes of a record that a node adds.
type memoryFault int

const (
	faultNone    memoryFault = iota
	faultRefused             // it is not added, and the node knows
	faultLost                // it is not added, and the node does not know
	faultAdded               // it is added, and the node does not know
	faultLate                // it is added later, and the node does not know
	faultTwice               // it is added twice
)

// memoryNode is one life of a node, from Open to Close.
type memoryNode struct {
	c        *memoryCluster
	settle   func(ordinals []uint32, done func(position uint64))
	proposer uint64
	strike   func(after bool) // called before and after each record that the node adds; may be nil

	// Under the cluster's lock.
	slow   time.Duration // how long each record takes to come, and each that the node adds to be added
	held   bool          // none comes
	gated  bool          // what the node adds waits
	faults []memoryFault // of the next records that the node adds
	adding int           // records that it is adding
	added  int           // records by it
	there  bool          // it has begun to tell who is connected
	cut    bool
	dead   bool      // the process was killed
	silent time.Time // since when nothing is heard of it; zero: it is
	users  map[uint32]struct{}
	told   map[uint32]struct{} // of those, who the others were told of when the node was cut off
}

type memoryLease struct {
	holder  *memoryNode
	cancel  context.CancelFunc
	free    time.Time // not before
	since   time.Time // the holder has it
	waiting []*memoryNode
}

func newMemoryCluster() *memoryCluster {
	c := &memoryCluster{news: make(chan struct{}), ids: make(map[string]uint64), leases: make(map[string]*memoryLease), digests: make(map[uint64]uint64)}
	copy(c.id[:], "a log of the test")
	return c
}

// join makes options those of a node, which lives until its Pusher closes.
func (c *memoryCluster) join(o *Options) *memoryNode {
	n := &memoryNode{c: c, users: make(map[uint32]struct{})}
	c.change(func() { c.nodes = append(c.nodes, n) })
	peers.Join(o, &peers.Cluster{
		Log: n, Timeout: memoryTimeout, Presence: memoryPresence{n}, Leases: n, Opened: func(*store.Store) {},
		Close: func(context.Context) error { return nil },
	})
	return n
}

// change changes something, which everybody who waits looks at.
func (c *memoryCluster) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.news)
	c.news = make(chan struct{})
}

// await waits until something is so, or ctx ends. What is so may become so with time: then is returns how long that takes at most, 0 for not.
func (c *memoryCluster) await(ctx context.Context, is func() (ok bool, within time.Duration)) error {
	for {
		c.mu.Lock()
		ok, within := is()
		news := c.news
		c.mu.Unlock()
		if ok {
			return nil
		}
		var later <-chan time.Time
		if within > 0 {
			later = time.After(within)
		}
		select {
		case <-news:
		case <-later:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// quiet says whether each knows by now who is there.
func (c *memoryCluster) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(c.nodes, func(n *memoryNode) bool {
		return n.there && !n.silent.IsZero() && time.Since(n.silent) <= memorySilence
	})
}

func (c *memoryCluster) last() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(len(c.records))
}

// compare adds the last record again and again until a digest of it all is told. A record that comes again changes nothing.
func (c *memoryCluster) compare() {
	const every = 256
	c.change(func() {
		for n := len(c.records); n > 0 && len(c.records)%every != 0; {
			c.records = append(c.records, memoryRecord{c.records[n-1].bytes, time.Now()})
		}
	})
}

func (n *memoryNode) ID() [16]byte { return n.c.id }

func (n *memoryNode) Version() int {
	apply, _ := store.Versions()
	return apply
}

func (n *memoryNode) Append(ctx context.Context, id string, record []byte) (position uint64, err error) {
	c, began := n.c, time.Now()
	n.count(1)
	defer n.count(-1)
	if err := c.await(ctx, func() (bool, time.Duration) {
		wait := time.Until(began.Add(n.slow))
		return n.dead || !n.cut && !n.gated && wait <= 0, wait
	}); err != nil {
		return 0, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if n.strike != nil {
		n.strike(false)
		defer n.strike(true)
	}
	lost := fmt.Errorf("%w: %w: as told", store.ErrOutcomeUnknown, store.ErrUnavailable)
	c.change(func() {
		fault := faultNone
		if len(n.faults) > 0 {
			fault, n.faults = n.faults[0], n.faults[1:]
		}
		switch {
		case n.dead:
			err = lost
			return
		case fault == faultRefused:
			err = fmt.Errorf("%w: as told", store.ErrUnavailable)
			return
		case fault == faultLost:
			err = lost
			return
		case fault == faultLate:
			c.late, err = append(c.late, record), lost
			return
		}
		if at, known := c.ids[id]; known {
			position = at
			return
		}
		c.add(record)
		if n.added++; fault == faultTwice {
			c.add(record)
		}
		position = uint64(len(c.records))
		c.ids[id] = position
		for _, r := range c.late {
			c.add(r)
		}
		if c.late = nil; fault == faultAdded {
			position, err = 0, lost
		}
	})
	return position, err
}

// count counts the records that the node is adding.
func (n *memoryNode) count(by int) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.adding += by
}

func (c *memoryCluster) add(record []byte) {
	c.records = append(c.records, memoryRecord{slices.Clone(record), time.Now()})
}

func (n *memoryNode) Last(ctx context.Context) (last uint64, err error) {
	err = n.c.await(ctx, func() (bool, time.Duration) {
		last = uint64(len(n.c.records))
		return !n.cut, 0
	})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return last, nil
}

func (n *memoryNode) Record(ctx context.Context, position uint64) (record []byte, err error) {
	err = n.c.await(ctx, func() (bool, time.Duration) {
		if !n.cut && position <= uint64(len(n.c.records)) {
			record = n.c.records[position-1].bytes
		}
		return !n.cut, 0
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return record, nil
}

func (n *memoryNode) Records(ctx context.Context, after uint64) iter.Seq2[store.JournalRecord, error] {
	return func(yield func(store.JournalRecord, error) bool) {
		for {
			var r memoryRecord
			err := n.c.await(ctx, func() (bool, time.Duration) {
				if n.cut || n.dead || n.held || after >= uint64(len(n.c.records)) {
					return false, 0
				}
				r = n.c.records[after]
				wait := time.Until(r.added.Add(n.slow))
				return wait <= 0, wait
			})
			if err != nil {
				return
			}
			after++
			if !yield(store.JournalRecord{Position: after, Record: r.bytes}, nil) {
				return
			}
		}
	}
}

func (n *memoryNode) Folded(uint64) {}

func (n *memoryNode) Summed(position, sum uint64) {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if other, known := c.digests[position]; known && other != sum {
		c.differ = errors.Join(c.differ, fmt.Errorf("digests at %d: %x and %x", position, other, sum))
	} else if known {
		c.compared++
	}
	c.digests[position] = sum
}

// cutOff has nothing come from the node or to it any more. Its leases end, and are free after a pause.
func (n *memoryNode) cutOff(pause time.Duration) {
	n.c.change(func() {
		n.cut, n.silent, n.told = true, time.Now(), maps.Clone(n.users)
		n.loseAll(pause)
	})
}

// heal ends that.
func (n *memoryNode) heal() {
	n.c.change(func() { n.cut, n.silent, n.told = false, time.Time{}, nil })
}

// die ends the node's process, as far as others can see: whatever it does from now on is not done.
func (n *memoryNode) die(pause time.Duration) {
	n.c.change(func() {
		if !n.dead {
			n.dead, n.silent, n.told = true, time.Now(), maps.Clone(n.users)
			n.loseAll(pause)
		}
	})
}

// loseAll takes the node's leases away. They are free after a pause.
func (n *memoryNode) loseAll(pause time.Duration) {
	for _, l := range n.c.leases {
		if l.holder == n {
			l.lose(pause)
		}
	}
}

func (l *memoryLease) lose(pause time.Duration) {
	if l.holder != nil {
		l.cancel()
		l.holder, l.free = nil, time.Now().Add(pause)
	}
}

// lose takes a lease from whoever has it. Another node, the one that has waited for it longest, gets it after a pause.
func (c *memoryCluster) lose(name string, pause time.Duration) {
	c.change(func() {
		if l := c.leases[name]; l != nil {
			l.lose(pause)
		}
	})
}

// holder is the node that has a lease, nil for none, and since when.
func (c *memoryCluster) holder(name string) (*memoryNode, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.leases[name]
	if l == nil || l.holder == nil {
		return nil, time.Time{}
	}
	return l.holder, l.since
}

func (n *memoryNode) Hold(ctx context.Context, name string, work func(ctx context.Context)) {
	c := n.c
	var l *memoryLease
	c.change(func() {
		if l = c.leases[name]; l == nil {
			l = new(memoryLease)
			c.leases[name] = l
		}
		l.waiting = append(l.waiting, n)
	})
	for {
		var mine context.Context
		var cancel context.CancelFunc
		err := c.await(ctx, func() (bool, time.Duration) {
			fit := slices.IndexFunc(l.waiting, func(x *memoryNode) bool { return x.fit() })
			if l.holder != nil || fit < 0 || l.waiting[fit] != n {
				return false, 0
			}
			if wait := time.Until(l.free); wait > 0 {
				return false, wait
			}
			mine, cancel = context.WithCancel(ctx)
			l.waiting = slices.Delete(l.waiting, fit, fit+1)
			l.holder, l.cancel, l.since = n, cancel, time.Now()
			return true, 0
		})
		if err == nil {
			work(mine)
			cancel()
		}
		c.change(func() {
			if mine != nil && l.holder == n {
				l.holder = nil
			}
			if mine != nil {
				l.waiting = append(l.waiting, n)
			}
			if ctx.Err() != nil {
				l.waiting = slices.DeleteFunc(l.waiting, func(x *memoryNode) bool { return x == n })
			}
		})
		if ctx.Err() != nil {
			return
		}
	}
}

// fit says whether the node is one that gets leases.
func (n *memoryNode) fit() bool { return !n.cut && !n.dead && n.slow == 0 && len(n.faults) == 0 }

// memoryPresence is a node's presence, which has a Close of its own.
type memoryPresence struct{ n *memoryNode }

func (p memoryPresence) Start(node uint64, settle func(ordinals []uint32, done func(position uint64))) error {
	p.n.c.change(func() { p.n.proposer, p.n.settle, p.n.there = node, settle, true })
	return nil
}

func (p memoryPresence) Joined(ordinal uint32) {
	p.n.c.change(func() { p.n.users[ordinal] = struct{}{} })
}

func (p memoryPresence) Left(ordinal uint32) {
	p.n.c.change(func() { delete(p.n.users, ordinal) })
}

// sees says whether another node is there, as far as one knows, and whether it can be reached; within is how long it takes at most until it is gone.
func (n *memoryNode) sees(o *memoryNode) (there, reached bool, within time.Duration) {
	if o == n || !o.there {
		return false, false, 0
	}
	since := o.silent
	if since.IsZero() || !n.silent.IsZero() && n.silent.Before(since) {
		since = n.silent
	}
	if since.IsZero() {
		return true, true, 0
	}
	within = time.Until(since.Add(memorySilence))
	return within > 0, false, within
}

// others yields the nodes that are there, as far as one knows, with who is connected to them.
func (n *memoryNode) others() iter.Seq2[*memoryNode, map[uint32]struct{}] {
	return func(yield func(*memoryNode, map[uint32]struct{}) bool) {
		n.c.mu.Lock()
		defer n.c.mu.Unlock()
		for _, o := range n.c.nodes {
			there, _, _ := n.sees(o)
			users := o.users
			if o.told != nil {
				users = o.told
			}
			if there && !yield(o, users) {
				return
			}
		}
	}
}

func (p memoryPresence) Elsewhere(ordinal uint32) bool {
	for _, users := range p.n.others() {
		if _, is := users[ordinal]; is {
			return true
		}
	}
	return false
}

func (p memoryPresence) Others() int {
	all := make(map[uint32]struct{})
	for _, users := range p.n.others() {
		maps.Copy(all, users)
	}
	p.n.c.mu.Lock()
	defer p.n.c.mu.Unlock()
	for ordinal := range p.n.users {
		delete(all, ordinal)
	}
	return len(all)
}

func (p memoryPresence) Nodes() (list []uint64) {
	for o := range p.n.others() {
		list = append(list, o.proposer)
	}
	return list
}

func (p memoryPresence) Settle(ctx context.Context, ordinal uint32) (position uint64, err error) {
	n := p.n
	var ask []*memoryNode
	for o := range n.others() {
		ask = append(ask, o)
	}
	for _, o := range ask {
		var reached bool
		gone := func() (bool, time.Duration) {
			there, r, within := n.sees(o)
			reached = r
			return !there, within
		}
		err := n.c.await(ctx, func() (bool, time.Duration) {
			ok, within := gone()
			return ok || reached, within
		})
		if err != nil {
			return 0, err
		}
		if !reached {
			continue
		}
		answers := make(chan uint64, 1)
		o.settle([]uint32{ordinal}, func(position uint64) {
			answers <- position
			n.c.change(func() {})
		})
		if err := n.c.await(ctx, func() (bool, time.Duration) {
			ok, within := gone()
			return ok || len(answers) > 0 && reached, within
		}); err != nil {
			return 0, err
		}
		if len(answers) > 0 {
			position = max(position, <-answers)
		}
	}
	return position, nil
}

func (p memoryPresence) Close() error {
	p.n.c.change(func() {
		if p.n.dead {
			return // nobody hears it
		}
		p.n.there = false
		clear(p.n.users)
	})
	return nil
}

var (
	_ store.Log      = (*memoryNode)(nil)
	_ peers.Leases   = (*memoryNode)(nil)
	_ peers.Presence = memoryPresence{}
)
