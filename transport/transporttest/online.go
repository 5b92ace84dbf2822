package transporttest

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// OnlineHarness is one [transport.Online] under test, with the means to look at
// it from outside. Transport and Connect are needed, the rest is optional.
type OnlineHarness struct {
	// Transport is what is tested. Nobody is connected to it yet.
	Transport transport.Online
	// Connect opens one connection of the user, a further one if the user has
	// some already. It returns once Transport can deliver to it. It is called
	// from several goroutines at once, for different users.
	Connect func(user string) (Client, error)
	// Stall, where not nil, makes the user's clients stop reading until resume is
	// called, as a phone in a tunnel does. resume may be called more than once.
	// Without Stall the checks of slow clients are left out.
	Stall func(user string) (resume func())
}

// Client is one connection of a user, seen from the user's side. The suite
// calls it from one goroutine at a time.
type Client interface {
	// Next returns the next message that has come over this connection, in the
	// order of coming, and waits for one until ctx ends. ID, Sequence, From and
	// Body are compared with what was sent; Accepted and Expires only where they
	// are not zero, for not every wire carries them.
	Next(ctx context.Context) (*transport.Message, error)
	// Close closes the connection. It returns once the transport knows that it
	// is gone.
	Close() error
}

// TestOnline runs the conformance suite for [transport.Online] and, where the
// transport has them, for its powers [transport.Batcher],
// [transport.ClientAcker] and [transport.Closer]. Each check is a parallel
// subtest with a harness of its own, made by start; what start opens it closes
// with t.Cleanup.
//
// The suite keeps the promises that the Pusher makes to a transport: for one
// user it delivers one message at a time, in ascending order of sequence, and
// it calls Close once. Two things are a matter of the transport: whether Deliver
// to a user who is not connected fails where clients acknowledge (nil then means
// only that the message is on its way), and what Deliver returns when its
// context has ended, as long as nil still means received.
func TestOnline(t *testing.T, start func(t *testing.T) *OnlineHarness) {
	for _, check := range onlineChecks {
		t.Run(check.name, func(t *testing.T) {
			t.Parallel()
			h := start(t)
			if h.Transport == nil || h.Connect == nil {
				t.Fatal("the harness needs Transport and Connect")
			}
			if why := check.leftOut(h); why != "" {
				t.Log("does not apply:", why)
				return
			}
			check.run(&onlineRun{reporter: t, h: h})
		})
	}
}

type onlineCheck struct {
	name string
	run  func(*onlineRun)
	need func(*OnlineHarness) string // why the check does not apply; nil: it always does
}

func (c onlineCheck) leftOut(h *OnlineHarness) string {
	if c.need == nil {
		return ""
	}
	return c.need(h)
}

// onlineRun is one check at work on one harness.
type onlineRun struct {
	reporter
	h        *OnlineHarness
	sequence uint64
}

// message makes the next message. It is not for concurrent use.
func (x *onlineRun) message(body []byte) *transport.Message {
	x.sequence++
	now := time.Now().Truncate(time.Millisecond)
	return &transport.Message{
		ID:       fmt.Sprintf("%032x", x.sequence),
		Sequence: x.sequence,
		From:     "operator",
		Body:     body,
		Accepted: now,
		Expires:  now.Add(7 * 24 * time.Hour),
	}
}

func (x *onlineRun) messages(n int) []*transport.Message {
	out := make([]*transport.Message, n)
	for i := range out {
		out[i] = x.message(fmt.Appendf(nil, "message %d", i+1))
	}
	return out
}

func (x *onlineRun) connect(user string) Client {
	x.Helper()
	c, err := x.h.Connect(user)
	if err != nil {
		x.Fatalf("Connect(%q): %v", user, err)
	}
	return c
}

func (x *onlineRun) close(c Client) {
	x.Helper()
	if err := c.Close(); err != nil {
		x.Fatalf("closing a connection: %v", err)
	}
}

// try delivers; broken is a panic or a call that did not return.
func (x *onlineRun) try(ctx context.Context, user string, m *transport.Message) (err, broken error) {
	return within(fmt.Sprintf("Deliver to %q", user), func() error {
		return x.h.Transport.Deliver(ctx, user, m)
	})
}

// deliver delivers to a user who is connected and reading.
func (x *onlineRun) deliver(user string, m *transport.Message) {
	x.Helper()
	if err := x.tryConnected(user, m); err != nil {
		x.Fatalf("%v", err)
	}
}

func (x *onlineRun) tryConnected(user string, m *transport.Message) error {
	err, broken := x.try(context.Background(), user, m)
	if broken != nil {
		return broken
	}
	if err != nil {
		return fmt.Errorf("Deliver to %q, who is connected: %w", user, err)
	}
	return nil
}

// expect reads the messages from the client, these and in this order.
func (x *onlineRun) expect(who string, c Client, want ...*transport.Message) {
	x.Helper()
	if err := tryExpect(who, c, want...); err != nil {
		x.Fatalf("%v", err)
	}
}

func tryExpect(who string, c Client, want ...*transport.Message) error {
	ctx, cancel := patient()
	defer cancel()
	for i, w := range want {
		got, err := c.Next(ctx)
		if err != nil {
			return fmt.Errorf("%s: message %d of %d, sequence %d: not received: %w", who, i+1, len(want), w.Sequence, err)
		}
		if err := same(got, w); err != nil {
			return fmt.Errorf("%s: message %d of %d: %w", who, i+1, len(want), err)
		}
	}
	return nil
}

// same compares what a client received with what was sent.
func same(got, want *transport.Message) error {
	switch {
	case got == nil:
		return fmt.Errorf("received nil, want sequence %d", want.Sequence)
	case got.ID != want.ID:
		return fmt.Errorf("received ID %q, want %q", got.ID, want.ID)
	case got.Sequence != want.Sequence:
		return fmt.Errorf("received sequence %d, want %d", got.Sequence, want.Sequence)
	case got.From != want.From:
		return fmt.Errorf("sequence %d: received From %q, want %q", want.Sequence, got.From, want.From)
	case !bytes.Equal(got.Body, want.Body):
		return fmt.Errorf("sequence %d: received a body of %d bytes that is not the %d bytes sent", want.Sequence, len(got.Body), len(want.Body))
	case !got.Accepted.IsZero() && got.Accepted.UnixMilli() != want.Accepted.UnixMilli():
		return fmt.Errorf("sequence %d: received Accepted %v, want %v", want.Sequence, got.Accepted, want.Accepted)
	case !got.Expires.IsZero() && got.Expires.UnixMilli() != want.Expires.UnixMilli():
		return fmt.Errorf("sequence %d: received Expires %v, want %v", want.Sequence, got.Expires, want.Expires)
	}
	return nil
}

// clone copies a message with its body, to tell later whether it was changed.
func clone(m *transport.Message) *transport.Message {
	c := *m
	c.Body = bytes.Clone(m.Body)
	return &c
}

func unchanged(m, before *transport.Message) bool {
	return m.ID == before.ID && m.Sequence == before.Sequence && m.From == before.From &&
		bytes.Equal(m.Body, before.Body) && m.Accepted.Equal(before.Accepted) && m.Expires.Equal(before.Expires)
}

// acked says whether the clients of the transport acknowledge.
func (h *OnlineHarness) acked() bool {
	a, ok := h.Transport.(transport.ClientAcker)
	return ok && a.ClientAcks()
}
