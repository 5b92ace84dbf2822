package main

import (
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fanfare-im/fanfare"
)

// TestNothingActs: nothing that somebody chose as an ID, a tag or a name reaches a terminal in a form that it acts upon, whichever command shows it.
func TestNothingActs(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	const evil = "\x1b]0;owned\a\u009b31m\u202egnp\x7f\u200b"
	p, err := fanfare.Open(dir, fanfare.Options{KeepAudiences: true})
	must(t, err)
	must(t, p.SetAttributeNames(ctx, map[int]string{0: evil}))
	must(t, p.Register(ctx, evil))
	must(t, p.AddTags(ctx, evil, evil))
	must(t, p.OptOut(ctx, evil, evil))
	must(t, p.SetAttributes(ctx, evil, map[string]string{evil: evil}))
	must(t, p.RegisterDevice(ctx, evil, fanfare.Device{Platform: "apns", Token: evil, Topic: evil}))
	task, err := p.Push(ctx, fanfare.Message{From: evil, To: fanfare.Tag(evil).Or(fanfare.Users(evil)), Key: evil, Category: evil + "2", Lifetime: 1e12})
	must(t, err)
	must(t, p.Close(ctx))
	acts := func(what, s string) {
		t.Helper()
		for _, of := range []string{"\x1b", "\a", "\u009b", "\x7f"} {
			if strings.Contains(s, of) {
				t.Errorf("%s: %q is in %q", what, of, s)
			}
		}
	}
	commands := append(readOnlyCommands(dir, evil, task.ID), []string{"inspect", dir, "--top", "1000"})
	for _, args := range commands {
		if args[0] == "backup" {
			continue // which is no text
		}
		for _, args := range [][]string{args, append(args, "--json")} {
			out := wantOut(t, args...)
			acts(strings.Join(args, " "), out)
			if args[len(args)-1] != "--json" && args[0] != "export" && strings.ContainsAny(out, "\u202e\u200b") {
				t.Errorf("%q: %q", args, out)
			}
		}
	}
	to := filepath.Join(t.TempDir(), "copy")
	if o := fanfareCommand(t, wantOut(t, "export", dir), "import", to); o.code != 0 {
		t.Errorf("%+v", o)
	}
	sameUsers(t, to, dir)

	header := `{"fanfare":"users","version":1,"attributes":[{"slot":0,"name":"\u001b[31m\u009b1m"}]}`
	for what, o := range map[string]outcome{
		"a slot that is taken": fanfareCommand(t, header, "import", dir),
		"an unnamed attribute": fanfareCommand(t, `{"id":"a","attributes":{"\u001b[31m":"x"}}`, "import", dir),
		"an unknown field":     fanfareCommand(t, `{"id":"a","\u001b[31m":"x"}`, "import", dir),
		"an audience":          fanfareCommand(t, "", "count", dir, "tag:a \x1b[31m"),
		"a file":               fanfareCommand(t, "", "import", dir, "\x1b[31m"),
		"a user":               fanfareCommand(t, "", "user", dir, "\x1b[31m"),
		"a command":            fanfareCommand(t, "", "\x1b[31m"),
	} {
		if o.code == 0 || o.err == "" {
			t.Errorf("%s: %+v", what, o)
		}
		acts(what, o.err+o.out)
	}
	// What is not UTF-8 is not an ID, but a service may give such a reason, and a file have such a name.
	if s, m := plain("\x9b31m"), message(errors.New("fanfare: no such file: \x9b31m\n  tag:")); s != `"\x9b31m"` || m != "fanfare: no such file: \\x9b31m\n  tag:" {
		t.Errorf("%q, %q", s, m)
	}
}

// TestOutputOutside: a backup or an export does not take the place of one of the directory's own files.
func TestOutputOutside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	town(t, dir)
	before := contents(t, dir)
	for _, name := range []string{"blocks.db", "backup.tar"} {
		wantCode(t, exitUsage, "is in the directory itself", "backup", dir, filepath.Join(dir, name))
		wantCode(t, exitUsage, "is in the directory itself", "export", dir, "-o", filepath.Join(dir, "..", filepath.Base(dir), name))
	}
	if after := contents(t, dir); !maps.Equal(before, after) {
		t.Error("the directory has changed")
	}
}
