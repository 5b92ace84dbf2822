package faulttest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// slack is how long after a call was answered a Deliver may still begin that was decided on before. There is no lock between the two.
const slack = 500 * time.Millisecond

// check returns what is wrong in a history, nothing if each promise was kept:
//
//   - a call is answered within the bound, and an error says whether the change was made;
//   - a push that was acknowledged reaches each user of its audience, and nobody else; one that was refused reaches nobody. Where a call changes what a user is
//     while a push is made, either is right;
//   - a key stands for one task, however often it is pushed;
//   - on each connection messages come in the order of acceptance, and that is the order in which pushes came one after another;
//   - none comes after its ack, as far as the node can know of it, nor twice from one process unless the clients acknowledge;
//   - without a fault, none comes twice to a user who moves;
//   - at rest all nodes have the same.
func (h *history) check() []string {
	c := &checker{history: h, pushes: make(map[string]*pushed), reached: make(map[target][]delivery), writes: make(map[trait][]op), keyOf: make(map[string]string)}
	c.collect()
	c.answers()
	c.keys()
	c.audiences()
	c.order()
	c.acceptance()
	c.acks()
	c.duplicates()
	c.rests()
	return c.wrong
}

type checker struct {
	*history
	pushes  map[string]*pushed    // by key
	reached map[target][]delivery // in the order in which they began
	writes  map[trait][]op        // that may have been made
	known   [nodes][]op           // what was surely changed at each node, in the order of its end
	keyOf   map[string]string     // by message
	wrong   []string
}

// pushed is all pushes with one key.
type pushed struct {
	fact       string
	begin, end time.Duration // from the first one that may have been it to the first that was done
	done       bool
	possible   bool // at least one was not refused
	message    string
	seq        uint64 // by its deliveries; 0 if there were none
}

type target struct{ user, key string }

type trait struct{ user, fact string }

func (c *checker) fail(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

func (c *checker) collect() {
	slices.SortStableFunc(c.Ops, func(a, b op) int { return cmp.Compare(a.Begin, b.Begin) })
	slices.SortStableFunc(c.Deliveries, func(a, b delivery) int { return cmp.Compare(a.Begin, b.Begin) })
	for _, o := range c.Ops {
		switch o.Kind {
		case push:
			p := c.pushes[o.Key]
			if p == nil {
				p = &pushed{fact: o.Fact, end: never}
				c.pushes[o.Key] = p
			}
			if o.Outcome == refused {
				break
			}
			if !p.possible {
				p.possible, p.begin = true, o.Begin
			}
			if o.Outcome == done {
				p.done, p.end = true, min(p.end, o.End)
			}
		case set, unset, connect:
			if o.Outcome != refused {
				fact := o.Fact
				if o.Kind == connect {
					fact = exists
				}
				c.writes[trait{o.User, fact}] = append(c.writes[trait{o.User, fact}], o)
			}
		}
		if o.Kind == push && o.Outcome == done && !o.Again { // others may have had nothing to change
			c.known[o.Node] = append(c.known[o.Node], o)
		}
	}
	for _, list := range c.known {
		slices.SortStableFunc(list, func(a, b op) int { return cmp.Compare(a.End, b.End) })
	}
	for _, d := range c.Deliveries {
		to := target{d.User, d.Key}
		c.reached[to] = append(c.reached[to], d)
	}
}

func (c *checker) answers() {
	for _, o := range c.Ops {
		switch {
		case o.Outcome == strange:
			c.fail("an error that is none of a cluster's: %v", o)
		case o.Outcome == lost || o.End == never:
		case c.running(o.Node, o.Begin, o.End) > c.Bound:
			c.fail("answered after more than %v: %v", c.Bound, o)
		}
	}
}

func (c *checker) keys() {
	for _, o := range c.Ops {
		if o.Kind != push || o.Outcome != done {
			continue
		}
		if p := c.pushes[o.Key]; p.message == "" {
			p.message, c.keyOf[o.Message] = o.Message, o.Key
		} else if p.message != o.Message {
			c.fail("a key has two tasks, %s and this one: %v", p.message, o)
		}
	}
	for _, d := range c.Deliveries {
		p := c.pushes[d.Key]
		if p == nil {
			c.fail("nobody pushed it: %v", d)
			continue
		}
		if p.message == "" {
			p.message, c.keyOf[d.Message] = d.Message, d.Key
		}
		if p.message != d.Message {
			c.fail("a key has two tasks, %s and this one: %v", p.message, d)
		}
		if p.seq != 0 && p.seq != d.Seq {
			c.fail("a message has two sequence numbers, %d and this one: %v", p.seq, d)
		}
		p.seq = d.Seq
	}
}

// may says which values a trait can have had at a moment within a time: true, false, or both.
func (c *checker) may(t trait, begin, end time.Duration) (yes, no bool) {
	writes := c.writes[t]
	no = true // as nothing was ever set, unless a write that was made is before
	for _, w := range writes {
		if w.Outcome == done && w.End < begin {
			no = false
		}
	}
	for _, w := range writes {
		if w.Begin > end {
			continue
		}
		covered := slices.ContainsFunc(writes, func(later op) bool {
			return w.Outcome == done && later.Outcome == done && later.Begin > w.End && later.End < begin
		})
		if covered {
			continue
		}
		if w.Kind == unset {
			no = true
		} else {
			yes = true
		}
	}
	return yes, no
}

func (c *checker) audiences() {
	users := make(map[string]bool)
	for t := range c.writes {
		users[t.user] = true
	}
	for _, key := range slices.Sorted(maps.Keys(c.pushes)) {
		p := c.pushes[key]
		reached := int64(0)
		for _, user := range slices.Sorted(maps.Keys(users)) {
			got := c.reached[target{user, key}]
			if len(got) > 0 {
				reached++
			}
			if !p.possible {
				if len(got) > 0 {
					c.fail("its push was refused: %v", got[0])
				}
				continue
			}
			yes, no := c.may(trait{user, p.fact}, p.begin, p.end)
			switch {
			case !yes && len(got) > 0:
				c.fail("%s was not in the audience, %s: %v", user, p.fact, got[0])
			case p.done && !no && len(got) == 0:
				c.fail("%s never got %s (%s), pushed to %s and acknowledged at %v", user, key, p.message, p.fact, p.end)
			}
		}
		for _, r := range c.Rests {
			if total, ok := r.Totals[p.message]; p.done && ok && total != reached {
				c.fail("node %d has %d users in the audience of %s (%s), and %d got it", r.Node, total, key, p.message, reached)
			} else if p.done && !ok {
				c.fail("node %d does not have %s (%s), which was acknowledged", r.Node, key, p.message)
			}
		}
	}
	for _, d := range c.Deliveries {
		if !users[d.User] {
			c.fail("nobody knows this user: %v", d)
		}
	}
}

// order is that of each connection. What was on it before may come again.
func (c *checker) order() {
	type connection struct {
		node, life int
		user       string
		session    int
	}
	type had struct {
		last uint64
		all  map[uint64]bool
	}
	connections := make(map[connection]*had)
	for _, d := range c.Deliveries {
		at := connection{d.Node, d.Life, d.User, d.Session}
		have := connections[at]
		if have == nil {
			have = &had{all: make(map[uint64]bool)}
			connections[at] = have
		}
		if d.Seq < have.last && !have.all[d.Seq] {
			c.fail("%d was there before: %v", have.last, d)
		}
		have.last = max(have.last, d.Seq)
		have.all[d.Seq] = true
	}
}

// acceptance is that pushes made one after another have ascending numbers.
func (c *checker) acceptance() {
	var made []*pushed
	for _, p := range c.pushes {
		if p.done && p.seq != 0 {
			made = append(made, p)
		}
	}
	byEnd := slices.Clone(made)
	slices.SortFunc(byEnd, func(a, b *pushed) int { return cmp.Compare(a.end, b.end) })
	slices.SortFunc(made, func(a, b *pushed) int { return cmp.Compare(a.begin, b.begin) })
	var before *pushed // the one with the highest number, of those that had been acknowledged
	for _, p := range made {
		for len(byEnd) > 0 && byEnd[0].end < p.begin {
			if before == nil || byEnd[0].seq > before.seq {
				before = byEnd[0]
			}
			byEnd = byEnd[1:]
		}
		if before != nil && before.seq > p.seq {
			c.fail("%s has number %d, and %s, which was acknowledged before it was pushed, has %d", p.message, p.seq, before.message, before.seq)
		}
	}
}

// knew says whether a node had applied, when a delivery was decided on, whatever was acknowledged at another at a time: it had done so when it answered a
// change that was asked of it later.
func (c *checker) knew(d delivery, at time.Duration) bool {
	for _, o := range c.known[d.Node] {
		if o.End >= d.Begin {
			return false
		}
		if o.Begin > at && c.running(d.Node, o.End, d.Begin) > slack {
			return true
		}
	}
	return false
}

func (c *checker) acks() {
	for _, o := range c.Ops {
		if o.Kind != ack || o.Outcome != done {
			continue
		}
		for _, d := range c.reached[target{o.User, c.keyOf[o.Message]}] {
			if d.Begin > o.End && (d.Node == o.Node && c.running(d.Node, o.End, d.Begin) > slack || c.knew(d, o.End)) {
				c.fail("acknowledged before (%v): %v", o, d)
			}
		}
	}
}

func (c *checker) duplicates() {
	if c.ClientAcks {
		return
	}
	began := make(map[int]time.Duration) // session -> when it was asked for
	for _, o := range c.Ops {
		if o.Kind == connect && o.Outcome == done {
			began[o.Session] = o.Begin
		}
	}
	for _, list := range c.reached {
		for i, d := range list {
			for _, before := range list[:i] {
				switch {
				case before.Node == d.Node && before.Life == d.Life:
					c.fail("it had been delivered by the same process (%v): %v", before, d)
				case c.Calm && began[d.Session] > before.End:
					c.fail("it had been delivered before the user came to this node (%v): %v", before, d)
				}
			}
		}
	}
}

func (c *checker) rests() {
	for i, r := range c.Rests {
		if first := c.Rests[0]; i > 0 && r.State != first.State {
			c.fail("nodes %d and %d differ: %s", first.Node, r.Node, difference(first.State, r.State))
		}
	}
}

// difference shows where two texts part.
func difference(a, b string) string {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	around := func(s string) string { return s[max(0, i-200):min(len(s), i+200)] }
	return fmt.Sprintf("%q and %q", around(a), around(b))
}
