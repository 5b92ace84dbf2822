package faulttest

import (
	"context"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/cluster"
)

func open(ctx context.Context, c config, o fanfare.Options) (*fanfare.Pusher, error) {
	return cluster.Open(ctx, c.Dir, cluster.Options{
		Options: o, Cluster: "faults", Name: string(rune('a' + c.Node)), Listen: c.Listen, Advertise: c.Advertise, Peers: c.Peers, Timeout: c.Timeout,
		Secret: "what the nodes of this test know, and nobody else",
	})
}
