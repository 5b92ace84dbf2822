package apns

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
	"github.com/fanfare-im/fanfare/transport/internal/flow"
)

// TestErrorTable has every row of "Handling notification responses from APNs", and what else may come.
func TestErrorTable(t *testing.T) {
	t.Parallel()
	died := time.Date(2026, 3, 1, 12, 0, 0, 123e6, time.UTC)
	for _, c := range []struct {
		answer  apnstest.Answer
		outcome transport.Outcome
		reason  string // if it is not the answer's
		after   time.Duration
		detail  string // a part of it
	}{
		{answer: apnstest.Answer{Reason: "BadCollapseId"}, outcome: transport.Rejected, detail: "override"},
		{answer: apnstest.Answer{Reason: "BadDeviceToken"}, outcome: transport.Unregistered},
		{answer: apnstest.Answer{Reason: "BadExpirationDate"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "BadMessageId"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "BadPriority"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "BadTopic"}, outcome: transport.Rejected, detail: "Options.Topic"},
		{answer: apnstest.Answer{Reason: "DeviceTokenNotForTopic"}, outcome: transport.Rejected, detail: "another app"},
		{answer: apnstest.Answer{Reason: "DuplicateHeaders"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "IdleTimeout"}, outcome: transport.Retry},
		{answer: apnstest.Answer{Reason: "InvalidPushType"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "MissingDeviceToken"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "MissingTopic"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "PayloadEmpty"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "TopicDisallowed"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "BadCertificate"}, outcome: transport.Denied, detail: "Options.Certificate"},
		{answer: apnstest.Answer{Reason: "BadCertificateEnvironment"}, outcome: transport.Denied, detail: "environment"},
		{answer: apnstest.Answer{Reason: "ExpiredProviderToken"}, outcome: transport.Denied, detail: "clock"},
		{answer: apnstest.Answer{Reason: "Forbidden"}, outcome: transport.Denied},
		{answer: apnstest.Answer{Reason: "InvalidProviderToken"}, outcome: transport.Denied, detail: "KeyID and TeamID"},
		{answer: apnstest.Answer{Reason: "MissingProviderToken"}, outcome: transport.Denied},
		{answer: apnstest.Answer{Status: 403, Reason: "UnrelatedKeyIdInToken"}, outcome: transport.Denied},
		{answer: apnstest.Answer{Status: 403, Reason: "BadEnvironmentKeyIdInToken"}, outcome: transport.Denied},
		{answer: apnstest.Answer{Status: 403, Reason: "BadEnvironmentKeyInToken"}, outcome: transport.Denied},
		{answer: apnstest.Answer{Reason: "BadPath"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "MethodNotAllowed"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "ExpiredToken", Timestamp: died}, outcome: transport.Unregistered},
		{answer: apnstest.Answer{Reason: "Unregistered", Timestamp: died}, outcome: transport.Unregistered},
		{answer: apnstest.Answer{Status: 410, Reason: "Unregistered"}, outcome: transport.Unregistered},
		{answer: apnstest.Answer{Reason: "PayloadTooLarge"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Reason: "TooManyProviderTokenUpdates", RetryAfter: time.Minute}, outcome: transport.Retry, after: time.Minute, detail: "another process"},
		{answer: apnstest.Answer{Reason: "TooManyRequests", RetryAfter: 90 * time.Second}, outcome: transport.Retry, after: 90 * time.Second},
		{answer: apnstest.Answer{Reason: "TooManyRequests"}, outcome: transport.Retry},
		{answer: apnstest.Answer{Reason: "InternalServerError"}, outcome: transport.Retry},
		{answer: apnstest.Answer{Reason: "ServiceUnavailable", RetryAfter: 5 * time.Second}, outcome: transport.Retry, after: 5 * time.Second},
		{answer: apnstest.Answer{Reason: "Shutdown"}, outcome: transport.Retry},
		// What is in no table.
		{answer: apnstest.Answer{Status: 400, Reason: "Unheard"}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Status: 403, Reason: "Unheard"}, outcome: transport.Denied},
		{answer: apnstest.Answer{Status: 410, Reason: "Unheard", Timestamp: died}, outcome: transport.Rejected},
		{answer: apnstest.Answer{Status: 503, Reason: "Unregistered", Timestamp: died}, outcome: transport.Retry},
		{answer: apnstest.Answer{Status: 400, Reason: "<b>/3/device/x</b>"}, outcome: transport.Rejected, reason: "unknown"},
		{answer: apnstest.Answer{Status: 429, Reason: "Unheard"}, outcome: transport.Retry},
		{answer: apnstest.Answer{Status: 500, Reason: "Unheard"}, outcome: transport.Retry},
		// What is no answer of APNs: nothing follows for the token, nor for the key.
		{answer: apnstest.Answer{Status: 200, Body: "\n<!doctype html>Sign in"}, outcome: transport.Retry, reason: "OK", after: time.Minute, detail: "proxy"},
		{answer: apnstest.Answer{Status: 403, Body: "<html>Forbidden</html>"}, outcome: transport.Retry, reason: "Forbidden", after: time.Minute, detail: "proxy"},
		{answer: apnstest.Answer{Status: 410, Body: "<html>Gone</html>"}, outcome: transport.Retry, reason: "Gone", after: time.Minute, detail: "proxy"},
		{answer: apnstest.Answer{Status: 404, Body: strings.Repeat("<p>", 20<<10)}, outcome: transport.Retry, reason: "Not Found", after: time.Minute, detail: "proxy"},
		{answer: apnstest.Answer{Status: 502, Body: "<html>Bad Gateway</html>"}, outcome: transport.Retry, reason: "Bad Gateway", detail: "proxy"},
		{answer: apnstest.Answer{Status: 503, Body: "{}", RetryAfter: 7 * time.Second}, outcome: transport.Retry, reason: "Service Unavailable", after: 7 * time.Second},
		{answer: apnstest.Answer{Status: 400, Body: "[]"}, outcome: transport.Retry, reason: "Bad Request", after: time.Minute},
		{answer: apnstest.Answer{Reset: true}, outcome: transport.Retry, reason: "no answer"},
	} {
		t.Run(cmp.Or(c.answer.Reason, c.reason)+fmt.Sprint(c.answer.Status), func(t *testing.T) {
			t.Parallel()
			s := testServer(t, apnstest.Options{})
			sender := testSender(t, s, Options{})
			good := sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, s.Token(0)))
			if good[0].Outcome != transport.Accepted {
				t.Fatalf("%+v", good)
			}
			s.Answer(s.Token(1), c.answer)
			r := sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, s.Token(1)))[0]
			if r.Outcome != c.outcome || r.Reason != cmp.Or(c.reason, c.answer.Reason) || !strings.Contains(r.Detail, c.detail) {
				t.Errorf("%+v", r)
			}
			switch {
			case c.outcome != transport.Retry && r.RetryAfter != 0, c.after != 0 && r.RetryAfter != c.after:
				t.Errorf("after %v, want %v", r.RetryAfter, c.after)
			case c.outcome == transport.Retry && c.after == 0 && (r.RetryAfter < time.Second || r.RetryAfter > 3*time.Second):
				t.Errorf("after %v, want about 2 s", r.RetryAfter)
			}
			if c.outcome == transport.Unregistered && !r.Since.Equal(c.answer.Timestamp) {
				t.Errorf("since %v, want %v", r.Since, c.answer.Timestamp)
			}
			if strings.Contains(fmt.Sprintf("%+v", r), s.Token(1)) {
				t.Error("the token is in the result")
			}
		})
	}
}

// TestBadTokensOfAnotherEnvironment: as long as no token was good, a sender does not give up those that the service does not know.
func TestBadTokensOfAnotherEnvironment(t *testing.T) {
	t.Parallel()
	s := testServer(t, apnstest.Options{})
	sender := testSender(t, s, Options{})
	good, bad := s.Token(0), s.Token(1)
	s.Answer(bad, apnstest.Answer{Reason: "BadDeviceToken"})
	send := func(token string) transport.Result {
		return sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, token))[0]
	}
	if r := send(bad); r.Outcome != transport.Rejected || !strings.Contains(r.Detail, "sandbox") {
		t.Errorf("%+v", r)
	}
	if r := send(good); r.Outcome != transport.Accepted {
		t.Errorf("%+v", r)
	}
	if r := send(bad); r.Outcome != transport.Unregistered {
		t.Errorf("%+v", r)
	}
	asked := s.Requests()
	for _, malformed := range []string{"", "abc", "not hexadecimal at all, not at all", strings.Repeat("a", 402), good + "/../" + bad, strings.Repeat("0", 31)} {
		if r := send(malformed); r.Outcome != transport.Unregistered {
			t.Errorf("%q: %+v", malformed, r)
		}
	}
	if s.Requests() != asked {
		t.Error("the service was asked about tokens that cannot be any")
	}
}

// TestProviderTokenIsRenewed: a provider token that the service takes for too old is renewed once, for all requests together, and
// not before it may be.
func TestProviderTokenIsRenewed(t *testing.T) {
	t.Parallel()
	skew := make(chan time.Duration, 1)
	skew <- 0
	s := testServer(t, apnstest.Options{TokenUpdates: apnstest.UpdatesPerServer, Now: func() time.Time {
		d := <-skew
		skew <- d
		return time.Now().Add(d)
	}})
	sender := testSender(t, s, Options{})
	tokens := make([]string, 200)
	for i := range tokens {
		tokens[i] = s.Token(i)
	}
	send := func() map[transport.Outcome]int {
		got := make(map[transport.Outcome]int)
		for _, r := range sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, tokens...)) {
			got[r.Outcome]++
		}
		return got
	}
	if got := send(); got[transport.Accepted] != 200 || s.ProviderTokens() != 1 {
		t.Fatal(got, s.ProviderTokens())
	}
	// The sender's token is half an hour old by its own clock, and too old by the service's.
	sender.provider.Lock()
	sender.provider.IssuedAt -= 1800
	sender.provider.Unlock()
	<-skew
	skew <- 61 * time.Minute
	if got := send(); got[transport.Denied] != 200 { // the new one is too old as well
		t.Fatal(got)
	}
	if n := s.ProviderTokens(); n != 2 {
		t.Fatal(n, "provider tokens")
	}
	<-skew
	skew <- 25 * time.Minute
	if got := send(); got[transport.Accepted] != 200 || s.ProviderTokens() != 2 {
		t.Fatal(got, s.ProviderTokens())
	}
}

// TestDeniedAsksOnce: when the service denies the sender, the requests under way end and no further one begins; the next batch
// begins with one.
func TestDeniedAsksOnce(t *testing.T) {
	t.Parallel()
	s := testServer(t, apnstest.Options{})
	sender := testSender(t, s, Options{Concurrency: 10, KeyID: "OTHERKEYID", TeamID: s.Key().TeamID, Key: s.Key().PEM})
	tokens := make([]string, 1000)
	for i := range tokens {
		tokens[i] = s.Token(i)
	}
	for i := range 3 {
		before := s.Requests()
		for _, r := range sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, tokens...)) {
			if r.Outcome != transport.Denied || r.Reason != "InvalidProviderToken" || !strings.Contains(r.Detail, "KeyID") {
				t.Fatalf("%+v", r)
			}
		}
		if n := s.Requests() - before; n > 20 || i > 0 && n != 1 {
			t.Error(n, "requests")
		}
	}
}

// TestMeaningsAreComplete: every reason has an outcome, and nothing that a service may say takes tokens but that it does not know them.
func TestMeaningsAreComplete(t *testing.T) {
	t.Parallel()
	for reason, m := range meanings {
		if m.outcome == 0 || m.outcome == transport.Accepted || m.outcome == transport.Denied && m.detail == "" {
			t.Error(reason, m)
		}
		if takes := m.outcome == transport.Unregistered; takes != (reason == "BadDeviceToken" || reason == "Unregistered" || reason == "ExpiredToken") {
			t.Error(reason, "takes tokens:", takes)
		}
	}
}

// TestCutAnswers: a status that came counts, whatever became of the rest; and no notification of a connection that is lost is.
func TestCutAnswers(t *testing.T) {
	t.Parallel()
	s := testServer(t, apnstest.Options{})
	sender := testSender(t, s, Options{Connections: 4, Concurrency: 40})
	tokens := make([]string, 2000)
	for i := range tokens {
		tokens[i] = s.Token(i)
	}
	s.CutEvery(100)
	for i, r := range sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, tokens...)) {
		if r.Outcome != transport.Accepted || s.Count(tokens[i]) == 0 {
			t.Fatalf("%d: %+v, accepted %d", i, r, s.Count(tokens[i]))
		}
	}
	// Of those on a connection that was cut nobody knows which had come; all others came once.
	if again := s.Total() - len(tokens); again > s.Requests()/100*40 {
		t.Error(again, "came twice")
	}
}

// TestGoAwayRepeatsNothing: what a connection that the service leaves had not taken goes to another, and nothing goes twice.
func TestGoAwayRepeatsNothing(t *testing.T) {
	t.Parallel()
	s := testServer(t, apnstest.Options{})
	sender := testSender(t, s, Options{Connections: 3, Concurrency: 60})
	s.GoAwayEvery(100)
	tokens := make([]string, 2000)
	for i := range tokens {
		tokens[i] = s.Token(i)
	}
	for _, r := range sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, tokens...)) {
		if r.Outcome != transport.Accepted {
			t.Fatalf("%+v", r)
		}
	}
	for _, token := range tokens {
		if n := s.Count(token); n != 1 {
			t.Fatal("accepted", n)
		}
	}
}

// TestLoweredStreams: a service that answers refusals by taking fewer requests on the connection, down to one, is never sent more than it
// takes, and everything gets through.
func TestLoweredStreams(t *testing.T) {
	t.Parallel()
	s := testServer(t, apnstest.Options{Streams: 16})
	sender := testSender(t, s, Options{Connections: 3, Concurrency: 200})
	s.LowerStreams(true)
	tokens := make([]string, 600)
	for i := range tokens {
		if tokens[i] = s.Token(i); i%5 != 0 {
			s.Kill(tokens[i], time.Now())
		}
	}
	for i, r := range sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, tokens...)) {
		if want := map[bool]transport.Outcome{true: transport.Unregistered, false: transport.Accepted}[i%5 != 0]; r.Outcome != want {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	if _, ever := s.Connections(); ever > 3 {
		t.Error(ever, "connections")
	}
}

// TestNobodyThere: where nothing answers, one batch finds it out and what follows is not sent, until one request is answered.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	s := testServer(t, apnstest.Options{})
	sender := testSender(t, s, Options{Concurrency: 20})
	tokens := make([]string, 300)
	for i := range tokens {
		tokens[i] = s.Token(i)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := make(map[transport.Outcome]int)
	for _, r := range sender.Send(context.Background(), batch(&transport.Content{Title: "hi"}, tokens...)) {
		got[r.Outcome]++
	}
	if got[transport.Unsent] != 300 { // nobody was asked, so it is no try
		t.Fatal(got)
	}
}

// TestRetryAfterOfADate: the header may be a date.
func TestRetryAfterOfADate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for v, want := range map[string]time.Duration{
			"": 0, "7": 7 * time.Second, "-7": 0, "x": 0, "99999999": 24 * time.Hour, "99999999999999999999": 0,
			time.Now().UTC().Add(time.Minute).Format(http.TimeFormat): time.Minute, time.Now().UTC().Add(-time.Minute).Format(http.TimeFormat): 0,
		} {
			x := flow.Exchange{Header: http.Header{"Retry-After": {v}}}
			if got := x.RetryAfter(time.Now()); got != want {
				t.Errorf("%q is %v, want %v", v, got, want)
			}
		}
	})
}
