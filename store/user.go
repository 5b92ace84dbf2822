package store

import (
	"encoding/binary"
	"slices"
)

// userRecord is what blocks.db keeps of a user. Tags and attribute values are
// there as fact numbers; their words stand once, in bucketNames.
type userRecord struct {
	id         string
	registered int64 // seconds since 1970
	attrs      []slotFact
	tags       []uint32 // ascending
}

// slotFact is an attribute of a user: its slot, and the number of the fact that it has this value.
type slotFact struct {
	slot uint8
	fact uint32
}

func (u *userRecord) encode() []byte {
	w := writer{b: make([]byte, 0, 16+len(u.id)+4*len(u.attrs)+2*len(u.tags))}
	w.str(u.id)
	w.uvarint(uint64(u.registered))
	w.uvarint(uint64(len(u.attrs)))
	for _, a := range u.attrs {
		w.byte(a.slot)
		w.uvarint(uint64(a.fact))
	}
	last := uint32(0)
	for _, t := range u.tags { // their number is what is left of the record
		w.uvarint(uint64(t - last))
		last = t
	}
	return w.b
}

// recordID returns the user ID at the start of a user record, aliasing it.
func recordID(b []byte) []byte {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil
	}
	return b[k : k+int(n)]
}

func decodeUser(b []byte) (u userRecord, err error) {
	r := reader{b: b}
	u.id = r.str()
	u.registered = int64(r.uvarint())
	if n := r.count(2); n > 0 {
		u.attrs = make([]slotFact, n)
		for i := range u.attrs {
			u.attrs[i] = slotFact{r.byte(), uint32(r.uvarint())}
		}
	}
	last := uint32(0)
	for len(r.b) > 0 {
		last += uint32(r.uvarint())
		u.tags = append(u.tags, last)
	}
	return u, r.done()
}

func (u *userRecord) attr(slot uint8) (int, bool) {
	return slices.BinarySearchFunc(u.attrs, slot, func(a slotFact, s uint8) int { return int(a.slot) - int(s) })
}

func encodeDevices(devices []Device) []byte {
	if len(devices) == 0 {
		return nil
	}
	var w writer
	w.uvarint(uint64(len(devices)))
	for i := range devices {
		encodeDevice(&w, &devices[i])
	}
	return w.b
}

func decodeDevices(b []byte) ([]Device, error) {
	if b == nil {
		return nil, nil
	}
	r := reader{b: b}
	d := make([]Device, r.count(6))
	for i := range d {
		d[i] = decodeDevice(&r)
	}
	return d, r.done()
}
