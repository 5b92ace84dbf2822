package transporttest

import (
	"context"
	"slices"

	"github.com/fanfare-im/fanfare/transport"
)

// AckRecorder is a [Recorder] whose clients acknowledge: a
// [transport.ClientAcker] that says so. The zero value is ready. It does not
// acknowledge by itself: a test calls Pusher.Ack, in OnDeliver or later.
type AckRecorder struct{ Recorder }

// ClientAcks returns true.
func (r *AckRecorder) ClientAcks() bool { return true }

// BatchRecorder is a [Recorder] that takes one message for many users in one
// call: a [transport.Batcher]. The zero value is ready. A user who is blocked
// holds back the batch; a panic for one is a panic of the whole batch, after
// those before it have received the message.
type BatchRecorder struct {
	Recorder
	// Max is what MaxBatch returns. It is set before use. 0 leaves the choice to
	// the caller, who then sends at most 256.
	Max int

	begun []int // under the Recorder's lock
}

// AckBatchRecorder is an [AckRecorder] and a [BatchRecorder] in one. The zero
// value is ready.
type AckBatchRecorder struct{ BatchRecorder }

// ClientAcks returns true.
func (r *AckBatchRecorder) ClientAcks() bool { return true }

// MaxBatch returns Max.
func (r *BatchRecorder) MaxBatch() int { return r.Max }

// Batches returns the sizes of the batches so far, in the order of their
// beginning.
func (r *BatchRecorder) Batches() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.begun)
}

// DeliverBatch delivers m to each of the users in turn, as Deliver does.
func (r *BatchRecorder) DeliverBatch(ctx context.Context, userIDs []string, m *transport.Message) []error {
	r.begin(userIDs)
	var errs []error
	for i, u := range userIDs {
		if err := r.Deliver(ctx, u, m); err != nil {
			if errs == nil {
				errs = make([]error, len(userIDs))
			}
			errs[i] = err
		}
	}
	return errs
}

func (r *BatchRecorder) begin(userIDs []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = append(r.begun, len(userIDs))
	most := r.Max
	if most < 1 {
		most = 256
	}
	if n := len(userIDs); n == 0 || n > most {
		r.violate("a batch of %d users, where %d are the most", n, most)
	}
	seen := make(map[string]bool, len(userIDs))
	for _, u := range userIDs {
		if seen[u] {
			r.violate("a batch names user %q twice", u)
		}
		seen[u] = true
	}
}
