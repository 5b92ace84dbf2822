package fcm

import (
	"net/http"
	"testing"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/internal/flow"
)

// FuzzAnswer: whatever stands in an answer it has one of the outcomes, and no token is taken for one that is not in the service's form.
func FuzzAnswer(f *testing.F) {
	for code := range meanings {
		f.Add(403, `{"error":{"status":"X","details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"`+code+`"}]}}`, "")
	}
	f.Add(400, `{"error":{"status":"INVALID_ARGUMENT","message":"The registration token is not a valid FCM registration token"}}`, "")
	f.Add(400, `{"error":{"status":"INVALID_ARGUMENT","details":[{"fieldViolations":[{"field":"message.token"}]}]}}`, "")
	f.Add(429, `{"error":{"status":"RESOURCE_EXHAUSTED"}}`, "120")
	f.Add(503, `<html>`, "Fri, 27 Nov 2026 00:00:00 GMT")
	f.Add(200, `<html>`, "")
	f.Fuzz(func(t *testing.T, status int, body, after string) {
		if status == http.StatusUnauthorized {
			return // asks for another access token
		}
		x := &flow.Exchange{Status: status, Answer: []byte(body), Header: http.Header{"Retry-After": {after}}}
		a := new(Sender).answer(x)
		if a.Outcome < transport.Accepted || a.Outcome > transport.Denied || a.Outcome == transport.Unsent || a.RetryAfter < 0 || a.Again {
			t.Fatalf("%+v", a)
		}
		if a.Outcome == transport.Unregistered && len(a.Reason) == 0 || (a.Outcome == transport.Accepted) != (status/100 == 2 && !x.HTML()) {
			t.Fatalf("%+v", a)
		}
	})
}
