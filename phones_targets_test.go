package fanfare

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// phoneScene is users "u0000" and on with a phone each, one of whom is notified at a time.
type phoneScene struct {
	p      *Pusher
	rec    *transporttest.Recorder
	phones *transporttest.Phones
}

func newPhoneScene(t *testing.T, users int) *phoneScene {
	s := &phoneScene{rec: new(transporttest.Recorder), phones: transporttest.NewPhones("apns")}
	s.phones.SetBatchSize(1)
	s.p = testPusher(t, t.TempDir(), Options{Online: s.rec, Mobile: []transport.Mobile{s.phones}, Grace: -1, blockBits: 1})
	importPhones(t, s.p, "apns", numberedUsers(users)...)
	return s
}

// during calls f while the first notification is under way.
func (s *phoneScene) during(f func()) {
	var once sync.Once
	s.phones.OnSend(func(context.Context, []transport.Notification) ([]transport.Result, bool) {
		once.Do(f)
		return nil, false
	})
}

// tried wants as many tries for each user's phone.
func (s *phoneScene) tried(t *testing.T, want ...int) {
	t.Helper()
	got := make([]int, len(want))
	for i := range want {
		got[i] = s.phones.Attempts(fmt.Sprintf("u%04d", i))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("tries %v, not %v", got, want)
	}
	if v := s.phones.Violations(); len(v) > 0 {
		t.Fatal(v)
	}
}

// TestWhoIsNotified: whom a batch is for is asked when it is made, not when the push was accepted. What happens while an
// earlier batch is under way, or a retry waits, counts.
func TestWhoIsNotified(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct {
		happens func(t *testing.T, s *phoneScene, task string)
		want    []int // tries for the four
		still   int64 // pending
	}{
		"nothing": {func(*testing.T, *phoneScene, string) {}, []int{2, 1, 1, 1}, 4},
		"one connects": {func(t *testing.T, s *phoneScene, _ string) {
			connect(t, s.p, s.rec, "u0002")
		}, []int{2, 1, 0, 1}, 3},
		"one who waits for another try connects": {func(t *testing.T, s *phoneScene, _ string) {
			connect(t, s.p, s.rec, "u0000")
		}, []int{1, 1, 1, 1}, 3},
		"one is connected whose client does not take it": {func(t *testing.T, s *phoneScene, _ string) {
			s.rec.FailNext("u0002", 10_000, nil)
			connect(t, s.p, s.rec, "u0002")
		}, []int{2, 1, 0, 1}, 4},
		"one who waits for another try is connected, and the client does not take it": {func(t *testing.T, s *phoneScene, _ string) {
			s.rec.FailNext("u0000", 10_000, nil)
			connect(t, s.p, s.rec, "u0000")
		}, []int{1, 1, 1, 1}, 4},
		"one connects and leaves again": {func(t *testing.T, s *phoneScene, _ string) {
			s.rec.FailNext("u0002", 1, nil)
			must(t, connect(t, s.p, s.rec, "u0002").Close())
		}, []int{2, 1, 1, 1}, 4},
		"two acknowledge": {func(t *testing.T, s *phoneScene, task string) {
			must(t, s.p.Ack(ctx, "u0000", task))
			must(t, s.p.Ack(ctx, "u0003", task))
		}, []int{1, 1, 1, 0}, 2},
		"two are unregistered": {func(t *testing.T, s *phoneScene, _ string) {
			must(t, s.p.Unregister(ctx, "u0000", "u0001"))
		}, []int{1, 0, 1, 1}, 2},
		"two lose their phones": {func(t *testing.T, s *phoneScene, _ string) {
			must(t, s.p.RemoveDevice(ctx, "u0000", "apns", "u0000"))
			must(t, s.p.RemoveDevice(ctx, "u0002", "apns", "u0002"))
		}, []int{1, 1, 0, 1}, 4},
		"two tokens move to one who is not meant": {func(t *testing.T, s *phoneScene, _ string) {
			must(t, s.p.Register(ctx, "other"))
			must(t, s.p.RegisterDevice(ctx, "other", Device{Platform: "apns", Token: "u0000"}))
			must(t, s.p.RegisterDevice(ctx, "other", Device{Platform: "apns", Token: "u0002"}))
		}, []int{1, 1, 0, 1}, 4},
		"a token moves to one who is still to come": {func(t *testing.T, s *phoneScene, _ string) {
			must(t, s.p.RegisterDevice(ctx, "u0003", Device{Platform: "apns", Token: "u0001"}))
		}, []int{2, 1, 1, 1}, 4}, // once, for its new owner
		"a token moves to one who had it": {func(t *testing.T, s *phoneScene, _ string) {
			must(t, s.p.RegisterDevice(ctx, "u0000", Device{Platform: "apns", Token: "u0001"}))
		}, []int{2, 0, 1, 1}, 4},
		"one gets another phone": {func(t *testing.T, s *phoneScene, _ string) {
			must(t, s.p.RegisterDevice(ctx, "u0001", Device{Platform: "apns", Token: "u0004"}))
		}, []int{2, 1, 1, 1, 1}, 4},
		"it is withdrawn": {func(t *testing.T, s *phoneScene, task string) {
			must(t, s.p.Withdraw(ctx, task))
		}, []int{2, 0, 0, 0}, 0}, // to take it away
		"it expires": {func(*testing.T, *phoneScene, string) {
			time.Sleep(time.Hour) // longer than the time-out of Send, which this one does not heed
		}, []int{1, 0, 0, 0}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newPhoneScene(t, 4)
				s.phones.RetryNext("u0000", 1, time.Minute)
				id := make(chan string, 1)
				s.during(func() { c.happens(t, s, <-id) })
				task := mustTask(t, s.p, notice(30*time.Minute))
				id <- task.ID
				must(t, task.Wait(ctx))
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				s.tried(t, c.want...)
				if g := progress(t, task); g.Pending != c.still {
					t.Fatalf("%+v", g)
				}
			})
		})
	}
}

// TestNotifiedForTheOwner: a notification names the user whose phone it is when its batch is made.
func TestNotifiedForTheOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		s := newPhoneScene(t, 3)
		s.during(func() { must(t, s.p.RegisterDevice(ctx, "u0002", Device{Platform: "apns", Token: "u0001"})) })
		must(t, mustTask(t, s.p, notice(week)).Wait(ctx))
		if shown := s.phones.Shown("u0001"); len(shown) != 1 || shown[0].UserID != "u0002" {
			t.Fatal(shown)
		}
	})
}

// TestExpiresBeforeTheGrace: a message that ends before phones have their turn never shows on one.
func TestExpiresBeforeTheGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		phones := transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}})
		importPhones(t, p, "apns", "a")
		task := mustTask(t, p, notice(9999*time.Millisecond))
		withdrawn := mustTask(t, p, notice(week))
		time.Sleep(5 * time.Second)
		must(t, p.Withdraw(ctx, withdrawn.ID))
		must(t, withdrawn.Wait(ctx))
		must(t, task.Wait(ctx))
		time.Sleep(time.Minute)
		if n := phones.Attempts("a"); n != 0 {
			t.Fatal("tries:", n)
		}
		if g := progress(t, task); g.Expired != 1 {
			t.Fatalf("%+v", g)
		}
	})
}

// TestDeadTokens: a token reported dead is removed, unless it was registered after it died, or again since the
// notification was sent.
func TestDeadTokens(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	phone := Device{Platform: "apns", Token: "u0000"}
	for name, c := range map[string]struct {
		since time.Duration // of the death, after the registration; negative: before it; 0: not said
		again func(t *testing.T, p *Pusher)
		stays string // with whom; empty: with nobody
	}{
		"does not say since when":                {0, nil, ""},
		"since it was registered":                {time.Minute, nil, ""},
		"since before it was registered":         {-time.Minute, nil, "u0000"},
		"registered again meanwhile":             {0, func(t *testing.T, p *Pusher) { must(t, p.RegisterDevice(ctx, "u0000", phone)) }, "u0000"},
		"registered again meanwhile, died since": {time.Minute, func(t *testing.T, p *Pusher) { must(t, p.RegisterDevice(ctx, "u0000", phone)) }, "u0000"},
		"moved meanwhile":                        {0, func(t *testing.T, p *Pusher) { must(t, p.RegisterDevice(ctx, "u0001", phone)) }, "u0001"},
		"moved there and back":                   {0, func(t *testing.T, p *Pusher) { movedBack(t, p, phone) }, "u0000"},
		"removed meanwhile":                      {0, func(t *testing.T, p *Pusher) { must(t, p.RemoveDevice(ctx, "u0000", "apns", "u0000")) }, ""},
		"unregistered meanwhile":                 {0, func(t *testing.T, p *Pusher) { must(t, p.Unregister(ctx, "u0000")) }, ""},
		"a new user of the same ID": {0, func(t *testing.T, p *Pusher) {
			must(t, p.Unregister(ctx, "u0000"))
			must(t, p.Register(ctx, "u0000"))
			must(t, p.RegisterDevice(ctx, "u0000", phone))
		}, "u0000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				registered := time.Now()
				s := newPhoneScene(t, 1)
				must(t, s.p.Register(ctx, "u0001"))
				time.Sleep(10 * time.Minute)
				var died time.Time
				if c.since != 0 {
					died = registered.Add(c.since)
				}
				s.phones.Kill(died, "u0000")
				s.during(func() {
					time.Sleep(time.Second)
					if c.again != nil {
						c.again(t, s.p)
					}
				})
				task := mustTask(t, s.p, notice(week))
				must(t, task.Wait(ctx))
				synctest.Wait()
				for _, user := range []string{"u0000", "u0001"} {
					want := 0
					if user == c.stays {
						want = 1
					}
					n, err := s.p.Count(ctx, Platform("apns").And(Users(user)))
					if err != nil || n != int64(want) {
						t.Errorf("%s is on the platform: %d, %v", user, n, err)
					}
					if d, err := s.p.Devices(ctx, user); err == nil && len(d) != want {
						t.Errorf("%s: %v", user, d)
					}
				}
				if g := progress(t, task).Phones["apns"]; !sameStats(g, PhoneStats{Sent: 1, Unregistered: 1}) {
					t.Errorf("%+v", g)
				}
			})
		})
	}
}

func movedBack(t *testing.T, p *Pusher, d Device) {
	t.Helper()
	must(t, p.RegisterDevice(context.Background(), "u0001", d))
	must(t, p.RegisterDevice(context.Background(), "u0000", d))
}

// TestDeadTokensOfManyPhones: of a user with several phones, and of many users, only the dead ones go.
func TestDeadTokensOfManyPhones(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		phones := transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}, Grace: -1})
		ids := numberedUsers(250)
		importPhones(t, p, "apns", ids...)
		for i, id := range ids[:240] {
			if i%3 == 0 {
				must(t, p.RegisterDevice(ctx, id, Device{Platform: "apns", Token: "second " + id}))
			}
			phones.Kill(time.Time{}, id)
		}
		time.Sleep(time.Second)
		task := mustTask(t, p, notice(week))
		must(t, task.Wait(ctx))
		if n, err := p.Count(ctx, Platform("apns")); err != nil || n != 90 {
			t.Fatal(n, err)
		}
		if g := progress(t, task).Phones["apns"]; !sameStats(g, PhoneStats{Sent: 330, Accepted: 90, Unregistered: 240}) {
			t.Fatalf("%+v", g)
		}
	})
}
