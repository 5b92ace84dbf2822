package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
)

// TestAudits: what was recorded is listed, newest first, by each kind of log.
func TestAudits(t *testing.T) {
	file, err := OpenFileAudit(filepath.Join(t.TempDir(), "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for name, a := range map[string]Audit{"memory": NewMemoryAudit(0), "file": file} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if got, err := a.List(ctx, 0, 10); len(got) != 0 || err != nil {
				t.Errorf("an empty log has %v, %v", got, err)
			}
			const n = 500
			at := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
			for i := range n {
				e := Entry{ID: fmt.Sprint(i), Time: at.Add(time.Duration(i) * time.Second), Who: "oscar", Role: Operator, Action: "push", Detail: strings.Repeat("漢\n\"", i), Outcome: Done}
				if err := a.Record(ctx, e); err != nil {
					t.Fatal(err)
				}
			}
			for _, test := range []struct{ skip, limit, first, count int }{{0, 10, n - 1, 10}, {10, 25, n - 11, 25}, {n - 3, 10, 2, 3}, {n, 10, 0, 0}, {0, n, n - 1, n}} {
				got, err := a.List(ctx, test.skip, test.limit)
				if err != nil || len(got) != test.count {
					t.Fatalf("behind %d there are %d, %v", test.skip, len(got), err)
				}
				for i, e := range got {
					if k := test.first - i; e.ID != fmt.Sprint(k) || !e.Time.Equal(at.Add(time.Duration(k)*time.Second)) || e.Detail != strings.Repeat("漢\n\"", k) || e.Role != Operator {
						t.Fatalf("entry %d is %.200v", i, e)
					}
				}
			}
		})
	}
}

// TestMemoryAuditIsBounded: the oldest goes for the newest.
func TestMemoryAuditIsBounded(t *testing.T) {
	a := NewMemoryAudit(3)
	for i := range 5 {
		_ = a.Record(t.Context(), Entry{ID: fmt.Sprint(i)})
	}
	got, _ := a.List(t.Context(), 0, 10)
	if len(got) != 3 || got[0].ID != "4" || got[2].ID != "2" {
		t.Errorf("it has %v", got)
	}
}

// TestRefusalsPushNothingOut: who may do nothing can neither make the log forget what others did, nor make it grow as fast as requests come.
func TestRefusalsPushNothingOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBenchWith(t, open(t, fanfare.Options{}), Options{Audit: NewMemoryAudit(30)})
		h := b.h.(*handler)
		for range 20 {
			if err := h.o.Audit.Record(t.Context(), Entry{Who: "oscar", Outcome: Done}); err != nil {
				t.Fatal(err)
			}
		}
		count := func() (refused, done int) {
			entries, _ := h.o.Audit.List(t.Context(), 0, 100)
			for _, e := range entries {
				if e.Outcome == Refused {
					refused++
				} else {
					done++
				}
			}
			return refused, done
		}
		for minute := range 3 {
			for range 2 * refusalsPerMinute {
				if w := b.post("vera", "/compose/send", nil); w.Code != http.StatusForbidden {
					t.Fatal(w.Code)
				}
			}
			if refused, done := count(); refused != refusalsPerMinute || done != 20 {
				t.Errorf("in minute %d the log has %d refusals and %d others", minute, refused, done)
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestTornFile: half a line, as a crash leaves it, costs that line and no other.
func TestTornFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	record := func(ids ...string) {
		t.Helper()
		a, err := OpenFileAudit(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if err := a.Record(t.Context(), Entry{ID: id, Outcome: Done}); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	record("one", "two")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	if err := os.Truncate(path, info.Size()-9); err != nil {
		t.Fatal(err)
	}
	record("three")
	a, err := OpenFileAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	got, err := a.List(t.Context(), 0, 10)
	if err != nil || len(got) != 2 || got[0].ID != "three" || got[1].ID != "one" {
		t.Errorf("the log has %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.List(ctx, 0, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled list is %v", err)
	}
	if _, err := OpenFileAudit(t.TempDir()); err == nil {
		t.Error("a directory is taken for a file")
	}
}

// broken is a log that takes no entry from the n-th on.
type broken struct {
	MemoryAudit
	left int
}

func (b *broken) Record(ctx context.Context, e Entry) error {
	if b.left--; b.left < 0 {
		return errors.New("full")
	}
	return b.MemoryAudit.Record(ctx, e)
}

// TestAuditOfALongError: an error that quotes a long form does not make an entry that the page is full of, or that a file would not give back.
func TestAuditOfALongError(t *testing.T) {
	file, err := OpenFileAudit(filepath.Join(t.TempDir(), "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	b := newBenchWith(t, open(t, fanfare.Options{}), Options{Audit: file})
	v := &view{ctx: t.Context(), route: &route{action: "push"}, Who: Identity{Name: "oscar", Role: Operator}}
	long := errors.New(strings.Repeat("\x01", maxEntryBytes))
	if err := b.h.(*handler).act(v, "", "", func(context.Context) (string, error) { return "", long }); !errors.Is(err, long) {
		t.Fatal(err)
	}
	got, err := file.List(t.Context(), 0, 10)
	if err != nil || len(got) != 2 || got[0].Outcome != Failed || len(got[0].Error) > 8000 {
		t.Errorf("the log has %.300v, %v", got, err)
	}
}

// TestNothingWithoutAudit: what cannot be recorded is not done; what is done and then cannot be is known to have begun.
func TestNothingWithoutAudit(t *testing.T) {
	for left, code := range []int{http.StatusServiceUnavailable, http.StatusSeeOther} {
		a := &broken{MemoryAudit: MemoryAudit{most: 10}, left: left}
		b := newBenchWith(t, open(t, fanfare.Options{}), Options{Audit: a})
		task := b.push(fanfare.All())
		w := b.post("oscar", "/tasks/"+task.ID+"/withdraw", nil)
		g, err := task.Progress()
		if w.Code != code || err != nil || g.Ended.IsZero() != (left == 0) {
			t.Errorf("with room for %d the answer is %d, and the task %+v, %v", left, w.Code, g, err)
		}
		if body := b.get("vera", "/audit").Body.String(); strings.Contains(body, "begun") != (left == 1) {
			t.Errorf("with room for %d the page is %s", left, body)
		}
	}
}

// TestAuditPages: an action is one line, also where its two entries are on two pages.
func TestAuditPages(t *testing.T) {
	b := newBench(t)
	for i := range 60 {
		for _, o := range []Outcome{Begun, Done} {
			_ = b.audit.Record(t.Context(), Entry{ID: fmt.Sprint(i), Who: "oscar", Role: Operator, Action: "push", Outcome: o})
		}
	}
	_ = b.audit.Record(t.Context(), Entry{ID: "lost", Who: "oscar", Role: Operator, Action: "push", Outcome: Begun})
	lines, lost := 0, 0
	for page := range 3 {
		body := b.get("vera", fmt.Sprintf("/audit?page=%d", page)).Body.String()
		lines += strings.Count(body, "<tr>") - 1
		lost += strings.Count(body, "state-begun")
		if strings.Contains(body, `rel="next"`) != (page < 2) || strings.Contains(body, `rel="prev"`) != (page > 0) {
			t.Errorf("page %d has other links", page)
		}
	}
	if lines != 61 || lost != 1 {
		t.Errorf("there are %d lines, %d of them begun", lines, lost)
	}
}

// TestAuditSpeaks: every action has a name in every language, and leads to what it was done to.
func TestAuditSpeaks(t *testing.T) {
	for _, r := range routes {
		for _, l := range languages {
			if text := (&view{lang: l}).T("action " + r.action); r.action != "" && strings.HasPrefix(text, "action ") {
				t.Errorf("%s is not said in %s", r.action, l.Tag)
			}
		}
	}
	b := newBench(t)
	for _, target := range []string{"plan-0123", "4567", ""} {
		_ = b.audit.Record(t.Context(), Entry{ID: target, Who: "oscar", Action: "push", Target: target, Outcome: Done})
	}
	body := b.get("vera", "/audit").Body.String()
	if !strings.Contains(body, `"./plans/plan-0123"`) || !strings.Contains(body, `"./tasks/4567"`) || strings.Contains(body, `"./tasks/"`) {
		t.Errorf("the page is %s", body)
	}
}

func TestRoleText(t *testing.T) {
	for _, r := range []Role{0, Viewer, Operator} {
		text, err := r.MarshalText()
		var back Role = 99
		if err != nil || back.UnmarshalText(text) != nil || back != r {
			t.Errorf("%v is %s and %v", r, text, back)
		}
	}
	if new(Role).UnmarshalText([]byte("king")) == nil {
		t.Error("king is a role")
	}
}
