package transporttest

import (
	"context"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

var mobileChecks = []mobileCheck{
	{name: "Platform", run: checkPlatform},
	{name: "Accepted", run: checkAccepted},
	{name: "Contents", run: checkContents},
	{name: "OneTooLarge", run: checkOneTooLarge},
	{name: "Check", run: checkCheck, need: needChecker},
	{name: "Empty", run: checkEmpty},
	{name: "Dead", run: checkDead, need: needs(func(h *MobileHarness) bool { return h.Kill != nil }, "Kill")},
	{name: "Rejected", run: checkRejected, need: needs(func(h *MobileHarness) bool { return h.Reject != nil }, "Reject")},
	{name: "Mixed", run: checkMixed, need: needs(func(h *MobileHarness) bool { return h.Kill != nil && h.Reject != nil }, "Kill or Reject")},
	{name: "Overload", run: checkOverload, need: needs(func(h *MobileHarness) bool { return h.Overload != nil }, "Overload")},
	{name: "BatchUnchanged", run: checkBatchUnchanged},
	{name: "BatchNotKept", run: checkBatchNotKept},
	{name: "FullBatch", run: checkFullBatch},
	{name: "EndedContext", run: checkMobileEndedContext},
	{name: "CancelWhileWaiting", run: checkCancelWhileWaiting, need: needs(func(h *MobileHarness) bool { return h.Stall != nil }, "Stall")},
	{name: "Close", run: checkMobileClose, need: needMobileCloser},
	{name: "CloseUnused", run: checkMobileCloseUnused, need: needMobileCloser},
}

func needs(has func(*MobileHarness) bool, what string) func(*MobileHarness) string {
	return func(h *MobileHarness) string {
		if has(h) {
			return ""
		}
		return "the harness has no " + what
	}
}

func needMobileCloser(h *MobileHarness) string {
	if _, ok := h.Transport.(transport.Closer); !ok {
		return "the transport is no Closer"
	}
	return ""
}

func needChecker(h *MobileHarness) string {
	if _, ok := h.Transport.(transport.Checker); !ok {
		return "the transport is no Checker"
	}
	return ""
}

// The platform has a name, and keeps it.
func checkPlatform(x *mobileRun) {
	first := x.h.Transport.Platform()
	if first == "" {
		x.Fatalf("Platform is empty")
	}
	x.sendNow(x.batch(x.content("news"), x.devices(1)...))
	if now := x.h.Transport.Platform(); now != first {
		x.Fatalf("Platform is %q, was %q", now, first)
	}
}

// Accepted means that the service has it, once. Batches come one after another,
// but not always from the same goroutine.
func checkAccepted(x *mobileRun) {
	devices := x.devices(5)
	var sent []*transport.Content
	for _, title := range []string{"first", "second", "third"} {
		sent = append(sent, x.content(title))
		x.accepted(x.sendNow(x.batch(sent[len(sent)-1], devices...)))
	}
	for _, d := range devices {
		x.shows(d, sent...)
	}
}

// Text arrives as it was written; what is left out harms nothing.
func checkContents(x *mobileRun) {
	badge, none := 3, 0
	for i, c := range []*transport.Content{
		{Title: "only a title"},
		{Body: "only a body"},
		{Title: "圣诞快乐 🎄", Body: `"quoted" <b>&amp;</b> \n` + "\nsecond line"},
		{Title: "badge", Body: "three", Badge: &badge},
		{Title: "badge", Body: "taken away", Badge: &none},
		{
			Title: "everything", Body: "there is", Sound: "default", Badge: &badge,
			Image: "https://example.com/a.png", Link: "https://example.com/offer?a=b&c=d",
			Collapse: "christmas", Data: map[string]string{"room": "7", "名": "值"},
		},
	} {
		d := x.h.Device(i)
		x.accepted(x.sendNow(x.batch(c, d)))
		x.shows(d, c)
	}
}

// One notification that no service takes harms only itself. A transport may cut
// it to size; to send it again, or to give up the token, would be wrong.
func checkOneTooLarge(x *mobileRun) {
	devices := x.devices(3)
	ordinary := x.content("ordinary")
	batch := x.batch(ordinary, devices...)
	batch[1].Content = &transport.Content{Title: "large", Body: strings.Repeat("large ", 100<<10)}
	results := x.sendNow(batch)
	if o := results[1].Outcome; o != transport.Accepted && o != transport.Rejected {
		x.Fatalf("a notification of 600 KB: %v (reason %q), want accepted or rejected", o, results[1].Reason)
	}
	results[1].Outcome = transport.Accepted
	x.accepted(results)
	x.shows(devices[0], ordinary)
	x.shows(devices[2], ordinary)
}

// What Check takes the service takes, what it takes not it need not be asked for, and neither is changed.
func checkCheck(x *mobileRun) {
	checker := x.h.Transport.(transport.Checker)
	for i, c := range []*transport.Content{
		{}, x.content("ordinary"), {Title: "data", Data: map[string]string{"room": "7"}},
		{Title: "large", Body: strings.Repeat("large ", 500)}, {Title: "too large", Body: strings.Repeat("large ", 100<<10)},
	} {
		batch := x.batch(c, x.h.Device(i))
		before := copyOf(batch)
		err, broken := within("Check", func() error { return checker.Check(c) })
		if broken != nil {
			x.Fatalf("%v", broken)
		}
		x.unchangedBatch(batch, before)
		switch {
		case err == nil:
			x.accepted(x.sendNow(batch))
			x.shows(batch[0].Device, c)
		case i < 3:
			x.Fatalf("Check of an ordinary notification: %v", err)
		}
	}
}

// An empty batch gives no result and does no harm.
func checkEmpty(x *mobileRun) {
	x.sendNow(nil)
	x.sendNow([]transport.Notification{})
	d := x.h.Device(0)
	c := x.content("after nothing")
	x.accepted(x.sendNow(x.batch(c, d)))
	x.shows(d, c)
}

// A dead token is Unregistered, each time, and the others are not touched.
func checkDead(x *mobileRun) {
	devices := x.devices(4)
	first := x.content("first")
	x.accepted(x.sendNow(x.batch(first, devices...)))
	x.h.Kill(devices[0])
	x.h.Kill(devices[2])
	second := x.content("second")
	for range 2 {
		results := x.sendNow(x.batch(second, devices...))
		x.outcomes(results, transport.Unregistered, transport.Accepted, transport.Unregistered, transport.Accepted)
		for _, r := range results {
			// A clock may be a little off; a date of another kind is found.
			if r.Since.After(time.Now().Add(time.Hour)) {
				x.Fatalf("Since is %v, in the future", r.Since)
			}
		}
	}
	x.shows(devices[0], first)
	x.shows(devices[1], first, second, second)
	x.shows(devices[2], first)
	x.shows(devices[3], first, second, second)
}

// What the service will never take is Rejected: the token is not given up, and
// nothing is tried again.
func checkRejected(x *mobileRun) {
	devices := x.devices(3)
	x.h.Reject(devices[1])
	c := x.content("news")
	x.outcomes(x.sendNow(x.batch(c, devices...)), transport.Accepted, transport.Rejected, transport.Accepted)
	x.shows(devices[0], c)
	x.shows(devices[1])
	x.shows(devices[2], c)
}

// Results stand in the order of the notifications, whichever answer came first,
// and each device gets what is meant for it.
func checkMixed(x *mobileRun) {
	devices := x.devices(30)
	want := make([]transport.Outcome, len(devices))
	batch := x.batch(x.content("news"), devices...)
	for i, d := range devices {
		batch[i].Content = x.content("news for " + d.Token)
		switch {
		case i%3 == 1:
			x.h.Kill(d)
			want[i] = transport.Unregistered
		case i%7 == 0:
			x.h.Reject(d)
			want[i] = transport.Rejected
		default:
			want[i] = transport.Accepted
		}
	}
	x.outcomes(x.sendNow(batch), want...)
	for i, d := range devices {
		if want[i] == transport.Accepted {
			x.shows(d, batch[i].Content)
		} else {
			x.shows(d)
		}
	}
}

// An overloaded service means Retry for all, and no more than that.
func checkOverload(x *mobileRun) {
	devices := x.devices(3)
	c := x.content("news")
	end := x.h.Overload()
	for range 2 {
		x.outcomes(x.sendNow(x.batch(c, devices...)), all(len(devices), transport.Retry)...)
	}
	end()
	again := x.batch(c, devices...)
	for i := range again {
		again[i].Attempt = 3
	}
	x.accepted(x.sendNow(again))
	for _, d := range devices {
		x.shows(d, c)
	}
}

// The batch and what it points to are not changed.
func checkBatchUnchanged(x *mobileRun) {
	badge := 1
	c := &transport.Content{
		Title: "news", Body: "of today", Badge: &badge, Sound: "bell", Link: "https://example.com",
		Data: map[string]string{"room": "7"},
	}
	batch := x.batch(c, x.devices(10)...)
	before := copyOf(batch)
	x.accepted(x.sendNow(batch))
	x.unchangedBatch(batch, before)
}

// The batch is not kept: its memory is the caller's again.
func checkBatchNotKept(x *mobileRun) {
	devices := x.devices(10)
	var sent []*transport.Content
	buffer := make([]transport.Notification, len(devices))
	for _, title := range []string{"first", "second", "third"} {
		c := x.content(title)
		sent = append(sent, c)
		copy(buffer, x.batch(c, devices...))
		x.accepted(x.sendNow(buffer))
		// A transport that goes on reading it is found by the race detector, or by
		// what its phones show.
		clear(buffer)
	}
	for _, d := range devices {
		x.shows(d, sent...)
	}
}

// A batch of the size that the transport asks for is taken whole.
func checkFullBatch(x *mobileRun) {
	size := 500
	if s, ok := x.h.Transport.(transport.Sizer); ok && s.BatchSize() >= 1 {
		size = min(s.BatchSize(), 2000)
	}
	devices := x.devices(size)
	c := x.content("news")
	x.accepted(x.sendNow(x.batch(c, devices...)))
	for _, d := range devices {
		x.shows(d, c)
	}
}

// settled demands that results given when the context had ended are true: what
// is Accepted the service has, everything else is Retry or Unsent.
func (x *mobileRun) settled(results []transport.Result, devices []transport.Device, c *transport.Content) {
	x.Helper()
	for i, r := range results {
		switch r.Outcome {
		case transport.Accepted:
			x.shows(devices[i], c)
		case transport.Retry, transport.Unsent:
		default:
			x.Fatalf("result %d of %d, when the context had ended: %v (reason %q), want retry or unsent", i+1, len(results), r.Outcome, r.Reason)
		}
	}
}

func checkMobileEndedContext(x *mobileRun) {
	devices := x.devices(3)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := x.content("at the last moment")
	x.settled(x.send(ctx, x.batch(c, devices...)), devices, c)
	later := x.h.Device(3)
	x.accepted(x.sendNow(x.batch(c, later)))
	x.shows(later, c)
}

// The end of the context frees a Send that waits for the service.
func checkCancelWhileWaiting(x *mobileRun) {
	devices := x.devices(3)
	resume := x.h.Stall()
	defer resume()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	c := x.content("into the void")
	x.settled(x.send(ctx, x.batch(c, devices...)), devices, c)
	resume()
	later := x.h.Device(3)
	x.accepted(x.sendNow(x.batch(c, later)))
	x.shows(later, c)
}

// A Send that was left behind may come after Close: it returns, with results,
// and does not panic.
func checkMobileClose(x *mobileRun) {
	d := x.h.Device(0)
	c := x.content("news")
	x.accepted(x.sendNow(x.batch(c, d)))
	checkMobileCloseUnused(x)
	late := []transport.Device{x.h.Device(1), x.h.Device(2)}
	x.settled(x.sendNow(x.batch(c, late...)), late, c)
}

func checkMobileCloseUnused(x *mobileRun) {
	err, broken := within("Close", x.h.Transport.(transport.Closer).Close)
	if broken != nil {
		x.Fatalf("%v", broken)
	}
	if err != nil {
		x.Fatalf("Close: %v", err)
	}
}
