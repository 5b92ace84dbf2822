package fanfare

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestNothingIsHeldWhileOutside asserts that no read transaction is open where
// somebody else's code runs: bbolt could not reuse pages for as long as that code takes.
func TestNothingIsHeldWhileOutside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var p *Pusher
		var outside []string
		check := func(where string) {
			outside = append(outside, where)
			if n := p.store.Views(); n != 0 {
				t.Errorf("%s: %d read transactions are open", where, n)
			}
		}
		rec := new(transporttest.Recorder)
		phones := transporttest.NewPhones("apns")
		rec.OnDeliver(func(context.Context, string, *transport.Message) error { check("Deliver"); return nil })
		phones.OnSend(func(context.Context, []transport.Notification) ([]transport.Result, bool) {
			check("Send")
			return nil, false
		})
		p = testPusher(t, t.TempDir(), Options{Online: rec, Mobile: []transport.Mobile{phones}})
		synctest.Wait() // what Open has started looks for what is due, beside the import
		users := func(yield func(User, error) bool) {
			for _, id := range []string{"a", "b", "c"} {
				check("Import's iterator")
				if !yield(User{ID: id, Devices: []Device{{Platform: "apns", Token: id}}}, nil) {
					return
				}
			}
		}
		_, err := p.Import(ctx, users, &ImportOptions{Progress: func(ImportStats) { check("Progress") }})
		must(t, err)
		connect(t, p, rec, "a")
		synctest.Wait()
		task := mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour, Notification: &Notification{Title: "t"}})
		must(t, task.Wait(ctx))
		connect(t, p, rec, "b")
		synctest.Wait()
		for _, err := range p.Members(ctx, All()) {
			must(t, err)
			check("Members")
		}
		for _, err := range p.Tasks(ctx) {
			must(t, err)
			check("Tasks")
		}
		for _, err := range p.Pending(ctx, "c") {
			must(t, err)
			check("Pending")
		}
		must(t, p.Backup(ctx, writerFunc(func(b []byte) { check("Backup") })))
		seen := map[string]bool{}
		for _, where := range outside {
			seen[where] = true
		}
		if len(seen) != 8 {
			t.Fatalf("not everything was seen: %v", seen)
		}
	})
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(bytes.Clone(b))
	return len(b), nil
}
