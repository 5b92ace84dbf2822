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

// TestStanding: of each user it is known whether they have the message, from the push until the task is forgotten.
func TestStanding(t *testing.T) {
	t.Parallel()
	for _, note := range []*Notification{nil, {Title: "t"}, {Title: "t", Always: true}} {
		for _, end := range []string{"expired", "withdrawn", "completed"} {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				dir := t.TempDir()
				rec := new(transporttest.Recorder)
				o := Options{Online: rec, Mobile: []transport.Mobile{transporttest.NewPhones("apns")}, Grace: -1, blockBits: 2, KeepAudiences: true}
				p := testPusher(t, dir, o)
				for i := range 8 {
					id := fmt.Sprint("u", i)
					must(t, p.Register(ctx, id))
					must(t, p.RegisterDevice(ctx, id, Device{Platform: "apns", Token: id}))
				}
				s := connect(t, p, rec, "u0")
				m := hello(Users("u0", "u1", "u2", "u3", "u4", "u5"))
				m.Notification = note
				task := mustTask(t, p, m)
				must(t, task.Wait(ctx))
				must(t, p.Ack(ctx, "u1", task.ID))
				must(t, p.Unregister(ctx, "u5"))
				must(t, p.Register(ctx, "u5"))
				all := func() string {
					t.Helper()
					var list []string
					for i := range 8 {
						of, err := task.Standing(ctx, fmt.Sprint("u", i))
						must(t, err)
						list = append(list, string(of))
					}
					return strings.Join(list, " ")
				}
				if got := all(); got != "received received waiting waiting waiting outside outside outside" {
					t.Fatal(got)
				}
				_, err := p.Connect(ctx, "u2")
				must(t, err)
				synctest.Wait()
				must(t, s.Close())
				missed := "missed missed"
				switch end {
				case "expired":
					time.Sleep(2 * time.Hour)
				case "withdrawn":
					must(t, p.Withdraw(ctx, task.ID))
				default:
					must(t, p.Ack(ctx, "u3", task.ID))
					must(t, p.Ack(ctx, "u4", task.ID))
					missed = "received received"
				}
				want := "received received received " + missed + " outside outside outside"
				for range 2 {
					time.Sleep(time.Hour)
					if got := all(); got != want {
						t.Errorf("%s: %s, not %s", end, got, want)
					}
					must(t, p.Check(ctx))
					must(t, p.Close(ctx))
					o.Mobile = []transport.Mobile{transporttest.NewPhones("apns")}
					p = testPusher(t, dir, o)
					task, err = p.Task(ctx, task.ID)
					must(t, err)
				}
				if _, err := task.Standing(ctx, "nobody"); !errors.Is(err, ErrUnknownUser) {
					t.Error(err)
				}
				if end != "expired" || note == nil || !note.Always {
					return
				}
				time.Sleep(31 * 24 * time.Hour)
				if _, err := task.Standing(ctx, "u0"); !errors.Is(err, ErrUnknownTask) {
					t.Error(err)
				}
			})
		}
	}
}

// TestStandingUnknown: without KeepAudiences it is known who waits, and no more; and nothing of a push without retention.
func TestStandingUnknown(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := testPusher(t, t.TempDir(), Options{})
	must(t, p.Register(ctx, "a", "b"))
	standing := func(task *Task, user string, want Standing) {
		t.Helper()
		if got, err := task.Standing(ctx, user); got != want || err != nil {
			t.Errorf("%s: %s, %v", user, got, err)
		}
	}
	task := mustTask(t, p, hello(Users("a")))
	standing(task, "a", StandingWaiting)
	standing(task, "b", StandingUnknown)
	must(t, p.Ack(ctx, "a", task.ID))
	standing(task, "a", StandingUnknown)
	standing(mustTask(t, p, Message{To: Users("a")}), "a", StandingUnknown)
}
