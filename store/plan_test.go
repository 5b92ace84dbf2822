package store

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// TestPlanTakesEachOnce: who was frozen is pushed to once, in parts that are as large as was said, whatever becomes of tags meanwhile; who is gone is not.
func TestPlanTakesEachOnce(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	dir := t.TempDir()
	open := func() *Store {
		s, err := Open(dir, Options{BlockBits: 2, DeltaEntries: 8, Now: func() time.Time { return now }}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	defer func() { s.Close(context.Background()) }()
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPut, ID: id, Tags: []string{"x"}}}})
	}
	propose(t, s, &Batch{Ops: []UserOp{{Kind: OpAddTags, ID: "c", Tags: []string{"first"}}, {Kind: OpAddTags, ID: "j", Tags: []string{"first"}}, {Kind: OpPut, ID: "late"}}})
	tag := func(v string) *Expr { return &Expr{Op: OpTag, Value: v} }
	all := &Expr{Op: OpAll}
	plan := propose(t, s, &PlanStep{Key: "k", Spec: []byte("spec"), State: []byte("1"), Due: 7, Freeze: tag("x")}).(PlanResult)
	if plan.ID != 1 || plan.Version != 1 || plan.Held != 10 {
		t.Fatalf("%+v", plan)
	}
	propose(t, s, &Batch{Ops: []UserOp{{Kind: OpRemoveTags, ID: "a", Tags: []string{"x"}}, {Kind: OpAddTags, ID: "late", Tags: []string{"x"}}, {Kind: OpUnregister, ID: "d"}}})
	version := plan.Version
	step := func(c *PlanStep) PlanResult {
		t.Helper()
		c.ID, c.Version, c.State = plan.ID, version, []byte("2")
		r := propose(t, s, c).(PlanResult)
		version = r.Version
		return r
	}
	pending := func(seq uint64) (ids []string) {
		t.Helper()
		for block := range uint16(3) {
			set, err := s.Pending(block, seq)
			if err != nil {
				t.Fatal(err)
			}
			if set == nil {
				continue
			}
			names, err := s.names(block, set.ToArray(), nil)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, names...)
		}
		return ids
	}
	push := &Push{Body: []byte("m"), To: all, Lifetime: 1000}
	for i, c := range []struct {
		to    *Expr
		limit uint64
		want  []string
		held  int64
	}{
		{tag("first"), 0, []string{"c", "j"}, 8},
		{all, 3, []string{"a", "b", "e"}, 5},
		{tag("first"), 0, nil, 5},
		{all, 1, []string{"f"}, 4},
		{all, 100, []string{"g", "h", "i"}, 1}, // d is gone
		{all, 0, nil, 1},
	} {
		of := *push
		of.To = c.to
		r := step(&PlanStep{Push: &of, Part: "p", Take: true, Limit: c.limit})
		if got := pending(r.Push.Seq); !slices.Equal(got, c.want) || r.Push.Total != int64(len(c.want)) || r.Held != c.held {
			t.Errorf("step %d: %v, %+v, want %v", i, got, r, c.want)
		}
		if i == 1 { // over a fold and an Open
			if err := s.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			s = open()
		}
	}
	if r := step(&PlanStep{Push: &Push{Body: []byte("m"), To: tag("x"), Lifetime: 1000}}); r.Push.Total != 9 || r.Held != 1 {
		t.Errorf("a push that takes nobody: %+v", r)
	}
	for _, c := range []struct {
		step PlanStep
		want error
	}{
		{PlanStep{ID: 1, Version: version - 1}, ErrPlanChanged}, {PlanStep{ID: 2, Version: 1}, ErrUnknownPlan},
		{PlanStep{Key: "k", Hash: [16]byte{1}}, ErrKeyReused},
		{PlanStep{ID: 1, Version: version, Freeze: &Expr{Op: OpAttr, Name: "none", Value: "1"}}, ErrUnnamedAttribute},
	} {
		if _, err := s.Propose(context.Background(), &c.step); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.step, err, c.want)
		}
	}
	if r := propose(t, s, &PlanStep{Key: "k"}).(PlanResult); !r.Duplicate || r.ID != 1 {
		t.Errorf("%+v", r)
	}
	step(&PlanStep{End: true})
	p, err := s.Plan(1)
	if err != nil || p.Held != 0 || p.Gone != 1 || p.Ended == 0 || string(p.Spec) != "spec" || string(p.State) != "2" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := s.Propose(context.Background(), &PlanStep{ID: 1, Version: version}); !errors.Is(err, ErrPlanEnded) {
		t.Error(err)
	}
	tasks := 0
	for task, err := range s.PlanTasks(1) {
		if tasks++; err != nil || task.Plan != 1 {
			t.Error(task, err)
		}
	}
	if tasks != 5 {
		t.Errorf("%d tasks", tasks)
	}
	if err := s.Check(context.Background()); err != nil {
		t.Error(err)
	}
	now = now.Add(TaskRetention + time.Hour)
	for range 10 { // tasks expire, and what is over is forgotten
		d, err := s.DueAt(now.UnixMilli(), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range d.Expired {
			propose(t, s, &End{Seq: e[0], Reason: Expired})
		}
		propose(t, s, &Forget{Due: d.Forget})
		now = now.Add(TaskRetention)
	}
	if _, err := s.Plan(1); !errors.Is(err, ErrUnknownPlan) {
		t.Error(err)
	}
	if r := propose(t, s, &PlanStep{Key: "k", Hash: [16]byte{1}}).(PlanResult); r.Duplicate || r.ID != 2 {
		t.Errorf("a key that was forgotten: %+v", r)
	}
	if err := s.Check(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestPlanRuns: who is frozen for one run of a plan is taken and let go without the other's; of those who are to be taken the task does not know among whom they were.
func TestPlanRuns(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), Options{BlockBits: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close(context.Background()) }()
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPut, ID: id, Tags: []string{"x"}}}})
	}
	propose(t, s, &Batch{Ops: []UserOp{{Kind: OpAddTags, ID: "b", Tags: []string{"y"}}, {Kind: OpAddTags, ID: "f", Tags: []string{"y"}}}})
	all, x, y := &Expr{Op: OpAll}, &Expr{Op: OpTag, Value: "x"}, &Expr{Op: OpTag, Value: "y"}
	plan := propose(t, s, &PlanStep{State: []byte("1"), Run: 1, Freeze: x}).(PlanResult)
	step := func(c *PlanStep, total, held, gone int64) uint64 {
		t.Helper()
		c.ID, c.Version = plan.ID, plan.Version
		plan = propose(t, s, c).(PlanResult)
		if p, err := s.Plan(plan.ID); err != nil || plan.Push.Total != total || plan.Held != held || p.Held != held || p.Gone != gone {
			t.Errorf("%+v, %+v, %v; want %d, %d held, %d gone", plan, p, err, total, held, gone)
		}
		return plan.Push.Seq
	}
	push := func(to *Expr) *Push { return &Push{Body: []byte("m"), To: to, Lifetime: 1000} }
	step(&PlanStep{Run: 2, Freeze: all}, 0, 12, 0)
	seq := step(&PlanStep{Run: 2, Push: push(x), Take: true, Among: y}, 2, 10, 0)
	if task, err := s.Task(seq); err != nil || task.To.Op != OpTag || task.To.Value != "x" {
		t.Errorf("%+v, %v", task, err)
	}
	step(&PlanStep{Run: 2, Push: push(all), Take: true, Among: y}, 0, 10, 0)
	step(&PlanStep{Run: 1, Push: push(all), Take: true, Limit: 2, Among: x}, 2, 8, 0)
	step(&PlanStep{Run: 1, Thaw: true}, 0, 4, 4)
	step(&PlanStep{Run: 1, Push: push(all), Take: true}, 0, 4, 4)
	step(&PlanStep{Run: 3, Freeze: y}, 0, 6, 4)
	step(&PlanStep{Run: 3, Freeze: x}, 0, 10, 6) // in the place of the others
	if err := s.Check(context.Background()); err != nil {
		t.Error(err)
	}
	step(&PlanStep{End: true}, 0, 0, 16)
	if err := s.Check(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestCaps: of a category nobody gets more in a day and in a week than was said; who is left out is counted, and a new day begins at midnight by UTC.
func TestCaps(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) // a Monday
	s, err := Open(t.TempDir(), Options{BlockBits: 1, DeltaEntries: 5, Now: func() time.Time { return now }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	for _, id := range []string{"a", "b", "c"} {
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPut, ID: id, Tags: []string{id}}}})
	}
	all := &Expr{Op: OpAll}
	push := func(category string, perDay, perWeek byte, to *Expr, total, capped int64) {
		t.Helper()
		for _, lifetime := range []int64{0, 1000} {
			if lifetime == 0 && total > 0 {
				continue // which would count too
			}
			r := propose(t, s, &Push{Body: []byte("m"), To: to, Lifetime: lifetime, Category: category, PerDay: perDay, PerWeek: perWeek}).(PushResult)
			state, err := s.Task(r.Seq)
			if err != nil || r.Total != total || r.Skipped != capped || state.Progress.Capped != capped || state.Category != category {
				t.Errorf("%s: %+v, %+v, want %d and %d left out", category, r, state, total, capped)
			}
		}
	}
	b := &Expr{Op: OpTag, Value: "b"}
	push("ads", 2, 5, b, 1, 0)
	push("ads", 2, 5, all, 3, 0)
	push("ads", 2, 5, all, 2, 1)
	push("ads", 2, 5, all, 0, 3)
	push("news", 1, 0, all, 3, 0) // another one
	push("", 0, 0, all, 3, 0)
	push("ads", 3, 5, all, 3, 0) // a cap that was raised
	now = now.Add(12 * time.Hour)
	push("ads", 2, 5, all, 3, 0)
	push("ads", 2, 5, b, 1, 0)
	push("ads", 2, 5, all, 2, 1) // the day of b, and its week
	now = now.Add(24 * time.Hour)
	push("ads", 2, 5, all, 0, 3) // the week of all
	now = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	push("ads", 2, 5, all, 3, 0)
	if err := s.Check(context.Background()); err != nil {
		t.Error(err)
	}
	now = now.Add(8 * 24 * time.Hour)
	d, err := s.DueAt(now.UnixMilli(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	propose(t, s, &Forget{Due: d.Forget})
	if err := s.withView(func(v *view) error {
		if left := v.scan(bucketCaps, nil, nil, 10, false); len(left) > 0 {
			t.Errorf("%d are left, such as %x", len(left), left[0].key)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := s.Check(context.Background()); err != nil {
		t.Error(err)
	}
}
