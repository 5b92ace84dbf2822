package cluster

import (
	"time"
	_ "unsafe" // for go:linkname
)

// How soon another server leads when one is gone that did not say so. Left alone, the others wait for 4 to 9 s, and cannot be told otherwise by an option: then the log has no leader for a median of some 6 s after its process was
// killed, measured with three processes on one machine. A leader may be silent for nearly two heartbeats when nothing happens, so that the shortest wait leaves room for another, and for a pause.
// They are of the whole process, and so of other servers that it embeds. What is agreed on does not depend on them, and they may differ between nodes.
const (
	leaderBeat   = 500 * time.Millisecond
	shortestWait = 2 * time.Second
	longestWait  = 4 * time.Second
)

//go:linkname hbInterval github.com/nats-io/nats-server/v2/server.hbInterval
var hbInterval time.Duration

//go:linkname minElectionTimeout github.com/nats-io/nats-server/v2/server.minElectionTimeout
var minElectionTimeout time.Duration

//go:linkname maxElectionTimeout github.com/nats-io/nats-server/v2/server.maxElectionTimeout
var maxElectionTimeout time.Duration

// untouched is what they were. In a server that does not have them any more they are variables of this package alone, and were zero.
var untouched [3]time.Duration

func init() {
	untouched = [...]time.Duration{hbInterval, minElectionTimeout, maxElectionTimeout}
	hbInterval, minElectionTimeout, maxElectionTimeout = leaderBeat, shortestWait, longestWait
}
