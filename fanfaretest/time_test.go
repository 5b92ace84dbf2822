package fanfaretest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/fanfaretest"
)

const week = 7 * 24 * time.Hour

// TestExpiry is the one in the package's documentation.
func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fanfaretest.New(t)
		p.MustRegister(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: week})
		time.Sleep(week - time.Second)
		if g, err := offer.Progress(); err != nil || g.Pending != 1 {
			t.Fatal(g, err)
		}
		time.Sleep(2 * time.Second)
		p.WaitEnded(t, offer.ID)
		p.Login(t, "alice")
		synctest.Wait()
		p.RequireNotDelivered(t, offer.ID, "alice")
		if g, err := offer.Progress(); err != nil || g.Expired != 1 {
			t.Fatal(g, err)
		}
	})
}

// TestWaitLetsTimePass: a wait in a bubble comes to what happens at a time.
func TestWaitLetsTimePass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fanfaretest.New(t)
		p.MustRegister(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: week})
		began := time.Now()
		p.WaitEnded(t, offer.ID)
		if took := time.Since(began); took < week || took > week+10*time.Second {
			t.Errorf("ended after %v", took)
		}
	})
}

func TestQuietHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // at midnight
		p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{
			Quiet: fanfare.QuietHours{From: 22 * time.Hour, To: 8 * time.Hour},
		}})
		p.MustRegister(t, "alice")
		if err := p.RegisterDevice(t.Context(), "alice", fanfare.Device{Platform: "apns", Token: "a", TimeZone: "Asia/Shanghai"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Hour) // 23 o'clock in Shanghai
		offer := p.MustPush(t, fanfare.Message{
			Body: []byte("Half price"), To: fanfare.All(), Lifetime: week, Notification: &fanfare.Notification{Title: "Half price"},
		})
		time.Sleep(8 * time.Hour)
		synctest.Wait()
		p.RequireNotNotified(t, offer.ID, "alice")
		p.WaitNotified(t, "alice", 1)
		p.RequireNotified(t, offer.ID, "alice")
		if now := time.Now().UTC(); now.Day() != 2 || now.Hour() != 0 || now.Minute() > 15 {
			t.Errorf("notified at %v", now)
		}
	})
}

func TestPlanAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fanfaretest.New(t)
		p.Login(t, "alice")
		at := time.Now().Add(30 * time.Hour)
		if _, err := p.Plan(t.Context(), fanfare.Plan{
			Message: fanfare.Message{Body: []byte("Good morning"), To: fanfare.All(), Lifetime: time.Hour}, At: at,
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(at) - time.Second)
		synctest.Wait()
		if got := p.Received("alice"); len(got) != 0 {
			t.Fatalf("early: %v", got)
		}
		p.WaitReceived(t, "alice", 1)
		if late := time.Since(at); late < 0 || late > 2*time.Second {
			t.Errorf("%v late", late)
		}
	})
}

func TestAckTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fanfaretest.New(t, fanfaretest.Options{ClientAcks: true})
		p.Login(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: week})
		p.WaitDelivered(t, offer.ID, "alice")
		began := time.Now()
		p.WaitReceived(t, "alice", 2) // for she does not acknowledge
		if took := time.Since(began); took < 30*time.Second || took > 35*time.Second {
			t.Errorf("sent again after %v", took)
		}
		if err := p.Ack(t.Context(), "alice", offer.ID); err != nil {
			t.Fatal(err)
		}
		p.WaitEnded(t, offer.ID)
		time.Sleep(time.Hour)
		if n := len(p.Received("alice")); n != 2 {
			t.Errorf("received %d times, although it was acknowledged", n)
		}
	})
}

// TestGrace: whoever connects within the grace is not notified.
func TestGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fanfaretest.New(t)
		p.MustRegister(t, "alice", "bob")
		for _, user := range []string{"alice", "bob"} {
			if err := p.RegisterDevice(t.Context(), user, fanfare.Device{Platform: "fcm", Token: user}); err != nil {
				t.Fatal(err)
			}
		}
		offer := p.MustPush(t, fanfare.Message{
			Body: []byte("Half price"), To: fanfare.All(), Lifetime: week, Notification: &fanfare.Notification{Title: "Half price"},
		})
		p.Login(t, "alice")
		p.WaitTask(t, offer.ID)
		p.RequireNotified(t, offer.ID, "bob")
		p.RequireNotNotified(t, offer.ID, "alice")
	})
}
