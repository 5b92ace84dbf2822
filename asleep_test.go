package fanfare

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// nightDay is a day whose hours, by UTC, these tests count from its midnight. At 14:30 it is 23:30 in Tokyo, 22:30 in Shanghai, 15:30 in Berlin and 9:30 in New York.
var nightDay = time.Date(2000, 1, 3, 0, 0, 0, 0, time.UTC)

func sleepUntil(hour float64) {
	time.Sleep(time.Until(nightDay.Add(time.Duration(hour * float64(time.Hour)))))
}

// nightLog notes at what hours each user is notified on each platform.
type nightLog struct {
	mu   sync.Mutex
	at   map[string][]float64
	size int // of batches
	// answer, if there is one, says what becomes of a notification.
	answer func(n transport.Notification) transport.Result
}

func (l *nightLog) phones(platform string) *transporttest.Phones {
	phones := transporttest.NewPhones(platform)
	phones.SetBatchSize(l.size)
	phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		list := make([]transport.Result, len(batch))
		for i, n := range batch {
			list[i].Outcome = transport.Accepted
			if l.answer != nil {
				list[i] = l.answer(n)
			}
			if list[i].Outcome == transport.Accepted {
				key := platform + " " + n.Device.Token
				l.at[key] = append(l.at[key], math.Round(time.Since(nightDay).Hours()*100)/100)
			}
		}
		return list, true
	})
	return phones
}

// want wants a phone to have been notified once, at an hour or so many hours later at most.
func (l *nightLog) want(t *testing.T, phone string, hour, within float64) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := l.at[phone]; len(at) != 1 || at[0] < hour || at[0] > hour+within {
		t.Errorf("%s was notified at %v, not at %v", phone, at, hour)
	}
}

// notified returns when each phone was, of all that were.
func (l *nightLog) notified() map[string][]float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.at)
}

func newNightLog(size int) *nightLog { return &nightLog{at: make(map[string][]float64), size: size} }

var nightly = QuietHours{From: 22 * time.Hour, To: 8 * time.Hour}

// TestMoveAtNight: whoever moves to another time zone while a task waits is notified once, on each phone: if it was when the move came, not again, and else when it is day where the user is.
func TestMoveAtNight(t *testing.T) {
	t.Parallel()
	const tokyo, shanghai, berlin, newYork = "Asia/Tokyo", "Asia/Shanghai", "Europe/Berlin", "America/New_York"
	type move struct {
		hour float64
		zone string
	}
	users := []struct {
		name, zone   string
		moves        []move
		want, within float64
	}{
		{"stays awake", berlin, nil, 14.5, 0},
		{"stays asleep", tokyo, nil, 23, 0},
		{"sleeps longer", shanghai, nil, 24, 0},
		{"goes to bed", berlin, []move{{15, tokyo}}, 14.5, 0},
		{"goes to bed and gets up", newYork, []move{{15, tokyo}, {22.8, berlin}}, 14.5, 0},
		{"moves after the turn", tokyo, []move{{23.2, shanghai}}, 23, 0},
		{"moves after the turn to the next night", tokyo, []move{{23.2, berlin}}, 23, 0},
		{"moves to where it is day", tokyo, []move{{15, newYork}}, 15, 1},
		{"moves to where it is day and back", tokyo, []move{{15, newYork}, {15.2, tokyo}}, 23, 0},
		{"moves to where it is day and back after the turn", shanghai, []move{{15, berlin}, {17, shanghai}}, 15, 1},
		{"moves west", tokyo, []move{{22.9, shanghai}}, 24, 0},
		{"moves east", shanghai, []move{{22.9, tokyo}}, 23, 0},
		{"moves to where the night has begun since", tokyo, []move{{22.9, berlin}}, 31, 0},
		{"moves on", tokyo, []move{{22.9, shanghai}, {23.9, berlin}, {30.9, newYork}}, 37, 0},
		{"moves to nowhere", shanghai, []move{{16, "Mars/Olympus"}}, 16, 1},
	}
	for _, c := range []struct {
		always  bool
		reopens []float64
	}{{}, {always: true}, {reopens: []float64{14.8, 22.95, 23.1, 24.2}}, {always: true, reopens: []float64{15.3, 30}}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir, log := t.TempDir(), newNightLog(2)
				open := func() *Pusher {
					return testPusher(t, dir, Options{Mobile: []transport.Mobile{log.phones("apns"), log.phones("fcm")}, Grace: -1, blockBits: 2, DeltaEntries: 20, Quiet: nightly})
				}
				p := open()
				moveTo := func(user, zone string) {
					t.Helper()
					for _, platform := range []string{"apns", "fcm"} {
						must(t, p.RegisterDevice(t.Context(), user, Device{Platform: platform, Token: user, TimeZone: zone}))
					}
				}
				for _, u := range users {
					must(t, p.Register(t.Context(), u.name))
					moveTo(u.name, u.zone)
				}
				type event struct {
					hour float64
					do   func()
				}
				var events []event
				for _, u := range users {
					for _, m := range u.moves {
						events = append(events, event{m.hour, func() { moveTo(u.name, m.zone) }})
					}
				}
				for _, hour := range c.reopens {
					events = append(events, event{hour, func() {
						must(t, p.Close(t.Context()))
						p = open()
					}})
				}
				slices.SortStableFunc(events, func(x, y event) int { return cmp.Compare(x.hour, y.hour) })
				sleepUntil(14.5)
				m := notice(week)
				m.Notification.Always = c.always
				id := mustTask(t, p, m).ID
				for _, e := range events {
					sleepUntil(e.hour)
					synctest.Wait()
					e.do()
				}
				sleepUntil(60)
				synctest.Wait()
				for _, u := range users {
					for _, platform := range []string{"apns", "fcm"} {
						log.want(t, platform+" "+u.name, u.want, u.within)
					}
				}
				task, err := p.Task(t.Context(), id)
				must(t, err)
				must(t, task.Wait(t.Context()))
				if g := progress(t, task); g.Phones["apns"].Sent != int64(len(users)) || g.Phones["fcm"].Accepted != int64(len(users)) {
					t.Errorf("%+v", g)
				}
			})
		})
	}
}

// TestKilledAtNight kills the process while a batch is under way, at each batch of the first way through a task's users and of those through who was asleep: the next process sends that
// one again, goes on from there, and notifies no other twice and everybody once.
func TestKilledAtNight(t *testing.T) {
	t.Parallel()
	zones := []string{"Europe/Berlin", "Asia/Tokyo", "Asia/Shanghai"}
	turns := map[string]float64{"Europe/Berlin": 14.5, "Asia/Tokyo": 23, "Asia/Shanghai": 24}
	const users, size = 14, 2
	for kill := 1; kill <= 3+3+2; kill++ {
		t.Run(fmt.Sprint(kill), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				base := t.TempDir()
				dir, killed := filepath.Join(base, "dir"), filepath.Join(base, "killed")
				o := Options{Grace: -1, blockBits: 2, DeltaEntries: 3, Quiet: nightly}
				phones := transporttest.NewPhones("apns")
				phones.SetBatchSize(size)
				done := make(map[string]bool)
				sent, reached := 0, make(chan struct{})
				phones.OnSend(func(ctx context.Context, batch []transport.Notification) ([]transport.Result, bool) {
					if sent++; sent == kill {
						must(t, copyAsKilled(dir, killed))
						close(reached)
						<-ctx.Done()
					}
					for _, n := range batch {
						done[n.Device.Token] = sent < kill
					}
					return nil, false
				})
				o.Mobile = []transport.Mobile{phones}
				p := testPusher(t, dir, o)
				for i := range users {
					name := fmt.Sprintf("u%02d", i)
					must(t, p.Register(t.Context(), name))
					must(t, p.RegisterDevice(t.Context(), name, Device{Platform: "apns", Token: name, TimeZone: zones[i%len(zones)]}))
				}
				sleepUntil(14.5)
				id := mustTask(t, p, notice(week)).ID
				<-reached
				must(t, p.Close(t.Context()))

				log := newNightLog(size)
				o.Mobile = []transport.Mobile{log.phones("apns")}
				q := testPusher(t, killed, o)
				sleepUntil(40)
				synctest.Wait()
				for i := range users {
					name := fmt.Sprintf("u%02d", i)
					if done[name] {
						if at := log.notified()["apns "+name]; at != nil {
							t.Errorf("%s was notified again at %v", name, at)
						}
						continue
					}
					log.want(t, "apns "+name, turns[zones[i%len(zones)]], 0)
				}
				task, err := q.Task(t.Context(), id)
				must(t, err)
				must(t, task.Wait(t.Context()))
				if g := progress(t, task).Phones["apns"]; g.Sent != users {
					t.Errorf("%+v", g)
				}
			})
		})
	}
}

// TestRetriesThatSleep: when a service fails as a night begins, as many as may wait for another try wait for the morning, and hold up neither those whose day it is nor those who sleep. Each phone is notified once, also
// where one of a user's two is tried again and the other has it.
func TestRetriesThatSleep(t *testing.T) {
	t.Parallel()
	for _, always := range []bool{false, true} {
		t.Run(fmt.Sprint(always), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := newNightLog(phoneBatch)
				attempts := make(map[string]int)
				log.answer = func(n transport.Notification) transport.Result {
					attempts[n.Device.Token] = n.Attempt
					if at := time.Since(nightDay).Hours(); n.Attempt == 1 && at < 13 && n.Device.Token != "u0000, other" {
						return transport.Result{Outcome: transport.Retry, RetryAfter: 15 * time.Minute}
					}
					return transport.Result{Outcome: transport.Accepted}
				}
				p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{log.phones("apns")}, Grace: -1, Quiet: nightly})
				const asleep, awake = maxRetries + 2*phoneBatch, 50
				ids := numberedUsers(asleep + awake)
				_, err := p.Import(t.Context(), func(yield func(User, error) bool) {
					for i, id := range ids {
						zone := "Asia/Tokyo"
						if i >= asleep {
							zone = "Europe/Berlin"
						}
						u := User{ID: id, Devices: []Device{{Platform: "apns", Token: id, TimeZone: zone}}}
						if i == 0 {
							u.Devices = append(u.Devices, Device{Platform: "apns", Token: id + ", other", TimeZone: zone})
						}
						if !yield(u, nil) {
							return
						}
					}
				}, nil)
				must(t, err)
				sleepUntil(12.9) // 21:54 in Tokyo
				m := notice(week)
				m.Notification.Always = always
				task := mustTask(t, p, m)
				sleepUntil(22.9)
				synctest.Wait()
				for _, id := range ids[asleep:] {
					log.want(t, "apns "+id, 13.15, 0)
				}
				log.want(t, "apns u0000, other", 12.9, 0)
				must(t, task.Wait(t.Context()))
				tried := 0
				for _, id := range ids[:asleep] {
					log.want(t, "apns "+id, 23, 0)
					tried += attempts[id] - 1
				}
				if tried < maxRetries || tried > maxRetries+phoneBatch {
					t.Error("tried before the night:", tried)
				}
				if g := progress(t, task).Phones["apns"]; g.Retried != int64(tried) || g.Accepted != asleep+awake+1 {
					t.Errorf("%+v", g)
				}
			})
		})
	}
}

// TestSleepersInSeveralZones: who has devices in several zones is notified when the last of the nights has ended that it was when the task came, also where it is always night in one of them.
func TestSleepersInSeveralZones(t *testing.T) {
	t.Parallel()
	const tokyo, shanghai, london, honolulu, newYork = "Asia/Tokyo", "Asia/Shanghai", "Europe/London", "Pacific/Honolulu", "America/New_York"
	users := []struct {
		name  string
		zones []string
		want  float64
	}{
		{"tokyo, new york", []string{tokyo, newYork}, 23},
		{"new york, tokyo", []string{newYork, tokyo}, 23},
		{"tokyo, shanghai", []string{tokyo, shanghai}, 24},
		{"tokyo, london", []string{tokyo, london}, 23}, // where it is night by then
		{"always night", []string{london, honolulu, tokyo}, 23},
		{"new york", []string{newYork}, 14.5},
		{"london, new york", []string{london, newYork}, 14.5},
		{"tokyo, nowhere", []string{"", tokyo}, 23},
		{"honolulu", []string{honolulu}, 18},
	}
	synctest.Test(t, func(t *testing.T) {
		log := newNightLog(1)
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{log.phones("apns")}, Grace: -1, blockBits: 2, Quiet: QuietHours{From: 20 * time.Hour, To: 8 * time.Hour}})
		for _, u := range users {
			must(t, p.Register(t.Context(), u.name))
			for i, zone := range u.zones {
				must(t, p.RegisterDevice(t.Context(), u.name, Device{Platform: "apns", Token: fmt.Sprint(u.name, i), TimeZone: zone}))
			}
		}
		sleepUntil(14.5)
		must(t, mustTask(t, p, notice(week)).Wait(t.Context()))
		for _, u := range users {
			for i := range u.zones {
				log.want(t, fmt.Sprint("apns ", u.name, i), u.want, 0)
			}
		}
	})
}

// TestSleepersOverDaylightSaving: who is asleep when clocks are set forward or back has the notification at the end of the night by the clock on the wall.
func TestSleepersOverDaylightSaving(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ push, end string }{
		{"2000-04-01T23:00:00-05:00", "2000-04-02T08:00:00-04:00"},
		{"2000-10-28T23:00:00-04:00", "2000-10-29T08:00:00-05:00"},
	} {
		t.Run(c.push, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				push, err := time.Parse(time.RFC3339, c.push)
				must(t, err)
				end, err := time.Parse(time.RFC3339, c.end)
				must(t, err)
				time.Sleep(time.Until(push))
				log := newNightLog(1)
				p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{log.phones("apns")}, Grace: -1, Quiet: nightly})
				must(t, p.Register(t.Context(), "a"))
				must(t, p.RegisterDevice(t.Context(), "a", Device{Platform: "apns", Token: "a", TimeZone: "America/New_York"}))
				must(t, mustTask(t, p, notice(week)).Wait(t.Context()))
				log.want(t, "apns a", end.Sub(nightDay).Hours(), 0)
			})
		})
	}
}

// TestEndAtNight: what is withdrawn, expires, or is got by its user while it is night notifies nobody in the morning, nor does it where the user is unregistered. [Pusher.Check] at the end finds nobody left asleep.
func TestEndAtNight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, rec := newNightLog(1), new(transporttest.Recorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec, Mobile: []transport.Mobile{log.phones("apns"), log.phones("fcm")}, Grace: -1, blockBits: 1, Quiet: nightly})
		for _, user := range []string{"a", "gone", "reader", "b"} {
			must(t, p.Register(t.Context(), user))
			for _, platform := range []string{"apns", "fcm"} {
				must(t, p.RegisterDevice(t.Context(), user, Device{Platform: platform, Token: user}))
			}
		}
		sleepUntil(23)
		for _, always := range []bool{false, true} {
			m := notice(week)
			m.Notification.Always = always
			withdrawn := mustTask(t, p, m)
			m.Lifetime = 2 * time.Hour
			mustTask(t, p, m)
			synctest.Wait()
			must(t, p.Withdraw(t.Context(), withdrawn.ID))
		}
		stays := mustTask(t, p, notice(week))
		sleepUntil(26)
		must(t, p.Check(t.Context()))
		must(t, p.Unregister(t.Context(), "gone"))
		reader := connect(t, p, rec, "reader")
		synctest.Wait()
		must(t, reader.Close())
		must(t, stays.Wait(t.Context()))
		for _, platform := range []string{"apns", "fcm"} {
			log.want(t, platform+" a", 32, 0)
			log.want(t, platform+" b", 32, 0)
		}
		if at := log.notified(); len(at) != 4 {
			t.Error("notified:", at)
		}
	})
}

// TestNewPhoneAtNight: who is asleep and has no phone for a while has the notification in the morning on another, as long as it is night where those without devices are.
func TestNewPhoneAtNight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newNightLog(1)
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{log.phones("apns")}, Grace: -1, Quiet: QuietHours{From: nightly.From, To: nightly.To, Zone: "Asia/Shanghai"}})
		must(t, p.Register(t.Context(), "a"))
		must(t, p.RegisterDevice(t.Context(), "a", Device{Platform: "apns", Token: "old", TimeZone: "Asia/Tokyo"}))
		sleepUntil(14.5)
		task := mustTask(t, p, notice(week))
		sleepUntil(15)
		must(t, p.RemoveDevice(t.Context(), "a", "apns", "old"))
		sleepUntil(18)
		must(t, p.RegisterDevice(t.Context(), "a", Device{Platform: "apns", Token: "new", TimeZone: "Asia/Tokyo"}))
		must(t, task.Wait(t.Context()))
		log.want(t, "apns new", 23, 0)
		if at := log.notified(); len(at) != 1 {
			t.Error("notified:", at)
		}
	})
}

// TestNobodyIsAwake: an hour in which nobody gets up writes nothing.
func TestNobodyIsAwake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := newNightLog(1)
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{log.phones("apns")}, Grace: -1, Quiet: nightly})
		importPhones(t, p, "apns", "a", "b")
		sleepUntil(22)
		task := mustTask(t, p, notice(week))
		synctest.Wait()
		before, err := p.Stats(t.Context())
		must(t, err)
		sleepUntil(31.9)
		synctest.Wait()
		after, err := p.Stats(t.Context())
		must(t, err)
		if after.Position != before.Position || len(log.notified()) > 0 {
			t.Errorf("%d commits; notified: %v", after.Position-before.Position, log.notified())
		}
		must(t, task.Wait(t.Context()))
		log.want(t, "apns b", 32, 0)
	})
}
