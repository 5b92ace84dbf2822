package store

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

// TestCloseDuringCompact closes while a compaction is under way: it ends first, and no file stays locked.
func TestCloseDuringCompact(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	s := open(t, dir, Options{})
	register(t, s, "a")
	if err := s.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	s.blocksMu.Lock() // holds up the copy
	compacted := make(chan error, 1)
	go func() { compacted <- s.Compact(ctx) }()
	for len(s.copying) == 0 {
		runtime.Gosched()
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close(ctx) }()
	<-s.stopped.Done()
	s.running.Wait()
	select {
	case err := <-closed:
		t.Error("Close did not wait:", err)
	default:
	}
	s.blocksMu.Unlock()
	if err := <-compacted; err != nil && !errors.Is(err, ErrClosed) {
		t.Error("Compact:", err)
	}
	if err := <-closed; err != nil {
		t.Error("Close:", err)
	}
	if got := members(t, open(t, dir, Options{}), &Expr{Op: OpAll}); len(got) != 1 {
		t.Error(got)
	}
}

// TestCloseEndsCheck closes with something to fold, which has to wait for the Check under way.
func TestCloseEndsCheck(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	at, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s := open(t, t.TempDir(), Options{checkError: func() error {
		once.Do(func() { close(at); <-goOn })
		return nil
	}})
	register(t, s, "a")
	checked := make(chan error, 1)
	go func() { checked <- s.Check(ctx) }()
	<-at
	register(t, s, "b")
	closed := make(chan error, 1)
	go func() { closed <- s.Close(ctx) }()
	<-s.leaving.Done()
	close(goOn)
	if err := <-checked; !errors.Is(err, ErrClosed) {
		t.Error("Check:", err)
	}
	if err := <-closed; err != nil {
		t.Error("Close:", err)
	}
}

// TestCloseEndsBackup closes while somebody slow reads the backup, of a directory that is open for changes and of one that is open for reading only.
func TestCloseEndsBackup(t *testing.T) {
	t.Parallel()
	ctx, dir := context.Background(), t.TempDir()
	for _, readOnly := range []bool{false, true} {
		s := open(t, dir, Options{ReadOnly: readOnly})
		if !readOnly {
			register(t, s, "a")
		}
		r, w := io.Pipe()
		backed := make(chan error, 1)
		go func() {
			err := s.Backup(ctx, w)
			backed <- errors.Join(err, w.Close())
		}()
		if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
		_, _ = io.Copy(io.Discard, r)
		if err := <-backed; !errors.Is(err, ErrClosed) {
			t.Error("Backup:", err)
		}
	}
}

// TestCompactGivenUp gives a compaction up that is at the journal: it does not let others at the files before it is done with them.
func TestCompactGivenUp(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a")
	journal := s.local.db.Load()
	reader, err := journal.Begin(false) // which the old file is kept for
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	compacted := make(chan error, 1)
	go func() { compacted <- s.Compact(ctx) }()
	for s.local.db.Load() == journal {
		runtime.Gosched()
	}
	cancel()
	select {
	case err := <-compacted:
		t.Error("it is still at work:", err)
		compacted <- nil
	case <-time.After(50 * time.Millisecond):
	}
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-compacted; err != nil {
		t.Error(err)
	}
	closeStore(t, s)
}

// TestWaitsEnd: who waits for another's copy or check of the files waits no longer than its context.
func TestWaitsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), Options{})
		register(t, s, "a")
		if err := s.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func(context.Context) error{
			"Backup":  func(ctx context.Context) error { return s.Backup(ctx, io.Discard) },
			"Check":   s.Check,
			"Compact": s.Compact,
			"Files":   func(ctx context.Context) error { _, err := s.Files(ctx); return err },
		} {
			for _, held := range []sync.Locker{s.copying, s.blocksMu} {
				if name == "Check" && held == sync.Locker(s.copying) {
					continue // which it does not need
				}
				held.Lock()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", name, err)
				}
				cancel()
				held.Unlock()
			}
			if err := call(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		closeStore(t, s)
	})
}

// TestFilesReadAfterClose has a check and a backup come to the files when Close has been there.
func TestFilesReadAfterClose(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a")
	closeStore(t, s)
	if _, err := s.withWhole(context.Background(), func(*bbolt.Tx, string) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Error("Check:", err)
	}
	if _, err := s.spool(context.Background(), t.TempDir()); !errors.Is(err, ErrClosed) {
		t.Error("Backup:", err)
	}
}
