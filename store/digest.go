package store

import "hash/crc32"

// digestEvery is at how many positions of a log once the stores tell each other what the records since have made of the state.
const digestEvery = 256

// digest adds up what records change, as the delta is told it, so that stores which should be the same can be compared at the cost of some nanoseconds a change. It is for
// mistakes and broken memory, not against somebody who wants it to be equal: CRC-32C mixed into 64 bits as FNV does it. What depends on when a store was folded or opened is not in it. Its methods may
// be called with nil.
type digest struct {
	every uint64
	sum   uint64
	whole bool // it has everything since the last position at which it is told
}

const (
	digestStart = 14695981039346656037
	digestPrime = 1099511628211
)

func (g *digest) words(words ...uint64) {
	if g == nil {
		return
	}
	for _, w := range words {
		g.sum = (g.sum ^ w) * digestPrime
		g.sum ^= g.sum >> 29
	}
}

func (g *digest) record(of uint64, key string, value []byte) {
	if g == nil {
		return
	}
	sum := crc32.Checksum(value, castagnoli)
	if len(key) > 0 {
		sum = crc32.Update(sum, castagnoli, []byte(key))
	}
	g.words(of, uint64(len(value))<<32|uint64(sum))
}

// bits counts users in: which they are of few of them, and of many how many, the first and the last.
func (g *digest) bits(of uint64, is bool, low []uint32) {
	if g == nil {
		return
	}
	g.words(of, uint64(len(low)))
	if is {
		g.words(1)
	}
	if len(low) > fewBits {
		low = []uint32{low[0], low[len(low)-1]}
	}
	for _, x := range low {
		g.words(uint64(x))
	}
}

// at returns the digest at a position at which it is told, and begins anew there. It has the state's counters in it.
func (g *digest) at(position uint64, st *state) (sum uint64, tell bool) {
	if g == nil || position%g.every != 0 {
		return 0, false
	}
	g.record(position, "", st.encode())
	sum, tell = g.sum, g.whole
	g.sum, g.whole = digestStart, true
	return sum, tell
}
