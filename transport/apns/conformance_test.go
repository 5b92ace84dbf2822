package apns

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

const topic = "com.example.app"

// testServer starts a simulator, and looks at the end of the test whether anything that was sent would do no good.
func testServer(t testing.TB, o apnstest.Options) *apnstest.Server {
	t.Helper()
	s, err := apnstest.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p := s.Problems(); len(p) > 0 {
			t.Errorf("what APNs would make nothing of: %q", p)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// testSender makes a sender for a simulator.
func testSender(t testing.TB, s *apnstest.Server, o Options) *Sender {
	t.Helper()
	key := s.Key()
	if o.Certificate == nil && o.Key == nil {
		o.Key, o.KeyID, o.TeamID = key.PEM, key.KeyID, key.TeamID
	}
	o.Endpoint, o.RootCAs = s.URL(), s.RootCAs()
	sender, err := New(o)
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
			UserID: "user", Message: m, Content: c, Attempt: 1,
			Device: transport.Device{Platform: Platform, Token: token, Topic: topic},
		}
	}
	return list
}

func shown(t testing.TB, s *apnstest.Server, token string) (list []transport.Content) {
	for _, n := range s.Accepted(token) {
		var p struct {
			Aps struct {
				Alert transport.Text
			}
		}
		if err := json.Unmarshal(n.Payload, &p); err != nil {
			t.Error(err)
		}
		list = append(list, transport.Content{Title: p.Aps.Alert.Title, Body: p.Aps.Alert.Body})
	}
	return list
}

func TestConformance(t *testing.T) {
	t.Parallel()
	transporttest.TestMobile(t, func(t *testing.T) *transporttest.MobileHarness {
		s := testServer(t, apnstest.Options{})
		return &transporttest.MobileHarness{
			Transport: testSender(t, s, Options{}),
			Device: func(i int) transport.Device {
				return transport.Device{Platform: Platform, Token: s.Token(i), Topic: topic}
			},
			Shown:  func(d transport.Device) []transport.Content { return shown(t, s, d.Token) },
			Kill:   func(d transport.Device) { s.Kill(d.Token, time.Now()) },
			Reject: func(d transport.Device) { s.Bind(d.Token, "com.example.other") },
			Overload: func() func() {
				s.AnswerNext(1<<30, apnstest.Answer{Reason: "ServiceUnavailable"})
				return func() { s.AnswerNext(0, apnstest.Answer{}) }
			},
			Stall: s.Stall,
		}
	})
}

// TestCertificate: a certificate does as well as a key.
func TestCertificate(t *testing.T) {
	t.Parallel()
	s := testServer(t, apnstest.Options{Topics: []string{topic}})
	certificate, key := s.Certificate(topic)
	sender := testSender(t, s, Options{Certificate: append(certificate, key...)})
	r := sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, s.Token(1)))
	if r[0].Outcome != transport.Accepted || s.Count(s.Token(1)) != 1 || s.ProviderTokens() != 0 {
		t.Fatalf("%+v", r)
	}
}
