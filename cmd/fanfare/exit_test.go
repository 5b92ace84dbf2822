package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/fanfare-im/fanfare"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	town(t, dir)
	for _, args := range [][]string{
		{}, {"inspekt", dir}, {"inspect"}, {"inspect", dir, "--unknown"}, {"inspect", dir, "--top", "many"}, {"backup", dir}, {"restore", "file"}, {"user", dir}, {"task", dir},
		{"count", dir, "tag:"}, {"members", dir, "tag:vip and"}, {"export", dir, "--to", "("}, {"count", dir, "attr.spend < much"}, {"count", dir, "attr.city < 3"},
	} {
		wantCode(t, exitUsage, "fanfare: ", args...)
	}
	o := fanfareCommand(t, "", "count", dir, `attr.city == "Shenzhen"`)
	if want := "  attr.city == \"Shenzhen\"\n             ^\n"; o.code != exitUsage || !strings.HasSuffix(o.err, want) {
		t.Errorf("%+v", o)
	}
	help := wantOut(t, "--help")
	for code, what := range map[int]string{0: "done", exitFailed: "failed", exitUsage: "the command line is wrong", exitNotFound: "not there", exitInUse: "the directory is in use", exitDamaged: "damaged", exitNewer: "written by a newer version", exitInterrupted: "interrupted"} {
		if !strings.Contains(help, " "+strconv.Itoa(code)+"  "+what) {
			t.Errorf("%d is not in the help:\n%s", code, help)
		}
	}
}

// TestNotFound: what is not there is told, and not made.
func TestNotFound(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	none, empty, dir := filepath.Join(parent, "none"), t.TempDir(), t.TempDir()
	town(t, dir)
	for _, missing := range []string{none, empty} {
		for _, args := range append(readOnlyCommands(missing, "alice", "00"), []string{"compact", missing}) {
			wantCode(t, exitNotFound, "no directory of fanfare "+missing, args...)
		}
	}
	if left := append(entries(t, parent), entries(t, empty)...); len(left) > 0 {
		t.Errorf("there is %q", left)
	}
	for _, args := range [][]string{
		{"user", dir, "mallory"}, {"task", dir, "00"}, {"task", dir, strings.Repeat("0", 32)}, {"count", dir, `attr.town = "x"`}, {"members", dir, `saved:"strangers"`},
		{"restore", filepath.Join(none, "x.tar"), filepath.Join(parent, "restored")}, {"import", none, filepath.Join(none, "x.jsonl")}, {"backup", dir, filepath.Join(none, "x.tar")}, {"export", dir, "-o", filepath.Join(none, "x.jsonl")},
	} {
		wantCode(t, exitNotFound, "fanfare: ", args...)
	}
}

func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// TestInUse: a directory that a server has open is left alone; one that is only looked at may be looked at by others.
func TestInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := town(t, dir)
	look, err := fanfare.Open(dir, fanfare.Options{ReadOnly: true})
	must(t, err)
	for _, args := range readOnlyCommands(dir, "alice", ids[0]) {
		wantOut(t, args...)
	}
	wantCode(t, exitInUse, "open in another process", "compact", dir)
	must(t, look.Close(t.Context()))
	p, err := fanfare.Open(dir, fanfare.Options{})
	must(t, err)
	for _, args := range append(readOnlyCommands(dir, "alice", ids[0]), []string{"compact", dir}, []string{"import", dir}) {
		wantCode(t, exitInUse, "open in another process", args...)
	}
	must(t, p.Register(t.Context(), "dora"))
	must(t, p.Close(t.Context()))
	if n := wantOut(t, "count", dir); n != "6\n" {
		t.Error(n)
	}
}

// TestDamaged: each kind of damage is told, by check for scripts too, and nothing is repaired.
func TestDamaged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm  func(t *testing.T, dir string)
		reads bool // it is only found by who reads everything
		code  int
	}{
		"truncated":     {harm: func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "blocks.db"), 1<<14)) }, code: exitDamaged},
		"another store": {harm: foreign, code: exitDamaged},
		"no journal":    {harm: func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "journal.db"))) }, code: exitDamaged},
		"no file of ours": {harm: func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "journal.db"), bytes.Repeat([]byte("text "), 10_000), 0o600))
		}, code: exitDamaged},
		"newer": {harm: newer, code: exitNewer},
		"an audience that is none": {harm: func(t *testing.T, dir string) {
			patch(t, dir, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("saved")).Put([]byte("x"), []byte("no audience")) })
		}, reads: true, code: exitDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			town(t, dir)
			c.harm(t, dir)
			before := contents(t, dir)
			wantCode(t, c.code, "fanfare: ", "check", dir)
			if c.code == exitDamaged {
				o := fanfareCommand(t, "", "check", dir, "--json")
				if o.code != c.code || !strings.HasPrefix(o.out, `{"ok":false,"error":"`) {
					t.Errorf("%+v", o)
				}
			}
			if !c.reads {
				for _, args := range [][]string{{"inspect", dir}, {"count", dir}, {"compact", dir}, {"import", dir}} {
					wantCode(t, c.code, "fanfare: ", args...)
				}
			}
			if !maps.Equal(before, contents(t, dir)) {
				t.Error("the directory has changed")
			}
		})
	}
}

// foreign puts the journal of another store in the place of the own one.
func foreign(t *testing.T, dir string) {
	other := t.TempDir()
	town(t, other)
	must(t, os.Rename(filepath.Join(other, "journal.db"), filepath.Join(dir, "journal.db")))
}

func newer(t *testing.T, dir string) {
	patch(t, dir, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("format"), binary.BigEndian.AppendUint32(nil, 1000))
	})
}

// patch changes blocks.db behind fanfare's back.
func patch(t *testing.T, dir string, f func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "blocks.db"), 0o600, nil)
	must(t, err)
	must(t, errors.Join(db.Update(f), db.Close()))
}

// crowd makes a directory whose export is much more than a pipe holds.
func crowd(t *testing.T, dir string) {
	t.Helper()
	ctx := t.Context()
	p, err := fanfare.Open(dir, fanfare.Options{})
	must(t, err)
	_, err = p.Import(ctx, func(yield func(fanfare.User, error) bool) {
		for i := range 20_000 {
			if !yield(fanfare.User{ID: "user-" + strconv.Itoa(i), Tags: []string{"one", "two"}}, nil) {
				return
			}
		}
	}, nil)
	must(t, err)
	must(t, p.Close(ctx))
}

// TestPipeClosed: who has read enough ends the command, which says nothing, also where signals of pipes are ignored.
func TestPipeClosed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	crowd(t, dir)
	for _, command := range []string{"export", "members", "members --json", "backup"} {
		for _, ignore := range []string{"", "trap '' PIPE; "} {
			to := ""
			if command == "backup" {
				to = " -"
			}
			cmd := exec.Command("sh", "-c", ignore+`"$0" `+command+` "$1"`+to+` | head -c 5`, program(t), dir)
			var errs strings.Builder
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil || len(out) != 5 || errs.Len() > 0 {
				t.Errorf("%s%s: %q, %v\n%s", ignore, command, out, err, errs.String())
			}
		}
	}
}

// TestInterrupted: an import ends in the middle of its work, and where it waits for more lines. What it says to be there is.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lines int // more than a pipe holds, so that it reads
		tag   string
	}{"in the middle": {20_000, "short"}, "waiting": {500, strings.Repeat("long", 100)}} { // less than a step has
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			cmd := exec.Command(program(t), "import", dir)
			var out, errs strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errs
			in, err := cmd.StdinPipe()
			must(t, err)
			must(t, cmd.Start())
			for i := range c.lines {
				_, err := io.WriteString(in, `{"id":"user-`+strconv.Itoa(i)+`","tags":["one","two","`+c.tag+`"]}`+"\n")
				must(t, err)
			}
			must(t, cmd.Process.Signal(os.Interrupt))
			err = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || errs.String() != "fanfare: interrupted\n" {
				t.Fatalf("it exits with %d, %v:\n%s", code, err, errs.String())
			}
			said, _, _ := strings.Cut(strings.TrimPrefix(out.String(), dir+": "), " ")
			least, err := strconv.Atoi(strings.ReplaceAll(said, ",", ""))
			must(t, err)
			there, err := strconv.Atoi(strings.TrimSpace(wantOut(t, "count", dir)))
			must(t, err)
			if there < least || there > least+2000 { // two steps are under way
				t.Errorf("%d users, and it said %s", there, out.String())
			}
			wantOut(t, "check", dir)
		})
	}
}

// TestInterruptedTwice: a process that cannot end, because nobody reads what it writes, is ended by another signal.
func TestInterruptedTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	crowd(t, dir)
	cmd := exec.Command(program(t), "export", dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	_, err = out.Read(make([]byte, 1))
	must(t, err)
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	var last error
	for last == nil {
		_ = cmd.Process.Signal(os.Interrupt) // which may find it gone
		select {
		case last = <-ended:
		default:
		}
	}
	if code := cmd.ProcessState.ExitCode(); code != -1 {
		t.Errorf("it exits with %d, %v", code, last)
	}
}

// TestProgress: the bar is on standard error, when it is asked for, and nothing of it is in what scripts read.
func TestProgress(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	crowd(t, dir)
	lines := wantOut(t, "export", dir)
	file := filepath.Join(t.TempDir(), "backup.tar")
	users := filepath.Join(t.TempDir(), "users.jsonl")
	must(t, os.WriteFile(users, []byte(lines), 0o600))
	for what, args := range map[string][]string{
		"export": {"export", dir}, "checking": {"check", dir}, "backup": {"backup", dir, file}, "import": {"import", filepath.Join(t.TempDir(), "new"), users},
	} {
		o := fanfareCommand(t, "", append(args, "--progress")...)
		if o.code != 0 || !strings.Contains(o.err, what) || strings.ContainsAny(o.out, "\r\x1b") {
			t.Errorf("%q: %d, %q", args, o.code, o.err)
		}
		if what == "export" && o.out != lines {
			t.Error("other lines")
		}
	}
}
