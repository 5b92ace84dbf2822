package fanfare

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// picky is a service that takes no long titles, and whose transport says so.
type picky struct {
	*transporttest.Phones
	most int
}

func (p *picky) Check(c *transport.Content) error {
	if len(c.Title) > p.most {
		return &LimitError{What: "title in bytes", Limit: int64(p.most), Got: int64(len(c.Title))}
	}
	return nil
}

// TestNotificationIsChecked: what a service would never take is refused by Push, whichever platform's it is, before anything is kept or sent.
func TestNotificationIsChecked(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	apns, fcm := &picky{transporttest.NewPhones("apns"), 10}, &picky{transporttest.NewPhones("fcm"), 5}
	p := testPusher(t, t.TempDir(), Options{Mobile: []transport.Mobile{apns, fcm, transporttest.NewPhones("other")}, Grace: -1})
	importPhones(t, p, "apns", "ann")
	push := func(title string, lifetime time.Duration) error {
		m := notice(lifetime)
		m.Notification.Title = title
		_, err := p.Push(ctx, m)
		return err
	}
	for title, platform := range map[string]string{"sixsix": "fcm", "eleven eleven": "apns"} {
		err := push(title, week)
		var of *NotificationError
		var limit *LimitError
		if !errors.As(err, &of) || of.Platform != platform || !errors.As(err, &limit) || limit.What != "title in bytes" {
			t.Fatalf("%q: %v", title, err)
		}
	}
	must(t, push("sixsix", 0)) // which goes to no phone
	must(t, push("five5", week))
	stats, err := p.Stats(ctx)
	must(t, err)
	if stats.Pushes != 2 {
		t.Fatalf("%+v", stats)
	}
}
