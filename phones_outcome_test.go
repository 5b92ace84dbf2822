package fanfare

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// answers makes a transport give the same result to all of some batches.
func answers(phones *transporttest.Phones, n int, r transport.Result) {
	phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
		if n == 0 {
			return nil, false
		}
		n--
		results := make([]transport.Result, len(batch))
		for i := range results {
			results[i] = r
		}
		return results, true
	})
}

// TestUnsentIsNoTry: what was not tried comes again when its time has come, as often as it takes, and counts as nothing.
func TestUnsentIsNoTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		phones := transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}, Grace: -1})
		importPhones(t, p, "apns", "ann", "ben")
		const times = 5 * maxAttempts
		answers(phones, times, transport.Result{Outcome: transport.Unsent, RetryAfter: time.Minute})
		start := time.Now()
		task := mustTask(t, p, notice(week))
		must(t, task.Wait(ctx))
		if took := time.Since(start); took < times*time.Minute || took > (times+1)*time.Minute {
			t.Error("took", took)
		}
		if g := progress(t, task).Phones["apns"]; !sameStats(g, PhoneStats{Sent: 2, Accepted: 2}) {
			t.Errorf("%+v", g)
		}
		for _, token := range []string{"ann", "ben"} {
			if shown := phones.Shown(token); len(shown) != 1 || shown[0].Attempt != 1 {
				t.Error(token, shown)
			}
		}
	})
}

// TestUnsentInPart: in a batch of which a part was not tried, the rest counts, and that part comes again, after a restart too.
func TestUnsentInPart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		dir := t.TempDir()
		phones := transporttest.NewPhones("apns")
		p := testPusher(t, dir, Options{Mobile: []transport.Mobile{phones}, Grace: -1})
		importPhones(t, p, "apns", "ann", "ben", "cat")
		phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
			results := make([]transport.Result, len(batch))
			for i, n := range batch {
				if results[i] = (transport.Result{Outcome: transport.Accepted}); n.UserID == "ben" {
					results[i] = transport.Result{Outcome: transport.Unsent}
				}
			}
			return results, true
		})
		task := mustTask(t, p, notice(week))
		must(t, phones.WaitBatches(ctx, 1))
		synctest.Wait()
		if g := progress(t, task).Phones["apns"]; !sameStats(g, PhoneStats{Sent: 2, Accepted: 2}) {
			t.Fatalf("%+v", g)
		}
		must(t, p.Close(ctx))
		phones = transporttest.NewPhones("apns")
		p = testPusher(t, dir, Options{Mobile: []transport.Mobile{phones}, Grace: -1})
		task, err := p.Task(ctx, task.ID)
		must(t, err)
		must(t, task.Wait(ctx))
		if g := progress(t, task).Phones["apns"]; !sameStats(g, PhoneStats{Sent: 3, Accepted: 3}) || phones.Total() != 1 {
			t.Fatalf("%+v", g)
		}
	})
}

// TestDeniedStopsTheTask: a sender that the service denies costs no token and no try. The task goes no further, says why,
// and goes on after the next Open.
func TestDeniedStopsTheTask(t *testing.T) {
	t.Parallel()
	for _, part := range []bool{false, true} {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				dir := t.TempDir()
				phones := transporttest.NewPhones("apns")
				phones.SetBatchSize(2)
				p := testPusher(t, dir, Options{Mobile: []transport.Mobile{phones}, Grace: -1})
				importPhones(t, p, "apns", "ann", "ben", "cat", "dan")
				first := true
				phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
					denied := transport.Result{Outcome: transport.Denied, Reason: "BadKey", Detail: "look at the key"}
					results := []transport.Result{denied, denied}
					if part && first {
						results[0] = transport.Result{Outcome: transport.Accepted}
					}
					first = false
					return results, true
				})
				task := mustTask(t, p, notice(week))
				must(t, task.Wait(ctx))
				want := PhoneStats{Stopped: "BadKey: look at the key"}
				if part {
					want.Sent, want.Accepted = 1, 1
				}
				if g := progress(t, task).Phones["apns"]; !sameStats(g, want) || len(phones.Batches()) != 1 {
					t.Fatalf("%+v in %v", g, phones.Batches())
				}
				if d, err := p.Devices(ctx, "ann"); err != nil || len(d) != 1 {
					t.Fatal(d, err)
				}
				other := mustTask(t, p, notice(week))
				must(t, other.Wait(ctx))
				must(t, p.Withdraw(ctx, other.ID))
				if g := progress(t, other).Phones["apns"]; !sameStats(g, PhoneStats{}) || len(phones.Batches()) != 2 {
					t.Fatalf("%+v in %v", g, phones.Batches())
				}
				must(t, p.Close(ctx))
				phones = transporttest.NewPhones("apns")
				p = testPusher(t, dir, Options{Mobile: []transport.Mobile{phones}, Grace: -1})
				task, err := p.Task(ctx, task.ID)
				must(t, err)
				must(t, task.Wait(ctx))
				if g := progress(t, task).Phones["apns"]; !sameStats(g, PhoneStats{Sent: 4, Accepted: 4}) || phones.Total() != 4-int(want.Accepted) {
					t.Fatalf("%+v", g)
				}
			})
		})
	}
}

// TestReasonsOfRejections: rejections are counted by the service's own word, as many words as there may be.
func TestReasonsOfRejections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		dir := t.TempDir()
		phones := transporttest.NewPhones("apns")
		p := testPusher(t, dir, Options{Mobile: []transport.Mobile{phones}, Grace: -1})
		var users []string
		for i := range 48 {
			users = append(users, fmt.Sprintf("u%02d", i))
		}
		importPhones(t, p, "apns", users...)
		for i, user := range users {
			reason := fmt.Sprintf("reason %02d", i)
			if i < 8 {
				continue // accepted
			}
			if i < 10 {
				reason = "TopicDisallowed"
			}
			phones.Reject(reason, user)
		}
		task := mustTask(t, p, notice(week))
		must(t, task.Wait(ctx))
		g := progress(t, task).Phones["apns"]
		sum := int64(0)
		for _, n := range g.Reasons {
			sum += n
		}
		if g.Rejected != 40 || sum != 40 || len(g.Reasons) != 33 {
			t.Fatalf("%d, %d of %d reasons: %v", g.Rejected, sum, len(g.Reasons), g.Reasons)
		}
		if g.Reasons["TopicDisallowed"] != 2 || g.Reasons["reason 10"] != 1 || g.Reasons["other"] != 7 {
			t.Fatal(g.Reasons)
		}
		must(t, p.Close(ctx))
		p = testPusher(t, dir, Options{})
		task, err := p.Task(ctx, task.ID)
		must(t, err)
		if again := progress(t, task).Phones["apns"]; !maps.Equal(again.Reasons, g.Reasons) {
			t.Fatal(again.Reasons)
		}
	})
}

func TestReasonOf(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		"": "no reason", "Unregistered": "Unregistered", "a\xffb": "a?b", strings.Repeat("é", 40): strings.Repeat("é", 32), "x" + strings.Repeat("é", 40): "x" + strings.Repeat("é", 31),
	} {
		if got := reasonOf(reason); got != want {
			t.Errorf("%q: %q, want %q", reason, got, want)
		}
	}
}

// TestAlways: a notification that goes to all goes at once, to those too who are connected or have the message, and the task is not
// over before.
func TestAlways(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		dir := t.TempDir()
		rec := new(transporttest.Recorder)
		phones := transporttest.NewPhones("apns")
		phones.SetBatchSize(2)
		o := Options{Online: rec, Mobile: []transport.Mobile{phones}, Grace: time.Hour, blockBits: 1}
		p := testPusher(t, dir, o)
		users := []string{"ann", "ben", "cat", "dan", "eve"}
		importPhones(t, p, "apns", users...)
		must(t, p.Register(ctx, "nobody's audience"))
		for _, user := range users {
			connect(t, p, rec, user)
		}
		synctest.Wait()
		release := phones.Block()
		m := notice(week)
		m.To = Users(users...)
		m.Notification.Always = true
		task := mustTask(t, p, m)
		must(t, phones.WaitBatches(ctx, 1))
		synctest.Wait()
		if g := progress(t, task); g.Delivered != 5 || g.Pending != 0 || !g.Ended.IsZero() {
			t.Fatalf("%+v", g)
		}
		must(t, p.Unregister(ctx, "cat"))
		must(t, p.Check(ctx))
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := p.Close(ended); err != nil && !errors.Is(err, context.Canceled) { // the process ends in the middle
			t.Fatal(err)
		}
		release()
		phones = transporttest.NewPhones("apns")
		o.Mobile = []transport.Mobile{phones}
		p = testPusher(t, dir, o)
		task, err := p.Task(ctx, task.ID)
		must(t, err)
		must(t, task.Wait(ctx))
		synctest.Wait()
		g := progress(t, task)
		if g.Ended.IsZero() || g.Delivered != 5 || g.Phones["apns"].Accepted != 4 {
			t.Fatalf("%+v", g)
		}
		for _, user := range users {
			if got := len(phones.Shown(user)); got != 1 && user != "cat" || got != 0 && user == "cat" {
				t.Errorf("%s was shown %d", user, got)
			}
		}
		must(t, p.Check(ctx))
	})
}

// TestAlwaysIsWithdrawn: the end of a message ends its notifications, whoever they go to.
func TestAlwaysIsWithdrawn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		phones := transporttest.NewPhones("apns")
		phones.SetBatchSize(1)
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{phones}})
		importPhones(t, p, "apns", "ann", "ben", "cat")
		release := phones.Block()
		m := notice(week)
		m.Notification.Always = true
		task := mustTask(t, p, m)
		must(t, phones.WaitBatches(ctx, 1))
		must(t, p.Withdraw(ctx, task.ID))
		release()
		must(t, task.Wait(ctx))
		synctest.Wait()
		if g := progress(t, task); g.Withdrawn != 3 || g.Phones["apns"].Sent != 1 || g.Recalls["apns"].Sent != 1 || phones.Total() != 2 || len(phones.Showing("ann")) != 0 {
			t.Fatalf("%+v, sent %d", g, phones.Total())
		}
		must(t, p.Check(ctx))
	})
}
