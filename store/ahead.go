package store

import (
	"bytes"
	"slices"
)

// ahead is what a proposer has read for its command, so that the one committer need not: a page
// that is not in memory is then read in one of many callers.
//
// It is what the file and the frozen delta over it say, and stays true as long as the layers are the same: a fold
// that goes on meanwhile changes only keys that the frozen delta has. What the active delta says comes before it.
type ahead struct {
	layers *layers
	values map[storedKey][]byte // nil: there is no such key
	ids    map[string]int64     // ordinals, or nobody
	// Of a CaughtUp: those of its messages that the user waits for. Nil for other commands.
	waiting []uint64
	// The values are the file's own and not copies, because nothing writes to it: so at a replay.
	alias bool
}

const nobody = -1

type storedKey struct {
	bucket bucket
	key    string
}

func newAhead(v *view, ops int) *ahead {
	return &ahead{layers: v.layers, values: make(map[storedKey][]byte, 4*ops), ids: make(map[string]int64, ops)}
}

// batchAhead reads for the commands of a record that is replayed, as far as they are batches, into r, which was
// used for another record or is empty.
func (s *Store) batchAhead(r *ahead, commands []Command) error {
	return s.withView(func(v *view) error {
		if r.values == nil {
			*r = *newAhead(v, len(commands))
			r.alias = true
		}
		clear(r.values)
		clear(r.ids)
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
			r = newAhead(v, len(c.Ops))
			v.ahead = r
			r.batch(v, s.geo, s.published.Load(), c)
			return nil
		})
	case *Push:
		err = s.withView(func(v *view) error {
			r = newAhead(v, 0)
			r.expr(v, s.published.Load(), c.To)
			return nil
		})
	case *CaughtUp:
		if len(c.Seqs) == 0 {
			return nil, nil
		}
		err = s.withView(func(v *view) error {
			r = &ahead{layers: v.layers, waiting: []uint64{}}
			block, low := s.geo.block(c.Ordinal), s.geo.low(c.Ordinal)
			active := v.active.block(block)
			for _, seq := range c.Seqs {
				if active.decides(low, seq) {
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

func (r *ahead) own(value []byte) []byte {
	if r.alias {
		return value
	}
	return bytes.Clone(value)
}

// read notes what is below the active delta under a key.
func (r *ahead) read(v *view, b bucket, key []byte) {
	if _, done := r.values[storedKey{b, string(key)}]; !done {
		r.values[storedKey{b, string(key)}] = r.own(v.below(b, key))
	}
}

// readRecord does so for the record of a user, or of its devices.
func (r *ahead) readRecord(v *view, kind byte, block, low uint16) {
	key := recordKey(kind, block, low)
	k := storedKey{bucketBlocks, string(key[:])}
	if _, done := r.values[k]; !done {
		r.values[k] = r.own(v.recordBelow(kind, block, low))
	}
}

// readID does so for a user ID.
func (r *ahead) readID(v *view, id string) {
	if _, done := r.ids[id]; done {
		return
	}
	ord, known := v.ordinalBelow(id, hashID(id))
	if r.ids[id] = nobody; known {
		r.ids[id] = int64(ord)
	}
}

func (r *ahead) batch(v *view, g geometry, st *state, b *Batch) {
	for i := range b.Ops {
		r.op(v, g, st, &b.Ops[i])
	}
}

// op reads what a batch needs of a user, and of the facts that it names.
func (r *ahead) op(v *view, g geometry, st *state, o *UserOp) {
	r.readID(v, o.ID)
	if ord, known := v.ordinal(o.ID); known && o.Kind != OpRegister {
		block, low := g.block(ord), g.low(ord)
		r.readRecord(v, kindUser, block, low)
		if len(o.Devices) > 0 || o.Kind == OpUnregister {
			r.readRecord(v, kindDevice, block, low)
		}
	}
	for _, t := range o.Tags {
		r.read(v, bucketFacts, []byte(tagFactKey(t)))
	}
	for _, a := range o.Attrs {
		if slot, named := st.slot(a.Name); named && a.Value != "" {
			r.read(v, bucketFacts, []byte(attrFactKey(slot, a.Value)))
		}
	}
	for i := range o.Devices {
		h := HashToken(o.Devices[i].Platform, o.Devices[i].Token)
		r.read(v, bucketTokens, h[:])
	}
}

// expr reads what the compilation of an audience needs.
func (r *ahead) expr(v *view, st *state, e *Expr) {
	for _, id := range e.IDs {
		r.readID(v, id)
	}
	switch e.Op {
	case OpTag:
		r.read(v, bucketFacts, []byte(tagFactKey(e.Value)))
	case OpPlatform:
		r.read(v, bucketFacts, []byte(platformFactKey(e.Value)))
	case OpAttr:
		if slot, named := st.slot(e.Name); named {
			r.read(v, bucketFacts, []byte(attrFactKey(slot, e.Value)))
		}
	}
	for _, a := range e.Args {
		r.expr(v, st, a)
	}
}
