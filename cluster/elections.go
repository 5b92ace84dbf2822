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

// How soon a leader gives up that hears nothing from a majority any more, and how often it looks. Left alone, that is after 10 to 20 s: ten of its heartbeats, which are longer. Until then it adds to its part of the log what is sent to it, by the other nodes too once
// they can reach it again and before it has heard of its successor; then it takes this back one record at a time, with a pause of up to 2 s after each, and as long as that lasts no other node may be lost. Ten heartbeats are twice as long as a follower is
// silent that catches up and gets nowhere.
const (
	quorumLost = 10 * leaderBeat
	quorumLook = leaderBeat
)

//go:linkname hbInterval github.com/nats-io/nats-server/v2/server.hbInterval
var hbInterval time.Duration

//go:linkname minElectionTimeout github.com/nats-io/nats-server/v2/server.minElectionTimeout
var minElectionTimeout time.Duration

//go:linkname maxElectionTimeout github.com/nats-io/nats-server/v2/server.maxElectionTimeout
var maxElectionTimeout time.Duration

//go:linkname lostQuorumInterval github.com/nats-io/nats-server/v2/server.lostQuorumInterval
var lostQuorumInterval time.Duration

//go:linkname lostQuorumCheck github.com/nats-io/nats-server/v2/server.lostQuorumCheck
var lostQuorumCheck time.Duration

// untouched is what they were. In a server that does not have them any more they are variables of this package alone, and were zero.
var untouched [5]time.Duration

func init() {
	untouched = [...]time.Duration{hbInterval, minElectionTimeout, maxElectionTimeout, lostQuorumInterval, lostQuorumCheck}
	hbInterval, minElectionTimeout, maxElectionTimeout = leaderBeat, shortestWait, longestWait
	lostQuorumInterval, lostQuorumCheck = quorumLost, quorumLook
}
