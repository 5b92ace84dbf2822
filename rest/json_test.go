package rest

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// TestParts: objects and lists are taken apart as encoding/json does it, whatever is in them.
func TestParts(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`["\\\\{}\[\], :]{0,5}`))
	space := rapid.StringMatching(`[ \n\r\t]{0,2}`)
	var value func(depth int) *rapid.Generator[string]
	value = func(depth int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			s := func() string { return space.Draw(t, "space") }
			name := func() string {
				b, _ := json.Marshal(text.Draw(t, "text"))
				return string(b)
			}
			kind := rapid.IntRange(0, 4).Draw(t, "kind")
			if depth == 0 {
				kind = 3 + kind%2
			}
			open, shut := "{", "}"
			switch kind {
			case 0, 1:
				open, shut = "[", "]"
			case 2:
			case 3:
				return name()
			default:
				return rapid.SampledFrom([]string{"0", "-1.5e+3", "true", "false", "null", "\"\\\\\"", "\"\\u0022\""}).Draw(t, "word")
			}
			out := open + s()
			for i := range rapid.IntRange(0, 3).Draw(t, "many") {
				if i > 0 {
					out += "," + s()
				}
				if open == "{" {
					out += name() + s() + ":" + s()
				}
				out += value(depth-1).Draw(t, "value") + s()
			}
			return out + shut
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		raw := json.RawMessage(value(3).Draw(t, "JSON"))
		if !json.Valid(raw) {
			t.Fatalf("%s is no JSON", raw)
		}
		var list []json.RawMessage
		if got, is := asList(raw); is != isList(raw) || is && (json.Unmarshal(raw, &list) != nil || len(got) != len(list)) {
			t.Fatalf("%s: %s, want %s", raw, got, list)
		} else if is {
			for i := range list {
				if string(got[i]) != string(list[i]) {
					t.Fatalf("%s: %s, want %s", raw, got, list)
				}
			}
		}
		var o object
		if got, is := asObject(raw); is != isObject(raw) || is && (json.Unmarshal(raw, &o) != nil || !reflect.DeepEqual(got, o)) {
			t.Fatalf("%s: %s, want %s", raw, got, o)
		}
	})
}
