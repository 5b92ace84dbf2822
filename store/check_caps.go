package store

import "github.com/RoaringBitmap/roaring/v2"

// caps checks that what is counted for caps is of users that there were, and is forgotten one day.
func (c *checker) caps() error {
	set := roaring.New()
	return c.bucket(bucketCaps).ForEach(func(k, v []byte) error {
		if len(k) < 9 || len(k) != 9+int(k[5]) || k[len(k)-3] == 0 {
			return broken("cap %x", k)
		}
		prefix, block := k[:len(k)-3], be16(k[len(k)-2:])
		if err := readPending(set, v); err != nil || set.IsEmpty() || uint64(c.geo.ordinal(block, uint16(set.Maximum()))) >= c.st.nextOrdinal {
			return broken("cap %x: %v", k, err)
		}
		if !c.isDue(dueCaps, capEnd(prefix), prefix) {
			return broken("cap %x is never forgotten", k)
		}
		return c.ctx.Err()
	})
}

// capEnd is when a window ends.
func capEnd(prefix []byte) int64 {
	number := int64(be32(prefix[1:5]))
	if prefix[0] == capDay {
		return (number + 1) * dayMs
	}
	return ((number+1)*7 - 3) * dayMs
}
