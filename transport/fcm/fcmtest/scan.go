package fcmtest

import "encoding/json"

// What of the decoder knows JSON alone. The JSON is valid, so none of it looks
// for the end of the input.

func (d *decoder) space() {
	for {
		switch d.b[d.i] {
		case ' ', '\t', '\r', '\n':
			d.i++
		default:
			return
		}
	}
}

// each calls entry at the beginning of each key of an object, or each element
// of an array; entry reads all that belongs to it.
func (d *decoder) each(end byte, entry func(i int)) {
	d.i++
	for i := 0; ; i++ {
		d.space()
		if d.b[d.i] == end {
			d.i++
			return
		}
		if d.b[d.i] == ',' {
			d.i++
			d.space()
		}
		entry(i)
	}
}

// key reads a key and the colon.
func (d *decoder) key() []byte {
	k := d.string()
	d.space()
	d.i++
	d.space()
	return k
}

// string reads a string and returns what it says.
func (d *decoder) string() []byte {
	from := d.i
	if escaped := d.skipString(); !escaped {
		return d.b[from+1 : d.i-1]
	}
	var s string
	_ = json.Unmarshal(d.b[from:d.i], &s) // valid, as all of the body is
	return []byte(s)
}

func (d *decoder) skipString() (escaped bool) {
	for d.i++; ; d.i++ {
		switch d.b[d.i] {
		case '"':
			d.i++
			return escaped
		case '\\':
			escaped = true
			d.i++
		}
	}
}

// skip reads a value of any kind. It does not recurse, for how deep the value
// goes is the client's choice.
func (d *decoder) skip() {
	depth := 0
	for {
		switch d.b[d.i] {
		case '"':
			d.skipString()
		case '{', '[':
			depth++
			d.i++
		case '}', ']':
			depth--
			d.i++
		case ',', ':', ' ', '\t', '\r', '\n':
			d.i++
			continue
		default:
			d.skipWord()
		}
		if depth == 0 {
			return
		}
	}
}

// skipWord reads a number, true, false or null.
func (d *decoder) skipWord() {
	for ; d.i < len(d.b); d.i++ {
		switch d.b[d.i] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return
		}
	}
}
