package main

import (
	"context"
	"fmt"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/fanfare-im/fanfare"
)

// question is an audience in the words of each contender.
type question struct {
	name   string
	to     fanfare.Audience
	memory func(*bitmaps) uint64
	sql    string
}

func (b *bench) questions() []question {
	tag := func(i int) fanfare.Audience { return fanfare.Tag(tagNames[i]) }
	return []question{
		{
			"audience.and", fanfare.Attr("tier", "gold").And(fanfare.Attr("city", "Shanghai")),
			func(m *bitmaps) uint64 { return m.tiers["gold"].AndCardinality(m.cities["Shanghai"]) },
			`select count(*) from users where tier = 'gold' and city = 'Shanghai'`,
		},
		{
			"audience.or", tag(0).Or(tag(1)),
			func(m *bitmaps) uint64 { return m.tags[0].OrCardinality(m.tags[1]) },
			`select count(*) from users where tags && array['tag-000', 'tag-001']`,
		},
		{
			"audience.nested", fanfare.Attr("tier", "member").Or(fanfare.Attr("tier", "gold")).And(tag(0).Or(tag(2)), fanfare.Attr("city", "Istanbul").Not(), tag(5).Not()),
			func(m *bitmaps) uint64 {
				r := roaring.Or(m.tiers["member"], m.tiers["gold"])
				r.And(roaring.Or(m.tags[0], m.tags[2]))
				r.AndNot(m.cities["Istanbul"])
				return r.GetCardinality() - r.AndCardinality(m.tags[5])
			},
			`select count(*) from users where tier in ('member', 'gold') and tags && array['tag-000', 'tag-002'] and city <> 'Istanbul' and not tags @> array['tag-005']`,
		},
	}
}

// audience is how long it takes to know how many users an audience has.
func (b *bench) audience(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	for _, q := range b.questions() {
		want := int64(q.memory(b.memory))
		// A round of the fast ones is many counts, so that a round takes long enough to be timed.
		many := func(count func() (int64, error)) contender {
			return func(context.Context, int) (float64, error) {
				began, n := time.Now(), 0
				for time.Since(began) < 200*time.Millisecond {
					got, err := count()
					if err != nil {
						return 0, err
					}
					if got != want {
						return 0, fmt.Errorf("%s: %d users, not %d", q.name, got, want)
					}
					n++
				}
				return time.Since(began).Seconds() * 1e3 / float64(n), nil
			}
		}
		list := []contender{
			many(func() (int64, error) { return b.p.Count(ctx, q.to) }),
			many(func() (int64, error) { return int64(q.memory(b.memory)), nil }),
			nil,
		}
		if b.pg != nil {
			list[2] = many(func() (int64, error) { return b.pg.number(ctx, q.sql) })
		}
		costs, err := rounds(ctx, b.rounds, true, list...)
		if err != nil {
			return err
		}
		b.add(compare(q.name, "roaring", "ms", costs[0], costs[1], atMost(1.5)).with("%d users", want))
		b.againstPG(q.name, "ms", costs[0], costs[2], atLeast(200))
	}
	return nil
}

// tenth is the audience of one tag that is nearest to a tenth of the users.
func (b *bench) tenth(ctx context.Context) (to fanfare.Audience, tag string, n int64, err error) {
	for i := range 12 {
		a := fanfare.Tag(tagNames[i])
		have, err := b.p.Count(ctx, a)
		if err != nil {
			return to, "", 0, err
		}
		off := func(n int64) int64 { return max(n-int64(b.users/10), int64(b.users/10)-n) }
		if tag == "" || off(have) < off(n) {
			to, tag, n = a, tagNames[i], have
		}
	}
	return to, tag, n, nil
}

// members is how long it takes to go through the IDs of an audience.
func (b *bench) members(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	to, tag, want, err := b.tenth(ctx)
	if err != nil {
		return err
	}
	each := func(walk func(func()) error) contender {
		return func(context.Context, int) (float64, error) {
			began, n := time.Now(), int64(0)
			if err := walk(func() { n++ }); err != nil {
				return 0, err
			}
			if n != want {
				return 0, fmt.Errorf("%d members, not %d", n, want)
			}
			return float64(time.Since(began).Nanoseconds()) / float64(n), nil
		}
	}
	list := []contender{each(func(f func()) error {
		for id, err := range b.p.Members(ctx, to) {
			if err != nil {
				return err
			}
			if len(id) == 36 {
				f()
			}
		}
		return nil
	}), nil}
	if b.pg != nil {
		list[1] = each(func(f func()) error { return b.pg.cursor(ctx, tag, f) })
	}
	costs, err := rounds(ctx, b.rounds, true, list...)
	if err != nil {
		return err
	}
	b.againstPG("members", "ns/member", costs[0], costs[1], atLeast(5))
	return nil
}

// cursor reads the IDs of a tag's users, ten thousand at a time.
func (p *postgres) cursor(ctx context.Context, tag string, f func()) error {
	tx, err := p.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, fmt.Sprintf(`declare members cursor for select id from users where tags @> array['%s'] order by uid`, tag)); err != nil {
		return err
	}
	for {
		rows, err := tx.Query(ctx, `fetch 10000 from members`)
		if err != nil {
			return err
		}
		n := 0
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			n++
			f()
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}
