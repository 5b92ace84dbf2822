package store

import (
	"bytes"
	mathbits "math/bits"
	"slices"
)

// ahead is what a proposer has read for its command, so that the one committer need not: a page
// that is not in memory is then read in one of many callers.
//
// It is what the file and the frozen delta over it say, and stays true as long as the layers are the same: a fold
// that goes on meanwhile changes only keys that the frozen delta has. What the active delta says comes before it.
type ahead struct {
	layers  *layers
	ids     map[string]idBelow
	records map[recordOf][]byte // of users, and of their devices; nil: there is none
	facts   map[string]uint32   // numbers by key; 0: there is no such fact
	tokens  map[[16]byte][]byte // nil: nobody has it
	// Of a CaughtUp: those of its messages that the user waits for. Nil for other commands.
	waiting []uint64
	// The values are the file's own and not copies, because nothing writes to it: so at the replay of a journal.
	alias bool
	key   []byte // for a while
}

// idBelow is whom an ID leads to.
type idBelow struct {
	bearer
	known bool
}

// recordOf is the record of a user, or of its devices.
type recordOf struct {
	kind       byte
	block, low uint16
}

func newAhead(ops int) *ahead {
	return &ahead{
		ids: make(map[string]idBelow, ops), records: make(map[recordOf][]byte, ops),
		facts: make(map[string]uint32, ops), tokens: make(map[[16]byte][]byte),
	}
}

// aheadOf returns an empty one, of which those for single changes are used again.
func (s *Store) aheadOf(v *view, ops int) (r *ahead) {
	if ops > pooledOps {
		r = newAhead(ops)
	} else {
		r, _ = s.aheads.Get().(*ahead)
		if r == nil {
			r = newAhead(ops)
		}
	}
	r.layers = v.layers
	return r
}

// pooledOps bounds what is used again: to clear a map takes as long as it is large.
const pooledOps = 16

// reuse takes back what was read for commands that have been applied.
func (s *Store) reuse(list []*ahead) {
	for _, r := range list {
		if r != nil && r.ids != nil && max(len(r.ids), len(r.records), len(r.facts)/4) <= pooledOps {
			r.clear()
			s.aheads.Put(r)
		}
	}
}

func (r *ahead) clear() {
	clear(r.ids)
	clear(r.records)
	clear(r.facts)
	clear(r.tokens)
	r.layers = nil
}

// batchAhead reads for the commands of a record that is replayed, as far as they are batches, into r, which was
// used for another record or is empty.
func (s *Store) batchAhead(r *ahead, commands []Command) error {
	return s.withView(func(v *view) error {
		if r.ids == nil {
			*r = *newAhead(len(commands))
			r.alias = s.o.Log == nil
		}
		r.clear()
		r.layers = v.layers
		v.ahead = r // so that nothing is looked up twice
		st := s.published.Load()
		for _, c := range commands {
			if b, is := c.(*Batch); is {
				r.batch(v, s.geo, st, b)
			}
		}
		return nil
	})
}

// ahead reads what apply will look up for a command, nil if that is nothing.
func (s *Store) ahead(c Command) (r *ahead, err error) {
	switch c := c.(type) {
	case *Batch:
		err = s.withView(func(v *view) error {
			r = s.aheadOf(v, len(c.Ops))
			v.ahead = r
			r.batch(v, s.geo, s.published.Load(), c)
			return nil
		})
	case *Push:
		err = s.withView(func(v *view) error {
			r = s.aheadOf(v, 0)
			r.expr(v, s.published.Load(), c.To)
			return nil
		})
	case *PlanStep:
		if c.Push == nil && c.Freeze == nil {
			return nil, nil
		}
		err = s.withView(func(v *view) error {
			r = s.aheadOf(v, 0)
			for _, to := range []*Expr{c.Freeze, planned(c.Push), c.Among} {
				if to != nil {
					r.expr(v, s.published.Load(), to)
				}
			}
			return nil
		})
	case *Acked:
		return s.ahead((*CaughtUp)(c))
	case *CaughtUp:
		if len(c.Seqs) == 0 {
			return nil, nil
		}
		err = s.withView(func(v *view) error {
			r = &ahead{layers: v.layers, waiting: []uint64{}}
			block, low := s.geo.block(c.Ordinal), s.geo.low(c.Ordinal)
			active := v.active.block(block)
			for _, seq := range c.Seqs {
				if active.decides(kindPending, low, seq) {
					continue // and will go on to
				}
				if v.waitsBelow(block, low, seq) {
					r.waiting = append(r.waiting, seq)
				}
			}
			slices.Sort(r.waiting)
			return nil
		})
	}
	return r, err
}

// planned is the audience of a plan's push.
func planned(c *Push) *Expr {
	if c == nil {
		return nil
	}
	return c.To
}

func (r *ahead) own(value []byte) []byte {
	if r.alias {
		return value
	}
	return bytes.Clone(value)
}

// fact notes the number of a fact.
func (r *ahead) fact(v *view, key []byte) {
	r.key = key
	if _, done := r.facts[string(key)]; !done {
		n := uint32(0)
		if b := v.below(bucketFacts, key); b != nil {
			n = be32(b)
		}
		r.facts[string(key)] = n
	}
}

// record notes the record of a user, or of its devices.
func (r *ahead) record(v *view, kind byte, block, low uint16) {
	k := recordOf{kind, block, low}
	if _, done := r.records[k]; !done {
		r.records[k] = r.own(v.recordBelow(kind, block, low))
	}
}

// id notes whom a user ID leads to, and the user's record, which was read for it.
func (r *ahead) id(v *view, id string) {
	if _, done := r.ids[id]; done {
		return
	}
	h := hashID(id)
	ord, record, known := v.ordinalBelow(id, h)
	if r.ids[id] = (idBelow{bearer{h, ord}, known}); known {
		r.records[recordOf{kindUser, v.geo.block(ord), v.geo.low(ord)}] = r.own(record)
	}
}

func (r *ahead) batch(v *view, g geometry, st *state, b *Batch) {
	for i := range b.Ops {
		r.op(v, g, st, &b.Ops[i])
	}
}

// op reads what a batch needs of a user, and of the facts that it names.
func (r *ahead) op(v *view, g geometry, st *state, o *UserOp) {
	r.id(v, o.ID)
	var record []byte
	if u, known := v.lookUp(o.ID); known && o.Kind != OpRegister {
		block, low := g.block(u.ordinal), g.low(u.ordinal)
		r.record(v, kindUser, block, low)
		record = v.blockRecord(kindUser, block, low)
		if len(o.Devices) > 0 || o.Kind == OpUnregister {
			r.record(v, kindDevice, block, low)
		}
	}
	for _, t := range o.Tags {
		r.fact(v, appendTagFact(r.key[:0], t))
	}
	for _, a := range o.Attrs {
		if slot, named := st.slot(a.Name); named && a.Value != "" {
			r.value(v, st, slot, a.Value, record)
		}
	}
	for i := range o.Devices {
		h := HashToken(o.Devices[i].Platform, o.Devices[i].Token)
		if _, done := r.tokens[h]; !done {
			r.tokens[h] = r.own(v.below(bucketTokens, h[:]))
		}
	}
}

// value reads what setting an attribute of a user needs, who has a record or is new: nil.
func (r *ahead) value(v *view, st *state, slot uint8, value string, record []byte) {
	if record == nil {
		r.fact(v, appendHasFact(r.key[:0], slot)) // others mostly have one, and stay as they are in this
	}
	t := st.types[slot]
	if t == TextType {
		r.fact(v, appendAttrFact(r.key[:0], slot, value))
		return
	}
	n, _ := t.parse(value)
	bits := numberBits(n)
	if record != nil {
		if u, err := decodeUser(record); err == nil { // else who applies it meets the same error
			if i, has := u.attr(slot); has {
				bits ^= numberBits(u.attrs[i].number)
			}
		}
	}
	for ; bits != 0; bits &= bits - 1 {
		r.fact(v, appendBitFact(r.key[:0], slot, uint8(mathbits.TrailingZeros64(bits))))
	}
}

// expr reads what the compilation of an audience needs.
func (r *ahead) expr(v *view, st *state, e *Expr) {
	for _, id := range e.IDs {
		r.id(v, id)
	}
	switch e.Op {
	case OpTag:
		r.fact(v, appendTagFact(r.key[:0], e.Value))
	case OpPlatform:
		r.fact(v, []byte(platformFactKey(e.Value)))
	case OpLanguage:
		r.fact(v, []byte(languageFactKey(e.Value)))
	case OpTimeZone:
		r.fact(v, []byte(timeZoneFactKey(e.Value)))
	case OpAttr, OpLess, OpAtMost, OpMore, OpAtLeast, OpBetween, OpHas:
		if slot, named := st.slot(e.Name); named {
			r.attribute(v, slot, st.types[slot], e)
		}
	}
	for _, a := range e.Args {
		r.expr(v, st, a)
	}
}

func (r *ahead) attribute(v *view, slot uint8, t AttrType, e *Expr) {
	if e.Op == OpAttr && t == TextType {
		r.fact(v, appendAttrFact(r.key[:0], slot, e.Value))
		return
	}
	r.fact(v, appendHasFact(r.key[:0], slot))
	if e.Op == OpHas || t == TextType {
		return
	}
	r.fact(v, appendBitFact(r.key[:0], slot, signBit))
	for i := range magnitudeBits {
		r.fact(v, appendBitFact(r.key[:0], slot, uint8(i)))
	}
}
