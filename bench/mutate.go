package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-im/fanfare"
)

const concurrent = 256 // callers

// changes has many callers change random users' cities for a while. It returns how many changes were made.
func (b *bench) changes(round int, d time.Duration, change func(id, city string) error) (int, error) {
	var n atomic.Int64
	began := time.Now()
	err := callers(concurrent, func(caller int) error {
		who := b.who.clone()
		r := rand.New(rand.NewPCG(uint64(round)+77, uint64(caller)))
		for time.Since(began) < d {
			if err := change(who.id(r.IntN(b.users)), who.towns.Draw(r)); err != nil {
				return err
			}
			n.Add(1)
		}
		return nil
	})
	return int(n.Load()), err
}

// mutate is many callers who each change one attribute of one user at a time, durable before the call returns.
func (b *bench) mutate(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	if err := b.bolt.index(b.who, b.users); err != nil {
		return err
	}
	b.bolt.serve()
	d := 60 * time.Second / time.Duration(b.rounds) // a minute in all
	if b.quick {
		d = time.Second
	}
	var calm, folding []time.Duration // of ours, sorted at the end
	// A fold comes every few rounds, and a median would leave it out: so what counts is all rounds together.
	var changed [3]int
	var spent [3]time.Duration
	cost := func(i, n int, d time.Duration) float64 {
		changed[i], spent[i] = changed[i]+n, spent[i]+d
		return float64(d.Nanoseconds()) / 1e3 / float64(n)
	}
	list := []contender{
		func(ctx context.Context, round int) (float64, error) {
			began := time.Now()
			var isFolding atomic.Bool
			watch := b.watchFolds(&isFolding)
			var mu sync.Mutex
			n, err := b.changes(round, d, func(id, city string) error {
				at, before := time.Now(), isFolding.Load()
				err := b.p.SetAttributes(ctx, id, map[string]string{"city": city})
				took := time.Since(at)
				mu.Lock()
				if before || isFolding.Load() {
					folding = append(folding, took)
				} else {
					calm = append(calm, took)
				}
				mu.Unlock()
				return err
			})
			watch()
			if err != nil {
				return 0, err
			}
			if err := folded(ctx, b.p); err != nil { // what is being folded is part of the cost
				return 0, err
			}
			return cost(0, n, time.Since(began)), nil
		},
		func(_ context.Context, round int) (float64, error) {
			began := time.Now()
			n, err := b.changes(round, d, b.bolt.set)
			return cost(1, n, time.Since(began)), err
		},
		nil,
	}
	if b.pg != nil {
		list[2] = func(ctx context.Context, round int) (float64, error) {
			began := time.Now()
			n, err := b.changes(round, d, func(id, city string) error {
				return b.pg.exec(ctx, `update users set city = $2 where id = $1`, id, city)
			})
			return cost(2, n, time.Since(began)), err
		}
	}
	if _, err := rounds(ctx, b.rounds, false, list...); err != nil {
		return err
	}
	all := func(i int) []float64 {
		return []float64{float64(spent[i].Nanoseconds()) / 1e3 / float64(max(changed[i], 1))}
	}
	r := compare("mutate", "bbolt in place", "µs/change", all(0), all(1), atLeast(7))
	b.add(r.with("all of %d changes in %.0f s, folds included", changed[0], spent[0].Seconds()))
	b.againstPG("mutate", "µs/change", all(0), all(2), atLeast(15))
	slices.Sort(calm)
	slices.Sort(folding)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	if len(folding) > 0 {
		r := compare("mutate.latency", "p50, folding", "ms", []float64{ms(quantile(folding, 0.99))}, []float64{ms(quantile(folding, 0.5))}, atMost(10))
		b.add(r.with("p99 and p50 while folding, max %.0f; otherwise p50 %.1f, p99 %.1f, max %.0f",
			ms(quantile(folding, 1)), ms(quantile(calm, 0.5)), ms(quantile(calm, 0.99)), ms(quantile(calm, 1))))
	} else {
		b.add(absent("mutate.latency", "p50, folding", "no fold fell into the run: there were too few users or changes"))
	}
	return b.stall(ctx, d)
}

// watchFolds keeps is up to date until the result is called.
func (b *bench) watchFolds(is *atomic.Bool) (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if s, err := b.p.Stats(context.Background()); err == nil {
					is.Store(s.Folding)
				}
			}
		}
	}()
	return func() { close(stop); <-done }
}

// stallWindow is how long after a push's call the changes are counted, and then again those of as much time without one.
const stallWindow = 50 * time.Millisecond

// stall is for how long a push to everyone keeps changes from being made, against the time that its audience
// alone takes: as many changes as are missing behind each push, compared with the time after it.
func (b *bench) stall(ctx context.Context, d time.Duration) error {
	var counts []float64
	for range 20 {
		began := time.Now()
		if _, err := b.p.Count(ctx, fanfare.All()); err != nil {
			return err
		}
		counts = append(counts, time.Since(began).Seconds()*1e3)
	}
	var (
		pushes []time.Time
		tasks  []string
		mu     sync.Mutex
		made   []time.Time
	)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(2*stallWindow + 10*time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				done <- nil
				return
			case <-tick.C:
			}
			pushes = append(pushes, time.Now())
			task, err := b.p.Push(ctx, fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: week})
			if err != nil {
				done <- err
				return
			}
			tasks = append(tasks, task.ID)
		}
	}()
	_, err := b.changes(1000, d, func(id, city string) error {
		err := b.p.SetAttributes(ctx, id, map[string]string{"city": city})
		mu.Lock()
		made = append(made, time.Now())
		mu.Unlock()
		return err
	})
	close(stop)
	if e := <-done; err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	slices.SortFunc(made, time.Time.Compare)
	before := func(at time.Time) int {
		n, _ := slices.BinarySearchFunc(made, at, time.Time.Compare)
		return n
	}
	var lost []float64
	for i, at := range pushes {
		end := at.Add(2 * stallWindow)
		if end.After(made[len(made)-1]) || i+1 < len(pushes) && pushes[i+1].Before(end) {
			continue
		}
		middle := before(at.Add(stallWindow))
		with, without := middle-before(at), before(end)-middle
		lost = append(lost, stallWindow.Seconds()*1e3*(1-float64(with)/float64(max(without, 1))))
	}
	for _, id := range tasks {
		if err := b.p.Withdraw(ctx, id); err != nil {
			return err
		}
	}
	if len(lost) == 0 { // in a short run
		lost = []float64{0}
	}
	r := compare("mutate.stall", "the audience", "ms", []float64{max(median(lost), 0)}, []float64{median(counts)}, noTarget)
	b.add(r.with("for how long a push to all keeps others from changes; %d pushes", len(lost)))
	return nil
}
