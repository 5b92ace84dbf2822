package fanfare

import (
	"context"
	"errors"
	"fmt"
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

// TestLookWhileChangesGoOn looks at files and postings while every few changes are folded, and the files compacted under it: what does not change is as it is.
func TestLookWhileChangesGoOn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{blockBits: 2, DeltaEntries: 20})
	users := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
	must(t, p.Register(ctx, users...))
	for _, id := range users {
		must(t, p.AddTags(ctx, id, "all"))
	}
	changed := make(chan error, 1)
	go func() {
		var err error
		for i := range 150 {
			id := users[i%len(users)]
			err = errors.Join(err, p.AddTags(ctx, id, "some"), p.RemoveTags(ctx, id, "some"), p.AddTags(ctx, id, fmt.Sprint(i)))
			if i%50 == 0 {
				err = errors.Join(err, p.Compact(ctx))
			}
		}
		changed <- err
	}()
	for over := false; !over; {
		select {
		case err := <-changed:
			must(t, err)
			over = true
		default:
		}
		files, err := p.Files(ctx)
		must(t, err)
		for _, f := range files {
			if f.Bytes <= 0 || f.Free < 0 || f.Free > f.Bytes || f.Format != 1 {
				t.Errorf("%+v", f)
			}
		}
		found := 0
		last := ""
		for f, err := range p.Postings(ctx) {
			must(t, err)
			switch {
			case f.Kind == PostingUser, f.Kind == PostingTag && f.Value == "all":
				if found++; f.Users != int64(len(users)) {
					t.Errorf("%+v", f)
				}
			case f.Kind == PostingTag && f.Value <= last:
				t.Errorf("%q after %q", f.Value, last)
			}
			if f.Kind == PostingTag {
				last = f.Value
			}
		}
		if found != 2 {
			t.Errorf("%d of those that are always there", found)
		}
	}
}
