package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// rule is the audience of one live push, also as a function of a user.
type rule struct {
	to  fanfare.Audience
	has func(*person) bool
}

// rules returns the audiences of 100 pushes, 20 of which are for a user on average: everyone, tags, attributes,
// and mixtures.
func rules() []rule {
	tag := func(i int) rule {
		return rule{fanfare.Tag(tagNames[i]), func(u *person) bool { return u.tagged(i) }}
	}
	tier := func(t string) rule {
		return rule{fanfare.Attr("tier", t), func(u *person) bool { return u.tier == t }}
	}
	city := func(c string) rule {
		return rule{fanfare.Attr("city", c), func(u *person) bool { return u.city == c }}
	}
	and := func(x, y rule) rule {
		return rule{x.to.And(y.to), func(u *person) bool { return x.has(u) && y.has(u) }}
	}
	or := func(x, y rule) rule {
		return rule{x.to.Or(y.to), func(u *person) bool { return x.has(u) || y.has(u) }}
	}
	not := func(x rule) rule {
		return rule{x.to.Not(), func(u *person) bool { return !x.has(u) }}
	}
	towns := []string{"Shanghai", "Istanbul", "Mumbai", "Buenos Aires"}
	var list []rule
	for i := range 10 {
		list = append(list,
			rule{fanfare.All(), func(*person) bool { return true }},
			or(tag(i%3), tag(3+i%4)),
			and(tier("none"), tag(i%4)),
			tag(i),
			tag(20+i),
			tier([]string{"member", "gold", "platinum"}[i%3]),
			city(towns[i%4]),
			and(tag(i%2), not(city(towns[i%4]))),
			or(city(towns[i%4]), and(tier("gold"), tag(i))),
			and(tag(1+i%3), not(tier("none"))),
		)
	}
	return list
}

// box is what comes over the connection of a user who logs in.
type box struct {
	got  atomic.Int32
	want int32
	last atomic.Pointer[string]
	news chan struct{}
}

// mailroom is the transport of the login storm: the clients acknowledge.
type mailroom struct {
	boxes sync.Map // user ID → *box
}

func (m *mailroom) ClientAcks() bool { return true }

func (m *mailroom) Deliver(_ context.Context, user string, msg *transport.Message) error {
	b, ok := m.boxes.Load(user)
	if !ok {
		return fmt.Errorf("%s is not connected", user)
	}
	x := b.(*box)
	x.last.Store(&msg.ID)
	if n := x.got.Add(1); n == x.want || n%64 == 0 {
		select {
		case x.news <- struct{}{}:
		default:
		}
	}
	return nil
}

// login connects a user, receives what waits, acknowledges it, durably, and leaves.
func (m *mailroom) login(ctx context.Context, p *fanfare.Pusher, user string, want int) error {
	x := &box{want: int32(want), news: make(chan struct{}, 1)}
	m.boxes.Store(user, x)
	defer m.boxes.Delete(user)
	s, err := p.Connect(ctx, user)
	if err != nil {
		return err
	}
	defer s.Close()
	for acked := 0; acked < want; {
		select {
		case <-x.news:
		case <-time.After(30 * time.Second):
			return fmt.Errorf("%s has %d of %d messages", user, x.got.Load(), want)
		case <-ctx.Done():
			return ctx.Err()
		}
		got := int(x.got.Load())
		if err := p.AckThrough(ctx, user, *x.last.Load()); err != nil {
			return err
		}
		acked = got
	}
	if got := int(x.got.Load()); got != want {
		return fmt.Errorf("%s has %d messages, not %d", user, got, want)
	}
	return nil
}

// guest is a user who logs in, with what waits for him or her.
type guest struct {
	i    int
	id   string
	seqs []int
}

// login is the storm after a broadcast: many callers who connect, receive what waits of many pushes, and
// acknowledge it. Each user logs in once.
func (b *bench) login(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	list := rules()
	room := new(mailroom)
	if err := b.reopen(fanfare.Options{Online: room}); err != nil {
		return err
	}
	var tasks []string
	push := func(n int) error {
		for i := range n {
			task, err := b.p.Push(ctx, fanfare.Message{From: "bench", Body: fmt.Appendf(nil, "message %d, %0280d", i, 0), To: list[i%len(list)].to, Lifetime: week})
			if err != nil {
				return err
			}
			tasks = append(tasks, task.ID)
		}
		return folded(ctx, b.p)
	}
	if err := push(len(list)); err != nil {
		return err
	}
	// Guests are drawn without another's twice: every k-th user, from another start each round.
	per := min(20_000, b.users/(4*(b.rounds+1)))
	if b.quick {
		per = 3000
	}
	total, waiting := 0, 0
	stride := max(b.users/(8*per*(b.rounds+1)), 1)
	guests := func(first, n int) []guest {
		out := make([]guest, n)
		for k := range out {
			i := (first + k) * stride % b.users
			u := b.who.at(i)
			g := guest{i: i, id: string(u.id[:])}
			for s, r := range list {
				if r.has(&u) {
					g.seqs = append(g.seqs, s+1)
				}
			}
			total++
			waiting += len(g.seqs)
			out[k] = g
		}
		return out
	}
	crowd := func(guests []guest, f func(guest) error) (float64, error) {
		var next atomic.Int64
		began := time.Now()
		err := callers(concurrent, func(int) error {
			for ctx.Err() == nil {
				k := int(next.Add(1)) - 1
				if k >= len(guests) {
					return nil
				}
				if err := f(guests[k]); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
		return perUser(time.Since(began), len(guests)), err
	}
	byRound := make([][]guest, b.rounds+1)
	for i := range byRound {
		byRound[i] = guests(i*per, per)
	}
	b.say("  %.1f messages wait for a user on average", float64(waiting)/float64(total))
	ours := func(times int) contender {
		offset := 0
		if times > 1 {
			offset = (b.rounds + 1) * per // other users
		}
		return func(ctx context.Context, round int) (float64, error) {
			mine := byRound[round+1]
			if offset > 0 {
				mine = guests(offset+(round+1)*per, per)
			}
			return crowd(mine, func(g guest) error { return room.login(ctx, b.p, g.id, times*len(g.seqs)) })
		}
	}
	contenders := []contender{ours(1), nil, nil}
	if b.pg != nil {
		began := time.Now()
		rows, err := b.pg.fillInbox(ctx, b.who, list, min((b.rounds+1)*per*stride, b.users))
		if err != nil {
			return err
		}
		b.say("  PostgreSQL's inbox has %d rows, in %.0f s", rows, time.Since(began).Seconds())
		contenders[1] = func(ctx context.Context, round int) (float64, error) {
			return crowd(byRound[round+1], func(g guest) error { return b.pg.login(ctx, g) })
		}
	}
	rds, noRedis := startRedis(ctx, filepath.Join(b.dir, "redis"))
	if noRedis == nil {
		defer rds.stop()
		if err := rds.fill(ctx, byRound); err != nil {
			return err
		}
		contenders[2] = func(ctx context.Context, round int) (float64, error) {
			return crowd(byRound[round+1], func(g guest) error { return rds.login(ctx, g) })
		}
	}
	costs, err := rounds(ctx, b.rounds, true, contenders...)
	if err != nil {
		return err
	}
	b.againstPG("login", "µs/login", costs[0], costs[1], atLeast(10))
	if noRedis == nil {
		b.add(compare("login", rds.name, "µs/login", costs[0], costs[2], atLeast(3)))
	} else {
		b.add(absent("login", "Redis", noRedis.Error()))
	}
	if err := push(6 * len(list)); err != nil {
		return err
	}
	many, err := rounds(ctx, b.rounds, true, ours(7))
	if err != nil {
		return err
	}
	b.add(compare("login.700", "100 pushes", "µs/login", many[0], costs[0], noTarget).with("700 live pushes: seven times the messages"))
	for _, id := range tasks {
		if err := b.p.Withdraw(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// fillInbox makes the inbox of the first n users, push by push as it would come about, and then its index. For the others,
// seven eighths at ten million, there is no row, which is to its advantage.
func (p *postgres) fillInbox(ctx context.Context, who *people, list []rule, n int) (rows int64, err error) {
	if err := p.exec(ctx, `create table inbox (uid int not null, seq bigint not null)`); err != nil {
		return 0, err
	}
	waits := make([][2]uint64, n) // of a user, for which pushes
	for i := range waits {
		u := who.at(i)
		for s, r := range list {
			if r.has(&u) {
				waits[i][s/64] |= 1 << (s % 64)
			}
		}
	}
	for s := range list {
		i := 0
		copied, err := p.pool.CopyFrom(ctx, pgx.Identifier{"inbox"}, []string{"uid", "seq"}, pgx.CopyFromFunc(func() ([]any, error) {
			for i < n && waits[i][s/64]>>(s%64)&1 == 0 {
				i++
			}
			if i == n {
				return nil, nil
			}
			i++
			return []any{int32(i - 1), int64(s + 1)}, nil
		}))
		if rows += copied; err != nil {
			return rows, err
		}
	}
	if err := p.exec(ctx, `alter table inbox add primary key (uid, seq)`); err != nil {
		return rows, err
	}
	return rows, p.exec(ctx, `vacuum (analyze) inbox`)
}

func (p *postgres) login(ctx context.Context, g guest) error {
	rows, err := p.pool.Query(ctx, `select uid, seq from inbox where uid = (select uid from users where id = $1) order by seq`, g.id)
	if err != nil {
		return err
	}
	var uid int32
	var seq int64
	n := 0
	for rows.Next() {
		if err := rows.Scan(&uid, &seq); err != nil {
			return err
		}
		n++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n != len(g.seqs) {
		return fmt.Errorf("PostgreSQL: %d messages, not %d", n, len(g.seqs))
	}
	if n == 0 {
		return nil
	}
	return p.exec(ctx, `delete from inbox where uid = $1 and seq <= $2`, uid, seq)
}

func (r *redisServer) fill(ctx context.Context, rounds [][]guest) error {
	for _, guests := range rounds {
		pipe := r.client.Pipeline()
		for i, g := range guests {
			seqs := make([]any, len(g.seqs))
			for k, s := range g.seqs {
				seqs[k] = s
			}
			if len(seqs) > 0 {
				pipe.RPush(ctx, "inbox:"+g.id, seqs...)
			}
			if (i+1)%1000 == 0 || i == len(guests)-1 {
				if _, err := pipe.Exec(ctx); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *redisServer) login(ctx context.Context, g guest) error {
	key := "inbox:" + g.id
	got, err := r.client.LRange(ctx, key, 0, -1).Result()
	if err != nil {
		return err
	}
	if len(got) != len(g.seqs) {
		return fmt.Errorf("%s: %d messages, not %d", r.name, len(got), len(g.seqs))
	}
	if len(got) == 0 {
		return nil
	}
	return r.client.LTrim(ctx, key, int64(len(got)), -1).Err() // what came meanwhile stays
}
