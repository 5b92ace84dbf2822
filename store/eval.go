package store

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"
)

// program is an audience with its facts resolved to numbers, ready to be
// evaluated block by block, by several goroutines at once.
type program struct {
	op      Op
	fact    uint32      // OpTag, which stands for every fact, OpAll; OpBetween: who has a value
	none    bool        // a fact that nobody has
	compare *comparison // OpBetween, which stands for every comparison
	ords    []uint32    // OpUsers, ascending
	ppm     uint64
	salt    uint64
	args    []*program
}

// compiler resolves audiences at a moment: now, in milliseconds since 1970, is that of the days in them.
type compiler struct {
	v   *view
	st  *state
	now int64
}

// compile resolves e. What it can find wrong is an attribute without a name, and a value that is not of its attribute's type.
func compile(e *Expr, v *view, st *state, now int64) (*program, error) {
	return compiler{v, st, now}.program(e)
}

func (c compiler) program(e *Expr) (*program, error) {
	p := &program{op: e.Op}
	switch e.Op {
	case OpAll:
		p.fact = existsFact
	case OpTag:
		return c.fact(tagFactKey(e.Value)), nil
	case OpPlatform:
		return c.fact(platformFactKey(e.Value)), nil
	case OpLanguage:
		return c.fact(languageFactKey(e.Value)), nil
	case OpTimeZone:
		return c.fact(timeZoneFactKey(e.Value)), nil
	case OpAttr, OpLess, OpAtMost, OpMore, OpAtLeast, OpBetween, OpHas:
		return c.attribute(e)
	case OpSeenWithin:
		return c.days(factSeen, firstOf(Day(c.now), e.Days)), nil
	case OpRegisteredWithin:
		return c.days(factRegistered, firstOf(Day(c.now), e.Days)), nil
	case OpRegisteredSince:
		return c.days(factRegistered, e.Days), nil
	case OpUsers:
		for _, id := range e.IDs {
			if ord, ok := c.v.ordinal(id); ok {
				p.ords = append(p.ords, ord)
			}
		}
		slices.Sort(p.ords)
	case OpSample:
		p.ppm, p.salt = uint64(e.PPM), sampleSalt(e.Value)
	case OpSaved: // is to be replaced by what is saved before it comes here
		return nil, fmt.Errorf("%w: %q", ErrUnknownAudience, e.Value)
	}
	for _, a := range e.Args {
		arg, err := c.program(a)
		if err != nil {
			return nil, err
		}
		p.args = append(p.args, arg)
	}
	return p, nil
}

func (c compiler) fact(key string) *program {
	n, ok := c.v.factNumber([]byte(key))
	return &program{op: OpTag, fact: n, none: !ok}
}

func (c compiler) attribute(e *Expr) (*program, error) {
	slot, ok := c.st.slot(e.Name)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnnamedAttribute, e.Name)
	}
	t := c.st.types[slot]
	if e.Op == OpAttr && t == TextType {
		return c.fact(attrFactKey(slot, e.Value)), nil
	}
	p := c.fact(string(appendHasFact(nil, slot)))
	if e.Op == OpHas {
		return p, nil
	}
	s, err := e.valuesOf(t)
	if err != nil {
		return nil, err
	}
	if !p.none {
		p.op, p.compare = OpBetween, newComparison(c.v, slot, s)
	}
	return p, nil
}

// firstOf returns the first of so many days of which today is the last.
func firstOf(today, days uint32) uint32 { return today - min(today, days-1) }

// days returns who has a fact of a kind of day facts, for first or a later day. Each user has one day of registration, so that the
// days before it say the same, where they are fewer.
func (c compiler) days(kind byte, first uint32) *program {
	facts := func(from, to []byte, most int) (list []*program) {
		for _, e := range c.v.scan(bucketFacts, from, to, most, false) {
			list = append(list, &program{op: OpTag, fact: be32(e.value)})
		}
		return list
	}
	at := appendDayFact(nil, kind, first)
	in := facts(at, []byte{kind + 1}, math.MaxInt32)
	switch len(in) {
	case 0:
		return &program{op: OpTag, none: true}
	case 1:
		return in[0]
	}
	if kind == factRegistered {
		switch out := facts([]byte{kind}, at, len(in)); {
		case len(out) == 0:
			return &program{op: OpAll, fact: existsFact}
		case len(out) < len(in):
			return &program{op: OpNot, args: []*program{{op: OpOr, args: out}}}
		}
	}
	return &program{op: OpOr, args: in}
}

func (v *view) factNumber(key []byte) (uint32, bool) {
	b, found := v.active.get(bucketFacts, key)
	if !found && v.ahead != nil {
		if n, read := v.ahead.facts[string(key)]; read {
			return n, n != 0
		}
	}
	if !found {
		b = v.below(bucketFacts, key)
	}
	if b == nil {
		return 0, false
	}
	return be32(b), true
}

// result is a set with a note whether it may be changed in place. A nil set is empty.
type result struct {
	set   *roaring.Bitmap
	owned bool
	raw   []byte // of one that is as the file has it
}

// eval returns the members of a block.
func (p *program) eval(v *view, g geometry, block uint16) result {
	switch p.op {
	case OpAll, OpTag:
		if p.none {
			return result{}
		}
		return v.fact(block, p.fact)
	case OpBetween:
		return p.compare.eval(v, block, v.fact(block, p.fact))
	case OpUsers:
		first := g.ordinal(block, 0)
		i, _ := slices.BinarySearch(p.ords, first)
		var set *roaring.Bitmap
		for ; i < len(p.ords) && g.block(p.ords[i]) == block; i++ {
			if set == nil {
				set = roaring.New()
			}
			set.Add(uint32(g.low(p.ords[i])))
		}
		return result{set: set, owned: true}
	case OpSample:
		return p.sample(v, g, block)
	case OpOr:
		return p.or(v, g, block)
	case OpAnd:
		return p.and(v, g, block)
	case OpNot:
		return minus(v.fact(block, existsFact), p.args[0].eval(v, g, block))
	}
	panic("fanfare: audience operator")
}

// and takes the positive terms first, so that an empty one ends the work and
// a "not" becomes a difference instead of a complement.
func (p *program) and(v *view, g geometry, block uint16) result {
	var r result
	first := true
	for _, a := range p.args {
		if a.op == OpNot {
			continue
		}
		x := a.eval(v, g, block)
		switch {
		case first:
			r, first = x, false
		case x.set == nil:
			r = result{}
		case r.owned:
			r.set.And(x.set)
		case x.owned:
			x.set.And(r.set)
			r = x
		default:
			r = result{set: roaring.And(r.set, x.set), owned: true}
		}
		if r.set == nil || r.set.IsEmpty() {
			return result{}
		}
	}
	if first {
		r = v.fact(block, existsFact)
	}
	for _, a := range p.args {
		if a.op == OpNot && r.set != nil {
			r = minus(r, a.args[0].eval(v, g, block))
		}
	}
	return r
}

func (p *program) or(v *view, g geometry, block uint16) result {
	var r result
	for _, a := range p.args {
		r = union(r, a.eval(v, g, block))
	}
	return r
}

func minus(r, x result) result {
	switch {
	case r.set == nil || x.set == nil:
		return r
	case r.owned:
		r.set.AndNot(x.set)
	default:
		r = result{set: roaring.AndNot(r.set, x.set), owned: true}
	}
	if r.set.IsEmpty() {
		return result{}
	}
	return r
}

// count returns how many members a block has. The last operation only counts, so nothing is made of it.
func (p *program) count(v *view, g geometry, block uint16) uint64 {
	switch p.op {
	case OpAnd:
		if n := len(p.args); n > 1 {
			return p.countAnd(v, g, block)
		}
	case OpOr:
		if n := len(p.args); n > 1 {
			rest := program{op: OpOr, args: p.args[:n-1]}
			x, y := rest.eval(v, g, block).set, p.args[n-1].eval(v, g, block).set
			switch {
			case x == nil:
				return cardinality(y)
			case y == nil:
				return cardinality(x)
			}
			return x.GetCardinality() + y.GetCardinality() - x.AndCardinality(y) // OrCardinality makes the union
		}
	case OpNot:
		all := v.fact(block, existsFact).set
		if all == nil {
			return 0
		}
		return lessCardinality(all, p.args[0].eval(v, g, block).set)
	}
	return cardinality(p.eval(v, g, block).set)
}

// countAnd leaves the last term out of the evaluation: a "not", if there is one, since those come last there.
func (p *program) countAnd(v *view, g geometry, block uint16) uint64 {
	last := len(p.args) - 1
	if i := slices.IndexFunc(p.args, func(a *program) bool { return a.op == OpNot }); i >= 0 {
		last = i
	}
	rest := program{op: OpAnd, args: slices.Delete(slices.Clone(p.args), last, last+1)}
	x := rest.eval(v, g, block).set
	if x == nil {
		return 0
	}
	if a := p.args[last]; a.op == OpNot {
		return lessCardinality(x, a.args[0].eval(v, g, block).set)
	}
	y := p.args[last].eval(v, g, block).set
	if y == nil {
		return 0
	}
	return x.AndCardinality(y)
}

func cardinality(x *roaring.Bitmap) uint64 {
	if x == nil {
		return 0
	}
	return x.GetCardinality()
}

// lessCardinality counts those of x who are not in y.
func lessCardinality(x, y *roaring.Bitmap) uint64 {
	if y == nil {
		return x.GetCardinality()
	}
	return x.GetCardinality() - x.AndCardinality(y)
}

// sample chooses by a hash of the ordinal, so that it is stable, and so that a larger
// percentage with the same salt contains the smaller one. This is version 1 of
// the hash; docs/format.md defines it.
func (p *program) sample(v *view, g geometry, block uint16) result {
	all := v.fact(block, existsFact)
	exists := all.set
	if exists == nil || p.ppm == 0 {
		return result{}
	}
	if p.ppm >= 1_000_000 {
		return all
	}
	bound := p.ppm << 32 / 1_000_000
	chosen := make([]uint32, 0, 1+exists.GetCardinality()*p.ppm/1_000_000)
	var some [256]uint32
	it := exists.ManyIterator()
	for n := it.NextMany(some[:]); n > 0; n = it.NextMany(some[:]) {
		for _, low := range some[:n] {
			if sampleHash(p.salt, g.ordinal(block, uint16(low)))>>32 < bound {
				chosen = append(chosen, low)
			}
		}
	}
	if len(chosen) == 0 {
		return result{}
	}
	return result{set: roaring.BitmapOf(chosen...), owned: true}
}

// sampleSalt is the 64-bit FNV-1a hash of the salt.
func sampleSalt(salt string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(salt))
	return h.Sum64()
}

// sampleHash mixes salt and ordinal with the finalizer of SplitMix64
// (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
func sampleHash(salt uint64, ordinal uint32) uint64 {
	z := salt + uint64(ordinal)*0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// geometry is how ordinals are cut into blocks: 16 low bits, fewer in tests.
type geometry struct{ bits uint8 }

func (g geometry) block(ord uint32) uint16 { return uint16(ord >> g.bits) }
func (g geometry) low(ord uint32) uint16   { return uint16(ord & (1<<g.bits - 1)) }
func (g geometry) ordinal(block, low uint16) uint32 {
	return uint32(block)<<g.bits | uint32(low)
}

// blocks returns how many blocks there are for so many ordinals.
func (g geometry) blocks(ordinals uint64) int {
	return int((ordinals + 1<<g.bits - 1) >> g.bits)
}

// blocksPerView is how many blocks an evaluation reads with one view: enough that opening it does not count,
// and few enough that it lives for some microseconds.
const blocksPerView = 8

// blocks returns the blocks in which there can be members, ascending: those of named users, or all.
func (p *program) blocks(g geometry, ordinals uint64) []uint16 {
	if some, restricted := p.within(g); restricted {
		return some
	}
	all := make([]uint16, g.blocks(ordinals))
	for i := range all {
		all[i] = uint16(i)
	}
	return all
}

// within returns the only blocks in which there can be members, if there are fewer than all, ascending.
func (p *program) within(g geometry) (some []uint16, restricted bool) {
	switch p.op {
	case OpUsers:
		for _, ord := range p.ords {
			some = append(some, g.block(ord))
		}
		return slices.Compact(some), true
	case OpAnd:
		for _, a := range p.args {
			if in, ok := a.within(g); ok && (!restricted || len(in) < len(some)) {
				some, restricted = in, true
			}
		}
		return some, restricted
	case OpOr:
		for _, a := range p.args {
			in, ok := a.within(g)
			if !ok {
				return nil, false
			}
			some = append(some, in...)
		}
		slices.Sort(some)
		return slices.Compact(some), true
	}
	return nil, p.none
}

// eachBlock calls f for every one of the blocks, from up to workers goroutines, each with views of its own; the first error
// ends it. What f reads of one block is gone when it is called for the next.
func (s *Store) eachBlock(blocks []uint16, workers int, f func(v *view, block uint16) error) error {
	var (
		next   atomic.Int64
		failed atomic.Pointer[error]
		wg     sync.WaitGroup
	)
	work := func() {
		for failed.Load() == nil {
			first := int(next.Add(blocksPerView)) - blocksPerView
			if first >= len(blocks) {
				return
			}
			err := s.withView(func(v *view) error {
				for _, block := range blocks[first:min(first+blocksPerView, len(blocks))] {
					v.parsed = 0
					if err := f(v, block); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				failed.CompareAndSwap(nil, &err)
				return
			}
		}
	}
	for range min(workers, (len(blocks)+blocksPerView-1)/blocksPerView) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// withView calls f with a view and closes it. A fault on the file, or a panic of bbolt, roaring or
// a decoder that met damage under f, becomes an error.
func (s *Store) withView(f func(*view) error) (err error) {
	defer guardFaults("read", &err)()
	v, err := s.view()
	if err != nil {
		return err
	}
	defer v.close()
	return f(v)
}
