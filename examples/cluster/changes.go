package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// changes are small ones that are made through nodes that stay up, one after the other through each: how long they take, and whether some fail, is what
// callers see of the death of another node.
type changes struct {
	stop context.CancelFunc
	all  sync.WaitGroup

	mu   sync.Mutex
	made []made
}

type made struct {
	through      int
	began, ended time.Time
	err          error
}

// makeChanges begins to make changes through nodes.
func makeChanges(ctx context.Context, nodes *processes, users int, through ...int) *changes {
	c := new(changes)
	ctx, c.stop = context.WithCancel(ctx)
	for _, i := range through {
		c.all.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				p, err := nodes.at(i)
				if err == nil {
					_, err = p.do(ctx, request{Tag: userID(rand.IntN(users))})
				}
				if ctx.Err() != nil {
					return // what is under way says nothing
				}
				c.mu.Lock()
				c.made = append(c.made, made{i, began, time.Now(), err})
				c.mu.Unlock()
				select { // some 50 a second are enough to see it by
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
}

// outage is what the changes through a node show of a moment.
type outage struct {
	usual   time.Duration // median before
	made    int           // since
	longest time.Duration // that one took since
	failed  int
	err     error // of the last that failed
}

func (c *changes) around(moment time.Time, through int) (o outage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var before []time.Duration
	for _, m := range c.made {
		took := m.ended.Sub(m.began)
		switch {
		case m.through != through:
			continue
		case m.ended.Before(moment):
			before = append(before, took)
			continue
		case m.err != nil:
			o.failed, o.err = o.failed+1, m.err
		default:
			o.made++
		}
		o.longest = max(o.longest, took)
	}
	if slices.Sort(before); len(before) > 0 {
		o.usual = before[len(before)/2]
	}
	return o
}
