package store

import (
	"bytes"

	"github.com/RoaringBitmap/roaring/v2"
)

// plans checks that plans, their keys, who is frozen for them, and their tasks belong together.
func (c *checker) plans() error {
	held, keys := make(map[uint64]int64), int64(0)
	set := roaring.New()
	err := c.bucket(bucketFrozen).ForEach(func(k, v []byte) error {
		plan, run, block, ok := parseFrozenKey(k)
		if !ok {
			return broken("frozen users %x", k)
		}
		if err := readPending(set, v); err != nil || set.IsEmpty() || uint64(c.geo.ordinal(block, uint16(set.Maximum()))) >= c.st.nextOrdinal {
			return broken("frozen users of run %d of plan %d in block %d: %v", run, plan, block, err)
		}
		held[plan] += int64(set.GetCardinality())
		return c.ctx.Err()
	})
	if err != nil {
		return err
	}
	err = c.bucket(bucketPlans).ForEach(func(k, v []byte) error {
		if len(k) != 8 {
			return broken("plan %x", k)
		}
		p, err := decodePlan(be64(k), v)
		if err != nil {
			return broken("plan %d: %v", be64(k), err)
		}
		if p.ID == 0 || p.ID >= c.st.nextPlan || p.Created > c.st.now || p.Ended > c.st.now || p.Version == 0 || p.Gone < 0 {
			return broken("plan %d of %d: %+v", p.ID, c.st.nextPlan, p)
		}
		if held[p.ID] != p.Held || p.Ended != 0 && (p.Held != 0 || p.Due != 0) {
			return broken("plan %d holds %d users, frozen are %d; due %d, ended %d", p.ID, p.Held, held[p.ID], p.Due, p.Ended)
		}
		delete(held, p.ID)
		if p.Due != 0 && !c.isDue(duePlan, p.Due, k) || p.Ended != 0 && !c.isDue(dueForgetPlan, p.Ended+TaskRetention.Milliseconds(), k) {
			return broken("plan %d is never looked at again: due %d, ended %d", p.ID, p.Due, p.Ended)
		}
		if p.Key != "" {
			if keys++; !bytes.Equal(c.bucket(bucketPlanKeys).Get(keyKey("", p.Key)), k) {
				return broken("the key of plan %d does not lead to it", p.ID)
			}
		}
		return c.ctx.Err()
	})
	if err != nil {
		return err
	}
	for id := range held {
		return broken("users are frozen for plan %d, which there is not", id)
	}
	if n, err := c.count(bucketPlanKeys); err != nil || n != keys {
		return broken("%d keys of plans, %d plans with one: %v", n, keys, err)
	}
	return c.planTasks()
}

// planTasks checks that the tasks of plans are listed, and no others.
func (c *checker) planTasks() error {
	listed := int64(0)
	err := c.bucket(bucketPlanTasks).ForEach(func(k, v []byte) error {
		if len(k) != 16 || len(v) != 0 {
			return broken("task of a plan %x", k)
		}
		listed++
		t, err := decodeTask(be64(k[8:]), c.bucket(bucketTasks).Get(k[8:]))
		if err != nil || t.Plan != be64(k) {
			return broken("task %d is listed with plan %d: %v", be64(k[8:]), be64(k), err)
		}
		return c.ctx.Err()
	})
	if err != nil {
		return err
	}
	tasks := int64(0)
	err = c.bucket(bucketTasks).ForEach(func(k, v []byte) error {
		t, err := decodeTask(be64(k), v)
		if err != nil {
			return err
		}
		if t.Plan != 0 {
			tasks++
		}
		if t.Plan >= c.st.nextPlan {
			return broken("task %d is of plan %d, which there never was", t.Seq, t.Plan)
		}
		return c.ctx.Err()
	})
	if err == nil && tasks != listed {
		err = broken("%d tasks are of plans, %d are listed", tasks, listed)
	}
	return err
}
