package fcm

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
	"github.com/fanfare-im/fanfare/transport/internal/flow"
)

// TestErrorTable has every row of the service's ErrorCode, the statuses that come without one, and what else may come.
func TestErrorTable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer  fcmtest.Answer
		outcome transport.Outcome
		reason  string // if it is not the answer's
		after   time.Duration
		detail  string // a part of it
		twice   bool   // it was asked again at once
	}{
		{answer: fcmtest.Answer{ErrorCode: "UNSPECIFIED_ERROR"}, outcome: transport.Retry},
		{answer: fcmtest.Answer{ErrorCode: "INVALID_ARGUMENT"}, outcome: transport.Rejected, detail: "override"},
		{answer: fcmtest.Answer{ErrorCode: "INVALID_ARGUMENT", Message: "The registration token is not a valid FCM registration token"}, outcome: transport.Unregistered, detail: "malformed"},
		{answer: fcmtest.Answer{ErrorCode: "UNREGISTERED"}, outcome: transport.Unregistered},
		{answer: fcmtest.Answer{ErrorCode: "SENDER_ID_MISMATCH"}, outcome: transport.Rejected, detail: "another Firebase project"},
		{answer: fcmtest.Answer{ErrorCode: "QUOTA_EXCEEDED", RetryAfter: "90"}, outcome: transport.Retry, after: 90 * time.Second},
		{answer: fcmtest.Answer{ErrorCode: "QUOTA_EXCEEDED"}, outcome: transport.Retry, after: time.Minute},
		{answer: fcmtest.Answer{ErrorCode: "UNAVAILABLE", RetryAfter: "30"}, outcome: transport.Retry, after: 30 * time.Second},
		{answer: fcmtest.Answer{ErrorCode: "UNAVAILABLE"}, outcome: transport.Retry},
		{answer: fcmtest.Answer{ErrorCode: "INTERNAL"}, outcome: transport.Retry},
		{answer: fcmtest.Answer{ErrorCode: "THIRD_PARTY_AUTH_ERROR"}, outcome: transport.Rejected, detail: "APNs key"},
		// Without the detail of FCM.
		{answer: fcmtest.Answer{Code: "RESOURCE_EXHAUSTED"}, outcome: transport.Retry, after: time.Minute},
		{answer: fcmtest.Answer{Code: "INVALID_ARGUMENT"}, outcome: transport.Rejected},
		{answer: fcmtest.Answer{Code: "UNAUTHENTICATED"}, outcome: transport.Denied, detail: "Options.ServiceAccount", twice: true},
		{answer: fcmtest.Answer{Code: "PERMISSION_DENIED"}, outcome: transport.Denied, detail: "Firebase Cloud Messaging API"},
		{answer: fcmtest.Answer{Code: "NOT_FOUND"}, outcome: transport.Denied, detail: "Options.Project"},
		{answer: fcmtest.Answer{Code: "DEADLINE_EXCEEDED"}, outcome: transport.Retry},
		{answer: fcmtest.Answer{Code: "UNIMPLEMENTED"}, outcome: transport.Retry},
		{answer: fcmtest.Answer{Status: 404, ErrorCode: "UNHEARD"}, outcome: transport.Denied},
		{answer: fcmtest.Answer{Status: 500, ErrorCode: "UNHEARD"}, outcome: transport.Retry},
		// What is no answer of FCM: nothing follows for the token, nor for the account.
		{answer: fcmtest.Answer{Body: []byte("Sign in")}, outcome: transport.Retry, reason: "OK", after: time.Minute, detail: "proxy"},
		{answer: fcmtest.Answer{Status: 403, Body: []byte("<html>Forbidden</html>")}, outcome: transport.Retry, reason: "Forbidden", after: time.Minute, detail: "proxy"},
		{answer: fcmtest.Answer{Status: 404, Body: []byte(strings.Repeat("<p>", 20<<10))}, outcome: transport.Retry, reason: "Not Found", after: time.Minute, detail: "proxy"},
		{answer: fcmtest.Answer{Status: 401, Body: []byte("{}")}, outcome: transport.Retry, reason: "Unauthorized", after: time.Minute},
		{answer: fcmtest.Answer{Status: 502, Body: []byte("Bad Gateway")}, outcome: transport.Retry, reason: "Bad Gateway"},
		{answer: fcmtest.Answer{Status: 503, Body: []byte("Sorry"), RetryAfter: "7"}, outcome: transport.Retry, reason: "Service Unavailable", after: 7 * time.Second},
	} {
		t.Run(cmp.Or(c.answer.ErrorCode, c.answer.Code, c.reason)+fmt.Sprint(c.answer.Status), func(t *testing.T) {
			t.Parallel()
			s := testServer(t, fcmtest.Options{})
			sender := testSender(t, s, Options{})
			s.Answer(s.Token(1), c.answer)
			r := sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, s.Token(1)))[0]
			if r.Outcome != c.outcome || r.Reason != cmp.Or(c.reason, c.answer.ErrorCode, c.answer.Code) || !strings.Contains(r.Detail, c.detail) {
				t.Errorf("%+v", r)
			}
			switch {
			case c.outcome != transport.Retry && r.RetryAfter != 0, c.after != 0 && r.RetryAfter != c.after:
				t.Errorf("after %v, want %v", r.RetryAfter, c.after)
			case c.outcome == transport.Retry && c.after == 0 && (r.RetryAfter < time.Second || r.RetryAfter > 3*time.Second):
				t.Errorf("after %v, want about 2 s", r.RetryAfter)
			}
			if want := map[bool]int{false: 1, true: 2}[c.twice]; s.Requests() != want {
				t.Errorf("%d requests, want %d: Google's library retries", s.Requests(), want)
			}
			if strings.Contains(fmt.Sprintf("%+v", r), s.Token(1)) {
				t.Error("the token is in the result")
			}
		})
	}
}

// TestQuotaOfADevice: what one device has too much of says nothing of the service.
func TestQuotaOfADevice(t *testing.T) {
	t.Parallel()
	s := testServer(t, fcmtest.Options{})
	sender := testSender(t, s, Options{})
	for subject, want := range map[string]flow.Verdict{"device:token": flow.Fine, "project:x": flow.Busy} {
		body := `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"QUOTA_EXCEEDED"},
			{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"subject":"` + subject + `"}]}]}}`
		if a := sender.answer(&flow.Exchange{Status: 429, Answer: []byte(body)}); a.Verdict != want || a.Outcome != transport.Retry {
			t.Errorf("%s: %+v", subject, a)
		}
	}
}

// TestAccessTokens: one access token serves all requests, one that is revoked is replaced once, and an account that Google does not
// know denies the sender.
func TestAccessTokens(t *testing.T) {
	t.Parallel()
	s := testServer(t, fcmtest.Options{})
	sender := testSender(t, s, Options{Concurrency: 50})
	tokens := make([]string, 300)
	for i := range tokens {
		tokens[i] = s.Token(i)
	}
	send := func(want transport.Outcome) {
		t.Helper()
		for _, r := range sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, tokens...)) {
			if r.Outcome != want {
				t.Fatalf("%+v", r)
			}
		}
	}
	send(transport.Accepted)
	if n := s.AccessTokens(); n != 1 {
		t.Fatal(n, "access tokens")
	}
	s.Revoke()
	send(transport.Accepted)
	if n := s.AccessTokens(); n != 2 {
		t.Fatal(n, "access tokens")
	}
	s.Revoke()
	s.RefuseAssertions(true)
	before := s.Requests()
	send(transport.Denied)
	if n := s.Requests() - before; n > 100 {
		t.Error(n, "requests with an access token that is revoked")
	}
	r := sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, tokens[0]))[0]
	if r.Reason != "invalid_grant" || !strings.Contains(r.Detail, "clock") {
		t.Errorf("%+v", r)
	}
	s.RefuseAssertions(false)
	send(transport.Accepted)
}

// TestClockSkew: a machine whose clock is far off gets no access token, which denies the sender and says where to look.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	s := testServer(t, fcmtest.Options{Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	sender := testSender(t, s, Options{})
	r := sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, s.Token(1)))[0]
	if r.Outcome != transport.Denied || !strings.Contains(r.Detail, "clock") {
		t.Errorf("%+v", r)
	}
}

// TestLostConnections: a connection that ends loses nothing.
func TestLostConnections(t *testing.T) {
	t.Parallel()
	s := testServer(t, fcmtest.Options{})
	sender := testSender(t, s, Options{Connections: 4, Concurrency: 60})
	s.GoAwayEvery(100)
	s.CutEvery(90)
	tokens := make([]string, 1500)
	for i := range tokens {
		tokens[i] = s.Token(i)
	}
	for i, r := range sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, tokens...)) {
		if r.Outcome != transport.Accepted || s.Count(tokens[i]) == 0 {
			t.Fatalf("%d: %+v, accepted %d", i, r, s.Count(tokens[i]))
		}
	}
	if again := s.Total() - len(tokens); again > s.Requests()/90*2 {
		t.Error(again, "came twice")
	}
}

func TestMalformedTokens(t *testing.T) {
	t.Parallel()
	s := testServer(t, fcmtest.Options{})
	sender := testSender(t, s, Options{})
	for i, r := range sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, "", strings.Repeat("a", maxToken+1), "no token", "\"}, \"x\": \"\xff")) {
		if r.Outcome != transport.Unregistered {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if s.Requests() != 2 {
		t.Error(s.Requests(), "requests")
	}
}

// TestHangingTokenEndpoint: who waits for an access token waits no longer than its context, and asks once for all.
func TestHangingTokenEndpoint(t *testing.T) {
	t.Parallel()
	s := testServer(t, fcmtest.Options{})
	release, begun := make(chan struct{}), make(chan struct{})
	var asked atomic.Int64
	s.OnRequest(func(r *fcmtest.Request) *fcmtest.Answer {
		if strings.HasSuffix(r.Path, "/token") {
			if asked.Add(1) == 1 {
				close(begun)
			}
			select {
			case <-release:
			case <-r.Context.Done():
			}
		}
		return nil
	})
	sender := testSender(t, s, Options{})
	tokens := make([]string, 50)
	for i := range tokens {
		tokens[i] = s.Token(i)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // once it is asked, all have as long to ask too
		select {
		case <-begun:
			time.AfterFunc(50*time.Millisecond, cancel)
		case <-ctx.Done():
		}
	}()
	for _, r := range sender.Send(ctx, batch(&transport.Content{Title: "hi"}, tokens...)) {
		if r.Outcome != transport.Unsent {
			t.Fatalf("%+v", r)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Error("asked", n)
	}
	close(release)
	for _, r := range sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, tokens...)) {
		if r.Outcome != transport.Accepted {
			t.Fatalf("%+v", r)
		}
	}
}
