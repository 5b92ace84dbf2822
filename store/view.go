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
	geo    geometry
	tx     *bbolt.Tx
	cursor [buckets]*bbolt.Cursor
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

	everyone *everyone
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
		return &view{open: &s.views, geo: s.geo, tx: tx, layers: l, frozen: l.frozen, active: l.active}, nil
	}
}

func (v *view) close() {
	if v.tx != nil {
		v.tx.Rollback()
		v.tx = nil
		v.open.Add(-1)
	}
}

// get returns the value of a key outside the blocks and not of an ID, nil if there is none.
func (v *view) get(b bucket, key []byte) []byte {
	if value, found := v.active.get(b, key); found {
		return value
	}
	return v.below(b, key)
}

// below does so without the active delta.
func (v *view) below(b bucket, key []byte) []byte {
	if v.frozen != nil {
		if value, found := v.frozen.get(b, key); found {
			return value
		}
	}
	return v.stored(b, key)
}

// stored returns what blocks.db has under a key, nil for nothing. The cursor is kept: a look-up by [bbolt.Bucket.Get]
// makes one each time.
func (v *view) stored(b bucket, key []byte) []byte {
	c := v.cursor[b]
	if c == nil {
		c = v.tx.Bucket(bucketName[b]).Cursor()
		v.cursor[b] = c
	}
	if k, value := c.Seek(key); bytes.Equal(k, key) {
		return value
	}
	return nil
}

// token returns the record of who has a token, nil if nobody has.
func (v *view) token(h [16]byte) []byte {
	if v.ahead != nil {
		if below, read := v.ahead.tokens[h]; read {
			if value, found := v.active.get(bucketTokens, h[:]); found {
				return value
			}
			return below
		}
	}
	return v.get(bucketTokens, h[:])
}

// blockRecord returns the record of a user or of its devices.
func (v *view) blockRecord(kind byte, block, low uint16) []byte {
	if value, found := v.active.record(kind, block, low); found {
		return value
	}
	if v.ahead != nil {
		if value, read := v.ahead.records[recordOf{kind, block, low}]; read {
			return value
		}
	}
	return v.recordBelow(kind, block, low)
}

// recordBelow does so without the active delta.
func (v *view) recordBelow(kind byte, block, low uint16) []byte {
	if v.frozen != nil {
		if value, found := v.frozen.record(kind, block, low); found {
			return value
		}
	}
	if kind == kindUser {
		return groupRecord(v.stored(bucketBlocks, groupKey(block, low)), low)
	}
	return v.stored(bucketBlocks, deviceKey(block, low))
}

// userRecords reads records of users of one block, whose groups it keeps from one to the next.
type userRecords struct {
	v              *view
	block          uint16
	active, frozen *blockDelta
	group          int // whose records are in raw, -1 at first
	raw            []byte
}

func (v *view) users(block uint16) *userRecords {
	u := &userRecords{v: v, block: block, active: v.active.block(block), group: -1}
	if v.frozen != nil {
		u.frozen = v.frozen.block(block)
	}
	return u
}

func (u *userRecords) record(low uint16) []byte {
	for _, b := range [...]*blockDelta{u.active, u.frozen} {
		if b == nil {
			continue
		}
		b.mu.RLock()
		value, found := b.users[low]
		b.mu.RUnlock()
		if found {
			return value
		}
	}
	if group := int(low / groupUsers); group != u.group {
		u.group, u.raw = group, u.v.stored(bucketBlocks, groupKey(u.block, low))
	}
	return groupRecord(u.raw, low)
}

// container returns the layered set under a fact or pending key. One that is not owned is as it stands in the file.
func (v *view) container(key []byte, entry func(*blockDelta) *bits) result {
	var base *roaring.Bitmap
	raw := v.stored(bucketBlocks, key)
	if raw != nil {
		base = v.parse(raw)
	}
	bm := base
	block := binary.BigEndian.Uint16(key)
	if v.frozen != nil {
		if b := v.frozen.block(block); b != nil {
			bm = entry(b).over(bm)
		}
	}
	if b := v.active.block(block); b != nil {
		bm = b.over(bm, entry)
	}
	if bm == nil || bm.IsEmpty() {
		return result{}
	}
	if bm != base {
		return result{set: bm, owned: true}
	}
	return result{set: bm, raw: raw}
}

// over lays what the active delta says of a set over it. One of the file that is damaged may panic here, and the lock must not stay
// behind, for who reads goes on.
func (b *blockDelta) over(bm *roaring.Bitmap, entry func(*blockDelta) *bits) *roaring.Bitmap {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return entry(b).over(bm)
}

// parse returns a set that aliases raw, unless that is packed.
func (v *view) parse(raw []byte) *roaring.Bitmap {
	if v.parsed == len(v.sets) {
		v.sets = append(v.sets, roaring.New())
	}
	bm := v.sets[v.parsed]
	v.parsed++
	if _, err := bm.FromUnsafeBytes(portable(raw)); err != nil {
		panic(&FormatError{What: "container", Detail: err.Error()})
	}
	return bm
}

func (v *view) fact(block uint16, fact uint32) result {
	return v.container(factKey(block, fact), func(b *blockDelta) *bits { return b.facts[fact] })
}

func (v *view) pending(block uint16, seq uint64) *roaring.Bitmap {
	return v.ofMessage(kindPending, block, seq)
}

// ofMessage returns the set of a kind that there is for a message, nil for nobody.
func (v *view) ofMessage(kind byte, block uint16, seq uint64) *roaring.Bitmap {
	return v.container(messageKey(block, kind, seq), func(b *blockDelta) *bits { return b.of(kind).of(seq) }).set
}

// bit says whether a delta decides about a user in a set of a message, and how.
func (b *blockDelta) bit(kind byte, low uint16, seq uint64) (is, decided bool) {
	if e := b.of(kind).of(seq); e != nil {
		return e.has(low)
	}
	return false, false
}

// waits says whether a user waits for a message.
func (v *view) waits(block, low uint16, seq uint64) bool {
	if is, decided := v.active.block(block).says(kindPending, low, seq); decided {
		return is
	}
	if v.ahead != nil && v.ahead.waiting != nil {
		_, is := slices.BinarySearch(v.ahead.waiting, seq)
		return is
	}
	return v.waitsBelow(block, low, seq)
}

// waitsBelow does so without the active delta.
func (v *view) waitsBelow(block, low uint16, seq uint64) bool {
	return v.hasBelow(kindPending, block, low, seq)
}

// opened says whether a user has opened a message.
func (v *view) opened(block, low uint16, seq uint64) bool {
	if is, decided := v.active.block(block).says(kindOpener, low, seq); decided {
		return is
	}
	return v.hasBelow(kindOpener, block, low, seq)
}

// hasBelow says whether a user is in a set of a message, without the active delta.
func (v *view) hasBelow(kind byte, block, low uint16, seq uint64) bool {
	if v.frozen != nil {
		if b := v.frozen.block(block); b != nil {
			if is, decided := b.bit(kind, low, seq); decided {
				return is
			}
		}
	}
	raw := v.stored(bucketBlocks, messageKey(block, kind, seq))
	return raw != nil && containerHas(raw, low)
}

// pendingOf returns the sequences, ascending, that the user of block and low still
// waits for, after the given one, at most max; below are those of them that the active delta says nothing of. The
// cost grows with the messages for which anybody of the block waits.
func (v *view) pendingOf(block, low uint16, after uint64, max int) (found, below []uint64) {
	return v.messagesOf(kindPending, block, low, after, max)
}

// messagesOf does so with the sets of a kind.
func (v *view) messagesOf(kind byte, block, low uint16, after uint64, max int) (found, below []uint64) {
	var active, frozen *blockDelta
	if active = v.active.block(block); active != nil {
		found = active.waiting(kind, low, after, max)
	}
	if v.frozen != nil {
		frozen = v.frozen.block(block)
	}
	if frozen != nil {
		of := frozen.of(kind)
		for i := of.from(after + 1); i < len(of.seqs) && len(below) < max; i++ {
			if is, _ := of.list[i].has(low); is && !active.decides(kind, low, of.seqs[i]) {
				below = append(below, of.seqs[i])
			}
		}
	}
	prefix := blockKey(block, kind)
	c := v.tx.Bucket(bucketName[bucketBlocks]).Cursor()
	n := 0
	for k, raw := c.Seek(messageKey(block, kind, after+1)); bytes.HasPrefix(k, prefix) && n < max; k, raw = c.Next() {
		if !containerHas(raw, low) {
			continue
		}
		seq := binary.BigEndian.Uint64(k[len(prefix):])
		if active.decides(kind, low, seq) {
			continue
		}
		if frozen != nil {
			if _, decided := frozen.bit(kind, low, seq); decided {
				continue
			}
		}
		below = append(below, seq)
		n++
	}
	if len(below) > n {
		slices.Sort(below)
	}
	if len(found) == 0 {
		found = below
	} else {
		found = append(found, below...)
		slices.Sort(found)
	}
	return found[:min(len(found), max)], below
}

// waiting returns what an active delta has of a user's sequences of a kind after the given one, at most max.
func (b *blockDelta) waiting(kind byte, low uint16, after uint64, max int) (found []uint64) {
	b.mu.RLock()
	defer b.mu.RUnlock() // see says
	of := b.of(kind)
	for i := of.from(after + 1); i < len(of.seqs) && len(found) < max; i++ {
		if is, _ := of.list[i].has(low); is {
			found = append(found, of.seqs[i])
		}
	}
	return found
}

// decides says whether the active delta of a block, which may be nil, says anything of a user in a set of a message.
func (b *blockDelta) decides(kind byte, low uint16, seq uint64) bool {
	_, decided := b.says(kind, low, seq)
	return decided
}

// says is bit of the active delta of a block, which may be nil. A push has bytes of the file, and these may be damaged: the lock
// must not stay behind when they are met.
func (b *blockDelta) says(kind byte, low uint16, seq uint64) (is, decided bool) {
	if b == nil {
		return false, false
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.bit(kind, low, seq)
}

// entry is a key with its value, a copy of both.
type entry struct{ key, value []byte }

// scan returns at most max entries of a bucket outside the blocks with
// from <= key < to, ascending or descending; a nil to is the end.
func (v *view) scan(b bucket, from, to []byte, max int, descending bool) []entry {
	// The layers from the top: where two have a key, the upper one counts.
	layers := []scanner{scanKeys(v.active.keys(b), from, to, descending)}
	if v.frozen != nil {
		layers = append(layers, scanKeys(v.frozen.keys(b), from, to, descending))
	}
	layers = append(layers, scanFile(v.tx.Bucket(bucketName[b]).Cursor(), from, to, descending))
	heads := make([][]byte, len(layers))
	for i, next := range layers {
		heads[i] = next()
	}
	var out []entry
	for len(out) < max {
		var first []byte
		for _, k := range heads {
			if k != nil && (first == nil || bytes.Compare(k, first) < 0 != descending && !bytes.Equal(k, first)) {
				first = k
			}
		}
		if first == nil {
			break
		}
		for i, next := range layers {
			if bytes.Equal(heads[i], first) {
				heads[i] = next()
			}
		}
		if value := v.get(b, first); value != nil {
			out = append(out, entry{bytes.Clone(first), bytes.Clone(value)})
		}
	}
	return out
}

// scanner returns the next key of a layer, nil behind the last.
type scanner func() []byte

func scanKeys(keys []string, from, to []byte, descending bool) scanner {
	first, _ := slices.BinarySearch(keys, string(from))
	end := len(keys)
	if to != nil {
		end, _ = slices.BinarySearch(keys, string(to))
	}
	return func() []byte {
		if first >= end {
			return nil
		}
		if descending {
			end--
			return []byte(keys[end])
		}
		first++
		return []byte(keys[first-1])
	}
}

func scanFile(c *bbolt.Cursor, from, to []byte, descending bool) scanner {
	step := c.Next
	if descending {
		step = c.Prev
	}
	started := false
	return func() (k []byte) {
		switch {
		case started:
			k, _ = step()
		case !descending:
			k, _ = c.Seek(from)
		case to == nil:
			k, _ = c.Last()
		default:
			if at, _ := c.Seek(to); at != nil {
				k, _ = c.Prev()
			} else {
				k, _ = c.Last()
			}
		}
		started = true
		if k == nil || bytes.Compare(k, from) < 0 || to != nil && bytes.Compare(k, to) >= 0 {
			return nil
		}
		return k
	}
}
