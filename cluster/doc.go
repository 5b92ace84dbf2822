// Package cluster runs a [fanfare.Pusher] on several machines: each applies the same commands, in the order of a
// replicated NATS JetStream stream, and delivers to the users who are connected to it.
package cluster

import (
	_ "github.com/fanfare-im/fanfare"
	_ "github.com/nats-io/nats-server/v2/server"
	_ "github.com/nats-io/nats.go/jetstream"
)
