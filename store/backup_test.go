package store

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
)

// TestRestoreNames restores into directories that are named in other ways than Open's would be.
func TestRestoreNames(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a")
	var b bytes.Buffer
	if err := s.Backup(ctx, &b); err != nil {
		t.Fatal(err)
	}
	sep := string(os.PathSeparator)
	for _, name := range []string{"restored", "slash" + sep, "slashes" + sep + sep, "dot" + sep + ".", "deep" + sep + "er" + sep} {
		dir := t.TempDir() + sep + name
		if err := Restore(ctx, dir, bytes.NewReader(b.Bytes())); err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if got := members(t, open(t, dir, Options{}), &Expr{Op: OpAll}); len(got) != 1 {
			t.Errorf("%q: %q", name, got)
		}
		beside, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Clean(dir)), "*restore-*"))
		if err != nil || len(beside) > 0 {
			t.Errorf("%q: left behind: %q %v", name, beside, err)
		}
	}
}
