package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	mathbits "math/bits"
	"slices"
)

// userRecord is what blocks.db keeps of a user. Tags and attribute values of text are
// there as fact numbers; their words stand once, in bucketNames.
type userRecord struct {
	id         string
	registered int64      // seconds since 1970
	seen       uint32     // one more than the last day with a connection, 0 for never
	attrs      []slotFact // by slot
	outs       []uint32   // the categories that the user has opted out of, ascending
	tags       []uint32   // ascending
}

// slotFact is an attribute of a user: its slot, and the number of the fact that it has this value, or, where
// the slot has another type than text, the integer that stands for the value.
type slotFact struct {
	slot   uint8
	typ    AttrType
	fact   uint32
	number int64
}

func (u *userRecord) registeredDay() uint32 { return Day(u.registered * 1000) }

func (u *userRecord) encode() []byte { return bytes.Clone(u.append(nil)) }

// append appends the record to b.
func (u *userRecord) append(b []byte) []byte {
	w := writer{b: b}
	if packed, is := packUUID(u.id); is {
		w.byte(0)
		w.b = append(w.b, packed[:]...)
	} else {
		w.str(u.id)
	}
	w.uvarint(uint64(u.registered))
	w.uvarint(uint64(u.seen))
	n := uint64(len(u.attrs)) << 1 // most users have opted out of nothing, which takes no byte of its own
	if len(u.outs) > 0 {
		n |= 1
	}
	w.uvarint(n)
	for _, a := range u.attrs {
		w.byte(a.slot)
		w.uvarint(uint64(a.fact))
		if a.typ != TextType { // a fact of 0 says so
			w.byte(byte(a.typ))
			w.varint(a.number)
		}
	}
	last := uint32(0)
	if len(u.outs) > 0 {
		w.uvarint(uint64(len(u.outs)))
	}
	for _, o := range u.outs {
		w.uvarint(uint64(o - last))
		last = o
	}
	last = 0
	for _, t := range u.tags { // their number is what is left of the record
		w.uvarint(uint64(t - last))
		last = t
	}
	return w.b
}

func decodeUser(b []byte) (u userRecord, err error) {
	err = u.decode(b)
	return u, err
}

// decode reads a record into u, which is empty but may have room.
func (u *userRecord) decode(b []byte) error {
	raw, rest, packed := splitID(b)
	if raw == nil {
		return &FormatError{What: "user", Detail: "ID"}
	}
	if packed {
		u.id = unpackUUID(raw)
	} else {
		u.id = string(raw)
	}
	r := reader{b: rest}
	u.registered = int64(r.uvarint())
	u.seen = uint32(r.uvarint())
	flagged := r.uvarint()
	n := int(flagged >> 1)
	if flagged>>1 > uint64(len(r.b)/2) {
		r.fail("count")
		return r.err
	}
	u.attrs = slices.Grow(u.attrs, n)
	for range n {
		a := slotFact{slot: r.byte(), fact: uint32(r.uvarint())}
		if a.fact == 0 {
			if a.typ, a.number = AttrType(r.byte()), r.varint(); a.typ == TextType || !a.typ.Known() || a.number > maxNumber || a.number < -maxNumber {
				r.fail("type of an attribute")
			}
		}
		u.attrs = append(u.attrs, a)
	}
	last := uint32(0)
	if flagged&1 != 0 {
		for range r.count(1) {
			last += uint32(r.uvarint())
			u.outs = append(u.outs, last)
		}
	}
	last = 0
	for len(r.b) > 0 {
		last += uint32(r.uvarint())
		u.tags = append(u.tags, last)
	}
	return r.done()
}

func (u *userRecord) attr(slot uint8) (int, bool) {
	return slices.BinarySearchFunc(u.attrs, slot, func(a slotFact, s uint8) int { return int(a.slot) - int(s) })
}

// recordSeen returns the day of a record, as [userRecord] has it, and reads no more of it.
func recordSeen(record []byte) uint32 {
	raw, rest, _ := splitID(record)
	if raw == nil {
		return 0
	}
	r := reader{b: rest}
	r.uvarint()
	return uint32(r.uvarint())
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

// A user ID stands in a record as it is, behind its length; a UUID in its usual form, 36 characters of which half say
// nothing, as its 16 bytes behind a length of 0, which no ID has.
const uuidForm = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"

// packUUID returns the 16 bytes of an ID that is a UUID in lower case.
func packUUID(id string) (b [16]byte, is bool) {
	if len(id) != len(uuidForm) {
		return b, false
	}
	n := 0
	for i := 0; i < len(id); i++ {
		if uuidForm[i] == '-' {
			if id[i] != '-' {
				return b, false
			}
			continue
		}
		c := hexDigit[id[i]]
		if c == 0 {
			return b, false
		}
		b[n/2] = b[n/2]<<4 | (c - 1)
		n++
	}
	return b, true
}

// hexDigit has the values of the lower-case digits, and one more.
var hexDigit = func() (of [256]byte) {
	for i, c := range []byte("0123456789abcdef") {
		of[c] = byte(i) + 1
	}
	return of
}()

func unpackUUID(b []byte) string {
	out := [len(uuidForm)]byte{8: '-', 13: '-', 18: '-', 23: '-'}
	hex.Encode(out[:8], b[:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:], b[10:16])
	return string(out[:])
}

// splitID returns the ID at the start of a record, as it stands there, and the rest; raw is nil in a damaged one.
func splitID(record []byte) (raw, rest []byte, packed bool) {
	n, k := binary.Uvarint(record)
	if packed = k > 0 && n == 0; packed {
		n = 16
	}
	if k <= 0 || n > uint64(len(record)-k) {
		return nil, nil, false
	}
	return record[k : k+int(n)], record[k+int(n):], packed
}

// recordID returns the user ID of a record.
func recordID(record []byte) string {
	raw, _, packed := splitID(record)
	if packed {
		return unpackUUID(raw)
	}
	return string(raw)
}

// recordHasID says whether a record, nil for none, is that of a user ID.
func recordHasID(record []byte, id string) bool {
	raw, _, packed := splitID(record)
	if !packed {
		return raw != nil && string(raw) == id
	}
	want, is := packUUID(id)
	return is && string(raw) == string(want[:])
}

// The records of groupUsers users stand under one key: which of them there are as bits, from the lowest, then the
// length of each record, then the records.
const groupUsers = 16

// splitGroup returns the bits and the records of a group, with nil for who is not there.
func splitGroup(raw []byte) (list [groupUsers][]byte, err error) {
	if raw == nil {
		return list, nil
	}
	bad := func(detail string) error { return &FormatError{What: "group of users", Detail: detail} }
	if len(raw) < 2 {
		return list, bad("ends early")
	}
	has, r := be16(raw), reader{b: raw[2:]}
	var sizes [groupUsers]uint64
	for i := range list {
		if has>>i&1 != 0 {
			sizes[i] = r.uvarint()
		}
	}
	for i := range list {
		if has>>i&1 == 0 {
			continue
		}
		if r.err != nil || sizes[i] > uint64(len(r.b)) {
			return list, bad("length of a record")
		}
		list[i], r.b = r.b[:sizes[i]:sizes[i]], r.b[sizes[i]:]
	}
	if has == 0 || len(r.b) > 0 {
		return list, bad("empty, or longer than its records")
	}
	return list, nil
}

// joinGroup is the reverse; nil when nobody is there.
func joinGroup(list *[groupUsers][]byte) []byte {
	has, size := uint16(0), 2
	for i, record := range list {
		if record != nil {
			has |= 1 << i
			size += len(record) + 2
		}
	}
	if has == 0 {
		return nil
	}
	w := writer{b: binary.BigEndian.AppendUint16(make([]byte, 0, size), has)}
	for _, record := range list {
		if record != nil {
			w.uvarint(uint64(len(record)))
		}
	}
	for _, record := range list {
		w.b = append(w.b, record...)
	}
	return w.b
}

// groupRecord returns a record of a group, nil if it is not there. It looks at no more than it has to.
func groupRecord(group []byte, low uint16) []byte {
	if group == nil {
		return nil
	}
	damaged := func() { panic(&FormatError{What: "group of users", Detail: "length"}) }
	if len(group) < 2 {
		damaged()
	}
	has, place := be16(group), low%groupUsers
	if has>>place&1 == 0 {
		return nil
	}
	b := group[2:]
	from, size := uint64(0), uint64(0)
	before := mathbits.OnesCount16(has & (1<<place - 1))
	for i := range mathbits.OnesCount16(has) {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(group)) {
			damaged()
		}
		b = b[k:]
		if i < before {
			from += n
		} else if i == before {
			size = n
		}
	}
	if from+size > uint64(len(b)) {
		damaged()
	}
	return b[from : from+size : from+size]
}

// foldUsers returns what the file is to have under a group's key: the changes over what it has.
func foldUsers(base []byte, list []change) ([]byte, error) {
	group, err := splitGroup(base)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		group[c.key[len(c.key)-1]%groupUsers] = c.value
	}
	return joinGroup(&group), nil
}
