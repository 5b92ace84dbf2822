// Package peers is what stands between a Pusher and the cluster that it is in: what it asks of the other nodes, and is
// told by them. Package cluster fills it in; the options of a program offer no such thing.
package peers

import (
	"context"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// Join puts a Pusher that is to be opened into a cluster, by its options, a *fanfare.Options. Package fanfare sets it.
var Join func(options any, c *Cluster)

// Clock gives a Pusher that is to be opened another clock than that of the machine, by its options, a *fanfare.Options: for tests. Package fanfare sets it.
var Clock func(options any, now func() time.Time)

// Cluster is the rest of a cluster, as one of its nodes sees it.
type Cluster struct {
	Log      store.Log       // in place of the journal
	Record   int             // bytes of a record of the log, at most
	Timeout  time.Duration   // how long a change waits for the log
	Opening  context.Context // ends how long it is waited for what is in the log already
	Presence Presence
	Leases   Leases
	// Opened gets the store when it is open, before anybody is told what has been applied.
	Opened func(*store.Store)
	// Close ends the connection to the others, behind everything else. It is called once, when the Pusher has closed its store.
	Close func(ctx context.Context) error
}

// Phones is the name of the lease of notifying the phones of a platform, of the users of all blocks.
func Phones(platform string) string { return "phones.0000-ffff." + platform }

// Background is the name of the lease of what the clock brings about: plans, expiry, and forgetting.
const Background = "background"

// Presence is who is connected to which node. Its methods are safe for concurrent use.
type Presence interface {
	// Start begins to tell the other nodes who is connected here, and to listen to them. Node is this node's proposer. Settle is called for users who connect
	// elsewhere: once everything that has been handed over for them here is in the log, it calls done with the position up to which it is; soon, and from
	// any goroutine. Each of the ordinals is below 1<<32.
	Start(node uint64, settle func(ordinals []uint32, done func(position uint64))) error
	// Joined and Left say that a user has the first session here, and none any more. They are called under a lock and must not block.
	Joined(ordinal uint32)
	Left(ordinal uint32)
	// Elsewhere says whether a user is connected to another node, as far as is known here.
	Elsewhere(ordinal uint32) bool
	// Others is how many users are connected to other nodes and not to this one, as far as is known here; it reads a counter.
	Others() int
	// Nodes are the proposers of the other nodes that are there, as far as is known here.
	Nodes() []uint64
	// Settle asks the other nodes to put what they have handed over for a user into the log, and returns the position up to which that is. A node that does not
	// answer is waited for until it counts as gone, or ctx ends.
	Settle(ctx context.Context, ordinal uint32) (position uint64, err error)
	// Close ends all of it, and says to the others that nobody is connected here.
	Close() error
}

// Leases are work that one node does at a time.
type Leases interface {
	// Hold waits until this node has the lease of a name, and then calls work, until ctx ends, again each time that it has got it. The context that work gets ends
	// when the lease is lost, or may be: before another node can have it. Work returns soon after. Hold returns when ctx has ended and work has returned, and
	// then another node can have the lease at once.
	Hold(ctx context.Context, name string, work func(ctx context.Context))
}
