package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// contender is one way to do a piece of work. It returns the cost of a round, in the unit of the figure.
type contender func(ctx context.Context, round int) (float64, error)

// timed makes a contender of work whose cost is its time.
func timed(work func(ctx context.Context) error) contender {
	return func(ctx context.Context, _ int) (float64, error) {
		began := time.Now()
		err := work(ctx)
		return time.Since(began).Seconds(), err
	}
}

// rounds lets contenders take turns: one round each to warm up, which does not count, and then n that
// do, each round in another order. It returns the costs by contender; a nil contender has none.
func rounds(ctx context.Context, n int, warm bool, list ...contender) ([][]float64, error) {
	costs := make([][]float64, len(list))
	first := 0
	if warm {
		first = -1
	}
	for round := first; round < n; round++ {
		for k := range list {
			i := (k + max(round, 0)) % len(list)
			if list[i] == nil {
				continue
			}
			cost, err := list[i](ctx, round)
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				costs[i] = append(costs[i], cost)
			}
		}
	}
	return costs, nil
}

func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(x))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// quantile of sorted durations.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// callers calls f from n goroutines, each with its number, and returns the first error.
func callers(n int, f func(caller int) error) error {
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	for i := range n {
		wg.Go(func() {
			if err := f(i); err != nil {
				once.Do(func() { first = err })
			}
		})
	}
	wg.Wait()
	return first
}
