package fanfare

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

func TestSavedAudiences(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	p := testPusher(t, dir, Options{})
	must(t, p.Register(ctx, "a", "b", "c"))
	must(t, p.AddTags(ctx, "a", "gold"))
	must(t, p.AddTags(ctx, "b", "silver"))
	must(t, p.SaveAudience(ctx, "vips", Tag("gold")))
	must(t, p.SaveAudience(ctx, "others", Saved("vips").Not().And(Saved("vips").Or(Tag("silver")))))
	count := func(a Audience, want int64) {
		t.Helper()
		n, err := p.Count(ctx, a)
		if err != nil || n != want {
			t.Fatalf("%s: %d, %v, not %d", a, n, err, want)
		}
		members := int64(0)
		for _, err := range p.Members(ctx, a) {
			must(t, err)
			members++
		}
		if members != want {
			t.Fatalf("%s: %d members, not %d", a, members, want)
		}
	}
	count(Saved("vips"), 1)
	count(Saved("others"), 1)
	count(Saved("others").Not(), 2)
	// A push is frozen by what is saved when it is accepted, its task shows that, and a retry finds it.
	m := Message{Body: []byte("x"), To: Saved("vips").Or(Tag("none")), Lifetime: time.Hour, Key: "k"}
	task := mustTask(t, p, m)
	must(t, p.SaveAudience(ctx, "vips", All()))
	count(Saved("vips"), 3)
	count(Saved("others"), 0)
	again := mustTask(t, p, m)
	stored, err := p.Task(ctx, task.ID)
	must(t, err)
	want := `tag:"gold" or tag:"none"`
	if !again.Duplicate || again.ID != task.ID || progress(t, task).Total != 1 || task.Info().To.String() != want || stored.Info().To.String() != want {
		t.Fatal(again, task.Info().To, stored.Info().To)
	}
	if a, err := p.SavedAudience(ctx, "others"); err != nil || a.String() != `not saved:"vips" and (saved:"vips" or tag:"silver")` {
		t.Fatal(a, err)
	}
	must(t, p.Close(ctx))
	p = testPusher(t, dir, Options{})
	var names []string
	for s, err := range p.SavedAudiences(ctx) {
		must(t, err)
		names = append(names, s.Name+": "+s.Audience.String())
	}
	if got := strings.Join(names, "; "); got != `others: not saved:"vips" and (saved:"vips" or tag:"silver"); vips: all` {
		t.Fatal(got)
	}
	must(t, p.DeleteAudience(ctx, "vips"))
	for what, call := range map[string]func() error{
		"delete":        func() error { return p.DeleteAudience(ctx, "vips") },
		"read":          func() error { _, err := p.SavedAudience(ctx, "vips"); return err },
		"count":         func() error { _, err := p.Count(ctx, Saved("vips")); return err },
		"count what is": func() error { _, err := p.Count(ctx, Saved("others")); return err },
		"members":       func() error { return onlyError(p.Members(ctx, Saved("others"))) },
		"push":          func() error { _, err := p.Push(ctx, Message{To: All().Or(Saved("vips")), Lifetime: 1}); return err },
		"save":          func() error { return p.SaveAudience(ctx, "new", Saved("vips")) },
	} {
		if err := call(); !errors.Is(err, ErrUnknownAudience) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, p.Check(ctx))
}

func TestSavedAudiencesRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{})
	must(t, p.SaveAudience(ctx, "0", Tag("x").Or(Tag("y"))))
	for i := range maxSavedNesting - 1 {
		before := Saved(fmt.Sprint(i))
		must(t, p.SaveAudience(ctx, fmt.Sprint(i+1), before.And(before.Or(Tag("z")))))
	}
	last := fmt.Sprint(maxSavedNesting - 1)
	if n, err := p.Count(ctx, Saved(last)); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	var limit *LimitError
	if err := p.SaveAudience(ctx, "over", Saved(last)); !errors.As(err, &limit) || limit.What != "nesting of saved audiences" {
		t.Fatal(err)
	}
	// What is wide and has others that are wide in it grows beyond what an audience may have.
	wide := make([]Audience, 200)
	for i := range wide {
		wide[i] = Tag(fmt.Sprint(i))
	}
	must(t, p.SaveAudience(ctx, "wide", All().Or(wide...)))
	for i := range wide {
		wide[i] = Saved("wide").Not()
	}
	if err := p.SaveAudience(ctx, "wider", All().And(wide...)); !errors.As(err, &limit) || limit.What != "terms of an audience" || limit.Limit != store.MaxExprNodes {
		t.Fatal(err)
	}
	for name, a := range map[string]Audience{"0": Saved(last), last: Saved(last), "5": Tag("a").And(Saved("6").Not())} {
		if err := p.SaveAudience(ctx, name, a); !errors.Is(err, ErrAudienceCycle) {
			t.Errorf("%s in %s: %v", a, name, err)
		}
	}
	if err := p.SaveAudience(ctx, "zero", Audience{}); !errors.Is(err, ErrNoAudience) {
		t.Error(err)
	}
	for _, name := range []string{"", strings.Repeat("x", maxIDBytes+1)} {
		_, err := p.SavedAudience(ctx, name)
		for _, err := range []error{err, p.SaveAudience(ctx, name, All()), p.DeleteAudience(ctx, name)} {
			if !errors.As(err, &limit) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	if err := p.SaveAudience(ctx, "\xff", All()); !errors.Is(err, ErrInvalidText) {
		t.Error(err)
	}
}
