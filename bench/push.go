package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"

	"github.com/fanfare-im/fanfare"
)

const week = 7 * 24 * time.Hour

// accept is how long a Push takes until it is durable, against one durable commit of 300 bytes and
// the set of who the audience is, taken from a bitmap in memory, which nobody can do without.
func (b *bench) accept(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	db, err := bbolt.Open(filepath.Join(b.dir, "accept.db"), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, InitialMmapSize: 1 << 30})
	if err != nil {
		return err
	}
	defer db.Close()
	value, n := make([]byte, 300), uint64(0)
	commit := func() error {
		n++
		return db.Update(func(tx *bbolt.Tx) error {
			records, err := tx.CreateBucketIfNotExists([]byte("records"))
			if err != nil {
				return err
			}
			records.FillPercent = 1
			return records.Put(fmt.Appendf(nil, "%016x", n), value)
		})
	}
	tenth, tag, _, err := b.tenth(ctx)
	if err != nil {
		return err
	}
	for _, q := range []struct {
		name string
		to   fanfare.Audience
		set  *roaring.Bitmap
	}{{"accept.all", fanfare.All(), b.memory.all}, {"accept.tenth", tenth, b.memory.tags[slices.Index(tagNames[:], tag)]}} {
		const times = 20
		var tasks []string
		costs, err := rounds(ctx, b.rounds, true,
			func(ctx context.Context, _ int) (float64, error) {
				began := time.Now()
				for range times {
					task, err := b.p.Push(ctx, fanfare.Message{From: "bench", Body: value, To: q.to, Lifetime: week})
					if err != nil {
						return 0, err
					}
					tasks = append(tasks, task.ID)
				}
				return time.Since(began).Seconds() * 1e3 / times, nil
			},
			func(ctx context.Context, _ int) (float64, error) {
				began := time.Now()
				for range times {
					if err := commit(); err != nil {
						return 0, err
					}
					if got := q.set.Clone(); got.IsEmpty() {
						return 0, errors.New("nobody")
					}
				}
				return time.Since(began).Seconds() * 1e3 / times, nil
			})
		if err != nil {
			return err
		}
		b.add(compare(q.name, "commit + set", "ms", costs[0], costs[1], atMost(2)))
		for _, id := range tasks {
			if err := b.p.Withdraw(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// retained is the room that a push takes which waits for everybody, and what accepting it costs, against
// a row for each user in an inbox table.
func (b *bench) retained(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	to, tag, n, err := b.tenth(ctx)
	if err != nil {
		return err
	}
	const pushes = 10
	// Each round: bytes a push in the file, after a complete Close, and seconds to accept one.
	push := func(to fanfare.Audience) (bytes, seconds []float64, err error) {
		for range b.rounds {
			before, err := b.used()
			if err != nil {
				return nil, nil, err
			}
			began := time.Now()
			var tasks []string
			for range pushes {
				task, err := b.p.Push(ctx, fanfare.Message{From: "bench", Body: make([]byte, 300), To: to, Lifetime: week})
				if err != nil {
					return nil, nil, err
				}
				tasks = append(tasks, task.ID)
			}
			seconds = append(seconds, time.Since(began).Seconds()/pushes)
			after, err := b.used()
			if err != nil {
				return nil, nil, err
			}
			bytes = append(bytes, float64(after-before)/pushes)
			for _, id := range tasks {
				if err := b.p.Withdraw(ctx, id); err != nil {
					return nil, nil, err
				}
			}
		}
		return bytes, seconds, nil
	}
	allBytes, allSeconds, err := push(fanfare.All())
	if err != nil {
		return err
	}
	someBytes, someSeconds, err := push(to)
	if err != nil {
		return err
	}
	scale := float64(b.users) / 10_000_000 // the targets are for ten million
	b.add(limit("retained.all", "bytes/push", allBytes, 32e3*max(scale, 0.1), "≤ 32 KB"))
	b.add(limit("retained.tenth", "bytes/push", someBytes, 1.5e6*scale*float64(n)/float64(b.users/10), "≤ 1.5 MB"))
	if b.pg == nil {
		b.add(absent("retained", "PostgreSQL", b.noPG))
		return nil
	}
	rowBytes, rowSeconds, err := b.pg.inboxRows(ctx, b.rounds, tag, n)
	if err != nil {
		return err
	}
	times := func(x []float64, n float64) []float64 {
		out := make([]float64, len(x))
		for i := range x {
			out[i] = x[i] * n
		}
		return out
	}
	all, some := float64(b.users), float64(n)
	b.add(compare("retained.all", "PostgreSQL", "bytes/push", allBytes, times(rowBytes, all), atLeast(10_000)).with("theirs from the rows of a tenth"))
	b.add(compare("retained.tenth", "PostgreSQL", "bytes/push", someBytes, times(rowBytes, some), atLeast(60)))
	b.add(compare("retained.accept.all", "PostgreSQL", "s/push", allSeconds, times(rowSeconds, all), atLeast(1000)).with("theirs from the rows of a tenth"))
	b.add(compare("retained.accept.tenth", "PostgreSQL", "s/push", someSeconds, times(rowSeconds, some), atLeast(1000)))
	return nil
}

// used closes the Pusher, so that everything is folded, counts the bytes of the pages in use, and opens it again.
func (b *bench) used() (int64, error) {
	if err := b.close(); err != nil {
		return 0, err
	}
	path := filepath.Join(b.home(), "blocks.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: time.Second})
	if err != nil {
		return 0, err
	}
	var used int64
	err = db.View(func(tx *bbolt.Tx) error {
		size := int64(db.Info().PageSize)
		for id := range tx.Size() / size {
			page, err := tx.Page(int(id))
			if err != nil {
				return err
			}
			if page == nil {
				break
			}
			if page.Type != "free" {
				used += size
			}
		}
		return nil
	})
	if err := db.Close(); err != nil {
		return 0, err
	}
	if err != nil {
		return 0, err
	}
	if info, err := os.Stat(filepath.Join(b.home(), "journal.db")); err == nil && info.Size() > 64<<20 {
		return 0, fmt.Errorf("the journal has %d bytes after Close", info.Size())
	}
	return used, b.reopen(fanfare.Options{})
}

const inboxTable = `create table inbox (uid int not null, seq bigint not null, primary key (uid, seq))`

// inboxRows inserts a row for each user of a tag, and returns bytes and seconds a row.
func (p *postgres) inboxRows(ctx context.Context, rounds int, tag string, n int64) (bytes, seconds []float64, err error) {
	if err := p.exec(ctx, inboxTable); err != nil {
		return nil, nil, err
	}
	size := func() (int64, error) { return p.number(ctx, `select pg_total_relation_size('inbox')`) }
	for seq := range rounds {
		before, err := size()
		if err != nil {
			return nil, nil, err
		}
		began := time.Now()
		if err := p.exec(ctx, `insert into inbox select uid, $1 from users where tags @> array[$2::text] order by uid`, int64(seq+1), tag); err != nil {
			return nil, nil, err
		}
		seconds = append(seconds, time.Since(began).Seconds()/float64(n))
		after, err := size()
		if err != nil {
			return nil, nil, err
		}
		bytes = append(bytes, float64(after-before)/float64(n))
	}
	return bytes, seconds, p.exec(ctx, `drop table inbox`)
}
