package fanfare

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// compare wants the same answers of both.
func (m *modelRun) compare() {
	m.Helper()
	if m.v.nodes == 0 {
		m.compareOne()
		return
	}
	for _, n := range m.nodes {
		if n.up() && !n.cut {
			m.speakTo(n)
			m.compareOne()
			m.compareOwed()
		}
	}
	m.exact = nil
	m.choose()
}

func (m *modelRun) compareOne() {
	m.Helper()
	for i := range modelIDs {
		m.compareUser(fmt.Sprintf("u%02d", i))
	}
	names, err := m.p.AttributeNames(m.ctx)
	m.must(err, "names")
	if !maps.Equal(names, m.n.names) {
		m.Fatalf("names %v, not %v", names, m.n.names)
	}
	if got := m.p.Online(); got != m.connected() {
		m.Fatalf("%d online, not %d", got, m.connected())
	}
	m.compareTasks()
	m.comparePlans()
	m.compareNames()
	m.compareMembers(All())
	m.compareMembers(m.audience(2))
	if m.v.nodes == 0 {
		m.exact = nil
	}
}

// compareNames wants what is in use, and how often.
func (m *modelRun) compareNames() {
	m.Helper()
	tags, zones, languages, cities := map[string]int64{}, map[string]int64{}, map[string]int64{}, map[string]int64{}
	for _, u := range m.n.users {
		for tag := range u.tags {
			if strings.HasPrefix(tag, "gr") {
				tags[tag]++
			}
		}
		of := map[string]bool{}
		for _, d := range u.devices {
			of[d.TimeZone] = d.TimeZone != ""
		}
		for zone, is := range of {
			if is {
				zones[zone]++
			}
		}
		for _, tag := range []string{"de", "de-CH", "zh", "zh-Hant", "zh-Hant-TW"} {
			if u.speaks(tag) {
				languages[tag]++
			}
		}
		slot, named := m.n.slot("city")
		if value, has := u.attrs[slot]; named && has {
			cities[value]++
		}
	}
	for what, c := range map[string]struct {
		got  iter.Seq2[NameCount, error]
		want map[string]int64
	}{
		"tags": {m.p.TagNames(m.ctx, "gr"), tags}, "time zones": {m.p.TimeZones(m.ctx), zones}, "languages": {m.p.Languages(m.ctx), languages},
		"cities": {m.p.AttributeValues(m.ctx, "city", ""), cities},
	} {
		got, last := map[string]int64{}, ""
		for n, err := range c.got {
			if _, named := m.n.slot("city"); what == "cities" && !named {
				m.sameError(err, ErrUnnamedAttribute, what)
				break
			}
			if m.must(err, what); n.Name <= last {
				m.Fatalf("%s: %s after %s", what, n.Name, last)
			}
			got[n.Name], last = n.Users, n.Name
		}
		if !maps.Equal(got, c.want) {
			m.Fatalf("%s: %v, not %v", what, got, c.want)
		}
	}
	var saved []string
	for s, err := range m.p.SavedAudiences(m.ctx) {
		m.must(err, "saved audiences")
		saved = append(saved, s.Name+": "+s.Audience.String())
	}
	want := []string(nil)
	for _, name := range slices.Sorted(maps.Keys(m.n.saved)) {
		want = append(want, name+": "+m.n.saved[name].String())
	}
	if !slices.Equal(saved, want) {
		m.Fatalf("saved: %q, not %q", saved, want)
	}
}

func (m *modelRun) compareMembers(a Audience) {
	m.Helper()
	want, wrong := m.n.members(a)
	count, err := m.p.Count(m.ctx, a)
	got := []string{}
	var err2 error
	for id, err := range m.p.Members(m.ctx, a) {
		if err2 = err; err == nil {
			got = append(got, id)
		}
	}
	if wrong != nil {
		m.sameError(err, wrong, "count")
		m.sameError(err2, wrong, "members")
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
	if got.ID != id || !slices.Equal(got.Tags, slices.Sorted(maps.Keys(want.tags))) || !slices.Equal(got.OptOuts, slices.Sorted(maps.Keys(want.outs))) || !maps.Equal(got.Attributes, attrs) ||
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
	if h, once := m.log.of(id); h != healthy && h != slow || once > 0 {
		return
	}
	for _, c := range m.conns[id] {
		if c.node == nil || !c.node.cut {
			m.compareConnection(c, waits)
		}
	}
}

func (m *modelRun) compareConnection(c *modelConn, waits []*naiveTask) {
	m.Helper()
	id := c.user
	if t := m.exact; t != nil && t.audience[id] != nil && !c.got[t.seq] && !t.audience[id].failed && (!m.v.acks || len(waits) < maxUnacked) {
		m.Fatalf("%s was live and did not get %s", id, t.body)
	}
	if !m.v.acks {
		if len(waits) > 0 {
			m.Fatalf("%s is connected and waits for %q", id, modelBodies(waits))
		}
		if c.from == 0 {
			return
		}
		for _, t := range m.n.tasks[c.from-1:] {
			if g := t.audience[id]; g != nil && g.closed == 0 && !g.loose && !t.fleeting() && !c.got[t.seq] {
				m.Fatalf("%s did not get %s on its connection to node %d", id, t.body, c.index())
			}
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

func (t *naiveTask) progress() Progress {
	return Progress{
		Total: int64(len(t.audience)), Delivered: t.delivered, Failed: t.failed, Pending: t.pending(), Expired: t.expired, Withdrawn: t.withdrawn,
		Gone: t.gone, OptedOut: t.optedOut, Capped: t.capped, Ended: t.ended, Opened: int64(len(t.opened)),
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
	want := t.progress()
	if g.Phones = nil; fmt.Sprint(g) != fmt.Sprint(want) {
		m.Fatalf("%s: %+v, not %+v", t.body, g, want)
	}
}
