package fanfare

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestOptionsRefused: options that would not do what they say are refused before there is a directory, and those at their bounds are taken.
func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"zone":                 {Quiet: QuietHours{From: 22 * time.Hour, To: 8 * time.Hour, Zone: "Asia/Shangai"}},
		"zone without hours":   {Quiet: QuietHours{Zone: "Asia/Shangai"}},
		"the machine's zone":   {Quiet: QuietHours{Zone: "Local"}},
		"from 24 hours":        {Quiet: QuietHours{From: 24 * time.Hour, To: 8 * time.Hour}},
		"from before midnight": {Quiet: QuietHours{From: -time.Hour, To: 8 * time.Hour}},
		"to 24 hours":          {Quiet: QuietHours{From: 22 * time.Hour, To: 24 * time.Hour}},
		"to before midnight":   {Quiet: QuietHours{From: 22 * time.Hour, To: -1}},
		"cap a day":            {Caps: map[string]Cap{"a": {PerDay: 256}}},
		"cap a week":           {Caps: map[string]Cap{"a": {PerWeek: 1000}}},
		"cap below 0":          {Caps: map[string]Cap{"a": {PerDay: -1}}},
		"cap a week below 0":   {Caps: map[string]Cap{"a": {PerDay: 1, PerWeek: -1}}},
		"category of a cap":    {Caps: map[string]Cap{strings.Repeat("a", maxCategoryBytes+1): {PerDay: 1}}},
	} {
		dir := filepath.Join(t.TempDir(), "new")
		p, err := Open(dir, o)
		var limit *LimitError
		if err == nil || len(o.Caps) > 0 && !errors.As(err, &limit) {
			t.Errorf("%s: %v", name, err)
		}
		if p != nil {
			must(t, p.Close(context.Background()))
		}
		if left, _ := filepath.Glob(dir); len(left) > 0 {
			t.Errorf("%s: %s was made", name, left)
		}
	}
	testPusher(t, t.TempDir(), Options{
		Quiet: QuietHours{From: 24*time.Hour - 1, To: 0, Zone: "Asia/Shanghai"}, Caps: map[string]Cap{"": {PerDay: 255, PerWeek: 255}, "a": {}},
	})
}
