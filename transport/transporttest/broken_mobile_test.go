package transporttest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// twistedPhones is a Phones with one thing wrong with it.
type twistedPhones struct {
	*Phones
	cleanup  func(func())
	send     func(ctx context.Context, batch []transport.Notification) []transport.Result
	platform func() string
	check    func(*transport.Content) error
	closing  func() error
}

func (b *twistedPhones) Send(ctx context.Context, batch []transport.Notification) []transport.Result {
	if b.send != nil {
		return b.send(ctx, batch)
	}
	return b.Phones.Send(ctx, batch)
}

func (b *twistedPhones) Platform() string {
	if b.platform != nil {
		return b.platform()
	}
	return b.Phones.Platform()
}

func (b *twistedPhones) Check(c *transport.Content) error {
	if b.check != nil {
		return b.check(c)
	}
	return nil
}

func (b *twistedPhones) Close() error {
	if b.closing != nil {
		return b.closing()
	}
	return b.Phones.Close()
}

// answering changes the results of one outcome.
func (b *twistedPhones) answering(from transport.Outcome, to transport.Result) {
	b.send = func(ctx context.Context, batch []transport.Notification) []transport.Result {
		results := b.Phones.Send(ctx, batch)
		for i := range results {
			if results[i].Outcome == from {
				results[i] = to
			}
		}
		return results
	}
}

// Each check fails for the transport that breaks its sentence of the contract.
func TestMobileChecksFind(t *testing.T) {
	t.Parallel()
	type (
		notification = transport.Notification
		result       = transport.Result
	)
	for _, tc := range []struct {
		check, want string
		twist       func(*twistedPhones)
	}{
		{"Platform", "empty", func(b *twistedPhones) { b.platform = func() string { return "" } }},
		{"Platform", "was", func(b *twistedPhones) {
			b.platform = func() string {
				if len(b.Batches()) > 0 {
					return "other"
				}
				return "apns"
			}
		}},
		{"Accepted", "has 0 notifications", func(b *twistedPhones) {
			b.send = func(_ context.Context, batch []notification) []result {
				return all(len(batch), result{Outcome: transport.Accepted})
			}
		}},
		{"Accepted", "4 results", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result { return b.Phones.Send(ctx, batch)[1:] }
		}},
		{"Accepted", "outcome 0", func(b *twistedPhones) { b.answering(transport.Accepted, result{}) }},
		{"Accepted", "RetryAfter", func(b *twistedPhones) {
			b.answering(transport.Accepted, result{Outcome: transport.Accepted, RetryAfter: -1})
		}},
		{"Accepted", "has Since", func(b *twistedPhones) {
			b.answering(transport.Accepted, result{Outcome: transport.Accepted, Since: time.Now()})
		}},
		{"Accepted", "panicked", func(b *twistedPhones) {
			b.send = func(context.Context, []notification) []result { panic("no") }
		}},
		{"Accepted", "for token", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				_ = b.Phones.Send(ctx, batch)
				return b.Phones.Send(ctx, batch)
			}
		}},
		{"Contents", "the service has title", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				batch = copyOf(batch)
				batch[0].Content.Title = strings.ToUpper(batch[0].Content.Title)
				return b.Phones.Send(ctx, batch)
			}
		}},
		{"OneTooLarge", "want accepted or rejected", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				results := b.Phones.Send(ctx, batch)
				results[1].Outcome = transport.Retry
				return results
			}
		}},
		{"OneTooLarge", "result 1", func(b *twistedPhones) {
			b.answering(transport.Accepted, result{Outcome: transport.Rejected})
		}},
		{"Check", "Check of an ordinary notification", func(b *twistedPhones) {
			b.check = func(*transport.Content) error { return errors.New("as told") }
		}},
		{"Check", "want accepted", func(b *twistedPhones) {
			b.answering(transport.Accepted, result{Outcome: transport.Rejected})
		}},
		{"Check", "changed notification", func(b *twistedPhones) {
			b.check = func(c *transport.Content) error {
				c.Title = "cut to size"
				return nil
			}
		}},
		{"Check", "panicked", func(b *twistedPhones) {
			b.check = func(*transport.Content) error { panic("no") }
		}},
		{"Empty", "1 results", func(b *twistedPhones) {
			b.send = func(_ context.Context, batch []notification) []result {
				return make([]result, max(1, len(batch)))
			}
		}},
		{"Empty", "panicked", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				_ = batch[0]
				return b.Phones.Send(ctx, batch)
			}
		}},
		{"Dead", "want unregistered", func(b *twistedPhones) {
			b.answering(transport.Unregistered, result{Outcome: transport.Rejected})
		}},
		{"Dead", "in the future", func(b *twistedPhones) {
			b.answering(transport.Unregistered, result{Outcome: transport.Unregistered, Since: time.Now().AddDate(50000, 0, 0)})
		}},
		{"Rejected", "want rejected", func(b *twistedPhones) {
			b.answering(transport.Rejected, result{Outcome: transport.Unregistered})
		}},
		{"Mixed", "want", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				results := b.Phones.Send(ctx, batch)
				slices.SortFunc(results, func(a, b result) int { return int(a.Outcome - b.Outcome) })
				return results
			}
		}},
		{"Mixed", "the service has title", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				batch = slices.Clone(batch)
				for i := range batch {
					batch[i].Content = batch[0].Content
				}
				return b.Phones.Send(ctx, batch)
			}
		}},
		{"Overload", "want retry", func(b *twistedPhones) {
			b.answering(transport.Retry, result{Outcome: transport.Rejected})
		}},
		{"Overload", "want accepted", func(b *twistedPhones) {
			gaveUp := false
			b.send = func(ctx context.Context, batch []notification) []result {
				if gaveUp {
					return all(len(batch), result{Outcome: transport.Retry})
				}
				gaveUp = true
				return b.Phones.Send(ctx, batch)
			}
		}},
		{"BatchUnchanged", "Send changed notification 10 of 10", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				batch[9].Attempt++
				return b.Phones.Send(ctx, batch)
			}
		}},
		{"BatchUnchanged", "Send changed notification 1 of 10", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				batch[0].Content.Data["id"] = "7"
				return b.Phones.Send(ctx, batch)
			}
		}},
		{"BatchNotKept", "for token", func(b *twistedPhones) {
			var kept []notification
			b.send = func(ctx context.Context, batch []notification) []result {
				if kept != nil {
					_ = b.Phones.Send(ctx, kept)
				}
				kept = batch
				return all(len(batch), result{Outcome: transport.Accepted})
			}
		}},
		{"FullBatch", "want accepted", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				taken := b.Phones.Send(ctx, batch[:50])
				return append(taken, all(len(batch)-50, result{Outcome: transport.Retry})...)
			}
		}},
		{"EndedContext", "0 results", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				if ctx.Err() != nil {
					return nil
				}
				return b.Phones.Send(ctx, batch)
			}
		}},
		{"EndedContext", "want retry", func(b *twistedPhones) {
			b.answering(transport.Retry, result{Outcome: transport.Unregistered})
		}},
		{"EndedContext", "want 1", func(b *twistedPhones) {
			b.answering(transport.Retry, result{Outcome: transport.Accepted})
		}},
		{"CancelWhileWaiting", "did not return", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				b.cleanup(b.Hang())
				return b.Phones.Send(ctx, batch)
			}
		}},
		{"Close", "panicked", func(b *twistedPhones) {
			b.send = func(ctx context.Context, batch []notification) []result {
				if b.Closes() > 0 {
					panic("closed")
				}
				return b.Phones.Send(ctx, batch)
			}
		}},
		{"CloseUnused", "failing as told", func(b *twistedPhones) {
			b.closing = func() error { return errors.New("failing as told") }
		}},
	} {
		t.Run(tc.check+"/"+tc.want, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(mobileChecks, func(c mobileCheck) bool { return c.name == tc.check })
			synctest.Test(t, func(t *testing.T) {
				b := &twistedPhones{Phones: NewPhones("apns"), cleanup: t.Cleanup}
				tc.twist(b)
				h := phonesHarness(b, b.Phones)
				got := verdictOf(func(v reporter) { mobileChecks[i].run(&mobileRun{reporter: v, h: h}) })
				if !strings.Contains(got, tc.want) {
					t.Errorf("verdict %q, want %q in it", got, tc.want)
				}
			})
		})
	}
}

// Checks that a harness cannot serve are left out, and say why.
func TestChecksLeftOut(t *testing.T) {
	t.Parallel()
	bare := &OnlineHarness{Transport: transport.OnlineFunc(func(context.Context, string, *transport.Message) error { return nil })}
	var left []string
	for _, c := range onlineChecks {
		if c.leftOut(bare) != "" {
			left = append(left, c.name)
		}
	}
	if got, want := strings.Join(left, " "), "SlowClient Batch BatchNotConnected BatchSlice BatchAndSingle ClientAcksStable SentAgain Close CloseUnused"; got != want {
		t.Errorf("left out for a bare function: %s, want %s", got, want)
	}
	acking := &OnlineHarness{Transport: new(AckRecorder), Stall: func(string) func() { return nil }}
	left = nil
	for _, c := range onlineChecks {
		if c.leftOut(acking) != "" {
			left = append(left, c.name)
		}
	}
	if got, want := strings.Join(left, " "), "NotConnected Batch BatchNotConnected BatchSlice BatchAndSingle"; got != want {
		t.Errorf("left out for an acknowledging transport: %s, want %s", got, want)
	}
	left = nil
	for _, c := range mobileChecks {
		if c.need != nil && c.need(&MobileHarness{Transport: struct{ transport.Mobile }{NewPhones("apns")}}) != "" {
			left = append(left, c.name)
		}
	}
	if got, want := strings.Join(left, " "), "Check Dead Rejected Mixed Overload CancelWhileWaiting Close CloseUnused"; got != want {
		t.Errorf("left out for a bare service: %s, want %s", got, want)
	}
}
