package fcmtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	firebase "firebase.google.com/go/v4"
	"firebase.google.com/go/v4/errorutils"
	"firebase.google.com/go/v4/messaging"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"

	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// newMessaging is Google's own client. It is given an HTTP client, so the one
// that trusts the server has to do the authorization too.
func newMessaging(t testing.TB, s *fcmtest.Server) *messaging.Client {
	t.Helper()
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, s.Client())
	account, err := google.JWTConfigFromJSON(s.ServiceAccount(), "https://www.googleapis.com/auth/firebase.messaging")
	if err != nil {
		t.Fatal(err)
	}
	app, err := firebase.NewApp(ctx, &firebase.Config{ProjectID: "fanfare-test"},
		option.WithHTTPClient(account.Client(ctx)), option.WithEndpoint(s.URL()+"/v1"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := app.Messaging(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFirebaseSends(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	m := newMessaging(t, s)
	ttl, count, badge := 3500*time.Millisecond, 3, 1
	when := time.Date(2030, 1, 2, 3, 4, 5, 678, time.UTC)
	full := &messaging.Message{
		Token:        s.Token(1),
		Data:         map[string]string{"k": "v <&>"},
		Notification: &messaging.Notification{Title: "t", Body: "b", ImageURL: "https://example.com/i.png"},
		FCMOptions:   &messaging.FCMOptions{AnalyticsLabel: "label"},
		Android: &messaging.AndroidConfig{
			CollapseKey: "c", Priority: "high", TTL: &ttl, RestrictedPackageName: "com.example", DirectBootOK: true,
			FCMOptions: &messaging.AndroidFCMOptions{AnalyticsLabel: "label"},
			Notification: &messaging.AndroidNotification{
				Title: "t", Body: "b", Icon: "i", Color: "#112233", Sound: "s", Tag: "t", ClickAction: "c",
				BodyLocKey: "k", BodyLocArgs: []string{"a"}, TitleLocKey: "k", TitleLocArgs: []string{"a"},
				ChannelID: "ch", ImageURL: "https://example.com/i.png", Ticker: "t", Sticky: true, EventTimestamp: &when,
				LocalOnly: true, Priority: messaging.PriorityHigh, VibrateTimingMillis: []int64{100, 1500},
				DefaultVibrateTimings: true, DefaultSound: true, DefaultLightSettings: true,
				LightSettings: &messaging.LightSettings{Color: "#11223344", LightOnDurationMillis: 100, LightOffDurationMillis: 200},
				Visibility:    messaging.VisibilityPublic, NotificationCount: &count, Proxy: messaging.ProxyAllow,
			},
		},
		APNS: &messaging.APNSConfig{
			Headers:    map[string]string{"apns-priority": "10"},
			Payload:    &messaging.APNSPayload{Aps: &messaging.Aps{Alert: &messaging.ApsAlert{Title: "t"}, Badge: &badge}},
			FCMOptions: &messaging.APNSFCMOptions{AnalyticsLabel: "label", ImageURL: "https://example.com/i.png"},
		},
		Webpush: &messaging.WebpushConfig{
			Headers: map[string]string{"TTL": "15"}, Data: map[string]string{"k": "v"},
			Notification: &messaging.WebpushNotification{Title: "t", Body: "b", Actions: []*messaging.WebpushNotificationAction{{Action: "a", Title: "t"}}},
			FCMOptions:   &messaging.WebpushFCMOptions{Link: "https://example.com"},
		},
	}
	name, err := m.Send(t.Context(), full)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Accepted(s.Token(1)); len(got) != 1 || got[0].Name != name || !strings.Contains(string(got[0].JSON), `"priority":"high"`) {
		t.Errorf("%q: %+v", name, got)
	}
	if name, err := m.SendDryRun(t.Context(), full); err != nil || !strings.HasSuffix(name, "/fake_message_id") || s.Total() != 1 {
		t.Error(name, err, s.Total())
	}
	if _, err := m.Send(t.Context(), &messaging.Message{Topic: "/topics/weather"}); err != nil || s.Count("/topics/weather") != 1 {
		t.Error(err, s.Count("/topics/weather"))
	}
	if p := s.Problems(); p != nil || s.AccessTokens() != 1 {
		t.Error(p, s.AccessTokens())
	}
}

func TestFirebaseErrors(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	m := newMessaging(t, s)
	for i, x := range []struct {
		code      string
		messaging func(error) bool
		platform  func(error) bool
	}{
		{"INVALID_ARGUMENT", messaging.IsInvalidArgument, errorutils.IsInvalidArgument},
		{"UNREGISTERED", messaging.IsUnregistered, errorutils.IsNotFound},
		{"SENDER_ID_MISMATCH", messaging.IsSenderIDMismatch, errorutils.IsPermissionDenied},
		{"QUOTA_EXCEEDED", messaging.IsQuotaExceeded, errorutils.IsResourceExhausted},
		{"INTERNAL", messaging.IsInternal, errorutils.IsInternal},
		{"THIRD_PARTY_AUTH_ERROR", messaging.IsThirdPartyAuthError, errorutils.IsUnauthenticated},
	} {
		s.Answer(s.Token(i), fcmtest.Answer{ErrorCode: x.code})
		_, err := m.Send(t.Context(), &messaging.Message{Token: s.Token(i)})
		if !x.messaging(err) || !x.platform(err) {
			t.Errorf("%s: %v", x.code, err)
		}
	}
	// Google's client tries again at once after the first 503, so one is not seen.
	s.AnswerNext(1, fcmtest.Answer{ErrorCode: "UNAVAILABLE"})
	before := s.Requests()
	if _, err := m.Send(t.Context(), &messaging.Message{Token: s.Token(100)}); err != nil || s.Requests() != before+2 {
		t.Error(err, s.Requests()-before)
	}
	if _, err := m.Send(t.Context(), &messaging.Message{Token: "bad"}); !messaging.IsInvalidArgument(err) {
		t.Error(err)
	}
	_, err := m.Send(t.Context(), &messaging.Message{Token: s.Token(100), Data: map[string]string{"from": "x"}})
	if !messaging.IsInvalidArgument(err) || err.Error() != "Invalid data payload key: from" {
		t.Error(err)
	}
	s.Revoke()
	if _, err := m.Send(t.Context(), &messaging.Message{Token: s.Token(100)}); !errorutils.IsUnauthenticated(err) || messaging.IsThirdPartyAuthError(err) {
		t.Error(err)
	}
}

func TestFirebaseMulticast(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	m := newMessaging(t, s)
	s.Kill(s.Token(2))
	batch, err := m.SendEachForMulticast(t.Context(), &messaging.MulticastMessage{
		Tokens:       []string{s.Token(1), s.Token(2), s.Token(3)},
		Notification: &messaging.Notification{Title: "t"},
	})
	if err != nil || batch.SuccessCount != 2 || !messaging.IsUnregistered(batch.Responses[1].Error) {
		t.Errorf("%v %+v", err, batch)
	}
}
