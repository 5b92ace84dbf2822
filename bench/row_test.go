package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		t            target
		ratio        float64
		ok           bool
		words        string
		ours, theirs []float64
	}{
		{atMost(1.5), 0.5, true, "≤ 1.5", []float64{1, 2, 3}, []float64{4, 4, 4}},
		{atMost(0.4), 0.5, false, "≤ 0.4", []float64{2}, []float64{4}},
		{atLeast(2), 2, true, "≥ 2", []float64{2}, []float64{4}},
		{atLeast(3), 2, false, "≥ 3", []float64{2}, []float64{4}},
		{noTarget, 0.5, true, "", []float64{2}, []float64{4}},
	} {
		r := compare("x", "y", "s", c.ours, c.theirs, c.t)
		if r.Ratio != c.ratio || r.OK != c.ok || r.Target != c.words {
			t.Errorf("%+v", r)
		}
	}
	if r := compare("x", "y", "s", []float64{1, 2, 3}, []float64{4, 4, 4}, atMost(1.5)); r.Low != 0.25 || r.High != 0.75 {
		t.Errorf("%+v", r)
	}
	if r := limit("x", "ms", []float64{60}, 50, "≤ 50 ms"); r.OK || r.Ratio != 1.2 || r.Theirs != 0 || r.Target != "≤ 50 ms" {
		t.Errorf("%+v", r)
	}
	if r := limit("x", "ms", []float64{40}, 50, "≤ 50 ms"); !r.OK {
		t.Errorf("%+v", r)
	}
	var b bytes.Buffer
	printTable(&b, []row{absent("x", "Redis", "not there"), compare("y", "z", "s", []float64{2}, []float64{4}, atLeast(3))}, true)
	for _, want := range []string{"missing: not there", "**no**"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

// TestRounds take turns, each in another order, and leave the warm-up out.
func TestRounds(t *testing.T) {
	t.Parallel()
	var order []string
	of := func(name string) contender {
		return func(_ context.Context, round int) (float64, error) {
			order = append(order, name)
			return float64(round), nil
		}
	}
	costs, err := rounds(t.Context(), 3, true, of("a"), nil, of("c"))
	if err != nil || !slices.Equal(order, []string{"a", "c", "a", "c", "c", "a", "c", "a"}) {
		t.Fatal(order, err)
	}
	if !slices.Equal(costs[0], []float64{0, 1, 2}) || costs[1] != nil || median(costs[2]) != 1 {
		t.Fatal(costs)
	}
	broken := errors.New("broken")
	if _, err := rounds(t.Context(), 1, false, func(context.Context, int) (float64, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if median([]float64{4, 1, 3, 2}) != 2.5 {
		t.Fatal("median")
	}
}
