package fcmtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// decoder reads one request, once, along the schema. It keeps of it what the
// rules and the record need, and what is wrong.
type decoder struct {
	b    []byte // valid JSON: scanning it cannot go wrong
	i    int
	path []step // to the value that is being read
	draft

	misread []violation // what Google's JSON parser would say, all of it
	broken  *violation  // the first rule that the message breaks
}

// step is one part of the path to a value.
type step struct {
	name  string
	index int // of an element or entry, or noIndex
	value bool
}

const noIndex = -1

type violation struct {
	Field       string `json:"field,omitempty"`
	Description string `json:"description"`
}

// decode reads the body of a request, which must not change any more: the
// message is a part of it.
func decode(body []byte) *decoder {
	d := &decoder{b: body}
	d.path = make([]step, 0, 8)
	if text := malformed(body); text != "" {
		d.misread = append(d.misread, violation{Description: "Invalid JSON payload received. " + text})
		return d
	}
	d.space()
	if d.b[d.i] != '{' {
		d.misread = append(d.misread, violation{Description: `Invalid JSON payload received. Unknown name "": Root element must be a message.`})
		return d
	}
	d.object(sendRequest)
	if d.misread == nil {
		d.check()
	}
	return d
}

func malformed(body []byte) string {
	if !utf8.Valid(body) {
		return "Encountered non UTF-8 code points."
	}
	if json.Valid(body) {
		return ""
	}
	var all any
	err := json.Unmarshal(body, &all)
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) || int(syntax.Offset) >= len(body) {
		return "Unexpected end of string."
	}
	from := max(0, int(syntax.Offset)-1)
	line := body[from:min(len(body), from+40)]
	return fmt.Sprintf("Unexpected token.\n%s\n^", line)
}

// object reads an object that is a message.
func (d *decoder) object(m *messageType) {
	var seen uint64
	d.each('}', func(int) {
		key := d.key()
		f := m.fields[string(key)]
		if f == nil {
			d.unknown(key, "Cannot find field.")
			d.skip()
			return
		}
		if d.b[d.i] == 'n' { // null leaves the field out
			d.skip()
			return
		}
		if seen&(1<<f.number) != 0 {
			d.unknown(key, "Field is already set.")
		}
		seen |= 1 << f.number
		if f.target {
			d.one(key)
		}
		d.path = append(d.path, step{f.name, noIndex, false})
		d.field(f, key)
		d.path = d.path[:len(d.path)-1]
	})
}

// one sees to it that the oneof target has one field.
func (d *decoder) one(key []byte) {
	if d.targets++; d.targets > 1 {
		d.invalid("oneof", fmt.Sprintf("oneof field 'target' is already set. Cannot set '%s'", key))
	}
}

func (d *decoder) field(f *field, key []byte) {
	switch c := d.b[d.i]; {
	case c == '[' && !f.repeated:
		here := d.path
		d.path = here[:len(here)-1]
		d.unknown(key, "Proto field is not repeating, cannot start list.")
		d.path = here
		d.skip()
	case c == '[':
		last := &d.path[len(d.path)-1]
		d.each(']', func(i int) {
			last.index = i
			d.value(f, key)
		})
	case f.repeated:
		d.mismatch(f, key)
	default:
		d.value(f, key)
	}
}

func (d *decoder) value(f *field, key []byte) {
	switch f.kind {
	case messageKind:
		d.messageValue(f, key)
	case mapKind:
		d.mapValue(f, key)
	default:
		d.scalar(f, key)
	}
}

func (d *decoder) messageValue(f *field, key []byte) {
	if d.b[d.i] != '{' {
		d.mismatch(f, key)
		return
	}
	from := d.i
	d.object(f.message)
	if f.see != nil {
		f.see(d, d.b[from:d.i])
	}
}

var entryValue = &field{kind: stringKind}

func (d *decoder) mapValue(f *field, key []byte) {
	if d.b[d.i] != '{' {
		d.mismatch(f, key)
		return
	}
	last := &d.path[len(d.path)-1]
	d.each('}', func(i int) {
		key := d.key()
		last.index, last.value = i, true
		if d.b[d.i] != '"' {
			d.mismatch(entryValue, key)
			return
		}
		v := d.string()
		if f.pair != nil {
			f.pair(d, key, v)
		}
	})
	last.index, last.value = noIndex, false
}

func (d *decoder) scalar(f *field, key []byte) {
	c := d.b[d.i]
	if c == '{' && f.kind != structKind || c == '[' {
		d.mismatch(f, key)
		return
	}
	from := d.i
	var v []byte
	quoted := c == '"'
	if quoted {
		v = d.string()
	} else {
		d.skip()
		v = d.b[from:d.i]
	}
	if ok, why := f.accepts(v, quoted, key); !ok {
		if why == "" {
			why = string(d.b[from:d.i])
		}
		d.invalid(f.typeName(), why)
		return
	}
	if f.see != nil {
		f.see(d, v)
	}
}

// mismatch reads and complains about a value of which the first byte shows that
// it is not what the field has. In an object, Google looks for fields.
func (d *decoder) mismatch(f *field, key []byte) {
	from, known := d.i, len(d.misread)
	if d.b[d.i] == '{' && f.kind != messageKind {
		d.each('}', func(int) {
			d.unknown(d.key(), "Cannot find field.")
			d.skip()
		})
	} else {
		d.skip()
	}
	if len(d.misread) == known {
		d.invalid(f.typeName(), string(d.b[from:d.i]))
	}
}

func (d *decoder) invalid(typeName, why string) {
	at := d.at()
	d.wrong(at, fmt.Sprintf("Invalid value at '%s' (%s), %s", at, typeName, why))
}

// unknown complains about a name in the message that the path leads to.
func (d *decoder) unknown(key []byte, why string) {
	at := d.at()
	where := ""
	if at != "" {
		where = " at '" + at + "'"
	}
	d.wrong(at, fmt.Sprintf("Invalid JSON payload received. Unknown name %q%s: %s", key, where, why))
}

// wrong keeps the first complaints: a body may have room for thousands.
func (d *decoder) wrong(at, text string) {
	if len(d.misread) < 20 {
		d.misread = append(d.misread, violation{at, text})
	}
}

// at writes the path out, as in message.data[0].value.
func (d *decoder) at() string {
	var b strings.Builder
	for i, s := range d.path {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(s.name)
		if s.index != noIndex {
			fmt.Fprintf(&b, "[%d]", s.index)
		}
		if s.value {
			b.WriteString(".value")
		}
	}
	return b.String()
}
