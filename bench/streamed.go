package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// pushedHere is who the pushes of streamed are from, and no other figure's.
const pushedHere = "streamed"

// streamed is how much the log grows by a push to all, of whom a random tenth is connected, each to one of three nodes: the push, and who of them has it.
func (b *bench) streamed(ctx context.Context) error {
	var got atomic.Int64
	times := make(map[string]*atomic.Int32) // that each who is connected got the push; complete before the first one
	online := transport.OnlineFunc(func(_ context.Context, user string, m *transport.Message) error {
		if m.From == pushedHere { // other figures may have left what waits for who connects
			got.Add(1)
			times[user].Add(1)
		}
		return nil
	})
	return b.withThreeNodes(ctx, trioOptions{online: online}, func(t *trio) error {
		r := rand.New(rand.NewPCG(seed, 1))
		var connected [len(t.nodes)][]string
		n := int64(0)
		for i := range b.users {
			if r.IntN(10) == 0 {
				node := r.IntN(len(t.nodes))
				connected[node] = append(connected[node], b.who.id(i))
				times[b.who.id(i)] = new(atomic.Int32)
				n++
			}
		}
		err := callers(concurrent, func(caller int) error {
			for node, list := range connected {
				for i := caller; i < len(list); i += concurrent {
					if _, err := t.nodes[node].Connect(ctx, list[i]); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		push := func(to fanfare.Audience) (took time.Duration, bytes float64, err error) {
			if err := t.settle(ctx); err != nil {
				return 0, 0, err
			}
			before, err := t.log(ctx)
			if err != nil {
				return 0, 0, err
			}
			got.Store(0)
			for _, n := range times {
				n.Store(0)
			}
			began := time.Now()
			task, err := t.nodes[0].Push(ctx, fanfare.Message{From: pushedHere, Body: make([]byte, 300), To: to, Lifetime: week})
			if err != nil {
				return 0, 0, err
			}
			for {
				p, err := task.Progress()
				if err != nil {
					return 0, 0, err
				}
				if p.Delivered == n {
					break
				}
				if time.Since(began) > time.Minute {
					return 0, 0, fmt.Errorf("%d of %d have it after a minute", p.Delivered, n)
				}
				time.Sleep(time.Millisecond)
			}
			took = time.Since(began)
			after, err := t.log(ctx)
			if err != nil {
				return 0, 0, err
			}
			if got.Load() != n {
				for user, n := range times {
					if n.Load() != 1 {
						b.say("  %s has it %d times", user, n.Load())
					}
				}
				return 0, 0, fmt.Errorf("%d were delivered, and %d are connected", got.Load(), n)
			}
			return took, float64(after.State.Bytes - before.State.Bytes), t.nodes[0].Withdraw(ctx, task.ID)
		}
		var bytes, seconds []float64
		for range b.rounds + 1 { // in the first, sessions may still be catching up
			took, size, err := push(fanfare.All())
			if err != nil {
				return err
			}
			bytes, seconds = append(bytes, size), append(seconds, took.Seconds())
		}
		row := limit("cluster.bytes", "bytes/push", bytes[1:], 2e6, "≤ 2 MB")
		b.add(row.with("to all, of whom %d are connected, one third to each node; all have it after %s s", n, figure(median(seconds[1:]))))
		return nil
	})
}
