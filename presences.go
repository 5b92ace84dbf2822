package fanfare

import (
	"iter"
	"math/bits"
)

// presences are the connected users of a block by the low half of their ordinals: a fan-out looks each of them up, in order, and
// a map would meet another cache line each time. A user takes one word and a share of the group of 256 that it is in.
type presences struct {
	groups [256]*presenceGroup
	n      int
}

// presenceGroup has the users whose bits are set, in order.
type presenceGroup struct {
	has  [4]uint64
	list []*presence
}

// place returns where in the list a user is, or would be.
func (g *presenceGroup) place(low uint8) (at int, is bool) {
	word, bit := low/64, uint64(1)<<(low%64)
	for _, w := range g.has[:word] {
		at += bits.OnesCount64(w)
	}
	return at + bits.OnesCount64(g.has[word]&(bit-1)), g.has[word]&bit != 0
}

// get returns a user, nil if not connected.
func (s *presences) get(low uint16) *presence {
	g := s.groups[low>>8]
	if g == nil {
		return nil
	}
	if at, is := g.place(uint8(low)); is {
		return g.list[at]
	}
	return nil
}

// put adds a user who is not there.
func (s *presences) put(p *presence) {
	g := s.groups[p.low>>8]
	if g == nil {
		g = new(presenceGroup)
		s.groups[p.low>>8] = g
	}
	at, _ := g.place(uint8(p.low))
	g.list = append(g.list, nil)
	copy(g.list[at+1:], g.list[at:])
	g.list[at] = p
	g.has[uint8(p.low)/64] |= 1 << (p.low % 64)
	s.n++
}

// remove takes out a user who is there.
func (s *presences) remove(low uint16) {
	g := s.groups[low>>8]
	at, _ := g.place(uint8(low))
	copy(g.list[at:], g.list[at+1:])
	g.list[len(g.list)-1] = nil
	g.list = g.list[:len(g.list)-1]
	g.has[uint8(low)/64] &^= 1 << (low % 64)
	if s.n--; len(g.list) == 0 {
		s.groups[low>>8] = nil
	}
}

// all yields the users in order.
func (s *presences) all() iter.Seq[*presence] {
	return func(yield func(*presence) bool) {
		for _, g := range s.groups {
			if g == nil {
				continue
			}
			for _, p := range g.list {
				if !yield(p) {
					return
				}
			}
		}
	}
}
