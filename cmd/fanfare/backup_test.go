package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBackup goes through a file and through a pipe, of a directory that was closed, and of one whose process was killed.
func TestBackup(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(t.TempDir(), "closed")
	town(t, closed)
	crashed := filepath.Join(t.TempDir(), "crashed")
	killed(t, crashed, 2)
	for _, dir := range []string{closed, crashed} {
		to := t.TempDir()
		file := filepath.Join(to, "backup.tar")
		must(t, os.WriteFile(file, []byte("the one before"), 0o644))
		type report struct {
			File     string
			Bytes    int64
			Users    int64
			Position uint64
		}
		r := decode[report](t, wantOut(t, "backup", dir, file, "--json"))
		info, err := os.Stat(file)
		must(t, err)
		if r.File != file || r.Bytes != info.Size() || r.Users == 0 || r.Position == 0 {
			t.Errorf("%+v, %d bytes", r, info.Size())
		}
		if got := entries(t, to); !slices.Equal(got, []string{"backup.tar"}) {
			t.Errorf("%q", got)
		}
		piped := filepath.Join(t.TempDir(), "new")
		if o := fanfareCommand(t, wantOut(t, "backup", dir, "-"), "restore", "-", piped); o.code != 0 || o.err != "" {
			t.Errorf("%+v", o)
		}
		restored := filepath.Join(t.TempDir(), "new")
		wantOut(t, "restore", file, restored)
		want := wantOut(t, "export", dir)
		for _, copied := range []string{piped, restored} {
			wantOut(t, "check", copied)
			if got := wantOut(t, "export", copied); got != want {
				t.Errorf("%s\nnot\n%s", got, want)
			}
		}
		wantCode(t, exitFailed, "is not empty", "restore", file, restored)
	}
}

// TestBackupWithoutRoom: where the file cannot grow to its size, the one before stays, and nothing is left behind.
func TestBackupWithoutRoom(t *testing.T) {
	t.Parallel()
	dir, to := t.TempDir(), t.TempDir()
	crowd(t, dir)
	file := filepath.Join(to, "backup.tar")
	must(t, os.WriteFile(file, []byte("the one before"), 0o600))
	for _, command := range []string{`backup "$1" "$2"`, `export "$1" -o "$2"`} {
		out, err := exec.Command("sh", "-c", `ulimit -f 100; exec "$0" `+command, program(t), dir, file).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(string(out), "file too large") {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
		if b, err := os.ReadFile(file); string(b) != "the one before" || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if got := entries(t, to); !slices.Equal(got, []string{"backup.tar"}) {
			t.Errorf("%s: %q", command, got)
		}
	}
}

// TestBackupFails: what is there stays, and nothing is left behind.
func TestBackupFails(t *testing.T) {
	t.Parallel()
	dir, to := t.TempDir(), t.TempDir()
	town(t, dir)
	file := filepath.Join(to, "backup.tar")
	must(t, os.WriteFile(file, []byte("the one before"), 0o600))
	must(t, os.Truncate(filepath.Join(dir, "blocks.db"), 1<<14))
	wantCode(t, exitDamaged, "truncated", "backup", dir, file)
	if b, err := os.ReadFile(file); string(b) != "the one before" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	wantCode(t, exitDamaged, "backup: ", "restore", file, filepath.Join(to, "new"))
	wantCode(t, exitFailed, "is a directory", "restore", dir, filepath.Join(to, "new"))
	if got := entries(t, to); !slices.Equal(got, []string{"backup.tar"}) {
		t.Errorf("%q", got)
	}
	o := fanfareCommand(t, strings.Repeat("no tar", 1000), "restore", "-", filepath.Join(to, "new"))
	if o.code != exitDamaged {
		t.Errorf("%+v", o)
	}
}
