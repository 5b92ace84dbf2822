package fanfare

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestConnectWithoutAnOnlineTransport only registers: nobody is online, so phones are notified, and
// no task waits for somebody to be delivered to.
func TestConnectWithoutAnOnlineTransport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		apns := transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{apns}})
		s, err := p.Connect(ctx, "a")
		must(t, err)
		must(t, p.RegisterDevice(ctx, "a", Device{Platform: "apns", Token: "ta"}))
		if n := p.Online(); n != 0 {
			t.Error("online:", n)
		}
		retained := mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour, Notification: &Notification{Title: "hi"}})
		now := mustTask(t, p, Message{Body: []byte("now"), To: All()})
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		must(t, now.Wait(ctx))
		must(t, retained.Wait(ctx))
		if n := len(apns.Shown("ta")); n != 1 {
			t.Errorf("the phone was notified %d times", n)
		}
		if g := progress(t, now); g.Ended.IsZero() || g.Expired != 1 {
			t.Errorf("%+v", g)
		}
		must(t, s.Close())
	})
}
