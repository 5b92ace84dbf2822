package fanfare

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// now is a message without retention.
func now(body string) Message { return Message{Body: []byte(body), To: All()} }

// later is one that waits for those who are away.
func later(body string) Message { return Message{Body: []byte(body), To: All(), Lifetime: week} }

// wantEnd wants a task without retention to be over, with so many who have it and so many for whom the transport failed.
func wantEnd(t testing.TB, task *Task, delivered, failed int64) {
	t.Helper()
	g := progress(t, task)
	if g.Ended.IsZero() || g.Delivered != delivered || g.Failed != failed || g.Expired != g.Total-delivered-failed || g.Pending+g.Withdrawn+g.Gone != 0 {
		t.Fatalf("%s: %+v, not %d delivered and %d failed", task.Info().Accepted.Format(time.TimeOnly), g, delivered, failed)
	}
}

// catchingUp is a user, a, whose catch-up has come to its first message and stays there until release.
func catchingUp(t *testing.T, o Options) (p *Pusher, rec *transporttest.Recorder, s *Session, release func()) {
	rec = new(transporttest.Recorder)
	o.Online = rec
	p = testPusher(t, t.TempDir(), o)
	must(t, p.Register(context.Background(), "a"))
	mustTask(t, p, later("1"))
	mustTask(t, p, later("2"))
	release = rec.Block("a")
	s = connect(t, p, rec, "a")
	synctest.Wait()
	return p, rec, s, release
}

// TestNowWhileCatchingUp: who is just logging in gets a message without retention in its place in the sequence.
func TestNowWhileCatchingUp(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			p, rec, _, release := catchingUp(t, Options{Workers: workers, DeliverTimeout: time.Hour})
			tasks := []*Task{mustTask(t, p, now("now 3"))}
			mustTask(t, p, later("4"))
			tasks = append(tasks, mustTask(t, p, now("now 5")), mustTask(t, p, now("now 6")))
			mustTask(t, p, later("7"))
			synctest.Wait()
			if g := progress(t, tasks[0]); workers > 1 && (g.Total != 1 || g.Delivered != 0 || !g.Ended.IsZero()) {
				t.Fatalf("%+v", g)
			}
			release()
			for _, task := range tasks {
				must(t, task.Wait(ctx))
			}
			synctest.Wait()
			wantBodies(t, rec, "a", "1", "2", "now 3", "4", "now 5", "now 6", "7")
			for _, task := range tasks {
				wantEnd(t, task, 1, 0)
			}
		})
	}
}

// TestDrain: a process that is to end can wait for what would not go on at the next Open, and for nothing else.
func TestDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		p, rec, _, release := catchingUp(t, Options{Workers: 4, DeliverTimeout: time.Hour})
		must(t, p.Drain(ctx)) // for nothing: what waits has a lifetime
		task := mustTask(t, p, now("now 3"))
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := p.Drain(short); err != context.DeadlineExceeded {
			t.Fatal(err)
		}
		drained := make(chan error)
		go func() { drained <- p.Drain(ctx) }()
		synctest.Wait()
		select {
		case err := <-drained:
			t.Fatal("drained too early:", err)
		default:
		}
		release()
		must(t, <-drained)
		wantEnd(t, task, 1, 0)
		if got := bodies(rec.Received("a")); !slices.Contains(got, "now 3") {
			t.Fatal(got)
		}
	})
}

// TestTooMuchNowWhileCatchingUp: of more than sixteen such messages that wait for one user the oldest fail.
func TestTooMuchNowWhileCatchingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		p, rec, _, release := catchingUp(t, Options{Workers: 2, DeliverTimeout: time.Hour})
		connect(t, p, rec, "b") // is live, and not in the way
		synctest.Wait()
		want := []string{"1", "2"}
		var tasks []*Task
		for i := range maxFleeting + 3 {
			body := fmt.Sprint("now ", i)
			tasks = append(tasks, mustTask(t, p, now(body)))
			synctest.Wait()
			if i >= 3 {
				want = append(want, body)
			}
			if i >= maxFleeting { // the oldest is over
				over := tasks[i-maxFleeting]
				must(t, over.Wait(ctx))
				synctest.Wait()
				wantEnd(t, over, 1, 1)
			}
		}
		release()
		synctest.Wait()
		wantBodies(t, rec, "a", want...)
		for i, task := range tasks {
			must(t, task.Wait(ctx))
			if synctest.Wait(); i < 3 {
				wantEnd(t, task, 1, 1)
			} else {
				wantEnd(t, task, 2, 0)
			}
		}
		if n := len(rec.Received("b")); n != maxFleeting+3 {
			t.Fatal(n)
		}
	})
}

// TestNowIsTriedOnce: a message without retention that fails is not tried again, on this connection, on the next, or by the
// next process.
func TestNowIsTriedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := context.Background(), t.TempDir()
		rec := new(transporttest.Recorder)
		p := testPusher(t, dir, Options{Online: rec, Workers: 2})
		must(t, p.Register(ctx, "away", "fails", "panics", "well"))
		sessions := map[string]*Session{}
		for _, u := range []string{"fails", "panics", "well"} {
			sessions[u] = connect(t, p, rec, u)
		}
		synctest.Wait()
		rec.FailNext("fails", 1, nil)
		rec.PanicNext("panics", 1, "as told")
		task := mustTask(t, p, now("x"))
		must(t, task.Wait(ctx))
		time.Sleep(time.Minute)
		wantEnd(t, task, 1, 2)
		for u, s := range sessions {
			must(t, s.Close())
			connect(t, p, rec, u)
		}
		connect(t, p, rec, "away")
		time.Sleep(time.Minute)
		for u, want := range map[string]int{"away": 0, "fails": 1, "panics": 1, "well": 1} {
			if n := rec.Attempts(u); n != want {
				t.Errorf("%s: %d tries", u, n)
			}
		}
		for m, err := range p.Pending(ctx, "away") {
			t.Error("pending:", m, err)
		}
		// Such a user is live all the same.
		mustTask(t, p, now("y"))
		synctest.Wait()
		wantBodies(t, rec, "fails", "y")
		must(t, p.Close(ctx))

		rec = new(transporttest.Recorder)
		p = testPusher(t, dir, Options{Online: rec})
		connect(t, p, rec, "fails")
		connect(t, p, rec, "away")
		time.Sleep(time.Minute)
		if rec.TotalAttempts() != 0 {
			t.Fatal(rec.TotalAttempts())
		}
	})
}

// TestNowAndUsersInTrouble: a message without retention fails for who is stuck in a call or is in a pause after errors,
// and for who leaves or is unregistered with it still queued.
func TestNowAndUsersInTrouble(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct {
		trouble func(t *testing.T, p *Pusher, rec *transporttest.Recorder) (then func())
		failed  int64
	}{
		"stuck": {func(t *testing.T, p *Pusher, rec *transporttest.Recorder) func() {
			release := rec.Hang("a")
			mustTask(t, p, later("hangs"))
			time.Sleep(time.Minute)
			return release
		}, 1},
		"pause": {func(t *testing.T, p *Pusher, rec *transporttest.Recorder) func() {
			rec.FailNext("a", 1, nil) // after which all would be well
			mustTask(t, p, later("fails"))
			synctest.Wait()
			return func() {}
		}, 1},
		"none": {func(*testing.T, *Pusher, *transporttest.Recorder) func() { return func() {} }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rec := new(transporttest.Recorder)
				p := testPusher(t, t.TempDir(), Options{Online: rec, Workers: 2})
				must(t, p.Register(ctx, "a"))
				connect(t, p, rec, "a")
				synctest.Wait()
				then := c.trouble(t, p, rec)
				task := mustTask(t, p, now("x"))
				must(t, task.Wait(ctx))
				synctest.Wait()
				wantEnd(t, task, 1-c.failed, c.failed)
				then()
				time.Sleep(time.Minute)
				if got := slices.Contains(bodies(rec.Received("a")), "x"); got != (c.failed == 0) {
					t.Fatal(bodies(rec.Received("a")))
				}
			})
		})
	}
	for name, leave := range map[string]func(t *testing.T, p *Pusher, s *Session){
		"leaves":          func(t *testing.T, _ *Pusher, s *Session) { must(t, s.Close()) },
		"is unregistered": func(t *testing.T, p *Pusher, _ *Session) { must(t, p.Unregister(ctx, "a")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, rec, s, release := catchingUp(t, Options{Workers: 2, DeliverTimeout: time.Hour})
				task := mustTask(t, p, now("x"))
				synctest.Wait()
				leave(t, p, s)
				must(t, task.Wait(ctx))
				synctest.Wait()
				wantEnd(t, task, 0, 1)
				release()
				synctest.Wait()
				wantBodies(t, rec, "a", "1") // whose delivery had begun
			})
		})
	}
}

// TestNowIsWithdrawn where it has not been: from the queue of who is catching up, and from those whose turn is to come.
func TestNowIsWithdrawn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		p, rec, _, release := catchingUp(t, Options{Workers: 2, DeliverTimeout: time.Hour})
		connect(t, p, rec, "b")
		connect(t, p, rec, "c")
		synctest.Wait()
		releaseB := rec.Block("b")
		task := mustTask(t, p, now("x"))
		synctest.Wait()
		must(t, p.Withdraw(ctx, task.ID))
		releaseB()
		release()
		must(t, task.Wait(ctx))
		synctest.Wait()
		wantBodies(t, rec, "a", "1", "2")
		wantBodies(t, rec, "b", "x") // had begun
		wantBodies(t, rec, "c")
		wantEnd(t, task, 1, 1)
		must(t, p.Withdraw(ctx, task.ID)) // which changes nothing
		wantEnd(t, task, 1, 1)
	})
}

// TestNowAndPhones: a notification that is given with lifetime 0 goes to nobody.
func TestNowAndPhones(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		phones := transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}, Grace: -1})
		importPhones(t, p, "apns", "a")
		task := mustTask(t, p, notice(0))
		must(t, task.Wait(ctx))
		time.Sleep(time.Minute)
		if g := progress(t, task); phones.Attempts("a") != 0 || len(g.Phones) != 0 || g.Expired != 1 {
			t.Fatalf("%d tries, %+v", phones.Attempts("a"), g)
		}
	})
}

// TestNowEndsWithItsProcess: with Close its task ends with what it had, after a crash with nothing, and the next process
// sends nothing of it.
func TestNowEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"close", "kill"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, base := context.Background(), t.TempDir()
				dir, killed := filepath.Join(base, "dir"), filepath.Join(base, "killed")
				rec := new(transporttest.Recorder)
				p := testPusher(t, dir, Options{Online: rec, Workers: 1, DeliverTimeout: time.Hour})
				for _, u := range []string{"a", "b", "c"} {
					connect(t, p, rec, u)
				}
				must(t, p.Register(ctx, "away"))
				synctest.Wait()
				rec.Block("b") // until Close
				id := mustTask(t, p, now("x")).ID
				synctest.Wait()
				wantBodies(t, rec, "a", "x")
				want := int64(1)
				if how == "kill" {
					must(t, copyAsKilled(dir, killed))
					want = 0
				}
				must(t, p.Close(ctx))
				if how == "kill" {
					dir = killed
				}
				rec = new(transporttest.Recorder)
				p = testPusher(t, dir, Options{Online: rec})
				task, err := p.Task(ctx, id)
				must(t, err)
				must(t, task.Wait(ctx))
				wantEnd(t, task, want, 0)
				for _, u := range []string{"a", "b", "c", "away"} {
					connect(t, p, rec, u)
				}
				time.Sleep(time.Minute)
				if rec.TotalAttempts() != 0 {
					t.Fatal("the next process sends it to", rec.Users())
				}
			})
		})
	}
}
