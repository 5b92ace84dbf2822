// Package fcm sends phone notifications through Firebase Cloud Messaging, to Android, to iOS and to browsers.
//
// A [Sender] is a [transport.Mobile] for a Pusher's Options.Mobile. Requests are made by firebase.google.com/go/v4, once for a task
// and a language, and sent by the package itself, with what a large fan-out needs: several connections, of which none has more requests
// than the service allows; a limit over all calls; as many requests at a time as the service answers; no retries that keep a batch
// waiting and end with the process, as that library's; and what each of the service's answers means for the token, the notification and the task.
// docs/phones.md says how to get a service account, and what an app does.
//
// Importing it compiles Google's libraries, some six hundred packages.
package fcm

import (
	"context"
	"maps"
	"time"

	"firebase.google.com/go/v4/messaging"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/internal/flow"
	"github.com/fanfare-im/fanfare/transport/internal/payload"
)

// Sender sends to devices of the platform "fcm". It is a [transport.Mobile], and has the powers Sizer, Checker and Closer. It prints
// without its secrets. Make one with [New]. Its methods are safe for concurrent use.
type Sender struct {
	o        Options
	client   *messaging.Client
	pool     *flow.Pool
	auth     *auth
	sender   *flow.Sender
	messages payload.Cache[*encoded]
}

// String names the project and the endpoint.
func (s *Sender) String() string {
	return string(Platform) + " project " + s.o.Project + " at " + s.o.Endpoint
}

// GoString is String, for %#v.
func (s *Sender) GoString() string { return s.String() }

// Platform returns "fcm".
func (s *Sender) Platform() transport.Platform { return Platform }

// BatchSize returns Options.BatchSize.
func (s *Sender) BatchSize() int { return s.o.BatchSize }

// Send sends the batch; see [transport.Mobile].
func (s *Sender) Send(ctx context.Context, batch []transport.Notification) []transport.Result {
	return s.sender.Send(ctx, batch, s.ask)
}

// Check returns an error for a notification that the service would not take: one that is over 4 KiB in any of its languages, whose
// Collapse is over 64 bytes, or whose languages, data or override are malformed.
func (s *Sender) Check(c *transport.Content) error {
	return s.messages.Check(&transport.Message{ID: anyID, Expires: time.Now()}, c)
}

// Close ends the connections; what is still to be sent is Unsent.
func (s *Sender) Close() error {
	if s.sender != nil {
		s.sender.Close()
	}
	s.auth.Close()
	return s.pool.Close()
}

// ask sends one notification and says what its answer means.
func (s *Sender) ask(ctx context.Context, n *transport.Notification) flow.Answer {
	e, err := s.messages.Get(n)
	if err != nil {
		return local(transport.Rejected, "BAD_MESSAGE", err.Error())
	}
	if n.Device.Token == "" || len(n.Device.Token) > maxToken {
		return local(transport.Unregistered, invalidArgument, "the token is not one of FCM")
	}
	x := &flow.Exchange{Body: e.body(n.Device.Token, time.Until(n.Message.Expires))}
	if x.Authorization, err = s.auth.authorization(ctx); err != nil {
		return noAccess(err)
	}
	if err := x.Do(ctx, s.pool, e.url, maps.Clone(e.header)); err != nil {
		return noAnswer(err)
	}
	return s.answer(x)
}

// maxToken bounds a registration token: the service's have some 150 to 250 characters, and no documented length.
const maxToken = 4096

// local is an answer that nobody was asked for.
func local(o transport.Outcome, reason, detail string) flow.Answer {
	return flow.Answer{Result: transport.Result{Outcome: o, Reason: reason, Detail: detail}, Verdict: flow.Unasked}
}
