package websocket

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare/transport"
)

// frame is a message as clients get it.
type frame struct {
	m    *transport.Message
	data []byte
}

// encode makes the frame that the package's comment describes.
func encode(m *transport.Message) ([]byte, error) {
	out := struct {
		ID   string          `json:"id"`
		From string          `json:"from"`
		Time int64           `json:"time"`
		Body json.RawMessage `json:"body,omitempty"`
		Raw  []byte          `json:"raw,omitempty"`
	}{ID: m.ID, From: m.From, Time: m.Accepted.UnixMilli()}
	switch {
	case !utf8.Valid(m.Body): // inside a text frame a browser would end the connection over it, again and again
		out.Raw = m.Body
	case json.Valid(m.Body):
		out.Body = m.Body
	default:
		var err error
		if out.Body, err = marshal(string(m.Body)); err != nil {
			return nil, err
		}
	}
	return marshal(out)
}

// marshal is json.Marshal, with <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

var errFrame = errors.New(`a frame must be text, {"ack":"<id>"}`)

// decodeAck reads a frame of a client.
func decodeAck(text []byte) (id string, err error) {
	var in struct {
		Ack string `json:"ack"`
	}
	if json.Unmarshal(text, &in) != nil || in.Ack == "" {
		return "", errFrame
	}
	return in.Ack, nil
}
