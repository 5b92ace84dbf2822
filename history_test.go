package fanfare

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// told is a history in one line: when, delivered, pending, opened, notified.
func told(moments []Moment) string {
	var list []string
	for _, m := range moments {
		list = append(list, fmt.Sprintf("%v %d %d %d %d", m.At.Sub(moments[0].At).Round(time.Second), m.Delivered, m.Pending, m.Opened, m.Notified["apns"]))
	}
	return strings.Join(list, ", ")
}

func history(t *testing.T, task *Task) string {
	t.Helper()
	moments, err := task.History(t.Context())
	must(t, err)
	return told(moments)
}

// TestHistory: what a task had come to when, as long as the task is known, whatever happens to the process.
func TestHistory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		dir := t.TempDir()
		scene := func() *Pusher {
			return testPusher(t, dir, Options{Online: new(transporttest.Recorder), Mobile: []transport.Mobile{transporttest.NewPhones("apns")}, Grace: 5 * time.Second})
		}
		p := scene()
		must(t, p.Register(ctx, "a", "b", "c", "d"))
		must(t, p.RegisterDevice(ctx, "a", Device{Platform: "apns", Token: "ta"}))
		nobody := mustTask(t, p, hello(Tag("nobody")))
		m := hello(All())
		m.Notification, m.Lifetime = &Notification{Title: "hi"}, 3*time.Hour
		task := mustTask(t, p, m)
		if got := history(t, task); got != "0s 0 4 0 0, 0s 0 4 0 0" {
			t.Error("at once:", got)
		}
		time.Sleep(2 * time.Second)
		_, err := p.Connect(ctx, "b")
		must(t, err)
		synctest.Wait()
		if got := history(t, task); got != "0s 0 4 0 0, 2s 1 3 0 0, 2s 1 3 0 0" {
			t.Error("delivered:", got)
		}
		time.Sleep(10*time.Minute - 2*time.Second) // the phone is notified meanwhile
		must(t, p.Close(ctx))
		p = scene()
		for _, of := range []**Task{&task, &nobody} {
			*of, err = p.Task(ctx, (*of).ID)
			must(t, err)
		}
		_, err = p.Connect(ctx, "c")
		must(t, err)
		synctest.Wait()
		must(t, p.Opened(ctx, "c", task.ID)) // too early for a moment of its own
		time.Sleep(50 * time.Minute)
		const until = "0s 0 4 0 0, 2s 1 3 0 0, 5s 1 3 0 1, 10m0s 2 2 0 1"
		if got := history(t, task); got != until+", 10m19s 2 2 1 1, 1h0m0s 2 2 1 1" {
			t.Error("after an hour:", got)
		}
		time.Sleep(time.Hour)
		must(t, p.Withdraw(ctx, task.ID))
		time.Sleep(time.Hour)
		if got := history(t, task); got != until+", 2h0m0s 2 0 1 1" {
			t.Error("withdrawn:", got)
		}
		must(t, p.Opened(ctx, "b", task.ID))
		if got := history(t, task); got != until+", 2h0m0s 2 0 1 1, 3h0m0s 2 0 2 1" {
			t.Error("opened later:", got)
		}
		if got := history(t, nobody); got != "0s 0 0 0 0" {
			t.Error("of nobody:", got)
		}
		time.Sleep(31 * 24 * time.Hour)
		if got, err := task.History(ctx); !errors.Is(err, ErrUnknownTask) {
			t.Errorf("after its time: %v, %v", got, err)
		}
		must(t, p.Check(ctx))
	})
}

// TestHistoryOfAWeek: a task in which something changes all the time has a few hundred moments, the first of them near to each other.
func TestHistoryOfAWeek(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p := testPusher(t, t.TempDir(), Options{})
		const users = 3000
		ids := make([]string, users)
		for i := range ids {
			ids[i] = fmt.Sprint("u", i)
		}
		must(t, p.Register(ctx, ids...))
		m := hello(All())
		m.Lifetime = 7 * 24 * time.Hour
		task := mustTask(t, p, m)
		for i, id := range ids {
			wait := 500 * time.Millisecond
			if i >= 600 {
				wait = 4 * time.Minute
			}
			time.Sleep(wait)
			must(t, p.Ack(ctx, id, task.ID))
		}
		moments, err := task.History(ctx)
		must(t, err)
		if n := len(moments); n < 200 || n > 400 {
			t.Errorf("%d moments", n)
		}
		for i, m := range moments[1:] {
			before, age := moments[i], m.At.Sub(moments[0].At)
			if m.Delivered+m.Pending != users || m.Delivered < before.Delivered {
				t.Fatalf("%+v behind %+v", m, before)
			}
			if gap := m.At.Sub(before.At); gap > 5*time.Minute+age/16 {
				t.Errorf("nothing for %v at the age of %v", gap, age)
			}
		}
		if last := moments[len(moments)-1]; last.Delivered != users || last.Pending != 0 {
			t.Errorf("%+v", last)
		}
	})
}

// TestHistoryOfAMoment: what came in the first second does not look as if it had come since.
func TestHistoryOfAMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testPusher(t, t.TempDir(), Options{Online: new(transporttest.Recorder)})
		must(t, p.Register(t.Context(), "away"))
		_, err := p.Connect(t.Context(), "here")
		must(t, err)
		task := mustTask(t, p, hello(All()))
		must(t, task.Wait(t.Context()))
		time.Sleep(500 * time.Millisecond)
		if got := history(t, task); got != "0s 0 2 0 0, 1s 1 1 0 0" { // half a second, rounded
			t.Error("within the second:", got)
		}
		time.Sleep(30 * time.Minute)
		if got := history(t, task); got != "0s 0 2 0 0, 1s 1 1 0 0, 30m1s 1 1 0 0" {
			t.Error("later:", got)
		}
	})
}

// TestPlanHistory adds up the tasks of a plan, and those of each variant.
func TestPlanHistory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p, _ := planScene(t, t.TempDir(), 20)
		planned := mustPlan(t, p, Plan{
			Message: hello(All()), Pace: 2, Variants: []Variant{{Name: "A", Weight: 1}, {Name: "B", Weight: 1}},
		})
		must(t, planned.Wait(ctx))
		for task, err := range planned.Tasks(ctx) {
			must(t, err)
			for _, id := range []string{"u00", "u01"} {
				must(t, p.Opened(ctx, id, task.ID))
			}
		}
		h, err := planned.History(ctx)
		must(t, err)
		end := func(list []Moment) Moment { return list[len(list)-1] }
		a, b := end(h.Variants["A"]), end(h.Variants["B"])
		if all := end(h.Moments); all.Delivered != 20 || a.Delivered+b.Delivered != 20 || a.Delivered == 0 || b.Delivered == 0 || all.Opened != a.Opened+b.Opened {
			t.Errorf("%+v, %+v, %+v", all, a, b)
		}
		for i, m := range h.Moments { // two a second
			if most := 2 + 2*int64(m.At.Sub(h.Moments[0].At)/time.Second); m.Delivered > most || i > 0 && m.At.Before(h.Moments[i-1].At) {
				t.Errorf("%d after %v", m.Delivered, m.At.Sub(h.Moments[0].At))
			}
		}
		if len(h.Moments) < 10 {
			t.Error(told(h.Moments))
		}
	})
}

// TestTimeline: however many tasks there are, there are few moments, and they come to the same.
func TestTimeline(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	var l timeline
	const tasks = 30_000
	for i := range tasks { // the newest first, as they are read
		begun := at.Add(time.Duration(tasks-i) * time.Second)
		l.add([]Moment{{At: begun, Pending: 3}, {At: begun.Add(time.Minute), Delivered: 2, Pending: 1, Notified: map[string]int64{"apns": 1}}})
	}
	got := l.moments()
	last := got[len(got)-1]
	if len(got) > maxPlanMoments || len(got) < maxPlanMoments/2 || last.Delivered != 2*tasks || last.Pending != tasks || last.Notified["apns"] != tasks {
		t.Errorf("%d moments, the last %+v", len(got), last)
	}
	for _, m := range got {
		begun := int64(m.At.Sub(at) / time.Second)
		want := 2 * min(max(begun-60, 0), tasks)
		if d := m.Delivered - want; d > 2*tasks/100 || d < -2*tasks/100 {
			t.Errorf("at %v there are %d, not some %d", m.At.Sub(at), m.Delivered, want)
		}
	}
}
