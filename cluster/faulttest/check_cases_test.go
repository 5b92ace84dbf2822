package faulttest

import (
	"strings"
	"testing"
	"time"
)

// TestCheck has a history in which all is well, and what is found when one thing in it is otherwise.
func TestCheck(t *testing.T) {
	t.Parallel()
	at := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	// Two users, of whom one is red. The first push is to the red, and is tried again; the second to all.
	well := func() *history {
		h := &history{Bound: 5 * time.Second}
		h.Ops = []op{
			{Kind: set, User: "ann", Fact: exists, Begin: at(1), End: at(1.1), Outcome: done},
			{Kind: set, User: "bob", Fact: exists, Begin: at(1), End: at(1.1), Outcome: done},
			{Kind: set, User: "ann", Fact: "red", Begin: at(2), End: at(2.1), Outcome: done},
			{Kind: connect, Node: 0, User: "ann", Session: 1, Begin: at(3), End: at(3.1), Outcome: done},
			{Kind: connect, Node: 1, User: "bob", Session: 2, Begin: at(3), End: at(3.1), Outcome: done},
			{Kind: push, Node: 2, Fact: "red", Key: "one", Begin: at(4), End: at(5), Outcome: unknown},
			{Kind: push, Node: 1, Fact: "red", Key: "one", Message: "m1", Again: true, Begin: at(6), End: at(6.1), Outcome: done},
			{Kind: push, Node: 2, Fact: exists, Key: "two", Message: "m2", Begin: at(7), End: at(7.1), Outcome: done},
			{Kind: push, Node: 2, Fact: exists, Key: "none", Begin: at(7), End: at(9), Outcome: refused},
			{Kind: ack, Node: 0, User: "ann", Message: "m1", Begin: at(8), End: at(8.1), Outcome: done},
			{Kind: push, Node: 1, Fact: "blue", Key: "three", Message: "m3", Begin: at(9), End: at(9.1), Outcome: done},
		}
		h.Deliveries = []delivery{
			{Node: 0, User: "ann", Session: 1, Message: "m1", Seq: 1, Key: "one", Begin: at(4.5), End: at(4.6)},
			{Node: 0, User: "ann", Session: 1, Message: "m2", Seq: 2, Key: "two", Begin: at(7.2), End: at(7.3)},
			{Node: 1, User: "bob", Session: 2, Message: "m2", Seq: 2, Key: "two", Begin: at(7.2), End: at(7.3)},
		}
		totals := map[string]int64{"m1": 1, "m2": 2, "m3": 0}
		for i := range nodes {
			h.Rests = append(h.Rests, rest{Node: i, State: "all", Totals: totals})
		}
		return h
	}
	ann1, ann2, bob2 := 0, 1, 2 // the deliveries
	for _, test := range []struct {
		name   string
		change func(h *history)
		found  string // of what is wrong; nothing if it is right
	}{
		{"all is well", func(*history) {}, ""},
		{"not delivered", func(h *history) { h.Deliveries = h.Deliveries[:bob2] }, "bob never got two"},
		{"nobody got it", func(h *history) { h.Deliveries = h.Deliveries[ann2:] }, "ann never got one"},
		{"unknown to the end, and not delivered", func(h *history) {
			h.Ops = append(h.Ops, op{Kind: push, Fact: exists, Key: "four", Begin: at(10), End: at(11), Outcome: unknown})
		}, ""},
		{"unknown to the end, and delivered", func(h *history) {
			h.Ops = append(h.Ops, op{Kind: push, Fact: exists, Key: "four", Begin: at(10), End: at(11), Outcome: unknown})
			h.Deliveries = append(h.Deliveries, delivery{Node: 1, User: "bob", Session: 2, Message: "m4", Seq: 4, Key: "four", Begin: at(20)})
		}, ""},
		{"the node died, and not delivered", func(h *history) {
			h.Ops = append(h.Ops, op{Kind: push, Fact: exists, Key: "four", Begin: at(10), End: never, Outcome: lost})
		}, ""},
		{"refused, and delivered", func(h *history) {
			h.Deliveries = append(h.Deliveries, delivery{Node: 1, User: "bob", Session: 2, Message: "m9", Seq: 9, Key: "none", Begin: at(9)})
		}, "its push was refused"},
		{"outside the audience", func(h *history) {
			h.Deliveries = append(h.Deliveries, delivery{Node: 1, User: "bob", Session: 3, Message: "m1", Seq: 1, Key: "one", Begin: at(9)})
		}, "bob was not in the audience, red"},
		{"left the audience before", func(h *history) {
			h.Ops = append(h.Ops, op{Kind: unset, User: "ann", Fact: "red", Begin: at(3), End: at(3.5), Outcome: done})
		}, "ann was not in the audience, red"},
		{"left the audience after", func(h *history) {
			h.Ops = append(h.Ops, op{Kind: unset, User: "ann", Fact: "red", Begin: at(6.5), End: at(6.6), Outcome: done})
		}, ""},
		{"left the audience meanwhile, and delivered", func(h *history) {
			h.Ops = append(h.Ops, op{Kind: unset, User: "ann", Fact: "red", Begin: at(3.9), End: at(4.1), Outcome: done})
		}, ""},
		{"perhaps left the audience before, and not delivered", func(h *history) {
			h.Ops = append(h.Ops, op{Kind: unset, User: "ann", Fact: "red", Begin: at(3), End: at(3.5), Outcome: unknown})
			h.Deliveries = h.Deliveries[ann2:]
			for i := range h.Rests {
				h.Rests[i].Totals = map[string]int64{"m1": 0, "m2": 2, "m3": 0}
			}
		}, ""},
		{"a refused leaving", func(h *history) {
			h.Ops = append(h.Ops, op{Kind: unset, User: "ann", Fact: "red", Begin: at(3), End: at(3.5), Outcome: refused})
			h.Deliveries = h.Deliveries[ann2:]
		}, "ann never got one"},
		{"left the audience, came back, and not delivered", func(h *history) {
			h.Ops = append(h.Ops,
				op{Kind: unset, User: "ann", Fact: "red", Begin: at(3), End: at(3.1), Outcome: done},
				op{Kind: set, User: "ann", Fact: "red", Begin: at(3.2), End: at(3.3), Outcome: done})
			h.Deliveries = h.Deliveries[ann2:]
		}, "ann never got one"},
		{"registered by connecting, and not delivered", func(h *history) {
			h.Ops = append(h.Ops, op{Kind: connect, Node: 1, User: "cid", Session: 3, Begin: at(6), End: at(6.9), Outcome: done})
		}, "cid never got two"},
		{"another task for the same key", func(h *history) {
			h.Ops = append(h.Ops, op{Kind: push, Fact: "red", Key: "one", Message: "m7", Begin: at(9), End: at(9.1), Outcome: done})
		}, "a key has two tasks"},
		{"another message for the same key", func(h *history) { h.Deliveries[ann2].Message = "m7" }, "a key has two tasks"},
		{"another number of the same message", func(h *history) { h.Deliveries[bob2].Seq = 3 }, "two sequence numbers"},
		{"what nobody pushed", func(h *history) { h.Deliveries[ann2].Key = "else" }, "nobody pushed it"},
		{"to nobody known", func(h *history) { h.Deliveries[ann2].User = "zoe" }, "nobody knows this user"},
		{"overtaken", func(h *history) {
			h.Deliveries[ann1].Begin, h.Deliveries[ann1].End = at(7.4), at(7.5)
		}, "2 was there before"},
		{"overtaken, on another connection", func(h *history) {
			h.Deliveries[ann1].Begin, h.Deliveries[ann1].End, h.Deliveries[ann1].Node = at(7.4), at(7.5), 2
		}, ""},
		{"numbers against the order of the calls", func(h *history) {
			h.Deliveries[ann1].Seq, h.Deliveries[ann2].Seq, h.Deliveries[bob2].Seq = 2, 1, 1
		}, "which was acknowledged before it was pushed"},
		{"again after its ack, at the same node", func(h *history) {
			h.ClientAcks = true
			h.Deliveries = append(h.Deliveries, delivery{Node: 0, User: "ann", Session: 1, Message: "m1", Seq: 1, Key: "one", Begin: at(8.7)})
		}, "acknowledged before"},
		{"again just after its ack", func(h *history) {
			h.ClientAcks = true
			h.Deliveries = append(h.Deliveries, delivery{Node: 0, User: "ann", Session: 1, Message: "m1", Seq: 1, Key: "one", Begin: at(8.4)})
		}, ""},
		{"again just after its ack, but for a pause", func(h *history) {
			h.ClientAcks = true
			h.Pauses = append(h.Pauses, pause{Node: 0, Begin: at(8.2), End: at(18)})
			h.Deliveries = append(h.Deliveries, delivery{Node: 0, User: "ann", Session: 1, Message: "m1", Seq: 1, Key: "one", Begin: at(18.1)})
		}, ""},
		{"again after its ack, at a node that cannot know", func(h *history) {
			h.ClientAcks = true
			h.Deliveries = append(h.Deliveries, delivery{Node: 2, User: "ann", Session: 3, Message: "m1", Seq: 1, Key: "one", Begin: at(30)})
		}, ""},
		{"again after its ack, at a node that knows", func(h *history) {
			h.ClientAcks = true
			h.Deliveries = append(h.Deliveries, delivery{Node: 1, User: "ann", Session: 3, Message: "m1", Seq: 1, Key: "one", Begin: at(9.7)})
		}, "acknowledged before"},
		{"again without an ack", func(h *history) {
			h.ClientAcks = true
			h.Deliveries = append(h.Deliveries, delivery{Node: 1, User: "bob", Session: 2, Message: "m2", Seq: 2, Key: "two", Begin: at(30)})
		}, ""},
		{"twice from one process", func(h *history) {
			h.Deliveries = append(h.Deliveries, delivery{Node: 1, User: "bob", Session: 4, Message: "m2", Seq: 2, Key: "two", Begin: at(30)})
		}, "by the same process"},
		{"again from the next process", func(h *history) {
			h.Deliveries = append(h.Deliveries, delivery{Node: 1, Life: 1, User: "bob", Session: 4, Message: "m2", Seq: 2, Key: "two", Begin: at(30)})
		}, ""},
		{"again at another node, under a fault", func(h *history) {
			h.Ops = append(h.Ops, op{Kind: connect, Node: 2, User: "bob", Session: 4, Begin: at(29), End: at(29.1), Outcome: done})
			h.Deliveries = append(h.Deliveries, delivery{Node: 2, User: "bob", Session: 4, Message: "m2", Seq: 2, Key: "two", Begin: at(30)})
		}, ""},
		{"again at another node, without a fault", func(h *history) {
			h.Calm = true
			h.Ops = append(h.Ops, op{Kind: connect, Node: 2, User: "bob", Session: 4, Begin: at(29), End: at(29.1), Outcome: done})
			h.Deliveries = append(h.Deliveries, delivery{Node: 2, User: "bob", Session: 4, Message: "m2", Seq: 2, Key: "two", Begin: at(30)})
		}, "before the user came to this node"},
		{"on two connections at a time", func(h *history) {
			h.Calm = true
			h.Ops = append(h.Ops, op{Kind: connect, Node: 2, User: "bob", Session: 4, Begin: at(3), End: at(3.1), Outcome: done})
			h.Deliveries = append(h.Deliveries, delivery{Node: 2, User: "bob", Session: 4, Message: "m2", Seq: 2, Key: "two", Begin: at(7.4)})
		}, ""},
		{"an answer too late", func(h *history) { h.Ops[8].End = at(13) }, "answered after more than 5s"},
		{"an answer late for a pause", func(h *history) {
			h.Ops[8].End = at(13)
			h.Pauses = append(h.Pauses, pause{Node: 2, Begin: at(8), End: at(11)})
		}, ""},
		{"an answer late, and another node paused", func(h *history) {
			h.Ops[8].End = at(13)
			h.Pauses = append(h.Pauses, pause{Node: 1, Begin: at(8), End: at(11)})
		}, "answered after more than 5s"},
		{"an error that says nothing", func(h *history) { h.Ops[8].Outcome = strange }, "none of a cluster's"},
		{"nodes that differ", func(h *history) { h.Rests[1].State = "some" }, "nodes 0 and 1 differ"},
		{"a node with another audience", func(h *history) { h.Rests[2].Totals = map[string]int64{"m1": 2, "m2": 2, "m3": 0} }, "node 2 has 2 users in the audience of one"},
		{"a node without a push", func(h *history) { h.Rests[2].Totals = map[string]int64{"m1": 1, "m3": 0} }, "node 2 does not have two"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := well()
			test.change(h)
			wrong := strings.Join(h.check(), "\n")
			if test.found == "" && wrong != "" || !strings.Contains(wrong, test.found) {
				t.Errorf("found %q, not %q", wrong, test.found)
			}
		})
	}
}
