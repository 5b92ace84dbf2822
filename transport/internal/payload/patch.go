package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Override lays a JSON merge patch (RFC 7396) over what v is as JSON, and returns the result. An empty patch changes nothing.
func Override(v any, patch json.RawMessage) (map[string]any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	to, err := object(b)
	if err != nil || len(patch) == 0 {
		return to, err
	}
	with, err := object(patch)
	if err != nil {
		return nil, fmt.Errorf("override: %w", err)
	}
	return merge(to, with).(map[string]any), nil
}

func object(b []byte) (m map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // as they were written
	if err = d.Decode(&m); err == nil && (m == nil || d.More()) {
		err = fmt.Errorf("not a JSON object")
	}
	return m, err
}

func merge(to, with any) any {
	patch, is := with.(map[string]any)
	if !is {
		return with
	}
	target, is := to.(map[string]any)
	if !is {
		target = make(map[string]any)
	}
	for k, v := range patch {
		if v == nil {
			delete(target, k)
		} else {
			target[k] = merge(target[k], v)
		}
	}
	return target
}

// Unknown returns the first field of a patch that a message made of it lacks, as a path, or "": the message's type does not know that one.
func Unknown(message map[string]any, patch json.RawMessage) string {
	with, err := object(patch)
	if err != nil {
		return ""
	}
	return missing(message, with, "")
}

func missing(in, of map[string]any, path string) string {
	for _, k := range slices.Sorted(maps.Keys(of)) {
		v := of[k]
		switch v {
		case nil, "", false, json.Number("0"): // a field that has nothing in it may be left out
			continue
		}
		have, is := in[k]
		sub, both := v.(map[string]any)
		if list, isList := v.([]any); both && len(sub) == 0 || isList && len(list) == 0 {
			continue
		}
		if !is {
			return path + k
		}
		if inner, isObject := have.(map[string]any); both && isObject {
			if m := missing(inner, sub, path+k+"."); m != "" {
				return m
			}
		}
	}
	return ""
}

// Pick returns what a patch says of some fields, each a path whose names are compared without regard to case; nil for nothing. What is no object says nothing.
func Pick(patch json.RawMessage, fields ...[]string) json.RawMessage {
	whole, err := object(patch)
	if err != nil {
		return nil
	}
	var out any
	for _, path := range fields {
		if v := pick(whole, path); v != nil {
			out = merge(out, v)
		}
	}
	if out == nil {
		return nil
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil
	}
	return b
}

func pick(from any, path []string) any {
	if len(path) == 0 {
		return from
	}
	m, _ := from.(map[string]any)
	out := make(map[string]any)
	for k, v := range m {
		if v = pick(v, path[1:]); v != nil && strings.EqualFold(k, path[0]) {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
