package fcm

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

func testServer(t testing.TB, o fcmtest.Options) *fcmtest.Server {
	t.Helper()
	s, err := fcmtest.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func testSender(t testing.TB, s *fcmtest.Server, o Options) *Sender {
	t.Helper()
	if o.ServiceAccount == nil {
		o.ServiceAccount = s.ServiceAccount()
	}
	o.Endpoint, o.RootCAs = s.URL()+"/v1", s.RootCAs()
	sender, err := New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sender.Close(); err != nil {
			t.Error(err)
		}
	})
	return sender
}

// batch makes notifications of one message.
func batch(c *transport.Content, tokens ...string) []transport.Notification {
	m := &transport.Message{ID: anyID, Sequence: 1, Expires: time.Now().Add(time.Hour)}
	list := make([]transport.Notification, len(tokens))
	for i, token := range tokens {
		list[i] = transport.Notification{
			UserID: "user", Message: m, Content: c, Attempt: 1, Device: transport.Device{Platform: Platform, Token: token},
		}
	}
	return list
}

func shown(t testing.TB, s *fcmtest.Server, token string) (list []transport.Content) {
	for _, m := range s.Accepted(token) {
		var of struct{ Notification transport.Text }
		if err := json.Unmarshal(m.JSON, &of); err != nil {
			t.Error(err)
		}
		list = append(list, transport.Content{Title: of.Notification.Title, Body: of.Notification.Body})
	}
	return list
}

func TestConformance(t *testing.T) {
	t.Parallel()
	transporttest.TestMobile(t, func(t *testing.T) *transporttest.MobileHarness {
		s := testServer(t, fcmtest.Options{})
		return &transporttest.MobileHarness{
			Transport: testSender(t, s, Options{}),
			Device:    func(i int) transport.Device { return transport.Device{Platform: Platform, Token: s.Token(i)} },
			Shown:     func(d transport.Device) []transport.Content { return shown(t, s, d.Token) },
			Kill:      func(d transport.Device) { s.Kill(d.Token) },
			Reject:    func(d transport.Device) { s.Answer(d.Token, fcmtest.Answer{ErrorCode: "SENDER_ID_MISMATCH"}) },
			Overload: func() func() {
				s.AnswerNext(1<<30, fcmtest.Answer{ErrorCode: "UNAVAILABLE"})
				return func() { s.AnswerNext(0, fcmtest.Answer{}) }
			},
			Stall: s.Stall,
		}
	})
}
