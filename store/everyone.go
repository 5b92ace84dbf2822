package store

import (
	"bytes"
	"sync"
)

// everyone is who there is, block by block, as the file has it. A push to all asks each block for it, so it keeps a copy, of at most 8 KiB a block. The copies are of all views whose layers have it: what a fold
// writes meanwhile is in a delta of those layers, too, and the layers after it have another one.
type everyone struct {
	mu     sync.Mutex
	blocks map[uint16]storedSet
}

// storedSet is a set as the file has it, which nobody changes.
type storedSet struct {
	raw []byte
	n   uint64 // members
}

func newEveryone() *everyone { return &everyone{blocks: make(map[uint16]storedSet)} }

func (e *everyone) get(block uint16) (set storedSet, known bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	set, known = e.blocks[block]
	return set, known
}

func (e *everyone) put(block uint16, set storedSet) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.blocks[block] = set
}

// after returns what is left of it when a delta is folded.
func (e *everyone) after(d *delta) *everyone {
	left := newEveryone()
	e.mu.Lock()
	defer e.mu.Unlock()
	for block, set := range e.blocks {
		if b := d.block(block); b == nil || b.facts[existsFact] == nil {
			left.blocks[block] = set
		}
	}
	return left
}

// everyone returns who there is of a block, if that is as the file has it.
func (v *view) everyone(block uint16) (set storedSet, asStored bool) {
	for _, d := range [...]*delta{v.active, v.frozen} {
		if d == nil {
			continue
		}
		if b := d.block(block); b != nil {
			b.mu.RLock()
			changed := b.facts[existsFact] != nil
			b.mu.RUnlock()
			if changed {
				return set, false
			}
		}
	}
	if set, known := v.layers.everyone.get(block); known {
		return set, true
	}
	if raw := v.stored(bucketBlocks, factKey(block, existsFact)); raw != nil {
		set = storedSet{bytes.Clone(raw), v.parse(raw).GetCardinality()}
	}
	v.layers.everyone.put(block, set)
	return set, true
}
