package fanfare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/fanfare-im/fanfare/store"
)

// TestImportEndsAtTheStepThatFails: a mistake that is found when a step is applied keeps that step and all behind it out,
// although those were under way.
func TestImportEndsAtTheStepThatFails(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{Limits: Limits{DevicesPerUser: 1}})
	const bad = importUsers + 500
	stats, err := p.Import(ctx, func(yield func(User, error) bool) {
		for i := range 6 * importUsers {
			u := User{ID: fmt.Sprintf("user %d", i)}
			if i == bad {
				u.Devices = []Device{{Platform: "apns", Token: "one"}, {Platform: "apns", Token: "two"}}
			}
			if !yield(u, nil) {
				return
			}
		}
	}, nil)
	var at *ImportError
	var limit *LimitError
	if !errors.As(err, &at) || at.Index != bad || at.ID != fmt.Sprintf("user %d", bad) || !errors.As(err, &limit) {
		t.Fatal(err)
	}
	if want := (ImportStats{Users: importUsers, Registered: importUsers}); stats != want {
		t.Fatalf("%+v, not %+v", stats, want)
	}
	n, err := p.Count(ctx, All())
	if must(t, err); n != importUsers {
		t.Fatalf("%d users are there", n)
	}
}

// TestImportIsGivenUp: when the context ends no step begins any more, and what is there is the steps that were counted, or one more.
func TestImportIsGivenUp(t *testing.T) {
	t.Parallel()
	p := testPusher(t, t.TempDir(), Options{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stats, err := p.Import(ctx, func(yield func(User, error) bool) {
		for i := 0; ; i++ {
			if !yield(User{ID: fmt.Sprintf("user %d", i)}, nil) {
				return
			}
		}
	}, &ImportOptions{Progress: func(s ImportStats) {
		if s.Users == 2*importUsers {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || stats.Users < 2*importUsers {
		t.Fatal(stats, err)
	}
	n, err := p.Count(context.Background(), All())
	must(t, err)
	if more := n - stats.Users; more != 0 && more != importUsers {
		t.Fatalf("%d users are there, %d were counted", n, stats.Users)
	}
}

// TestImportOptOuts: who wants no messages of a category gets none from the first push on, and a mistake is told of the right user.
func TestImportOptOuts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{})
	users := func(bad int) func(func(User, error) bool) {
		return func(yield func(User, error) bool) {
			for i := range importUsers + 10 {
				u := User{ID: fmt.Sprintf("user %d", i)}
				if i%2 == 0 {
					u.OptOuts = []string{"news", "ads"}
				}
				if i == bad {
					u.OptOuts = nil
					for c := range store.MaxOptOuts + 1 {
						u.OptOuts = append(u.OptOuts, fmt.Sprint(c))
					}
				}
				if !yield(u, nil) {
					return
				}
			}
		}
	}
	for _, want := range []ImportStats{{Users: importUsers + 10, Registered: importUsers + 10}, {Users: importUsers + 10, Updated: importUsers + 10}} {
		if stats, err := p.Import(ctx, users(-1), nil); stats != want || err != nil {
			t.Fatalf("%+v, %v", stats, err)
		}
	}
	task := mustTask(t, p, Message{To: All(), Category: "ads", Lifetime: week})
	if g := progress(t, task); g.Total != importUsers/2+5 || g.OptedOut != importUsers/2+5 {
		t.Errorf("%+v", g)
	}
	u, err := p.User(ctx, "user 2")
	if must(t, err); !slices.Equal(u.OptOuts, []string{"ads", "news"}) {
		t.Error(u)
	}
	for _, bad := range []int{0, 7, 500, importUsers, importUsers + 9} {
		_, err := p.Import(ctx, users(bad), nil)
		var at *ImportError
		var limit *LimitError
		if !errors.As(err, &at) || at.Index != int64(bad) || at.ID != fmt.Sprintf("user %d", bad) || !errors.As(err, &limit) {
			t.Errorf("%d: %v", bad, err)
		}
	}
	_, err = p.Import(ctx, func(yield func(User, error) bool) { yield(User{ID: "a", OptOuts: []string{""}}, nil) }, nil)
	if !errors.As(err, new(*ImportError)) {
		t.Error("a category without a name:", err)
	}
}

// TestImportReplace: tags and attributes are those of the last import, others are gone, and everything else of a user stays.
func TestImportReplace(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{Limits: Limits{TagsPerUser: 2}})
	must(t, p.SetAttributeNames(ctx, map[int]string{0: "tier", 1: "city"}))
	load := func(replace bool, users ...User) ImportStats {
		t.Helper()
		stats, err := p.Import(ctx, func(yield func(User, error) bool) {
			for _, u := range users {
				if !yield(u, nil) {
					return
				}
			}
		}, &ImportOptions{Replace: replace})
		must(t, err)
		return stats
	}
	phone := Device{Platform: "apns", Token: "one"}
	load(true, User{ID: "alice", Tags: []string{"a", "b"}, Attributes: map[string]string{"tier": "gold", "city": "Wuhan"}, OptOuts: []string{"offers"}, Devices: []Device{phone}},
		User{ID: "bob", Tags: []string{"a"}, Attributes: map[string]string{"tier": "gold"}})
	stats := load(true, User{ID: "alice", Tags: []string{"b", "c"}, Attributes: map[string]string{"tier": "platinum"}}, User{ID: "bob"}, User{ID: "carol"})
	if want := (ImportStats{Users: 3, Registered: 1, Updated: 2}); stats != want {
		t.Fatalf("%+v, not %+v", stats, want)
	}
	alice, err := p.User(ctx, "alice")
	must(t, err)
	if !slices.Equal(alice.Tags, []string{"b", "c"}) || len(alice.Attributes) != 1 || alice.Attributes["tier"] != "platinum" {
		t.Fatalf("%+v", alice)
	}
	if !slices.Equal(alice.OptOuts, []string{"offers"}) || len(alice.Devices) != 1 || alice.Devices[0].Token != phone.Token {
		t.Fatalf("%+v", alice)
	}
	bob, err := p.User(ctx, "bob")
	must(t, err)
	if len(bob.Tags) != 0 || len(bob.Attributes) != 0 {
		t.Fatalf("%+v", bob)
	}
	_, err = p.Import(ctx, func(yield func(User, error) bool) {
		_ = yield(User{ID: "alice"}, nil) && yield(User{ID: "bob", Tags: []string{"1", "2", "3"}}, nil)
	}, &ImportOptions{Replace: true})
	var at *ImportError
	if !errors.As(err, &at) || at.Index != 1 || at.ID != "bob" {
		t.Fatal(err)
	}
	must(t, p.Check(ctx))
}
