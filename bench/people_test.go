package main

import (
	"testing"

	"github.com/fanfare-im/fanfare"
)

// TestPeople are the same by number, whoever makes them, and are drawn as they should be.
func TestPeople(t *testing.T) {
	t.Parallel()
	p, err := newPeople()
	if err != nil {
		t.Fatal(err)
	}
	const n = 100_000
	other, ids := p.clone(), make(map[string]bool, n)
	tier, tags := make(map[string]int), make([]int, tagCount)
	for i := range n {
		u := p.at(i)
		ids[string(u.id[:])] = true
		tier[u.tier]++
		for k, tag := range u.tags {
			tags[tag]++
			if u.has(tag, k) {
				t.Fatalf("user %d has a tag twice: %v", i, u.tags)
			}
		}
		if other.id(i) != string(u.id[:]) {
			t.Fatalf("user %d is %s and %s", i, u.id, other.id(i))
		}
	}
	if len(ids) != n {
		t.Errorf("%d IDs", len(ids))
	}
	for name, percent := range map[string]int{"none": 90, "member": 7, "gold": 2, "platinum": 1} {
		if got := tier[name]; got < n*percent*9/1000 || got > n*percent*11/1000 {
			t.Errorf("%s: %d", name, got)
		}
	}
	if tags[0] < 3*tags[9] || tags[9] < 3*tags[99] || tags[999] == 0 {
		t.Errorf("tags: %d, %d, %d, %d", tags[0], tags[9], tags[99], tags[999])
	}
	users := 0
	for u, err := range p.users(10, 20) {
		if err != nil || u.ID != other.id(10+users) || len(u.Tags) != tagsPerUser {
			t.Fatal(u, err)
		}
		users++
	}
	if users != 10 {
		t.Fatal(users)
	}
}

// TestRules say the same of a user as their audiences do, and 20 of 100 are for a user on average.
func TestRules(t *testing.T) {
	t.Parallel()
	const n = 20_000
	p, err := newPeople()
	if err != nil {
		t.Fatal(err)
	}
	f, err := fanfare.Open(t.TempDir(), fanfare.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close(t.Context())
	if err := f.SetAttributeNames(t.Context(), names); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Import(t.Context(), p.users(0, n), nil); err != nil {
		t.Fatal(err)
	}
	list := rules()
	want := make([]int64, len(list))
	total := int64(0)
	for i := range n {
		u := p.at(i)
		for k, r := range list {
			if r.has(&u) {
				want[k]++
				total++
			}
		}
	}
	for k, r := range list {
		if got, err := f.Count(t.Context(), r.to); err != nil || got != want[k] {
			t.Errorf("%s: %d users, not %d (%v)", r.to, got, want[k], err)
		}
	}
	if len(list) != 100 || total < 19*n || total > 24*n {
		t.Errorf("%d pushes, %.1f for a user", len(list), float64(total)/n)
	}
}
