package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/fanfare-im/fanfare"
)

// parts is in how many parts the users are brought in; between them the contenders take turns.
const parts = 10

// bitmaps are the users' facts as roaring bitmaps in memory.
type bitmaps struct {
	tiers, cities map[string]*roaring.Bitmap
	tags          []*roaring.Bitmap
	all           *roaring.Bitmap
}

func newBitmaps() *bitmaps {
	m := &bitmaps{tiers: make(map[string]*roaring.Bitmap), cities: make(map[string]*roaring.Bitmap), tags: make([]*roaring.Bitmap, tagCount), all: roaring.New()}
	for i := range m.tags {
		m.tags[i] = roaring.New()
	}
	return m
}

func (m *bitmaps) add(i int, u *person) {
	of := func(in map[string]*roaring.Bitmap, name string) *roaring.Bitmap {
		b := in[name]
		if b == nil {
			b = roaring.New()
			in[name] = b
		}
		return b
	}
	of(m.tiers, u.tier).Add(uint32(i))
	of(m.cities, u.city).Add(uint32(i))
	for _, t := range u.tags {
		m.tags[t].Add(uint32(i))
	}
	m.all.Add(uint32(i))
}

func (m *bitmaps) optimize() {
	for _, in := range []map[string]*roaring.Bitmap{m.tiers, m.cities} {
		for _, b := range in {
			b.RunOptimize()
		}
	}
	for _, b := range m.tags {
		b.RunOptimize()
	}
	m.all.RunOptimize()
}

// stage brings the users into each contender that a wanted figure needs, in turns, and
// returns what each part took, in microseconds a user; nil for those that are not there.
func (b *bench) stage(ctx context.Context) (ours, theirPG, theirBolt []float64, err error) {
	if b.staged {
		return nil, nil, nil, nil
	}
	b.staged = true
	if err := b.reopen(fanfare.Options{}); err != nil {
		return nil, nil, nil, err
	}
	if err := b.p.SetAttributeNames(ctx, names); err != nil {
		return nil, nil, nil, err
	}
	var list [3]contender // by their place
	list[0] = func(ctx context.Context, part int) (float64, error) {
		began := time.Now()
		from, to := b.part(part)
		if _, err := b.p.Import(ctx, b.who.users(from, to), nil); err != nil {
			return 0, err
		}
		if part == parts-1 {
			// Everything is folded; reopening is instant.
			if err := b.reopen(fanfare.Options{}); err != nil {
				return 0, err
			}
		}
		err := folded(ctx, b.p)
		return perUser(time.Since(began), to-from), err
	}
	var load *pgLoad
	if b.wantsAny("import", "disk", "audience", "members", "retained", "mutate", "login", "added") && b.startPostgres(ctx) {
		if load, err = b.pg.load(ctx); err != nil {
			return nil, nil, nil, err
		}
		list[1] = func(ctx context.Context, part int) (float64, error) {
			began := time.Now()
			from, to := b.part(part)
			if err := load.copy(ctx, b.who, from, to); err != nil {
				return 0, err
			}
			if part == parts-1 {
				if err := load.finish(ctx); err != nil {
					return 0, err
				}
			}
			return perUser(time.Since(began), to-from), nil
		}
	}
	if b.wantsAny("import", "mutate") {
		order, err := b.sorted(ctx)
		if err != nil {
			return nil, nil, nil, err
		}
		if b.bolt, err = openBolt(filepath.Join(b.dir, "bolt.db")); err != nil {
			return nil, nil, nil, err
		}
		b.atEnd(b.bolt.close)
		list[2] = func(_ context.Context, part int) (float64, error) {
			began := time.Now()
			from, to := b.part(part)
			err := b.bolt.load(b.who, order[from:to])
			return perUser(time.Since(began), to-from), err
		}
	}
	costs, err := rounds(ctx, parts, false, list[:]...)
	if err != nil {
		return nil, nil, nil, err
	}
	if b.pg != nil { // not timed: so that counts need not visit the table
		if err := b.pg.exec(ctx, `vacuum (analyze) users`); err != nil {
			return nil, nil, nil, err
		}
	}
	if b.wantsAny("audience", "accept") {
		b.memory = newBitmaps()
		for i := range b.users {
			u := b.who.at(i)
			b.memory.add(i, &u)
		}
		b.memory.optimize()
	}
	return costs[0], costs[1], costs[2], nil
}

// startPostgres says whether there is one.
func (b *bench) startPostgres(ctx context.Context) bool {
	if b.pg != nil {
		return true
	}
	if b.quick {
		b.noPG = "-quick does without it"
		return false
	}
	pg, err := startPostgres(ctx, filepath.Join(b.dir, "postgres"))
	if err != nil {
		b.noPG = err.Error()
		b.say("  PostgreSQL: %v", err)
		return false
	}
	b.pg = pg
	b.atEnd(pg.stop)
	return true
}

// part returns the users of a part.
func (b *bench) part(i int) (from, to int) { return b.users / parts * i, b.users / parts * (i + 1) }

func perUser(d time.Duration, users int) float64 {
	return float64(d.Nanoseconds()) / 1e3 / float64(users)
}

// against makes a row, or one that says that the contender is missing.
func (b *bench) againstPG(name, unit string, ours, theirs []float64, t target) {
	if b.pg == nil {
		b.add(absent(name, "PostgreSQL", b.noPG))
		return
	}
	b.add(compare(name, "PostgreSQL", unit, ours, theirs, t))
}

// importUsers is the figure of bringing all users in: what is built up at the end, indexes and the last
// fold, is spread over the parts.
func (b *bench) importUsers(ctx context.Context) error {
	ours, pg, bolt, err := b.stage(ctx)
	if err != nil {
		return err
	}
	spread := func(x []float64) []float64 {
		if len(x) == 0 {
			return x
		}
		rest := x[:len(x)-1]
		extra := max(0, x[len(x)-1]-median(rest)) // the end
		out := make([]float64, len(x))
		for i, v := range rest {
			out[i] = v + extra/float64(len(x))
		}
		out[len(x)-1] = x[len(x)-1] - extra + extra/float64(len(x))
		return out
	}
	b.againstPG("import", "µs/user", spread(ours), spread(pg), atLeast(1.5))
	b.add(compare("import", "sorted bbolt", "µs/user", spread(ours), bolt, atLeast(0.5)))
	return nil
}

// added is the figure of further users who join those who are there, durable every thousand and to be asked for at once;
// each step of PostgreSQL is a COPY of its own.
func (b *bench) added(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	const step = 1000
	n := max(b.users/100/step, 1) * step
	part := func(round int) (from, to int) { return b.users + round*n, b.users + (round+1)*n }
	list := []contender{
		func(ctx context.Context, round int) (float64, error) {
			began := time.Now()
			from, to := part(round)
			if _, err := b.p.Import(ctx, b.who.users(from, to), nil); err != nil {
				return 0, err
			}
			err := folded(ctx, b.p)
			return perUser(time.Since(began), n), err
		},
		nil,
	}
	if b.pg != nil {
		list[1] = func(ctx context.Context, round int) (float64, error) {
			began := time.Now()
			from, to := part(round)
			for ; from < to; from += step {
				if err := copyUsers(ctx, b.pg.pool, b.who, from, from+step); err != nil {
					return 0, err
				}
			}
			return perUser(time.Since(began), n), nil
		}
	}
	costs, err := rounds(ctx, b.rounds, false, list...)
	if err != nil {
		return err
	}
	b.againstPG("import.added", "µs/user", costs[0], costs[1], atLeast(1.5))
	return nil
}

// disk is the room that a user takes, with all indexes.
func (b *bench) disk(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	s, err := b.p.Stats(ctx)
	if err != nil {
		return err
	}
	ours := []float64{float64(s.BlocksBytes+s.JournalBytes) / float64(b.users)}
	var theirs []float64
	if b.pg != nil {
		n, err := b.pg.number(ctx, `select pg_total_relation_size('users')`)
		if err != nil {
			return err
		}
		theirs = []float64{float64(n) / float64(b.users)}
	}
	b.againstPG("disk", "bytes/user", ours, theirs, atMost(0.5))
	// And without the room that the fold has left free in the file.
	if err := b.p.Compact(ctx); err != nil {
		return err
	}
	if s, err = b.p.Stats(ctx); err != nil {
		return err
	}
	ours = []float64{float64(s.BlocksBytes+s.JournalBytes) / float64(b.users)}
	b.againstPG("disk.compacted", "bytes/user", ours, theirs, atMost(0.5))
	return nil
}
