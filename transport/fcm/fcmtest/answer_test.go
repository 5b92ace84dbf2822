package fcmtest_test

import (
	"slices"
	"testing"

	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// The table of ErrorCode in Google's reference, and what comes without a code.
func TestAnswers(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	for i, x := range []struct {
		answer  fcmtest.Answer
		status  int
		code    string
		details []string
	}{
		{fcmtest.Answer{ErrorCode: "UNSPECIFIED_ERROR"}, 500, "UNKNOWN", []string{"FcmError"}},
		{fcmtest.Answer{ErrorCode: "INVALID_ARGUMENT"}, 400, "INVALID_ARGUMENT", []string{"FcmError"}},
		{fcmtest.Answer{ErrorCode: "UNREGISTERED"}, 404, "NOT_FOUND", []string{"FcmError"}},
		{fcmtest.Answer{ErrorCode: "SENDER_ID_MISMATCH"}, 403, "PERMISSION_DENIED", []string{"FcmError"}},
		{fcmtest.Answer{ErrorCode: "QUOTA_EXCEEDED"}, 429, "RESOURCE_EXHAUSTED", []string{"FcmError", "QuotaFailure"}},
		{fcmtest.Answer{ErrorCode: "UNAVAILABLE"}, 503, "UNAVAILABLE", []string{"FcmError"}},
		{fcmtest.Answer{ErrorCode: "INTERNAL"}, 500, "INTERNAL", []string{"FcmError"}},
		{fcmtest.Answer{ErrorCode: "THIRD_PARTY_AUTH_ERROR"}, 401, "UNAUTHENTICATED", []string{"FcmError"}},
		{fcmtest.Answer{ErrorCode: "NEW_CODE"}, 500, "UNKNOWN", []string{"FcmError"}},
		{fcmtest.Answer{ErrorCode: "NEW_CODE", Status: 418, Code: "ABORTED"}, 418, "ABORTED", []string{"FcmError"}},
		{fcmtest.Answer{Status: 429}, 429, "RESOURCE_EXHAUSTED", nil},
		{fcmtest.Answer{Status: 400}, 400, "INVALID_ARGUMENT", nil},
		{fcmtest.Answer{Status: 502}, 502, "UNKNOWN", nil},
		{fcmtest.Answer{Code: "DEADLINE_EXCEEDED"}, 504, "DEADLINE_EXCEEDED", nil},
		{fcmtest.Answer{Message: "odd"}, 500, "UNKNOWN", nil},
	} {
		token := s.Token(i)
		s.Answer(token, x.answer)
		r := c.send(hello(token))
		if r.status != x.status || r.code != x.code || !slices.Equal(r.details, x.details) || r.errorCode != x.answer.ErrorCode {
			t.Errorf("%+v: %d\n%s", x.answer, r.status, r.body)
		}
		if x.answer.Message != "" && r.message != x.answer.Message || r.message == "" {
			t.Errorf("%+v: message %q", x.answer, r.message)
		}
		s.Answer(token, fcmtest.Answer{})
		if r := c.send(hello(token)); r.status != 200 || s.Count(token) != 1 {
			t.Errorf("%+v is not taken back: %d, %d accepted", x.answer, r.status, s.Count(token))
		}
	}
	if p := s.Problems(); p != nil {
		t.Error(p)
	}
}

func TestAnswerHeaderAndBody(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	token := s.Token(1)
	page := []byte("<html>bad gateway</html>")
	s.Answer(token, fcmtest.Answer{Status: 502, RetryAfter: "120", Body: page})
	r := c.send(hello(token))
	if r.status != 502 || string(r.body) != string(page) || r.header.Get("Retry-After") != "120" || r.header.Get("Content-Type") != "text/html; charset=UTF-8" {
		t.Error(r.status, r.header, string(r.body))
	}
	s.Answer(token, fcmtest.Answer{Body: []byte(`{"name": 7}`)})
	r = c.send(hello(token))
	if r.status != 200 || r.header.Get("Content-Type") != "application/json; charset=UTF-8" || string(r.body) != `{"name": 7}` {
		t.Error(r.status, r.header, string(r.body))
	}
	s.Answer(token, fcmtest.Answer{ErrorCode: "QUOTA_EXCEEDED", RetryAfter: "7"})
	if r = c.send(hello(token)); r.status != 429 || r.header.Get("Retry-After") != "7" {
		t.Error(r.status, r.header)
	}
	if s.Total() != 0 || s.Requests() != 3 {
		t.Error(s.Total(), s.Requests())
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	s.Kill(s.Token(1))
	r := c.send(hello(s.Token(1)))
	const want = `{
  "error": {
    "code": 404,
    "message": "Requested entity was not found.",
    "status": "NOT_FOUND",
    "details": [
      {
        "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
        "errorCode": "UNREGISTERED"
      }
    ]
  }
}
`
	if string(r.body) != want {
		t.Errorf("%s", r.body)
	}
	if r := c.send(hello(s.Token(2))); r.status != 200 {
		t.Error(r.status)
	}
}

func TestAnswerNext(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	s.AnswerNext(2, fcmtest.Answer{ErrorCode: "UNAVAILABLE"})
	s.AnswerNext(1, fcmtest.Answer{ErrorCode: "INTERNAL"})
	for i, want := range []int{503, 503, 500, 200} {
		if r := c.send(hello(s.Token(i))); r.status != want {
			t.Errorf("%d: %d, not %d", i, r.status, want)
		}
	}
	s.AnswerNext(1, fcmtest.Answer{ErrorCode: "UNAVAILABLE"})
	s.AnswerNext(0, fcmtest.Answer{})
	if r := c.send(hello(s.Token(1))); r.status != 200 {
		t.Error("it is not taken back:", r.status)
	}
}

func TestOnRequest(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	var seen []fcmtest.Request // one request at a time
	s.OnRequest(func(r *fcmtest.Request) *fcmtest.Answer {
		seen = append(seen, *r)
		switch {
		case r.Path == "/token":
			return &fcmtest.Answer{Status: 503}
		case r.Token == s.Token(1):
			return &fcmtest.Answer{ErrorCode: "INTERNAL"}
		case r.Token == s.Token(2):
			return new(fcmtest.Answer)
		}
		return nil
	})
	for i, want := range []int{200, 500, 200} {
		if r := c.send(hello(s.Token(i))); r.status != want {
			t.Errorf("%d: %d, not %d", i, r.status, want)
		}
	}
	if g := c.ask("x"); g.status != 503 || g.Error != "unavailable" {
		t.Errorf("%+v", g)
	}
	if len(seen) != 4 || string(seen[0].Body) != hello(s.Token(0)) || seen[0].Method != "POST" || seen[0].Proto != "HTTP/2.0" ||
		seen[0].Header.Get("Authorization") != "Bearer "+c.access || seen[3].Token != "" {
		t.Errorf("%+v", seen)
	}
	s.OnRequest(nil)
	if r := c.send(hello(s.Token(1))); r.status != 200 {
		t.Error(r.status)
	}
}
