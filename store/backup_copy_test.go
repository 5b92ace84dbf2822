package store

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// slowWriter takes its first bytes when it is told to.
type slowWriter struct {
	bytes.Buffer
	at, goOn chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.at != nil {
		close(w.at)
		w.at = nil
		<-w.goOn
	}
	return w.Buffer.Write(p)
}

// TestBackupToASlowWriter backs up to a writer that takes nothing for a while. Meanwhile no transaction is open, so folds are written and
// pages used again, and even a compaction, which waits for all readers, comes to its end. What arrives is the store of when the backup
// began.
func TestBackupToASlowWriter(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, Options{BlockBits: 2, DeltaEntries: 20})
	for i := range 30 {
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPut, ID: fmt.Sprintf("u%02d", i), Tags: []string{"x"}}}})
	}
	push(t, s, &Expr{Op: OpAll}, time.Hour)
	want, err := s.Digest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := &slowWriter{at: make(chan struct{}), goOn: make(chan struct{})}
	at, done := w.at, make(chan error, 1)
	go func() { done <- s.Backup(ctx, w) }()
	<-at
	if n := s.Views(); n != 0 {
		t.Errorf("%d views are open while the writer writes", n)
	}
	for i := range 100 { // some folds' worth
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPut, ID: fmt.Sprintf("v%03d", i), Tags: []string{"x"}}}})
	}
	short, cancel := context.WithTimeout(ctx, time.Minute) // only if it is stuck
	defer cancel()
	if err := errors.Join(s.Check(short), s.Compact(short)); err != nil {
		t.Error("the backup holds others up:", err)
	}
	close(w.goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "backup-*")); err != nil || len(left) > 0 {
		t.Error("left behind:", left, err)
	}
	restored := filepath.Join(t.TempDir(), "new", "store")
	if err := Restore(ctx, restored, &w.Buffer); err != nil {
		t.Fatal(err)
	}
	if got, err := open(t, restored, Options{}).Digest(ctx); err != nil || got != want {
		t.Fatalf("%x, not %x (%v)", got, want, err)
	}
}

// TestBackupInTheMiddleOfAFold backs up while a segment is named and only half of it is in the blocks, and records are behind it: the
// archive has all three, in this order, and is the state of the last record.
func TestBackupInTheMiddleOfAFold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var steps, last atomic.Int64
		last.Store(1 << 30)
		now := time.Unix(1000, 0)
		o := Options{BlockBits: 1, DeltaEntries: 1 << 20, Now: func() time.Time { return now }}
		o.foldError = func() error {
			if steps.Add(1) > last.Load() {
				return syscall.ENOSPC
			}
			return nil
		}
		dir := t.TempDir()
		s := open(t, dir, o)
		register(t, s, "a", "b", "c", "d")
		push(t, s, &Expr{Op: OpAll}, time.Hour)
		if err := s.Checkpoint(ctx); err != nil {
			t.Fatal(err)
		}
		register(t, s, "e", "f", "g")
		steps.Store(0)
		last.Store(1) // named, and not folded
		if err := s.Checkpoint(ctx); !errors.Is(err, ErrNoRoom) {
			t.Fatal(err)
		}
		propose(t, s, &CaughtUp{Ordinal: 1, Seqs: []uint64{1}}) // in the journal only
		name := segmentOf(t, dir)
		var archive bytes.Buffer
		if err := s.Backup(ctx, &archive); err != nil {
			t.Fatal(err)
		}
		last.Store(1 << 30)
		time.Sleep(2 * foldRetry)
		synctest.Wait()
		want, err := s.Digest(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for tr := tar.NewReader(bytes.NewReader(archive.Bytes())); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
		}
		if !slices.Equal(names, []string{blocksFile, name, journalFile}) {
			t.Fatal(names)
		}
		restored := t.TempDir()
		if err := Restore(ctx, restored, &archive); err != nil {
			t.Fatal(err)
		}
		o.foldError = nil
		if got, err := open(t, restored, o).Digest(ctx); err != nil || got != want {
			t.Fatalf("%x, not %x (%v)", got, want, err)
		}
	})
}

// failingWriter fails after some bytes.
type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

// TestBackupThatIsGivenUp ends backups before their time: by the writer, by the context, and by Close.
func TestBackupThatIsGivenUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	register(t, s, "a")
	empty := func() {
		t.Helper()
		if left, err := filepath.Glob(filepath.Join(dir, "backup-*")); err != nil || len(left) > 0 {
			t.Fatal("left behind:", left, err)
		}
	}
	if err := s.Backup(context.Background(), &failingWriter{left: 5000}); !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
	empty()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Backup(ended, io.Discard); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	empty()
	w := &slowWriter{at: make(chan struct{}), goOn: make(chan struct{})}
	at, done := w.at, make(chan error, 1)
	go func() { done <- s.Backup(context.Background(), w) }()
	<-at
	closeStore(t, s) // which does not wait for the writer
	close(w.goOn)
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	empty()
	if err := s.Backup(context.Background(), io.Discard); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	empty()
}

// TestRestoreRefuses restores what is no backup, or not to where it may go: nothing is there afterwards that was not there before.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	from := t.TempDir()
	closedStore(t, from, true, true)
	files := make(map[string][]byte)
	for _, name := range []string{blocksFile, journalFile, segmentOf(t, from)} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if name != segmentOf(t, from) {
			b = b[:highWater(b)]
		}
		files[name] = b
	}
	archive := func(names ...string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, name := range names {
			content := files[filepath.Base(name)]
			if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	segment := segmentOf(t, from)
	whole := archive(blocksFile, segment, journalFile)
	cut := bytes.Clone(files[blocksFile])
	for what, c := range map[string]struct {
		archive []byte
		want    error
	}{
		"nothing":               {nil, ErrMissingFile},
		"text":                  {[]byte(strings.Repeat("Dear Sir or Madam, ", 100)), ErrDamaged},
		"no journal":            {archive(blocksFile, segment), ErrMissingFile},
		"no blocks":             {archive(journalFile), ErrMissingFile},
		"a file twice":          {archive(blocksFile, journalFile, blocksFile), ErrForeignFile},
		"a file of another":     {archive(blocksFile, journalFile, "notes.txt"), ErrForeignFile},
		"a file elsewhere":      {archive(blocksFile, "../"+journalFile), ErrForeignFile},
		"almost a segment":      {archive(blocksFile, segment+"0", journalFile), ErrForeignFile},
		"the end is missing":    {whole[:len(whole)/2+1], io.ErrUnexpectedEOF},
		"a file is not whole":   {whole[:1000], ErrDamaged},
		"a header is not whole": {whole[:100], ErrDamaged},
	} {
		parent := t.TempDir()
		dir := filepath.Join(parent, "store")
		if err := Restore(ctx, dir, bytes.NewReader(c.archive)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", what, left, err)
		}
	}
	files[blocksFile] = cut[:len(cut)-4096]
	if err := Restore(ctx, filepath.Join(t.TempDir(), "store"), bytes.NewReader(archive(blocksFile, segment, journalFile))); !errors.Is(err, ErrDamaged) {
		t.Error("blocks cut off:", err)
	}
	broken := errors.New("connection reset")
	for _, n := range []int{0, 100, 1000} {
		err := Restore(ctx, filepath.Join(t.TempDir(), "store"), io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || errors.Is(err, ErrDamaged) {
			t.Errorf("a reader that fails after %d bytes: %v", n, err)
		}
	}
	before := fingerprint(t, from)
	if err := Restore(ctx, from, bytes.NewReader(whole)); err == nil || fingerprint(t, from) != before {
		t.Error("restored over a store:", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	parent := t.TempDir()
	if err := Restore(ended, filepath.Join(parent, "store"), bytes.NewReader(whole)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	dir := t.TempDir() // there, and empty
	if err := Restore(ctx, dir+"/", bytes.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
}
