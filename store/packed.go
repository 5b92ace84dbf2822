package store

import (
	"bytes"
	"encoding/binary"
	mathbits "math/bits"

	"github.com/RoaringBitmap/roaring/v2"
)

// A pending set of users who are spread over their block stands in the file packed, and so does a set of them in a delivery: about log2(65536/n)+2 bits for
// each of n users, where roaring takes 16 or a bitmap of 8 KiB. It is the code of P. Elias (Efficient Storage and
// Retrieval by Content and Address of Static Files, 1974) and R. Fano for each stretch of 256 values: the low bits of
// each value as they are, then the high ones in unary, as a bit 1 for each value behind as many bits 0 as its high part
// is. Counts lead to the stretch in which a value is looked for. docs/format.md describes each byte.
//
// Postings are not packed: audiences are evaluated on them as they lie in the file.
type packedSet struct {
	low  int    // how many low bits
	n    int    // values
	ends []byte // for each stretch how many values it and those before it have
	bits []byte // of the stretches, one behind the other, and packedTail bytes of nothing
}

const (
	stretchBits = 10 // of a value within a stretch
	stretches   = 1 << (16 - stretchBits)
	packedHead  = 1 + 2*stretches
	packedTail  = 8       // so that eight bytes can be read anywhere
	packedMax   = 1 << 14 // values; more are hardly shorter than a bitmap
)

// isPacked tells the forms apart: the first byte is the number of low bits, or one of roaring's cookie.
func isPacked(raw []byte) bool { return len(raw) > 0 && raw[0] <= stretchBits }

func packedSize(low, n int) int { return packedHead + (n*(low+1)+1<<16>>low+7)/8 + packedTail }

// at returns the bit at which a stretch begins that i values are before.
func (p *packedSet) at(stretch, i int) int { return i*(p.low+1) + stretch<<(stretchBits-p.low) }

// pack returns the packed form of a set if it is no longer than most, else nil.
func pack(set *roaring.Bitmap, most int) []byte {
	n := int(set.GetCardinality())
	if n == 0 || n > packedMax {
		return nil
	}
	p := packedSet{low: min(mathbits.Len(uint(1<<16/n))-1, stretchBits), n: n}
	size := packedSize(p.low, n)
	if size > most {
		return nil
	}
	raw := make([]byte, size)
	raw[0] = byte(p.low)
	p.ends, p.bits = raw[1:packedHead], raw[packedHead:]
	values := set.ToArray()
	for stretch, i := 0, 0; stretch < stretches; stretch++ {
		end := i
		for end < n && int(values[end]>>stretchBits) == stretch {
			end++
		}
		le.PutUint16(p.ends[2*stretch:], uint16(end))
		lows := p.at(stretch, i)
		unary := lows + (end-i)*p.low
		for k, x := range values[i:end] {
			p.or(lows+k*p.low, uint64(x&(1<<p.low-1)))
			p.or(unary+k+int(x&(1<<stretchBits-1))>>p.low, 1)
		}
		i = end
	}
	return raw
}

// packedBytes returns the packed form of a set where that is shorter by an eighth at least, else the set as it is.
func packedBytes(raw []byte) []byte {
	set := roaring.New()
	if _, err := set.FromUnsafeBytes(raw); err != nil {
		panic(&FormatError{What: "set", Detail: err.Error()})
	}
	if packed := pack(set, packedMost(raw)); packed != nil {
		return packed
	}
	return raw
}

// packedMost is how long the packed form of a set may be that is raw otherwise.
func packedMost(raw []byte) int { return len(raw) * 7 / 8 }

var le = binary.LittleEndian

func (p *packedSet) or(bit int, x uint64) {
	b := p.bits[bit/8:]
	le.PutUint64(b, le.Uint64(b)|x<<(bit%8))
}

// get returns the bits from one on, of which packedWidth are good.
func (p *packedSet) get(bit int) uint64 { return le.Uint64(p.bits[bit/8:]) >> (bit % 8) }

const packedWidth = 56

func packedDamage() { panic(&FormatError{What: "packed set", Detail: "form"}) }

func openPacked(raw []byte) (p packedSet) {
	if len(raw) < packedHead || raw[0] > stretchBits {
		packedDamage()
	}
	p.low, p.ends, p.bits = int(raw[0]), raw[1:packedHead], raw[packedHead:]
	p.n = int(le.Uint16(p.ends[2*(stretches-1):]))
	if p.n == 0 || len(raw) != packedSize(p.low, p.n) {
		packedDamage()
	}
	return p
}

// stretch returns which values are of a stretch.
func (p *packedSet) stretch(stretch int) (first, end int) {
	if stretch > 0 {
		first = int(le.Uint16(p.ends[2*stretch-2:]))
	}
	if end = int(le.Uint16(p.ends[2*stretch:])); first > end || end > p.n {
		packedDamage()
	}
	return first, end
}

// packedHas says whether a packed set has x. It reads a count and one stretch.
func packedHas(raw []byte, x uint16) bool {
	p := openPacked(raw)
	stretch := int(x >> stretchBits)
	i, end := p.stretch(stretch)
	if i == end {
		return false
	}
	lows := p.at(stretch, i)
	unary := lows + (end-i)*p.low
	last := p.at(stretch+1, end)
	// The values with x's high part lie behind as many zeros as it is.
	skip := int(x&(1<<stretchBits-1)) >> p.low
	bit := unary
	for left := skip; left > 0; {
		if bit >= last {
			packedDamage()
		}
		zeros := ^p.get(bit) & (1<<packedWidth - 1)
		if n := mathbits.OnesCount64(zeros); n < left {
			left -= n
			bit += packedWidth
			continue
		}
		bit += selectBit(zeros, left) + 1
		left = 0
	}
	want := uint64(x) & (1<<p.low - 1)
	for k := bit - unary - skip; bit < last && p.get(bit)&1 != 0; bit, k = bit+1, k+1 {
		if low := p.get(lows+k*p.low) & (1<<p.low - 1); low >= want {
			return low == want
		}
	}
	return false
}

// selectBit returns where the n-th bit of x is, from 1. It has so many. There is no branch in it, which would be
// taken as if by chance.
func selectBit(x uint64, n int) (at int) {
	for width := 32; width > 0; width /= 2 {
		low := mathbits.OnesCount64(x & (1<<(uint(width)&63) - 1))
		above := (low - n) >> 63 // all ones, or none
		n -= low & above
		x >>= uint(width&above) & 63
		at += width & above
	}
	return at
}

// readPending reads a pending set from a copy of raw, which is all of it in one of its forms, and validates it.
func readPending(set *roaring.Bitmap, raw []byte) (err error) {
	if !isPacked(raw) {
		return readBitmap(set, raw)
	}
	defer guardFaults("packed set", &err)()
	if err := readBitmap(set, portable(raw)); err != nil {
		return err
	}
	if !bytes.Equal(pack(set, len(raw)), raw) { // what nothing reads may be damaged too
		packedDamage()
	}
	return nil
}

// portable returns the form that roaring reads of a set as it stands in the file.
func portable(raw []byte) []byte {
	if !isPacked(raw) {
		return raw
	}
	p := openPacked(raw)
	const head = 16
	size := head + 2*p.n
	if p.n > arrayMax {
		size = head + 8<<10
	}
	out := make([]byte, size)
	le.PutUint32(out, cookieNoRun)
	le.PutUint32(out[4:], 1) // container, of key 0
	le.PutUint16(out[10:], uint16(p.n-1))
	le.PutUint32(out[12:], head)
	values := out[head:]
	for stretch := range stretches {
		i, end := p.stretch(stretch)
		lows := p.at(stretch, i)
		bit, last := lows+(end-i)*p.low, p.at(stretch+1, end)
		high := stretch << (stretchBits - p.low)
		for ; i < end; i++ {
			gap := mathbits.TrailingZeros64(p.get(bit))
			for ; gap >= packedWidth; gap = mathbits.TrailingZeros64(p.get(bit)) {
				high += packedWidth
				if bit += packedWidth; bit >= last {
					packedDamage()
				}
			}
			if bit += gap + 1; bit > last {
				packedDamage()
			}
			high += gap
			x := uint16(high<<p.low | int(p.get(lows)&(1<<p.low-1)))
			lows += p.low
			if p.n > arrayMax {
				values[x>>3] |= 1 << (x & 7)
			} else {
				le.PutUint16(values[2*i:], x)
			}
		}
	}
	return out
}
