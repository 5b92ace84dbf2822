package cluster

import (
	"errors"
	"sync"
	"testing"
	"time"
)

// TestElections: the variables are the server's. When this fails after an update of it, look for what has become of them.
func TestElections(t *testing.T) {
	t.Parallel()
	if want := [...]time.Duration{time.Second, 4 * time.Second, 9 * time.Second, 10 * time.Second, 10 * time.Second}; untouched != want {
		t.Errorf("they were %v, want %v", untouched, want)
	}
}

// TestLeaderAlone has a leader lose both of the others, and give up long before it would if left alone.
func TestLeaderAlone(t *testing.T) {
	t.Parallel()
	nodes := testNodes(t, 3, nil)
	waitReady(t, nodes...)
	testStream(t, nodes[0], 3)
	var leader *testNode
	await(t, "a leader", func() error {
		for _, n := range nodes {
			if n.current.Load().JetStreamIsStreamLeader("$G", "S") {
				leader = n
				return nil
			}
		}
		return errors.New("there is none")
	})
	var others sync.WaitGroup
	for _, n := range nodes {
		if n != leader {
			others.Go(func() { n.stop(t) })
		}
	}
	others.Wait()
	alone := time.Now()
	await(t, "nobody to lead", func() error {
		if leader.current.Load().JetStreamIsStreamLeader("$G", "S") {
			return errors.New("it still does")
		}
		return nil
	})
	if took := time.Since(alone); took >= untouched[3] {
		t.Errorf("it gave up after %v, want %v and a moment; left alone it does so after %v or more", took, quorumLost, untouched[3])
	}
}
