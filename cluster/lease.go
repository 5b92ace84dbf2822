package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-im/fanfare"
)

// leases are the names of work that one node of a cluster does at a time. Each is a key of a bucket, whose value is who holds it. The holder writes it anew
// every quarter of ttl, each time only if it is as the holder left it (by its revision). Whoever wants it watches it, and writes itself into it, again only if
// it is as was seen, once it is empty or did not change for ttl and a margin.
//
// No two clocks are compared. The holder counts from the moment before it sent what was then written, and stops a margin before ttl; the others count
// from a moment after it was written, and wait a margin longer. So work's context ends before another node can have the lease, as long as the
// monotonic clocks of the two run equally fast to within two margins, a fifth of ttl.
//
// A process that is stopped for minutes and goes on finds that its context has ended, the first time that it looks: Err and Done read the clock. But
// a step that was already under way goes on to its end, and so does the first one after a pause of the whole machine that its monotonic clock does not
// count. What is done under a lease must be harmless when it is done twice, or carry a version by which the late one is refused.
type leases struct {
	kv     jetstream.KeyValue
	node   string
	ttl    time.Duration
	margin time.Duration
	log    *slog.Logger
}

// newLeases makes leases of what is in a bucket, see [leaseBucket]. All nodes must have the same ttl.
func newLeases(kv jetstream.KeyValue, node string, ttl time.Duration, logger *slog.Logger) *leases {
	return &leases{kv: kv, node: node, ttl: ttl, margin: ttl / 10, log: logger}
}

// leaseBucket is the bucket that the leases of a cluster are in. It is kept on disk: one that is lost while the holder is not would let two hold a lease.
func leaseBucket(cluster string, replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: "fanfare-" + cluster + "-leases", Replicas: replicas, Storage: jetstream.FileStorage}
}

// openBucket makes a bucket, or opens the one that is there, and waits as long as ctx for enough servers to be there.
func openBucket(ctx context.Context, js jetstream.JetStream, c jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	var kv jetstream.KeyValue
	err := untilThere(ctx, func(ctx context.Context) (err error) {
		if kv, err = js.CreateKeyValue(ctx, c); errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = js.KeyValue(ctx, c.Bucket)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cluster: bucket %s: %w", c.Bucket, err)
	}
	return kv, nil
}

// untilThere calls f until it succeeds or ctx ends, which is [fanfare.ErrUnavailable], and gives each call five seconds.
func untilThere(ctx context.Context, f func(context.Context) error) error {
	for {
		c, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := f(c)
		cancel()
		if err == nil {
			return nil
		}
		if !pause(ctx, 200*time.Millisecond) {
			return fmt.Errorf("%w: %w: %w", fanfare.ErrUnavailable, context.Cause(ctx), err)
		}
	}
}

// pause waits, and says whether ctx has not ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// lease is the value of a key: who holds it. An empty value, or none, is a lease that nobody holds.
type lease struct {
	Node    string `json:"node"`
	Session string `json:"session"` // of one call of Hold
	Renewed uint64 `json:"renewed"`
}

// leaseKey is a name as a key of a bucket, whose letters are few: any other byte is = and two hexadecimal digits.
func leaseKey(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// Hold is [peers.Leases]. When work returns before its context ends, the lease is given up, and tried for again after ttl.
func (l *leases) Hold(ctx context.Context, name string, work func(ctx context.Context)) {
	h := &holding{leases: l, name: name, key: leaseKey(name), session: rand.Text()}
	for h.take(ctx) {
		h.work(ctx, work)
		h.release(ctx)
		if ctx.Err() == nil && !h.lost {
			pause(ctx, l.ttl)
		}
	}
}

// holding is one call of Hold.
type holding struct {
	*leases
	name    string
	key     string
	session string
	renewed uint64

	revision uint64    // of what this holding wrote last, or read as its own
	sent     time.Time // when it began to write that
	lost     bool      // somebody else has it, or may have
}

// write writes this holding into its key if that is still at a revision, 0 being that there is nothing.
func (h *holding) write(ctx context.Context, revision uint64) (err error) {
	v, err := json.Marshal(lease{Node: h.node, Session: h.session, Renewed: h.renewed + 1})
	if err != nil {
		return err
	}
	sent := time.Now()
	var r uint64
	if revision == 0 {
		r, err = h.kv.Create(ctx, h.key, v)
	} else {
		r, err = h.kv.Update(ctx, h.key, v, revision)
	}
	if err != nil {
		return err
	}
	h.renewed++
	h.revision, h.sent = r, sent
	return nil
}

// read reads who holds the lease, and at which revision. When nobody does, holder is zero.
func (h *holding) read(ctx context.Context) (holder lease, revision uint64, err error) {
	e, err := h.kv.Get(ctx, h.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return lease{}, 0, nil
	}
	if err != nil {
		return lease{}, 0, err
	}
	if len(e.Value()) != 0 && json.Unmarshal(e.Value(), &holder) != nil {
		holder = lease{Node: "?", Session: "?"} // not one of ours, or of a later version: it holds as long as somebody keeps writing it
	}
	return holder, e.Revision(), nil
}

// take waits until this holding has the lease, or ctx has ended.
func (h *holding) take(ctx context.Context) bool {
	watching, stop := context.WithCancel(ctx)
	changed := make(chan struct{}, 1)
	var watch sync.WaitGroup
	watch.Go(func() { h.watch(watching, changed) })
	defer watch.Wait()
	defer stop()

	var seen uint64 // the revision seen last,
	var since time.Time
	var failed bool
	for ctx.Err() == nil {
		c, cancel := context.WithTimeout(ctx, h.ttl)
		holder, revision, err := h.read(c)
		wait := h.ttl / 2 // in case the watch is silent
		if err == nil {
			if now := time.Now(); since.IsZero() || revision != seen {
				seen, since = revision, now
			}
			rest := h.ttl + h.margin - time.Since(since)
			// Its own session is there when a write succeeded whose answer was lost.
			if holder.Session == "" || holder.Session == h.session || rest <= 0 {
				if err = h.write(c, revision); err == nil {
					cancel()
					h.lost = false
					if rest <= 0 {
						h.log.Info("cluster: a lease is taken over", "lease", h.name, "from", holder.Node)
					}
					return true
				}
				if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
					err = nil // another was quicker, and the next reading shows it
					wait = h.ttl / 20
				}
			} else {
				wait = min(wait, rest)
			}
		}
		cancel()
		if (err != nil) != failed && ctx.Err() == nil {
			if failed = err != nil; failed {
				h.log.Warn("cluster: a lease cannot be asked for", "lease", h.name, "error", err)
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
	return false
}

// watch says when the key changes, until ctx ends.
func (h *holding) watch(ctx context.Context, changed chan<- struct{}) {
	for ctx.Err() == nil {
		w, err := h.kv.Watch(ctx, h.key, jetstream.UpdatesOnly())
		if err != nil {
			pause(ctx, h.ttl)
			continue
		}
		for open := true; open; {
			select {
			case <-ctx.Done():
				open = false
			case _, open = <-w.Updates():
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
		go w.Stop() // which has its consumer deleted, and may wait long for the answer: for the lease, and for who closes, too long
		pause(ctx, h.ttl/20)
	}
}

// held is the context of work under a lease. It has ended once the lease may be another's, even if no timer has said so yet: a process that was stopped for
// minutes goes on with work, perhaps, before it comes to its timers.
type held struct {
	context.Context
	end   context.CancelFunc
	start time.Time
	until atomic.Int64 // after start
}

func (c *held) look() {
	if time.Since(c.start) >= time.Duration(c.until.Load()) {
		c.end()
	}
}

func (c *held) Err() error {
	c.look()
	return c.Context.Err()
}

func (c *held) Done() <-chan struct{} {
	c.look()
	return c.Context.Done()
}

// work does work for as long as the lease can be kept, and returns when work has.
func (h *holding) work(ctx context.Context, work func(context.Context)) {
	inner, end := context.WithCancel(ctx)
	defer end()
	c := &held{Context: inner, end: end, start: h.sent}
	c.until.Store(int64(h.ttl - h.margin))
	timer := time.AfterFunc(time.Until(h.sent.Add(h.ttl-h.margin)), end)
	defer timer.Stop()

	done := make(chan struct{})
	go func() {
		defer close(done)
		defer end()
		work(c)
	}()
	defer func() { <-done }()

	renew := time.NewTicker(h.ttl / 4)
	defer renew.Stop()
	for {
		select {
		case <-inner.Done():
			h.lost = ctx.Err() == nil && c.lapsed()
			if h.lost {
				h.log.Warn("cluster: a lease is lost: it could not be renewed in time", "lease", h.name)
			}
			return
		case <-renew.C:
		}
		mine, err := h.renew(inner)
		if err == nil && !mine {
			end()
			h.lost = true
			h.log.Warn("cluster: a lease is lost: another node has it", "lease", h.name)
			return
		}
		if err != nil {
			continue // until the timer ends it
		}
		until := h.sent.Add(h.ttl - h.margin)
		if c.Err() != nil || time.Until(until) <= 0 {
			continue
		}
		c.until.Store(int64(until.Sub(c.start)))
		timer.Reset(time.Until(until))
	}
}

func (c *held) lapsed() bool { return time.Since(c.start) >= time.Duration(c.until.Load()) }

// renew writes the lease anew, and says whether it is still this holding's.
func (h *holding) renew(ctx context.Context) (mine bool, err error) {
	c, cancel := context.WithTimeout(ctx, h.ttl/3)
	defer cancel()
	if err := h.write(c, h.revision); err == nil {
		return true, nil
	}
	// It may have been written, with the answer lost, now or the time before: what is there now tells.
	holder, revision, err := h.read(c)
	if err != nil {
		return false, err
	}
	if revision < h.revision {
		return false, errors.New("what was read is older than what was written")
	}
	if holder.Session != h.session {
		return false, nil
	}
	return true, h.write(c, revision)
}

// release gives the lease up, if it is still this holding's, so that another node can have it at once.
func (h *holding) release(ctx context.Context) {
	c, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.ttl/3)
	defer cancel()
	if _, err := h.kv.Update(c, h.key, nil, h.revision); err == nil {
		return
	}
	holder, revision, err := h.read(c)
	if err == nil && holder.Session == h.session {
		_, err = h.kv.Update(c, h.key, nil, revision)
	}
	if err != nil {
		h.log.Warn("cluster: a lease could not be given up, and goes to another node when it has run out", "lease", h.name, "error", err)
	}
}
