package apns

import (
	"net/http"
	"testing"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/internal/flow"
)

// FuzzAnswer: whatever stands in an answer it has one of the outcomes, and no token is taken for one that is not in the service's form.
func FuzzAnswer(f *testing.F) {
	for reason := range meanings {
		f.Add(403, `{"reason":"`+reason+`"}`, "")
	}
	f.Add(410, `{"reason":"Unregistered","timestamp":1771234567890}`, "")
	f.Add(410, `{"reason":"Unregistered","timestamp":-9223372036854775808}`, "")
	f.Add(503, `<html>`, "Fri, 27 Nov 2026 00:00:00 GMT")
	f.Add(200, `<html>`, "")
	f.Add(200, `{`, "5")
	s := new(Sender)
	f.Fuzz(func(t *testing.T, status int, body, after string) {
		s.proven.Store(true)
		x := &flow.Exchange{Status: status, Answer: []byte(body), Header: http.Header{"Retry-After": {after}}}
		a := s.answer(x, nil)
		if a.Outcome < transport.Accepted || a.Outcome > transport.Denied || a.Outcome == transport.Unsent || a.RetryAfter < 0 || a.Again {
			t.Fatalf("%+v", a)
		}
		if a.Outcome == transport.Unregistered && len(a.Reason) == 0 || (a.Outcome == transport.Accepted) != (status == http.StatusOK && !x.HTML()) {
			t.Fatalf("%+v", a)
		}
	})
}
