package store

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
)

// TestWriteBlocks: who stands before the blocks makes each write of a fold, or fails it, and then it is made when it can be.
func TestWriteBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var full atomic.Bool
		var made atomic.Int64
		s := open(t, dir, Options{WriteBlocks: func(write func() error) error {
			if full.Load() {
				return syscall.ENOSPC
			}
			made.Add(1)
			return write()
		}})
		register(t, s, "a")
		full.Store(true)
		if err := s.Checkpoint(context.Background()); !errors.Is(err, ErrNoRoom) || s.Refused() != nil {
			t.Fatal(err, s.Refused())
		}
		if made.Load() != 0 {
			t.Fatal("there was room")
		}
		full.Store(false)
		if err := s.Checkpoint(context.Background()); err != nil || made.Load() < 3 { // the segment's name, the users, its end
			t.Fatal(err, made.Load())
		}
		closeStore(t, s)
		s = open(t, dir, Options{})
		if got := members(t, s, &Expr{Op: OpAll}); !slices.Equal(got, []string{"a"}) {
			t.Fatal(got)
		}
	})
}
