package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sort"
	"unsafe"
)

// The index of user IDs leads from 48 bits of an ID's hash to ordinals. That a user has the ID is seen in the user's
// record, for two IDs may share their 48 bits. An ID stands in the file once that way, and an entry takes
// eight bytes: they lie together under the first 16 bits of the hash, as an element of a page of bbolt
// costs twice as much as what it would say.

// idHash is the first 48 bits of the SHA-256 of a user ID.
type idHash uint64

func hashID(id string) idHash {
	sum := sha256.Sum256(unsafe.Slice(unsafe.StringData(id), len(id))) // which reads it only
	return idHash(binary.BigEndian.Uint64(sum[:]) >> 16)
}

// idEntry is an entry of the index as the delta and segments have it: hash and ordinal. What follows the first
// two bytes is what the file has under them.
type idEntry [10]byte

const (
	idPrefix = 2 // bytes of an entry that are the key in the file
	idRest   = len(idEntry{}) - idPrefix
)

func newIDEntry(h idHash, ordinal uint32) (e idEntry) {
	binary.BigEndian.PutUint64(e[:], uint64(h)<<16)
	binary.BigEndian.PutUint32(e[6:], ordinal)
	return e
}

func (e idEntry) hash() idHash    { return idHash(binary.BigEndian.Uint64(e[:]) >> 16) }
func (e idEntry) ordinal() uint32 { return be32(e[6:]) }

// firstID returns where in the file's entries those of a hash begin, or would.
func firstID(raw []byte, h idHash) int {
	if len(raw)%idRest != 0 {
		panic(&FormatError{What: "user IDs", Detail: "length"})
	}
	first, end := 0, len(raw)/idRest
	for first < end {
		if mid := int(uint(first+end) >> 1); be32(raw[mid*idRest:]) < uint32(h) {
			first = mid + 1
		} else {
			end = mid
		}
	}
	return first * idRest
}

// idsIn returns the ordinals that the file has for a hash.
func idsIn(raw []byte, h idHash) (ordinals []uint32) {
	for i := firstID(raw, h); i < len(raw) && be32(raw[i:]) == uint32(h); i += idRest {
		ordinals = append(ordinals, be32(raw[i+4:]))
	}
	return ordinals
}

// foldIDs returns what the file is to have under a key: the changes, which are in order, over what it has.
func foldIDs(base []byte, list []change) []byte {
	out := make([]byte, 0, len(base)+idRest*len(list))
	for _, c := range list {
		e := c.key[idPrefix:]
		n := idRest * sort.Search(len(base)/idRest, func(i int) bool { return bytes.Compare(base[i*idRest:][:idRest], e) >= 0 })
		out, base = append(out, base[:n]...), base[n:]
		if bytes.HasPrefix(base, e) {
			base = base[idRest:]
		}
		if c.value != nil {
			out = append(out, e...)
		}
	}
	if out = append(out, base...); len(out) == 0 {
		return nil
	}
	return out
}

// idTable is what a delta says of the index: a hash table with linear probing, in which an entry's place is given by
// the first bits of its hash, so that the entries of each stretch without a gap are those between two hashes.
type idTable struct {
	hashes   []uint64 // hash, 14 bits of nothing, idGone, idThere; 0: a gap. What finds no gap lies behind 1 << log
	ordinals []uint32
	log      int
	n        int
}

const (
	idThere = 1
	idGone  = 2
)

// idNote says of an ordinal that it is one of a hash's, or is not any more.
type idNote struct {
	hash    idHash
	ordinal uint32
	gone    bool
}

func (t *idTable) place(h idHash) int { return int(h >> (48 - t.log)) }

func (t *idTable) at(i int) idNote {
	x := t.hashes[i]
	return idNote{idHash(x >> 16), t.ordinals[i], x&idGone != 0}
}

// put says whether there was nothing said of the hash and ordinal.
func (t *idTable) put(note idNote) (is bool) {
	if 8*t.n >= 5*len(t.hashes) {
		t.grow()
	}
	i := t.place(note.hash)
	for ; i < len(t.hashes) && t.hashes[i] != 0; i++ {
		if t.hashes[i]>>16 == uint64(note.hash) && t.ordinals[i] == note.ordinal {
			break
		}
	}
	if i == len(t.hashes) {
		t.hashes, t.ordinals = append(t.hashes, 0), append(t.ordinals, 0)
	}
	if is = t.hashes[i] == 0; is {
		t.n++
	}
	t.hashes[i], t.ordinals[i] = uint64(note.hash)<<16|idThere, note.ordinal
	if note.gone {
		t.hashes[i] |= idGone
	}
	return is
}

func (t *idTable) grow() {
	old := *t
	t.n, t.log = 0, max(6, old.log+1)
	t.hashes, t.ordinals = make([]uint64, 1<<t.log), make([]uint32, 1<<t.log)
	for i, x := range old.hashes {
		if x != 0 {
			t.put(old.at(i))
		}
	}
}

// of appends the notes of a hash.
func (t *idTable) of(h idHash, to []idNote) []idNote {
	for i := t.place(h); i < len(t.hashes) && t.hashes[i] != 0; i++ {
		if t.hashes[i]>>16 == uint64(h) {
			to = append(to, t.at(i))
		}
	}
	return to
}

// putID notes that an ordinal is one of a hash, or is not any more.
func (d *delta) putID(h idHash, ordinal uint32, gone bool) {
	d.digest.record(uint64(ordinal), "id", nil)
	d.mu.Lock()
	is := d.ids.put(idNote{h, ordinal, gone})
	d.mu.Unlock()
	if is {
		d.entries++
		d.bytes += idCost
	}
}

// idNotes appends what the delta says of a hash.
func (d *delta) idNotes(h idHash, to []idNote) []idNote {
	d.mu.RLock()
	to = d.ids.of(h, to)
	d.mu.RUnlock()
	return to
}

// noted says whether there is a note of an ordinal.
func noted(notes []idNote, ordinal uint32) bool {
	return slices.ContainsFunc(notes, func(n idNote) bool { return n.ordinal == ordinal })
}

// idChanges yields the changes of the index in order.
func (d *delta) idChanges(yield func(change) bool) bool {
	var list []idNote // of a stretch without a gap
	var keys []byte   // of many entries
	flush := func() bool {
		slices.SortFunc(list, func(x, y idNote) int {
			return cmp.Or(cmp.Compare(x.hash, y.hash), cmp.Compare(x.ordinal, y.ordinal))
		})
		for _, n := range list {
			e := newIDEntry(n.hash, n.ordinal)
			if cap(keys)-len(keys) < len(e) {
				keys = make([]byte, 0, 1024*len(e))
			}
			keys = append(keys, e[:]...)
			c := change{bucket: bucketIDs, key: keys[len(keys)-len(e) : len(keys) : len(keys)]}
			if !n.gone {
				c.value = []byte{}
			}
			if !yield(c) {
				return false
			}
		}
		list = list[:0]
		return true
	}
	for i, x := range d.ids.hashes {
		if x != 0 {
			list = append(list, d.ids.at(i))
		} else if !flush() {
			return false
		}
	}
	return flush()
}

// ordinal returns the ordinal of a user.
func (v *view) ordinal(id string) (uint32, bool) {
	u, known := v.lookUp(id)
	return u.ordinal, known
}

// bearer is who has an ID: the ID's hash and an ordinal.
type bearer struct {
	hash    idHash
	ordinal uint32
}

// lookUp returns who has an ID, the hash even if nobody has.
func (v *view) lookUp(id string) (u bearer, known bool) {
	var below bearer
	read := false
	if v.ahead != nil {
		var b idBelow
		b, read = v.ahead.ids[id]
		below, known = b.bearer, b.known
	}
	if !read {
		below.hash = hashID(id)
	}
	var few [4]idNote
	notes := v.active.idNotes(below.hash, few[:0])
	for _, n := range notes {
		if !n.gone && recordHasID(v.blockRecord(kindUser, v.geo.block(n.ordinal), v.geo.low(n.ordinal)), id) {
			return bearer{below.hash, n.ordinal}, true
		}
	}
	if !read {
		below.ordinal, _, known = v.ordinalBelow(id, below.hash)
	}
	if known && noted(notes, below.ordinal) {
		known = false // gone, or it would have been found above
	}
	return below, known
}

// ordinalBelow does so without the active delta, and returns the user's record there.
func (v *view) ordinalBelow(id string, h idHash) (ordinal uint32, record []byte, known bool) {
	has := func(ord uint32) bool {
		record = v.recordBelow(kindUser, v.geo.block(ord), v.geo.low(ord))
		return recordHasID(record, id)
	}
	var few [4]idNote
	notes := few[:0]
	if v.frozen != nil {
		notes = v.frozen.idNotes(h, notes)
		for _, n := range notes {
			if !n.gone && has(n.ordinal) {
				return n.ordinal, record, true
			}
		}
	}
	key := newIDEntry(h, 0)
	raw := v.stored(bucketIDs, key[:idPrefix])
	for i := firstID(raw, h); i < len(raw) && be32(raw[i:]) == uint32(h); i += idRest {
		if ord := be32(raw[i+4:]); !noted(notes, ord) && has(ord) {
			return ord, record, true
		}
	}
	return 0, nil, false
}
