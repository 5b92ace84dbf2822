package fanfare

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestSeen: a user is noted at the first Connect of a day, and at no other; a push asks the day on which it is accepted.
func TestSeen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var clock atomic.Int64
	clock.Store(time.Date(2026, 11, 28, 22, 0, 0, 0, time.UTC).UnixNano())
	dir := t.TempDir()
	o := Options{now: func() time.Time { return time.Unix(0, clock.Load()) }}
	p := testPusher(t, dir, o)
	steps := func(want uint64, users ...string) {
		t.Helper()
		at := position(t, p)
		for _, id := range users {
			_, err := p.Connect(ctx, id)
			must(t, err)
		}
		if made := position(t, p) - at; made != want {
			t.Fatalf("%d steps, not %d", made, want)
		}
	}
	count := func(a Audience, want int64) {
		t.Helper()
		if n, err := p.Count(ctx, a); n != want || err != nil {
			t.Fatalf("%s: %d, %v, not %d", a, n, err, want)
		}
	}
	must(t, p.Register(ctx, "a", "b"))
	count(SeenWithin(30), 0)
	count(RegisteredWithin(1), 2)
	steps(2, "a", "new") // who is new is registered and noted in one step
	steps(0, "a", "new", "a")
	count(SeenWithin(1), 2)
	clock.Add(int64(3 * time.Hour)) // the next day
	count(SeenWithin(1), 0)
	count(SeenWithin(2), 2)
	steps(1, "a", "a")
	count(SeenWithin(1), 1)
	count(RegisteredWithin(1), 0)
	count(RegisteredSince(time.Date(2026, 11, 28, 23, 59, 0, 0, time.UTC)), 3)
	count(RegisteredSince(time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)), 0)
	clock.Add(-int64(24 * time.Hour)) // a clock that is set back notes nobody
	steps(0, "a")
	steps(0, "new")
	clock.Add(int64(24 * time.Hour))
	if task := mustTask(t, p, Message{To: SeenWithin(1).Not(), Lifetime: time.Hour}); progress(t, task).Total != 2 {
		t.Fatal(progress(t, task))
	}
	must(t, p.Unregister(ctx, "a"))
	count(SeenWithin(30), 1)
	must(t, p.Check(ctx))
	must(t, p.Close(ctx))
	p = testPusher(t, dir, o)
	count(SeenWithin(2), 1)
}

// TestConnectWithoutNote: who cannot be noted is delivered to all the same.
func TestConnectWithoutNote(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		rec := new(transporttest.Recorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec})
		must(t, p.Register(ctx, "a"))
		mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour})
		cancel()
		_, err := p.Connect(ctx, "a")
		must(t, err)
		synctest.Wait()
		if got := rec.Received("a"); len(got) != 1 {
			t.Fatal(got)
		}
		if _, err := p.Connect(ctx, "new"); !errors.Is(err, context.Canceled) { // while this one would not be known
			t.Fatal(err)
		}
	})
}

func BenchmarkConnectAgain(b *testing.B) {
	ctx := context.Background()
	p := testPusher(b, b.TempDir(), Options{Online: new(transporttest.Recorder)})
	s, err := p.Connect(ctx, "a")
	must(b, err)
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		s, err := p.Connect(ctx, "a")
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
