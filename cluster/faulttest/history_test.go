package faulttest

import (
	"fmt"
	"math"
	"time"
)

// history is everything that was asked of the nodes of a cluster, and everything that they delivered. Its times are by one clock.
type history struct {
	Ops        []op
	Deliveries []delivery
	Pauses     []pause
	Rests      []rest

	ClientAcks bool          // a delivery counts when it is acknowledged, not when it was made
	Calm       bool          // there was no fault
	Bound      time.Duration // the longest that a call may take
}

// never is the end of what has not ended.
const never = time.Duration(math.MaxInt64)

// op is one call.
type op struct {
	Kind    kind
	Node    int
	User    string
	Fact    string // that is set or unset; exists for the registering ones. Of a push: who gets it
	Key     string // of a push, which is its body too
	Message string // of an ack; of a push that was done, what it returned
	Again   bool   // a push that was done found the one of before
	Session int    // of a connect that was done
	Begin   time.Duration
	End     time.Duration
	Outcome outcome
	Err     string
}

// exists is the fact of being registered; a push to it is one to everybody.
const exists = "exists"

type kind string

const (
	set        kind = "set"
	unset      kind = "unset"
	push       kind = "push"
	ack        kind = "ack"
	connect    kind = "connect"
	disconnect kind = "disconnect"
)

type outcome string

const (
	done    outcome = "done"
	refused outcome = "refused" // and nothing was changed
	unknown outcome = "unknown" // it may have been made, or be made yet
	strange outcome = "strange" // an error that does not say which
	lost    outcome = "lost"    // the node died before it answered
)

// delivery is a Deliver that returned nil.
type delivery struct {
	Node    int
	Life    int // of the node's process: how many there were before
	User    string
	Session int // the user's last one at the node
	Message string
	Seq     uint64
	Key     string // the body
	Begin   time.Duration
	End     time.Duration
}

// pause is a time in which a node was stopped.
type pause struct {
	Node       int
	Begin, End time.Duration
}

// rest is what a node has when all is done.
type rest struct {
	Node    int
	State   string           // the same on all nodes
	Totals  map[string]int64 // message -> how many were in the audience
	Pending int              // how many messages users wait for, all together
}

// running is how much of a time a node was not stopped.
func (h *history) running(node int, begin, end time.Duration) time.Duration {
	d := end - begin
	for _, p := range h.Pauses {
		if p.Node == node {
			d -= max(0, min(end, p.End)-max(begin, p.Begin))
		}
	}
	return d
}

func (o op) String() string {
	s := fmt.Sprintf("%s at node %d from %v", o.Kind, o.Node, o.Begin)
	if o.End != never {
		s += fmt.Sprintf(" to %v", o.End)
	}
	for _, word := range []string{o.User, o.Fact, o.Key, o.Message, string(o.Outcome), o.Err} {
		if word != "" {
			s += " " + word
		}
	}
	return s
}

func (d delivery) String() string {
	return fmt.Sprintf("delivery of %s (%d, %s) to %s at node %d.%d, session %d, from %v to %v", d.Key, d.Seq, d.Message, d.User, d.Node, d.Life, d.Session, d.Begin, d.End)
}
