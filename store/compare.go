package store

import (
	mathbits "math/bits"

	"github.com/RoaringBitmap/roaring/v2"
)

// The values of a number or a date are kept as a bit-sliced index (P. O'Neil and D. Quass, Improved query performance with
// variant indexes, SIGMOD 1997): a fact for each bit of the magnitude, one for who has a value at all, one for
// who has one below zero. A comparison goes through the bits from the highest.

// values is the integers of a comparison, both ends included.
type values struct{ low, high int64 }

// valuesOf returns the values of an attribute's type that a comparison takes.
func (e *Expr) valuesOf(t AttrType) (s values, err error) {
	parse := func(value string) int64 {
		n, ok := t.parse(value)
		if !ok && err == nil {
			err = &ValueError{Name: e.Name, Value: value, Type: t}
		}
		return n
	}
	if t == TextType {
		return s, &ValueError{Name: e.Name, Value: e.Value, Type: t}
	}
	n := parse(e.Value)
	s = values{-maxNumber, maxNumber}
	switch e.Op {
	case OpLess:
		s.high = n - 1
	case OpAtMost:
		s.high = n
	case OpMore:
		s.low = n + 1
	case OpAtLeast:
		s.low = n
	case OpBetween:
		s = values{n, parse(e.High)}
	default:
		s = values{n, n}
	}
	return s, err
}

// comparison is a comparison with its facts resolved.
type comparison struct {
	values
	negative uint32                // fact; 0: nobody is
	bits     [magnitudeBits]uint32 // facts; 0: nobody has the bit
	top      int                   // how many bits there are, up to the highest
}

func newComparison(v *view, slot uint8, s values) *comparison {
	c := &comparison{values: s}
	c.negative, _ = v.factNumber(appendBitFact(nil, slot, signBit))
	for i := range c.bits {
		if n, has := v.factNumber(appendBitFact(nil, slot, uint8(i))); has {
			c.bits[i], c.top = n, i+1
		}
	}
	return c
}

// eval returns those of who has a value whose value is one of them.
func (c *comparison) eval(v *view, block uint16, has result) result {
	if has.set == nil || c.low > c.high {
		return result{}
	}
	var below result
	if c.negative != 0 {
		below = v.fact(block, c.negative)
	}
	bits := &blockBits{c: c, v: v, block: block}
	var positive, negative result // in this order, for the second may change who is below
	if c.high >= 0 {
		if positive = has; below.set != nil {
			positive = minus(has, below)
		}
		positive = bits.magnitudes(positive, uint64(max(c.low, 0)), uint64(c.high))
	}
	if c.low < 0 && below.set != nil {
		negative = bits.magnitudes(below, uint64(max(-c.high, 0)), uint64(-c.low))
	}
	return union(positive, negative)
}

// blockBits are the bits in one block, each read once.
type blockBits struct {
	c     *comparison
	v     *view
	block uint16
	read  uint64
	sets  [magnitudeBits]*roaring.Bitmap
}

// of returns who has a bit, nil for nobody.
func (b *blockBits) of(i int) *roaring.Bitmap {
	if b.read>>i&1 == 0 {
		if b.read |= 1 << i; b.c.bits[i] != 0 {
			b.sets[i] = b.v.fact(b.block, b.c.bits[i]).set
		}
	}
	return b.sets[i]
}

// magnitudes returns those of r whose magnitude is from low to high.
func (b *blockBits) magnitudes(r result, low, high uint64) result {
	if mathbits.Len64(low) > b.c.top {
		return result{}
	}
	if mathbits.Len64(high) <= b.c.top {
		r = b.atMost(r, high)
	}
	if low > 0 {
		r = b.atLeast(r, low)
	}
	return r
}

// atMost returns those of r whose magnitude is n or less: who has the bits of n so far and then lacks one of them
// is sure, and at the end who is equal.
func (b *blockBits) atMost(r result, n uint64) result {
	var sure result
	for i := b.c.top - 1; i >= 0 && r.set != nil; i-- {
		if rest := uint64(1)<<(i+1) - 1; n&rest == rest {
			break // whatever the other bits are
		}
		set := b.of(i)
		switch {
		case n>>i&1 == 0 && set != nil:
			r = minus(r, result{set: set})
		case n>>i&1 == 0:
		case set == nil:
			return union(sure, r)
		default:
			with := both(r, set)
			sure = union(sure, minus(r, result{set: set}))
			r = with
		}
	}
	return union(sure, r)
}

// atLeast returns those of r whose magnitude is n or more.
func (b *blockBits) atLeast(r result, n uint64) result {
	var sure result
	for i := b.c.top - 1; i >= 0 && r.set != nil; i-- {
		if n&(1<<(i+1)-1) == 0 {
			break
		}
		set := b.of(i)
		switch {
		case n>>i&1 == 1 && set == nil:
			return sure
		case n>>i&1 == 1:
			r = both(r, set)
		case set != nil:
			sure = union(sure, both(r, set))
			r = minus(r, result{set: set})
		}
	}
	return union(sure, r)
}

// both returns those of r who are in set too: a new set, for r may be needed.
func both(r result, set *roaring.Bitmap) result {
	if r.set == nil {
		return result{}
	}
	x := roaring.And(r.set, set)
	if x.IsEmpty() {
		return result{}
	}
	return result{set: x, owned: true}
}

// union returns those of both, and may change either if it is owned.
func union(r, x result) result {
	switch {
	case x.set == nil:
		return r
	case r.set == nil:
		return x
	case r.owned:
		r.set.Or(x.set)
		return result{set: r.set, owned: true}
	case x.owned:
		x.set.Or(r.set)
		return result{set: x.set, owned: true}
	}
	return result{set: roaring.Or(r.set, x.set), owned: true}
}
