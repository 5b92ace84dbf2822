// Package apns sends phone notifications through the Apple Push Notification service.
//
// A [Sender] is a [transport.Mobile] for a Pusher's Options.Mobile. Requests are made by github.com/sideshow/apns2, once for a task and a
// language, and sent by the package itself, with what a large fan-out needs: several connections, of which none has more requests than
// the service allows; as many requests at a time as the service answers; and what each of the service's answers means for the token, the
// notification and the task. docs/phones.md says how to get a key, and what an app does.
package apns

import (
	"context"
	"maps"
	"sync/atomic"
	"time"

	"github.com/sideshow/apns2"
	"golang.org/x/net/http/httpguts"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/internal/flow"
	"github.com/fanfare-im/fanfare/transport/internal/payload"
)

const maxBatch = 2000

// Sender sends to devices of one platform. It is a [transport.Mobile], and has the powers Sizer, Checker and Closer. It prints
// without its secrets. Make one with [New]. Its methods are safe for concurrent use.
type Sender struct {
	o        Options
	client   *apns2.Client
	pool     *flow.Pool
	provider *provider // nil with a certificate
	sender   *flow.Sender
	payloads payload.Cache[*encoded]

	// proven says that the service knew a token. Before, one that it does not know may be one of another environment.
	proven atomic.Bool
}

// String names the platform and the endpoint.
func (s *Sender) String() string { return string(s.Platform()) + " at " + s.o.Endpoint }

// GoString is String, for %#v.
func (s *Sender) GoString() string { return s.String() }

// Platform returns "apns", or "apns-sandbox".
func (s *Sender) Platform() transport.Platform {
	if s.o.Sandbox {
		return PlatformSandbox
	}
	return Platform
}

// BatchSize returns Options.BatchSize.
func (s *Sender) BatchSize() int { return s.o.BatchSize }

// Send sends the batch; see [transport.Mobile].
func (s *Sender) Send(ctx context.Context, batch []transport.Notification) []transport.Result {
	return s.sender.Send(ctx, batch, s.ask)
}

// Check returns an error for a notification that the service would not take: one whose payload is over 4 KiB (5 KiB for VoIP), in any
// of its languages, whose Collapse is over 64 bytes, or whose languages, data or override are malformed.
func (s *Sender) Check(c *transport.Content) error {
	return s.payloads.Check(&transport.Message{ID: anyID}, c)
}

// Close ends the connections; what is still to be sent is Unsent.
func (s *Sender) Close() error {
	s.sender.Close()
	return s.pool.Close()
}

// wellFormed says whether a token may be one: the service gives them in hexadecimal digits, today 64 of them, and says that they may become longer.
func wellFormed(token string) bool {
	if len(token) < 16 || len(token) > 400 || len(token)%2 != 0 {
		return false
	}
	for _, c := range []byte(token) {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

// ask sends one notification and says what its answer means.
func (s *Sender) ask(ctx context.Context, n *transport.Notification) flow.Answer {
	p, err := s.payloads.Get(n)
	if err != nil {
		return local(transport.Rejected, "BadPayload", err.Error())
	}
	if !wellFormed(n.Device.Token) {
		return local(transport.Unregistered, apns2.ReasonBadDeviceToken, "the token is not one of APNs")
	}
	topic := p.topic
	if topic == "" {
		topic = n.Device.Topic
	}
	if topic == "" {
		topic = s.o.Topic
	}
	if topic == "" && s.provider != nil {
		return local(transport.Rejected, apns2.ReasonMissingTopic, "the device was registered without its app, and Options.Topic is empty")
	}
	if !httpguts.ValidHeaderFieldValue(topic) {
		return local(transport.Rejected, apns2.ReasonBadTopic, "the device was registered with a topic that is none")
	}
	x := &flow.Exchange{Body: p.body}
	if s.provider != nil {
		x.Authorization = "bearer " + s.provider.GenerateIfExpired()
	}
	u := *p.url
	u.Path += n.Device.Token
	header := maps.Clone(p.header)
	if topic != "" {
		header["Apns-Topic"] = []string{topic}
	}
	err = x.Do(ctx, s.pool, &u, header)
	return s.answer(x, err)
}

// draft has apns2 make the request to any device.
func (s *Sender) draft(e *encoded, expires time.Time) error {
	var d flow.Draft
	_, err := s.client.PushWithContext(d.Context(), &apns2.Notification{
		CollapseID: e.collapse, Priority: e.priority, PushType: e.pushType, Expiration: expiration(expires), Payload: e.body,
	})
	e.url, e.header = d.URL, d.Header
	return err
}

// expiration is a time as apns2 takes it: for what is over it omits the header, so that the notification would be kept.
func expiration(at time.Time) time.Time {
	if at.Unix() < 1 {
		return time.Unix(1, 0)
	}
	return at
}

// local is an answer that nobody was asked for.
func local(o transport.Outcome, reason, detail string) flow.Answer {
	return flow.Answer{Result: transport.Result{Outcome: o, Reason: reason, Detail: detail}, Verdict: flow.Unasked}
}
