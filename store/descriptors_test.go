//go:build unix

package store

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inChild runs the test in a process of its own, because what it does to the process would disturb the
// other tests. It says whether this is that process.
func inChild(t *testing.T) bool {
	t.Helper()
	const variable = "FANFARE_TEST_ALONE"
	if os.Getenv(variable) == t.Name() {
		return true
	}
	t.Parallel()
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), variable+"="+t.Name())
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// leaveDescriptors lets the process open only n more files, until restore is called.
func leaveDescriptors(t *testing.T, n int) (restore func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 256
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var taken []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		taken = append(taken, f)
	}
	for _, f := range taken[:n] {
		f.Close()
	}
	return func() {
		for _, f := range taken[n:] {
			f.Close()
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCompactWithoutDescriptors compacts while the process can open no file, or one, or two. Whatever
// that comes to: what is acknowledged afterwards is there in another process.
func TestCompactWithoutDescriptors(t *testing.T) {
	if !inChild(t) {
		return
	}
	for name, compact := range map[string]func(*Store) error{
		"both files": func(s *Store) error { return s.Compact(context.Background()) },
		"the journal": func(s *Store) (err error) {
			return errors.Join(s.control(context.Background(), func() { err = s.local.compact(s.dir) }), err)
		},
	} {
		for n := range 3 {
			s := open(t, t.TempDir(), Options{})
			register(t, s, "before")
			if err := s.Checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
			restore := leaveDescriptors(t, n)
			err := compact(s)
			restore()
			if err == nil && n == 0 {
				t.Errorf("%s, %d left: compacted", name, n)
			}
			register(t, s, "after")
			if _, err := crash(t, s, Options{}).Ordinal("after"); err != nil {
				t.Errorf("%s, %d left: %v", name, n, err)
			}
			closeStore(t, s)
		}
	}
}

// TestNoDescriptorForTheSegment checkpoints while the process can open no file: it is tried again, and
// changes go on.
func TestNoDescriptorForTheSegment(t *testing.T) {
	if !inChild(t) {
		return
	}
	ctx := context.Background()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a")
	restore := leaveDescriptors(t, 0)
	err := s.Checkpoint(ctx)
	restore()
	if !errors.Is(err, syscall.EMFILE) || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	register(t, s, "b")
	for err = s.Checkpoint(ctx); errors.Is(err, syscall.EMFILE); {
		err = s.Checkpoint(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCompactOfDamagedPages compacts a file of which pages cannot be read.
func TestCompactOfDamagedPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	grown(t, dir)
	s, err := Open(dir, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.blocksDB().Path(), 16<<10); err != nil { // as far as a mapped file is concerned
		t.Fatal(err)
	}
	ctx := context.Background()
	for range 2 { // the second finds nothing that the first left locked
		if err := s.Compact(ctx); !errors.Is(err, ErrDamaged) {
			t.Error("Compact:", err)
		}
		if _, err := os.Stat(s.blocksDB().Path() + partSuffix); !errors.Is(err, os.ErrNotExist) {
			t.Error("half a copy is left:", err)
		}
	}
	if _, err := s.Digest(ctx); !errors.Is(err, ErrDamaged) {
		t.Error("Digest:", err)
	}
	_ = s.Close(ctx) // as far as it can
}
