package store

import (
	"bytes"

	"github.com/RoaringBitmap/roaring/v2"
)

// MaxOptOuts is how many categories a user may opt out of.
const MaxOptOuts = 100

// MaxCap is the most messages of a category that a user may be allowed in a window.
const MaxCap = 255

const (
	capDay  = 'd'
	capWeek = 'w'
	dayMs   = 24 * 60 * 60 * 1000
)

// capWindow is a stretch of time in which what each user gets of a category is counted: a day, or a week from Monday on, by UTC.
type capWindow struct {
	prefix []byte // of the keys of bucketCaps: kind, number, category
	most   byte
}

// windows are those that a push is counted in.
func (c *Push) windows(now int64) (list []capWindow) {
	day := now / dayMs
	week := (day + 3) / 7 // the first of January 1970 was a Thursday
	for _, w := range []struct {
		kind   byte
		number int64
		most   byte
	}{{capDay, day, c.PerDay}, {capWeek, week, c.PerWeek}} {
		if w.most > 0 {
			prefix := append(append([]byte{w.kind}, key32(uint32(w.number))...), byte(len(c.Category)))
			list = append(list, capWindow{append(prefix, c.Category...), w.most})
		}
	}
	return list
}

// key is that of who of a block has had so many messages at least.
func (w *capWindow) key(level byte, block uint16) []byte {
	k := append(bytes.Clone(w.prefix), level)
	return append(k, byte(block>>8), byte(block))
}

// optedOut takes those out of an audience who want no messages of the category.
func (a *applier) optedOut(c *Push, audience []audienceSet) (kept []audienceSet, skipped int64) {
	if c.Category == "" {
		return audience, 0
	}
	fact, is := a.v.factNumber(appendOutFact(nil, c.Category))
	if !is {
		return audience, 0
	}
	for _, m := range audience {
		a.v.parsed = 0
		if out := a.v.fact(m.Block, fact).set; out != nil {
			skipped += m.without(a.v, out)
		}
		if m.n > 0 {
			kept = append(kept, m)
		}
	}
	return kept, skipped
}

// without takes users out of a block's audience, and returns how many they were.
func (m *audienceSet) without(v *view, users *roaring.Bitmap) int64 {
	set := m.Low
	if m.raw != nil {
		set = v.parse(m.raw)
	}
	if !set.Intersects(users) {
		return 0
	}
	set = roaring.AndNot(set, users)
	set.RunOptimize()
	before := m.n
	m.n = set.GetCardinality()
	if m.raw != nil {
		m.raw = bitmapBytes(set)
	} else {
		m.Low = set
	}
	return int64(before - m.n)
}

// capped takes those out of an audience who have had as many messages of the category as they may have, and counts one more for the others.
func (a *applier) capped(c *Push, audience []audienceSet) (kept []audienceSet, skipped int64) {
	windows := c.windows(a.st.now)
	if len(windows) == 0 {
		return audience, 0
	}
	for _, m := range audience {
		a.v.parsed = 0
		full := roaring.New()
		for i := range windows {
			if raw := a.v.get(bucketCaps, windows[i].key(windows[i].most, m.Block)); raw != nil {
				full.Or(a.v.parse(raw))
			}
		}
		skipped += m.without(a.v, full)
		if m.n > 0 {
			set := m.Low
			if m.raw != nil {
				set = a.v.parse(m.raw)
			}
			for i := range windows {
				a.countOnce(&windows[i], m.Block, set)
			}
			kept = append(kept, m)
		}
	}
	if len(kept) > 0 {
		for i := range windows {
			a.addDue(dueCaps, capEnd(windows[i].prefix), windows[i].prefix)
		}
	}
	return kept, skipped
}

// countOnce counts one more message for users of a block: who is in the set of a level has had so many at least.
func (a *applier) countOnce(w *capWindow, block uint16, users *roaring.Bitmap) {
	for level := w.most; level > 0; level-- {
		more := users
		if level > 1 {
			raw := a.v.get(bucketCaps, w.key(level-1, block))
			if raw == nil {
				continue
			}
			if more = roaring.And(a.v.parse(raw), users); more.IsEmpty() {
				continue
			}
		}
		set := more
		if raw := a.v.get(bucketCaps, w.key(level, block)); raw != nil {
			set = roaring.Or(a.v.parse(raw), more)
		}
		set = set.Clone()
		set.RunOptimize()
		a.put(bucketCaps, w.key(level, block), packedBytes(bitmapBytes(set)))
	}
}

// forgetCaps drops what was counted in a window.
func (a *applier) forgetCaps(prefix []byte) {
	for {
		some := a.v.scan(bucketCaps, prefix, after(prefix), 1000, false)
		for _, e := range some {
			a.remove(bucketCaps, e.key)
		}
		if len(some) < 1000 {
			return
		}
	}
}
