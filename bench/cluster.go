package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-im/fanfare"
)

// cluster is what changes and pushes cost with three nodes on this machine, against one process and against the bare stream; and what it is that servers sync the log each time.
func (b *bench) cluster(ctx context.Context) error {
	var plain []float64
	err := b.withThreeNodes(ctx, trioOptions{}, func(t *trio) (err error) {
		if plain, err = b.clusterMutate(ctx, t); err != nil {
			return err
		}
		return b.clusterAccept(ctx, t, "")
	})
	if err != nil {
		return err
	}
	return b.withThreeNodes(ctx, trioOptions{syncAlways: true}, func(t *trio) error {
		synced, total := b.clusterChanges(b.changeTime(), t, t.nodes[:]...)
		if _, err := rounds(ctx, b.rounds, false, synced); err != nil {
			return err
		}
		r := compare("cluster.mutate.sync", "without syncs", "µs/change", total(), plain, noTarget)
		b.add(r.with("%s; callers at all three nodes, SyncAlways", perSecond(total())))
		return b.clusterAccept(ctx, t, ".sync")
	})
}

// clusterChanges is a contender of changes that go to nodes by turns. All that they cause is part of the cost: that each node has applied them, and folded what is to be folded.
func (b *bench) clusterChanges(d time.Duration, t *trio, nodes ...*fanfare.Pusher) (c contender, total func() []float64) {
	var changed int
	var spent time.Duration
	c = func(ctx context.Context, round int) (float64, error) {
		began := time.Now()
		n, err := b.changes(round, d, func(id, city string) error {
			return nodes[int(id[0])%len(nodes)].SetAttributes(ctx, id, map[string]string{"city": city})
		})
		if err != nil {
			return 0, err
		}
		if t != nil {
			err = t.settle(ctx)
		} else {
			err = folded(ctx, nodes[0])
		}
		changed, spent = changed+n, spent+time.Since(began)
		return perUser(time.Since(began), n), err
	}
	return c, func() []float64 { return []float64{perUser(spent, max(changed, 1))} }
}

func perSecond(total []float64) string {
	return fmt.Sprintf("%.0f changes a second, folds included", 1e6/total[0])
}

func (b *bench) changeTime() time.Duration {
	if b.quick {
		return time.Second
	}
	return 60 * time.Second / time.Duration(b.rounds) // a minute in all
}

// clusterMutate is many callers who each change one attribute of one user at a time, at one node of three and at all of them. It returns what a change costs with callers at all.
func (b *bench) clusterMutate(ctx context.Context, t *trio) ([]float64, error) {
	if err := b.reopen(fanfare.Options{}); err != nil {
		return nil, err
	}
	d := b.changeTime()
	alone, aloneAll := b.clusterChanges(d, nil, b.p)
	one, oneAll := b.clusterChanges(d, t, t.nodes[0])
	three, threeAll := b.clusterChanges(d, t, t.nodes[:]...)
	if _, err := rounds(ctx, b.rounds, false, alone, one, three); err != nil {
		return nil, err
	}
	b.add(compare("cluster.mutate.one", "one process", "µs/change", oneAll(), aloneAll(), atLeast(0.4)).with("%s; all callers at one node", perSecond(oneAll())))
	b.add(compare("cluster.mutate.all", "one process", "µs/change", threeAll(), aloneAll(), atLeast(0.4)).with("%s; callers at all three nodes", perSecond(threeAll())))
	return threeAll(), b.close()
}

// clusterAccept is how long one Push takes, and nothing else is done, against the publication of a message of the same size to a stream of the same settings on the same servers.
func (b *bench) clusterAccept(ctx context.Context, t *trio, suffix string) error {
	info, err := t.log(ctx)
	if err != nil {
		return err
	}
	config := info.Config
	config.Name, config.Subjects, config.Metadata = "raw", []string{"raw"}, nil
	_, err = t.js[0].CreateOrUpdateStream(ctx, config)
	if err != nil {
		return err
	}
	stream, err := t.js[0].Stream(ctx, logStream)
	if err != nil {
		return err
	}
	const times, turns = 10, 4 // calls at each node in a round, and how many times the rounds are more: on a busy machine it takes many to get the same load for both
	body := make([]byte, 300)
	for _, q := range []struct {
		name string
		to   fanfare.Audience
	}{{"cluster.accept.one", fanfare.Users(b.who.id(0))}, {"cluster.accept.all", fanfare.All()}} {
		var tasks []string
		published := 0
		each := func(f func(i int) error) (float64, error) {
			var took []time.Duration
			for range times {
				for i := range t.nodes {
					began := time.Now()
					if err := f(i); err != nil {
						return 0, err
					}
					took = append(took, time.Since(began))
				}
			}
			slices.Sort(took)
			return quantile(took, 0.5).Seconds() * 1e3, nil
		}
		push := func(i int) error {
			task, err := t.nodes[i].Push(ctx, fanfare.Message{From: "bench", Body: body, To: q.to, Lifetime: week})
			if err == nil {
				tasks = append(tasks, task.ID)
			}
			return err
		}
		if err := push(0); err != nil {
			return err
		}
		if info, err = t.log(ctx); err != nil {
			return err
		}
		last, err := stream.GetMsg(ctx, info.State.LastSeq)
		for errors.Is(err, jetstream.ErrMsgNotFound) && ctx.Err() == nil { // the replica that was asked does not have it yet
			last, err = stream.GetMsg(ctx, info.State.LastSeq)
		}
		if err != nil {
			return err
		}
		record := last.Data
		costs, err := rounds(ctx, turns*b.rounds, true,
			func(context.Context, int) (float64, error) {
				cost, err := each(push)
				return cost, errors.Join(err, t.settle(ctx))
			},
			func(context.Context, int) (float64, error) {
				return each(func(i int) error {
					published++
					_, err := t.js[i].PublishMsg(ctx, &nats.Msg{Subject: "raw", Data: record}, jetstream.WithMsgID(q.name+suffix+strconv.Itoa(published)))
					return err
				})
			})
		if err != nil {
			return err
		}
		b.add(compare(q.name+suffix, "a raw publish", "ms", costs[0], costs[1], atMost(3)).with("p50 of one caller; a record of %d bytes", len(record)))
		for _, id := range tasks {
			if err := t.nodes[0].Withdraw(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}
