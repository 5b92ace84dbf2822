package store

import (
	"github.com/RoaringBitmap/roaring/v2"
)

// planPart says which plan a push is of, and whom it takes.
type planPart struct {
	plan  uint64
	name  string
	take  bool
	run   uint32
	among *Expr
	limit uint64
}

// planStep makes a plan, or moves it on.
func (a *applier) planStep(c *PlanStep) (any, error) {
	p, dup, err := a.planOf(c)
	if err != nil || dup {
		return planResult(p, PlanResult{Duplicate: dup}), err
	}
	var r PlanResult
	switch {
	case c.Freeze != nil:
		audience, err := a.evaluate(c.Freeze, true)
		if err != nil {
			return nil, err
		}
		a.thaw(p, c.Run)
		for i := range audience {
			a.put(bucketFrozen, frozenKey(p.ID, c.Run, audience[i].Block), packedBytes(audience[i].raw))
			p.Held += int64(audience[i].n)
		}
	case c.Push != nil:
		pushed, err := a.pushPart(c.Push, planPart{p.ID, c.Part, c.Take, c.Run, c.Among, c.Limit})
		if err != nil {
			return nil, err
		}
		if r.Push = pushed; c.Take && !pushed.Duplicate {
			p.Held -= r.Push.Total + r.Push.Skipped
		}
	}
	if c.ID == 0 {
		a.st.nextPlan++
		if p.Key != "" {
			a.put(bucketPlanKeys, keyKey("", p.Key), planKeyRecord(p.ID))
		}
	}
	a.tell(func(o Observer) { o.Planned() })
	id := key64(p.ID)
	if p.Due != 0 {
		a.removeDue(duePlan, p.Due, id)
	}
	p.Version++
	if c.Spec != nil {
		p.Spec = c.Spec
	}
	p.State, p.Due = c.State, c.Due
	switch {
	case c.End:
		a.dropFrozen(id, func([]byte) {}) // there may be those of a great many runs, and how many they are is known
		p.Gone, p.Held = p.Gone+p.Held, 0
	case c.Thaw:
		a.thaw(p, c.Run)
	}
	if c.End {
		p.Ended, p.Due = a.st.now, 0
		a.addDue(dueForgetPlan, a.st.now+TaskRetention.Milliseconds(), id)
	}
	if p.Due != 0 {
		a.addDue(duePlan, p.Due, id)
	}
	a.put(bucketPlans, id, p.encode())
	return planResult(p, r), nil
}

func planResult(p *Plan, r PlanResult) PlanResult {
	if p != nil {
		r.ID, r.Version, r.Held = p.ID, p.Version, p.Held
	}
	return r
}

// planOf returns the plan that a step is of. Dup: a new one's key is known, and this is the plan that has it.
func (a *applier) planOf(c *PlanStep) (p *Plan, dup bool, err error) {
	if c.ID != 0 {
		p := a.v.plan(c.ID)
		switch {
		case p == nil:
			return nil, false, ErrUnknownPlan
		case p.Version != c.Version:
			return nil, false, ErrPlanChanged
		case p.Ended != 0:
			return nil, false, ErrPlanEnded
		}
		return p, false, nil
	}
	if c.Key != "" {
		if b := a.v.get(bucketPlanKeys, keyKey("", c.Key)); b != nil {
			p := a.v.plan(be64(b))
			if p == nil {
				panic(&FormatError{What: "key of a plan", Detail: "without its plan"})
			}
			if p.hash != c.Hash {
				return nil, false, ErrKeyReused
			}
			return p, true, nil
		}
	}
	return &Plan{ID: a.st.nextPlan, Key: c.Key, hash: c.Hash, Created: a.st.now}, false, nil
}

// thaw lets go of who is frozen for a run of a plan.
func (a *applier) thaw(p *Plan, run uint32) {
	a.dropFrozen(runKey(p.ID, run), func(set []byte) {
		a.v.parsed = 0
		n := int64(a.v.parse(set).GetCardinality())
		p.Held, p.Gone = p.Held-n, p.Gone+n
	})
}

// dropFrozen removes the sets under a prefix of the keys, each of which it shows first.
func (a *applier) dropFrozen(prefix []byte, show func(set []byte)) {
	for from := prefix; from != nil; {
		sets := a.v.scan(bucketFrozen, from, after(prefix), 1000, false)
		from = nil
		for _, e := range sets {
			show(e.value)
			a.remove(bucketFrozen, e.key)
			from = append(e.key, 0)
		}
	}
}

// take evaluates an audience among who is frozen for a run of a plan, block by block until the limit is reached, and takes them out.
func (a *applier) take(to *Expr, part planPart, retained bool) (out []audienceSet, err error) {
	if part.among != nil {
		to = &Expr{Op: OpAnd, Args: []*Expr{to, part.among}}
	}
	prog, err := compile(to, a.v, a.st, a.st.now)
	if err != nil {
		return nil, err
	}
	from, left := runKey(part.plan, part.run), part.limit
	for _, e := range a.v.scan(bucketFrozen, from, after(from), 1<<17, false) {
		a.v.parsed = 0
		_, _, block, _ := parseFrozenKey(e.key)
		frozen, of := a.v.parse(e.value), prog.eval(a.v, a.s.geo, block)
		if of.set == nil {
			continue
		}
		set := roaring.And(frozen, of.set)
		n := set.GetCardinality()
		if n == 0 {
			continue
		}
		if part.limit > 0 && n > left {
			first, err := set.Select(uint32(left))
			must(err)
			set.RemoveRange(uint64(first), 1<<32)
			n = left
		}
		left -= min(left, n)
		if rest := roaring.AndNot(frozen, set); rest.IsEmpty() {
			a.remove(bucketFrozen, e.key)
		} else {
			rest.RunOptimize()
			a.put(bucketFrozen, e.key, packedBytes(bitmapBytes(rest)))
		}
		set.RunOptimize()
		m := audienceSet{BlockSet: BlockSet{Block: block}, n: n}
		if retained {
			m.raw = bitmapBytes(set)
		} else {
			m.Low = set
		}
		if out = append(out, m); part.limit > 0 && left == 0 {
			break
		}
	}
	return out, nil
}

// plan returns a plan, nil if there is none.
func (v *view) plan(id uint64) *Plan {
	b := v.get(bucketPlans, key64(id))
	if b == nil {
		return nil
	}
	p, err := decodePlan(id, b)
	must(err)
	return p
}
