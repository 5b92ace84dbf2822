package cluster

import (
	"testing"

	"go.uber.org/goleak"
)

// The client makes a goroutine for each object that it stores, and when that is stored before the goroutine gets to run, as happens on a busy machine, it waits at a
// nil channel for ever (nats.go v1.55.0, jetstream/publish.go: the channel is read after cleanupReplySub has cleared it).
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}
