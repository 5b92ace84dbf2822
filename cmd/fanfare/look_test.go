package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fanfare-im/fanfare"
)

// readOnlyCommands are those that change no byte of the directory.
func readOnlyCommands(dir, user, task string) [][]string {
	return [][]string{
		{"inspect", dir}, {"check", dir}, {"backup", dir, "-"}, {"export", dir}, {"count", dir}, {"members", dir, "all"},
		{"user", dir, user}, {"tasks", dir}, {"task", dir, task},
	}
}

// TestReadOnly: no byte changes, of a directory that was closed and of one whose process was killed, for people and for scripts.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(t.TempDir(), "closed")
	ids := town(t, closed)
	crashed := filepath.Join(t.TempDir(), "crashed")
	killed(t, crashed, 3)
	task := decode[taskReport](t, strings.SplitN(wantOut(t, "tasks", crashed, "--json"), "\n", 2)[0])
	for _, of := range []struct{ dir, user, task string }{{closed, "alice", ids[0]}, {crashed, "u000000", task.ID}} {
		before := contents(t, of.dir)
		for _, args := range readOnlyCommands(of.dir, of.user, of.task) {
			wantOut(t, args...)
			wantOut(t, append(args, "--json")...)
		}
		if after := contents(t, of.dir); !maps.Equal(before, after) {
			t.Errorf("%s has changed: %v, then %v", of.dir, slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
		}
	}
}

// decode reads one object, all of whose fields must be known.
func decode[T any](t *testing.T, s string) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(s))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil || d.More() {
		t.Fatalf("%v in %q", err, s)
	}
	return v
}

func TestInspect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	town(t, dir)
	i := decode[inspection](t, wantOut(t, "inspect", dir, "--json", "--top", "3"))
	if i.Directory != dir || len(i.StoreID) != 32 || !i.Closed || i.Position == 0 || i.Users != 5 || i.Pushes != 3 || i.SavedAudiences != 1 {
		t.Errorf("%+v", i)
	}
	if i.Tasks != (unended{3, 2}) || i.Plans != (unended{1, 1}) || i.Pending != (pendingCount{2, 5}) { // bob wants no news
		t.Errorf("tasks %+v, plans %+v, pending %+v", i.Tasks, i.Plans, i.Pending)
	}
	if want := []userCount{{"apns", 2}, {"fcm", 1}}; !slices.Equal(i.Platforms, want) {
		t.Errorf("platforms %+v", i.Platforms)
	}
	kinds := make(map[string]int64)
	for _, k := range i.Postings {
		if kinds[k.Kind] = k.Count; k.Bytes <= 0 {
			t.Errorf("%+v", k)
		}
	}
	if kinds["tag"] != 3 || kinds["attribute"] != 2 || kinds["user"] != 1 || kinds["time zone"] != 1 {
		t.Errorf("kinds %+v", kinds)
	}
	if len(i.Largest) != 3 || i.Largest[0].Bytes < i.Largest[2].Bytes || i.Largest[0].Users == 0 {
		t.Errorf("largest %+v", i.Largest)
	}
	if len(i.Files) != 2 || i.Files[0].Name != "blocks.db" || i.Files[0].Bytes == 0 || i.Files[0].Format != 1 {
		t.Errorf("files %+v", i.Files)
	}
	names := make(map[string]bool)
	for _, f := range decode[inspection](t, wantOut(t, "inspect", dir, "--json", "--top", "1000")).Largest {
		names[f.Name] = true
	}
	for _, name := range []string{"all", `tag:"vip"`, `tag:"stock A"`, `attr.city = "Shenzhen"`, `attr.spend exists`, "bit 63 of attribute \"spend\"", "opt-out news", "platform:apns"} {
		if !names[name] {
			t.Errorf("%s is not among %v", name, slices.Sorted(maps.Keys(names)))
		}
	}
}

// TestInspectCrashed: what was told as durable before the process was killed is there, and what is to be replayed is told.
func TestInspectCrashed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "crashed")
	killed(t, dir, 3)
	i := decode[inspection](t, wantOut(t, "inspect", dir, "--json"))
	if i.Closed || i.Replay.Records < 9 || i.Replay.Bytes < 20_000 || i.Users < 3000 || i.Pending.Messages < 3 {
		t.Errorf("%+v", i)
	}
	if out := wantOut(t, "inspect", dir); !strings.Contains(out, "no: the next opening replays ") || strings.Contains(out, " 0 B ") || strings.Contains(out, " 0 B\n") {
		t.Errorf("%s", out)
	}
	wantOut(t, "check", dir)
	wantOut(t, "compact", dir)
	if i := decode[inspection](t, wantOut(t, "inspect", dir, "--json")); !i.Closed || i.Replay.Records != 0 {
		t.Errorf("after it was opened for changes: %+v", i)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	town(t, dir)
	for audience, want := range map[string]string{
		"": "5", `attr.city = "Shenzhen"`: "2", `tag:vip and not attr.city = "Shenzhen"`: "1", `saved:"locals"`: "2", "attr.spend > 0": "1", "tag:nobody": "0",
	} {
		if got := wantOut(t, "count", dir, audience); got != want+"\n" {
			t.Errorf("%s: %s", audience, got)
		}
		if got := wantOut(t, "count", dir, audience, "--json"); got != `{"users":`+want+"}\n" {
			t.Errorf("%s: %s", audience, got)
		}
	}
	if got := wantOut(t, "members", dir); got != "alice\nbob\ncarol\n张伟\n\"line\\nbreak \\\"quoted\\\" \\u2028\"\n" {
		t.Errorf("%s", got)
	}
	if got := wantOut(t, "members", dir, "tag:vip", "--json"); got != "{\"id\":\"alice\"}\n{\"id\":\"carol\"}\n" {
		t.Errorf("%s", got)
	}
}

// TestPointAt: the caret stands under the place, whatever is before it, and in its line.
func TestPointAt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`tag:vip and`:              "  tag:vip and\n             ^",
		`attr.city == "x"`:         "  attr.city == \"x\"\n             ^",
		`tag:"深圳" tag:"b"`:         "  tag:\"深圳\" tag:\"b\"\n             ^",
		"tag:a or\n\ttag:\nor x":   "  or x\n  ^",
		"tag:vip or\ntag:\"open":   "  tag:\"open\n      ^",
		"tag:vip ) or\nnot tag:c ": "  tag:vip ) or\n          ^",
	} {
		_, err := audienceOf(text)
		if err == nil {
			t.Errorf("%q is an audience", text)
			continue
		}
		if _, caret, _ := strings.Cut(err.Error(), "\n"); caret != want {
			t.Errorf("%q:\n%s\nnot\n%s", text, caret, want)
		}
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := town(t, dir)
	type user = userReport
	alice := decode[user](t, wantOut(t, "user", dir, "alice", "--json"))
	if alice.ID != "alice" || alice.Attributes["spend"] != "1200.5" || len(alice.Devices) != 1 || alice.Devices[0].TimeZone != "Asia/Shanghai" || alice.Registered.IsZero() {
		t.Errorf("%+v", alice)
	}
	if len(alice.Pending) != 1 || alice.Pending[0].ID != ids[1] || alice.Pending[0].Bytes != 27 {
		t.Errorf("%+v", alice.Pending)
	}
	standings := func(id string, args ...string) (list []string) {
		for _, s := range decode[user](t, wantOut(t, append([]string{"user", dir, id, "--json"}, args...)...)).Standings {
			list = append(list, s.Standing)
		}
		return list
	}
	for id, want := range map[string][]string{
		"alice": {"received", "waiting", "received"}, "bob": {"outside", "outside", "outside"}, "carol": {"outside", "waiting", "missed"}, "张伟": {"waiting", "waiting", "outside"},
	} {
		if got := standings(id); !slices.Equal(got, want) {
			t.Errorf("%s: %q, not %q", id, got, want)
		}
	}
	if got := standings("carol", "--tasks", "2"); !slices.Equal(got, []string{"outside", "waiting"}) {
		t.Errorf("%q", got)
	}
	if out := wantOut(t, "user", dir, "line\nbreak \"quoted\" \u2028"); !strings.HasPrefix(out, `user        "line\nbreak \"quoted\" \u2028"`) {
		t.Errorf("%s", out)
	}
}

func TestTasks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := town(t, dir)
	var got []string
	for line := range strings.Lines(wantOut(t, "tasks", dir, "--json")) {
		r := decode[taskReport](t, line)
		got = append(got, r.ID)
		one := decode[taskReport](t, wantOut(t, "task", dir, r.ID, "--json"))
		if one.ID != r.ID || one.To != r.To || one.Total != r.Total || one.State != r.State {
			t.Errorf("%+v, and alone %+v", r, one)
		}
	}
	slices.Reverse(got)
	if !slices.Equal(got, ids) {
		t.Errorf("%q, not %q", got, ids)
	}
	sale := decode[taskReport](t, wantOut(t, "task", dir, ids[0], "--json"))
	if sale.State != "ended" || sale.To != `tag:"vip"` || sale.Key != "sale-1" || sale.Total != 2 || sale.Delivered != 1 || sale.Withdrawn != 1 || sale.Ended.IsZero() {
		t.Errorf("%+v", sale)
	}
	lounge := decode[taskReport](t, wantOut(t, "task", dir, ids[1], "--json"))
	if lounge.State != "running" || lounge.Category != "news" || lounge.OptedOut != 1 || lounge.Pending != 4 || lounge.Phones["apns"].Accepted != 1 {
		t.Errorf("%+v", lounge)
	}
	if n := strings.Count(wantOut(t, "tasks", dir, "-n", "2"), "\n"); n != 3 {
		t.Errorf("%d lines", n)
	}
}

// TestCompact: messages that ended are free space, which is given back.
func TestCompact(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	p, err := fanfare.Open(dir, fanfare.Options{})
	must(t, err)
	must(t, p.Register(ctx, "a"))
	body := make([]byte, 12<<10)
	for range 2500 {
		task, err := p.Push(ctx, fanfare.Message{To: fanfare.All(), Lifetime: 1e12, Body: body})
		must(t, err)
		must(t, p.Ack(ctx, "a", task.ID))
	}
	must(t, p.Close(ctx))
	type report struct {
		Files []compacted `json:"files"`
	}
	r := decode[report](t, wantOut(t, "compact", dir, "--json"))
	if len(r.Files) != 2 || r.Files[1].Name != "journal.db" || r.Files[1].Before < 2500*12<<10 || r.Files[1].After > 18<<20 {
		t.Errorf("%+v", r)
	}
	info, err := os.Stat(filepath.Join(dir, "journal.db"))
	must(t, err)
	if info.Size() > 18<<20 {
		t.Errorf("%d bytes", info.Size())
	}
	if n := wantOut(t, "count", dir); n != "1\n" {
		t.Error(n)
	}
}
