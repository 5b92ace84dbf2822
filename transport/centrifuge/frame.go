package centrifuge

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare/transport"
)

// frame is a message as clients get it.
type frame struct {
	m    *transport.Message
	data []byte
}

// frame encodes a message, the same one for all of its receivers only once as long as few others are under way.
func (h *Hub) frame(m *transport.Message) []byte {
	place := &h.frames[m.Sequence%uint64(len(h.frames))]
	if last := place.Load(); last != nil && last.m == m {
		return last.data
	}
	f := &frame{m, encode(m)}
	place.Store(f)
	return f.data
}

// envelope tells a message from what else the host sends.
type envelope struct {
	Fanfare payload `json:"fanfare"`
}

type payload struct {
	ID   string          `json:"id"`
	From string          `json:"from"`
	Time int64           `json:"time"`
	Body json.RawMessage `json:"body,omitempty"` // none: it is no text
	// Raw is the body byte for byte, where Body is not.
	Raw *[]byte `json:"raw,omitempty"`
}

// encode makes one line: a frame of the JSON protocol may be several, and a line break in a body would part it.
func encode(m *transport.Message) []byte {
	p := payload{ID: m.ID, From: m.From, Time: m.Accepted.UnixMilli()}
	var body bytes.Buffer
	if json.Compact(&body, m.Body) == nil {
		p.Body = body.Bytes()
	} else if utf8.Valid(m.Body) {
		p.Body, _ = json.Marshal(string(m.Body)) // of a string there is no error
	}
	if !bytes.Equal(p.Body, m.Body) {
		p.Raw = &m.Body
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(envelope{p}) // to memory, and valid
	return bytes.TrimSpace(b.Bytes())
}
