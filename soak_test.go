package fanfare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

const (
	soakGoroutines = 8
	soakCalls      = 80 // of each
	soakUsers      = 30
)

// soaker makes random calls. Each goroutine has one.
type soaker struct {
	p        *Pusher
	rnd      *rand.Rand
	plans    []*Planned
	tasks    []*Task
	sessions []*Session
}

func (s *soaker) user() string { return fmt.Sprint("u", s.rnd.IntN(soakUsers)) }

func (s *soaker) task() string {
	if len(s.tasks) == 0 {
		return "none"
	}
	return s.tasks[s.rnd.IntN(len(s.tasks))].ID
}

func (s *soaker) audience() Audience {
	return []Audience{
		All(), Tag("t1"), Attr("tier", "x").Not(), Platform("apns"), Sample(50, "s"), Users(s.user(), s.user()).Or(Tag("t2")),
		AttrMore("age", "-5").And(HasAttr("tier").Not()), AttrBetween("age", "-2.5", "7"), Language("zh"), TimeZone("UTC").Not(),
		SeenWithin(3), RegisteredWithin(2).Or(RegisteredSince(time.Now())), Saved("s1").Or(Tag("t3")),
	}[s.rnd.IntN(13)]
}

func (s *soaker) device() Device {
	return Device{
		Platform: []string{"apns", "fcm"}[s.rnd.IntN(2)], Token: fmt.Sprint(s.rnd.IntN(20)),
		Locale: []string{"", "zh_CN", "zh-Hant-TW", "de"}[s.rnd.IntN(4)], TimeZone: []string{"", "UTC", "Asia/Shanghai"}[s.rnd.IntN(3)],
	}
}

// calls has each method of a Pusher but Close. What takes long comes seldom.
func (s *soaker) calls(ctx context.Context) map[string]func() error {
	p := s.p
	seldom := func(f func() error) func() error {
		return func() error {
			if s.rnd.IntN(8) > 0 {
				return nil
			}
			return f()
		}
	}
	saved := func() string { return fmt.Sprint("s", s.rnd.IntN(3)) }
	tag := func() string { return fmt.Sprint("t", s.rnd.IntN(4)) }
	return map[string]func() error{
		"Ack":        func() error { return p.Ack(ctx, s.user(), s.task()) },
		"AckThrough": func() error { return p.AckThrough(ctx, s.user(), s.task()) },
		"AddTags":    func() error { return p.AddTags(ctx, s.user(), tag(), tag()) },
		"Apply": func() error {
			var b Batch
			b.Register(s.user(), s.user())
			b.AddTags(s.user(), tag())
			b.RegisterDevice(s.user(), s.device(), s.device())
			b.Unregister(s.user())
			return p.Apply(ctx, &b)
		},
		"AttributeTypes":  func() error { _, err := p.AttributeTypes(ctx); return err },
		"AttributeValues": func() error { return drain(s, p.AttributeValues(ctx, "tier", "x")) },
		"DeleteAudience":  func() error { return p.DeleteAudience(ctx, saved()) },
		"Languages":       func() error { return drain(s, p.Languages(ctx)) },
		"SaveAudience":    func() error { return p.SaveAudience(ctx, saved(), s.audience()) },
		"SavedAudience":   func() error { _, err := p.SavedAudience(ctx, saved()); return err },
		"SavedAudiences":  func() error { return drain(s, p.SavedAudiences(ctx)) },
		"SetAttributeTypes": func() error {
			return p.SetAttributeTypes(ctx, map[int]AttributeType{5: []AttributeType{Number(2), Date}[s.rnd.IntN(2)]})
		},
		"TagNames":       func() error { return drain(s, p.TagNames(ctx, "t")) },
		"TimeZones":      func() error { return drain(s, p.TimeZones(ctx)) },
		"AttributeNames": func() error { _, err := p.AttributeNames(ctx); return err },
		"Attributes":     func() error { _, err := p.Attributes(ctx, s.user()); return err },
		"Backup":         seldom(func() error { return p.Backup(ctx, io.Discard) }),
		"Check":          seldom(func() error { return p.Check(ctx) }),
		"ClearTags":      func() error { return p.ClearTags(ctx, s.user()) },
		"Close":          nil,
		"Compact":        seldom(func() error { return p.Compact(ctx) }),
		"Connect": func() error {
			session, err := p.Connect(ctx, s.user())
			if s.sessions = append(s.sessions, session); len(s.sessions) > 4 {
				err = errors.Join(err, s.sessions[0].Close())
				s.sessions = s.sessions[1:]
			}
			return err
		},
		"Count":     func() error { _, err := p.Count(ctx, s.audience()); return err },
		"Connected": func() error { _, err := p.Connected(ctx, s.user()); return err },
		"TaskOfKey": func() error { _, err := p.TaskOfKey(ctx, "", fmt.Sprint("k", s.rnd.IntN(10))); return err },
		"Drain":     func() error { return p.Drain(ctx) },
		"Devices":   func() error { _, err := p.Devices(ctx, s.user()); return err },
		"Files":     func() error { _, err := p.Files(ctx); return err },
		"Import": func() error {
			_, err := p.Import(ctx, func(yield func(User, error) bool) {
				for range 5 {
					if !yield(User{ID: s.user(), Tags: []string{tag()}, Devices: []Device{s.device()}}, nil) {
						return
					}
				}
			}, nil)
			return err
		},
		"Members":          func() error { return drain(s, p.Members(ctx, s.audience())) },
		"Online":           func() error { p.Online(); return nil },
		"Opened":           func() error { return p.Opened(ctx, s.user(), s.task()) },
		"Pending":          func() error { return drain(s, p.Pending(ctx, s.user())) },
		"OptIn":            func() error { return p.OptIn(ctx, s.user(), tag()) },
		"OptOut":           func() error { return p.OptOut(ctx, s.user(), tag()) },
		"Plan":             func() error { return s.plan(ctx) },
		"Planned":          func() error { return s.planned(ctx) },
		"PlannedOfKey":     func() error { _, err := p.PlannedOfKey(ctx, tag()); return ignoreUnknownPlan(err) },
		"Plans":            func() error { return drain(s, p.Plans(ctx)) },
		"Times":            func() error { _, err := p.Times(Plan{At: time.Now()}, 3); return err },
		"Postings":         func() error { return drain(s, p.Postings(ctx)) },
		"Push":             func() error { return s.push(ctx) },
		"Register":         func() error { return p.Register(ctx, s.user(), s.user()) },
		"RegisterDevice":   func() error { return p.RegisterDevice(ctx, s.user(), s.device()) },
		"RemoveAttributes": func() error { return p.RemoveAttributes(ctx, s.user(), []string{"tier", "age"}[s.rnd.IntN(2)]) },
		"RemoveDevice":     func() error { d := s.device(); return p.RemoveDevice(ctx, s.user(), d.Platform, d.Token) },
		"RemoveTags":       func() error { return p.RemoveTags(ctx, s.user(), tag()) },
		"SetAttributeNames": func() error {
			return p.SetAttributeNames(ctx, map[int]string{1: fmt.Sprint("n", s.rnd.IntN(2))})
		},
		"SetAttributes": func() error {
			values := map[string]string{"tier": tag()}
			if s.rnd.IntN(2) == 0 {
				values["age"] = []string{"-3.5", "0", "12", "2026-11-28"}[s.rnd.IntN(4)]
			}
			return p.SetAttributes(ctx, s.user(), values)
		},
		"Stats": func() error { _, err := p.Stats(ctx); return err },
		"Tags":  func() error { _, err := p.Tags(ctx, s.user()); return err },
		"Task": func() error {
			task, err := p.Task(ctx, s.task())
			if err == nil {
				_, err = task.Progress()
			}
			if err == nil {
				_, err = task.Notification(ctx)
			}
			return err
		},
		"Tasks":       func() error { return drain(s, p.Tasks(ctx)) },
		"TasksBefore": func() error { return drain(s, p.TasksBefore(ctx, s.task())) },
		"Unregister":  func() error { return p.Unregister(ctx, s.user()) },
		"User":        func() error { _, err := p.User(ctx, s.user()); return err },
		"Replace":     seldom(func() error { return p.Replace(ctx, s.task(), Notification{Title: "instead"}) }),
		"Withdraw":    seldom(func() error { return p.Withdraw(ctx, s.task()) }),
	}
}

// drain runs through an iterator, at times not to its end.
func drain[V any](s *soaker, seq func(func(V, error) bool)) error {
	for _, err := range seq {
		if err != nil || s.rnd.IntN(30) == 0 {
			return err
		}
	}
	return nil
}

func (s *soaker) plan(ctx context.Context) error {
	plan := Plan{Message: Message{Body: []byte("x"), To: s.audience(), Lifetime: week}, Pace: s.rnd.IntN(4)}
	if s.rnd.IntN(2) == 0 {
		plan.Variants = []Variant{{Name: "A"}, {Name: "B", Body: []byte("b")}}
	}
	if s.rnd.IntN(2) == 0 {
		plan.At = time.Now().Add(time.Duration(s.rnd.IntN(20)) * time.Millisecond)
	}
	planned, err := s.p.Plan(ctx, plan)
	if err == nil {
		s.plans = append(s.plans, planned)
	}
	return err
}

// planned does something with one of the plans.
func (s *soaker) planned(ctx context.Context) error {
	if len(s.plans) == 0 {
		return nil
	}
	planned, err := s.p.Planned(ctx, s.plans[s.rnd.IntN(len(s.plans))].ID)
	if err != nil {
		return err
	}
	switch s.rnd.IntN(6) {
	case 0:
		err = planned.Pause(ctx)
	case 1:
		err = planned.Resume(ctx)
	case 2:
		err = planned.SetPace(ctx, s.rnd.IntN(5))
	case 3:
		err = planned.Withdraw(ctx)
	case 4:
		_, err = planned.Progress(ctx)
	default:
		err = drain(s, planned.Tasks(ctx))
	}
	if errors.Is(err, ErrPlanEnded) {
		return nil
	}
	return err
}

func (s *soaker) push(ctx context.Context) error {
	m := Message{Body: []byte("x"), To: s.audience()}
	if s.rnd.IntN(3) > 0 {
		m.Lifetime = week
	}
	if s.rnd.IntN(2) == 0 {
		m.Notification = &Notification{Title: "t", Always: s.rnd.IntN(2) == 0}
	}
	if s.rnd.IntN(4) == 0 {
		m.Key = fmt.Sprint("k", s.rnd.IntN(10))
	}
	task, err := s.p.Push(ctx, m)
	if err != nil {
		return err
	}
	s.tasks = append(s.tasks, task)
	soon, cancel := context.WithTimeout(ctx, time.Duration(s.rnd.IntN(3))*time.Millisecond)
	defer cancel()
	if err := task.Wait(soon); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// soakExpected are the errors that calls on things which others change and remove may have.
var soakExpected = []error{ErrUnknownUser, ErrUnknownTask, ErrKeyReused, ErrUnknownAudience, ErrAudienceCycle}

// TestSoak calls every method from many goroutines at the same time, for the race detector; each may only fail for what it
// says, and what is left must be sound.
func TestSoak(t *testing.T) {
	t.Parallel()
	for _, acks := range []bool{false, true} {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("client acks %v, seed %d", acks, seed), func(t *testing.T) {
			t.Parallel()
			soak(t, acks, seed)
		})
	}
}

func soak(t *testing.T, acks bool, seed uint64) {
	ctx := context.Background()
	rec := new(transporttest.AckRecorder)
	var online transport.Online = &rec.Recorder
	if acks {
		online = rec
	}
	rec.OnDeliver(func(_ context.Context, user string, m *transport.Message) error {
		switch m.ID[31] {
		case '0':
			return errUnreliable
		case '1':
			panic("as told")
		}
		return nil
	})
	apns, fcm := transporttest.NewPhones("apns"), transporttest.NewPhones("fcm")
	apns.Kill(time.Time{}, "1", "2")
	fcm.Overload(5, time.Millisecond)
	dir := t.TempDir()
	o := Options{
		Online: online, Mobile: []transport.Mobile{apns, fcm}, Grace: -1, Workers: 4, blockBits: 2, DeltaEntries: 200,
		AckTimeout: time.Millisecond, retryPause: func(int) time.Duration { return time.Millisecond },
	}
	p := testPusher(t, dir, o)
	must(t, p.SetAttributeNames(ctx, map[int]string{0: "tier", 5: "age"}))
	must(t, p.SetAttributeTypes(ctx, map[int]AttributeType{5: Number(1)}))
	var wg sync.WaitGroup
	for i := range soakGoroutines {
		s := &soaker{p: p, rnd: rand.New(rand.NewPCG(seed, uint64(i)))}
		wg.Go(func() {
			calls := s.calls(ctx)
			coversMethods(t, p, calls)
			delete(calls, "Close")
			var names []string
			inTurn(calls, func(name string, _ func() error) { names = append(names, name) })
			for range soakCalls {
				name := names[s.rnd.IntN(len(names))]
				err := calls[name]()
				for _, is := range soakExpected {
					if errors.Is(err, is) {
						err = nil
					}
				}
				var used *TypeInUseError
				var value *ValueError
				if errors.As(err, &used) || errors.As(err, &value) { // the type of age changes while nobody has one
					err = nil
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	must(t, p.Check(ctx))
	users, err := p.Count(ctx, All())
	must(t, err)
	must(t, p.Close(ctx))
	if v := append(rec.Violations(), append(apns.Violations(), fcm.Violations()...)...); len(v) > 0 {
		t.Fatal(v)
	}
	q := testPusher(t, dir, Options{})
	if n, err := q.Count(ctx, All()); err != nil || n != users {
		t.Fatal(n, users, err)
	}
}
