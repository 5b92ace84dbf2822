package fanfare

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfare-im/fanfare/store"
)

// actions are what a script is made of. Some stand twice to come more often.
func (m *modelRun) actions() map[string]func(*rapid.T) {
	do := func(f func()) func(*rapid.T) {
		return func(t *rapid.T) {
			m.exact = nil
			m.choose()
			f()
			m.follow()
			m.calm = false
			if rapid.IntRange(0, 3).Draw(m.T, "hurry") > m.hurry() {
				m.settle()
				m.compare()
			}
		}
	}
	all := map[string]func(*rapid.T){
		"user":       do(m.single),
		"user 2":     do(m.single),
		"batch":      do(m.batch),
		"import":     do(m.importUsers),
		"names":      do(m.names),
		"save":       do(m.save),
		"push":       do(m.push),
		"push 2":     do(m.push),
		"push 3":     do(m.push),
		"flood":      do(m.flood),
		"withdraw":   do(m.withdraw),
		"plan":       do(m.plan),
		"steer":      do(m.steer),
		"task":       do(m.withdrawTask),
		"spoil":      do(m.spoil),
		"leave":      do(m.leave),
		"connect":    do(m.connect),
		"connect 2":  do(m.connect),
		"disconnect": do(m.disconnect),
		"stale":      do(m.closeStale),
		"health":     do(m.setHealth),
		"ack":        do(m.ack),
		"ack 2":      do(m.ack),
		"opened":     do(m.opened),
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
	if m.v.nodes > 0 {
		m.clusterActions(all, do)
	}
	if m.v.plans { // fewer of the rest
		for _, name := range []string{"ack 2", "checkpoint", "check", "compact", "flood", "health", "kill 2", "opened", "push 2", "push 3", "stale"} {
			delete(all, name)
		}
		for _, name := range []string{"plan", "steer", "time"} {
			for i := range 3 {
				all[fmt.Sprint(name, " ", 2+i)] = all[name]
			}
		}
	}
	for name, f := range all {
		all[name] = func(t *rapid.T) {
			m.counts.add("action: " + strings.TrimRight(name, " 234"))
			f(t)
		}
	}
	return all
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
	names := []string{"tier", "city", "tier", "city", "tier", "city", "age", "age", "age", "size", "nothing"}
	attrs := rapid.MapOfN(rapid.SampledFrom(names), rapid.SampledFrom(modelValues), 1, 2).Draw(m.T, "attributes")
	if _, has := attrs["age"]; has {
		attrs["age"] = rapid.SampledFrom([]string{"-2.5", "0", "07", "1.0", "3", "300", "-1", "2.25", "old"}).Draw(m.T, "age")
	}
	return attrs
}

func (m *modelRun) devices() []Device {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Device {
		return Device{
			Platform: rapid.SampledFrom([]string{"apns", "fcm"}).Draw(t, "platform"),
			Token:    rapid.SampledFrom([]string{"t1", "t2", "t3", "t4"}).Draw(t, "token"),
			Topic:    rapid.SampledFrom([]string{"", "app"}).Draw(t, "topic"),
			Locale:   rapid.SampledFrom([]string{"", "zh", "ZH_hant-TW", "de_CH"}).Draw(t, "locale"),
			TimeZone: rapid.SampledFrom([]string{"", "UTC", "Asia/Shanghai", "America/Phoenix", "Pacific/Kiritimati", "Mars/Olympus"}).Draw(t, "zone"),
		}
	}), 1, 2).Draw(m.T, "devices")
}

func (m *modelRun) op() modelOp {
	kinds := []store.OpKind{
		store.OpRegister, store.OpAddTags, store.OpAddTags, store.OpSetAttrs, store.OpSetAttrs, store.OpPutDevices, store.OpPutDevices,
		store.OpOptOut, store.OpOptIn, store.OpRemoveTags, store.OpClearTags, store.OpRemoveAttrs, store.OpRemoveDevices, store.OpUnregister,
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
	case store.OpOptOut, store.OpOptIn:
		o.tags = rapid.SliceOfN(rapid.SampledFrom([]string{"offers", "games", "news"}), 1, 2).Draw(m.T, "categories")
	case store.OpSetAttrs:
		o.attrs = m.attrs()
	case store.OpRemoveAttrs:
		o.names = []string{rapid.SampledFrom([]string{"tier", "city", "age", "size"}).Draw(m.T, "name")}
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
		case store.OpOptOut:
			return m.p.OptOut(m.ctx, o.id, o.tags...)
		case store.OpOptIn:
			return m.p.OptIn(m.ctx, o.id, o.tags...)
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
		case store.OpOptOut:
			b.OptOut(o.id, o.tags...)
		case store.OpOptIn:
			b.OptIn(o.id, o.tags...)
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
	var value *ValueError
	var plan *planError
	same := errors.Is(err, want)
	switch want {
	case nil:
		same = err == nil
	case errModelLimit:
		same = errors.As(err, &limit)
	case errModelValue:
		same = errors.As(err, &value)
	case errModelPlan:
		same = errors.As(err, &plan)
	}
	if !same {
		m.Fatalf("%s: %v, not %v", what, err, want)
	}
}

// left does what follows when users are unregistered.
func (m *modelRun) left(gone []*naiveUser) {
	moment := m.log.mark()
	for _, u := range gone {
		for _, t := range m.n.tasks {
			if g := t.audience[u.id]; g != nil && g.closed == 0 {
				g.closed, g.at = moment, m.position()
				t.unsure = t.unsure || !m.calm && !t.fleeting()
			}
		}
		for _, c := range slices.Clone(m.conns[u.id]) {
			m.stale = append(m.stale, c.sessions...)
			c.gone = true
			m.over(c)
		}
	}
}

func (m *modelRun) importUsers() {
	count := rapid.IntRange(1, 8).Draw(m.T, "users")
	replace := rapid.IntRange(0, 2).Draw(m.T, "replace") == 1
	var ops []modelOp
	var users []User
	for range count {
		o := modelOp{kind: store.OpPut, id: m.id(), replace: replace}
		if rapid.Bool().Draw(m.T, "with tags") {
			o.tags = m.tags()
		}
		if rapid.Bool().Draw(m.T, "with attributes") {
			o.attrs = map[string]string{"tier": rapid.SampledFrom(modelValues).Draw(m.T, "value")}
		}
		if rapid.IntRange(0, 3).Draw(m.T, "with device") == 0 {
			o.devices = m.devices()
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
	stats, err := m.p.Import(m.ctx, iter.Seq2[User, error](seq), &ImportOptions{Replace: replace})
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
	kind := rapid.IntRange(0, 15).Draw(m.T, "audience")
	if depth <= 0 && kind > 5 && kind < 9 || depth < 0 && kind == 15 {
		kind -= 3
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
		names := []string{"tier", "tier", "city", "city", "age", "city", "tier", "age", "size", "nothing"}
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
	case 9:
		compare := rapid.SampledFrom([]func(string, string) Audience{AttrLess, AttrAtMost, AttrMore, AttrAtLeast}).Draw(m.T, "comparison")
		return compare("age", modelBounds.Draw(m.T, "bound"))
	case 10:
		return AttrBetween("age", modelBounds.Draw(m.T, "low"), modelBounds.Draw(m.T, "high"))
	case 11:
		return HasAttr(rapid.SampledFrom([]string{"age", "city", "tier", "age", "city", "tier", "nothing"}).Draw(m.T, "any"))
	case 12:
		return Language(rapid.SampledFrom([]string{"zh", "ZH-hant", "zh_Hant_TW", "de", "fr"}).Draw(m.T, "language"))
	case 13:
		return TimeZone(rapid.SampledFrom([]string{"UTC", "Asia/Shanghai", "utc"}).Draw(m.T, "zone"))
	case 14:
		days := rapid.IntRange(1, 40).Draw(m.T, "days")
		switch rapid.IntRange(0, 3).Draw(m.T, "of what") {
		case 0:
			return RegisteredWithin(days)
		case 1:
			return RegisteredSince(m.now().AddDate(0, 0, -days))
		}
		return SeenWithin(days)
	case 15:
		return Saved(rapid.SampledFrom([]string{"s1", "s2"}).Draw(m.T, "saved"))
	case 6:
		return m.audience(depth - 1).And(others()...)
	case 7:
		return m.audience(depth - 1).Or(others()...)
	}
	return m.audience(depth - 1).Not()
}

// save saves an audience, or takes one away.
func (m *modelRun) save() {
	name := rapid.SampledFrom([]string{"s1", "s2"}).Draw(m.T, "saved")
	if rapid.IntRange(0, 3).Draw(m.T, "delete") == 0 {
		_, there := m.n.saved[name]
		err := m.p.DeleteAudience(m.ctx, name)
		if delete(m.n.saved, name); !there {
			m.sameError(err, ErrUnknownAudience, "delete an audience")
			return
		}
		m.must(err, "delete an audience")
		return
	}
	a := m.audience(-1)
	m.must(m.p.SaveAudience(m.ctx, name, a), "save an audience")
	m.n.saved[name] = a
}

func (m *modelRun) push() {
	msg := Message{To: m.audience(2), Category: m.category(), Lifetime: rapid.SampledFrom([]time.Duration{
		0, 0, 3 * time.Second, time.Minute, time.Hour, week, week, week, week,
	}).Draw(m.T, "lifetime")}
	if rapid.IntRange(0, 4).Draw(m.T, "to all") == 0 {
		msg.To = All()
	}
	if rapid.IntRange(0, 4).Draw(m.T, "keyed") == 0 {
		msg.Key = rapid.SampledFrom([]string{"k1", "k2"}).Draw(m.T, "key")
		msg.From = rapid.SampledFrom([]string{"", "op"}).Draw(m.T, "from")
		if m.taken++; m.taken%2 == 0 { // the same content again
			msg.To, msg.Lifetime, msg.Body, msg.Category = All(), week, []byte("keyed"), ""
		}
	}
	if msg.Body == nil {
		m.pushes++
		msg.Body = fmt.Appendf(nil, "m%d", m.pushes)
	}
	m.send(msg)
}

// category is none as often as not.
func (m *modelRun) category() string {
	return rapid.SampledFrom([]string{"offers", "", "", "", "games", "news"}).Draw(m.T, "category")
}

func (m *modelRun) send(msg Message) {
	m.Helper()
	at := m.stamp()
	task, err := m.p.Push(m.ctx, msg)
	m.sent(msg, at, task, err)
}

// sent notes a push that was made at a time, and what was answered.
func (m *modelRun) sent(msg Message, at time.Time, task *Task, err error) {
	m.Helper()
	t, dup, wrong := m.n.push(msg.From, msg, at)
	if m.sameError(err, wrong, "push"); wrong != nil {
		return
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
	m.withdrawn(t)
}

// withdrawn notes that a task is.
func (m *modelRun) withdrawn(t *naiveTask) {
	moment := m.log.mark()
	m.ended = true
	racing := !m.calm || !t.expires.After(m.now())
	for _, g := range t.audience {
		if g.closed == 0 {
			g.closed, g.at = moment, m.position()
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
	m.connectUser(id)
}

// connectUser connects a user again where there is a connection, or elsewhere, too.
func (m *modelRun) connectUser(id string) {
	if list := m.conns[id]; len(list) > 0 && !rapid.Bool().Draw(m.T, "elsewhere too") && !m.reach(list[0].node) {
		return
	}
	m.connectTo(id)
}

// connectTo connects a user to the node that is spoken to.
func (m *modelRun) connectTo(id string) {
	list, node := m.conns[id], m.spokenTo()
	at := slices.IndexFunc(list, func(c *modelConn) bool { return c.node == node })
	if at < 0 {
		c := &modelConn{user: id, since: m.log.mark(), got: map[uint64]bool{}, sent: map[uint64]time.Time{}, node: node, by: m.online}
		if node != nil {
			c.by = node.online
		}
		if at = len(list); at > 0 {
			m.counts.add("connected to two nodes")
		}
		list = append(list, c)
	}
	s, err := m.p.Connect(m.ctx, id)
	m.must(err, "connect")
	if m.n.users[id] == nil {
		m.n.apply([]modelOp{{kind: store.OpRegister, id: id}}, m.stamp())
	}
	m.n.users[id].seen = modelDay(m.now())
	list[at].sessions = append(list[at].sessions, s)
	m.conns[id] = list
}

func (m *modelRun) disconnect() {
	list := m.connections()
	if len(list) == 0 {
		return
	}
	c := list[rapid.IntRange(0, len(list)-1).Draw(m.T, "connected")]
	m.drain()
	m.must(c.sessions[0].Close(), "close session")
	if rapid.IntRange(0, 3).Draw(m.T, "twice") == 0 {
		m.must(c.sessions[0].Close(), "close session")
	}
	if c.sessions = c.sessions[1:]; len(c.sessions) == 0 {
		m.over(c)
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
		if list := m.conns[id]; len(list) > 0 {
			c := list[0]
			if len(list) > 1 {
				c = list[rapid.IntRange(0, len(list)-1).Draw(m.T, "connection")]
			}
			var got []*naiveTask
			for _, w := range m.n.waiting(id) {
				if _, sent := c.sent[w.seq]; sent && rapid.IntRange(0, 4).Draw(m.T, "lost") > 0 {
					got = append(got, w)
				}
			}
			if len(got) > 0 && rapid.Bool().Draw(m.T, "in one") {
				m.ackSeveral(id, got)
				return
			}
			for _, w := range got {
				m.ackOne(id, w, false)
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
		if x == t || through {
			m.has(id, x, moment)
		}
	}
}

// ackSeveral acknowledges messages in one call, in any order, one of them twice.
func (m *modelRun) ackSeveral(id string, list []*naiveTask) {
	m.drain()
	var ids []string
	for _, t := range rapid.Permutation(list).Draw(m.T, "order") {
		ids = append(ids, t.id)
	}
	m.must(m.p.Ack(m.ctx, id, ids[0], ids...), "ack several")
	moment := m.log.mark()
	for _, x := range list {
		m.has(id, x, moment)
	}
}

// opened has anybody open a message, in its audience or not.
func (m *modelRun) opened() {
	t, id := m.task(), m.known()
	if t == nil {
		return
	}
	m.drain()
	err := m.p.Opened(m.ctx, id, t.id)
	switch {
	case t.forgotten:
		m.sameError(err, ErrUnknownTask, "opened")
	case m.n.users[id] == nil:
		m.sameError(err, ErrUnknownUser, "opened")
	default:
		m.must(err, "opened")
		t.opened[m.n.users[id].ordinal] = true
	}
}

// has notes that a user has a message.
func (m *modelRun) has(id string, x *naiveTask, moment int) {
	g := x.audience[id]
	if g == nil || x.fleeting() {
		return
	}
	switch {
	case g.closed > 0:
	case !m.v.acks && m.twoNodes(id): // a delivery may have counted before, and then there was nothing to acknowledge
		g.loose = true
	default:
		g.closed, g.at = moment, m.position()
	}
	if g.pending {
		g.pending = false
		x.delivered++
		x.unsure = x.unsure || !x.expires.After(m.now())
	}
}

// pass lets time pass: seconds to the whole life of a task.
func (m *modelRun) pass() {
	d := rapid.SampledFrom([]time.Duration{
		time.Second, 4 * time.Second, 31 * time.Second, 2 * time.Minute, time.Hour, time.Hour, 6 * time.Hour, 3 * 24 * time.Hour, week, 31 * 24 * time.Hour,
	}).Draw(m.T, "time")
	if d <= 2*time.Minute {
		m.sleep(d)
		return
	}
	if !m.calm {
		m.settle()
		m.compareTasks() // takes note of when they ended, before they are forgotten
	}
	m.offset.Add(int64(d))
	m.floor = m.stamp()
	m.poke()
	m.follow()
	m.sleep(2*sweepEvery + sweepEvery/2)
}

func (m *modelRun) makeBackup() {
	m.settle()
	m.compareTasks() // takes note of when they ended, for it may be restored after they are forgotten
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
	down := rapid.SampledFrom([]time.Duration{0, 0, 0, 0, 5 * time.Second, 40 * time.Second, 90 * time.Minute, 30 * time.Hour}).Draw(m.T, "down")
	m.offset.Add(int64(down))
	m.reopenAt(m.dir)
}

// raceFleeting notes that pushes without retention may have been cut short.
func (m *modelRun) raceFleeting() {
	for _, t := range m.n.tasks {
		t.unsure = t.unsure || t.fleeting() && t.ended.IsZero()
	}
}
