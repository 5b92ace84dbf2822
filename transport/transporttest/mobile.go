package transporttest

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// MobileHarness is one [transport.Mobile] under test, with the service behind
// it: most often a server of the test's own that speaks the service's protocol.
// Transport, Device and Shown are needed; where one of the others is nil, the
// checks that need it are left out, but a harness that can say these things and
// does not proves little.
type MobileHarness struct {
	// Transport is what is tested.
	Transport transport.Mobile
	// Device returns a device of the transport's platform whose token is good, for
	// each i another one and for the same i the same.
	Device func(i int) transport.Device
	// Shown returns what the service has accepted for the device, in order. Title
	// and Body are compared with what was sent.
	Shown func(d transport.Device) []transport.Content
	// Kill makes the service say from now on that the device's token is dead.
	Kill func(d transport.Device)
	// Reject makes the service refuse from now on whatever is sent to the device,
	// for a reason that a later try will not mend, while the token is good.
	Reject func(d transport.Device)
	// Overload makes the service turn everything away, for the time being, until
	// end is called. end may be called more than once.
	Overload func() (end func())
	// Stall makes the service leave what comes in unanswered until resume is
	// called. resume may be called more than once.
	Stall func() (resume func())
}

// TestMobile runs the conformance suite for [transport.Mobile] and, where the
// transport has them, for its powers [transport.Sizer], [transport.Checker] and
// [transport.Closer]. Each check is a parallel subtest with a harness of its
// own, made by start; what start opens it closes with t.Cleanup.
//
// The suite keeps the promises that the Pusher makes to a transport: one call
// of Send at a time, no batch above the size, Close once. It asks for one result for
// each notification in every case, the end of the context included, although
// the Pusher would take a missing one for Retry.
func TestMobile(t *testing.T, start func(t *testing.T) *MobileHarness) {
	for _, check := range mobileChecks {
		t.Run(check.name, func(t *testing.T) {
			t.Parallel()
			h := start(t)
			if h.Transport == nil || h.Device == nil || h.Shown == nil {
				t.Fatal("the harness needs Transport, Device and Shown")
			}
			if check.need != nil {
				if why := check.need(h); why != "" {
					t.Log("does not apply:", why)
					return
				}
			}
			check.run(&mobileRun{reporter: t, h: h})
		})
	}
}

type mobileCheck struct {
	name string
	run  func(*mobileRun)
	need func(*MobileHarness) string // why the check does not apply; nil: it always does
}

// mobileRun is one check at work on one harness.
type mobileRun struct {
	reporter
	h        *MobileHarness
	sequence uint64
}

// batch makes one notification, of one task, for each of the devices.
func (x *mobileRun) batch(c *transport.Content, devices ...transport.Device) []transport.Notification {
	x.sequence++
	now := time.Now().Truncate(time.Millisecond)
	m := &transport.Message{
		ID:       fmt.Sprintf("%032x", x.sequence),
		Sequence: x.sequence,
		From:     "operator",
		Body:     []byte("the message itself"),
		Accepted: now,
		Expires:  now.Add(7 * 24 * time.Hour),
	}
	batch := make([]transport.Notification, len(devices))
	for i, d := range devices {
		batch[i] = transport.Notification{
			UserID: "owner of " + d.Token, Device: d, Message: m, Content: c, Attempt: 1,
		}
	}
	return batch
}

func (x *mobileRun) content(title string) *transport.Content {
	return &transport.Content{Title: title, Body: "as said in the " + title}
}

func (x *mobileRun) devices(n int) []transport.Device {
	x.Helper()
	out := make([]transport.Device, n)
	seen := make(map[string]bool, n)
	for i := range out {
		out[i] = x.h.Device(i)
		if p := x.h.Transport.Platform(); out[i].Platform != p {
			x.Fatalf("the harness: Device(%d) is of platform %q, the transport's is %q", i, out[i].Platform, p)
		}
		if seen[out[i].Token] {
			x.Fatalf("the harness: two devices have the token %q", out[i].Token)
		}
		seen[out[i].Token] = true
	}
	return out
}

// send sends the batch and demands one valid result for each notification.
func (x *mobileRun) send(ctx context.Context, batch []transport.Notification) []transport.Result {
	x.Helper()
	results, broken := within(fmt.Sprintf("Send of %d notifications", len(batch)), func() []transport.Result {
		return x.h.Transport.Send(ctx, batch)
	})
	if broken != nil {
		x.Fatalf("%v", broken)
	}
	if len(results) != len(batch) {
		x.Fatalf("Send of %d notifications returned %d results", len(batch), len(results))
	}
	for i, r := range results {
		if r.Outcome < transport.Accepted || r.Outcome > transport.Denied {
			x.Fatalf("result %d of %d: outcome %d is none", i+1, len(results), r.Outcome)
		}
		if r.RetryAfter < 0 {
			x.Fatalf("result %d of %d: RetryAfter %v", i+1, len(results), r.RetryAfter)
		}
		if !r.Since.IsZero() && r.Outcome != transport.Unregistered {
			x.Fatalf("result %d of %d: %v has Since", i+1, len(results), r.Outcome)
		}
	}
	return results
}

// sendNow sends without an end of the context.
func (x *mobileRun) sendNow(batch []transport.Notification) []transport.Result {
	x.Helper()
	return x.send(context.Background(), batch)
}

// outcomes compares the outcomes, one by one.
func (x *mobileRun) outcomes(results []transport.Result, want ...transport.Outcome) {
	x.Helper()
	for i, r := range results {
		if r.Outcome != want[i] {
			x.Fatalf("result %d of %d: %v (reason %q), want %v", i+1, len(results), r.Outcome, r.Reason, want[i])
		}
	}
}

// accepted demands that all results are Accepted.
func (x *mobileRun) accepted(results []transport.Result) {
	x.Helper()
	x.outcomes(results, all(len(results), transport.Accepted)...)
}

// shows demands that the service has exactly these for the device.
func (x *mobileRun) shows(d transport.Device, want ...*transport.Content) {
	x.Helper()
	got := x.h.Shown(d)
	if len(got) != len(want) {
		x.Fatalf("the service has %d notifications for token %q, want %d", len(got), d.Token, len(want))
	}
	for i := range got {
		if got[i].Title != want[i].Title || got[i].Body != want[i].Body {
			x.Fatalf("the service has title %q, body %q for token %q, want %q, %q",
				got[i].Title, got[i].Body, d.Token, want[i].Title, want[i].Body)
		}
	}
}

// copyOf copies a batch with all that it points to.
func copyOf(batch []transport.Notification) []transport.Notification {
	out := make([]transport.Notification, len(batch))
	messages := make(map[*transport.Message]*transport.Message)
	contents := make(map[*transport.Content]*transport.Content)
	for i, n := range batch {
		if messages[n.Message] == nil {
			messages[n.Message] = clone(n.Message)
		}
		if contents[n.Content] == nil {
			c := *n.Content
			c.Data = maps.Clone(c.Data)
			if c.Badge != nil {
				badge := *c.Badge
				c.Badge = &badge
			}
			contents[n.Content] = &c
		}
		n.Message, n.Content = messages[n.Message], contents[n.Content]
		out[i] = n
	}
	return out
}

// unchangedBatch compares a batch with its copy.
func (x *mobileRun) unchangedBatch(batch, before []transport.Notification) {
	x.Helper()
	for i := range batch {
		if !reflect.DeepEqual(batch[i], before[i]) {
			x.Fatalf("Send changed notification %d of %d: it is %+v, was %+v", i+1, len(batch), batch[i], before[i])
		}
	}
}
