package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// object is a JSON object whose names are case-sensitive, as the service's are.
type object map[string]json.RawMessage

// parseObject reads an object. A body that is empty is an empty one: some commands need none.
func parseObject(b []byte) (object, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return object{}, nil
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("it is not UTF-8")
	}
	var o object
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, err
	}
	if o == nil {
		return nil, fmt.Errorf("it is null, not an object")
	}
	return o, nil
}

// has says whether a field is there and not null.
func (o object) has(name string) bool {
	raw, is := o[name]
	return is && !isNull(raw)
}

// first returns the first of several fields that is there, and its name.
func (o object) first(names ...string) (json.RawMessage, string) {
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

// asObject reads a value that is to be an object.
func asObject(raw json.RawMessage) (object, bool) {
	if !isObject(raw) {
		return nil, false
	}
	o, err := parseObject(raw)
	return o, err == nil
}

// asList reads a value that is to be a list.
func asList(raw json.RawMessage) (list []json.RawMessage, ok bool) {
	return list, isList(raw) && json.Unmarshal(raw, &list) == nil
}

// asString reads a value that is to be a string.
func asString(raw json.RawMessage) (s string, ok bool) {
	return s, isString(raw) && json.Unmarshal(raw, &s) == nil
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
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// asTexts reads a list of texts. Where an object came instead, as some clients write lists, it is its values in the order of its keys.
func asTexts(raw json.RawMessage) (texts []string, ok bool) {
	if o, is := asObject(raw); is {
		keys := make([]string, 0, len(o))
		for k := range o {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b string) int {
			x, errX := strconv.Atoi(a)
			y, errY := strconv.Atoi(b)
			if errX == nil && errY == nil {
				return x - y
			}
			return strings.Compare(a, b)
		})
		for _, k := range keys {
			text, ok := asText(o[k])
			if !ok {
				return nil, false
			}
			texts = append(texts, text)
		}
		return texts, true
	}
	list, ok := asList(raw)
	if !ok {
		return nil, false
	}
	for _, raw := range list {
		text, ok := asText(raw)
		if !ok {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, true
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
