package fanfare

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestSeveralConnections: a user is online from the first connection to the last, counts once, and gets each message once. A
// further connection gets nothing older.
func TestSeveralConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := new(transporttest.Recorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec})
		must(t, p.Register(context.Background(), "a", "b"))
		mustTask(t, p, later("1"))
		first := connect(t, p, rec, "a")
		second := connect(t, p, rec, "a") // while the first catches up
		synctest.Wait()
		wantBodies(t, rec, "a", "1")
		mustTask(t, p, later("2"))
		synctest.Wait()
		third := connect(t, p, rec, "a")
		synctest.Wait()
		wantBodies(t, rec, "a", "1", "2")
		if n := p.Online(); n != 1 {
			t.Fatal("online:", n)
		}
		must(t, first.Close())
		must(t, first.Close()) // counts once
		must(t, third.Close())
		mustTask(t, p, later("3"))
		mustTask(t, p, now("4"))
		synctest.Wait()
		wantBodies(t, rec, "a", "1", "2", "3", "4")
		must(t, second.Close())
		if n := p.Online(); n != 0 {
			t.Fatal("online:", n)
		}
		mustTask(t, p, later("5"))
		mustTask(t, p, now("6"))
		synctest.Wait()
		wantBodies(t, rec, "a", "1", "2", "3", "4")
		connect(t, p, rec, "a")
		synctest.Wait()
		wantBodies(t, rec, "a", "1", "2", "3", "4", "5")
		must(t, second.Close()) // an old session closes nothing of the new one
		must(t, third.Close())
		mustTask(t, p, now("7"))
		synctest.Wait()
		wantBodies(t, rec, "a", "1", "2", "3", "4", "5", "7")
		if v := rec.Violations(); len(v) > 0 {
			t.Fatal(v)
		}
	})
}

// TestSessionOfOneWhoIsGone: a session of a user who was unregistered closes nothing of a new user of the same ID.
func TestSessionOfOneWhoIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.Recorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec})
		old := connect(t, p, rec, "a")
		mustTask(t, p, later("to the old one"))
		synctest.Wait()
		must(t, p.Unregister(ctx, "a"))
		if n := p.Online(); n != 0 {
			t.Fatal("online:", n)
		}
		mustTask(t, p, later("to nobody"))
		fresh := connect(t, p, rec, "a")
		must(t, old.Close())
		mustTask(t, p, later("to the new one"))
		synctest.Wait()
		wantBodies(t, rec, "a", "to the old one", "to the new one")
		if n := p.Online(); n != 1 {
			t.Fatal("online:", n)
		}
		must(t, fresh.Close())
		if n := p.Online(); n != 0 {
			t.Fatal("online:", n)
		}
	})
}

// hub is a host that holds its lock over everything that it does, as hosts do.
type hub struct {
	mu       sync.Mutex
	p        *Pusher
	sessions map[string]*Session
	got      map[string][]string
	acks     bool
}

func (h *hub) ClientAcks() bool { return h.acks }

func (h *hub) Deliver(_ context.Context, user string, m *transport.Message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got[user] = append(h.got[user], string(m.Body))
	return nil
}

// TestHostHoldsItsLock: Connect, Session.Close, Push, Ack and all else that does not wait for deliveries may be called with the lock
// held that Deliver takes, even when every worker already waits for that lock.
func TestHostHoldsItsLock(t *testing.T) {
	t.Parallel()
	for _, acks := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			h := &hub{sessions: map[string]*Session{}, got: map[string][]string{}, acks: acks}
			// Whatever waits for itself would wait for ever: no call is left behind.
			h.p = testPusher(t, t.TempDir(), Options{Online: h, Workers: 2, DeliverTimeout: 24 * time.Hour})
			users := []string{"a", "b", "c", "d"}
			must(t, h.p.Register(ctx, users...))
			task := mustTask(t, h.p, later("1"))
			h.mu.Lock()
			for range 2 {
				for _, u := range users {
					s, err := h.p.Connect(ctx, u)
					must(t, err)
					if old := h.sessions[u]; old != nil {
						must(t, old.Close())
					}
					h.sessions[u] = s
				}
				// The workers come to the lock; not by synctest.Wait, for which a mutex is no rest.
				mustTask(t, h.p, later("2"))
			}
			must(t, h.p.Ack(ctx, "d", task.ID))
			must(t, h.p.AddTags(ctx, "a", "t"))
			must(t, h.sessions["d"].Close())
			h.mu.Unlock()
			time.Sleep(time.Minute)
			synctest.Wait()
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, u := range users[:3] {
				got := h.got[u]
				if acks { // nobody acknowledges, so they come again
					got = got[:min(len(got), 3)]
				}
				if !slices.Equal(got, []string{"1", "2", "2"}) {
					t.Errorf("%s has %q", u, got)
				}
			}
		})
	}
}
