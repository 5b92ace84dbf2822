package cluster

import (
	"testing"

	"go.uber.org/goleak"
)

// The client makes a goroutine for each object that it stores, and when that is stored before the goroutine gets to run, as happens on a busy machine, it waits at a
// nil channel for ever (nats.go v1.55.0, jetstream/publish.go: the channel is read after cleanupReplySub has cleared it).
//
// A server that is stopped while it takes part in a stream of which it has just heard leaves the file of that open (nats-server v2.15.3, createRaftGroup: the
// store is not stopped when the server is shutting down by then). It has two goroutines, and those of a server that nobody has stopped are many more.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}
