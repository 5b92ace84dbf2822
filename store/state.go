package store

import (
	"maps"
	"slices"
)

// state is the part of the state that is not kept by user: counters and
// settings. The committer owns it; others see the copy in Store.published.
type state struct {
	now         int64 // milliseconds since 1970: the highest stamp seen
	users       uint64
	nextOrdinal uint64
	nextFact    uint32
	nextSeq     uint64
	nextPlan    uint64
	limits      Limits
	names       map[uint8]string // these two are replaced, never changed
	slots       map[string]uint8
	types       map[uint8]AttrType // of slots that are not text; replaced, never changed
	proposers   []proposer
	position    uint64 // of the last record applied
}

// proposer is who puts commands into the log, with the number of its last one
// that was applied: the log may deliver a record twice.
type proposer struct {
	id   uint64
	last uint64
}

func newState() state {
	return state{nextFact: 1, nextSeq: 1, nextPlan: 1, names: map[uint8]string{}, limits: Limits{TagsPerUser: 100, DevicesPerUser: 20}}
}

func (st *state) clone() *state {
	c := *st
	c.proposers = slices.Clone(st.proposers)
	return &c
}

func (st *state) last(id uint64) uint64 {
	for _, p := range st.proposers {
		if p.id == id {
			return p.last
		}
	}
	return 0
}

// maxProposers bounds the proposers that are remembered. Each time that a node of a cluster is opened it is another one; a record is not delivered again
// by a log, nor comes late, after so many others have joined.
const maxProposers = 64

// setLast moves the proposer to the end, so that those who have been silent for the longest are forgotten first.
func (st *state) setLast(id, number uint64) {
	if n := len(st.proposers); n == 0 || st.proposers[n-1].id != id {
		st.proposers = slices.DeleteFunc(st.proposers, func(p proposer) bool { return p.id == id })
		if len(st.proposers) == maxProposers {
			st.proposers = slices.Delete(st.proposers, 0, 1)
		}
		st.proposers = append(st.proposers, proposer{id: id})
	}
	st.proposers[len(st.proposers)-1].last = number
}

// slot returns the slot that a name stands for.
func (st *state) slot(name string) (uint8, bool) {
	slot, named := st.slots[name]
	return slot, named
}

// setNames replaces the names of slots.
func (st *state) setNames(names map[uint8]string) {
	st.names, st.slots = names, make(map[string]uint8, len(names))
	for slot, name := range names {
		st.slots[name] = slot
	}
}

// encode leaves the position out: it stands in the meta bucket and names the
// log, while the state is the same whatever log it came through.
func (st *state) encode() []byte {
	var w writer
	w.varint(st.now)
	w.uvarint(st.users)
	w.uvarint(st.nextOrdinal)
	w.uvarint(uint64(st.nextFact))
	w.uvarint(st.nextSeq)
	w.uvarint(st.nextPlan)
	w.uvarint(uint64(st.limits.TagsPerUser))
	w.uvarint(uint64(st.limits.DevicesPerUser))
	w.uvarint(uint64(len(st.names)))
	for _, slot := range sortedSlots(st.names) {
		w.byte(slot)
		w.str(st.names[slot])
	}
	w.uvarint(uint64(len(st.types)))
	for _, slot := range sortedSlots(st.types) {
		w.byte(slot)
		w.byte(byte(st.types[slot]))
	}
	w.uvarint(uint64(len(st.proposers)))
	for _, p := range st.proposers {
		w.u64(p.id)
		w.uvarint(p.last)
	}
	return w.b
}

func sortedSlots[V any](of map[uint8]V) []uint8 {
	return slices.Sorted(maps.Keys(of))
}

func decodeState(b []byte, g geometry) (state, error) {
	r := reader{b: b}
	st := newState()
	st.now = r.varint()
	st.users = r.uvarint()
	st.nextOrdinal = r.uvarint()
	st.nextFact = uint32(r.uvarint())
	st.nextSeq = r.uvarint()
	st.nextPlan = r.uvarint()
	st.limits.TagsPerUser = int(r.uvarint())
	st.limits.DevicesPerUser = int(r.uvarint())
	names := map[uint8]string{}
	for range r.count(2) {
		slot := r.byte()
		names[slot] = r.str()
	}
	st.setNames(names)
	if n := r.count(2); n > 0 {
		st.types = make(map[uint8]AttrType, n)
		for range n {
			slot := r.byte()
			st.types[slot] = AttrType(r.byte())
		}
	}
	for range r.count(9) {
		st.proposers = append(st.proposers, proposer{r.u64(), r.uvarint()})
	}
	if st.nextOrdinal > 1<<32 || g.blocks(st.nextOrdinal) > 1<<16 { // what goes through the blocks would never end
		r.fail("more ordinals than there are")
	}
	return st, r.done()
}
