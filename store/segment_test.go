package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestSegmentThatCannotBeRemoved has the file of a segment that was folded resist: the next Open removes it.
func TestSegmentThatCannotBeRemoved(t *testing.T) {
	t.Parallel()
	dir, steps := t.TempDir(), 0
	var name string
	s := open(t, dir, Options{foldError: func() error {
		if steps++; steps != 3 { // the segment was named, and folded
			return nil
		}
		name = filepath.Join(dir, segmentOf(t, dir))
		return errors.Join(os.Remove(name), os.Mkdir(name, 0o700), os.WriteFile(filepath.Join(name, "x"), nil, 0o600))
	}})
	register(t, s, "a")
	if err := s.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); err != nil {
		t.Fatal("nothing resisted:", err)
	}
	register(t, s, "b")
	closeStore(t, s)
	s = open(t, dir, Options{})
	if got := members(t, s, &Expr{Op: OpAll}); len(got) != 2 {
		t.Error(got)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Error("left behind:", err)
	}
}

// TestCommitThatIsThereAllTheSame has each step of a fold say that there was no room although it was written.
// Doing it again could write over the segment that the blocks name, and build on what may not last.
func TestCommitThatIsThereAllTheSame(t *testing.T) {
	t.Parallel()
	for step := 1; step <= 3; step++ {
		dir, steps := t.TempDir(), 0
		s := open(t, dir, Options{foldDone: func(err error) error {
			if steps++; steps == step && err == nil {
				return &os.PathError{Op: "sync", Path: blocksFile, Err: syscall.ENOSPC}
			}
			return err
		}})
		register(t, s, "a", "b")
		if err := s.Checkpoint(context.Background()); !errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrNoRoom) {
			t.Fatalf("step %d: %v", step, err)
		}
		if steps != step {
			t.Errorf("step %d: %d steps were done", step, steps)
		}
		closeStore(t, s)
		if _, err := readSegment(dir, segmentOf(t, dir), s.id); err != nil {
			t.Errorf("step %d: %v", step, err)
		}
		s = open(t, dir, Options{})
		if got := members(t, s, &Expr{Op: OpAll}); len(got) != 2 {
			t.Errorf("step %d: %q", step, got)
		}
	}
}

// TestSegmentEntryTooLarge writes what would not be read back: that is an error which another try does not mend.
func TestSegmentEntryTooLarge(t *testing.T) {
	t.Parallel()
	d := newDelta()
	d.put(bucketMessages, "key", bytes.Repeat([]byte{1}, maxSegmentItem))
	dir := t.TempDir()
	var limit *LimitError
	if _, err := writeSegment(dir, storeID{}, d); !errors.As(err, &limit) {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}
