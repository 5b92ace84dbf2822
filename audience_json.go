package fanfare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
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
		if b, err = appendString(append(b, `{"attr":{"name":`...), e.Name); err == nil {
			b, err = appendString(append(b, `,"value":`...), e.Value)
		}
		b = append(b, '}')
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
	return Audience{}, r.errorf("unknown key, expected all, tag, attr, users, platform, sample, and, or, not")
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
	var name, value string
	err := r.pair("name", "value", func(key string) (err error) {
		if key == "name" {
			name, err = r.string()
		} else {
			value, err = r.string()
		}
		return err
	})
	return Attr(name, value), err
}

func (r *audienceReader) sample() (Audience, error) {
	var percent float64
	var salt string
	err := r.pair("percent", "salt", func(key string) (err error) {
		if key == "percent" {
			percent, err = r.percent()
		} else {
			salt, err = r.string()
		}
		return err
	})
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

// pair reads an object that has exactly these two keys.
func (r *audienceReader) pair(key1, key2 string, read func(key string) error) error {
	seen := make(map[string]bool, 2)
	err := r.object(func(key string) error {
		switch {
		case key != key1 && key != key2:
			return r.errorf("unknown key, expected %q and %q", key1, key2)
		case seen[key]:
			return r.errorf("the key is there twice")
		}
		seen[key] = true
		return read(key)
	})
	for _, key := range []string{key1, key2} {
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
