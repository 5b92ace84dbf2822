package fanfare

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestCloseLeavesHungCallsBehind, however young, and however many there are. What was delivered before them is
// made durable.
func TestCloseLeavesHungCallsBehind(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]struct {
		users   int
		waiting time.Duration // of the calls, until Close
	}{
		"one, just begun":              {1, time.Millisecond},
		"more than are left at a time": {maxAbandoned + 100, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				dir := t.TempDir()
				rec := new(transporttest.Recorder)
				p := testPusher(t, dir, Options{Online: rec, Workers: 50})
				must(t, p.Register(ctx, "a"))
				connect(t, p, rec, "a")
				var b Batch
				for i := range s.users {
					b.Register(fmt.Sprint("u", i))
				}
				must(t, p.Apply(ctx, &b))
				var releases []func()
				for i := range s.users {
					u := fmt.Sprint("u", i)
					connect(t, p, rec, u)
					releases = append(releases, rec.Hang(u))
				}
				synctest.Wait()
				task := mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour})
				time.Sleep(s.waiting)
				start := time.Now()
				must(t, p.Close(ctx))
				if d := time.Since(start); d > 2*closePatience {
					t.Errorf("Close took %v", d)
				}
				for _, release := range releases {
					release()
				}
				synctest.Wait()

				p = testPusher(t, dir, Options{})
				task, err := p.Task(ctx, task.ID)
				must(t, err)
				if g := progress(t, task); g.Delivered != 1 || g.Pending != int64(s.users) {
					t.Errorf("%+v", g)
				}
			})
		})
	}
}
