package fanfare

import (
	"cmp"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
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
}

type naiveUser struct {
	id         string
	ordinal    uint32
	registered time.Time
	tags       map[string]bool
	attrs      map[int]string
	devices    []Device
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
	unsure  bool // delivered, and killed before it is known whether that was committed
	got     int  // deliveries that succeeded
	failed  bool // one did not
	closed  int  // when, in the transport's count, no further delivery may begin; 0 while one may
	late    bool // one delivery that began beside the closing has been seen
}

func newNaive(l Limits) *naive {
	return &naive{users: map[string]*naiveUser{}, names: map[int]string{}, keys: map[string]*naiveTask{}, limits: l}
}

func (n *naive) clone() *naive {
	c := *n
	c.users = make(map[string]*naiveUser, len(n.users))
	for id, u := range n.users {
		c.users[id] = u.clone()
	}
	c.names = maps.Clone(n.names)
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
	c.tags, c.attrs, c.devices = maps.Clone(u.tags), maps.Clone(u.attrs), slices.Clone(u.devices)
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
	tags    []string
	attrs   map[string]string
	names   []string
	devices []Device
}

var errModelLimit = errors.New("a limit")

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
				u = &naiveUser{id: o.id, ordinal: next.next, registered: now.Truncate(time.Second), tags: map[string]bool{}, attrs: map[int]string{}}
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
		for name, value := range o.attrs {
			slot, ok := next.slot(name)
			if !ok {
				return nil, 0, 0, i, ErrUnnamedAttribute
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

// members returns an audience's users in order of registration; false if a name in it is no attribute's.
func (n *naive) members(a Audience) ([]string, bool) {
	if !n.named(a.expr) {
		return nil, false
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
	return ids, true
}

func (n *naive) named(e *store.Expr) bool {
	if e.Op == store.OpAttr {
		_, ok := n.slot(e.Name)
		return ok
	}
	for _, a := range e.Args {
		if !n.named(a) {
			return false
		}
	}
	return true
}

func (n *naive) is(e *store.Expr, u *naiveUser) bool {
	switch e.Op {
	case store.OpAll:
		return true
	case store.OpTag:
		return u.tags[e.Value]
	case store.OpAttr:
		slot, _ := n.slot(e.Name)
		value, has := u.attrs[slot]
		return has && value == e.Value
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

// push accepts a message, or finds the task of its key. Reused: the key stands for other content.
func (n *naive) push(from string, m Message, now time.Time) (t *naiveTask, dup, reused, unnamed bool) {
	content := strings.Join([]string{string(m.Body), m.To.String(), m.Lifetime.String()}, "\x00")
	if m.Key != "" {
		if t := n.keys[from+"\x00"+m.Key]; t != nil && now.Sub(t.accepted) < store.KeyRetention {
			if t.content != content {
				return nil, false, true, false
			}
			return t, true, false, false
		}
	}
	ids, ok := n.members(m.To)
	if !ok {
		return nil, false, false, true
	}
	t = &naiveTask{
		seq: uint64(len(n.tasks)) + 1, body: string(m.Body), content: content, audience: map[string]*naiveTarget{}, opened: map[uint32]bool{},
		accepted: now, expires: now.Add(m.Lifetime),
	}
	for _, id := range ids {
		t.audience[id] = &naiveTarget{pending: m.Lifetime > 0}
	}
	n.tasks = append(n.tasks, t)
	if m.Key != "" {
		n.keys[from+"\x00"+m.Key] = t
	}
	return t, false, false, false
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
