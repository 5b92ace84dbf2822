package websocket

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// whole is a frame with all that the suite compares: JSON keeps the meaning of a body, and the suite looks at its bytes.
func whole(m *transport.Message) ([]byte, error) { return json.Marshal(m) }

type conforming struct{ *client }

func (c conforming) Next(ctx context.Context) (*transport.Message, error) {
	_, data, err := c.ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	m := new(transport.Message)
	return m, json.Unmarshal(data, m)
}

func (c conforming) Close() error {
	c.leave()
	return nil
}

func TestConformance(t *testing.T) {
	t.Parallel()
	transporttest.TestOnline(t, func(t *testing.T) *transporttest.OnlineHarness {
		h := start(t, t.TempDir(), Options{Encode: whole, Binary: true})
		return &transporttest.OnlineHarness{
			Transport: h.hub,
			Connect: func(user string) (transporttest.Client, error) {
				c, err := h.connect(user)
				return conforming{c}, err
			},
			Stall: func(string) func() { return func() {} }, // a client reads only when it is asked for the next message
		}
	})
}
