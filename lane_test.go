package fanfare

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestAckWhileALaneIsAtWork acks for users whose turn in a lane's run is still to come:
// between the lane's look at who is pending and its start, and from within the
// delivery for the user before. Neither may be delivered to any more.
func TestAckWhileALaneIsAtWork(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	users := []string{"ann", "bob", "cat", "dan"}
	scene := func(t *testing.T, o Options) (*Pusher, *transporttest.Recorder) {
		rec := new(transporttest.Recorder)
		o.Online, o.Workers = rec, 1
		p := testPusher(t, t.TempDir(), o)
		must(t, p.Register(ctx, append(users, "eve")...)) // eve stays away
		for _, u := range users {
			connect(t, p, rec, u)
		}
		synctest.Wait()
		return p, rec
	}
	t.Run("at the start", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var p *Pusher
			var acked atomic.Bool
			start := make(chan string, 1)
			p, rec := scene(t, Options{hook: func(point, _ string) {
				if point == "lane:start" && !acked.Swap(true) {
					must(t, p.Ack(ctx, "dan", <-start))
				}
			}})
			start <- mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour}).ID
			synctest.Wait()
			wantBodies(t, rec, "cat", "x")
			wantBodies(t, rec, "dan")
		})
	})
	t.Run("within a chunk", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p, rec := scene(t, Options{})
			rec.OnDeliver(func(_ context.Context, user string, m *transport.Message) error {
				if user == "ann" {
					return p.Ack(ctx, "dan", m.ID)
				}
				return nil
			})
			mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour})
			synctest.Wait()
			wantBodies(t, rec, "cat", "x")
			wantBodies(t, rec, "dan")
		})
	})
	t.Run("behind a call that hangs", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			p, rec := scene(t, Options{})
			release := rec.Hang("ann")
			defer sync.OnceFunc(release)()
			task := mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour})
			synctest.Wait()
			must(t, p.Ack(ctx, "dan", task.ID))
			time.Sleep(time.Minute)
			wantBodies(t, rec, "cat", "x")
			wantBodies(t, rec, "dan")
			release()
			synctest.Wait()
		})
	})
}
