package transporttest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/fanfare-im/fanfare/transport"
)

// verdict is a reporter that remembers the first failure.
type verdict struct {
	failed string
}

func (*verdict) Helper() {}

func (v *verdict) Fatalf(format string, args ...any) {
	v.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// verdictOf runs one check in a goroutine of its own, which a failure ends.
func verdictOf(run func(reporter)) string {
	v := new(verdict)
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(v)
	}()
	<-done
	return v.failed
}

// twisted is a Recorder with one thing wrong with it.
type twisted struct {
	BatchRecorder
	cleanup  func(func())
	deliver  func(ctx context.Context, user string, m *transport.Message) error
	batch    func(ctx context.Context, users []string, m *transport.Message) []error
	closing  func() error
	acks     bool
	ackCalls int
	flips    bool
}

func (b *twisted) Deliver(ctx context.Context, user string, m *transport.Message) error {
	if b.deliver != nil {
		return b.deliver(ctx, user, m)
	}
	return b.Recorder.Deliver(ctx, user, m)
}

func (b *twisted) DeliverBatch(ctx context.Context, users []string, m *transport.Message) []error {
	if b.batch != nil {
		return b.batch(ctx, users, m)
	}
	return b.BatchRecorder.DeliverBatch(ctx, users, m)
}

func (b *twisted) ClientAcks() bool {
	b.ackCalls++
	return b.acks != (b.flips && b.ackCalls > 2)
}

func (b *twisted) Close() error {
	if b.closing != nil {
		return b.closing()
	}
	return b.Recorder.Close()
}

// Each check fails for the transport that breaks its sentence of the contract.
func TestOnlineChecksFind(t *testing.T) {
	t.Parallel()
	type message = transport.Message
	for _, tc := range []struct {
		check, want string
		twist       func(*twisted)
	}{
		{"Received", "not received", func(b *twisted) {
			b.deliver = func(context.Context, string, *message) error { return nil }
		}},
		{"Received", "who is connected", func(b *twisted) {
			b.deliver = func(context.Context, string, *message) error { return ErrFailed }
		}},
		{"Received", "body", func(b *twisted) {
			b.deliver = func(ctx context.Context, user string, m *message) error {
				c := clone(m)
				c.Body = []byte(strings.ToValidUTF8(string(m.Body), "?"))
				return b.Recorder.Deliver(ctx, user, c)
			}
		}},
		{"Received", "sequence", func(b *twisted) {
			b.deliver = func(ctx context.Context, user string, m *message) error {
				c := clone(m)
				c.Sequence++
				return b.Recorder.Deliver(ctx, user, c)
			}
		}},
		{"Received", "Expires", func(b *twisted) {
			b.deliver = func(ctx context.Context, user string, m *message) error {
				c := clone(m)
				c.Expires = c.Expires.Add(1e6)
				return b.Recorder.Deliver(ctx, user, c)
			}
		}},
		{"Received", "panicked: no", func(b *twisted) {
			b.deliver = func(context.Context, string, *message) error { panic("no") }
		}},
		{"AnyUserID", "is connected", func(b *twisted) {
			b.deliver = func(ctx context.Context, user string, m *message) error {
				if len(user) > 64 {
					return ErrFailed
				}
				return b.Recorder.Deliver(ctx, user, m)
			}
		}},
		{"NotConnected", "returned nil", func(b *twisted) {
			b.deliver = func(ctx context.Context, user string, m *message) error {
				_ = b.Recorder.Deliver(ctx, user, m)
				return nil
			}
		}},
		{"NothingLeftOver", "received ID", func(b *twisted) {
			kept := make(map[string]*message)
			b.deliver = func(ctx context.Context, user string, m *message) error {
				if old := kept[user]; old != nil && b.Recorder.Deliver(ctx, user, old) == nil {
					delete(kept, user)
				}
				err := b.Recorder.Deliver(ctx, user, m)
				if err != nil {
					kept[user] = m
				}
				return err
			}
		}},
		{"AllConnections", "returned nil", func(b *twisted) {
			b.deliver = func(ctx context.Context, user string, m *message) error {
				_ = b.Recorder.Deliver(ctx, user, m)
				return nil
			}
		}},
		{"Order", "received ID", func(b *twisted) {
			var held *message
			b.deliver = func(ctx context.Context, user string, m *message) error {
				if m.Sequence == 40 {
					held = m
					return nil
				}
				err := b.Recorder.Deliver(ctx, user, m)
				if held != nil {
					err = b.Recorder.Deliver(ctx, user, held)
					held = nil
				}
				return err
			}
		}},
		{"Order", "received ID", func(b *twisted) {
			b.deliver = func(ctx context.Context, user string, m *message) error {
				_ = b.Recorder.Deliver(ctx, user, m)
				return b.Recorder.Deliver(ctx, user, m)
			}
		}},
		{"ManyUsersAtOnce", "user", func(b *twisted) {
			var mu sync.Mutex
			var last string
			b.deliver = func(ctx context.Context, user string, m *message) error {
				mu.Lock()
				to := last
				last = user
				mu.Unlock()
				if to == "" {
					to = user
				}
				return b.Recorder.Deliver(ctx, to, m)
			}
		}},
		{"SharedMessage", "was changed", func(b *twisted) {
			var mu sync.Mutex // without it the race detector would find it first
			b.deliver = func(ctx context.Context, user string, m *message) error {
				mu.Lock()
				defer mu.Unlock()
				sent := clone(m)
				sent.From = "operator"
				m.From = "me"
				return b.Recorder.Deliver(ctx, user, sent)
			}
		}},
		{"EndedContext", "did not return", func(b *twisted) {
			b.deliver = func(ctx context.Context, user string, m *message) error {
				b.cleanup(b.Hang(user))
				return b.Recorder.Deliver(ctx, user, m)
			}
		}},
		{"EndedContext", "after a nil", func(b *twisted) {
			b.deliver = func(ctx context.Context, user string, m *message) error {
				if ctx.Err() != nil {
					return nil
				}
				return b.Recorder.Deliver(ctx, user, m)
			}
		}},
		{"SlowClient", "did not return", func(b *twisted) {
			one := make(chan struct{}, 1) // a mutex that synctest sees
			b.deliver = func(ctx context.Context, user string, m *message) error {
				one <- struct{}{}
				defer func() { <-one }()
				return b.Recorder.Deliver(ctx, user, m)
			}
		}},
		{"Batch", "2 errors", func(b *twisted) {
			b.batch = func(ctx context.Context, users []string, m *message) []error {
				_ = b.BatchRecorder.DeliverBatch(ctx, users, m)
				return make([]error, 2)
			}
		}},
		{"Batch", "not received", func(b *twisted) {
			b.batch = func(ctx context.Context, users []string, m *message) []error {
				return b.BatchRecorder.DeliverBatch(ctx, users[1:], m)
			}
		}},
		{"BatchNotConnected", "no error for user", func(b *twisted) {
			b.batch = func(ctx context.Context, users []string, m *message) []error {
				_ = b.BatchRecorder.DeliverBatch(ctx, users, m)
				return nil
			}
		}},
		{"BatchNotConnected", "who is connected", func(b *twisted) {
			b.batch = func(ctx context.Context, users []string, m *message) []error {
				errs := b.BatchRecorder.DeliverBatch(ctx, users, m)
				for i, j := 0, len(errs)-1; i < j; i, j = i+1, j-1 {
					errs[i], errs[j] = errs[j], errs[i]
				}
				return append(errs[1:], errs[0])
			}
		}},
		{"BatchSlice", "changed the slice", func(b *twisted) {
			b.batch = func(ctx context.Context, users []string, m *message) []error {
				errs := b.BatchRecorder.DeliverBatch(ctx, users, m)
				users[0] = ""
				return errs
			}
		}},
		{"BatchSlice", "not received", func(b *twisted) {
			b.batch = func(ctx context.Context, users []string, m *message) []error {
				go func() {
					synctest.Wait()
					_ = b.BatchRecorder.DeliverBatch(ctx, users, m)
				}()
				return nil
			}
		}},
		{"BatchAndSingle", "received ID", func(b *twisted) {
			var held *message
			b.batch = func(_ context.Context, _ []string, m *message) []error {
				held = m
				return nil
			}
			b.deliver = func(ctx context.Context, user string, m *message) error {
				err := b.Recorder.Deliver(ctx, user, m)
				if held != nil {
					err = b.Recorder.Deliver(ctx, user, held)
				}
				return err
			}
		}},
		{"ClientAcksStable", "after a delivery", func(b *twisted) { b.flips = true; b.ackCalls = 1 }},
		{"SentAgain", "not received", func(b *twisted) {
			b.acks = true
			sent := make(map[string]bool)
			b.deliver = func(ctx context.Context, user string, m *message) error {
				if sent[m.ID] {
					return nil
				}
				sent[m.ID] = true
				return b.Recorder.Deliver(ctx, user, m)
			}
		}},
		{"Close", "Deliver to \"alice\" panicked", func(b *twisted) {
			b.deliver = func(ctx context.Context, user string, m *message) error {
				if b.Closes() > 0 {
					panic("send on closed channel")
				}
				return b.Recorder.Deliver(ctx, user, m)
			}
		}},
		{"Close", "DeliverBatch after Close panicked", func(b *twisted) {
			b.batch = func(context.Context, []string, *message) []error { panic("send on closed channel") }
		}},
		{"CloseUnused", "Close panicked", func(b *twisted) { b.closing = func() error { panic("close of nil channel") } }},
		{"CloseUnused", "failing as told", func(b *twisted) { b.closing = func() error { return fmt.Errorf("failing as told") } }},
		{"CloseUnused", "did not return", func(b *twisted) {
			b.closing = func() error {
				b.cleanup(b.Hang("nobody"))
				return b.Recorder.Deliver(context.Background(), "nobody", nil)
			}
		}},
	} {
		t.Run(tc.check+"/"+tc.want, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(onlineChecks, func(c onlineCheck) bool { return c.name == tc.check })
			synctest.Test(t, func(t *testing.T) {
				b := &twisted{cleanup: t.Cleanup}
				tc.twist(b)
				h := recorderHarness(b, &b.Recorder)
				if why := onlineChecks[i].leftOut(h); why != "" {
					t.Fatalf("left out: %s", why)
				}
				got := verdictOf(func(v reporter) { onlineChecks[i].run(&onlineRun{reporter: v, h: h}) })
				if !strings.Contains(got, tc.want) {
					t.Errorf("verdict %q, want %q in it", got, tc.want)
				}
			})
		})
	}
}
