package fanfare

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"
)

// TestAttributeTypes takes typed values through every call that has attributes.
func TestAttributeTypes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	p := testPusher(t, dir, Options{})
	must(t, p.SetAttributeNames(ctx, map[int]string{0: "city", 1: "balance", 2: "born"}))
	must(t, p.SetAttributeTypes(ctx, map[int]AttributeType{0: Text, 1: Number(2), 2: Date}))
	_, err := p.Import(ctx, func(yield func(User, error) bool) {
		for i := range 20 {
			u := User{ID: fmt.Sprint("u", i), Attributes: map[string]string{"balance": fmt.Sprintf("%d.50", i-10), "born": fmt.Sprintf("%d-11-28T08:00:00+08:00", 1960+i)}}
			if !yield(u, nil) {
				return
			}
		}
	}, nil)
	must(t, err)
	must(t, p.SetAttributes(ctx, "u0", map[string]string{"balance": "007.00", "city": "Bern"}))
	var b Batch
	b.SetAttributes("u1", map[string]string{"born": "2026-11-28T23:00:01-03:30"})
	b.RemoveAttributes("u2", "born", "balance")
	must(t, p.Apply(ctx, &b))
	must(t, p.Unregister(ctx, "u3"))
	for id, want := range map[string]map[string]string{
		"u0": {"balance": "7", "city": "Bern", "born": "1960-11-28"}, "u1": {"balance": "-9.5", "born": "2026-11-29T02:30:01Z"}, "u2": nil, "u19": {"balance": "9.5", "born": "1979-11-28"},
	} {
		if got, err := p.Attributes(ctx, id); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v, not %v", id, got, err, want)
		}
	}
	counts := func() {
		t.Helper()
		for text, want := range map[string]int64{
			`attr.balance = "7.00"`: 1, `attr.balance < 0`: 7, `attr.balance >= -4.5 and attr.balance < 4.5`: 8, `attr.balance between -0.5 and 0.5`: 1,
			`attr.balance between 5 and -5`: 0, `attr.balance exists`: 18, `not attr.balance exists`: 1, `attr.balance != 7`: 18, `attr.balance > 100000000`: 0, `attr.balance <= 100000000`: 18,
			`attr.born < 1970-01-01`: 7, `attr.born >= "2026-11-28T00:00:00Z"`: 1, `attr.city exists`: 1, `attr.born between 1970-01-01 and 1979-11-28`: 10,
		} {
			a, err := ParseAudience(text)
			must(t, err)
			if n, err := p.Count(ctx, a); n != want || err != nil {
				t.Errorf("%s: %d, %v, not %d", text, n, err, want)
			}
		}
	}
	counts()
	must(t, p.Check(ctx))
	counts()
	// A slot that is renamed keeps its type and values.
	must(t, p.SetAttributeNames(ctx, map[int]string{1: "money"}))
	if n, err := p.Count(ctx, AttrAtLeast("money", "9.5")); n != 1 || err != nil {
		t.Error(n, err)
	}
	must(t, p.SetAttributeNames(ctx, map[int]string{1: "balance"}))
	must(t, p.Close(ctx))
	p = testPusher(t, dir, Options{})
	counts()
	if types, err := p.AttributeTypes(ctx); err != nil || fmt.Sprint(types) != "map[1:number(2) 2:date]" {
		t.Error(types, err)
	}
	for n, err := range p.AttributeValues(ctx, "balance", "") {
		t.Error(n, err)
	}
}

// TestAttributeTypesRefused: values and comparisons that a type does not have, and types that a slot cannot take, change nothing.
func TestAttributeTypesRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{})
	refusalScene(t, p)
	must(t, p.SetAttributeNames(ctx, map[int]string{3: "age"}))
	must(t, p.SetAttributeTypes(ctx, map[int]AttributeType{3: Number(0)}))
	before := visible(t, p)
	bad := map[string]string{"age": "12.5"}
	var b Batch
	b.AddTags("alice", "new")
	b.SetAttributes("alice", bad)
	var value *ValueError
	for what, call := range map[string]func() error{
		"SetAttributes": func() error { return p.SetAttributes(ctx, "alice", bad) },
		"Apply":         func() error { return p.Apply(ctx, &b) },
		"Import": func() error {
			_, err := p.Import(ctx, func(yield func(User, error) bool) { yield(User{ID: "new", Attributes: bad}, nil) }, nil)
			return err
		},
		"Count": func() error { _, err := p.Count(ctx, AttrLess("tier", "5")); return err },
		"Push":  func() error { _, err := p.Push(ctx, Message{To: Attr("age", "old"), Lifetime: time.Hour}); return err },
	} {
		if err := call(); !errors.As(err, &value) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var limit *LimitError
	for _, types := range []map[int]AttributeType{{-1: Date}, {10: Date}, {4: Number(10)}, {4: Number(-1)}, {4: -5}, {4: 300}} {
		if err := p.SetAttributeTypes(ctx, types); !errors.As(err, &limit) {
			t.Errorf("%v: %v", types, err)
		}
	}
	var used *TypeInUseError
	if err := p.SetAttributeTypes(ctx, map[int]AttributeType{0: Date, 5: Date}); !errors.As(err, &used) || used.Name != "tier" {
		t.Error(err)
	}
	if after := visible(t, p); after != before {
		t.Errorf("%s\nbefore:\n%s", after, before)
	}
	if types, err := p.AttributeTypes(ctx); err != nil || len(types) != 1 {
		t.Error(types, err)
	}
}
