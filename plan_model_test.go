package fanfare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestPlansModel lets plans run while they are paused, resumed, sped up, changed, cancelled and withdrawn, users come and go, and processes end, and compares
// what each user waits for with a naive account of it.
func TestPlansModel(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	checkModel(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &planModel{T: t, dir: dir, users: map[string]bool{}}
		m.open()
		defer func() { m.p.Close(context.Background()) }()
		for i := range 6 {
			m.register(fmt.Sprint("u", i))
		}
		t.Repeat(map[string]func(*rapid.T){
			"plan": func(*rapid.T) { m.plan() }, "plan 2": func(*rapid.T) { m.plan() },
			"time": func(*rapid.T) { m.pass() }, "time 2": func(*rapid.T) { m.pass() }, "time 3": func(*rapid.T) { m.pass() },
			"steer": func(*rapid.T) { m.steer() },
			"users": func(*rapid.T) { m.people() },
			"reopen": func(*rapid.T) {
				m.must(m.p.Close(context.Background()))
				m.open()
			},
			"": func(*rapid.T) { m.compare() },
		})
		m.must(m.p.Check(context.Background()))
	})
}

type planModel struct {
	*rapid.T
	dir   string
	p     *Pusher
	users map[string]bool // who is registered
	plans []*modelPlan
	made  int
	seen  time.Time // until when the plans have been followed
}

// modelPlan is what a plan should have done.
type modelPlan struct {
	planned *Planned
	at      time.Time // when it fires next
	every   time.Duration
	until   time.Time
	pace    int
	paused  bool
	running bool
	next    time.Time // when the next second of the pace begins
	ended   bool
	fired   int
	order   []string // who is frozen and waits, in the order in which users were registered
	held    int
	got     map[string]int // how often each user has it
}

func (m *planModel) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *planModel) open() {
	p, err := Open(m.dir, Options{Cron: testCron, blockBits: 1, DeltaEntries: 20, Online: new(transporttest.AckRecorder)})
	m.must(err)
	m.p = p
	for _, x := range m.plans {
		planned, err := p.Planned(context.Background(), x.planned.ID)
		m.must(err)
		x.planned = planned
	}
	synctest.Wait()
	m.seen = time.Now() // what was due meanwhile is done now
	m.advance()
}

func (m *planModel) register(id string) {
	m.must(m.p.Register(context.Background(), id))
	m.users[id] = true
}

// people has a user come or go. Who comes is a new user, with an ID of its own.
func (m *planModel) people() {
	var ids []string
	for i := range m.made + 6 {
		if id := fmt.Sprint("u", i); m.users[id] {
			ids = append(ids, id)
		}
	}
	if len(ids) > 3 && rapid.Bool().Draw(m.T, "go") {
		id := rapid.SampledFrom(ids).Draw(m.T, "user")
		m.must(m.p.Unregister(context.Background(), id))
		delete(m.users, id)
		return
	}
	m.register(fmt.Sprint("u", 6+m.made))
	m.made++
}

// all are the users in the order in which they were registered.
func (m *planModel) all() (ids []string) {
	for i := range m.made + 6 {
		if id := fmt.Sprint("u", i); m.users[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

func (m *planModel) plan() {
	x := &modelPlan{pace: rapid.IntRange(0, 3).Draw(m.T, "pace"), got: map[string]int{}}
	plan := Plan{Message: Message{Body: []byte("x"), To: All(), Lifetime: week}, Pace: x.pace, Tolerance: -1}
	now := time.Now()
	x.at = now
	if rapid.Bool().Draw(m.T, "later") {
		x.at = now.Add(time.Duration(rapid.IntRange(1, 20).Draw(m.T, "in")) * time.Second)
		plan.At = x.at
	}
	if rapid.IntRange(0, 3).Draw(m.T, "again") == 0 {
		x.every, x.until = time.Hour, now.Add(150*time.Minute)
		plan.Every, plan.Until = "every 1 h", x.until
		x.at = x.at.Add(-time.Millisecond).Truncate(time.Hour).Add(time.Hour)
	}
	planned, err := m.p.Plan(context.Background(), plan)
	m.must(err)
	x.planned = planned
	m.plans = append(m.plans, x)
	synctest.Wait()
	m.advance()
}

func (m *planModel) pass() {
	time.Sleep(rapid.SampledFrom([]time.Duration{300 * time.Millisecond, time.Second, 3 * time.Second, 20 * time.Second, 70 * time.Minute}).Draw(m.T, "time"))
	synctest.Wait()
	m.advance()
}

// steer does something with a plan.
func (m *planModel) steer() {
	if len(m.plans) == 0 {
		return
	}
	x := rapid.SampledFrom(m.plans).Draw(m.T, "plan")
	ctx := context.Background()
	var err error
	switch rapid.IntRange(0, 4).Draw(m.T, "what") {
	case 0:
		if err = x.planned.Pause(ctx); err == nil {
			x.paused = true
		}
	case 1:
		if err = x.planned.Resume(ctx); err == nil && x.paused {
			x.paused = false
			x.next = time.Time{} // at once
		}
	case 2:
		pace := rapid.IntRange(0, 3).Draw(m.T, "pace")
		if err = x.planned.SetPace(ctx, pace); err == nil {
			x.pace = pace
		}
	case 3:
		if err = x.planned.Cancel(ctx); err == nil {
			x.ended, x.order = true, nil
		}
	case 4:
		m.must(x.planned.Withdraw(ctx))
		x.ended, x.order, x.got = true, nil, map[string]int{}
		return
	}
	if x.ended && err == nil && !errors.Is(err, ErrPlanEnded) {
		if _, _, s, e := x.planned.read(); e != nil || s.Outcome == "" {
			m.Fatalf("%s has not ended: %v", x.planned.ID, e)
		}
	} else if err != nil && !(x.ended && errors.Is(err, ErrPlanEnded)) {
		m.Fatal(err)
	}
	synctest.Wait()
	m.advance()
}

// advance does what the plans have to do until now.
func (m *planModel) advance() {
	now := time.Now()
	for _, x := range m.plans {
		for !x.ended && !x.paused {
			if !x.running {
				if x.at.After(now) {
					break
				}
				x.running, x.order = true, m.all()
				x.held = len(x.order)
				x.fired++
				if x.next = m.seen; x.at.After(m.seen) {
					x.next = x.at
				}
			}
			if x.next.IsZero() {
				x.next = m.seen
			}
			if x.next.After(now) {
				break
			}
			n := 0
			for len(x.order) > 0 && (x.pace == 0 || n < x.pace) {
				if id := x.order[0]; m.users[id] {
					x.got[id]++
					n++
				}
				x.order = x.order[1:]
			}
			// Who was unregistered is still frozen, so the plan looks once more.
			if x.held -= n; x.pace > 0 && n == x.pace && x.held > 0 {
				x.next = x.next.Add(time.Second)
				continue
			}
			x.running, x.order = false, nil
			if x.every > 0 {
				x.at = x.at.Add(x.every)
			}
			x.ended = x.every == 0 || x.at.After(x.until)
		}
	}
	m.seen = now
}

// compare wants each user to wait for what the plans have released to the user.
func (m *planModel) compare() {
	synctest.Wait()
	want, have := map[string]int{}, map[string]int{}
	for _, x := range m.plans {
		for id, n := range x.got {
			if m.users[id] {
				want[id] += n
			}
		}
	}
	for _, id := range m.all() {
		for _, err := range m.p.Pending(context.Background(), id) {
			m.must(err)
			have[id]++
		}
	}
	if fmt.Sprint(have) != fmt.Sprint(want) {
		m.Fatalf("users wait for %v, want %v", have, want)
	}
	for _, x := range m.plans {
		i, err := x.planned.Info(context.Background())
		m.must(err)
		if i.Ended.IsZero() == x.ended || i.Fired != x.fired || i.Paused != (x.paused && !x.ended) && !x.ended {
			m.Fatalf("%s: %+v, want ended %v, fired %d, paused %v", x.planned.ID, i, x.ended, x.fired, x.paused)
		}
	}
}
