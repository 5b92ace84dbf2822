package phonekill

import (
	"bytes"
	"context"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/apns"
	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
	"github.com/fanfare-im/fanfare/transport/fcm"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// fate is what becomes of a token, its notification and its task.
type fate int

const (
	removed  fate = iota // the token is, and counts as unregistered
	rejected             // for good; the token stays
	again                // and accepted then; the token stays
	stops                // the task does; nothing is counted, and the token stays
)

// tableRow is an answer of a service.
type tableRow struct {
	name  string
	apple apnstest.Answer
	fcm   fcmtest.Answer
	fate  fate
}

func (r *tableRow) platform() string {
	if r.apple != (apnstest.Answer{}) {
		return apns.Platform
	}
	return fcm.Platform
}

// tables are every row of "Handling notification responses from APNs" and of FCM's ErrorCode, and answers that name no code.
func tables() (list []tableRow) {
	for f, reasons := range map[fate]string{
		removed: "BadDeviceToken ExpiredToken Unregistered",
		rejected: "BadCollapseId BadExpirationDate BadMessageId BadPriority BadTopic DeviceTokenNotForTopic DuplicateHeaders InvalidPushType " +
			"MissingDeviceToken MissingTopic PayloadEmpty TopicDisallowed BadPath MethodNotAllowed PayloadTooLarge",
		again: "IdleTimeout TooManyProviderTokenUpdates TooManyRequests InternalServerError ServiceUnavailable Shutdown",
		stops: "BadCertificate BadCertificateEnvironment ExpiredProviderToken Forbidden InvalidProviderToken MissingProviderToken " +
			"UnrelatedKeyIdInToken BadEnvironmentKeyIdInToken",
	} {
		for _, reason := range strings.Fields(reasons) {
			list = append(list, tableRow{name: reason, apple: apnstest.Answer{Reason: reason}, fate: f})
		}
	}
	for f, codes := range map[fate]string{
		removed: "UNREGISTERED", rejected: "INVALID_ARGUMENT SENDER_ID_MISMATCH THIRD_PARTY_AUTH_ERROR", again: "UNSPECIFIED_ERROR QUOTA_EXCEEDED UNAVAILABLE INTERNAL",
	} {
		for _, code := range strings.Fields(codes) {
			a := fcmtest.Answer{ErrorCode: code}
			if code == "QUOTA_EXCEEDED" {
				a.RetryAfter = "1" // else it is a minute
			}
			list = append(list, tableRow{name: code, fcm: a, fate: f})
		}
	}
	for code, f := range map[string]fate{"UNAUTHENTICATED": stops, "PERMISSION_DENIED": stops, "NOT_FOUND": stops, "RESOURCE_EXHAUSTED": again, "INVALID_ARGUMENT": rejected} {
		list = append(list, tableRow{name: code + " alone", fcm: fcmtest.Answer{Code: code, RetryAfter: "1"}, fate: f})
	}
	return append(list,
		tableRow{name: "a malformed token", fcm: fcmtest.Answer{ErrorCode: "INVALID_ARGUMENT", Message: "The registration token is not a valid FCM registration token"}, fate: removed},
		tableRow{name: "a proxy before FCM", fcm: fcmtest.Answer{Status: 502, Body: []byte("<html>")}, fate: again},
		tableRow{name: "a proxy before APNs", apple: apnstest.Answer{Status: 502, Body: "<html>"}, fate: again})
}

// secrets are what is to be in no log.
type secrets struct {
	mu  sync.Mutex
	all map[string]bool
}

func (s *secrets) add(list ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range list {
		if x = strings.TrimSpace(x); len(x) > 15 {
			s.all[x] = true
		}
	}
}

// TestErrorTables: what each answer that the services document means for the token, the task and the counts, from the push to the store. And
// whatever they answer, the log has no token of a device, no key, and nothing that requests were signed with.
func TestErrorTables(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	rows := tables()
	apple, err := apnstest.NewServer(apnstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer apple.Close()
	google, err := fcmtest.NewServer(fcmtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer google.Close()
	hidden := &secrets{all: make(map[string]bool)}
	key := apple.Key()
	hidden.add(strings.Split(string(key.PEM), "\n")[1:3]...)
	hidden.add(strings.Split(string(google.ServiceAccount()), `\n`)[1:]...)

	byToken := make(map[string]*tableRow)
	var mu sync.Mutex
	next := func(token string) (r *tableRow) {
		mu.Lock()
		defer mu.Unlock()
		if r = byToken[token]; r != nil && r.fate == again {
			delete(byToken, token) // once
		}
		return r
	}
	apple.OnRequest(func(r *apnstest.Request) *apnstest.Answer {
		hidden.add(strings.TrimPrefix(r.Header.Get("Authorization"), "bearer "))
		if row := next(r.Token); row != nil {
			return &row.apple
		}
		return nil
	})
	google.OnRequest(func(r *fcmtest.Request) *fcmtest.Answer {
		hidden.add(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if row := next(r.Token); row != nil {
			return &row.fcm
		}
		return nil
	})
	a, err := apns.New(apns.Options{Key: key.PEM, KeyID: key.KeyID, TeamID: key.TeamID, Topic: topic, Endpoint: apple.URL(), RootCAs: apple.RootCAs()})
	if err != nil {
		t.Fatal(err)
	}
	f, err := fcm.New(ctx, fcm.Options{ServiceAccount: google.ServiceAccount(), Endpoint: google.URL() + "/v1", RootCAs: google.RootCAs()})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	p, err := fanfare.Open(t.TempDir(), fanfare.Options{
		Mobile: []transport.Mobile{a, f}, Grace: -1, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	push := func(user, platform, token string) *fanfare.Task {
		hidden.add(token)
		if err := p.Register(ctx, user); err != nil {
			t.Fatal(err)
		}
		if err := p.RegisterDevice(ctx, user, fanfare.Device{Platform: platform, Token: token}); err != nil {
			t.Fatal(err)
		}
		task, err := p.Push(ctx, fanfare.Message{To: fanfare.Users(user), Lifetime: time.Hour, Notification: &fanfare.Notification{Title: "Tonight"}})
		if err != nil {
			t.Fatal(err)
		}
		return task
	}
	// Until a token was good, one that APNs does not know may be of another environment.
	if err := push("good", apns.Platform, apple.Token(1_000_000)).Wait(ctx); err != nil {
		t.Fatal(err)
	}
	tasks := make([]*fanfare.Task, len(rows))
	for i := range rows {
		token := apple.Token(i)
		if rows[i].platform() == fcm.Platform {
			token = google.Token(i)
		}
		mu.Lock()
		byToken[token] = &rows[i]
		mu.Unlock()
		tasks[i] = push(rows[i].name, rows[i].platform(), token)
	}
	for i, row := range rows {
		if err := tasks[i].Wait(ctx); err != nil {
			t.Fatal(err)
		}
		g, err := tasks[i].Progress()
		if err != nil {
			t.Fatal(err)
		}
		got := g.Phones[row.platform()]
		hasReason := len(got.Reasons) == 1
		if stopped := strings.Contains(got.Stopped, "look at"); stopped != (row.fate == stops) || hasReason != (row.fate == rejected) {
			t.Errorf("%s: %+v", row.name, got)
		}
		got.Stopped, got.Reasons = "", nil
		want := map[fate]fanfare.PhoneStats{
			removed: {Sent: 1, Unregistered: 1}, rejected: {Sent: 1, Rejected: 1}, again: {Sent: 2, Accepted: 1, Retried: 1}, stops: {},
		}[row.fate]
		if !reflect.DeepEqual(got, want) || g.Pending != 1 {
			t.Errorf("%s: %+v, %d pending; want %+v", row.name, got, g.Pending, want)
		}
		if d, err := p.Devices(ctx, row.name); err != nil || (len(d) == 0) != (row.fate == removed) {
			t.Errorf("%s: the devices are %v, %v", row.name, d, err)
		}
	}
	if err := p.Check(ctx); err != nil {
		t.Error(err)
	}
	if err := p.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"denies its sender", "notification rejected", "wait for another try"} {
		if !strings.Contains(log.String(), what) {
			t.Errorf("the log does not say: %s", what)
		}
	}
	for secret := range hidden.all {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %s", secret)
		}
	}
	if n := len(hidden.all); n < len(rows)+10 {
		t.Error("there were", n, "secrets to look for")
	}
}
