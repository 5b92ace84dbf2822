package fanfare

import (
	"cmp"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// naive is what a Pusher promises, in plain maps and without any thought of
// speed: users by ID, tasks by sequence, and who of a task's audience has got what.
type naive struct {
	users  map[string]*naiveUser
	next   uint32 // ordinal of the next user
	names  map[int]string
	tasks  []*naiveTask // by sequence, from 1
	keys   map[string]*naiveTask
	limits Limits
	saved  map[string]Audience
	caps   map[modelWindow]int // messages
	plans  []*naivePlan        // in the order in which they were made
	clock  func() time.Time
}

// modelCaps are the caps of the categories that have some.
var modelCaps = map[string]Cap{"offers": {PerDay: 1, PerWeek: 3}, "games": {PerDay: 2}}

// modelWindow is a day or a week in which the messages of a category to a user count.
type modelWindow struct {
	category string
	ordinal  uint32
	week     bool
	number   int64
}

// ageSlot is the slot of the one attribute that is a number, with a decimal.
const ageSlot = 4

type naiveUser struct {
	id         string
	ordinal    uint32
	registered time.Time
	tags       map[string]bool
	outs       map[string]bool // categories
	attrs      map[int]string
	devices    []Device
	seen       int64 // the last day with a connection, 0 for none
}

type naiveTask struct {
	seq               uint64
	id                string
	body              string
	content           string // what its key stands for
	accepted, expires time.Time
	audience          map[string]*naiveTarget // by user ID: one incarnation each
	delivered         int64
	expired           int64
	withdrawn         int64
	gone              int64
	failed            int64
	optedOut, capped  int64
	plan, variant     string
	opened            map[uint32]bool // by ordinal
	ended             time.Time
	forgotten         bool
	// unsure: an end and a delivery raced, or the process died between a delivery and its commit, so
	// that either count is right; the next comparison finds out which it was.
	unsure bool
}

// naiveTarget is one user of a frozen audience.
type naiveTarget struct {
	pending bool
	unsure  bool           // delivered, and killed before it is known whether that was committed
	got     int            // deliveries that succeeded
	failed  bool           // one did not
	closed  int            // when, in the transport's count, no further delivery may begin; 0 while one may
	at      uint64         // of several nodes, those who have applied so much know it
	by      *modelOnline   // who delivered it first, or, of a message without retention, last
	end     int            // when, if it has retention
	from    []*modelOnline // by whom it was delivered, as often as that
	again   bool           // it was delivered by a node that was cut off, so that it may come again
	beside  []*modelOnline // whose delivery began beside the closing: one each
	loose   bool           // it may come to further connections, or not
	late    bool           // that is long ago
}

func newNaive(l Limits) *naive {
	return &naive{saved: map[string]Audience{}, caps: map[modelWindow]int{}, users: map[string]*naiveUser{}, names: map[int]string{}, keys: map[string]*naiveTask{}, limits: l}
}

func (n *naive) clone() *naive {
	c := *n
	c.users = make(map[string]*naiveUser, len(n.users))
	for id, u := range n.users {
		c.users[id] = u.clone()
	}
	c.names, c.saved, c.caps = maps.Clone(n.names), maps.Clone(n.saved), maps.Clone(n.caps)
	c.plans = make([]*naivePlan, len(n.plans))
	for i, x := range n.plans {
		c.plans[i] = x.clone()
	}
	c.tasks = make([]*naiveTask, len(n.tasks))
	for i, t := range n.tasks {
		x := *t
		x.opened = maps.Clone(t.opened)
		x.audience = make(map[string]*naiveTarget, len(t.audience))
		for id, g := range t.audience {
			y := *g
			x.audience[id] = &y
		}
		c.tasks[i] = &x
	}
	c.keys = make(map[string]*naiveTask, len(n.keys))
	for k, t := range n.keys {
		c.keys[k] = c.tasks[t.seq-1]
	}
	return &c
}

func (u *naiveUser) clone() *naiveUser {
	c := *u
	c.tags, c.outs, c.attrs, c.devices = maps.Clone(u.tags), maps.Clone(u.outs), maps.Clone(u.attrs), slices.Clone(u.devices)
	return &c
}

func (t *naiveTask) fleeting() bool { return t.accepted.Equal(t.expires) }

func (t *naiveTask) pending() int64 {
	count := int64(0)
	for _, g := range t.audience {
		if g.pending {
			count++
		}
	}
	return count
}

// modelOp is one change of one user, in the words of a Batch.
type modelOp struct {
	kind    store.OpKind
	id      string
	tags    []string // or categories
	attrs   map[string]string
	names   []string
	devices []Device
	replace bool // tags and attributes
}

var (
	errModelLimit = errors.New("a limit")
	errModelValue = errors.New("not a value of the type")
)

// modelAge is an age in its canonical form, as far as it is one.
func modelAge(value string) (string, bool) {
	whole, part, _ := strings.Cut(value, ".")
	f, err := strconv.ParseFloat(value, 64)
	return strconv.FormatFloat(f, 'f', -1, 64), err == nil && whole != "" && len(part) < 2
}

func modelDay(at time.Time) int64 { return at.Unix() / (24 * 60 * 60) }

// apply makes the changes, all or none. It returns the index of the refused one, and why.
func (n *naive) apply(ops []modelOp, now time.Time) (gone []*naiveUser, registered, known int, at int, err error) {
	next := n.clone()
	for i, o := range ops {
		u := next.users[o.id]
		if o.kind == store.OpRegister || o.kind == store.OpPut {
			if u != nil {
				known++
			} else {
				registered++
				u = &naiveUser{id: o.id, ordinal: next.next, registered: now.Truncate(time.Second), tags: map[string]bool{}, outs: map[string]bool{}, attrs: map[int]string{}}
				next.next++
				next.users[o.id] = u
			}
		} else if u == nil {
			return nil, 0, 0, i, ErrUnknownUser
		}
		switch o.kind {
		case store.OpUnregister:
			if old := n.users[o.id]; old != nil && old.ordinal == u.ordinal {
				gone = append(gone, old)
			}
			delete(next.users, o.id)
		case store.OpRemoveTags:
			for _, t := range o.tags {
				delete(u.tags, t)
			}
		case store.OpClearTags:
			clear(u.tags)
		case store.OpOptOut, store.OpOptIn:
			for _, category := range o.tags {
				if u.outs[category] = true; o.kind == store.OpOptIn {
					delete(u.outs, category)
				}
			}
		case store.OpRemoveAttrs:
			for _, name := range o.names {
				slot, ok := next.slot(name)
				if !ok {
					return nil, 0, 0, i, ErrUnnamedAttribute
				}
				delete(u.attrs, slot)
			}
		case store.OpRemoveDevices:
			u.removeDevice(o.devices[0])
		}
		if o.replace {
			clear(u.tags)
			for slot, name := range next.names {
				if _, given := o.attrs[name]; name != "" && !given {
					delete(u.attrs, slot)
				}
			}
		}
		for _, name := range slices.Sorted(maps.Keys(o.attrs)) {
			slot, ok := next.slot(name)
			if !ok {
				return nil, 0, 0, i, ErrUnnamedAttribute
			}
			value := o.attrs[name]
			if slot == ageSlot {
				if value, ok = modelAge(value); !ok {
					return nil, 0, 0, i, errModelValue
				}
			}
			u.attrs[slot] = value
		}
		if o.kind == store.OpAddTags || o.kind == store.OpPut {
			for _, t := range o.tags {
				if u.tags[t] = true; len(u.tags) > n.limits.TagsPerUser {
					return nil, 0, 0, i, errModelLimit
				}
			}
		}
		if o.kind == store.OpPutDevices || o.kind == store.OpPut {
			for _, d := range o.devices {
				for _, other := range next.users {
					if other != u {
						other.removeDevice(d)
					}
				}
				d.Registered = now.Truncate(time.Millisecond)
				if i := u.device(d); i >= 0 {
					u.devices[i] = d
				} else if u.devices = append(u.devices, d); len(u.devices) > n.limits.DevicesPerUser {
					return nil, 0, 0, i, errModelLimit
				}
			}
		}
	}
	for _, u := range gone {
		for _, t := range next.tasks {
			if g := t.audience[u.id]; g != nil && g.pending {
				g.pending = false
				t.gone++
			}
		}
	}
	*n = *next
	return gone, registered, known, -1, nil
}

func (u *naiveUser) device(d Device) int {
	return slices.IndexFunc(u.devices, func(x Device) bool { return x.Platform == d.Platform && x.Token == d.Token })
}

func (u *naiveUser) removeDevice(d Device) {
	if i := u.device(d); i >= 0 {
		u.devices = slices.Delete(u.devices, i, i+1)
	}
}

func (n *naive) slot(name string) (int, bool) {
	for slot, x := range n.names {
		if x == name {
			return slot, true
		}
	}
	return 0, false
}

// rename gives slots names; a name twice is refused.
func (n *naive) rename(names map[int]string) bool {
	next := maps.Clone(n.names)
	for slot, name := range names {
		if next[slot] = name; name == "" {
			delete(next, slot)
		}
	}
	seen := map[string]bool{}
	for _, name := range next {
		if seen[name] {
			return false
		}
		seen[name] = true
	}
	n.names = next
	return true
}

// members returns an audience's users in order of registration, or why there are none: a name in it is no attribute's, or no saved audience's.
func (n *naive) members(a Audience) ([]string, error) {
	if err := n.wrong(a.expr, store.OpSaved); err != nil { // which is found first
		return nil, err
	}
	if err := n.wrong(a.expr, 0); err != nil {
		return nil, err
	}
	var in []*naiveUser
	for _, u := range n.users {
		if n.is(a.expr, u) {
			in = append(in, u)
		}
	}
	slices.SortFunc(in, func(x, y *naiveUser) int { return cmp.Compare(x.ordinal, y.ordinal) })
	ids := []string{}
	for _, u := range in {
		ids = append(ids, u.id)
	}
	return ids, nil
}

// wrong says what is wrong with an expression, or with the terms of one operator in it.
func (n *naive) wrong(e *store.Expr, only store.Op) error {
	if e.Op == store.OpSaved {
		a, there := n.saved[e.Value]
		if !there {
			return ErrUnknownAudience
		}
		return n.wrong(a.expr, only)
	}
	if e.Name != "" && only == 0 {
		if _, ok := n.slot(e.Name); !ok {
			return ErrUnnamedAttribute
		}
	}
	for _, a := range e.Args {
		if err := n.wrong(a, only); err != nil {
			return err
		}
	}
	return nil
}

// compare says whether a user's age, if there is one, compares so.
func (u *naiveUser) compare(e *store.Expr) bool {
	value, has := u.attrs[ageSlot]
	number := func(s string) float64 {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			panic(err)
		}
		return f
	}
	if !has {
		return false
	}
	age, bound := number(value), number(e.Value)
	switch e.Op {
	case store.OpLess:
		return age < bound
	case store.OpAtMost:
		return age <= bound
	case store.OpMore:
		return age > bound
	case store.OpAtLeast:
		return age >= bound
	case store.OpBetween:
		return age >= bound && age <= number(e.High)
	}
	return age == bound
}

// speaks says whether the user has a device of a language or a narrower one.
func (u *naiveUser) speaks(tag string) bool {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "-")) + "-" }
	return slices.ContainsFunc(u.devices, func(d Device) bool { return strings.HasPrefix(plain(d.Locale), plain(tag)) })
}

func (n *naive) is(e *store.Expr, u *naiveUser) bool {
	switch e.Op {
	case store.OpAll:
		return true
	case store.OpTag:
		return u.tags[e.Value]
	case store.OpAttr:
		slot, _ := n.slot(e.Name)
		if slot == ageSlot {
			return u.compare(e)
		}
		value, has := u.attrs[slot]
		return has && value == e.Value
	case store.OpLess, store.OpAtMost, store.OpMore, store.OpAtLeast, store.OpBetween:
		return u.compare(e)
	case store.OpHas:
		slot, _ := n.slot(e.Name)
		_, has := u.attrs[slot]
		return has
	case store.OpLanguage:
		return u.speaks(e.Value)
	case store.OpTimeZone:
		return slices.ContainsFunc(u.devices, func(d Device) bool { return d.TimeZone == e.Value })
	case store.OpSeenWithin:
		return u.seen > modelDay(n.clock())-int64(e.Days)
	case store.OpRegisteredWithin:
		return modelDay(u.registered) > modelDay(n.clock())-int64(e.Days)
	case store.OpRegisteredSince:
		return modelDay(u.registered) >= int64(e.Days)
	case store.OpSaved:
		return n.is(n.saved[e.Value].expr, u)
	case store.OpPlatform:
		return slices.ContainsFunc(u.devices, func(d Device) bool { return d.Platform == e.Value })
	case store.OpUsers:
		return slices.Contains(e.IDs, u.id)
	case store.OpSample:
		return naiveSample(e.Value, u.ordinal, uint64(e.PPM))
	case store.OpAnd:
		for _, a := range e.Args {
			if !n.is(a, u) {
				return false
			}
		}
		return true
	case store.OpOr:
		for _, a := range e.Args {
			if n.is(a, u) {
				return true
			}
		}
		return false
	case store.OpNot:
		return !n.is(e.Args[0], u)
	}
	panic("operator")
}

// naiveSample is the sample's hash as docs/format.md has it.
func naiveSample(salt string, ordinal uint32, ppm uint64) bool {
	h := fnv.New64a()
	h.Write([]byte(salt))
	z := h.Sum64() + uint64(ordinal)*0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	z ^= z >> 31
	return ppm == 1_000_000 || z>>32 < ppm<<32/1_000_000
}

// push accepts a message, or finds the task of its key.
func (n *naive) push(from string, m Message, now time.Time) (t *naiveTask, dup bool, err error) {
	if err := n.wrong(m.To.expr, store.OpSaved); err != nil {
		return nil, false, err
	}
	content := strings.Join([]string{string(m.Body), m.To.String(), m.Lifetime.String(), m.Category}, "\x00")
	if m.Key != "" {
		if t := n.keys[from+"\x00"+m.Key]; t != nil && now.Sub(t.accepted) < store.KeyRetention {
			if t.content != content {
				return nil, false, ErrKeyReused
			}
			return t, true, nil
		}
	}
	ids, err := n.members(m.To)
	if err != nil {
		return nil, false, err
	}
	var to []*naiveUser
	for _, id := range ids {
		to = append(to, n.users[id])
	}
	t = n.accept(m, to, now)
	t.content = content
	if m.Key != "" {
		n.keys[from+"\x00"+m.Key] = t
	}
	return t, false, nil
}

// accept makes the task of a message to users, but for those who do not want it, or have had enough.
func (n *naive) accept(m Message, to []*naiveUser, now time.Time) *naiveTask {
	t := &naiveTask{
		seq: uint64(len(n.tasks)) + 1, body: string(m.Body), audience: map[string]*naiveTarget{}, opened: map[uint32]bool{},
		accepted: now, expires: now.Add(m.Lifetime),
	}
	of := modelCaps[m.Category]
	for _, u := range to {
		day := modelWindow{category: m.Category, ordinal: u.ordinal, number: modelDay(now)}
		week := modelWindow{category: m.Category, ordinal: u.ordinal, week: true, number: (modelDay(now) + 3) / 7}
		switch {
		case u.outs[m.Category]:
			t.optedOut++
		case of.PerDay > 0 && n.caps[day] >= of.PerDay, of.PerWeek > 0 && n.caps[week] >= of.PerWeek:
			t.capped++
		default:
			n.caps[day]++
			n.caps[week]++
			t.audience[u.id] = &naiveTarget{pending: m.Lifetime > 0}
		}
	}
	n.tasks = append(n.tasks, t)
	return t
}

// waiting returns the tasks that a user waits for, in order.
func (n *naive) waiting(id string) []*naiveTask {
	var list []*naiveTask
	for _, t := range n.tasks {
		if g := t.audience[id]; g != nil && g.pending {
			list = append(list, t)
		}
	}
	return list
}
