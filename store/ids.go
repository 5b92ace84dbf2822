package store

import (
	"bytes"
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

// idsIn returns the ordinals that the file has for a hash.
func idsIn(raw []byte, h idHash) (ordinals []uint32) {
	if len(raw)%idRest != 0 {
		panic(&FormatError{What: "user IDs", Detail: "length"})
	}
	want := uint32(h)
	n := len(raw) / idRest
	for i := sort.Search(n, func(i int) bool { return be32(raw[i*idRest:]) >= want }); i < n && be32(raw[i*idRest:]) == want; i++ {
		ordinals = append(ordinals, be32(raw[i*idRest+4:]))
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

// bearer is what a delta says of one ordinal under a hash. It does not change.
type bearer struct {
	next    *bearer // of another ordinal
	ordinal uint32
	gone    bool
}

// of returns what is said of an ordinal, nil if nothing.
func (b *bearer) of(ordinal uint32) *bearer {
	for ; b != nil; b = b.next {
		if b.ordinal == ordinal {
			return b
		}
	}
	return nil
}

// with returns the list with e in place of what it says of the same ordinal.
func (b *bearer) with(e bearer) bearer {
	for ; b != nil; b = b.next {
		if b.ordinal != e.ordinal {
			e.next = &bearer{e.next, b.ordinal, b.gone}
		}
	}
	return e
}

// putID notes that an ordinal is one of a hash, or is not any more.
func (d *delta) putID(h idHash, ordinal uint32, gone bool) {
	d.mu.Lock()
	e := bearer{ordinal: ordinal, gone: gone}
	old, had := d.ids[h]
	same := had && old.of(ordinal) != nil
	if had {
		e = old.with(e)
	}
	d.ids[h] = e
	d.mu.Unlock()
	if !same {
		d.entries++
		d.bytes += idCost
	}
}

// bearers returns what the delta says of a hash.
func (d *delta) bearers(h idHash) (first bearer, found bool) {
	d.mu.RLock()
	first, found = d.ids[h]
	d.mu.RUnlock()
	return first, found
}

// idChanges yields the changes of the index in order.
func (d *delta) idChanges(yield func(change) bool) bool {
	var list []*bearer
	for _, h := range sortedKeys(d.ids) {
		first := d.ids[h]
		list = list[:0]
		for b := &first; b != nil; b = b.next {
			list = append(list, b)
		}
		slices.SortFunc(list, func(x, y *bearer) int { return int(int64(x.ordinal) - int64(y.ordinal)) })
		for _, b := range list {
			e := newIDEntry(h, b.ordinal)
			c := change{bucket: bucketIDs, key: e[:]}
			if !b.gone {
				c.value = []byte{}
			}
			if !yield(c) {
				return false
			}
		}
	}
	return true
}

// find returns the first ordinal that is not gone and for which has is true.
func (b *bearer) find(has func(uint32) bool) (uint32, bool) {
	for ; b != nil; b = b.next {
		if !b.gone && has(b.ordinal) {
			return b.ordinal, true
		}
	}
	return 0, false
}

// ordinal returns the ordinal of a user.
func (v *view) ordinal(id string) (uint32, bool) {
	h := hashID(id)
	first, found := v.active.bearers(h)
	if found {
		ord, is := first.find(func(ord uint32) bool {
			return recordHasID(v.blockRecord(kindUser, v.geo.block(ord), v.geo.low(ord)), id)
		})
		if is {
			return ord, true
		}
	}
	ord, known := v.ordinalBelow(id, h)
	if known && found && first.of(ord) != nil {
		return 0, false // gone, or it would have been found above
	}
	return ord, known
}

// ordinalBelow does so without the active delta.
func (v *view) ordinalBelow(id string, h idHash) (uint32, bool) {
	if v.ahead != nil {
		if ord, read := v.ahead.ids[id]; read {
			return uint32(ord), ord != nobody
		}
	}
	has := func(ord uint32) bool {
		return recordHasID(v.recordBelow(kindUser, v.geo.block(ord), v.geo.low(ord)), id)
	}
	var first bearer
	found := false
	if v.frozen != nil {
		if first, found = v.frozen.bearers(h); found {
			if ord, is := first.find(has); is {
				return ord, true
			}
		}
	}
	key := newIDEntry(h, 0)
	for _, ord := range idsIn(v.base(bucketIDs).Get(key[:idPrefix]), h) {
		if !(found && first.of(ord) != nil) && has(ord) {
			return ord, true
		}
	}
	return 0, false
}
