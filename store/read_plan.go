package store

import "iter"

// Plan returns a plan, or [ErrUnknownPlan] when there is none or it was forgotten.
func (s *Store) Plan(id uint64) (p *Plan, err error) {
	err = s.withView(func(v *view) error {
		if p = v.plan(id); p == nil {
			return ErrUnknownPlan
		}
		return nil
	})
	return p, err
}

// PlanOfKey returns the plan of an idempotency key, or [ErrUnknownPlan].
func (s *Store) PlanOfKey(key string) (p *Plan, err error) {
	err = s.withView(func(v *view) error {
		b := v.get(bucketPlanKeys, keyKey("", key))
		if b == nil {
			return ErrUnknownPlan
		}
		if p = v.plan(be64(b)); p == nil {
			return &FormatError{What: "key of a plan", Detail: "without its plan"}
		}
		return nil
	})
	return p, err
}

// Plans yields the plans, newest first.
func (s *Store) Plans() iter.Seq2[*Plan, error] {
	return newestFirst(s, bucketPlans, nil, func(v *view, key, value []byte) (*Plan, error) { return decodePlan(be64(key), value) })
}

// PlanTasks yields the tasks of a plan that are not forgotten, newest first.
func (s *Store) PlanTasks(id uint64) iter.Seq2[*TaskState, error] {
	return newestFirst(s, bucketPlanTasks, key64(id), func(v *view, key, _ []byte) (*TaskState, error) { return v.taskState(be64(key[8:])) })
}

// newestFirst yields what a bucket has under a prefix, from the last key on.
func newestFirst[T any](s *Store, b bucket, prefix []byte, read func(v *view, key, value []byte) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		to := after(prefix)
		if to == nil {
			to = key64(1<<64 - 1)
		}
		for {
			var some []T
			var last []byte
			err := s.withView(func(v *view) error {
				for _, e := range v.scan(b, prefix, to, 100, true) {
					x, err := read(v, e.key, e.value)
					if err != nil {
						return err
					}
					some, last = append(some, x), append(last[:0], e.key...)
				}
				return nil
			})
			if err != nil {
				yield(none, err)
				return
			}
			if len(some) == 0 {
				return
			}
			for _, x := range some {
				if !yield(x, nil) {
					return
				}
			}
			to = last
		}
	}
}

// PlanDue is a plan whose step is due at a time, in milliseconds since 1970.
type PlanDue struct {
	At int64
	ID uint64
}

// PlansDue returns at most max plans whose step is due at now, in milliseconds since 1970, by time and ID, behind another of them; the zero value is in front of all. If
// these are fewer, next is when the next one is due, or 0.
func (s *Store) PlansDue(after PlanDue, now int64, max int) (due []PlanDue, next int64, err error) {
	err = s.withView(func(v *view) error {
		from := []byte{duePlan}
		if after.ID != 0 {
			from = append(dueKeyOf(duePlan, after.At, key64(after.ID)), 0)
		}
		for _, e := range v.scan(bucketDue, from, []byte{duePlan + 1}, max+1, false) {
			at := int64(be64(e.key[1:9]))
			if at > now || len(due) == max {
				next = at
				return nil
			}
			due = append(due, PlanDue{at, be64(e.key[9:])})
		}
		return nil
	})
	return due, next, err
}
