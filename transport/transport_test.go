package transport_test

import (
	"context"
	"errors"
	"testing"

	"github.com/fanfare-im/fanfare/transport"
)

func TestOutcomeString(t *testing.T) {
	t.Parallel()
	for o, want := range map[transport.Outcome]string{
		transport.Accepted: "accepted", transport.Unregistered: "unregistered",
		transport.Rejected: "rejected", transport.Retry: "retry", transport.Unsent: "unsent", transport.Denied: "denied", 0: "unknown",
	} {
		if got := o.String(); got != want {
			t.Errorf("%d is %q, not %q", int(o), got, want)
		}
	}
}

func TestOnlineFunc(t *testing.T) {
	t.Parallel()
	want := errors.New("not here")
	var f transport.Online = transport.OnlineFunc(func(_ context.Context, user string, m *transport.Message) error {
		if user != "u" || m.ID != "m" {
			t.Errorf("got %q %q", user, m.ID)
		}
		return want
	})
	if err := f.Deliver(context.Background(), "u", &transport.Message{ID: "m"}); err != want {
		t.Error(err)
	}
}
