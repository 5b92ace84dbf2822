package fcm

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/internal/flow"
)

// The error codes of the service ("ErrorCode" in its REST reference).
const (
	unspecified      = "UNSPECIFIED_ERROR"
	invalidArgument  = "INVALID_ARGUMENT"
	unregistered     = "UNREGISTERED"
	senderIDMismatch = "SENDER_ID_MISMATCH"
	quotaExceeded    = "QUOTA_EXCEEDED"
	unavailable      = "UNAVAILABLE"
	internal         = "INTERNAL"
	thirdPartyAuth   = "THIRD_PARTY_AUTH_ERROR"
)

// meaning is what one of the service's answers means.
type meaning struct {
	outcome transport.Outcome
	verdict flow.Verdict
	detail  string
}

const (
	ourMistake    = "fanfare or an override made a message that FCM does not take"
	otherSender   = "the token is of another Firebase project; it is kept"
	iosKey        = "the Firebase project lacks a good APNs key, or that of web push: look at Cloud Messaging in the project's settings"
	denied        = "look at Options.ServiceAccount and Project: may this account send messages in this project, and is the Firebase Cloud Messaging API (V1) on there?"
	deniedToken   = "look at Options.ServiceAccount, which may have been deleted or disabled, and at this machine's clock"
	noSuchProject = "look at Options.Project and Endpoint: there is no such project"
	noFCM         = "the answer is not one of FCM: is there a proxy before it?"
)

var meanings = map[string]meaning{
	unspecified:      {transport.Retry, flow.Away, ""},
	invalidArgument:  {transport.Rejected, flow.Fine, ourMistake},
	unregistered:     {transport.Unregistered, flow.Fine, ""},
	senderIDMismatch: {transport.Rejected, flow.Fine, otherSender},
	quotaExceeded:    {transport.Retry, flow.Busy, ""},
	unavailable:      {transport.Retry, flow.Busy, ""},
	internal:         {transport.Retry, flow.Away, ""},
	thirdPartyAuth:   {transport.Rejected, flow.Fine, iosKey},
}

// byStatus is what an answer of the service means that names no code of its own.
func byStatus(status int) meaning {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return meaning{transport.Denied, flow.Fine, denied}
	case status == http.StatusNotFound:
		return meaning{transport.Denied, flow.Fine, noSuchProject}
	case status == http.StatusTooManyRequests:
		return meaning{transport.Retry, flow.Busy, ""}
	case status >= 500:
		return meaning{transport.Retry, flow.Away, ""}
	}
	return meaning{transport.Rejected, flow.Fine, ourMistake}
}

// quotaPause is how long to wait where the service is asked too much and does not say how long: its documentation asks for a minute.
const quotaPause = time.Minute

// failure is the service's answer to a request that it refuses (google.rpc.Status).
type failure struct {
	Error struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		Details []struct {
			Type      string `json:"@type"`
			ErrorCode string `json:"errorCode"`
			Fields    []struct {
				Field string `json:"field"`
			} `json:"fieldViolations"`
			Quotas []struct {
				Subject string `json:"subject"`
			} `json:"violations"`
		} `json:"details"`
	} `json:"error"`
}

// code is the service's own word, where there is one.
func (f *failure) code() string {
	for _, d := range f.Error.Details {
		if strings.HasSuffix(d.Type, "google.firebase.fcm.v1.FcmError") {
			return d.ErrorCode
		}
	}
	return ""
}

// blamesToken says that it is the token that is malformed.
func (f *failure) blamesToken() bool {
	for _, d := range f.Error.Details {
		for _, v := range d.Fields {
			if v.Field == "message.token" {
				return true
			}
		}
	}
	return strings.Contains(f.Error.Message, "registration token is not a valid")
}

// ofDevice says that it is the quota of the one device that was exceeded.
func (f *failure) ofDevice() bool {
	for _, d := range f.Error.Details {
		for _, q := range d.Quotas {
			if strings.HasPrefix(q.Subject, "device:") {
				return true
			}
		}
	}
	return false
}

// answer says what came back from a request means.
func (s *Sender) answer(x *flow.Exchange) flow.Answer {
	if x.Status >= 200 && x.Status < 300 && !x.HTML() {
		return flow.Answer{Result: transport.Result{Outcome: transport.Accepted}}
	}
	var f failure
	after := x.RetryAfter(time.Now())
	if json.Unmarshal(x.Answer, &f) != nil || f.Error.Status == "" {
		if after == 0 && x.Status < 500 && x.Status != http.StatusTooManyRequests {
			after = time.Minute // whoever it is, it is not FCM that says so
		}
		return flow.Answer{
			Result: transport.Result{Outcome: transport.Retry, Reason: http.StatusText(x.Status), Detail: noFCM, RetryAfter: after}, Verdict: flow.Away,
		}
	}
	reason := f.code()
	m, known := meanings[reason]
	if !known || reason == unregistered && x.Status != http.StatusNotFound {
		m = byStatus(x.Status) // a token is taken by word and status only
	}
	if reason == "" {
		reason = f.Error.Status
	}
	reason = flow.Word(reason)
	a := flow.Answer{Result: transport.Result{Outcome: m.outcome, Reason: reason, Detail: m.detail}, Verdict: m.verdict}
	switch {
	case m.outcome == transport.Retry:
		if a.RetryAfter = after; after == 0 && x.Status == http.StatusTooManyRequests {
			a.RetryAfter = quotaPause
		}
		if f.ofDevice() {
			a.Verdict = flow.Fine
		}
	case x.Status == http.StatusBadRequest && f.blamesToken():
		a.Outcome, a.Detail = transport.Unregistered, "the token is malformed"
	case x.Status == http.StatusUnauthorized && m.outcome == transport.Denied:
		s.auth.renew(x.Authorization)
		a.Again = true
	}
	return a
}

// noAnswer says what it means that nothing came back.
func noAnswer(err error) flow.Answer {
	var none *flow.ConnectError
	if errors.As(err, &none) {
		return flow.Unreached(err)
	}
	return flow.Answer{Result: transport.Result{Outcome: transport.Retry, Reason: "no answer", Detail: flow.Redact(err)}, Verdict: flow.Away}
}

// noAccess says what it means that there is no access token to ask with.
func noAccess(err error) flow.Answer {
	var refused *oauth2.RetrieveError
	var failed net.Error
	switch {
	case errors.As(err, &refused) && refused.Response != nil:
		return noToken(refused)
	case errors.As(err, &failed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return flow.Unreached(err)
	}
	return flow.Answer{Result: transport.Result{Outcome: transport.Denied, Reason: "no access token", Detail: deniedToken}}
}

// noToken says what it means that there is no access token (RFC 6749, section 5.2).
func noToken(refused *oauth2.RetrieveError) flow.Answer {
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	status := refused.Response.StatusCode
	if json.Unmarshal(refused.Body, &body) != nil || body.Error == "" {
		return flow.Answer{Result: transport.Result{Outcome: transport.Retry, Reason: http.StatusText(status), Detail: noFCM}, Verdict: flow.Away}
	}
	if status >= 500 || status == http.StatusTooManyRequests {
		return flow.Answer{Result: transport.Result{Outcome: transport.Retry, Reason: flow.Word(body.Error), Detail: short(body.Description)}, Verdict: flow.Away}
	}
	return flow.Answer{Result: transport.Result{Outcome: transport.Denied, Reason: flow.Word(body.Error), Detail: deniedToken + ": " + short(body.Description)}}
}

// short bounds a description from outside.
func short(s string) string { return strings.ToValidUTF8(s[:min(len(s), 200)], "") }
