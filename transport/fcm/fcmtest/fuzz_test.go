package fcmtest

import (
	"encoding/json"
	"strings"
	"testing"
)

// Whatever a client sends, decoding ends, and takes only what is JSON; what it
// takes it takes again when written in another way.
func FuzzDecode(f *testing.F) {
	token := (&Server{}).Token(1)
	for _, fields := range []string{
		``, `,"data":{"a":"b\u00e9"}`, `,"notification":{"title":"t"},"android":{"ttl":"3.5s","priority":"high"}`, `,"x":[{"a":[1]}]`,
		`,"android":{"notification":{"body_loc_args":["a"],"light_settings":{"color":{"red":0.5}}}}`,
		`,"apns":{"headers":{"apns-priority":"10"},"payload":{"aps":{"alert":[{}]}}}`, `,"topic":"t"`, `,"webpush":{"notification":{}}`,
	} {
		f.Add([]byte(`{"message":{"token":"` + token + `"` + fields + `}}`))
	}
	f.Add([]byte(`{"message":{"condition":"!('a' in topics)"}, "validate_only":true}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d := decode(body)
		if d.misread != nil || d.broken != nil {
			if r := d.reply(); r.status != 400 || !json.Valid(r.body) || strings.Contains(string(r.body), `"message": ""`) {
				t.Fatalf("%s", r.body)
			}
			return
		}
		var request map[string]json.RawMessage
		if err := json.Unmarshal(body, &request); err != nil {
			t.Fatal(err)
		}
		if !json.Valid(d.message) {
			t.Fatalf("message %q of %q", d.message, body)
		}
		again, err := json.MarshalIndent(request, " ", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if e := decode(again); e.misread != nil || e.to != d.to || e.validateOnly != d.validateOnly || e.data != d.data {
			t.Fatalf("%q is read in another way than %q: %v", again, body, e.misread)
		}
	})
}
