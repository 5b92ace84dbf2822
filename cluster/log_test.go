package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
)

// newLog is a log on a server of its own, with records.
func newLog(ctx context.Context, t *testing.T, records ...string) (*connection, *log, *Options) {
	t.Helper()
	o := &Options{Name: "a"}
	o.fill()
	c, err := connect(ctx, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	l, err := openLog(ctx, c.js, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if _, err := l.Append(ctx, r, []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	return c, l, o
}

// wantsForeign wants that nothing is read after a position, but an error.
func wantsForeign(ctx context.Context, t *testing.T, l *log, after uint64) {
	t.Helper()
	for r, err := range l.Records(ctx, after) {
		if !errors.Is(err, fanfare.ErrForeignFile) {
			t.Errorf("after %d came %d, %v", after, r.Position, err)
		}
		return
	}
	t.Error("nothing came in time")
}

// TestLogMadeAnew: a stream that was deleted and made anew is not gone on with from a position of the one before.
func TestLogMadeAnew(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, old, o := newLog(ctx, t, "1", "2")
	if err := c.js.DeleteStream(ctx, old.name); err != nil {
		t.Fatal(err)
	}
	l, err := openLog(ctx, c.js, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{"a", "b", "c"} {
		if _, err := l.Append(ctx, r, []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	wantsForeign(ctx, t, old, 2)
}

// TestLogLostItsEnd: a node does not wait for the position after its own in a log that ends before it, for others fill the positions between with other records.
func TestLogLostItsEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, l, _ := newLog(ctx, t, "1", "2")
	l.lostFor = 100 * time.Millisecond
	wantsForeign(ctx, t, l, 3)
}

// TestLogCutCompletely: a log of which nothing is kept ends where its last record was.
func TestLogCutCompletely(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, l, _ := newLog(ctx, t, "1", "2")
	s, err := c.js.Stream(ctx, l.name)
	if err == nil {
		err = s.Purge(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(ctx, "3", []byte("3")); err != nil {
		t.Fatal(err)
	}
	for r, err := range l.Records(ctx, 2) {
		if err != nil || r.Position != 3 {
			t.Error(r.Position, err)
		}
		return
	}
	t.Error("nothing came in time")
}
