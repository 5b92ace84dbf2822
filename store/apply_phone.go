package store

import "github.com/RoaringBitmap/roaring/v2"

// checkpoint moves a task's place on a platform. One that is over stays over.
func (a *applier) checkpoint(c *Checkpoint) error {
	key := phoneKey(c.Seq, c.Platform)
	rec, known := a.v.phone(c.Seq, c.Platform)
	if !known {
		return nil
	}
	if c.Recall && !rec.recall {
		return nil
	}
	if c.Recall {
		rec.recalled.add(c.Stats)
	} else {
		rec.stats.add(c.Stats)
		a.progress(c.Seq) // for its sample
	}
	switch {
	case rec.recall && !c.Recall: // of a batch that was under way at the withdrawal
		rec.until = max(rec.until, c.Next)
		a.passOver(c, &rec)
		a.put(bucketPhones, key, rec.encode())
		return nil
	case !rec.done:
		rec.next = max(rec.next, c.Next)
		for i := range c.Settled {
			a.remove(bucketRetries, retryKey(c.Seq, c.Platform, &c.Settled[i]))
		}
		rec.retried = rec.retried || len(c.Retry) > 0
		for i := range c.Retry {
			var w writer
			w.uvarint(uint64(c.Retry[i].Attempt))
			w.varint(c.Retry[i].Due)
			w.bool(c.Retry[i].Asleep)
			a.put(bucketRetries, retryKey(c.Seq, c.Platform, &c.Retry[i]), w.b)
		}
		a.passOver(c, &rec)
	}
	a.put(bucketPhones, key, rec.encode())
	if c.Done {
		a.endPhone(c.Seq, c.Platform)
		if t := a.task(c.Seq); t != nil && a.recalled(c.Seq) && !a.phonesLeft(t) {
			a.dropRecall(t)
		}
		if p := a.live(c.Seq); p != nil && p.Pending == 0 && !a.notifying(c.Seq) {
			a.finish(c.Seq, p, Completed)
		}
	}
	return nil
}

// passOver notes who is passed over because of quiet hours, and who is no more. Only those are who are notified of the message, and have had
// their turn.
func (a *applier) passOver(c *Checkpoint, rec *phoneRecord) {
	g, key := a.s.geo, asleepOf(c.Seq, rec.number)
	whom := theWaiting
	if len(c.Asleep) > 0 {
		whom = rec.whom(a.task(c.Seq).Always)
	}
	for _, s := range c.Asleep {
		a.v.parsed = 0
		first := uint64(g.ordinal(s.Block, 0))
		whose := a.v.notified(s.Block, c.Seq, whom)
		exists := a.v.fact(s.Block, existsFact).set
		if rec.walked() <= first || whose == nil || exists == nil {
			continue
		}
		asleep := roaring.And(s.Low, whose)
		asleep.And(exists) // an audience keeps those who are unregistered
		asleep.RemoveRange(rec.walked()-first, 1<<16)
		if !asleep.IsEmpty() {
			a.d.update(kindAsleep, s.Block, key, func(b *bits) { b.addAll(asleep) })
			rec.slept = max(rec.slept, c.At, 1)
		}
	}
	for _, s := range c.Awake {
		if a.v.parsed = 0; a.v.ofMessage(kindAsleep, s.Block, key) != nil {
			a.d.update(kindAsleep, s.Block, key, func(b *bits) { b.removeAll(s.Low) })
		}
	}
}

// notifying says whether phones are still to be notified of a message that everybody may have. Its task is not over
// before.
func (a *applier) notifying(seq uint64) bool {
	t := a.task(seq)
	return t != nil && t.Always && a.phonesLeft(t)
}

// phonesLeft says whether something is left to be sent to phones.
func (a *applier) phonesLeft(t *Task) bool {
	for _, platform := range t.Platforms {
		if rec, known := a.v.phone(t.Seq, platform); known && !rec.done {
			return true
		}
	}
	return false
}

// endPhone closes a task's checkpoint on a platform.
func (a *applier) endPhone(seq uint64, platform string) {
	key := phoneKey(seq, platform)
	rec, known := a.v.phone(seq, platform)
	if !known || rec.done {
		return
	}
	rec.done = true
	a.put(bucketPhones, key, rec.encode())
	a.removeDue(duePhone, 0, key)
	if t := a.task(seq); rec.slept != 0 && t != nil {
		for it := t.blocks.Iterator(); it.HasNext(); {
			a.v.parsed = 0
			if block := uint16(it.Next()); a.v.ofMessage(kindAsleep, block, asleepOf(seq, rec.number)) != nil {
				a.d.update(kindAsleep, block, asleepOf(seq, rec.number), (*bits).drop)
			}
		}
	}
	if !rec.retried {
		return // to look for retries is to look at all of them that are in the delta
	}
	a.dropRetries(seq, platform)
}

func (a *applier) dropRetries(seq uint64, platform string) {
	from := append(append(key64(seq), byte(len(platform))), platform...)
	for {
		waiting := a.v.scan(bucketRetries, from, after(from), 1000, false)
		for _, e := range waiting {
			a.remove(bucketRetries, e.key)
		}
		if len(waiting) < 1000 {
			return
		}
	}
}
