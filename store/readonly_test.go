package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// TestReadOnly opens directories as processes leave them that end well, and that do not: two at a time read everything, no byte changes, and the next
// Open for changes has the same state.
func TestReadOnly(t *testing.T) {
	for _, as := range []struct {
		name             string
		journal, segment bool
	}{{name: "closed"}, {name: "journal", journal: true}, {name: "segment", segment: true}, {name: "both", journal: true, segment: true}} {
		t.Run(as.name, func(t *testing.T) {
			temporary := t.TempDir()
			t.Setenv("TMPDIR", temporary)
			ctx := context.Background()
			dir := t.TempDir()
			closedStore(t, dir, as.journal, as.segment)
			before := fingerprint(t, dir)
			s, other := open(t, dir, Options{ReadOnly: true}), open(t, dir, Options{ReadOnly: true})
			if _, err := Open(dir, Options{}, nil); !errors.Is(err, ErrLocked) {
				t.Fatal("for changes:", err)
			}
			want := 10
			if as.journal && as.segment {
				want = 13
			}
			if n := len(members(t, other, &Expr{Op: OpAll})); n != want {
				t.Fatalf("%d users, not %d", n, want)
			}
			digest, err := s.Digest(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(ctx); err != nil {
				t.Fatal(err)
			}
			var tar bytes.Buffer
			if err := s.Backup(ctx, &tar); err != nil {
				t.Fatal(err)
			}
			for name, change := range map[string]func() error{
				"Propose":    func() error { _, err := s.Propose(ctx, &SetNames{}); return err },
				"Ack":        func() error { _, err := s.Ack(ctx, 4, 1); return err },
				"AckThrough": func() error { _, err := s.AckThrough(ctx, 4, 1); return err },
				"Checkpoint": func() error { return s.Checkpoint(ctx) },
				"Compact":    func() error { return s.Compact(ctx) },
				"Go":         func() error { return s.Go(&SetNames{}, func(any, error) { t.Error("answered") }) },
			} {
				if err := change(); !errors.Is(err, ErrReadOnly) {
					t.Errorf("%s: %v", name, err)
				}
			}
			closeStore(t, s)
			closeStore(t, other)
			if err := s.Check(ctx); !errors.Is(err, ErrClosed) {
				t.Error("Check after Close:", err)
			}
			if _, err := s.Propose(ctx, &SetNames{}); !errors.Is(err, ErrClosed) {
				t.Error("a change after Close:", err)
			}
			if after := fingerprint(t, dir); after != before {
				t.Fatalf("the directory has changed:\n%s\n%s", before, after)
			}
			if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
				t.Fatal("left behind:", left, err)
			}
			restored := filepath.Join(t.TempDir(), "restored")
			if err := Restore(ctx, restored, &tar); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{dir, restored} {
				if got, err := open(t, dir, Options{}).Digest(ctx); err != nil || got != digest {
					t.Fatalf("%x, not %x: %v", got, digest, err)
				}
			}
		})
	}
}

// TestReadOnlyRefuses: what is not there is not made, and what is in use or damaged is told as it is of other opens.
func TestReadOnlyRefuses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	look := func(dir string) error {
		s, err := Open(dir, Options{ReadOnly: true}, nil)
		if err == nil {
			err = errors.Join(s.Check(ctx), s.Close(ctx))
		}
		return err
	}
	dir := filepath.Join(t.TempDir(), "none")
	if err := look(dir); !errors.Is(err, ErrMissingFile) {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("it was made:", err)
	}
	s := open(t, dir, Options{})
	register(t, s, "a")
	if err := look(dir); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	closeStore(t, s)
	if err := look(dir); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	closedStore(t, damaged, true, false)
	patch(t, damaged, blocksFile, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketName[bucketSaved]).Put([]byte("x"), []byte("no audience"))
	})
	if err := look(damaged); !errors.Is(err, ErrDamaged) {
		t.Fatal("Check of a copy:", err)
	}
}

// TestReadOnlyReads compares what is read with what a store says that is open for changes, with deltas and with blocks alone.
func TestReadOnlyReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closedStore(t, dir, true, true)
	now := func() time.Time { return time.Unix(1_000_001, 0) }
	read := func(s *Store) (tags []string, waiting []uint64) {
		for _, id := range members(t, s, &Expr{Op: OpTag, Value: "1"}) {
			ord, err := s.Ordinal(id)
			if err != nil {
				t.Fatal(err)
			}
			seqs, err := s.PendingOf(ord, 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			tags, waiting = append(tags, id), append(waiting, seqs...)
		}
		return tags, waiting
	}
	s := open(t, dir, Options{ReadOnly: true, Now: now})
	tags, waiting := read(s)
	closeStore(t, s)
	if len(tags) != 3 || len(waiting) != 3 {
		t.Fatal(tags, waiting)
	}
	for range 2 {
		s := open(t, dir, Options{Now: now})
		if got, seqs := read(s); !slices.Equal(got, tags) || !slices.Equal(seqs, waiting) {
			t.Fatal(got, seqs, tags, waiting)
		}
		closeStore(t, s)
	}
}
