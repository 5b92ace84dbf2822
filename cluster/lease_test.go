package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-im/fanfare/internal/peers"
)

var _ peers.Leases = (*leases)(nil)

// bucket is a bucket in memory, for bubbles of testing/synctest: what the leases and the members use of one.
type bucket struct {
	jetstream.KeyValue // the methods that are not here are not called

	mu       sync.Mutex
	revision uint64
	entries  map[string]entry
	watchers map[*watcher]bool
	short    bool // lists are cut short
}

type entry struct {
	jetstream.KeyValueEntry
	key      string
	value    []byte
	revision uint64
}

func (e entry) Key() string      { return e.key }
func (e entry) Value() []byte    { return e.value }
func (e entry) Revision() uint64 { return e.revision }

type watcher struct {
	b       *bucket
	key     string
	updates chan jetstream.KeyValueEntry
}

func (w *watcher) Updates() <-chan jetstream.KeyValueEntry { return w.updates }
func (w *watcher) Error() <-chan error                     { return nil }
func (w *watcher) Stop() error {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	delete(w.b.watchers, w)
	return nil
}

func newBucket() *bucket {
	return &bucket{entries: map[string]entry{}, watchers: map[*watcher]bool{}}
}

func (b *bucket) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[key]
	if !ok {
		return nil, jetstream.ErrKeyNotFound
	}
	return e, ctx.Err()
}

func (b *bucket) Create(ctx context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return b.Update(ctx, key, value, 0)
}

func (b *bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if b.entries[key].revision != revision {
		return 0, jetstream.ErrKeyExists
	}
	b.revision++
	e := entry{key: key, value: bytes.Clone(value), revision: b.revision}
	b.entries[key] = e
	for w := range b.watchers {
		if w.key == key {
			w.updates <- e
		}
	}
	return b.revision, nil
}

func (b *bucket) Watch(_ context.Context, key string, _ ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &watcher{b: b, key: key, updates: make(chan jetstream.KeyValueEntry, 10000)}
	b.watchers[w] = true
	return w, nil
}

// line is a node's way to a bucket, which can be cut.
type line struct {
	jetstream.KeyValue
	cut   atomic.Bool   // nothing gets there, and a call hangs until its context ends
	mute  atomic.Bool   // what is written gets there, and its answer does not
	deaf  atomic.Bool   // watches tell nothing
	slow  time.Duration // watches take so long to stop
	delay func() time.Duration
}

func (l *line) pass(ctx context.Context) error {
	if l.delay != nil {
		pause(ctx, l.delay())
	}
	if l.cut.Load() {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (l *line) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	if err := l.pass(ctx); err != nil {
		return nil, err
	}
	return l.KeyValue.Get(ctx, key)
}

func (l *line) Create(ctx context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return l.Update(ctx, key, value, 0)
}

func (l *line) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if err := l.pass(ctx); err != nil {
		return 0, err
	}
	r, err := l.KeyValue.Update(ctx, key, value, revision)
	if l.mute.Load() {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return r, err
}

func (l *line) Watch(ctx context.Context, key string, o ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	if err := l.pass(ctx); err != nil {
		return nil, err
	}
	if l.deaf.Load() {
		return &watcher{b: newBucket()}, nil
	}
	w, err := l.KeyValue.Watch(ctx, key, o...)
	return slowly{w, l.slow}, err
}

// slowly is a watch whose consumer cannot be deleted soon, for nobody answers.
type slowly struct {
	jetstream.KeyWatcher
	takes time.Duration
}

func (w slowly) Stop() error {
	time.Sleep(w.takes)
	return w.KeyWatcher.Stop()
}

// holders counts who holds a lease, by the contexts that have not ended.
type holders struct {
	t    testing.TB
	mu   sync.Mutex
	all  map[context.Context]string
	came chan string
}

func newHolders(t testing.TB) *holders {
	return &holders{t: t, all: map[context.Context]string{}, came: make(chan string, 1000)}
}

// work is work of a node: it holds the lease until its context ends, and reports whoever else holds it meanwhile.
func (h *holders) work(node string, until func(ctx context.Context)) func(context.Context) {
	return func(ctx context.Context) {
		h.mu.Lock()
		for other, name := range h.all {
			if other.Err() == nil && ctx.Err() == nil {
				h.t.Errorf("%s has the lease while %s has it", node, name)
			}
		}
		h.all[ctx] = node
		h.mu.Unlock()
		h.came <- node
		until(ctx)
		h.mu.Lock()
		delete(h.all, ctx)
		h.mu.Unlock()
	}
}

func ended(ctx context.Context) { <-ctx.Done() }

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

const testTTL = 3 * time.Second

// A lease is one node's; when the node gives it up, another has it at once.
func TestLeaseIsOneNodesAndPassedOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, h := newBucket(), newHolders(t)
		stops := map[string]context.CancelFunc{}
		var all sync.WaitGroup
		for _, node := range []string{"a", "b", "c"} {
			ctx, stop := context.WithCancel(t.Context())
			stops[node] = stop
			l := newLeases(b, node, testTTL, silent())
			all.Go(func() { l.Hold(ctx, "phones.fcm", h.work(node, ended)) })
		}
		for range 3 {
			node := <-h.came
			time.Sleep(time.Minute)
			synctest.Wait()
			select {
			case other := <-h.came:
				t.Fatalf("%s got the lease of %s", other, node)
			default:
			}
			if len(stops) == 1 {
				stops[node]()
				break
			}
			before := time.Now()
			stops[node]()
			delete(stops, node)
			next := <-h.came
			if d := time.Since(before); d != 0 {
				t.Errorf("%s got the lease %v after %s gave it up", next, d, node)
			}
			h.came <- next
			<-h.came
			h.came <- next
		}
		all.Wait()
	})
}

// A lease is got, and waiting for one ends, without waiting for the end of the watch, which may take longer than the lease lasts.
func TestLeaseWaitsForNoWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const slow = 5 * time.Second
		b, h := newBucket(), newHolders(t)
		stops := map[string]context.CancelFunc{}
		var all sync.WaitGroup
		for _, node := range []string{"a", "b", "c"} {
			ctx, stop := context.WithCancel(t.Context())
			stops[node] = stop
			l := newLeases(&line{KeyValue: b, slow: slow}, node, testTTL, silent())
			all.Go(func() { l.Hold(ctx, "x", h.work(node, ended)) })
		}
		node := <-h.came
		time.Sleep(time.Minute)
		before := time.Now()
		stops[node]()
		delete(stops, node)
		next := <-h.came
		if d := time.Since(before); d != 0 {
			t.Errorf("%s got it after %v", next, d)
		}
		time.Sleep(time.Minute)
		if n := len(h.came); n != 0 {
			t.Errorf("it was lost %d times", n)
		}
		before = time.Now()
		for _, stop := range stops {
			stop()
		}
		all.Wait()
		if d := time.Since(before); d != 0 {
			t.Errorf("the end took %v", d)
		}
		time.Sleep(slow) // until the last watch has ended
	})
}

// A holder that is cut off loses its context before another has the lease, which it has soon after; also when only the answers are lost.
func TestLeaseOfOneCutOff(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"cut", "mute"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, h := newBucket(), newHolders(t)
				a, other := &line{KeyValue: b}, &line{KeyValue: b}
				other.deaf.Store(true)
				ctx, stop := context.WithCancel(t.Context())
				var all sync.WaitGroup
				ends := make(chan time.Time, 10)
				all.Go(func() {
					newLeases(a, "a", testTTL, silent()).Hold(ctx, "x", h.work("a", func(ctx context.Context) {
						<-ctx.Done()
						ends <- time.Now()
					}))
				})
				<-h.came
				all.Go(func() { newLeases(other, "b", testTTL, silent()).Hold(ctx, "x", h.work("b", ended)) })
				time.Sleep(10 * time.Second)
				cut := time.Now()
				if how == "cut" {
					a.cut.Store(true)
				} else {
					a.mute.Store(true)
				}
				lost := <-ends
				if d := lost.Sub(cut); d > testTTL {
					t.Errorf("the context ended %v after the cut", d)
				}
				if how == "mute" {
					a.cut.Store(true)
				}
				if next := <-h.came; next != "b" {
					t.Fatalf("%s has the lease", next)
				}
				took := time.Now()
				if !took.After(lost) || took.Sub(cut) > 2*testTTL {
					t.Errorf("cut at 0, lost at %v, taken at %v", lost.Sub(cut), took.Sub(cut))
				}
				stop()
				all.Wait()
			})
		})
	}
}

// A process that was stopped and goes on finds its context ended, before any timer has run.
func TestLeaseOfOneStopped(t *testing.T) {
	t.Parallel()
	inner, end := context.WithCancel(t.Context())
	c := &held{Context: inner, end: end, start: time.Now().Add(-time.Hour)}
	c.until.Store(int64(2 * time.Hour))
	if c.Err() != nil {
		t.Fatal("ended too early")
	}
	child, cancel := context.WithCancel(c)
	defer cancel()
	c.until.Store(int64(time.Minute))
	select {
	case <-c.Done():
	default:
		t.Fatal("has not ended")
	}
	if !errors.Is(c.Err(), context.Canceled) || child.Err() == nil {
		t.Fatal(c.Err(), child.Err())
	}
}

// With a real server: one of three has the lease; one whose connection is gone is followed by another after ttl, and one that gives it up at once.
func TestLeaseOnServer(t *testing.T) {
	t.Parallel()
	const ttl = testTTL
	site, h := newSite(t, 1), newHolders(t)
	type node struct {
		nc   interface{ Close() }
		stop context.CancelFunc
		done chan struct{}
	}
	nodes := map[string]node{}
	for _, name := range []string{"a", "b", "c"} {
		nc, js := site.connect(0)
		kv, err := openBucket(within(t), js, leaseBucket("c", 1))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(within(t))
		n := node{nc, stop, make(chan struct{})}
		nodes[name] = n
		go func() {
			defer close(n.done)
			newLeases(kv, name, ttl, silent()).Hold(ctx, "phones.0000-ffff.a platform/ü", h.work(name, ended))
		}()
	}
	first := soon(t, h.came)
	nodes[first].nc.Close()
	second := soon(t, h.came) // and not before first has lost it, which the holders see to
	nodes[second].stop()
	<-nodes[second].done
	before := time.Now()
	third := soon(t, h.came)
	if d := time.Since(before); d >= ttl {
		t.Errorf("%s has the lease that %s gave up after %v", third, second, d)
	}
	for _, n := range nodes {
		n.stop()
		<-n.done
	}
}

// A name may have any bytes; no two have the same key, and each is a key that a bucket takes.
func TestLeaseKey(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{
		"cut": "cut", "phones.0000-ffff.fcm": "phones=2E0000-ffff=2Efcm", "a=2E": "a=3D2E", "ü/ *>": "=C3=BC=2F=20=2A=3E",
	} {
		if got := leaseKey(name); got != key {
			t.Errorf("%q has the key %q, not %q", name, got, key)
		}
	}
}

func (b *bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	b.mu.Lock()
	revision := b.entries[key].revision
	b.mu.Unlock()
	return b.Update(ctx, key, value, revision)
}

func (b *bucket) WatchAll(context.Context, ...jetstream.WatchOpt) (jetstream.KeyWatcher, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &watcher{b: b, updates: make(chan jetstream.KeyValueEntry, len(b.entries)+1)}
	for _, e := range b.entries {
		w.updates <- e
	}
	if b.short {
		close(w.updates)
	} else {
		w.updates <- nil
	}
	return w, nil
}

func (b *bucket) Delete(_ context.Context, key string, _ ...jetstream.KVDeleteOpt) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.revision++
	delete(b.entries, key)
	return nil
}
