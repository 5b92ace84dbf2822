package centrifuge

import (
	"testing"

	"github.com/centrifugal/centrifuge"

	"github.com/fanfare-im/fanfare/transport/transporttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, protobuf := range map[string][]bool{"JSON": nil, "Protobuf": {true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transporttest.TestOnline(t, func(t *testing.T) *transporttest.OnlineHarness {
				w := newWorld(t, t.TempDir(), centrifuge.Config{})
				return &transporttest.OnlineHarness{
					Transport: w.hub,
					Connect:   func(user string) (transporttest.Client, error) { return w.dial(user, protobuf...) },
					Stall:     w.stall,
				}
			})
		})
	}
}
