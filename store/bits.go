package store

import (
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
)

// bits is what a delta says of one posting or one pending set of a block. It
// is absolute: set and clear are disjoint, and laid over a container that
// already has them nothing changes. A nil bitmap is an empty one.
type bits struct {
	few        []uint32 // the same as the bitmaps, which are nil then: ascending, twice the value, and 1 more if it is set
	set, clear *roaring.Bitmap
	gone       bool   // whatever was there before is dropped
	raw        []byte // with gone: a set as it is serialized, in place of what was there
	charged    int64  // to the delta
}

// fewBits is how many values are kept as a list: most sets that single changes make have no more.
const fewBits = 64

// size is about the memory of the bitmaps.
func (b *bits) size() int64 {
	n := int64(4*cap(b.few) + len(b.raw))
	for _, x := range [...]*roaring.Bitmap{b.set, b.clear} {
		if x != nil {
			n += int64(x.GetSizeInBytes())
		}
	}
	return n
}

// fits says whether n more values go into the list.
func (b *bits) fits(n int) bool { return b.set == nil && b.clear == nil && len(b.few)+n <= fewBits }

// find returns where low is in the list, or would be.
func (b *bits) find(low uint32) (at int, found bool) {
	at, _ = slices.BinarySearch(b.few, low<<1)
	return at, at < len(b.few) && b.few[at]>>1 == low
}

// blank says whether there is nothing that could be cleared but what was set.
func (b *bits) blank() bool { return b.gone && b.raw == nil }

// put puts a value into the list.
func (b *bits) put(low uint32, is uint32) {
	at, found := b.find(low)
	switch {
	case found && is == 0 && b.blank():
		b.few = slices.Delete(b.few, at, at+1)
	case found:
		b.few[at] = low<<1 | is
	case is != 0 || !b.blank():
		b.few = slices.Insert(b.few, at, low<<1|is)
	}
}

// spread makes bitmaps of the list.
func (b *bits) spread() {
	b.set, b.clear = b.bitmaps()
	b.few = nil
}

// bitmaps returns both sets, nil for empty ones.
func (b *bits) bitmaps() (set, clear *roaring.Bitmap) {
	if len(b.few) == 0 {
		return b.set, b.clear
	}
	for _, x := range b.few {
		to := &clear
		if x&1 != 0 {
			to = &set
		}
		if *to == nil {
			*to = roaring.New()
		}
		(*to).Add(x >> 1)
	}
	return set, clear
}

func (b *bits) addMany(low []uint32) {
	if b.fits(len(low)) {
		for _, x := range low {
			b.put(x, 1)
		}
		return
	}
	b.spread()
	if b.set == nil {
		b.set = roaring.New()
	}
	b.set.AddMany(low)
	if b.clear != nil {
		for _, x := range low {
			b.clear.Remove(x)
		}
	}
}

func (b *bits) removeMany(low []uint32) {
	if b.fits(len(low)) {
		for _, x := range low {
			b.put(x, 0)
		}
		return
	}
	b.spread()
	if b.set != nil {
		for _, x := range low {
			b.set.Remove(x)
		}
	}
	if b.blank() {
		return
	}
	if b.clear == nil {
		b.clear = roaring.New()
	}
	b.clear.AddMany(low)
}

func (b *bits) remove(low uint16) {
	one := [1]uint32{uint32(low)}
	b.removeMany(one[:])
}

func (b *bits) addAll(x *roaring.Bitmap) {
	if n := x.GetCardinality(); n <= fewBits {
		b.addMany(x.ToArray())
		return
	}
	b.spread()
	if b.set == nil {
		b.set = roaring.New()
	}
	b.set.Or(x)
	if b.clear != nil {
		b.clear.AndNot(x)
	}
}

func (b *bits) removeAll(x *roaring.Bitmap) {
	b.spread()
	if b.set != nil {
		b.set.AndNot(x)
	}
	if b.blank() {
		return
	}
	if b.clear == nil {
		b.clear = roaring.New()
	}
	b.clear.Or(x)
}

func (b *bits) drop() { *b = bits{gone: true, charged: b.charged} }

// over returns base with b laid over it. The result is base itself where b
// changes nothing, else a bitmap of its own; one that aliases raw is copied by roaring where it is written to.
func (b *bits) over(base *roaring.Bitmap) *roaring.Bitmap {
	if b == nil {
		return base
	}
	if b.gone {
		base = nil
		if b.raw != nil {
			base = roaring.New()
			if _, err := base.FromUnsafeBytes(b.raw); err != nil {
				panic(err) // it was serialized here
			}
		}
	}
	switch {
	case len(b.few) > 0 && base == nil:
		set, _ := b.bitmaps()
		return set
	case len(b.few) > 0:
		base = base.Clone()
		for _, x := range b.few {
			if x&1 != 0 {
				base.Add(x >> 1)
			} else {
				base.Remove(x >> 1)
			}
		}
		return base
	case base == nil:
		if b.set == nil {
			return nil
		}
		return b.set.Clone()
	}
	if b.set != nil && !b.set.IsEmpty() {
		base = roaring.Or(base, b.set)
		if b.clear != nil {
			base.AndNot(b.clear)
		}
		return base
	}
	if b.clear != nil && !b.clear.IsEmpty() {
		return roaring.AndNot(base, b.clear)
	}
	return base
}

// serialized returns the sets that a segment has, nil for empty ones.
func (b *bits) serialized() (set, clear []byte) {
	if b.raw != nil && len(b.few) == 0 && b.set == nil && b.clear == nil {
		return b.raw, nil
	}
	x, y := b.bitmaps()
	if b.raw != nil {
		x, y = b.over(nil), nil
	}
	if x != nil && !x.IsEmpty() {
		set = bitmapBytes(x)
	}
	if y != nil && !y.IsEmpty() {
		clear = bitmapBytes(y)
	}
	return set, clear
}

// has says whether b decides about low, and how.
func (b *bits) has(low uint16) (is, decided bool) {
	if len(b.few) > 0 {
		if at, found := b.find(uint32(low)); found {
			return b.few[at]&1 != 0, true
		}
	} else if b.set != nil && b.set.Contains(uint32(low)) {
		return true, true
	} else if b.clear != nil && b.clear.Contains(uint32(low)) {
		return false, true
	}
	return b.raw != nil && containerHas(b.raw, low), b.gone
}

// messageSets are what a delta says of a block's sets of one kind that there are for each message.
type messageSets struct {
	seqs []uint64 // ascending
	list []*bits
}

// from returns where the first is of those from seq on.
func (p *messageSets) from(seq uint64) int {
	if n := len(p.seqs); n == 0 || p.seqs[n-1] < seq { // of a message that is new
		return n
	}
	at, _ := slices.BinarySearch(p.seqs, seq)
	return at
}

// of returns what is said of a message, nil if nothing.
func (p *messageSets) of(seq uint64) *bits {
	if at := p.from(seq); at < len(p.seqs) && p.seqs[at] == seq {
		return p.list[at]
	}
	return nil
}

func (p *messageSets) add(seq uint64, b *bits) {
	at := p.from(seq)
	p.seqs, p.list = slices.Insert(p.seqs, at, seq), slices.Insert(p.list, at, b)
}

// delta is what has changed since a checkpoint. Its one writer is the
// committer; readers of the active delta go through the locks, a frozen one is
// never written again.
type delta struct {
	mu      sync.RWMutex
	records [bucketBlocks]records // but of bucketIDs
	ids     idTable
	blocks  map[uint16]*blockDelta

	position uint64  // of the last record applied to it
	group    groupID // with a log: which that is
	entries  int
	bytes    int64
	digest   *digest // of the changes; nil without a log
}

// records are the entries of a bucket outside the blocks.
type records struct {
	values map[string][]byte // nil: the key is gone
	sorted []string          // keys; never changed, but replaced
	fresh  []string          // further keys, in the order in which they came
}

type blockDelta struct {
	mu      sync.RWMutex
	users   map[uint16][]byte // nil: gone
	devices map[uint16][]byte
	facts   map[uint32]*bits
	pending messageSets
	opened  messageSets
	asleep  messageSets
}

// of returns the sets of a kind.
func (b *blockDelta) of(kind byte) *messageSets {
	switch kind {
	case kindOpener:
		return &b.opened
	case kindAsleep:
		return &b.asleep
	}
	return &b.pending
}

func newDelta() *delta {
	d := &delta{blocks: make(map[uint16]*blockDelta)}
	for i := range d.records {
		d.records[i].values = make(map[string][]byte)
	}
	return d
}

// What an entry costs beside its bytes, roughly: map slots, headers, bitmap structures.
const (
	recordCost = 96
	bitsCost   = 160
	idCost     = 32
)

func (d *delta) put(b bucket, key string, value []byte) {
	d.digest.record(uint64(b), key, value)
	d.mu.Lock()
	r := &d.records[b]
	old, had := r.values[key]
	r.values[key] = value
	if !had {
		r.fresh = append(r.fresh, key)
	}
	d.mu.Unlock()
	d.charge(had, len(key), len(value)-len(old))
}

func (d *delta) charge(had bool, key, value int) {
	d.bytes += int64(value)
	if !had {
		d.entries++
		d.bytes += recordCost + int64(key)
	}
}

func (d *delta) get(b bucket, key []byte) (value []byte, found bool) {
	d.mu.RLock()
	value, found = d.records[b].values[string(key)]
	d.mu.RUnlock()
	return value, found
}

// keys returns the keys of a bucket in order. What is returned does not change.
func (d *delta) keys(b bucket) []string {
	r := &d.records[b]
	d.mu.RLock()
	sorted, done := r.sorted, len(r.fresh) == 0
	d.mu.RUnlock()
	if done {
		return sorted
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(r.fresh)
	r.sorted, r.fresh = merge(r.sorted, r.fresh), nil
	return r.sorted
}

// merge returns the keys of both, which are in order and have none in common.
func merge(x, y []string) []string {
	if len(x) == 0 {
		return y
	}
	out := make([]string, 0, len(x)+len(y))
	for len(x) > 0 && len(y) > 0 {
		if x[0] < y[0] {
			out, x = append(out, x[0]), x[1:]
		} else {
			out, y = append(out, y[0]), y[1:]
		}
	}
	return append(append(out, x...), y...)
}

// record returns what the delta says of the record of a user, or of its devices.
func (d *delta) record(kind byte, block, low uint16) (value []byte, found bool) {
	b := d.block(block)
	if b == nil {
		return nil, false
	}
	m := b.users
	if kind == kindDevice {
		m = b.devices
	}
	b.mu.RLock()
	value, found = m[low]
	b.mu.RUnlock()
	return value, found
}

// block returns what the delta says of a block, nil if nothing.
func (d *delta) block(n uint16) *blockDelta {
	d.mu.RLock()
	b := d.blocks[n]
	d.mu.RUnlock()
	return b
}

func (d *delta) ensureBlock(n uint16) *blockDelta {
	if b := d.blocks[n]; b != nil { // only the writer adds
		return b
	}
	b := &blockDelta{
		users: make(map[uint16][]byte), devices: make(map[uint16][]byte),
		facts: make(map[uint32]*bits),
	}
	d.mu.Lock()
	d.blocks[n] = b
	d.mu.Unlock()
	return b
}

// addUsers puts n users of a block who are new, with their IDs, for which it asks in order.
func (d *delta) addUsers(block uint16, n int, user func(i int) (low uint16, record []byte, id idNote)) {
	b := d.ensureBlock(block)
	fresh := 0
	d.mu.Lock()
	b.mu.Lock()
	for i := range n {
		low, record, id := user(i)
		d.digest.record(uint64(block)<<16|uint64(low), "", record)
		old, had := b.users[low]
		b.users[low] = record
		d.charge(had, 2, len(record)-len(old))
		if d.ids.put(id) {
			fresh++
		}
	}
	b.mu.Unlock()
	d.mu.Unlock()
	d.entries += fresh
	d.bytes += int64(fresh) * idCost
}

func (d *delta) putUser(block, low uint16, value []byte) {
	d.digest.record(uint64(block)<<16|uint64(low), "", value)
	b := d.ensureBlock(block)
	b.mu.Lock()
	old, had := b.users[low]
	b.users[low] = value
	b.mu.Unlock()
	d.charge(had, 2, len(value)-len(old))
}

func (d *delta) putDevices(block, low uint16, value []byte) {
	d.digest.record(uint64(block)<<16|uint64(low), "device", value)
	b := d.ensureBlock(block)
	b.mu.Lock()
	old, had := b.devices[low]
	b.devices[low] = value
	b.mu.Unlock()
	d.charge(had, 2, len(value)-len(old))
}

// setFacts makes a fact true, or untrue, of users of a block, given in ascending order.
func (d *delta) setFacts(block uint16, fact uint32, low []uint32, is bool) {
	d.digest.bits(uint64(block)<<32|uint64(fact), is, low)
	b := d.ensureBlock(block)
	b.mu.Lock()
	e := b.facts[fact]
	if e == nil {
		e = new(bits)
		b.facts[fact] = e
		d.entries++
		d.bytes += bitsCost
	}
	if is {
		e.addMany(low)
	} else {
		e.removeMany(low)
	}
	b.mu.Unlock()
	d.chargeBits(e)
}

// setAll makes facts true, or untrue, of users: packed by factChange, ascending.
func (d *delta) setAll(changes []uint64, is bool) {
	var low []uint32
	for len(changes) > 0 {
		of := changes[0] >> 16
		n := 0
		for low = low[:0]; n < len(changes) && changes[n]>>16 == of; n++ {
			low = append(low, uint32(changes[n]&0xFFFF))
		}
		d.setFacts(uint16(of>>32), uint32(of), low, is)
		changes = changes[n:]
	}
}

// updatePending hands the entry of a pending set to f, under the lock.
func (d *delta) updatePending(block uint16, seq uint64, f func(*bits)) {
	d.update(kindPending, block, seq, f)
}

// update does so with a set of a kind.
func (d *delta) update(kind byte, block uint16, seq uint64, f func(*bits)) {
	d.digest.words(uint64(kind), uint64(block), seq)
	b := d.ensureBlock(block)
	b.mu.Lock()
	defer b.mu.Unlock() // f may meet damaged bytes of the file in what a push has
	sets := b.of(kind)
	e := sets.of(seq)
	if e == nil {
		e = new(bits)
		sets.add(seq, e)
		d.entries++
		d.bytes += bitsCost
	}
	f(e)
	d.chargeBits(e)
}

// chargeBits brings what the delta counts for an entry up to date.
func (d *delta) chargeBits(e *bits) {
	size := e.size()
	d.bytes += size - e.charged
	e.charged = size
}

// sortedKeys returns the keys of m in order.
func sortedKeys[K interface {
	~uint16 | ~uint32 | ~uint64 | ~string
}, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
