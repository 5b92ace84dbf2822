package store

import (
	"encoding/binary"
)

// containerHas says whether a stored set, which is the bitmap of one block, has low. It reads the
// serialized form as it lies in the file and makes nothing of it, because a catch-up asks each of a
// block's pending sets for one user. The form is
// https://github.com/RoaringBitmap/RoaringFormatSpec, with exactly one container.
func containerHas(raw []byte, low uint16) bool {
	const (
		cookie      = 12347 // low half; the high half is the number of containers less one
		cookieNoRun = 12346 // then a count and, behind the header, an offset follow
		arrayMax    = 4096  // more values than that are a bitmap of 8 KiB
	)
	le := binary.LittleEndian
	damaged := func() { panic(&FormatError{What: "pending container", Detail: "form"}) }
	if len(raw) < 9 {
		damaged()
	}
	if le.Uint32(raw) == cookie && raw[4] == 1 {
		// cookie, flags, key, cardinality, number of runs; each run is its start and its length less one.
		if len(raw) < 11 || le.Uint16(raw[5:]) != 0 {
			damaged()
		}
		n, runs := int(le.Uint16(raw[9:])), raw[11:]
		if len(runs) < 4*n {
			damaged()
		}
		i := searchLow(n, func(i int) uint16 { return le.Uint16(runs[4*i:]) }, low)
		return i >= 0 && low-le.Uint16(runs[4*i:]) <= le.Uint16(runs[4*i+2:])
	}
	if le.Uint32(raw) != cookieNoRun || le.Uint32(raw[4:]) != 1 || len(raw) < 16 || le.Uint16(raw[8:]) != 0 {
		damaged()
	}
	n, values := int(le.Uint16(raw[10:]))+1, raw[16:]
	if n > arrayMax {
		if len(values) < 8<<10 {
			damaged()
		}
		return values[low>>3]&(1<<(low&7)) != 0
	}
	if len(values) < 2*n {
		damaged()
	}
	i := searchLow(n, func(i int) uint16 { return le.Uint16(values[2*i:]) }, low)
	return i >= 0 && le.Uint16(values[2*i:]) == low
}

// searchLow returns the index of the last of n ascending values that is not above low, -1 if there is none.
func searchLow(n int, at func(int) uint16, low uint16) int {
	first, end := 0, n
	for first < end {
		if mid := int(uint(first+end) >> 1); at(mid) <= low {
			first = mid + 1
		} else {
			end = mid
		}
	}
	return first - 1
}
