package fanfare

import (
	"time"

	"github.com/fanfare-im/fanfare/internal/peers"
)

func init() {
	peers.Join = func(o any, c *peers.Cluster) { o.(*Options).cluster = c }
	peers.Clock = func(o any, now func() time.Time) { o.(*Options).now = now }
}
