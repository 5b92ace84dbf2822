package rest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// object is a JSON object whose names are case-sensitive, as the service's are.
type object map[string]json.RawMessage

// parseObject reads an object. A body that is empty is an empty one: some commands need none.
func parseObject(b []byte) (object, error) {
	if len(b) == 0 {
		return object{}, nil
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("it is not UTF-8")
	}
	if !isObject(b) {
		return nil, fmt.Errorf("it is %s", show(b))
	}
	var o object
	err := json.Unmarshal(b, &o)
	return o, err
}

// has says whether a field is there and not null.
func (o object) has(name string) bool {
	raw, is := o[name]
	return is && !isNull(raw)
}

// first returns the first of several fields that has something in it, else the first that is there, and its name: clients whose types
// have all of the names send those that they do not use empty.
func (o object) first(names ...string) (json.RawMessage, string) {
	for _, name := range names {
		if raw := o[name]; o.has(name) && string(raw) != `""` && !isEmptyList(raw) {
			return raw, name
		}
	}
	for _, name := range names {
		if o.has(name) {
			return o[name], name
		}
	}
	return nil, names[0]
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// kind is the first byte of a value, which says what it is.
func kind(raw json.RawMessage) byte {
	if len(raw) == 0 {
		return 0
	}
	return raw[0]
}

func isObject(raw json.RawMessage) bool { return kind(raw) == '{' }
func isList(raw json.RawMessage) bool   { return kind(raw) == '[' }
func isString(raw json.RawMessage) bool { return kind(raw) == '"' }

// isEmptyList says whether a value is a list of nothing, which is how PHP writes a map without members.
func isEmptyList(raw json.RawMessage) bool {
	return isList(raw) && raw[len(raw)-1] == ']' && len(bytes.TrimSpace(raw[1:len(raw)-1])) == 0
}

// asObject reads a value that is to be an object.
func asObject(raw json.RawMessage) (object, bool) {
	if !isObject(raw) {
		return nil, false
	}
	o := make(object, 4)
	parts(raw, func(name, value json.RawMessage) {
		s, _ := asString(name)
		o[s] = value
	})
	return o, true
}

// asMap reads a value that is to be an object, which may have no members.
func asMap(raw json.RawMessage) (object, bool) {
	if isEmptyList(raw) {
		return object{}, true
	}
	return asObject(raw)
}

// asList reads a value that is to be a list.
func asList(raw json.RawMessage) (list []json.RawMessage, ok bool) {
	if !isList(raw) {
		return nil, false
	}
	parts(raw, func(_, value json.RawMessage) { list = append(list, value) })
	return list, true
}

// parts calls f for each value of an object, with its name, or of a list. The whole body was valid when it was parsed, so that it is enough to
// look where each value ends: encoding/json would look at everything again at each level.
func parts(raw json.RawMessage, f func(name, value json.RawMessage)) {
	for rest := space(raw[1:]); rest[0] != '}' && rest[0] != ']'; rest = space(rest) {
		if rest[0] == ',' {
			rest = space(rest[1:])
		}
		var name json.RawMessage
		if isObject(raw) {
			n := end(rest)
			name, rest = rest[:n], space(rest[n:])
			rest = space(rest[1:]) // behind the colon
		}
		n := end(rest)
		f(name, rest[:n])
		rest = rest[n:]
	}
}

// space cuts white space off the front.
func space(b json.RawMessage) json.RawMessage {
	for b[0] == ' ' || b[0] == '\n' || b[0] == '\r' || b[0] == '\t' {
		b = b[1:]
	}
	return b
}

// end is where the value ends that valid JSON begins with.
func end(b json.RawMessage) int {
	depth, within := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case within && c == '\\':
			i++
		case c == '"':
			if within = !within; !within && depth == 0 {
				return i + 1
			}
		case within:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth <= 0 {
				return i + 1 + depth // of a number or a word it is what stands before
			}
		case depth == 0 && (c == ',' || c <= ' '):
			return i
		}
	}
	return len(b)
}

// asString reads a value that is to be a string.
func asString(raw json.RawMessage) (s string, ok bool) {
	if !isString(raw) {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 { // as most are: it stands there as it is, for the body was valid
		return string(raw[1 : len(raw)-1]), true
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// asText reads a value that is to be a string and may come as a number or a boolean, as its JSON is written.
func asText(raw json.RawMessage) (string, bool) {
	if s, ok := asString(raw); ok {
		return s, true
	}
	switch kind(raw) {
	case 't', 'f', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return string(raw), true
	}
	return "", false
}

// asInteger reads a whole number, which may be written as 7, 7.0, 7e0 or "7".
func asInteger(raw json.RawMessage) (int64, bool) {
	text, ok := asText(raw)
	if !ok {
		return 0, false
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !number.MatchString(text) || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

var number = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// isNumber says whether a value is a number, which may be written as a string.
func isNumber(raw json.RawMessage) bool {
	text, ok := asText(raw)
	return ok && number.MatchString(text)
}

// asValues reads a list. Where an object came instead, as some clients write lists, it is its values in the order of its keys.
func asValues(raw json.RawMessage) ([]json.RawMessage, bool) {
	o, is := asObject(raw)
	if !is {
		return asList(raw)
	}
	values := make([]json.RawMessage, 0, len(o))
	for _, k := range slices.SortedFunc(maps.Keys(o), func(a, b string) int {
		x, errX := strconv.Atoi(a)
		y, errY := strconv.Atoi(b)
		if errX == nil && errY == nil {
			return cmp.Compare(x, y)
		}
		return strings.Compare(a, b)
	}) {
		values = append(values, o[k])
	}
	return values, true
}

// asTexts reads a list of texts, as asValues and asText do.
func asTexts(raw json.RawMessage) (texts []string, ok bool) {
	values, ok := asValues(raw)
	for _, raw := range values {
		text, is := asText(raw)
		if !is {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, ok
}

// show is a value as an error names it: not too much of it.
func show(raw json.RawMessage) string {
	const most = 64
	if len(raw) == 0 {
		return "nothing"
	}
	if len(raw) > most {
		return strings.ToValidUTF8(string(raw[:most]), "") + "…"
	}
	return string(raw)
}
