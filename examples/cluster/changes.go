package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// changes are small changes that are made one after the other through nodes that stay up: how long one of them takes, and whether one fails, is what
// callers see of the death of another node.
type changes struct {
	mu   sync.Mutex
	made []made
	over time.Time
	stop context.CancelFunc
	all  sync.WaitGroup
}

type made struct {
	began, ended time.Time
	err          error
}

// makeChanges begins to make changes through nodes, one after the other in each.
func makeChanges(ctx context.Context, nodes *processes, users int, through ...int) *changes {
	c := new(changes)
	ctx, c.stop = context.WithCancel(ctx)
	for _, i := range through {
		c.all.Go(func() {
			for ctx.Err() == nil {
				m := made{began: time.Now()}
				p, err := nodes.at(i)
				if err == nil {
					_, err = p.do(ctx, request{Tag: userID(rand.IntN(users))})
				}
				if ctx.Err() != nil {
					return // what is under way says nothing
				}
				m.ended, m.err = time.Now(), err
				c.mu.Lock()
				c.made = append(c.made, m)
				c.mu.Unlock()
				select { // 50 a second are enough to see it by
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	return c
}

// end makes no more.
func (c *changes) end() {
	c.stop()
	c.all.Wait()
	c.over = time.Now()
}

// outage is what changes show of a moment.
type outage struct {
	usual   time.Duration // median before
	made    int           // since
	longest time.Duration // that one took
	failed  int
	err     error         // of one that failed
	gap     time.Duration // the longest time in which none was made
}

// around is to be called after end.
func (c *changes) around(moment time.Time) (o outage) {
	slices.SortFunc(c.made, func(a, b made) int { return a.ended.Compare(b.ended) })
	var before []time.Duration
	last := moment
	for _, m := range c.made {
		took := m.ended.Sub(m.began)
		if m.ended.Before(moment) {
			before = append(before, took)
			continue
		}
		o.longest = max(o.longest, took)
		if m.err != nil {
			o.failed, o.err = o.failed+1, m.err
			continue
		}
		o.made++
		o.gap = max(o.gap, m.ended.Sub(last))
		last = m.ended
	}
	o.gap = max(o.gap, c.over.Sub(last))
	if slices.Sort(before); len(before) > 0 {
		o.usual = before[len(before)/2]
	}
	return o
}
