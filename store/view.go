package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// view is a consistent layering of blocks, frozen delta and active delta. It
// holds a bbolt read transaction, so it lives for one block's work and is
// never open while its holder proposes, delivers, or calls a caller's code; Store.Views counts them, so that tests can tell.
// What it returns aliases mapped memory or a delta, and is read-only and gone after close.
type view struct {
	open   *atomic.Int64
	tx     *bbolt.Tx
	bucket [buckets]*bbolt.Bucket
	layers *layers
	ahead  *ahead // of the command being applied; nil elsewhere, and when the layers have changed since
	frozen *delta // nil when no fold is under way
	active *delta

	sets   []*roaring.Bitmap // what containers of the file are parsed into, used again for the next block
	parsed int               // how many of them are in use
}

// layers is what a view is made of; the pointer changes when a delta is
// frozen, when a fold is done, and when the file is replaced by a compacted one.
type layers struct {
	db     *bbolt.DB
	frozen *delta
	active *delta
}

// view opens a view. No lock is held over Begin: a transaction newer than the
// layers is harmless, because delta entries are absolute; an older one would
// miss a finished fold, so the layers are read again behind it.
func (s *Store) view() (*view, error) {
	for {
		l := s.layers.Load()
		tx, err := l.db.Begin(false)
		if s.layers.Load() != l {
			if err == nil {
				tx.Rollback()
			}
			continue
		}
		if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
			return nil, ErrClosed
		}
		if err != nil {
			return nil, err
		}
		s.views.Add(1)
		return &view{open: &s.views, tx: tx, layers: l, frozen: l.frozen, active: l.active}, nil
	}
}

func (v *view) close() {
	if v.tx != nil {
		v.tx.Rollback()
		v.tx = nil
		v.open.Add(-1)
	}
}

func (v *view) base(b bucket) *bbolt.Bucket {
	if v.bucket[b] == nil {
		v.bucket[b] = v.tx.Bucket(bucketName[b])
	}
	return v.bucket[b]
}

// get returns the value of a key outside the blocks, nil if there is none.
func (v *view) get(b bucket, key []byte) []byte {
	if value, found := v.active.get(b, key); found {
		return value
	}
	if v.frozen != nil {
		if value, found := v.frozen.get(b, key); found {
			return value
		}
	}
	return v.stored(b, key)
}

// stored returns what the file has under a key, without the deltas.
func (v *view) stored(b bucket, key []byte) []byte {
	if v.ahead != nil {
		if value, known := v.ahead.values[storedKey{b, string(key)}]; known {
			return value
		}
	}
	return v.base(b).Get(key)
}

// blockRecord returns the record of a user or of its devices.
func (v *view) blockRecord(kind byte, block, low uint16) []byte {
	for _, d := range [...]*delta{v.active, v.frozen} {
		if d == nil {
			continue
		}
		if b := d.block(block); b != nil {
			m := b.users
			if kind == kindDevice {
				m = b.devices
			}
			b.mu.RLock()
			value, found := m[low]
			b.mu.RUnlock()
			if found {
				return value
			}
		}
	}
	key := [5]byte{byte(block >> 8), byte(block), kind, byte(low >> 8), byte(low)}
	return v.stored(bucketBlocks, key[:])
}

// container returns the layered set under a fact or pending key, nil if it is
// empty. It may alias the file: it is never the receiver of an operation in place.
func (v *view) container(key []byte, entry func(*blockDelta) *bits) *roaring.Bitmap {
	var bm *roaring.Bitmap
	if raw := v.base(bucketBlocks).Get(key); raw != nil {
		bm = v.parse(raw)
	}
	block := binary.BigEndian.Uint16(key)
	if v.frozen != nil {
		if b := v.frozen.block(block); b != nil {
			bm = entry(b).over(bm)
		}
	}
	if b := v.active.block(block); b != nil {
		b.mu.RLock()
		bm = entry(b).over(bm)
		b.mu.RUnlock()
	}
	if bm != nil && bm.IsEmpty() {
		return nil
	}
	return bm
}

// parse returns a set that aliases raw.
func (v *view) parse(raw []byte) *roaring.Bitmap {
	if v.parsed == len(v.sets) {
		v.sets = append(v.sets, roaring.New())
	}
	bm := v.sets[v.parsed]
	v.parsed++
	if _, err := bm.FromUnsafeBytes(raw); err != nil {
		panic(&FormatError{What: "container", Detail: err.Error()})
	}
	return bm
}

func (v *view) fact(block uint16, fact uint32) *roaring.Bitmap {
	return v.container(factKey(block, fact), func(b *blockDelta) *bits { return b.facts[fact] })
}

func (v *view) pending(block uint16, seq uint64) *roaring.Bitmap {
	return v.container(pendingKey(block, seq), func(b *blockDelta) *bits { return b.pending[seq] })
}

// pendingBits says whether a delta decides about a user and a message, and how.
func (b *blockDelta) pendingBits(low uint16, seq uint64) (is, decided bool) {
	if e := b.pending[seq]; e != nil {
		return e.has(low)
	}
	return false, false
}

// decided says whether the deltas decide whether a user waits for a message, and how.
func (v *view) decided(block, low uint16, seq uint64) (is, decided bool) {
	if b := v.active.block(block); b != nil {
		b.mu.RLock()
		is, decided = b.pendingBits(low, seq)
		b.mu.RUnlock()
		if decided {
			return is, true
		}
	}
	if v.frozen != nil {
		if b := v.frozen.block(block); b != nil {
			return b.pendingBits(low, seq)
		}
	}
	return false, false
}

// waits says whether a user waits for a message.
func (v *view) waits(block, low uint16, seq uint64) bool {
	if is, decided := v.decided(block, low, seq); decided {
		return is
	}
	if v.ahead != nil && v.ahead.waiting != nil {
		_, is := slices.BinarySearch(v.ahead.waiting, seq)
		return is
	}
	raw := v.base(bucketBlocks).Get(pendingKey(block, seq))
	return raw != nil && containerHas(raw, low)
}

// pendingOf returns the sequences, ascending, that the user of block and low still
// waits for, after the given one, at most max; stored are those of them that the file says. The cost grows with the
// messages for which anybody of the block waits.
func (v *view) pendingOf(block, low uint16, after uint64, max int) (found, stored []uint64) {
	var active, frozen *blockDelta
	if v.frozen != nil {
		frozen = v.frozen.block(block)
	}
	if active = v.active.block(block); active != nil {
		active.mu.RLock()
		for seq, e := range active.pending {
			if seq > after {
				if is, _ := e.has(low); is {
					found = append(found, seq)
				}
			}
		}
		active.mu.RUnlock()
	}
	if frozen != nil {
		for seq, e := range frozen.pending {
			if seq > after {
				if is, _ := e.has(low); is && !v.activeDecides(active, low, seq) {
					found = append(found, seq)
				}
			}
		}
	}
	prefix := blockKey(block, kindPending)
	c := v.base(bucketBlocks).Cursor()
	for k, raw := c.Seek(pendingKey(block, after+1)); bytes.HasPrefix(k, prefix) && len(stored) < max; k, raw = c.Next() {
		if !containerHas(raw, low) {
			continue
		}
		seq := binary.BigEndian.Uint64(k[len(prefix):])
		if v.activeDecides(active, low, seq) {
			continue
		}
		if frozen != nil {
			if _, decided := frozen.pendingBits(low, seq); decided {
				continue
			}
		}
		stored = append(stored, seq)
	}
	if found = append(found, stored...); len(found) > len(stored) {
		slices.Sort(found)
	}
	if len(found) > max {
		found = found[:max]
	}
	return found, stored
}

func (v *view) activeDecides(active *blockDelta, low uint16, seq uint64) bool {
	if active == nil {
		return false
	}
	active.mu.RLock()
	_, decided := active.pendingBits(low, seq)
	active.mu.RUnlock()
	return decided
}

// entry is a key with its value, a copy of both.
type entry struct{ key, value []byte }

// scan returns at most max entries of a bucket outside the blocks with
// from <= key < to, ascending or descending; a nil to is the end.
func (v *view) scan(b bucket, from, to []byte, max int, descending bool) []entry {
	over := make(map[string][]byte)
	for _, d := range [...]*delta{v.frozen, v.active} {
		if d == nil {
			continue
		}
		d.mu.RLock()
		for k, value := range d.records[b] {
			if k >= string(from) && (to == nil || k < string(to)) {
				over[k] = value
			}
		}
		d.mu.RUnlock()
	}
	var out []entry
	c := v.base(b).Cursor()
	// Entries of the file that a delta overrides are skipped, so taking max of
	// the file and all of the deltas and cutting afterwards is enough.
	if descending {
		k, value := c.Last()
		if to != nil {
			if at, _ := c.Seek(to); at != nil {
				k, value = c.Prev()
			} else {
				k, value = c.Last()
			}
		}
		for ; k != nil && bytes.Compare(k, from) >= 0 && len(out) < max; k, value = c.Prev() {
			if _, covered := over[string(k)]; !covered {
				out = append(out, entry{bytes.Clone(k), bytes.Clone(value)})
			}
		}
	} else {
		for k, value := c.Seek(from); k != nil && (to == nil || bytes.Compare(k, to) < 0) && len(out) < max; k, value = c.Next() {
			if _, covered := over[string(k)]; !covered {
				out = append(out, entry{bytes.Clone(k), bytes.Clone(value)})
			}
		}
	}
	for k, value := range over {
		if value != nil {
			out = append(out, entry{[]byte(k), bytes.Clone(value)})
		}
	}
	slices.SortFunc(out, func(x, y entry) int {
		if descending {
			x, y = y, x
		}
		return bytes.Compare(x.key, y.key)
	})
	if len(out) > max {
		out = out[:max]
	}
	return out
}
