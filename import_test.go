package fanfare

import (
	"context"
	"errors"
	"fmt"
	"testing"
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
