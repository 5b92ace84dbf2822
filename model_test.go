package fanfare

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfare-im/fanfare/store"
)

// modelChecks is how many random scripts each variant of TestModel plays, twice as many those with more plans, unless -rapid.checks says otherwise.
const modelChecks = 12

// modelClusterChecks is the same for variants with several nodes.
const modelClusterChecks = 4

// modelVariant is one way to set a Pusher up; the answers must not depend on it.
type modelVariant struct {
	name         string
	deltaEntries int
	blockBits    int
	workers      int
	acks         bool
	batch        int  // users in a call; 0: one each
	plans        bool // more of these
	nodes        int  // of a cluster; 0: one process without
}

// TestModel plays random scripts on a Pusher and on a model of plain maps, and
// compares what they say. -rapid.checks=N plays N scripts with each variant, -rapid.steps=N makes
// them longer, and a failure prints the flag that repeats it.
func TestModel(t *testing.T) {
	t.Parallel()
	counts := new(modelCounts)
	t.Cleanup(func() { counts.check(t) })
	for _, v := range []modelVariant{
		{name: "folds all the time", deltaEntries: 1, blockBits: 2, workers: 2},
		{name: "folds often, smallest blocks", deltaEntries: 5, blockBits: 1, workers: 4},
		{name: "never folds", blockBits: 2, workers: 4},
		{name: "one block", deltaEntries: 20, blockBits: 16, workers: 1},
		{name: "client acks", deltaEntries: 3, blockBits: 2, workers: 2, acks: true},
		{name: "client acks, one block, never folds", blockBits: 16, workers: 4, acks: true},
		{name: "batches", deltaEntries: 4, blockBits: 2, workers: 2, batch: 3},
		{name: "batches with client acks", deltaEntries: 50, blockBits: 4, workers: 3, batch: 2, acks: true},
		{name: "plans", deltaEntries: 3, blockBits: 2, workers: 2, plans: true},
		{name: "plans with client acks", deltaEntries: 30, blockBits: 1, workers: 2, acks: true, plans: true},
		{name: "three nodes", deltaEntries: 3, blockBits: 2, workers: 2, nodes: 3},
		{name: "three nodes with client acks", deltaEntries: 20, blockBits: 1, workers: 2, acks: true, nodes: 3},
		{name: "three nodes with batches and plans", deltaEntries: 5, blockBits: 2, workers: 2, batch: 3, plans: true, nodes: 3},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			scripts := modelChecks
			if v.plans {
				scripts *= 2
			}
			if v.nodes > 0 {
				scripts = modelClusterChecks
			}
			checkModel(t, scripts, func(t *rapid.T) { playModel(t, v, dir, counts) })
		})
	}
}

// checkModel is rapid.Check with fewer checks than its default, each in a bubble of its own.
func checkModel(t *testing.T, scripts int, prop func(*rapid.T)) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	var played int
	var failed bool // then it is played again and again, to make it smaller
	rapid.Check(t, func(t *rapid.T) {
		if played++; !given && !failed && played > scripts {
			return
		}
		passed := false
		defer func() { failed = failed || !passed }()
		rapid.SyncTest(t, prop)
		passed = true
	})
}

// newModel returns a model, with directories of its own below base.
func newModel(t *rapid.T, v modelVariant, base string, counts *modelCounts) *modelRun {
	dir, err := os.MkdirTemp(base, "")
	if err != nil {
		t.Fatal(err)
	}
	m := &modelRun{
		T: t, v: v, base: dir, ctx: context.Background(),
		n: newNaive(Limits{TagsPerUser: 3, DevicesPerUser: 2}), conns: map[string][]*modelConn{}, paused: map[string]bool{}, counts: counts,
	}
	m.n.clock = m.now
	m.log = &modelLog{now: m.now, health: map[string]health{}, once: map[string]int{}, busy: map[modelCall]int{}}
	return m
}

func playModel(t *rapid.T, v modelVariant, base string, counts *modelCounts) {
	m := newModel(t, v, base, counts)
	defer os.RemoveAll(m.base)
	if v.nodes > 0 {
		m.startNodes()
		defer m.stopNodes()
	} else {
		defer func() {
			if m.p != nil {
				m.p.Close(m.ctx)
			}
		}()
		m.reopenAt(m.newDir())
	}
	m.rename(map[int]string{0: "tier", 1: "city", ageSlot: "age"})
	m.must(m.p.SetAttributeTypes(m.ctx, map[int]AttributeType{ageSlot: Number(1)}), "types")
	for range rapid.IntRange(0, 2).Draw(t, "imports") {
		m.importUsers()
	}
	if v.plans {
		m.firstPlans()
	}
	m.settle()
	m.compare()
	t.Repeat(m.actions())
	m.settle()
	m.compare()
	if v.nodes > 0 {
		m.endNodes()
	} else {
		m.check()
		m.close()
	}
	counts.add("scripts")
}

// modelRun is a Pusher and its model side by side.
type modelRun struct {
	*rapid.T
	v      modelVariant
	ctx    context.Context
	base   string
	dirs   int
	dir    string
	p      *Pusher      // which is spoken to
	online *modelOnline // its transport
	n      *naive
	log    *modelLog
	offset atomic.Int64 // of the clock, in nanoseconds
	conns  map[string][]*modelConn
	past   []*modelConn // which are over, but for deliveries that are under way
	stale  []*Session   // of users who are gone, and of Pushers that are closed
	paused map[string]bool
	calm   bool       // nothing is under way
	ended  bool       // a message has been withdrawn or has expired since the last rest
	exact  *naiveTask // a push without retention, made in the calm and the last thing that happened
	pushes int
	taken  int // keys of messages, to be used again

	floor     time.Time    // plans make no step before: the process began, the clock was set, or somebody told one to
	blind     bool         // what plans do is not followed, for the process is to be killed
	killed    time.Time    // when it was killed, until the plans have been followed over that; zero otherwise
	before    time.Time    // the floor until then
	unknown   []modelEvent // deliveries of what is not known to be released yet
	plansMade int
	withdrew  string // of the plans, the last one that was
	counts    *modelCounts

	cluster *memoryCluster // nil for one process
	nodes   []*modelNode
	limbo   []modelLimbo

	backup      []byte
	backupState *naive
	kill        modelKill
}

// modelConn is a connected user. In a cluster there is one for each node to which the user is connected.
type modelConn struct {
	user     string
	sessions []*Session
	node     *modelNode // of a cluster, to which they are
	by       *modelOnline
	since    int                  // moment
	from     uint64               // what is accepted from there on comes to it, though it come to others of the user too; 0: nothing must yet
	got      map[uint64]bool      // what has been delivered to it
	last     uint64               // the last of it
	sent     map[uint64]time.Time // with client acks: what was sent last when
	gone     bool                 // the user was unregistered
}

const modelIDs = 16

var (
	modelTags   = []string{"red", "green", "blue", "grey", "pink"}
	modelValues = []string{"1", "2", "3"}
	modelBounds = rapid.SampledFrom([]string{"-2.5", "-1", "0", "1", "6.9", "7", "300", "1000"})
)

func (m *modelRun) now() time.Time { return time.Now().Add(time.Duration(m.offset.Load())) }

func (m *modelRun) stamp() time.Time { return m.now().Truncate(time.Millisecond) }

func (m *modelRun) newDir() string {
	m.dirs++
	return filepath.Join(m.base, fmt.Sprint(m.dirs))
}

func (m *modelRun) must(err error, what string) {
	m.Helper()
	if err != nil {
		m.Fatalf("%s: %v", what, err)
	}
}

// reopenAt opens a directory with a transport of its own. Nobody is connected then.
func (m *modelRun) reopenAt(dir string) {
	m.Helper()
	for _, c := range m.connections() {
		m.stale = append(m.stale, c.sessions...)
		m.over(c)
	}
	clear(m.paused)
	m.before, m.floor = m.floor, m.stamp()
	if m.killed.IsZero() {
		for _, x := range m.n.plans {
			x.reopened()
		}
	}
	m.online = &modelOnline{log: m.log, acks: m.v.acks}
	o := m.options(m.online)
	o.wrap = m.kill.wrap
	p, err := Open(dir, o)
	m.must(err, "open")
	m.p, m.dir, m.calm = p, dir, false
	m.see()
}

func (m *modelRun) options(online *modelOnline) Options {
	o := Options{
		Online: online, Cron: modelCron, Caps: modelCaps, Limits: m.n.limits, Workers: m.v.workers, DeltaEntries: m.v.deltaEntries,
		blockBits: m.v.blockBits, now: m.now,
	}
	if m.v.batch > 0 {
		o.Online = &modelBatcher{online, m.v.batch}
	}
	return o
}

func (m *modelRun) close() {
	m.Helper()
	p := m.p
	m.p = nil
	m.must(p.Close(m.ctx), "close")
}

func (m *modelRun) check() {
	m.Helper()
	m.must(m.p.Check(m.ctx), "check")
}

// settle waits until nothing is under way any more but retries to users whose transport fails.
func (m *modelRun) settle() {
	m.Helper()
	for range 400 {
		synctest.Wait()
		if m.follow(); !m.log.idle() || m.busy() != "" {
			m.sleep(100 * time.Millisecond)
			continue
		}
		m.drain()
		wait := time.Duration(0)
		for id := range m.paused {
			if h, _ := m.log.of(id); len(m.conns[id]) == 0 || h == healthy || h == slow {
				wait = 31 * time.Second // the longest pause; who fails again is paused again
				delete(m.paused, id)
			}
		}
		for _, t := range m.n.tasks {
			if !t.fleeting() && t.pending() > 0 && !t.expires.After(m.now()) && m.now().Sub(t.expires) < 3*sweepEvery ||
				!t.ended.IsZero() && !t.forgotten && m.now().Sub(t.ended) >= store.TaskRetention && m.now().Sub(t.ended) < store.TaskRetention+3*sweepEvery {
				wait = max(wait, 3*sweepEvery)
			}
		}
		for _, x := range m.n.plans {
			if !x.ended.IsZero() && !x.forgotten && m.now().Sub(x.ended) >= store.TaskRetention && m.now().Sub(x.ended) < store.TaskRetention+3*sweepEvery {
				wait = max(wait, 3*sweepEvery)
			}
		}
		if m.v.acks && m.ended { // an ended message leaves the window of unacknowledged ones at the next sweep
			m.ended, wait = false, max(wait, 2*sweepEvery)
		}
		if wait == 0 {
			if m.expire(); m.v.acks && m.ended {
				continue
			}
			m.ended, m.calm = false, true
			m.outOfLimbo()
			m.whole()
			return
		}
		m.sleep(wait)
	}
	m.Fatalf("it does not come to rest: deliveries at rest %v, paused %v, ended %v, nodes busy %q", m.log.idle(), m.paused, m.ended, m.busy())
}

// expire does what time does.
func (m *modelRun) expire() {
	moment := m.log.mark()
	for _, t := range m.n.tasks {
		if !t.ended.IsZero() && m.now().Sub(t.ended) >= store.TaskRetention {
			t.forgotten = true
		}
		past := !t.fleeting() && !t.expires.After(m.now())
		for _, g := range t.audience {
			if past && g.pending {
				g.pending, m.ended = false, true
				t.expired++
			}
			if past && g.closed == 0 {
				g.closed = moment // which every node finds by itself
			}
			g.late = g.late || g.closed > 0
		}
	}
	for _, x := range m.n.plans {
		x.forgotten = x.forgotten || !x.ended.IsZero() && m.now().Sub(x.ended) >= store.TaskRetention
	}
}

// drain looks at each delivery since the last time.
func (m *modelRun) drain() []modelEvent {
	m.Helper()
	events, illegal := m.log.take()
	if len(illegal) > 0 {
		m.Fatalf("%s", illegal)
	}
	events = append(m.unknown, events...)
	slices.SortFunc(events, func(x, y modelEvent) int { return cmp.Compare(x.begin, y.begin) })
	m.unknown = nil
	if m.blind { // what plans have released meanwhile is found out later
		known := events
		events = nil
		for _, e := range known {
			if e.m.Sequence > uint64(len(m.n.tasks)) {
				m.unknown = append(m.unknown, e)
			} else {
				events = append(events, e)
			}
		}
	}
	for _, e := range events {
		m.delivery(&e)
	}
	return events
}

func (m *modelRun) delivery(e *modelEvent) {
	m.Helper()
	seq := e.m.Sequence
	if seq == 0 || seq > uint64(len(m.n.tasks)) {
		m.Fatalf("%s got message %d, which was never accepted", e.user, seq)
	}
	t := m.n.tasks[seq-1]
	g, c := t.audience[e.user], m.connectionOf(e)
	switch {
	case c == nil:
		m.Fatalf("%s got %s, and is not connected there", e.user, t.body)
	case slices.ContainsFunc(e.beside, func(x modelBeside) bool { return x.begin < c.since && !x.by.cut }): // who is cut off is not waited for when it counts as gone
		m.Fatalf("%s got %s while a delivery to an earlier connection was under way", e.user, t.body)
	case t.id != e.m.ID || t.body != string(e.m.Body) || !t.accepted.Equal(e.m.Accepted) || !t.expires.Equal(e.m.Expires):
		m.Fatalf("%s got %+v; accepted was %+v", e.user, e.m, t)
	case g == nil:
		m.Fatalf("%s got %s and is not in the audience", e.user, t.body)
	case !t.fleeting() && !e.at.Before(t.expires):
		m.Fatalf("%s got %s after its expiry", e.user, t.body)
	case g.closed > 0 && e.begin > g.closed && e.applied >= g.at:
		if g.late || slices.Contains(g.beside, e.by) {
			m.Fatalf("%s got %s after an ack, the end of the task, or unregistering", e.user, t.body)
		}
		g.beside = append(g.beside, e.by) // it may have begun before, but for the first line of Deliver
	}
	if !e.ok {
		g.failed = true
		if len(m.conns[e.user]) > 0 {
			m.paused[e.user] = true
		}
		return
	}
	// Without retention it comes to connections that there were before it alone. What was acknowledged, withdrawn or lost its user before anybody brought it is passed over
	// where that is known, and what is behind it comes there; a node that does not know yet brings it all the same. What a node has brought itself is in order in any case.
	if g.got == 0 && !(t.fleeting() && m.twoNodes(e.user)) {
		for _, later := range m.n.tasks[seq:] {
			x := later.audience[e.user]
			if x != nil && x.got > 0 && (m.v.nodes == 0 || g.closed == 0 && !g.loose || slices.Contains(x.from, e.by)) {
				m.Fatalf("%s got %s after %s", e.user, t.body, later.body)
			}
		}
	}
	g.from = append(g.from, e.by)
	if g.got++; !t.fleeting() && (g.got == 1 || g.pending) {
		g.by, g.end = e.by, e.end
	}
	if m.v.acks && !t.fleeting() {
		m.sentAgain(e, t, c)
	} else if c.got[seq] {
		m.Fatalf("%s got %s twice on one connection", e.user, t.body)
	}
	if seq < c.last {
		m.Fatalf("%s got %s after %s on one connection", e.user, t.body, m.n.tasks[c.last-1].body)
	}
	c.got[seq], c.last = true, seq
	switch {
	case t.fleeting():
		if g.got > 1 && g.by == e.by { // who is connected to a node that does not know it yet, is
			m.Fatalf("%s got %s, which has no retention, twice", e.user, t.body)
		}
		t.delivered++
		t.unsure = t.unsure || g.got > 1 || !t.ended.IsZero() || e.by.cut // the task does not wait for what a node did that counted as gone
		g.by = e.by
	case m.v.acks:
	case e.by.cut:
		g.again = true
		m.limbo = append(m.limbo, modelLimbo{t, g})
	case g.pending:
		g.pending = false
		t.delivered++
		t.unsure = t.unsure || !e.until.Before(t.expires) || e.by.mortal
		g.unsure = g.unsure || e.by.mortal
	case g.got > 1 && !g.again && (g.by == e.by || g.end < c.since): // else it comes to each node to which the user is connected
		m.Fatalf("%s got %s twice", e.user, t.body)
	case g.got > 1:
		m.counts.add("delivered by two nodes")
	}
}

// sentAgain wants a reason for a message that is sent again on the same connection.
func (m *modelRun) sentAgain(e *modelEvent, t *naiveTask, c *modelConn) {
	m.Helper()
	if at, again := c.sent[t.seq]; again {
		overdue := false
		for seq, at := range c.sent {
			x := m.n.tasks[seq-1].audience[e.user]
			overdue = overdue || (x.pending || x.at > e.applied) && e.at.Sub(at) >= 30*time.Second
		}
		if !overdue {
			m.Fatalf("%s got %s again after %v, and nothing is overdue", e.user, t.body, e.at.Sub(at))
		}
		clear(c.sent) // a new round, from the lowest
		c.last = 0
	}
	c.sent[t.seq] = e.at
}

func (c *modelConn) index() int {
	if c.node == nil {
		return 0
	}
	return c.node.index
}

// connections are all that there are.
func (m *modelRun) connections() (list []*modelConn) {
	for _, id := range slices.Sorted(maps.Keys(m.conns)) {
		list = append(list, m.conns[id]...)
	}
	return list
}

// connectionOf is the connection that a delivery went to, nil for none.
func (m *modelRun) connectionOf(e *modelEvent) (last *modelConn) {
	for _, c := range slices.Concat(m.past, m.conns[e.user]) {
		if c.user == e.user && c.by == e.by && c.since < e.begin {
			last = c
		}
	}
	return last
}

// twoNodes says whether a user is connected to two nodes, or was lately.
func (m *modelRun) twoNodes(user string) bool {
	var first *modelConn
	for _, c := range slices.Concat(m.past, m.conns[user]) {
		if c.user == user && first != nil && first.node != c.node {
			return true
		} else if c.user == user {
			first = c
		}
	}
	return false
}

// over ends a connection.
func (m *modelRun) over(c *modelConn) {
	m.past = append(m.past, c)
	list := slices.DeleteFunc(m.conns[c.user], func(x *modelConn) bool { return x == c })
	if m.conns[c.user] = list; len(list) == 0 {
		delete(m.conns, c.user)
	}
}

// whole finds at rest that connections are live: whatever is accepted now comes to each of them.
func (m *modelRun) whole() {
	for _, c := range m.connections() {
		if c.from == 0 && (c.node == nil || !c.node.cut) {
			c.from = uint64(len(m.n.tasks)) + 1
		}
	}
	if len(m.unknown) == 0 { // a node that is cut off goes on with users who were unregistered elsewhere
		m.past = slices.DeleteFunc(m.past, func(c *modelConn) bool { return !c.gone || c.node == nil || !c.node.cut })
	}
}
