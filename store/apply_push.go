package store

import (
	"bytes"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"
)

// PushResult is the result of a [Push].
type PushResult struct {
	Seq, Random       uint64 // see [MessageID]
	Accepted, Expires int64  // milliseconds since 1970
	Total             int64  // users of the audience
	Skipped           int64  // left out of it: they have opted out, or have had enough
	Duplicate         bool   // the key was known: this is the earlier task
}

// push accepts a message: the audience is evaluated here, in the one place that sees
// a single instant of all blocks, and frozen.
func (a *applier) push(c *Push) (any, error) {
	r, err := a.pushPart(c, planPart{})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// pushPart does it for a part of a plan. One that takes nobody is no push: its result is zero.
func (a *applier) pushPart(c *Push, part planPart) (r PushResult, err error) {
	var key []byte
	if c.Key != "" {
		key = keyKey(c.From, c.Key)
		if old, dup, err := a.known(key, c); dup || err != nil {
			return old, err
		}
	}
	if len(c.Category) > 255 {
		return r, &LimitError{What: "category in bytes", Limit: 255, Got: int64(len(c.Category))}
	}
	if len(c.Platforms) > maxPlatforms {
		return r, &LimitError{What: "platforms", Limit: maxPlatforms, Got: int64(len(c.Platforms))}
	}
	for _, platform := range c.Platforms {
		if len(platform) > 255 { // keys of retries have its length in a byte
			return r, &LimitError{What: "platform in bytes", Limit: 255, Got: int64(len(platform))}
		}
	}
	var audience []audienceSet
	if part.take {
		audience, err = a.take(c.To, part, c.Lifetime > 0)
	} else {
		audience, err = a.evaluate(c.To, c.Lifetime > 0)
	}
	if err != nil || part.take && len(audience) == 0 {
		return r, err
	}
	audience, out := a.optedOut(c, audience)
	audience, capped := a.capped(c, audience)
	seq, now := a.st.nextSeq, a.st.now
	a.st.nextSeq++
	t := &Task{
		Seq: seq, Random: c.Random, From: c.From, Key: c.Key, To: c.To,
		Accepted: now, Expires: now + c.Lifetime, Plan: part.plan, Part: part.name, Category: c.Category, blocks: roaring.New(),
	}
	p := &Progress{Capped: capped, OptedOut: out, sampleAt: now + sampleEvery}
	blocks := make([]BlockSet, len(audience))
	for i := range audience {
		blocks[i] = audience[i].BlockSet
		p.Total += int64(audience[i].n)
	}
	m := &Message{Seq: seq, Random: c.Random, From: c.From, Body: slices.Clone(c.Body), Note: slices.Clone(c.Note), Fill: c.Fill, Accepted: now, Expires: t.Expires}
	r = PushResult{Seq: seq, Random: c.Random, Accepted: now, Expires: t.Expires, Total: p.Total, Skipped: capped + out}
	id := key64(seq)
	if key != nil {
		if b := a.v.get(bucketKeys, key); b != nil { // past its time: this push has the key from now on
			old, err := decodeKey(b)
			must(err)
			a.removeDue(dueKey, old.at+KeyRetention.Milliseconds(), key)
		}
		a.put(bucketKeys, key, (&keyRecord{seq: seq, at: now, hash: c.Hash}).encode())
		a.addDue(dueKey, now+KeyRetention.Milliseconds(), key)
	}
	switch {
	case p.Total == 0:
		p.Ended, p.Reason = now, Completed
		a.addDue(dueForget, now+TaskRetention.Milliseconds(), id)
	case c.Lifetime == 0:
		a.addDue(dueOnline, 0, id)
	default:
		a.retain(t, m, c, audience)
		p.Pending = p.Total
	}
	a.put(bucketTasks, id, t.encode())
	if t.Plan != 0 {
		a.put(bucketPlanTasks, planTaskKey(t.Plan, seq), []byte{})
	}
	a.setProgress(seq, p)
	over := *p
	a.tell(func(o Observer) {
		o.Accepted(t, m, blocks)
		if over.Ended != 0 {
			o.Finished(seq, over)
		}
	})
	return r, nil
}

// evaluate compiles and evaluates an audience.
func (a *applier) evaluate(to *Expr, retained bool) ([]audienceSet, error) {
	prog, err := compile(to, a.v, a.st, a.st.now)
	if err != nil {
		return nil, err
	}
	audience, err := a.freeze(prog, retained)
	if err != nil {
		// Only a damaged page can do this; refusing the push is an answer that depends on
		// more than state and command, so the store stops rather than drift.
		panic(&FormatError{What: "posting", Detail: err.Error()})
	}
	return audience, nil
}

// known answers a push whose key was used before.
func (a *applier) known(key []byte, c *Push) (r PushResult, dup bool, err error) {
	b := a.v.get(bucketKeys, key)
	if b == nil {
		return r, false, nil
	}
	k, err := decodeKey(b)
	must(err)
	if k.at+KeyRetention.Milliseconds() <= a.st.now {
		return r, false, nil // past its time, and not yet forgotten
	}
	if k.hash != c.Hash {
		return r, false, ErrKeyReused
	}
	t := a.task(k.seq)
	if t == nil { // tasks are kept longer than keys
		panic(&FormatError{What: "key", Detail: "without its task"})
	}
	p := a.progress(k.seq)
	return PushResult{Seq: t.Seq, Random: t.Random, Accepted: t.Accepted, Expires: t.Expires, Total: p.Total, Duplicate: true}, true, nil
}

// retain keeps the message and who waits for it.
func (a *applier) retain(t *Task, m *Message, c *Push, audience []audienceSet) {
	id := key64(t.Seq)
	for i := range audience {
		b := &audience[i]
		t.blocks.Add(uint32(b.Block))
		a.d.digest.words(b.n)
		a.d.updatePending(b.Block, t.Seq, func(e *bits) { *e = bits{raw: b.raw, gone: true, charged: e.charged} })
	}
	t.blocks.RunOptimize()
	a.put(bucketMessages, id, m.encode())
	a.addDue(dueExpire, t.Expires, id)
	t.Kept = c.Keep
	if len(m.Note) > 0 {
		t.Platforms, t.Always = c.Platforms, c.Always && len(c.Platforms) > 0
	}
	for i, platform := range t.Platforms {
		a.put(bucketPhones, phoneKey(t.Seq, platform), (&phoneRecord{number: byte(i)}).encode())
		a.addDue(duePhone, 0, phoneKey(t.Seq, platform))
	}
	if t.Always || t.Kept {
		for i := range audience {
			a.put(bucketAudiences, audienceKey(t.Seq, audience[i].Block), packedBytes(audience[i].raw))
		}
	}
}

// audienceSet is an audience in a block.
type audienceSet struct {
	BlockSet        // without retention
	raw      []byte // else
	n        uint64
}

// freeze evaluates the audience of every block, in parallel, and returns the
// blocks that have members, in order.
func (a *applier) freeze(prog *program, retained bool) ([]audienceSet, error) {
	g := a.s.geo
	var mu sync.Mutex
	var out []audienceSet
	blocks := prog.blocks(g, a.st.nextOrdinal)
	if prog.op == OpAll && retained {
		out = make([]audienceSet, 0, len(blocks))
		blocks = slices.DeleteFunc(blocks, func(block uint16) bool {
			a.v.parsed = 0
			set, asStored := a.v.everyone(block)
			if set.n > 0 {
				out = append(out, audienceSet{BlockSet: BlockSet{Block: block}, raw: set.raw, n: set.n})
			}
			return asStored
		})
		if len(blocks) == 0 {
			return out, nil
		}
	}
	// The evaluation opens views of its own. One that opens while its own goroutine holds
	// another could wait for ever behind a writer that waits for the other to end.
	a.v.close()
	err := a.s.eachBlock(blocks, workers(), func(v *view, block uint16) error {
		r := prog.eval(v, g, block)
		if r.set == nil || r.set.IsEmpty() {
			return nil
		}
		if r.owned { // else it is as the file has it, which is optimised
			r.set.RunOptimize()
		}
		m := audienceSet{BlockSet: BlockSet{Block: block}, n: r.set.GetCardinality()}
		switch {
		case retained && r.raw != nil:
			m.raw = bytes.Clone(r.raw)
		case retained:
			m.raw = bitmapBytes(r.set)
		case r.owned:
			// What comes out shares no container with the file: roaring's operations take
			// over whole containers of their operands where they can.
			r.set.CloneCopyOnWriteContainers()
			m.Low = r.set
		default:
			m.Low = r.set.Clone()
		}
		mu.Lock()
		out = append(out, m)
		mu.Unlock()
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(x, y audienceSet) int { return int(x.Block) - int(y.Block) })
	a.v, err = a.s.view()
	return out, err
}

// live returns the progress of a task that still has a message to deliver, nil for others.
func (a *applier) live(seq uint64) *Progress {
	if p := a.progress(seq); p != nil && p.Ended == 0 {
		return p
	}
	return nil
}

// received clears the bits that are still set and counts only those. Its
// result is the set of them.
func (a *applier) received(c *Received, acked bool) (any, error) {
	cleared := roaring.New()
	if a.live(c.Seq) == nil {
		return cleared, nil
	}
	if c.Bits.GetCardinality() <= fewBits { // to parse the whole set takes longer than to look for dozens
		for it := c.Bits.Iterator(); it.HasNext(); {
			if low := it.Next(); a.v.waits(c.Block, uint16(low), c.Seq) {
				cleared.Add(low)
			}
		}
	} else if pending := a.v.pending(c.Block, c.Seq); pending != nil {
		cleared = roaring.And(pending, c.Bits)
	}
	n := int64(cleared.GetCardinality())
	if n == 0 {
		return cleared, nil
	}
	a.d.updatePending(c.Block, c.Seq, func(b *bits) { b.removeAll(cleared) })
	a.d.digest.words(uint64(n))
	a.tell(func(o Observer) { o.Received(c.Seq, c.Block, cleared, acked) })
	a.lessPending(c.Seq, n, func(p *Progress) *int64 { return &p.Delivered })
	return cleared, nil
}

// caughtUp clears one user's bits; the result is the number of those that were set.
func (a *applier) caughtUp(c *CaughtUp, acked bool) (any, error) {
	g := a.s.geo
	block, low := g.block(c.Ordinal), g.low(c.Ordinal)
	var cleared []uint64
	ordinal := c.Ordinal
	for _, seq := range c.Seqs {
		if a.v.waits(block, low, seq) {
			if len(cleared) == 0 { // in front of the ends that it brings about
				a.tell(func(o Observer) { o.CaughtUp(ordinal, cleared, acked) })
			}
			a.d.updatePending(block, seq, func(b *bits) { b.remove(low) })
			a.d.digest.words(uint64(low))
			a.lessPending(seq, 1, func(p *Progress) *int64 { return &p.Delivered })
			cleared = append(cleared, seq)
		}
	}
	return len(cleared), nil
}

// opened notes who has opened a message and had not before. Its result is the set of them. Whoever is asked about
// is somebody whom the caller has just found known, so that their records are at hand.
func (a *applier) opened(c *Opened) (any, error) {
	p := a.progress(c.Seq)
	if p == nil {
		return nil, ErrUnknownTask // forgotten meanwhile
	}
	fresh := roaring.New()
	for it := c.Bits.Iterator(); it.HasNext(); {
		low := uint16(it.Next())
		if !a.v.opened(c.Block, low, c.Seq) && a.v.blockRecord(kindUser, c.Block, low) != nil {
			fresh.Add(uint32(low))
		}
	}
	if fresh.IsEmpty() {
		return fresh, nil
	}
	a.d.update(kindOpener, c.Block, c.Seq, func(b *bits) { b.addMany(fresh.ToArray()) })
	p.Opened += int64(fresh.GetCardinality())
	a.tell(func(o Observer) { o.Opened(c.Seq, c.Block, fresh) })
	return fresh, nil
}

// dropOpened forgets who has opened a message. Anybody may have, so each block is looked at.
func (a *applier) dropOpened(seq uint64) {
	for block := range a.s.geo.blocks(a.st.nextOrdinal) {
		if a.v.parsed = 0; a.v.ofMessage(kindOpener, uint16(block), seq) != nil {
			a.d.update(kindOpener, uint16(block), seq, (*bits).drop)
		}
	}
}

// onlineDone ends a push with lifetime 0. Whoever it did not reach was not there in time.
func (a *applier) onlineDone(c *OnlineDone) error {
	p := a.live(c.Seq)
	if p == nil || p.Pending > 0 || a.task(c.Seq).retained() { // a retained one ends otherwise
		return nil
	}
	p.addOnline(c.Delivered, c.Failed)
	p.Expired = p.Total - p.Delivered - p.Failed
	a.finish(c.Seq, p, Completed)
	return nil
}

// onlinePart adds what came of such a push on one node.
func (a *applier) onlinePart(c *OnlinePart) error {
	if p := a.live(c.Seq); p != nil && p.Pending == 0 && !a.task(c.Seq).retained() {
		p.addOnline(c.Delivered, c.Failed)
	}
	seq := c.Seq
	a.tell(func(o Observer) { o.OnlinePart(seq) })
	return nil
}

// addOnline adds an outcome. A user with connections to two nodes is in those of both, so that there may be more than the task has users.
func (p *Progress) addOnline(delivered, failed uint64) {
	p.Delivered = min(p.Delivered+int64(min(delivered, 1<<32)), p.Total)
	p.Failed = min(p.Failed+int64(min(failed, 1<<32)), p.Total-p.Delivered)
}

// end expires or withdraws a task; the result says whether it did.
func (a *applier) end(c *End) (any, error) {
	p := a.live(c.Seq)
	if p == nil {
		return false, a.endRecall(c)
	}
	t := a.task(c.Seq)
	if c.Reason == Expired && (t.Expires > a.st.now || !t.retained()) {
		return false, nil
	}
	if !t.retained() {
		// Lifetime 0: the lanes stop, and OnlineDone ends the task with its counts.
		seq := c.Seq
		a.tell(func(o Observer) { o.Ended(seq, Withdrawn) })
		return true, nil
	}
	if c.Reason == Expired {
		p.Expired += p.Pending
	} else {
		p.Withdrawn += p.Pending
	}
	recall := c.Reason == Withdrawn && len(c.Note) > 0 && len(t.Platforms) > 0
	if recall {
		a.put(bucketRecalls, key64(t.Seq), bytes.Clone(c.Note))
	}
	p.Pending = 0
	a.finish(c.Seq, p, c.Reason)
	if recall {
		a.beginRecall(t, c.Notifying)
	}
	return true, nil
}

// forget drops what is due. A due entry that is not there, or not due yet, does nothing.
func (a *applier) forget(c *Forget) error {
	for _, due := range c.Due {
		if len(due) < 9 || a.v.get(bucketDue, due) == nil {
			continue
		}
		at, what := int64(be64(due[1:9])), due[9:]
		if at > a.st.now {
			continue
		}
		switch due[0] {
		case dueForget:
			t := a.task(be64(what))
			if t != nil && a.recalled(t.Seq) { // with a lifetime beyond the retention
				a.dropRecall(t)
			}
			if t != nil && t.Kept {
				a.dropSets(t)
			}
			if p := a.progress(be64(what)); p != nil && p.Opened > 0 {
				a.dropOpened(be64(what))
			}
			a.remove(bucketTasks, what)
			a.remove(bucketHistory, what)
			a.setProgress(be64(what), nil)
			if t != nil {
				for _, platform := range t.Platforms {
					a.remove(bucketPhones, phoneKey(t.Seq, platform))
				}
				if t.Plan != 0 {
					a.remove(bucketPlanTasks, planTaskKey(t.Plan, t.Seq))
				}
			}
		case dueKey:
			a.remove(bucketKeys, what)
		case dueCaps:
			a.forgetCaps(what)
		case dueForgetPlan:
			if p := a.v.plan(be64(what)); p != nil && p.Key != "" {
				a.remove(bucketPlanKeys, keyKey("", p.Key))
			}
			a.remove(bucketPlans, what)
		default:
			continue
		}
		a.remove(bucketDue, due)
	}
	return nil
}
