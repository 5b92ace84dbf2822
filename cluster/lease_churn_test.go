//go:build !race

package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Not with the race detector, with which Go 1.26 crashes in bubbles of this size (go.dev/issue/78156); the other tests of leases are.

// Nodes come and go, with lines that are slow, cut, mute and deaf: never do two hold the lease, and somebody gets it as long as somebody can.
func TestLeaseChurn(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			n := func(below int) int {
				mu.Lock()
				defer mu.Unlock()
				return r.IntN(below)
			}
			b, h := newBucket(), newHolders(t)
			var all sync.WaitGroup
			ctx, stop := context.WithCancel(t.Context())
			for i := range 5 {
				node := fmt.Sprint("n", i)
				kv := &line{KeyValue: b, delay: func() time.Duration { return time.Duration(n(1500)) * time.Millisecond * time.Duration(n(2)) }}
				all.Go(func() {
					for ctx.Err() == nil {
						kv.cut.Store(n(4) == 0)
						kv.mute.Store(n(4) == 0)
						kv.deaf.Store(n(4) == 0)
						c, cancel := context.WithTimeout(ctx, time.Duration(n(20))*time.Second)
						newLeases(kv, node, testTTL, silent()).Hold(c, "x", h.work(node, func(ctx context.Context) {
							c, cancel := context.WithTimeout(ctx, time.Duration(n(10))*time.Second)
							defer cancel()
							<-c.Done()
						}))
						cancel()
						pause(ctx, time.Duration(n(3000))*time.Millisecond)
					}
				})
			}
			time.Sleep(20 * time.Minute)
			stop()
			all.Wait()
			if len(h.came) < 50 {
				t.Errorf("seed %d: the lease was had %d times", seed, len(h.came))
			}
		})
	}
}
