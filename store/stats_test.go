package store

import (
	"context"
	"os"
	"syscall"
	"testing"
)

// TestStatsOfTheDelta follows the size of the delta from a change to the end of its fold.
func TestStatsOfTheDelta(t *testing.T) {
	t.Parallel()
	full := true
	s := open(t, t.TempDir(), Options{foldError: func() error {
		if full {
			return &os.PathError{Op: "write", Path: blocksFile, Err: syscall.ENOSPC}
		}
		return nil
	}})
	stats := func() Stats {
		t.Helper()
		r, err := s.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := stats(); r.DeltaEntries != 0 || r.DeltaBytes != 0 || r.Folding {
		t.Errorf("at first: %+v", r)
	}
	register(t, s, "a")
	one := stats()
	register(t, s, "b", "c")
	three := stats()
	if one.DeltaEntries == 0 || one.DeltaBytes == 0 || three.DeltaEntries <= one.DeltaEntries || three.DeltaBytes <= one.DeltaBytes {
		t.Errorf("%+v, then %+v", one, three)
	}
	if err := s.Checkpoint(context.Background()); err == nil {
		t.Fatal("folded without room")
	}
	frozen := stats()
	if !frozen.Folding || frozen.DeltaEntries < three.DeltaEntries {
		t.Errorf("%+v, frozen %+v", three, frozen)
	}
	register(t, s, "d")
	if r := stats(); r.DeltaEntries <= frozen.DeltaEntries || r.DeltaBytes <= frozen.DeltaBytes {
		t.Errorf("frozen %+v, and a change more %+v", frozen, r)
	}
	s.blocksMu.Lock()
	full = false
	s.blocksMu.Unlock()
	for err := s.Checkpoint(context.Background()); err != nil; {
		err = s.Checkpoint(context.Background())
	}
	if r := stats(); r.DeltaEntries != 0 || r.DeltaBytes != 0 || r.Folding {
		t.Errorf("folded: %+v", r)
	}
}
