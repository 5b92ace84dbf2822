package fanfare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/fanfare-im/fanfare/store"
)

// modelNode is a node of a model's cluster.
type modelNode struct {
	index  int
	dir    string
	p      *Pusher // nil while it is down
	mem    *memoryNode
	online *modelOnline
	kill   *modelKill
	cut    bool
	doomed bool // it is to be killed
}

func (n *modelNode) up() bool { return n.p != nil }

// modelLimbo is a delivery of a node that was cut off, of which the others do not know.
type modelLimbo struct {
	t *naiveTask
	g *naiveTarget
}

// TestModelSlowNode has the model wait for what a slow node has delivered, and what the log does not have yet.
func TestModelSlowNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	checkModel(t, 1, func(t *rapid.T) {
		m := newModel(t, modelVariant{blockBits: 2, workers: 2, nodes: 3}, dir, new(modelCounts))
		m.startNodes()
		defer m.stopNodes()
		m.speakTo(m.nodes[1])
		m.connectUser("u05")
		m.settle()
		for _, delay := range []time.Duration{30 * time.Millisecond, 200 * time.Millisecond, time.Second} {
			m.slowDown(m.nodes[1], delay)
			m.speakTo(m.nodes[0])
			m.send(Message{To: Users("u05"), Body: []byte("m"), Lifetime: week})
			m.settle()
			m.compare()
		}
		m.endNodes()
	})
}

// TestModelLaggingNode has a node bring what was acknowledged before any brought it, when another has brought what came behind it.
func TestModelLaggingNode(t *testing.T) {
	t.Parallel()
	for _, acks := range []bool{false, true} {
		dir := t.TempDir()
		checkModel(t, 1, func(t *rapid.T) {
			m := newModel(t, modelVariant{blockBits: 2, workers: 2, nodes: 3, acks: acks}, dir, new(modelCounts))
			m.startNodes()
			defer m.stopNodes()
			for _, n := range m.nodes[:2] {
				m.speakTo(n)
				m.connectTo("u05")
			}
			m.settle()
			m.slowDown(m.nodes[1], time.Second)
			m.log.set("u05", healthy, 1)
			m.speakTo(m.nodes[0])
			m.send(Message{To: Users("u05"), Body: []byte("m1"), Lifetime: week})
			m.sleep(50 * time.Millisecond) // until it is tried again
			m.ackOne("u05", m.n.tasks[0], false)
			m.send(Message{To: Users("u05"), Body: []byte("m2"), Lifetime: week})
			m.settle()
			m.compare()
			if g := m.n.tasks[0].audience["u05"]; g.got != 1 || g.by != m.nodes[1].online {
				t.Fatalf("m1 came %d times", g.got)
			}
			m.endNodes()
		})
	}
}

// TestModelUnregisteredElsewhere has a node that is cut off deliver to a user of whose unregistering it cannot know.
func TestModelUnregisteredElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	checkModel(t, 1, func(t *rapid.T) {
		m := newModel(t, modelVariant{blockBits: 2, workers: 2, nodes: 3}, dir, new(modelCounts))
		m.startNodes()
		defer m.stopNodes()
		m.speakTo(m.nodes[1])
		m.connectTo("u05")
		m.settle()
		m.log.set("u05", failing, 0)
		m.send(Message{To: Users("u05"), Body: []byte("m1"), Lifetime: week})
		m.settle()
		m.cutOffNode(m.nodes[1], 0)
		m.speakTo(m.nodes[0])
		m.change([]modelOp{{kind: store.OpUnregister, id: "u05"}}, func() error { return m.p.Unregister(m.ctx, "u05") })
		m.settle()
		m.log.set("u05", healthy, 0)
		m.sleep(31 * time.Second)
		m.settle()
		m.compare()
		if g := m.n.tasks[0].audience["u05"]; g.got != 1 {
			t.Fatalf("m1 came %d times", g.got)
		}
		m.endNodes()
	})
}

// TestModelMovedFromACutOffNode has a node deliver to a user who has moved from one that is cut off, while that has a call for the user under way.
func TestModelMovedFromACutOffNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	checkModel(t, 1, func(t *rapid.T) {
		m := newModel(t, modelVariant{blockBits: 2, workers: 2, nodes: 3}, dir, new(modelCounts))
		m.startNodes()
		defer m.stopNodes()
		m.speakTo(m.nodes[1])
		m.connectTo("u05")
		m.settle()
		m.log.set("u05", failing, 0)
		m.send(Message{To: Users("u05"), Body: []byte("m1"), Lifetime: week})
		m.settle()
		m.cutOffNode(m.nodes[1], 0)
		m.settle() // until it counts as gone
		m.log.set("u05", slow, 0)
		for synctest.Wait(); m.log.idle(); synctest.Wait() {
			m.sleep(10 * time.Millisecond)
		}
		c := m.conns["u05"][0]
		m.drain()
		m.must(c.sessions[0].Close(), "close session")
		m.over(c)
		m.speakTo(m.nodes[0])
		m.connectTo("u05")
		m.settle()
		m.compare()
		if g := m.n.tasks[0].audience["u05"]; g.got != 2 {
			t.Fatalf("m1 came %d times", g.got)
		}
		m.endNodes()
	})
}

func (m *modelRun) startNodes() {
	m.cluster = newMemoryCluster()
	for i := range m.v.nodes {
		n := &modelNode{index: i}
		m.nodes = append(m.nodes, n)
		m.openNode(n, m.newDir())
	}
	m.floor = m.stamp()
	m.choose()
}

// stopNodes closes what is left of a script that has failed.
func (m *modelRun) stopNodes() {
	for _, n := range m.nodes {
		if n.up() {
			n.mem.die(0)
			n.p.Close(m.ctx)
		}
	}
}

// endNodes compares the digests of the nodes, and checks each.
func (m *modelRun) endNodes() {
	m.healAll()
	m.settle()
	m.cluster.compare()
	for _, n := range m.nodes {
		if n.up() {
			m.speakTo(n)
			m.check()
			m.must(m.cluster.differ, "digests")
		}
	}
	m.closeNodes()
}

func (m *modelRun) closeNodes() {
	for _, n := range m.nodes {
		if n.up() {
			m.closeNode(n)
		}
	}
}

func (m *modelRun) openNode(n *modelNode, dir string) {
	m.Helper()
	n.online, n.kill = &modelOnline{log: m.log, acks: m.v.acks}, new(modelKill)
	o := m.options(n.online)
	var s *store.Store
	n.online.applied = func() uint64 { return s.Applied() }
	n.mem = m.cluster.join(&o)
	n.mem.strike = n.kill.strike
	opened := o.cluster.Opened
	o.cluster.Opened = func(x *store.Store) { s = x; opened(x) }
	p, err := Open(dir, o)
	m.must(err, "open")
	n.p, n.dir, m.calm = p, dir, false
	synctest.Wait() // so that nodes wait for leases in the order in which they were opened
}

// closeNode closes a node in good order, perhaps in the middle of deliveries. Its users are offline then.
func (m *modelRun) closeNode(n *modelNode) {
	m.Helper()
	p := n.p
	n.p = nil
	m.must(p.Close(m.ctx), "close")
	m.offline(n)
}

// offline has the users of a node not be connected any more.
func (m *modelRun) offline(n *modelNode) {
	for _, c := range m.connections() {
		if c.node == n {
			m.stale = append(m.stale, c.sessions...)
			if m.over(c); len(m.conns[c.user]) == 0 {
				delete(m.paused, c.user)
			}
		}
	}
	m.raceFleeting()
}

// good are the nodes that can be spoken to.
func (m *modelRun) good() (list []*modelNode) {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	for _, n := range m.nodes {
		if n.up() && !n.doomed && n.mem.fit() {
			list = append(list, n)
		}
	}
	return list
}

// choose chooses the node that is spoken to.
func (m *modelRun) choose() {
	if m.v.nodes > 0 {
		good := m.good()
		m.speakTo(good[rapid.IntRange(0, len(good)-1).Draw(m.T, "node")])
	}
}

// speakTo speaks to a node, as soon as it knows what has happened.
func (m *modelRun) speakTo(n *modelNode) {
	m.Helper()
	m.must(n.p.store.WaitApplied(m.ctx, m.cluster.last()), "apply")
	m.p = n.p
}

func (m *modelRun) spokenTo() *modelNode {
	if i := slices.IndexFunc(m.nodes, func(n *modelNode) bool { return n.p == m.p }); i >= 0 {
		return m.nodes[i]
	}
	return nil
}

// reach speaks to a node, unless that is in trouble. Without nodes there is nothing to do.
func (m *modelRun) reach(n *modelNode) bool {
	if n == nil {
		return true
	}
	is := slices.Contains(m.good(), n)
	if is {
		m.speakTo(n)
	}
	return is
}

// position is that of the last change.
func (m *modelRun) position() uint64 {
	if m.v.nodes == 0 {
		return 0
	}
	return m.cluster.last()
}

// connected is how many users are connected, as far as the node that is spoken to knows.
func (m *modelRun) connected() int {
	count := 0
	for _, list := range m.conns {
		if slices.ContainsFunc(list, func(c *modelConn) bool { return c.node == nil || !c.node.cut }) {
			count++
		}
	}
	return count
}

// poke has plans look at the clock, which they would within a second.
func (m *modelRun) poke() {
	if m.v.nodes == 0 {
		m.p.planner.poke()
	}
	for _, n := range m.nodes {
		if n.up() {
			n.p.planner.poke()
		}
	}
}

// busy says what the nodes, but for those that are cut off, have not done yet, or not told the others: nothing, when they are at rest.
func (m *modelRun) busy() string {
	if m.v.nodes == 0 {
		return ""
	}
	if holder, _ := m.cluster.holder(peers.Background); holder == nil || !m.cluster.quiet() {
		return "a node has gone"
	}
	last := m.cluster.last()
	for _, n := range m.nodes {
		if !n.up() || n.cut {
			continue
		}
		d := n.p.delivery
		m.cluster.mu.Lock()
		adding := n.mem.adding // what a slow node has delivered is pending, as all others know, until the log has it
		m.cluster.mu.Unlock()
		d.flightsMu.Lock()
		orphans, owed := len(d.orphans), len(d.owed)+len(d.asked)
		d.flightsMu.Unlock()
		settling := 0
		d.eachLane(func(l *lane) {
			l.mu.Lock()
			defer l.mu.Unlock()
			for p := range l.users.all() {
				if p.settling {
					settling++
				}
			}
		})
		applied, unsaved, fleeting := n.p.store.Applied(), d.hasUnsaved.Load(), len(d.fleeting())
		if applied != last || unsaved || adding+orphans+owed+settling+fleeting > 0 {
			return fmt.Sprintf("node %d: applied %d of %d, adding %d, unsaved %v, orphans %d, owed %d, settling %d, fleeting %d", n.index, applied, last, adding, unsaved, orphans, owed, settling, fleeting)
		}
	}
	return ""
}

// compareOwed wants nobody to be owed anything at rest who has got everything.
func (m *modelRun) compareOwed() {
	m.Helper()
	m.p.delivery.eachLane(func(l *lane) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for seq, o := range l.owed {
			for it := o.low.Iterator(); it.HasNext(); {
				if p := l.users.get(uint16(it.Next())); p == nil || p.live || p.sent >= seq {
					m.Fatalf("node %d owes a message, number %d, to %+v", m.spokenTo().index, seq, p)
				}
			}
		}
	})
}

// hurry is how often in four the next action comes while this one is under way: more often with several nodes, where more is.
func (m *modelRun) hurry() int {
	if m.v.nodes > 0 {
		return 1
	}
	return 0
}

// clusterActions are what is different with several nodes.
func (m *modelRun) clusterActions(all map[string]func(*rapid.T), do func(func()) func(*rapid.T)) {
	for _, name := range []string{"backup", "restore", "kill 2"} {
		delete(all, name)
	}
	all["reopen"] = do(m.reopenNodes)
	all["kill"] = do(func() { m.crash(false) })
	all["kill in a push"] = do(func() { m.crash(true) })
	all["move"] = do(m.move)
	all["move 2"] = do(m.move)
	all["both"] = do(m.both)
	all["both 2"] = do(m.both)
	all["restart"] = do(m.restart)
	all["up"] = do(m.bringUp)
	all["slow node"] = do(m.slowNode)
	all["cut off"] = do(m.cutOff)
	all["heal"] = do(m.heal)
	all["trouble"] = do(m.trouble)
	all["lease"] = do(m.moveLease)
}

// victim is one of the good nodes, nil if that would leave none.
func (m *modelRun) victim() *modelNode {
	good := m.good()
	if len(good) < 2 {
		return nil
	}
	return rapid.SampledFrom(good).Draw(m.T, "victim")
}

func (m *modelRun) pauseOfLease() time.Duration {
	return rapid.SampledFrom([]time.Duration{0, 0, time.Second, 4 * time.Second}).Draw(m.T, "pause")
}

// holds says whether a node sees to plans and to what expires.
func (m *modelRun) holds(n *modelNode) bool {
	holder, _ := m.cluster.holder(peers.Background)
	return holder == n.mem
}

// begun waits until a node sees to plans, and returns since when.
func (m *modelRun) begun() time.Time {
	for {
		synctest.Wait()
		if holder, since := m.cluster.holder(peers.Background); holder != nil {
			return since.Add(time.Duration(m.offset.Load())).Truncate(time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// moved follows plans when another node has taken them up.
func (m *modelRun) moved() {
	m.floor = m.begun()
	for _, x := range m.n.plans {
		x.reopened()
	}
	m.choose()
	m.follow()
}

func (m *modelRun) moveLease() {
	m.cluster.lose(peers.Background, m.pauseOfLease())
	m.moved()
}

// move has a user leave a node and connect to another at once, perhaps when something was delivered there that nobody else knows of yet.
func (m *modelRun) move() {
	list := m.connections()
	if len(list) == 0 {
		m.connect()
		return
	}
	good := m.good()
	if slow := slices.DeleteFunc(slices.Clone(list), func(c *modelConn) bool { return slices.Contains(good, c.node) }); len(slow) > 0 {
		list = slow // of whom the others know the least
	}
	c := list[rapid.IntRange(0, len(list)-1).Draw(m.T, "mover")]
	id := c.user
	if n := c.node; len(good) > 1 && rapid.Bool().Draw(m.T, "from a slow node") {
		const delay = 200 * time.Millisecond
		if slices.Contains(good, n) {
			m.slowDown(n, delay)
		}
		m.pushes++
		m.send(Message{To: Users(id), Body: fmt.Appendf(nil, "m%d", m.pushes), Lifetime: week})
		m.sleep(delay * 3 / 2)
		m.counts.add("moved from a slow node")
	}
	m.drain()
	for _, s := range c.sessions {
		m.must(s.Close(), "close session")
	}
	m.over(c)
	m.connectUser(id)
	m.counts.add("moved")
}

// both has a user be connected to two nodes, and sends something to that user, which comes to both.
func (m *modelRun) both() {
	var list []*modelConn
	good := m.good()
	for _, c := range m.connections() {
		if len(m.conns[c.user]) > 1 || len(good) > 1 || !slices.Contains(good, c.node) {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		m.connect()
		return
	}
	c := list[rapid.IntRange(0, len(list)-1).Draw(m.T, "with both")]
	m.drain()
	if len(m.conns[c.user]) == 1 {
		good = slices.DeleteFunc(good, func(n *modelNode) bool { return n == c.node })
		m.speakTo(good[rapid.IntRange(0, len(good)-1).Draw(m.T, "other node")])
		m.connectTo(c.user)
	}
	for range rapid.IntRange(0, 3).Draw(m.T, "messages to both") {
		m.pushes++
		m.send(Message{To: Users(c.user), Body: fmt.Appendf(nil, "m%d", m.pushes), Lifetime: rapid.SampledFrom([]time.Duration{week, week, time.Hour, 0}).Draw(m.T, "lifetime")})
		m.calm = false
		switch rapid.IntRange(0, 5).Draw(m.T, "and then") {
		case 0:
			m.ackOne(c.user, m.n.tasks[len(m.n.tasks)-1], false)
		case 1:
			m.settle()
		}
	}
	m.exact = nil
}

func (m *modelRun) slowNode() {
	slow := slices.IndexFunc(m.nodes, func(n *modelNode) bool { return n.up() && n.mem.slow > 0 })
	if slow >= 0 {
		n := m.nodes[slow]
		m.cluster.change(func() { n.mem.slow = 0 })
		return
	}
	n := m.victim()
	if n == nil {
		return
	}
	m.slowDown(n, rapid.SampledFrom([]time.Duration{30 * time.Millisecond, 200 * time.Millisecond, time.Second}).Draw(m.T, "delay"))
}

func (m *modelRun) slowDown(n *modelNode, delay time.Duration) {
	held := m.holds(n)
	m.cluster.change(func() {
		if n.mem.slow = delay; held {
			m.cluster.leases[peers.Background].lose(0)
		}
	})
	if held {
		m.moved()
	}
	m.choose()
}

// trouble has the next records of a node be lost, come late, or come twice.
func (m *modelRun) trouble() {
	n := m.victim()
	if n == nil {
		return
	}
	faults := rapid.SliceOfN(rapid.SampledFrom([]memoryFault{faultRefused, faultLost, faultAdded, faultLate, faultTwice, faultNone}), 1, 4).Draw(m.T, "faults")
	held := m.holds(n)
	m.cluster.change(func() {
		if n.mem.faults = faults; held {
			m.cluster.leases[peers.Background].lose(0)
		}
	})
	if held {
		m.moved()
	}
	m.choose()
}

// cutOff has nothing come from a node or to it.
func (m *modelRun) cutOff() {
	m.settle()
	n := m.victim()
	if n == nil || slices.ContainsFunc(m.nodes, func(n *modelNode) bool { return n.cut }) {
		return
	}
	m.compareTasks()
	m.cutOffNode(n, m.pauseOfLease())
}

func (m *modelRun) cutOffNode(n *modelNode, pause time.Duration) {
	held := m.holds(n)
	n.mem.cutOff(pause)
	n.cut, n.online.cut = true, true
	if held {
		m.moved()
	}
	m.choose()
}

func (m *modelRun) heal() {
	for _, n := range m.nodes {
		if n.cut {
			m.settle()
			n.mem.heal()
			synctest.Wait()
			m.drain()
			n.cut, n.online.cut = false, false
			m.settle()
			return
		}
	}
}

// outOfLimbo finds that the deliveries of a node that was cut off are known now.
func (m *modelRun) outOfLimbo() {
	if slices.ContainsFunc(m.nodes, func(n *modelNode) bool { return n.cut }) {
		return
	}
	for _, x := range m.limbo {
		if x.g.pending {
			x.g.pending = false
			x.t.delivered++
		}
		x.t.unsure = true
	}
	m.limbo = nil
}

func (m *modelRun) healAll() {
	m.heal()
	m.cluster.change(func() {
		for _, n := range m.nodes {
			n.mem.slow, n.mem.faults = 0, nil
		}
	})
}

// restart closes a node, and opens it again now or later.
func (m *modelRun) restart() {
	n := m.victim()
	if n == nil {
		return
	}
	m.drain()
	held := m.holds(n)
	m.closeNode(n)
	m.drain()
	if held {
		m.moved()
	}
	m.choose()
	if rapid.Bool().Draw(m.T, "at once") {
		m.bringUp()
	}
}

// bringUp opens a node that is down: with what it has, with nothing, or with a copy of what another has.
func (m *modelRun) bringUp() {
	i := slices.IndexFunc(m.nodes, func(n *modelNode) bool { return !n.up() })
	if i < 0 {
		return
	}
	n, dir := m.nodes[i], m.nodes[i].dir
	switch rapid.IntRange(0, 4).Draw(m.T, "lost its disk") {
	case 1:
		dir = m.newDir()
	case 2:
		dir = m.newDir()
		var b takingBuffer
		var at uint64
		err := m.p.store.Send(m.ctx, func(position uint64, _ int64) (store.Taker, error) {
			at = position
			return &b, nil
		})
		m.must(err, "send")
		m.must(store.Receive(m.ctx, dir, &b, m.cluster.id, at), "a node from a copy")
	}
	m.openNode(n, dir)
	m.choose()
}

// takingBuffer is a [store.Taker].
type takingBuffer struct{ bytes.Buffer }

func (b *takingBuffer) Ready(ctx context.Context) (int, error) { return 1 << 16, ctx.Err() }

// reopenNodes closes all nodes, and opens them again.
func (m *modelRun) reopenNodes() {
	m.healAll()
	m.settle()
	m.compareTasks() // takes note of when they ended, before they are forgotten
	m.closeNodes()
	m.drain()
	down := rapid.SampledFrom([]time.Duration{0, 0, 0, 0, 5 * time.Second, 40 * time.Second, 90 * time.Minute, 30 * time.Hour}).Draw(m.T, "down")
	m.offset.Add(int64(down))
	for _, n := range m.nodes {
		m.openNode(n, n.dir)
	}
	m.choose()
	m.moved()
}

// crash kills a node between two commands or in the middle of one, if so told of a push that is made on it. The others go on.
func (m *modelRun) crash(inPush bool) {
	m.settle()
	m.compareTasks()
	n := m.victim()
	if n == nil {
		return
	}
	k, held, pause := n.kill, m.holds(n), m.pauseOfLease()
	appends := []int{1, 2, 0, 3, 1, 4}
	if inPush {
		appends = []int{1, 1, 1, 2}
	}
	in := rapid.SampledFrom(appends).Draw(m.T, "appends until the kill")
	k.mu.Lock()
	k.in, k.after = in, rapid.Bool().Draw(m.T, "after the append")
	k.dir, k.to, k.online, k.also = n.dir, m.newDir(), n.online, func() { n.mem.die(pause) }
	k.mu.Unlock()
	n.doomed, n.online.mortal = true, true
	m.choose()
	var unanswered *modelPush
	if in > 0 {
		m.blind = held // whatever the node's plans do now may not have happened
		list := []func(){m.push, m.push, m.connect, m.batch, m.ackAny, m.withdraw, m.pass, m.single, m.plan, m.steerOnce}
		if m.v.plans {
			list = []func(){m.plan, m.plan, m.pass, m.steerOnce, m.pass, m.push}
		}
		if inPush {
			list = []func(){func() { unanswered = m.pushInto(n) }}
		}
		rapid.SampledFrom(list).Draw(m.T, "killed in")()
		for synctest.Wait(); !m.log.idle(); synctest.Wait() {
			time.Sleep(100 * time.Millisecond)
		}
	}
	k.mu.Lock()
	k.in = 0
	fired := k.fired
	k.mu.Unlock()
	if !fired {
		m.choose()
		m.see()
		m.drain()
		k.kill()
	}
	m.must(k.err, "copy")
	p := n.p
	n.p, n.doomed = nil, false
	p.Close(m.ctx) // there is no such process any more
	m.offline(n)
	if unanswered != nil {
		m.pushAgain(unanswered)
	}
	switch {
	case held && fired:
		m.counts.add("node killed with the lease")
		m.before, m.killed = m.floor, k.at.Truncate(time.Millisecond)
		m.floor = m.begun()
		m.choose()
		m.see()
	case held:
		m.moved()
	default:
		m.choose()
		m.see()
	}
	m.drain()
	m.findOut()
	n.dir = k.to
	if rapid.Bool().Draw(m.T, "at once") {
		m.bringUp()
	}
	m.settle()
}

// modelPush is a push whose caller does not get the answer.
type modelPush struct {
	msg  Message
	at   time.Time
	task *Task // that would have been the answer, nil for none
}

// pushInto makes a push with a key on a node that is to be killed. It returns the push if that happened before it was answered.
func (m *modelRun) pushInto(n *modelNode) *modelPush {
	m.pushes++
	x := modelPush{at: m.stamp(), msg: Message{
		From: "caller", Key: fmt.Sprintf("c%d", m.pushes), Body: fmt.Appendf(nil, "m%d", m.pushes), To: All(),
		Lifetime: rapid.SampledFrom([]time.Duration{week, week, time.Minute, 0}).Draw(m.T, "lifetime"),
	}}
	if rapid.Bool().Draw(m.T, "to some") {
		x.msg.To = Tag(rapid.SampledFrom(modelTags).Draw(m.T, "tag"))
	}
	m.must(n.p.store.WaitApplied(m.ctx, m.cluster.last()), "apply")
	task, err := n.p.Push(m.ctx, x.msg)
	n.kill.mu.Lock()
	fired := n.kill.fired
	n.kill.mu.Unlock()
	if fired {
		if x.task = task; !errors.Is(err, ErrOutcomeUnknown) {
			m.must(err, "push")
		}
		return &x
	}
	m.sent(x.msg, x.at, task, err)
	m.counts.add("node killed behind a push")
	return nil
}

// pushAgain makes it again with its key on the other nodes. If it is in the log, it is their task; they make one of it at most.
func (m *modelRun) pushAgain(x *modelPush) {
	m.choose()
	made := slices.DeleteFunc(m.released(), func(task *Task) bool { return task.Info().Plan != "" })
	switch {
	case len(made) > 1, x.task != nil && (len(made) == 0 || made[0].ID != x.task.ID):
		m.Fatalf("a push that made %+v made %d tasks", x.task, len(made))
	case len(made) == 1:
		m.sent(x.msg, x.at, made[0], nil)
		m.counts.add("node killed before it answered a push that was made")
	default:
		m.counts.add("node killed before its push was made")
	}
	m.send(x.msg)
	m.choose()
	m.send(x.msg)
}
