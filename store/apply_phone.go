package store

// checkpoint moves a task's place on a platform. One that is over stays over.
func (a *applier) checkpoint(c *Checkpoint) error {
	key := phoneKey(c.Seq, c.Platform)
	b := a.v.get(bucketPhones, key)
	if b == nil {
		return nil
	}
	rec, err := decodePhone(b)
	must(err)
	if c.Recall {
		rec.recalled.add(c.Stats)
	} else {
		rec.stats.add(c.Stats)
		a.progress(c.Seq) // for its sample
	}
	switch {
	case rec.recall && !c.Recall: // of a batch that was under way at the withdrawal
		rec.until = max(rec.until, c.Next)
		a.put(bucketPhones, key, rec.encode())
		return nil
	case !rec.done:
		if rec.next = max(rec.next, c.Next); c.Pass {
			rec.next, rec.awake, rec.asleep = 0, c.Awake, c.Asleep
		}
		for i := range c.Settled {
			a.remove(bucketRetries, retryKey(c.Seq, c.Platform, &c.Settled[i]))
		}
		rec.retried = rec.retried || len(c.Retry) > 0
		for i := range c.Retry {
			var w writer
			w.uvarint(uint64(c.Retry[i].Attempt))
			w.varint(c.Retry[i].Due)
			a.put(bucketRetries, retryKey(c.Seq, c.Platform, &c.Retry[i]), w.b)
		}
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

// notifying says whether phones are still to be notified of a message that everybody may have. Its task is not over
// before.
func (a *applier) notifying(seq uint64) bool {
	t := a.task(seq)
	return t != nil && t.Always && a.phonesLeft(t)
}

// phonesLeft says whether something is left to be sent to phones.
func (a *applier) phonesLeft(t *Task) bool {
	for _, platform := range t.Platforms {
		if b := a.v.get(bucketPhones, phoneKey(t.Seq, platform)); b != nil {
			rec, err := decodePhone(b)
			must(err)
			if !rec.done {
				return true
			}
		}
	}
	return false
}

// endPhone closes a task's checkpoint on a platform.
func (a *applier) endPhone(seq uint64, platform string) {
	key := phoneKey(seq, platform)
	b := a.v.get(bucketPhones, key)
	if b == nil {
		return
	}
	rec, err := decodePhone(b)
	must(err)
	if rec.done {
		return
	}
	rec.done = true
	a.put(bucketPhones, key, rec.encode())
	a.removeDue(duePhone, 0, key)
	if !rec.retried {
		return // to look for retries is to look at all of them that are in the delta
	}
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
