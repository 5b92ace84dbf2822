package fanfare

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestFiles: what is deleted is free space, and is given back; what a process left is found.
func TestFiles(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	p := testPusher(t, dir, Options{})
	found := func(p *Pusher) Found {
		s, err := p.Stats(ctx)
		must(t, err)
		if len(s.StoreID) != 32 {
			t.Errorf("store ID %q", s.StoreID)
		}
		return s.Found
	}
	if f := found(p); f != (Found{}) {
		t.Errorf("at first: %+v", f)
	}
	files := func(p *Pusher) map[string]File {
		t.Helper()
		list, err := p.Files(ctx)
		must(t, err)
		byName := make(map[string]File)
		for _, f := range list {
			if byName[f.Name] = f; f.Free < 0 || f.Free > f.Bytes || f.Format != 1 {
				t.Errorf("%+v", f)
			}
		}
		return byName
	}
	body := make([]byte, 12<<10)
	must(t, p.Register(ctx, "a"))
	var last *Task
	for range 300 {
		last = mustTask(t, p, Message{To: Users("a"), Body: body, Lifetime: time.Hour})
	}
	full := files(p)["journal.db"]
	if full.Bytes-full.Free < 300*int64(len(body)) {
		t.Errorf("the journal with 300 messages: %+v", full)
	}
	past, cancel := context.WithCancel(ctx)
	cancel()
	if err := p.Close(past); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	p = testPusher(t, dir, Options{ReadOnly: true})
	if f := found(p); f.Segment || f.Records < 301 || f.Bytes < 300*int64(len(body)) {
		t.Errorf("left behind: %+v", f)
	}
	if f := files(p)["journal.db"]; f.Free > full.Free+64<<10 || f.Free < full.Free-64<<10 {
		t.Errorf("%+v, then %+v", full, f)
	}
	must(t, p.Close(ctx))
	p = testPusher(t, dir, Options{Maintenance: true})
	must(t, p.Close(ctx))
	p = testPusher(t, dir, Options{Maintenance: true})
	if f := found(p); f != (Found{}) {
		t.Errorf("after a complete Close: %+v", f)
	}
	all := files(p)
	if j, b := all["journal.db"], all["blocks.db"]; j.Free < 300*int64(len(body)) || b.Bytes-b.Free < 300*int64(len(body)) {
		t.Errorf("%+v", all)
	}
	must(t, p.AckThrough(ctx, "a", last.ID))
	must(t, p.Compact(ctx))
	for name, f := range files(p) {
		if f.Bytes-f.Free > 200<<10 || f.Free > 17<<20 {
			t.Errorf("compacted: %s %+v", name, f)
		}
	}
}
