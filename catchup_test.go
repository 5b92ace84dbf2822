package fanfare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestSlowCatchUpIsMadeDurableAsItGoes: a delivery waits 50 ms for its commit, not for the rest of its round.
func TestSlowCatchUpIsMadeDurableAsItGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		slow := transport.OnlineFunc(func(context.Context, string, *transport.Message) error {
			time.Sleep(time.Second)
			return nil
		})
		p := testPusher(t, t.TempDir(), Options{Online: slow})
		must(t, p.Register(ctx, "a"))
		var tasks []*Task
		for i := range 20 {
			tasks = append(tasks, mustTask(t, p, Message{Body: []byte(fmt.Sprint(i)), To: All(), Lifetime: time.Hour}))
		}
		_, err := p.Connect(ctx, "a")
		must(t, err)
		for _, task := range tasks {
			time.Sleep(time.Second)
			synctest.Wait()
			if g := progress(t, task); g.Delivered != 1 {
				t.Fatalf("task %s: %+v", task.ID, g)
			}
		}
	})
}

// TestEndedMessagesAreNotWaitedFor: with client acks a message that was withdrawn leaves its place on the
// way to the next, and does not make others come again before their time.
func TestEndedMessagesAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.AckRecorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec})
		must(t, p.Register(ctx, "a"))
		connect(t, p, &rec.Recorder, "a")
		synctest.Wait()
		var tasks []*Task
		for i := range maxUnacked {
			tasks = append(tasks, mustTask(t, p, Message{Body: []byte(fmt.Sprint(i)), To: All(), Lifetime: time.Hour}))
		}
		for _, task := range tasks {
			must(t, p.Withdraw(ctx, task.ID))
		}
		time.Sleep(20 * time.Second)
		mustTask(t, p, Message{Body: []byte("next"), To: All(), Lifetime: time.Hour})
		time.Sleep(25 * time.Second)
		got := bodies(rec.Received("a"))
		if len(got) != maxUnacked+1 || got[maxUnacked] != "next" {
			t.Fatal(got[min(len(got), maxUnacked):])
		}
		time.Sleep(10 * time.Second)
		if n := len(rec.Received("a")); n != maxUnacked+2 {
			t.Fatal("after its own time-out it comes again:", n)
		}
	})
}

// TestImportGivesATokenToItsLastUser: a token belongs to whom the file has last.
func TestImportGivesATokenToItsLastUser(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{})
	token := Device{Platform: "apns", Token: "t"}
	other := Device{Platform: "apns", Token: "other"}
	_, err := p.Import(ctx, func(yield func(User, error) bool) {
		for _, u := range []User{
			{ID: "z", Devices: []Device{other, token}},
			{ID: "b", Devices: []Device{token}},
			{ID: "a", Devices: []Device{token, token}},
		} {
			if !yield(u, nil) {
				return
			}
		}
	}, nil)
	must(t, err)
	for user, want := range map[string][]string{"a": {"t"}, "b": {}, "z": {"other"}} {
		devices, err := p.Devices(ctx, user)
		must(t, err)
		got := []string{}
		for _, d := range devices {
			got = append(got, d.Token)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q, not %q", user, got, want)
		}
	}
}

// TestEveryTaskIsForgotten, also one without retention or audience, with no other push to remind the sweep.
func TestEveryTaskIsForgotten(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"nobody", "b"} {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			var shift atomic.Int64
			p := testPusher(t, t.TempDir(), Options{
				Online: new(transporttest.Recorder),
				now:    func() time.Time { return time.Now().Add(time.Duration(shift.Load())) },
			})
			must(t, p.Register(ctx, "b"))
			task := mustTask(t, p, Message{Body: []byte("x"), To: Users(user), Key: "k"})
			must(t, task.Wait(ctx))
			time.Sleep(time.Minute)
			shift.Add(int64(30 * 24 * time.Hour))
			time.Sleep(2 * sweepEvery)
			if _, err := p.Task(ctx, task.ID); !errors.Is(err, ErrUnknownTask) {
				t.Fatal(err)
			}
		})
	}
}
