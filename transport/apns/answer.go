package apns

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/sideshow/apns2"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/internal/flow"
)

// Reasons that apns2 has no name for.
const (
	reasonBadEnvironmentKey    = "BadEnvironmentKeyIdInToken"
	reasonUnrelatedKey         = "UnrelatedKeyIdInToken"
	reasonBadEnvironmentKeyOld = "BadEnvironmentKeyInToken"
)

// meaning is what one of the service's answers means, as its table of errors has it ("Handling notification responses from APNs").
type meaning struct {
	outcome transport.Outcome
	verdict flow.Verdict
	detail  string
}

const (
	ourMistake  = "fanfare or an override made a request that APNs does not take"
	otherTopic  = "the token is of another app than the topic; it is kept"
	deniedKey   = "look at Options.Key, KeyID and TeamID: the key may be revoked, of another team, or not for this environment or topic"
	deniedCert  = "look at Options.Certificate: it may be revoked, have ended, or be for another environment"
	otherClock  = "look at this machine's clock: the service takes the provider token for older than an hour although it is new"
	otherPlace  = "no token was good yet: they may be of the sandbox where the sender is for production, or the other way round; kept"
	noAPNs      = "the answer is not one of APNs: is there a proxy before it?"
	noTopicHere = "look at Options.Topic and at the topics of devices: the key or certificate is not for this app"
)

// meanings has every reason of the service's table, and those that it names elsewhere.
var meanings = map[string]meaning{
	apns2.ReasonBadCollapseID:               {transport.Rejected, flow.Fine, ourMistake},
	apns2.ReasonBadDeviceToken:              {transport.Unregistered, flow.Fine, ""},
	apns2.ReasonBadExpirationDate:           {transport.Rejected, flow.Fine, ourMistake},
	apns2.ReasonBadMessageID:                {transport.Rejected, flow.Fine, ourMistake},
	apns2.ReasonBadPriority:                 {transport.Rejected, flow.Fine, ourMistake},
	apns2.ReasonBadTopic:                    {transport.Rejected, flow.Fine, noTopicHere},
	apns2.ReasonDeviceTokenNotForTopic:      {transport.Rejected, flow.Fine, otherTopic},
	apns2.ReasonDuplicateHeaders:            {transport.Rejected, flow.Fine, ourMistake},
	apns2.ReasonIdleTimeout:                 {transport.Retry, flow.Fine, ""},
	apns2.ReasonInvalidPushType:             {transport.Rejected, flow.Fine, ourMistake},
	apns2.ReasonMissingDeviceToken:          {transport.Rejected, flow.Fine, ourMistake},
	apns2.ReasonMissingTopic:                {transport.Rejected, flow.Fine, noTopicHere},
	apns2.ReasonPayloadEmpty:                {transport.Rejected, flow.Fine, ourMistake},
	apns2.ReasonTopicDisallowed:             {transport.Rejected, flow.Fine, noTopicHere},
	apns2.ReasonBadCertificate:              {transport.Denied, flow.Fine, deniedCert},
	apns2.ReasonBadCertificateEnvironment:   {transport.Denied, flow.Fine, deniedCert},
	apns2.ReasonExpiredProviderToken:        {transport.Denied, flow.Fine, otherClock},
	apns2.ReasonForbidden:                   {transport.Denied, flow.Fine, deniedKey},
	apns2.ReasonInvalidProviderToken:        {transport.Denied, flow.Fine, deniedKey},
	apns2.ReasonMissingProviderToken:        {transport.Denied, flow.Fine, deniedKey},
	reasonUnrelatedKey:                      {transport.Denied, flow.Fine, deniedKey},
	reasonBadEnvironmentKey:                 {transport.Denied, flow.Fine, deniedKey},
	reasonBadEnvironmentKeyOld:              {transport.Denied, flow.Fine, deniedKey},
	apns2.ReasonBadPath:                     {transport.Rejected, flow.Fine, ourMistake},
	apns2.ReasonMethodNotAllowed:            {transport.Rejected, flow.Fine, ourMistake},
	apns2.ReasonExpiredToken:                {transport.Unregistered, flow.Fine, ""},
	apns2.ReasonUnregistered:                {transport.Unregistered, flow.Fine, ""},
	apns2.ReasonPayloadTooLarge:             {transport.Rejected, flow.Fine, ourMistake},
	apns2.ReasonTooManyProviderTokenUpdates: {transport.Retry, flow.Busy, "another process renews provider tokens of the same key, or this one is started again and again"},
	apns2.ReasonTooManyRequests:             {transport.Retry, flow.Fine, "too many to this one device"},
	apns2.ReasonInternalServerError:         {transport.Retry, flow.Away, ""},
	apns2.ReasonServiceUnavailable:          {transport.Retry, flow.Busy, ""},
	apns2.ReasonShutdown:                    {transport.Retry, flow.Busy, ""},
}

// unknown is what an answer means whose reason is in no table.
func unknown(status int) meaning {
	switch {
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return meaning{transport.Denied, flow.Fine, deniedKey}
	case status == http.StatusTooManyRequests:
		return meaning{transport.Retry, flow.Busy, ""}
	case status >= 500:
		return meaning{transport.Retry, flow.Away, ""}
	}
	return meaning{transport.Rejected, flow.Fine, ourMistake}
}

// answer says what came back from a request means.
func (s *Sender) answer(x *flow.Exchange, err error) flow.Answer {
	var none *flow.ConnectError
	if errors.As(err, &none) {
		return flow.Unreached(err)
	}
	if x.Status == 0 {
		return flow.Answer{Result: transport.Result{Outcome: transport.Retry, Reason: "no answer", Detail: flow.Redact(err)}, Verdict: flow.Away}
	}
	if x.Status == http.StatusOK && !x.HTML() {
		s.proven.Store(true)
		return flow.Answer{Result: transport.Result{Outcome: transport.Accepted}}
	}
	var body struct {
		Reason    string
		Timestamp int64 // milliseconds since 1970
	}
	after := x.RetryAfter(time.Now())
	if json.Unmarshal(x.Answer, &body) != nil || body.Reason == "" {
		if after == 0 && x.Status < 500 && x.Status != http.StatusTooManyRequests {
			after = time.Minute // whoever it is, it is not APNs that says so
		}
		return flow.Answer{
			Result: transport.Result{Outcome: transport.Retry, Reason: http.StatusText(x.Status), Detail: noAPNs, RetryAfter: after}, Verdict: flow.Away,
		}
	}
	m, known := meanings[body.Reason]
	if !known || m.outcome == transport.Unregistered && x.Status != http.StatusGone && x.Status != http.StatusBadRequest {
		m = unknown(x.Status) // a token is taken by word and status only
	}
	a := flow.Answer{Result: transport.Result{Outcome: m.outcome, Reason: flow.Word(body.Reason), Detail: m.detail}, Verdict: m.verdict}
	switch {
	case m.outcome == transport.Retry:
		a.RetryAfter = after
	case body.Reason == apns2.ReasonBadDeviceToken && !s.proven.Load():
		a.Outcome, a.Detail = transport.Rejected, otherPlace
	case m.outcome == transport.Unregistered:
		if body.Timestamp > 0 {
			a.Since = time.UnixMilli(body.Timestamp)
		}
		if x.Status == http.StatusGone {
			s.proven.Store(true) // it was a token here
		}
	case body.Reason == apns2.ReasonExpiredProviderToken && s.provider != nil:
		a.Again = s.provider.renew(strings.TrimPrefix(x.Authorization, "bearer "))
	}
	return a
}
