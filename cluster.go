package fanfare

import (
	"github.com/fanfare-im/fanfare/internal/peers"
)

func init() {
	peers.Join = func(o any, c *peers.Cluster) { o.(*Options).cluster = c }
}
