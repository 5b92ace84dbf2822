package centrifuge

import (
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// TestEncode: a body that is JSON is there as JSON, any other text as a string; where that is not the body byte for byte, or it is no text, the body is there in base64. There is never a line break.
func TestEncode(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"text":"<b>圣诞快乐</b> & \u2028"}`: `"body":{"text":"<b>圣诞快乐</b> & \u2028"}`,
		"{\n  \"a\": 1\n}\r\n":            `"body":{"a":1},"raw":"ewogICJhIjogMQp9DQo="`,
		`"a string"`:                      `"body":"a string"`,
		"plain\ntext":                     `"body":"plain\ntext","raw":"cGxhaW4KdGV4dA=="`,
		"\xff":                            `"raw":"/w=="`,
		"":                                `"body":"","raw":""`,
	} {
		m := &transport.Message{ID: "7", From: "operator", Accepted: time.UnixMilli(1), Body: []byte(body)}
		if got, want := string(encode(m)), `{"fanfare":{"id":"7","from":"operator","time":1,`+want+`}}`; got != want {
			t.Errorf("%q:\n%s, want\n%s", body, got, want)
		}
	}
}

// TestEncodedOnce: one message is encoded once for all receivers, others under way meanwhile.
func TestEncodedOnce(t *testing.T) {
	t.Parallel()
	h := New(nil, Options{})
	var messages []*transport.Message
	first := make(map[*transport.Message]*byte)
	for i := range len(h.frames) {
		m := &transport.Message{Sequence: uint64(i), Body: []byte("x")}
		messages = append(messages, m)
		first[m] = &h.frame(m)[0]
	}
	for _, m := range messages {
		if &h.frame(m)[0] != first[m] {
			t.Errorf("message %d was encoded again", m.Sequence)
		}
	}
	changed := &transport.Message{Sequence: 3, Body: []byte("y")} // filled for somebody, say
	if &h.frame(changed)[0] == first[messages[3]] {
		t.Error("another message of the same sequence has the same frame")
	}
}
