package fanfare

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
)

// modelChecks is how many random scripts each variant of TestModel plays, unless -rapid.checks says otherwise.
const modelChecks = 12

// modelVariant is one way to set a Pusher up; the answers must not depend on it.
type modelVariant struct {
	name         string
	deltaEntries int
	blockBits    int
	workers      int
	acks         bool
	batch        int // users in a call; 0: one each
}

// TestModel plays random scripts on a Pusher and on a model of plain maps, and
// compares what they say. -rapid.checks=N plays N scripts with each variant, -rapid.steps=N makes
// them longer, and a failure prints the flag that repeats it.
func TestModel(t *testing.T) {
	t.Parallel()
	for _, v := range []modelVariant{
		{name: "folds all the time", deltaEntries: 1, blockBits: 2, workers: 2},
		{name: "folds often, smallest blocks", deltaEntries: 5, blockBits: 1, workers: 4},
		{name: "never folds", blockBits: 2, workers: 4},
		{name: "one block", deltaEntries: 20, blockBits: 16, workers: 1},
		{name: "client acks", deltaEntries: 3, blockBits: 2, workers: 2, acks: true},
		{name: "client acks, one block, never folds", blockBits: 16, workers: 4, acks: true},
		{name: "batches", deltaEntries: 4, blockBits: 2, workers: 2, batch: 3},
		{name: "batches with client acks", deltaEntries: 50, blockBits: 4, workers: 3, batch: 2, acks: true},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			checkModel(t, func(t *rapid.T) { playModel(t, v, dir) })
		})
	}
}

// checkModel is rapid.Check with fewer checks than its default, each in a bubble of its own.
func checkModel(t *testing.T, prop func(*rapid.T)) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	var played int
	var failed bool // then it is played again and again, to make it smaller
	rapid.Check(t, func(t *rapid.T) {
		if played++; !given && !failed && played > modelChecks {
			return
		}
		passed := false
		defer func() { failed = failed || !passed }()
		rapid.SyncTest(t, prop)
		passed = true
	})
}

func playModel(t *rapid.T, v modelVariant, base string) {
	dir, err := os.MkdirTemp(base, "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m := &modelRun{
		T: t, v: v, base: dir, ctx: context.Background(),
		n: newNaive(Limits{TagsPerUser: 3, DevicesPerUser: 2}), conns: map[string]*modelConn{}, paused: map[string]bool{},
	}
	m.log = &modelLog{now: m.now, health: map[string]health{}, once: map[string]int{}, busy: map[string]bool{}}
	defer func() {
		if m.p != nil {
			m.p.Close(m.ctx)
		}
	}()
	m.reopenAt(m.newDir())
	m.rename(map[int]string{0: "tier", 1: "city"})
	for range rapid.IntRange(0, 2).Draw(t, "imports") {
		m.importUsers()
	}
	m.settle()
	m.compare()
	t.Repeat(m.actions())
	m.settle()
	m.compare()
	m.check()
	m.close()
}

// modelRun is a Pusher and its model side by side.
type modelRun struct {
	*rapid.T
	v      modelVariant
	ctx    context.Context
	base   string
	dirs   int
	dir    string
	p      *Pusher
	n      *naive
	log    *modelLog
	offset atomic.Int64 // of the clock, in nanoseconds
	conns  map[string]*modelConn
	stale  []*Session // of users who are gone, and of Pushers that are closed
	paused map[string]bool
	calm   bool       // nothing is under way
	ended  bool       // a message has been withdrawn or has expired since the last rest
	exact  *naiveTask // a push without retention, made in the calm and the last thing that happened
	pushes int
	taken  int // keys of messages, to be used again

	backup      []byte
	backupState *naive
	kill        modelKill
}

// modelConn is a connected user.
type modelConn struct {
	sessions []*Session
	since    int                  // moment
	sent     map[uint64]time.Time // with client acks: what was sent last when
}

const modelIDs = 16

var (
	modelTags   = []string{"red", "green", "blue", "grey", "pink"}
	modelValues = []string{"1", "2", "3"}
	modelNames  = []string{"tier", "city", "size", "nothing"}
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
	for _, id := range slices.Sorted(maps.Keys(m.conns)) {
		m.stale = append(m.stale, m.conns[id].sessions...)
	}
	clear(m.conns)
	clear(m.paused)
	m.log.mu.Lock()
	m.log.dead = 0
	m.log.mu.Unlock()
	online := modelOnline{log: m.log, acks: m.v.acks}
	o := Options{
		Online: &online, Limits: m.n.limits, Workers: m.v.workers, DeltaEntries: m.v.deltaEntries,
		blockBits: m.v.blockBits, now: m.now, wrap: m.kill.wrap,
	}
	if m.v.batch > 0 {
		o.Online = &modelBatcher{online, m.v.batch}
	}
	p, err := Open(dir, o)
	m.must(err, "open")
	m.p, m.dir, m.calm = p, dir, false
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

// actions are what a script is made of. Some stand twice to come more often.
func (m *modelRun) actions() map[string]func(*rapid.T) {
	do := func(f func()) func(*rapid.T) {
		return func(t *rapid.T) {
			m.exact = nil
			f()
			m.calm = false
			if rapid.IntRange(0, 3).Draw(m.T, "hurry") > 0 {
				m.settle()
				m.compare()
			}
		}
	}
	return map[string]func(*rapid.T){
		"user":       do(m.single),
		"user 2":     do(m.single),
		"batch":      do(m.batch),
		"import":     do(m.importUsers),
		"names":      do(m.names),
		"push":       do(m.push),
		"push 2":     do(m.push),
		"push 3":     do(m.push),
		"flood":      do(m.flood),
		"withdraw":   do(m.withdraw),
		"connect":    do(m.connect),
		"connect 2":  do(m.connect),
		"disconnect": do(m.disconnect),
		"stale":      do(m.closeStale),
		"health":     do(m.setHealth),
		"ack":        do(m.ack),
		"ack 2":      do(m.ack),
		"time":       do(func() { m.pass(); m.settle() }),
		"checkpoint": do(func() { m.must(m.p.store.Checkpoint(m.ctx), "checkpoint") }),
		"check":      do(m.check),
		"compact":    do(func() { m.must(m.p.Compact(m.ctx), "compact") }),
		"backup":     do(m.makeBackup),
		"restore":    do(m.restore),
		"reopen":     do(m.reopen),
		"kill":       do(m.die),
		"kill 2":     do(m.die),
	}
}

func (m *modelRun) id() string {
	return fmt.Sprintf("u%02d", rapid.IntRange(0, modelIDs-1).Draw(m.T, "user"))
}

// known is a user who is likely to be known.
func (m *modelRun) known() string {
	ids := slices.Sorted(maps.Keys(m.n.users))
	if len(ids) == 0 || rapid.IntRange(0, 9).Draw(m.T, "anyone") == 0 {
		return m.id()
	}
	return rapid.SampledFrom(ids).Draw(m.T, "known")
}

func (m *modelRun) tags() []string {
	return rapid.SliceOfN(rapid.SampledFrom(modelTags), 1, 3).Draw(m.T, "tags")
}

func (m *modelRun) attrs() map[string]string {
	// Mostly names that there are.
	names := []string{"tier", "city", "tier", "city", "tier", "city", "size", "nothing"}
	return rapid.MapOfN(rapid.SampledFrom(names), rapid.SampledFrom(modelValues), 1, 2).Draw(m.T, "attributes")
}

func (m *modelRun) devices() []Device {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Device {
		return Device{
			Platform: rapid.SampledFrom([]string{"apns", "fcm"}).Draw(t, "platform"),
			Token:    rapid.SampledFrom([]string{"t1", "t2", "t3", "t4"}).Draw(t, "token"),
			Topic:    rapid.SampledFrom([]string{"", "app"}).Draw(t, "topic"),
		}
	}), 1, 2).Draw(m.T, "devices")
}

func (m *modelRun) op() modelOp {
	kinds := []store.OpKind{
		store.OpRegister, store.OpAddTags, store.OpAddTags, store.OpSetAttrs, store.OpSetAttrs, store.OpPutDevices, store.OpPutDevices,
		store.OpRemoveTags, store.OpClearTags, store.OpRemoveAttrs, store.OpRemoveDevices, store.OpUnregister,
	}
	o := modelOp{kind: rapid.SampledFrom(kinds).Draw(m.T, "kind")}
	if o.kind == store.OpRegister {
		o.id = m.id()
	} else {
		o.id = m.known()
	}
	switch o.kind {
	case store.OpAddTags, store.OpRemoveTags:
		o.tags = m.tags()
	case store.OpSetAttrs:
		o.attrs = m.attrs()
	case store.OpRemoveAttrs:
		o.names = []string{rapid.SampledFrom(modelNames[:3]).Draw(m.T, "name")}
	case store.OpPutDevices:
		o.devices = m.devices()
	case store.OpRemoveDevices:
		o.devices = m.devices()[:1]
	}
	return o
}

// single is one change by the call that is made for it.
func (m *modelRun) single() {
	o := m.op()
	m.change([]modelOp{o}, func() error {
		switch o.kind {
		case store.OpRegister:
			return m.p.Register(m.ctx, o.id)
		case store.OpUnregister:
			return m.p.Unregister(m.ctx, o.id)
		case store.OpAddTags:
			return m.p.AddTags(m.ctx, o.id, o.tags...)
		case store.OpRemoveTags:
			return m.p.RemoveTags(m.ctx, o.id, o.tags...)
		case store.OpClearTags:
			return m.p.ClearTags(m.ctx, o.id)
		case store.OpSetAttrs:
			return m.p.SetAttributes(m.ctx, o.id, o.attrs)
		case store.OpRemoveAttrs:
			return m.p.RemoveAttributes(m.ctx, o.id, o.names...)
		case store.OpPutDevices:
			if len(o.devices) == 1 {
				return m.p.RegisterDevice(m.ctx, o.id, o.devices[0])
			}
		case store.OpRemoveDevices:
			return m.p.RemoveDevice(m.ctx, o.id, o.devices[0].Platform, o.devices[0].Token)
		}
		return m.p.Apply(m.ctx, modelBatch([]modelOp{o}))
	})
}

func modelBatch(ops []modelOp) *Batch {
	b := new(Batch)
	for _, o := range ops {
		switch o.kind {
		case store.OpRegister:
			b.Register(o.id)
		case store.OpUnregister:
			b.Unregister(o.id)
		case store.OpAddTags:
			b.AddTags(o.id, o.tags...)
		case store.OpRemoveTags:
			b.RemoveTags(o.id, o.tags...)
		case store.OpClearTags:
			b.ClearTags(o.id)
		case store.OpSetAttrs:
			b.SetAttributes(o.id, o.attrs)
		case store.OpRemoveAttrs:
			b.RemoveAttributes(o.id, o.names...)
		case store.OpPutDevices:
			b.RegisterDevice(o.id, o.devices...)
		case store.OpRemoveDevices:
			b.RemoveDevice(o.id, o.devices[0].Platform, o.devices[0].Token)
		}
	}
	return b
}

func (m *modelRun) batch() {
	var ops []modelOp
	for range rapid.IntRange(2, 6).Draw(m.T, "changes") {
		ops = append(ops, m.op())
	}
	at := m.change(ops, func() error { return m.p.Apply(m.ctx, modelBatch(ops)) })
	if at >= 0 {
		var op *BatchError
		if err := m.p.Apply(m.ctx, modelBatch(ops)); !errors.As(err, &op) || op.Index != at || op.ID != ops[at].id {
			m.Fatalf("a batch with a mistake in %d: %v", at, err)
		}
	}
}

// change makes the changes in both worlds and compares the errors. It returns the index of the refused one.
func (m *modelRun) change(ops []modelOp, call func() error) int {
	m.Helper()
	m.drain()
	err := call()
	gone, _, _, at, want := m.n.apply(ops, m.stamp())
	m.sameError(err, want, "change")
	m.left(gone)
	return at
}

func (m *modelRun) sameError(err, want error, what string) {
	m.Helper()
	var limit *LimitError
	if want == nil && err != nil || want == errModelLimit && !errors.As(err, &limit) || want != nil && want != errModelLimit && !errors.Is(err, want) {
		m.Fatalf("%s: %v, not %v", what, err, want)
	}
}

// left does what follows when users are unregistered.
func (m *modelRun) left(gone []*naiveUser) {
	moment := m.log.mark()
	for _, u := range gone {
		for _, t := range m.n.tasks {
			if g := t.audience[u.id]; g != nil && g.closed == 0 {
				g.closed = moment
				t.unsure = t.unsure || !m.calm && !t.fleeting()
			}
		}
		if c := m.conns[u.id]; c != nil {
			m.stale = append(m.stale, c.sessions...)
			delete(m.conns, u.id)
		}
	}
}

func (m *modelRun) importUsers() {
	count := rapid.IntRange(1, 8).Draw(m.T, "users")
	var ops []modelOp
	var users []User
	for range count {
		o := modelOp{kind: store.OpPut, id: m.id()}
		if rapid.Bool().Draw(m.T, "with tags") {
			o.tags = m.tags()
		}
		if rapid.Bool().Draw(m.T, "with attributes") {
			o.attrs = map[string]string{"tier": rapid.SampledFrom(modelValues).Draw(m.T, "value")}
		}
		if rapid.IntRange(0, 3).Draw(m.T, "with device") == 0 {
			o.devices = m.devices()
		}
		// A token that comes again in the file is the last one's.
		for i := range ops {
			if ops[i].id != o.id {
				ops[i].devices = slices.DeleteFunc(slices.Clone(ops[i].devices), func(x Device) bool {
					return slices.ContainsFunc(o.devices, func(d Device) bool { return d.Platform == x.Platform && d.Token == x.Token })
				})
			}
		}
		ops = append(ops, o)
		users = append(users, User{ID: o.id, Tags: o.tags, Attributes: o.attrs, Devices: o.devices})
	}
	broken := rapid.IntRange(0, 5).Draw(m.T, "broken file") == 0
	errFile := errors.New("the file ends badly")
	seq := func(yield func(User, error) bool) {
		for _, u := range users {
			if !yield(u, nil) {
				return
			}
		}
		if broken {
			yield(User{}, errFile)
		}
	}
	m.drain()
	stats, err := m.p.Import(m.ctx, iter.Seq2[User, error](seq), nil)
	slices.SortStableFunc(ops, func(x, y modelOp) int { return cmp.Compare(x.id, y.id) })
	_, registered, known, _, want := m.n.apply(ops, m.stamp())
	if want == nil && broken {
		want = errFile
	}
	m.sameError(err, want, "import")
	if w := (ImportStats{int64(registered + known), int64(registered), int64(known)}); stats != w {
		m.Fatalf("import: %+v, not %+v", stats, w)
	}
	var at *ImportError
	if err != nil && !errors.As(err, &at) {
		m.Fatalf("import: %v", err)
	}
}

func (m *modelRun) names() {
	m.rename(rapid.MapOfN(rapid.IntRange(0, 3), rapid.SampledFrom([]string{"tier", "city", "size", "tier", "city", ""}), 1, 3).Draw(m.T, "names"))
}

func (m *modelRun) rename(names map[int]string) {
	m.Helper()
	err := m.p.SetAttributeNames(m.ctx, names)
	var dup *DuplicateNameError
	if ok := m.n.rename(names); ok != (err == nil) || !ok && !errors.As(err, &dup) {
		m.Fatalf("names %v: %v", names, err)
	}
}

func (m *modelRun) audience(depth int) Audience {
	kind := rapid.IntRange(0, 8).Draw(m.T, "audience")
	if depth == 0 {
		kind %= 6
	}
	others := func() (list []Audience) {
		for range rapid.IntRange(1, 2).Draw(m.T, "terms") {
			list = append(list, m.audience(depth-1))
		}
		return list
	}
	switch kind {
	case 0:
		return All()
	case 1:
		return Tag(rapid.SampledFrom(modelTags).Draw(m.T, "tag"))
	case 2:
		names := []string{"tier", "tier", "city", "city", "tier", "city", "tier", "city", "size", "nothing"}
		return Attr(rapid.SampledFrom(names).Draw(m.T, "name"), rapid.SampledFrom(modelValues).Draw(m.T, "value"))
	case 3:
		var ids []string
		for range rapid.IntRange(0, 3).Draw(m.T, "explicit") {
			ids = append(ids, m.known())
		}
		return Users(ids...)
	case 4:
		return Platform(rapid.SampledFrom([]string{"apns", "fcm", "none"}).Draw(m.T, "platform"))
	case 5:
		return Sample(rapid.SampledFrom([]float64{0, 10, 33.3, 50, 99.9999, 100}).Draw(m.T, "percent"), rapid.SampledFrom([]string{"", "a", "b"}).Draw(m.T, "salt"))
	case 6:
		return m.audience(depth - 1).And(others()...)
	case 7:
		return m.audience(depth - 1).Or(others()...)
	}
	return m.audience(depth - 1).Not()
}

func (m *modelRun) push() {
	msg := Message{To: m.audience(2), Lifetime: rapid.SampledFrom([]time.Duration{
		0, 0, 3 * time.Second, time.Minute, time.Hour, week, week, week, week,
	}).Draw(m.T, "lifetime")}
	if rapid.IntRange(0, 4).Draw(m.T, "to all") == 0 {
		msg.To = All()
	}
	if rapid.IntRange(0, 4).Draw(m.T, "keyed") == 0 {
		msg.Key = rapid.SampledFrom([]string{"k1", "k2"}).Draw(m.T, "key")
		msg.From = rapid.SampledFrom([]string{"", "op"}).Draw(m.T, "from")
		if m.taken++; m.taken%2 == 0 { // the same content again
			msg.To, msg.Lifetime, msg.Body = All(), week, []byte("keyed")
		}
	}
	if msg.Body == nil {
		m.pushes++
		msg.Body = fmt.Appendf(nil, "m%d", m.pushes)
	}
	m.send(msg)
}

func (m *modelRun) send(msg Message) {
	m.Helper()
	task, err := m.p.Push(m.ctx, msg)
	t, dup, reused, unnamed := m.n.push(msg.From, msg, m.stamp())
	switch {
	case reused:
		m.sameError(err, ErrKeyReused, "push")
		return
	case unnamed:
		m.sameError(err, ErrUnnamedAttribute, "push")
		return
	case err != nil:
		m.Fatalf("push: %v", err)
	}
	if task.Duplicate != dup || dup && t.id != task.ID {
		m.Fatalf("push: %s, duplicate %v; the model says %s, %v", task.ID, task.Duplicate, t.id, dup)
	}
	t.id = task.ID
	if m.calm && t.fleeting() && !dup {
		m.exact = t
	}
	if i := task.Info(); !i.Accepted.Equal(t.accepted) || !i.Expires.Equal(t.expires) {
		m.Fatalf("push: accepted %v, expires %v; not %v and %v", i.Accepted, i.Expires, t.accepted, t.expires)
	}
}

// flood is more messages than a client may have unacknowledged, or a catch-up takes in one round.
func (m *modelRun) flood() {
	if rapid.IntRange(0, 2).Draw(m.T, "dry") > 0 {
		return
	}
	to := Users(m.known(), m.known())
	for range rapid.IntRange(60, 140).Draw(m.T, "messages") {
		m.pushes++
		m.send(Message{To: to, Body: fmt.Appendf(nil, "m%d", m.pushes), Lifetime: week})
	}
	m.exact = nil
}

// task is one of the latest, or none.
func (m *modelRun) task() *naiveTask {
	if len(m.n.tasks) == 0 {
		return nil
	}
	from := max(0, len(m.n.tasks)-12)
	return m.n.tasks[rapid.IntRange(from, len(m.n.tasks)-1).Draw(m.T, "task")]
}

func (m *modelRun) withdraw() {
	t := m.task()
	if t == nil {
		if err := m.p.Withdraw(m.ctx, "0000000000000001000000000000abcd"); !errors.Is(err, ErrUnknownTask) {
			m.Fatalf("withdraw nothing: %v", err)
		}
		return
	}
	m.drain()
	err := m.p.Withdraw(m.ctx, t.id)
	if t.forgotten {
		m.sameError(err, ErrUnknownTask, "withdraw")
		return
	}
	m.must(err, "withdraw")
	moment := m.log.mark()
	m.ended = true
	racing := !m.calm || !t.expires.After(m.now())
	for _, g := range t.audience {
		if g.closed == 0 {
			g.closed = moment
		}
		if g.pending {
			g.pending = false
			t.withdrawn++
		}
	}
	t.unsure = t.unsure || racing && !t.fleeting()
}

func (m *modelRun) connect() {
	id := m.known()
	m.drain()
	c := m.conns[id]
	if c == nil {
		c = &modelConn{since: m.log.mark(), sent: map[uint64]time.Time{}}
	}
	s, err := m.p.Connect(m.ctx, id)
	m.must(err, "connect")
	if m.n.users[id] == nil {
		m.n.apply([]modelOp{{kind: store.OpRegister, id: id}}, m.stamp())
	}
	c.sessions = append(c.sessions, s)
	m.conns[id] = c
}

func (m *modelRun) disconnect() {
	ids := slices.Sorted(maps.Keys(m.conns))
	if len(ids) == 0 {
		return
	}
	id := rapid.SampledFrom(ids).Draw(m.T, "connected")
	m.drain()
	c := m.conns[id]
	m.must(c.sessions[0].Close(), "close session")
	if rapid.IntRange(0, 3).Draw(m.T, "twice") == 0 {
		m.must(c.sessions[0].Close(), "close session")
	}
	if c.sessions = c.sessions[1:]; len(c.sessions) == 0 {
		delete(m.conns, id)
	}
}

// closeStale closes a session that means nothing any more.
func (m *modelRun) closeStale() {
	if len(m.stale) > 0 {
		m.must(m.stale[0].Close(), "close session")
		m.stale = m.stale[1:]
	}
}

func (m *modelRun) setHealth() {
	id := m.known()
	h := rapid.SampledFrom([]health{healthy, healthy, healthy, failing, panicking, slow}).Draw(m.T, "health")
	m.log.set(id, h, rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(m.T, "fail once"))
}

func (m *modelRun) ack() {
	t, id := m.task(), m.known()
	if t == nil {
		if err := m.p.Ack(m.ctx, id, "x"); !errors.Is(err, ErrUnknownTask) {
			m.Fatalf("ack nothing: %v", err)
		}
		return
	}
	if m.v.acks && rapid.IntRange(0, 3).Draw(m.T, "what was sent") > 0 { // a client that acknowledges what it got
		if c := m.conns[id]; c != nil {
			for _, w := range m.n.waiting(id) {
				if _, sent := c.sent[w.seq]; sent && rapid.IntRange(0, 4).Draw(m.T, "lost") > 0 {
					m.ackOne(id, w, false)
				}
			}
			return
		}
	}
	m.ackOne(id, t, rapid.IntRange(0, 3).Draw(m.T, "through") == 0)
}

func (m *modelRun) ackOne(id string, t *naiveTask, through bool) {
	m.drain()
	var err error
	if through {
		err = m.p.AckThrough(m.ctx, id, t.id)
	} else {
		err = m.p.Ack(m.ctx, id, t.id)
	}
	switch {
	case t.forgotten:
		m.sameError(err, ErrUnknownTask, "ack")
		return
	case m.n.users[id] == nil:
		m.sameError(err, ErrUnknownUser, "ack")
		return
	}
	m.must(err, "ack")
	moment := m.log.mark()
	for _, x := range m.n.tasks[:t.seq] {
		g := x.audience[id]
		if g == nil || x.fleeting() || x != t && !through {
			continue
		}
		if g.closed == 0 {
			g.closed = moment
		}
		if g.pending {
			g.pending = false
			x.delivered++
			x.unsure = x.unsure || !x.expires.After(m.now())
		}
	}
}

// pass lets time pass: seconds to the whole life of a task.
func (m *modelRun) pass() {
	d := rapid.SampledFrom([]time.Duration{
		time.Second, 4 * time.Second, 31 * time.Second, 2 * time.Minute, time.Hour, 3 * 24 * time.Hour, week, 31 * 24 * time.Hour,
	}).Draw(m.T, "time")
	if d <= 2*time.Minute {
		time.Sleep(d)
		return
	}
	synctest.Wait()
	m.drain()
	m.offset.Add(int64(d))
	time.Sleep(2*sweepEvery + sweepEvery/2)
}

func (m *modelRun) makeBackup() {
	m.settle()
	var b bytes.Buffer
	m.must(m.p.Backup(m.ctx, &b), "backup")
	m.backup, m.backupState = b.Bytes(), m.n.clone()
}

// restore goes on with the last backup, as if nothing had happened since.
func (m *modelRun) restore() {
	if m.backup == nil {
		return
	}
	m.settle()
	m.close()
	dir := m.newDir()
	m.must(Restore(m.ctx, dir, bytes.NewReader(m.backup)), "restore")
	m.n = m.backupState.clone()
	m.reopenAt(dir)
	m.settle()
}

// reopen closes in good order, perhaps in the middle of deliveries.
func (m *modelRun) reopen() {
	m.close()
	m.drain()
	m.raceFleeting()
	m.reopenAt(m.dir)
}

// raceFleeting notes that pushes without retention may have been cut short.
func (m *modelRun) raceFleeting() {
	for _, t := range m.n.tasks {
		t.unsure = t.unsure || t.fleeting() && t.ended.IsZero()
	}
}

// modelKill takes the copy of a directory that a killed process would leave.
type modelKill struct {
	mu     sync.Mutex
	in     int // appends to the journal until then; 0: not armed
	after  bool
	first  bool
	dir    string
	to     string
	log    *modelLog
	fired  bool
	undone bool // before the first append
	err    error
}

type modelJournal struct {
	store.Journal
	k *modelKill
}

func (k *modelKill) wrap(j store.Journal) store.Journal { return &modelJournal{j, k} }

func (j *modelJournal) Append(position uint64, rec []byte, cut uint64) error {
	j.k.strike(false)
	err := j.Journal.Append(position, rec, cut)
	j.k.strike(true)
	return err
}

// strike counts an append, and kills at the one that was chosen, before it or after.
func (k *modelKill) strike(after bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.in == 0 {
		return
	}
	if k.in == 1 && after == k.after {
		k.log.mu.Lock()
		k.log.moment++
		k.log.dead = k.log.moment
		k.log.mu.Unlock()
		k.err = copyAsKilled(k.dir, k.to)
		k.fired, k.undone, k.in = true, k.first && !after, 0
		return
	}
	if after {
		k.in--
		k.first = false
	}
}

// copyAsKilled copies the files as a process that is killed now leaves them, while nothing is
// appended to the journal. The fold may be at work: the copy is taken again until its last
// commit is the same before and after, so that everything that this commit needs is whole.
func copyAsKilled(from, to string) error {
	for {
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		before, err := blocksMetas(from)
		if err != nil {
			return err
		}
		entries, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			b, err := os.ReadFile(filepath.Join(from, e.Name()))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(to, e.Name()), b, 0o600)
			}
			if err != nil {
				return err
			}
		}
		after, err := blocksMetas(from)
		if err != nil || bytes.Equal(before, after) {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
}

// blocksMetas reads the two meta pages of blocks.db.
func blocksMetas(dir string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, "blocks.db"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 2*os.Getpagesize())
	_, err = f.ReadAt(b, 0)
	return b, err
}

// die kills the process between two commands or in the middle of one, and goes on with what it leaves behind.
func (m *modelRun) die() {
	m.settle()
	before := m.n.clone()
	k := &m.kill
	k.mu.Lock()
	k.in = rapid.IntRange(0, 4).Draw(m.T, "appends until the kill")
	k.after = rapid.Bool().Draw(m.T, "after the append")
	k.first, k.fired, k.undone, k.err = true, false, false, nil
	k.dir, k.to, k.log = m.dir, m.newDir(), m.log
	armed := k.in > 0
	k.mu.Unlock()
	if armed {
		list := []func(){m.push, m.push, m.connect, m.batch, m.importUsers, m.ackAny, m.withdraw, m.pass, m.names, m.single}
		rapid.SampledFrom(list).Draw(m.T, "killed in")()
		if rapid.Bool().Draw(m.T, "while folding") {
			m.must(m.p.store.Checkpoint(m.ctx), "checkpoint")
		}
		for synctest.Wait(); !m.log.idle(); synctest.Wait() {
			time.Sleep(100 * time.Millisecond)
		}
	}
	k.mu.Lock()
	k.in = 0
	fired, undone := k.fired, k.undone
	k.mu.Unlock()
	if !fired {
		m.drain()
		k.err = copyAsKilled(m.dir, k.to)
	}
	m.must(k.err, "copy")
	m.close()
	if undone {
		m.n = before
	}
	delivered := m.drain()
	if fired {
		m.raceFleeting()
		for _, e := range delivered {
			if t := m.n.tasks[e.m.Sequence-1]; e.ok && !t.fleeting() && !m.v.acks {
				t.unsure, t.audience[e.user].unsure = true, true
			}
		}
	}
	m.reopenAt(k.to)
	synctest.Wait()
	m.findOut()
	m.settle()
}

func (m *modelRun) ackAny() {
	if t := m.task(); t != nil {
		m.ackOne(m.known(), t, rapid.Bool().Draw(m.T, "through"))
	}
}

// findOut asks whether deliveries before a kill were committed: only these may come again.
func (m *modelRun) findOut() {
	for _, id := range slices.Sorted(maps.Keys(m.n.users)) {
		waits := map[uint64]bool{}
		for x, err := range m.p.Pending(m.ctx, id) {
			m.must(err, "pending")
			waits[x.Sequence] = true
		}
		for _, t := range m.n.tasks {
			if g := t.audience[id]; g != nil && g.unsure && !g.pending && waits[t.seq] && g.closed == 0 {
				g.pending = true
				t.delivered--
			}
		}
	}
	for _, t := range m.n.tasks {
		for _, g := range t.audience {
			g.unsure = false
		}
	}
}

// settle waits until nothing is under way any more but retries to users whose transport fails.
func (m *modelRun) settle() {
	m.Helper()
	for range 400 {
		synctest.Wait()
		if !m.log.idle() {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		m.drain()
		wait := time.Duration(0)
		for id := range m.paused {
			if h, _ := m.log.of(id); m.conns[id] == nil || h == healthy || h == slow {
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
		if m.v.acks && m.ended { // an ended message leaves the window of unacknowledged ones at the next sweep
			m.ended, wait = false, max(wait, 2*sweepEvery)
		}
		if wait == 0 {
			if m.expire(); m.v.acks && m.ended {
				continue
			}
			m.ended, m.calm = false, true
			return
		}
		time.Sleep(wait)
	}
	m.Fatalf("it does not come to rest: deliveries at rest %v, paused %v, ended %v", m.log.idle(), m.paused, m.ended)
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
				g.closed = moment
			}
			g.late = g.late || g.closed > 0
		}
	}
}

// drain looks at each delivery since the last time.
func (m *modelRun) drain() []modelEvent {
	m.Helper()
	events, illegal := m.log.take()
	if len(illegal) > 0 {
		m.Fatalf("%s", illegal)
	}
	slices.SortFunc(events, func(x, y modelEvent) int { return cmp.Compare(x.begin, y.begin) })
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
	g := t.audience[e.user]
	switch {
	case t.id != e.m.ID || t.body != string(e.m.Body) || !t.accepted.Equal(e.m.Accepted) || !t.expires.Equal(e.m.Expires):
		m.Fatalf("%s got %+v; accepted was %+v", e.user, e.m, t)
	case g == nil:
		m.Fatalf("%s got %s and is not in the audience", e.user, t.body)
	case !t.fleeting() && !e.at.Before(t.expires):
		m.Fatalf("%s got %s after its expiry", e.user, t.body)
	case g.closed > 0 && e.begin > g.closed:
		if g.late {
			m.Fatalf("%s got %s after an ack, the end of the task, or unregistering", e.user, t.body)
		}
		g.late = true // it may have begun before, but for the first line of Deliver
	}
	if !e.ok {
		if m.conns[e.user] != nil {
			m.paused[e.user] = true
		}
		return
	}
	if g.got == 0 {
		for _, later := range m.n.tasks[seq:] {
			if x := later.audience[e.user]; x != nil && x.got > 0 {
				m.Fatalf("%s got %s after %s", e.user, t.body, later.body)
			}
		}
	}
	g.got++
	switch {
	case t.fleeting():
		if t.delivered++; g.got > 1 {
			m.Fatalf("%s got %s, which has no retention, twice", e.user, t.body)
		}
	case m.v.acks:
		m.sentAgain(e, t)
	case g.pending:
		g.pending = false
		t.delivered++
		t.unsure = t.unsure || !e.until.Before(t.expires)
	case g.got > 1:
		m.Fatalf("%s got %s twice", e.user, t.body)
	}
}

// sentAgain wants a reason for a message that is sent again on the same connection.
func (m *modelRun) sentAgain(e *modelEvent, t *naiveTask) {
	m.Helper()
	c := m.conns[e.user]
	if c == nil || e.begin < c.since {
		return
	}
	if at, again := c.sent[t.seq]; again {
		overdue := false
		for seq, at := range c.sent {
			x := m.n.tasks[seq-1].audience[e.user]
			overdue = overdue || x.pending && e.at.Sub(at) >= 30*time.Second
		}
		if !overdue {
			m.Fatalf("%s got %s again after %v, and nothing is overdue", e.user, t.body, e.at.Sub(at))
		}
		clear(c.sent) // a new round, from the lowest
	}
	c.sent[t.seq] = e.at
}

// compare wants the same answers of both.
func (m *modelRun) compare() {
	m.Helper()
	for i := range modelIDs {
		m.compareUser(fmt.Sprintf("u%02d", i))
	}
	names, err := m.p.AttributeNames(m.ctx)
	m.must(err, "names")
	if !maps.Equal(names, m.n.names) {
		m.Fatalf("names %v, not %v", names, m.n.names)
	}
	if got := m.p.Online(); got != len(m.conns) {
		m.Fatalf("%d online, not %d", got, len(m.conns))
	}
	m.compareTasks()
	m.compareMembers(All())
	m.compareMembers(m.audience(2))
	m.exact = nil
}

func (m *modelRun) compareMembers(a Audience) {
	m.Helper()
	want, named := m.n.members(a)
	count, err := m.p.Count(m.ctx, a)
	got := []string{}
	var err2 error
	for id, err := range m.p.Members(m.ctx, a) {
		if err2 = err; err == nil {
			got = append(got, id)
		}
	}
	if !named {
		m.sameError(err, ErrUnnamedAttribute, "count")
		m.sameError(err2, ErrUnnamedAttribute, "members")
		return
	}
	m.must(errors.Join(err, err2), "members")
	if !slices.Equal(got, want) || count != int64(len(want)) {
		m.Fatalf("%s: %v (counted %d), not %v", a, got, count, want)
	}
}

func (m *modelRun) compareUser(id string) {
	m.Helper()
	want := m.n.users[id]
	got, err := m.p.User(m.ctx, id)
	waits := []*transport.Message{}
	var err2 error
	for x, err := range m.p.Pending(m.ctx, id) {
		if err2 = err; err == nil {
			waits = append(waits, x)
		}
	}
	if want == nil {
		m.sameError(err, ErrUnknownUser, "user")
		m.sameError(err2, ErrUnknownUser, "pending")
		return
	}
	m.must(errors.Join(err, err2), "user")
	attrs := map[string]string{}
	for slot, value := range want.attrs {
		if name, ok := m.n.names[slot]; ok {
			attrs[name] = value
		}
	}
	if got.ID != id || !slices.Equal(got.Tags, slices.Sorted(maps.Keys(want.tags))) || !maps.Equal(got.Attributes, attrs) ||
		!slices.EqualFunc(got.Devices, want.devices, sameDevice) || !got.Registered.Equal(want.registered) {
		m.Fatalf("user %+v, not %+v with attributes %v", got, want, attrs)
	}
	list := m.n.waiting(id)
	if !slices.EqualFunc(waits, list, func(x *transport.Message, t *naiveTask) bool { return x.ID == t.id && string(x.Body) == t.body }) {
		m.Fatalf("%s waits for %q, not for %q", id, bodies(waits), modelBodies(list))
	}
	m.compareDelivered(id, list)
}

func sameDevice(x, y Device) bool {
	at := x.Registered.Equal(y.Registered)
	x.Registered, y.Registered = time.Time{}, time.Time{}
	return x == y && at
}

func modelBodies(list []*naiveTask) []string {
	out := []string{}
	for _, t := range list {
		out = append(out, t.body)
	}
	return out
}

// compareDelivered wants everything that a healthy connected user waits for to be there, or on its way.
func (m *modelRun) compareDelivered(id string, waits []*naiveTask) {
	m.Helper()
	c := m.conns[id]
	h, once := m.log.of(id)
	if c == nil || h != healthy && h != slow || once > 0 {
		return
	}
	if t := m.exact; t != nil && t.audience[id] != nil && t.audience[id].got == 0 && (!m.v.acks || len(waits) < maxUnacked) {
		m.Fatalf("%s was live and did not get %s", id, t.body)
	}
	if !m.v.acks {
		if len(waits) > 0 {
			m.Fatalf("%s is connected and waits for %q", id, modelBodies(waits))
		}
		return
	}
	for i, t := range waits {
		if _, sent := c.sent[t.seq]; sent != (i < maxUnacked) {
			m.Fatalf("%s waits for %d messages; %s, number %d of them, is on its way: %v", id, len(waits), t.body, i, sent)
		}
	}
}

func (m *modelRun) compareTasks() {
	m.Helper()
	var want []string
	for _, t := range slices.Backward(m.n.tasks) {
		task, err := m.p.Task(m.ctx, t.id)
		if t.forgotten {
			m.sameError(err, ErrUnknownTask, "task")
			continue
		}
		m.must(err, "task")
		want = append(want, t.id)
		g, err := task.Progress()
		m.must(err, "progress")
		m.compareProgress(t, g)
	}
	var got []string
	for x, err := range m.p.Tasks(m.ctx) {
		m.must(err, "tasks")
		got = append(got, x.ID)
	}
	if !slices.Equal(got, want) {
		m.Fatalf("tasks %v, not %v", got, want)
	}
}

func (m *modelRun) compareProgress(t *naiveTask, g Progress) {
	m.Helper()
	total := int64(len(t.audience))
	if g.Total != total || g.Delivered+g.Failed+g.Pending+g.Expired+g.Withdrawn+g.Gone != total {
		m.Fatalf("%s: %+v does not add up to %d", t.body, g, total)
	}
	if g.Ended.IsZero() != (t.pending() > 0) || !t.ended.IsZero() && !g.Ended.Equal(t.ended) {
		m.Fatalf("%s: ended %v, before that %v, with %d pending", t.body, g.Ended, t.ended, t.pending())
	}
	t.ended = g.Ended
	if t.unsure || t.fleeting() && t.failed+t.expired == 0 {
		if g.Pending != t.pending() || t.fleeting() && !t.unsure && g.Delivered != t.delivered {
			m.Fatalf("%s: %+v; the model has %+v", t.body, g, t)
		}
		t.delivered, t.expired, t.withdrawn, t.gone, t.failed = g.Delivered, g.Expired, g.Withdrawn, g.Gone, g.Failed
		t.unsure = false
	}
	want := Progress{
		Total: total, Delivered: t.delivered, Failed: t.failed, Pending: t.pending(), Expired: t.expired,
		Withdrawn: t.withdrawn, Gone: t.gone, Ended: g.Ended,
	}
	if g.Phones = nil; fmt.Sprint(g) != fmt.Sprint(want) {
		m.Fatalf("%s: %+v, not %+v", t.body, g, want)
	}
}
