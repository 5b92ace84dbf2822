package fanfare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare/store"
)

// MarshalJSON returns the JSON form, an object with one key for each node:
//
//	{"all": true}
//	{"tag": "vip"}
//	{"attr": {"name": "tier", "value": "platinum"}}
//	{"users": ["alice", "bob"]}
//	{"platform": "apns"}
//	{"sample": {"percent": 10, "salt": "s"}}
//	{"compare": {"name": "age", "op": "ge", "value": "18"}}
//	{"between": {"name": "age", "low": "18", "high": "30"}}
//	{"exists": "city"}
//	{"language": "zh"}
//	{"timezone": "Asia/Shanghai"}
//	{"seen_within": 7}
//	{"registered_within": 30}
//	{"registered_since": "2026-01-01"}
//	{"saved": "vips"}
//	{"and": [{"tag": "vip"}, {"not": {"platform": "apns"}}]}
//	{"or": [{"tag": "stock A"}, {"tag": "stock B"}]}
//
// For the zero Audience it fails with [ErrNoAudience], for text that is not
// valid UTF-8 it fails too.
func (a Audience) MarshalJSON() ([]byte, error) {
	if a.expr == nil {
		return nil, ErrNoAudience
	}
	return appendExpr(nil, a.expr)
}

// UnmarshalJSON reads the JSON form and nothing else: each object has exactly
// one of the keys, in lower case, and null is not an audience. The bounds are
// those of [ParseAudience], and above them it fails with a [*LimitError]. After
// an error a is unchanged.
func (a *Audience) UnmarshalJSON(data []byte) error {
	if len(data) > maxAudienceBytes {
		return &LimitError{What: "JSON of an audience in bytes", Limit: maxAudienceBytes, Got: int64(len(data))}
	}
	// The tokens are read from data known to be one JSON value: this finds
	// what is malformed, and what trails.
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		return fmt.Errorf("audience JSON: %w", err)
	}
	// Package json would put U+FFFD for these, and so name another tag.
	if !utf8.Valid(data) || loneSurrogate(data) {
		return errors.New("audience JSON: not valid UTF-8, or half a surrogate pair")
	}
	r := &audienceReader{dec: json.NewDecoder(bytes.NewReader(data))}
	r.dec.UseNumber()
	parsed, err := r.audience(1)
	if err != nil {
		return err
	}
	if err := parsed.expr.Validate(); err != nil {
		return err
	}
	*a = parsed
	return nil
}

func appendExpr(b []byte, e *store.Expr) ([]byte, error) {
	var err error
	switch e.Op {
	case store.OpAll:
		b = append(b, `{"all":true`...)
	case store.OpTag:
		b, err = appendString(append(b, `{"tag":`...), e.Value)
	case store.OpAttr:
		b, err = appendFields(append(b, `{"attr":`...), "name", e.Name, "value", e.Value)
	case store.OpLess, store.OpAtMost, store.OpMore, store.OpAtLeast:
		b, err = appendFields(append(b, `{"compare":`...), "name", e.Name, "op", comparisonWord[e.Op], "value", e.Value)
	case store.OpBetween:
		b, err = appendFields(append(b, `{"between":`...), "name", e.Name, "low", e.Value, "high", e.High)
	case store.OpHas:
		b, err = appendString(append(b, `{"exists":`...), e.Name)
	case store.OpLanguage:
		b, err = appendString(append(b, `{"language":`...), e.Value)
	case store.OpTimeZone:
		b, err = appendString(append(b, `{"timezone":`...), e.Value)
	case store.OpSaved:
		b, err = appendString(append(b, `{"saved":`...), e.Value)
	case store.OpSeenWithin:
		b = strconv.AppendInt(append(b, `{"seen_within":`...), int64(int32(e.Days)), 10)
	case store.OpRegisteredWithin:
		b = strconv.AppendInt(append(b, `{"registered_within":`...), int64(int32(e.Days)), 10)
	case store.OpRegisteredSince:
		b, err = appendString(append(b, `{"registered_since":`...), formatDay(e.Days))
	case store.OpUsers:
		b = append(b, `{"users":[`...)
		for i, id := range e.IDs {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendString(b, id); err != nil {
				break
			}
		}
		b = append(b, ']')
	case store.OpPlatform:
		b, err = appendString(append(b, `{"platform":`...), e.Value)
	case store.OpSample:
		b = append(b, `{"sample":{"percent":`+formatPercent(e.PPM)+`,"salt":`...)
		b, err = appendString(b, e.Value)
		b = append(b, '}')
	case store.OpAnd:
		b, err = appendExprs(append(b, `{"and":`...), e.Args)
	case store.OpOr:
		b, err = appendExprs(append(b, `{"or":`...), e.Args)
	case store.OpNot:
		b, err = appendExpr(append(b, `{"not":`...), e.Args[0])
	}
	return append(b, '}'), err
}

func appendExprs(b []byte, args []*store.Expr) ([]byte, error) {
	var err error
	for i, arg := range args {
		b = append(b, "[,"[min(i, 1)])
		if b, err = appendExpr(b, arg); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

// comparisonWord is how a comparison is written in JSON, for which package json would escape the signs.
var comparisonWord = map[store.Op]string{
	store.OpLess: "lt", store.OpAtMost: "le", store.OpMore: "gt", store.OpAtLeast: "ge",
}

// appendFields appends an object of keys and values in turn.
func appendFields(b []byte, fields ...string) ([]byte, error) {
	for i := 0; i < len(fields); i += 2 {
		b = append(append(append(b, "{,"[min(i, 1)], '"'), fields[i]...), `":`...)
		var err error
		if b, err = appendString(b, fields[i+1]); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func appendString(b []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return b, fmt.Errorf("fanfare: audience: %q is %w", s, ErrInvalidText)
	}
	quoted, err := json.Marshal(s)
	return append(b, quoted...), err
}

// audienceReader reads the JSON form token by token: decoding into structs
// would accept a key twice, or in another case. at is the place it has come to,
// such as ".and[2].not"; a mistake leaves it there, for the message.
type audienceReader struct {
	dec *json.Decoder
	at  []byte
}

func (r *audienceReader) audience(depth int) (Audience, error) {
	if depth > store.MaxExprDepth {
		return Audience{}, &LimitError{What: "nesting of an audience", Limit: store.MaxExprDepth, Got: int64(depth)}
	}
	var a Audience
	var key string
	err := r.object(func(k string) (err error) {
		if key != "" {
			return r.errorf("a second key beside %q, an audience has one", key)
		}
		key = k
		a, err = r.node(k, depth)
		return err
	})
	if err == nil && key == "" {
		err = r.errorf("the object is empty, an audience has one key")
	}
	return a, err
}

// audienceKeys are what node reads, for a message.
const audienceKeys = "all, tag, attr, compare, between, exists, users, platform, language, timezone, seen_within, registered_within, registered_since, saved, sample, and, or, not"

func (r *audienceReader) node(key string, depth int) (Audience, error) {
	switch key {
	case "all":
		if t, err := r.dec.Token(); err != nil || t != true {
			return Audience{}, r.errorf("expected true")
		}
		return All(), nil
	case "tag":
		s, err := r.string()
		return Tag(s), err
	case "attr":
		return r.attr()
	case "users":
		ids, err := readArray(r, r.string)
		return Users(ids...), err
	case "platform":
		s, err := r.string()
		return Platform(s), err
	case "compare":
		return r.compare()
	case "between":
		v, err := r.strings("name", "low", "high")
		return AttrBetween(v[0], v[1], v[2]), err
	case "exists":
		s, err := r.string()
		return HasAttr(s), err
	case "language":
		s, err := r.string()
		return Language(s), err
	case "timezone":
		s, err := r.string()
		return TimeZone(s), err
	case "saved":
		s, err := r.string()
		return Saved(s), err
	case "seen_within":
		days, err := r.days()
		return SeenWithin(days), err
	case "registered_within":
		days, err := r.days()
		return RegisteredWithin(days), err
	case "registered_since":
		s, err := r.string()
		since, is := parseDay(s)
		if err == nil && !is {
			err = r.errorf("expected a date such as 2026-01-31, from 1970 on")
		}
		return since, err
	case "sample":
		return r.sample()
	case "and":
		return r.joined(store.OpAnd, depth)
	case "or":
		return r.joined(store.OpOr, depth)
	case "not":
		a, err := r.audience(depth + 1)
		return a.Not(), err
	}
	return Audience{}, r.errorf("unknown key, expected " + audienceKeys)
}

func (r *audienceReader) joined(op store.Op, depth int) (Audience, error) {
	terms, err := readArray(r, func() (Audience, error) { return r.audience(depth + 1) })
	if err == nil && len(terms) == 0 {
		err = r.errorf("the array is empty, expected one audience or more")
	}
	if err != nil {
		return Audience{}, err
	}
	return joinAudiences(op, terms), nil
}

func (r *audienceReader) attr() (Audience, error) {
	v, err := r.strings("name", "value")
	return Attr(v[0], v[1]), err
}

func (r *audienceReader) compare() (Audience, error) {
	here := len(r.at)
	v, err := r.strings("name", "op", "value")
	if err != nil {
		return Audience{}, err
	}
	for op, word := range comparisonWord {
		if word == v[1] {
			return compared(op, v[0], v[2]), nil
		}
	}
	r.at = append(r.at[:here], ".op"...)
	return Audience{}, r.errorf(`expected "lt", "le", "gt" or "ge"`)
}

func (r *audienceReader) days() (int, error) {
	t, err := r.dec.Token()
	if err != nil {
		return 0, err
	}
	n, _ := t.(json.Number)
	days, err := strconv.ParseUint(n.String(), 10, 31)
	if err != nil || days < 1 || days > store.MaxDays {
		return 0, r.errorf("expected a number of days from 1 to %d", store.MaxDays)
	}
	return int(days), nil
}

// strings reads an object that has exactly these keys, whose values are strings.
func (r *audienceReader) strings(keys ...string) ([]string, error) {
	values := make([]string, len(keys))
	err := r.fields(func(key string) (err error) {
		values[slices.Index(keys, key)], err = r.string()
		return err
	}, keys...)
	return values, err
}

func (r *audienceReader) sample() (Audience, error) {
	var percent float64
	var salt string
	err := r.fields(func(key string) (err error) {
		if key == "percent" {
			percent, err = r.percent()
		} else {
			salt, err = r.string()
		}
		return err
	}, "percent", "salt")
	return Sample(percent, salt), err
}

func (r *audienceReader) percent() (float64, error) {
	t, err := r.dec.Token()
	if err != nil {
		return 0, err
	}
	n, _ := t.(json.Number)
	v, err := n.Float64()
	if err != nil || v < 0 || v > 100 {
		return 0, r.errorf("expected a number from 0 to 100")
	}
	return v, nil
}

// fields reads an object that has exactly these keys.
func (r *audienceReader) fields(read func(key string) error, keys ...string) error {
	seen := make(map[string]bool, len(keys))
	err := r.object(func(key string) error {
		switch {
		case !slices.Contains(keys, key):
			last := len(keys) - 1
			return r.errorf(`unknown key, expected "%s" and %q`, strings.Join(keys[:last], `", "`), keys[last])
		case seen[key]:
			return r.errorf("the key is there twice")
		}
		seen[key] = true
		return read(key)
	})
	for _, key := range keys {
		if err == nil && !seen[key] {
			err = r.errorf("%q is missing", key)
		}
	}
	return err
}

// object calls read at each key's value.
func (r *audienceReader) object(read func(key string) error) error {
	if t, err := r.dec.Token(); err != nil || t != json.Delim('{') {
		return r.errorf("expected an object")
	}
	here := len(r.at)
	for r.dec.More() {
		key, err := r.string()
		if err != nil {
			return err
		}
		r.at = append(append(r.at, '.'), firstRunes(key, 40)...)
		if err := read(key); err != nil {
			return err
		}
		r.at = r.at[:here]
	}
	_, err := r.dec.Token()
	return err
}

func readArray[T any](r *audienceReader, read func() (T, error)) ([]T, error) {
	if t, err := r.dec.Token(); err != nil || t != json.Delim('[') {
		return nil, r.errorf("expected an array")
	}
	here := len(r.at)
	var all []T
	for r.dec.More() {
		r.at = fmt.Appendf(r.at, "[%d]", len(all))
		v, err := read()
		if err != nil {
			return nil, err
		}
		all = append(all, v)
		r.at = r.at[:here]
	}
	_, err := r.dec.Token()
	return all, err
}

func (r *audienceReader) string() (string, error) {
	t, err := r.dec.Token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", r.errorf("expected a string")
	}
	return s, nil
}

func (r *audienceReader) errorf(format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	if len(r.at) > 0 {
		message = strconv.Quote(string(r.at[1:])) + ": " + message
	}
	return errors.New("audience JSON: " + message)
}

// loneSurrogate reports whether a \u escape in valid JSON is half a surrogate
// pair without its other half.
func loneSurrogate(data []byte) bool {
	high := false // a high half ends right before data
	for {
		i := bytes.IndexByte(data, '\\')
		if i < 0 {
			return high
		}
		half, size := rune(0), 2
		if data[i+1] == 'u' {
			v, _ := strconv.ParseUint(string(data[i+2:i+6]), 16, 16)
			half, size = rune(v), 6
		}
		if low := 0xDC00 <= half && half <= 0xDFFF; low != high || high && i > 0 {
			return true
		}
		high = 0xD800 <= half && half <= 0xDBFF
		data = data[i+size:]
	}
}
