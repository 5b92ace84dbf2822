package fanfare

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestStrangeMobile: a Send that panics, returns too few or too many results or ones that mean nothing, or comes back only
// when its time is over, has each notification without a good result tried again. Another platform goes on meanwhile.
func TestStrangeMobile(t *testing.T) {
	t.Parallel()
	accepted := func(n int) []transport.Result {
		list := make([]transport.Result, n)
		for i := range list {
			list[i].Outcome = transport.Accepted
		}
		return list
	}
	for name, c := range map[string]struct {
		send  func(ctx context.Context, n int) []transport.Result
		again int           // how many of the three are tried again
		takes time.Duration // until the first send is over
	}{
		"panics":        {func(context.Context, int) []transport.Result { panic("as told") }, 3, 0},
		"panics of nil": {func(context.Context, int) []transport.Result { var m *Message; m.Key = "x"; return nil }, 3, 0},
		"nothing":       {func(context.Context, int) []transport.Result { return nil }, 3, 0},
		"one too few":   {func(_ context.Context, n int) []transport.Result { return accepted(n - 1) }, 1, 0},
		"one too many":  {func(_ context.Context, n int) []transport.Result { return accepted(n + 1) }, 3, 0},
		"zero results":  {func(_ context.Context, n int) []transport.Result { return make([]transport.Result, n) }, 3, 0},
		"no such result": {func(_ context.Context, n int) []transport.Result {
			return append(accepted(n-1), transport.Result{Outcome: 99})
		}, 1, 0},
		"hangs": {func(ctx context.Context, n int) []transport.Result {
			<-ctx.Done()
			return accepted(1)
		}, 2, time.Minute},
		"hangs and panics": {func(ctx context.Context, n int) []transport.Result {
			<-ctx.Done()
			panic(ctx.Err())
		}, 3, time.Minute},
		"does not heed its time": {func(context.Context, int) []transport.Result {
			time.Sleep(time.Hour)
			return accepted(3)
		}, 0, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				apns, fcm := transporttest.NewPhones("apns"), transporttest.NewPhones("fcm")
				p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{apns, fcm}, Grace: -1})
				importPhones(t, p, "apns", "a", "b", "c")
				importPhones(t, p, "fcm", "f")
				var strange atomic.Bool
				strange.Store(true)
				apns.OnSend(func(ctx context.Context, batch []transport.Notification) ([]transport.Result, bool) {
					if !strange.Swap(false) {
						return nil, false
					}
					return c.send(ctx, len(batch)), true
				})
				from := time.Now()
				task := mustTask(t, p, notice(week))
				synctest.Wait()
				if fcm.Total() != 1 {
					t.Fatal("the other platform waits")
				}
				must(t, task.Wait(ctx))
				takes := time.Since(from) - c.takes
				if c.again == 0 && takes != 0 || c.again > 0 && (takes < 2*time.Second || takes > 2500*time.Millisecond) {
					t.Fatalf("it took %v and %v", c.takes, takes)
				}
				want := PhoneStats{Sent: int64(3 + c.again), Accepted: 3, Retried: int64(c.again)}
				if g := progress(t, task).Phones; !sameStats(g["apns"], want) || !sameStats(g["fcm"], PhoneStats{Sent: 1, Accepted: 1}) {
					t.Fatalf("%+v", g)
				}
				if apns.Total() != c.again {
					t.Fatal(apns.Total())
				}
				if v := apns.Violations(); len(v) > 0 {
					t.Fatal(v)
				}
			})
		})
	}
}

// TestMobileHangsForEver: a Send that never returns holds up its platform only. Close leaves it behind when its context
// ends, and the next process sends again what was under way.
func TestMobileHangsForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := context.Background(), t.TempDir()
		apns, fcm := transporttest.NewPhones("apns"), transporttest.NewPhones("fcm")
		apns.SetBatchSize(1)
		rec := new(transporttest.Recorder)
		p := testPusher(t, dir, Options{Online: rec, Mobile: []transport.Mobile{apns, fcm}, Grace: -1})
		importPhones(t, p, "apns", "a", "b")
		importPhones(t, p, "fcm", "f")
		connect(t, p, rec, "c")
		release := apns.Hang()
		first := mustTask(t, p, notice(week))
		time.Sleep(time.Hour)
		second := mustTask(t, p, notice(week))
		time.Sleep(time.Hour)
		if fcm.Total() != 2 || len(rec.Received("c")) != 2 || apns.Attempts("b") != 0 {
			t.Fatal("others wait:", fcm.Total(), len(rec.Received("c")))
		}
		soon, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := first.Wait(soon); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		soon, cancel = context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		from := time.Now()
		if err := p.Close(soon); !errors.Is(err, context.DeadlineExceeded) || time.Since(from) != 5*time.Second {
			t.Fatal(err, time.Since(from))
		}
		release()
		synctest.Wait()

		apns, fcm = transporttest.NewPhones("apns"), transporttest.NewPhones("fcm")
		q := testPusher(t, dir, Options{Mobile: []transport.Mobile{apns, fcm}, Grace: -1})
		for _, id := range []string{first.ID, second.ID} {
			task, err := q.Task(ctx, id)
			must(t, err)
			must(t, task.Wait(ctx))
		}
		if len(apns.Shown("a")) != 2 || len(apns.Shown("b")) != 2 || fcm.Total() != 0 {
			t.Fatal(apns.Total(), fcm.Total())
		}
	})
}

// TestMobileTransportsThatCannotBe: two of one platform, or one of none, are refused at Open, before anything is made or
// locked.
func TestMobileTransportsThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, platforms := range map[string][]string{
		"two of one":       {"fcm", "apns", "fcm"},
		"without a name":   {""},
		"too long a name":  {"apns", strings.Repeat("x", 51)},
		"the longest name": {strings.Repeat("x", 50)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "new")
			var mobile []transport.Mobile
			for _, platform := range platforms {
				mobile = append(mobile, transporttest.NewPhones(platform))
			}
			p, err := Open(dir, Options{Mobile: mobile})
			if name == "the longest name" {
				must(t, err)
				must(t, p.Close(context.Background()))
				return
			}
			if err == nil || p != nil {
				t.Fatal("opened")
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Fatal("something was made:", err)
			}
			must(t, testPusher(t, dir, Options{}).Register(context.Background(), "a"))
			// Nor is a store that is there touched or locked.
			other := t.TempDir()
			q := testPusher(t, other, Options{})
			must(t, q.Close(context.Background()))
			if _, err := Open(other, Options{Mobile: mobile}); err == nil || errors.Is(err, ErrLocked) {
				t.Fatal(err)
			}
			testPusher(t, other, Options{})
		})
	}
}

// TestWhatANotificationHas: a notification has everything of the device and of the message, and phones of a platform
// without a transport get none.
func TestWhatANotificationHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		apns := transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{apns}, Grace: -1})
		must(t, p.Register(ctx, "a"))
		d := Device{Platform: "apns", Token: "t", Topic: "com.example.app", Locale: "de-CH", TimeZone: "Europe/Zurich"}
		must(t, p.RegisterDevice(ctx, "a", d))
		must(t, p.RegisterDevice(ctx, "a", Device{Platform: "fcm", Token: "t"}))
		badge := 3
		m := notice(week)
		m.From = "operator"
		m.Notification = &Notification{
			Title: "t", Body: "b", Sound: "s", Badge: &badge, Image: "i", Link: "l", Collapse: "c", Data: map[string]string{"k": "v"},
		}
		task := mustTask(t, p, m)
		must(t, task.Wait(ctx))
		shown := apns.Shown("t")
		if len(shown) != 1 {
			t.Fatal(shown)
		}
		n := shown[0]
		if n.UserID != "a" || n.Attempt != 1 || n.Message.ID != task.ID || string(n.Message.Body) != "x" || n.Message.From != "operator" ||
			n.Device != (transport.Device{Platform: "apns", Token: "t", Topic: "com.example.app", Locale: "de-CH", TimeZone: "Europe/Zurich"}) {
			t.Fatalf("%+v", n)
		}
		if c := n.Content; c.Title != "t" || c.Body != "b" || c.Sound != "s" || *c.Badge != 3 || c.Image != "i" || c.Link != "l" || c.Collapse != "c" || c.Data["k"] != "v" {
			t.Fatalf("%+v", c)
		}
		if g := progress(t, task).Phones; len(g) != 1 || g["apns"].Sent != 1 {
			t.Fatalf("%+v", g)
		}
	})
}
