package fanfare

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// importPhones registers users with one phone each, whose token is the user's ID.
func importPhones(t testing.TB, p *Pusher, platform string, ids ...string) {
	t.Helper()
	_, err := p.Import(context.Background(), func(yield func(User, error) bool) {
		for _, id := range ids {
			if !yield(User{ID: id, Devices: []Device{{Platform: platform, Token: id}}}, nil) {
				return
			}
		}
	}, nil)
	must(t, err)
}

// notice is a message to all that phones show.
func notice(lifetime time.Duration) Message {
	return Message{Body: []byte("x"), To: All(), Lifetime: lifetime, Notification: &Notification{Title: "t"}}
}

// phoneTry is a notification that came to a service.
type phoneTry struct {
	token   string
	attempt int
	at      time.Duration
}

// tryLog notes each try for a phone.
type tryLog struct {
	mu    sync.Mutex
	from  time.Time // of the first watch
	tries []phoneTry
}

// watch begins to note what comes to a service.
func (l *tryLog) watch(phones *transporttest.Phones) {
	if l.from.IsZero() {
		l.from = time.Now()
	}
	phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, n := range batch {
			l.tries = append(l.tries, phoneTry{n.Device.Token, n.Attempt, time.Since(l.from)})
		}
		return nil, false
	})
}

// take returns what was noted since the last time.
func (l *tryLog) take() []phoneTry {
	l.mu.Lock()
	defer l.mu.Unlock()
	tries := l.tries
	l.tries = nil
	return tries
}

// TestRetriesBackOff: what is answered "try again" is tried ten times, after pauses that double from two seconds on, give or
// take a quarter, and then given up.
func TestRetriesBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		phones := transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}})
		importPhones(t, p, "apns", "busy", "well")
		phones.RetryNext("busy", 1000, 0)
		var log tryLog
		log.watch(phones)
		task := mustTask(t, p, notice(week))
		must(t, task.Wait(context.Background()))
		synctest.Wait()
		tries := log.take()
		if len(tries) < 2 || tries[0] != (phoneTry{"busy", 1, 10 * time.Second}) || tries[1] != (phoneTry{"well", 1, 10 * time.Second}) {
			t.Fatal(tries)
		}
		tries = slices.Delete(tries, 1, 2)
		if len(tries) != 10 {
			t.Fatal(tries)
		}
		for i, x := range tries[1:] {
			pause, least := x.at-tries[i].at, 2*time.Second<<i
			if x.token != "busy" || x.attempt != i+2 || pause < least || pause > least*5/4+time.Millisecond {
				t.Fatalf("try %d: %+v after %v, not %v", i+2, x, pause, least)
			}
		}
		want := PhoneStats{Sent: 11, Accepted: 1, Retried: 10, GaveUp: 1}
		if g := progress(t, task); !sameStats(g.Phones["apns"], want) || g.Pending != 2 {
			t.Fatalf("%+v", g)
		}
		time.Sleep(time.Hour)
		if tries := log.take(); len(tries) > 0 {
			t.Fatal("tried again:", tries)
		}
	})
}

// TestRetryAfterIsHonoured: a service that says when is not asked before, nor after the message's end. Others do not wait
// for it, neither those of the same task nor other tasks.
func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		phones := transporttest.NewPhones("apns")
		phones.SetBatchSize(2)
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}, Grace: -1})
		importPhones(t, p, "apns", "a", "b", "c", "d")
		phones.RetryNext("a", 2, 90*time.Second)
		phones.RetryNext("b", 1, 45*time.Minute)
		phones.RetryNext("c", 1, time.Hour) // when the message ends
		var log tryLog
		log.watch(phones)
		first := mustTask(t, p, notice(time.Hour))
		synctest.Wait()
		phones.RetryNext("d", 1, 10*time.Second)
		second := mustTask(t, p, notice(time.Hour))
		must(t, first.Wait(context.Background()))
		must(t, second.Wait(context.Background()))
		byToken := map[string][]phoneTry{}
		for _, x := range log.take() {
			byToken[x.token] = append(byToken[x.token], x)
		}
		for token, want := range map[string][]phoneTry{
			"a": {{"a", 1, 0}, {"a", 1, 0}, {"a", 2, 90 * time.Second}, {"a", 2, 90 * time.Second}},
			"b": {{"b", 1, 0}, {"b", 1, 0}, {"b", 2, 45 * time.Minute}},
			"c": {{"c", 1, 0}, {"c", 1, 0}},
			"d": {{"d", 1, 0}, {"d", 1, 0}, {"d", 2, 10 * time.Second}},
		} {
			if !slices.Equal(byToken[token], want) {
				t.Errorf("%s: %v, not %v", token, byToken[token], want)
			}
		}
	})
}

// TestTooManyRetries: when as many notifications of a task wait for another try as may, the rest of its users wait too, and
// another task goes on. As soon as some are settled, so does the first.
func TestTooManyRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		phones := transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}, Grace: -1})
		ids := numberedUsers(maxRetries + 100)
		importPhones(t, p, "apns", ids...)
		importPhones(t, p, "apns", "other")
		phones.Overload(maxRetries/phoneBatch, time.Hour)
		first := notice(week)
		first.To = Users("other").Not()
		task := mustTask(t, p, first)
		synctest.Wait()
		if n := len(phones.Batches()); n != maxRetries/phoneBatch || phones.Total() != 0 {
			t.Fatal("batches:", n, "shown:", phones.Total())
		}
		second := notice(week)
		second.To = Users("other")
		must(t, mustTask(t, p, second).Wait(ctx))
		if len(phones.Shown("other")) != 1 || phones.Attempts(ids[maxRetries]) != 0 {
			t.Fatal("the other task waits, or the first does not")
		}
		time.Sleep(59 * time.Minute)
		if phones.Total() != 1 {
			t.Fatal("before its time")
		}
		must(t, task.Wait(ctx))
		synctest.Wait()
		for i, id := range ids {
			want := 2
			if i >= maxRetries {
				want = 1
			}
			if len(phones.Shown(id)) != 1 || phones.Attempts(id) != want {
				t.Fatalf("%s: shown %d times in %d tries", id, len(phones.Shown(id)), phones.Attempts(id))
			}
		}
		if g := progress(t, task).Phones["apns"]; g.Sent != 2*maxRetries+100 || g.Accepted != maxRetries+100 {
			t.Fatalf("%+v", g)
		}
	})
}

// TestBatchSize: a transport says how large a batch may be, up to a bound, and a user with many phones does not make one
// larger.
func TestBatchSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size, users int
		want        []int
	}{{3, 5, []int{3, 1, 3, 1, 2}}, {0, 300, []int{500, 100}}, {-1, 251, []int{500, 2}}, {1 << 20, 1001, []int{2000, 2}}} {
		t.Run(strconv.Itoa(c.size), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				phones := transporttest.NewPhones("apns")
				phones.SetBatchSize(c.size)
				p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}, Grace: -1})
				_, err := p.Import(context.Background(), func(yield func(User, error) bool) {
					for i := range c.users {
						u := User{ID: fmt.Sprint(i), Devices: []Device{{Platform: "apns", Token: fmt.Sprint(i)}, {Platform: "apns", Token: fmt.Sprint(i, "too")}}}
						if !yield(u, nil) {
							return
						}
					}
				}, nil)
				must(t, err)
				task := mustTask(t, p, notice(week))
				must(t, task.Wait(context.Background()))
				sum := 0
				for _, n := range phones.Batches() {
					sum += n
				}
				if !slices.Equal(phones.Batches(), c.want) || sum != 2*c.users || phones.Total() != sum {
					t.Fatal(phones.Batches())
				}
				if c.size <= 500 && len(phones.Violations()) > 0 {
					t.Fatal(phones.Violations())
				}
			})
		})
	}
}
