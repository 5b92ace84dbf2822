package store

// Of a set's serialized form.
const (
	cookie      = 12347 // low half; the high half is the number of containers less one
	cookieNoRun = 12346 // then a count and, behind the header, an offset follow
	arrayMax    = 4096  // more values than that are a bitmap of 8 KiB
)

// validateForm checks that a serialized bitmap is a set: no container or one, of key 0, and if that has
// runs, that they are in order and do not touch.
func validateForm(raw []byte) error {
	bad := func(detail string) error { return &FormatError{What: "bitmap", Detail: detail} }
	if len(raw) < 8 {
		return bad("ends early")
	}
	switch le.Uint32(raw) {
	default:
		return bad("more than one container, or none")
	case cookieNoRun:
		n := le.Uint32(raw[4:])
		if n > 1 || n == 1 && (len(raw) < 10 || le.Uint16(raw[8:]) != 0) {
			return bad("beyond a block")
		}
		return nil
	case cookie:
	}
	if le.Uint16(raw[5:]) != 0 {
		return bad("beyond a block")
	}
	if raw[4] == 0 {
		return nil
	}
	if raw[4] != 1 || len(raw) < 11 || len(raw) != 11+4*int(le.Uint16(raw[9:])) {
		return bad("length")
	}
	next, n := 0, 0 // the first value that the next run may begin with, and how many there were
	for runs := raw[11:]; len(runs) > 0; runs = runs[4:] {
		first, more := int(le.Uint16(runs)), int(le.Uint16(runs[2:]))
		if first < next || first+more > 0xFFFF {
			return bad("runs")
		}
		next = first + more + 2
		n += more + 1
	}
	if n != int(le.Uint16(raw[7:]))+1 {
		return bad("cardinality")
	}
	return nil
}

// containerHas says whether a stored set, which is the bitmap of one block, has low. It reads the
// serialized form as it lies in the file and makes nothing of it, because a catch-up asks each of a
// block's pending sets for one user. The form is that of packed.go, or
// https://github.com/RoaringBitmap/RoaringFormatSpec with exactly one container.
func containerHas(raw []byte, low uint16) bool {
	damaged := func() { panic(&FormatError{What: "pending container", Detail: "form"}) }
	if isPacked(raw) {
		return packedHas(raw, low)
	}
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
