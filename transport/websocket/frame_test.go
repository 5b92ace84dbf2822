package websocket

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

func TestEncode(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"a": "<b>&"}` + "\n": `"body":{"a":"<b>&"}`,
		`null`:                 `"body":null`,
		`<b>plain</b>`:         `"body":"<b>plain</b>"`,
		``:                     `"body":""`,
		"\xff\x00":             `"raw":"/wA="`,
		"\"\xff\"":             `"raw":"Iv8i"`, // which encoding/json takes for JSON
	} {
		got, err := encode(&transport.Message{ID: "1", From: "a\xffb", Body: []byte(body), Accepted: time.UnixMilli(5)})
		if want := `{"id":"1","from":"a\ufffdb","time":5,` + want + `}`; err != nil || string(got) != want {
			t.Errorf("%q is sent as %s, %v, not %s", body, got, err, want)
		}
	}
}

// TestNotUTF8: what is no text ends nobody's connection.
func TestNotUTF8(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{})
	c := h.dial("alice")
	if _, err := h.p.Push(t.Context(), fanfare.Message{Body: []byte("\"\xff\""), To: fanfare.All(), Lifetime: week}); err != nil {
		t.Fatal(err)
	}
	if text, err := c.read(); err != nil || !utf8.Valid(text) || !strings.HasSuffix(string(text), `"raw":"Iv8i"}`) {
		t.Errorf("%q, %v", text, err)
	}
}

// TestEncodeOfAHost: a form of the host's own, of which an error keeps the message for later.
func TestEncodeOfAHost(t *testing.T) {
	t.Parallel()
	calls := 0
	h := start(t, t.TempDir(), Options{Binary: true, Encode: func(m *transport.Message) ([]byte, error) {
		if calls++; calls == 1 { // one user, so one call at a time
			return nil, errors.New("not now")
		}
		return append([]byte("\xff"), m.Body...), nil
	}})
	c := h.dial("alice")
	h.push("one", week)
	kind, data, err := c.ws.Read(t.Context())
	if err != nil || kind != websocket.MessageBinary || string(data) != "\xff\"one\"" {
		t.Errorf("%v %q, %v", kind, data, err)
	}
}

func FuzzDecodeAck(f *testing.F) {
	for _, seed := range []string{`{"ack":"0197f3a06e5b0000000000000000abcd"}`, `{"ack":""}`, `{"ack":7}`, `{"ack":null}`, `["ack"]`, `{"ack":"\ud800"}`, `{"ACK":"a","ack":"b"} `, `{"ack":"a"}{"ack":"b"}`, "{\"ack\":\"\xff\"}", ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		id, err := decodeAck(text)
		if err != nil {
			if id != "" {
				t.Errorf("%q is refused, and an ack of %q", text, id)
			}
			return
		}
		// What is taken for an ack is JSON, and an ack of the same message when it is written as the protocol says.
		again, err := json.Marshal(map[string]string{"ack": id})
		if err != nil || id == "" || !utf8.ValidString(id) || !json.Valid(text) {
			t.Fatalf("%q is taken for an ack of %q", text, id)
		}
		if got, err := decodeAck(again); got != id || err != nil {
			t.Errorf("%q is an ack of %q, and written again as %s of %q, %v", text, id, again, got, err)
		}
	})
}
