package store

import (
	"bytes"
	"fmt"
	"maps"

	"github.com/RoaringBitmap/roaring/v2"
)

// Observer is told what was applied, by the committer, in order, after the
// group is durable and before its callers are answered. It must not block,
// propose, or change what it is given. Replay at Open tells nothing.
type Observer interface {
	// Accepted: a push. Audience has the blocks with members, of which there may be none, and of a push without retention
	// who they are; of a retained one they are pending now.
	Accepted(t *Task, m *Message, audience []BlockSet)
	// Began: what is told from here on comes of a record of a proposer, this store or, by a log, another.
	Began(proposer uint64, own bool)
	// Received: users who no longer wait for a message, because they have acknowledged it, or because it was delivered to them.
	Received(seq uint64, block uint16, low *roaring.Bitmap, acked bool)
	// CaughtUp: one user no longer waits for the messages, for the same reasons.
	CaughtUp(ordinal uint32, seqs []uint64, acked bool)
	// OnlinePart: a node is done with a message without retention.
	OnlinePart(seq uint64)
	// Planned: a plan was made, or has moved.
	Planned()
	// Ended: nobody is to get the message any more. It is told again, as [Completed], when no phone is to be told any more that it was withdrawn.
	Ended(seq uint64, r Reason)
	// Recalled: the message was withdrawn, and phones are to be told on these platforms. It is told behind Finished.
	Recalled(m *Message, platforms []string)
	// Finished: the task is over, with these counts. It is told once, behind Ended; of an audience of nobody behind Accepted.
	Finished(seq uint64, p Progress)
	// Opened: users who have opened a message, for the first time each.
	Opened(seq uint64, block uint16, low *roaring.Bitmap)
	// Unregistered: the user is gone, and waited for the messages.
	Unregistered(ordinal uint32, seqs []uint64)
}

// BlockSet is a set of users of one block; nil for those who are pending there.
type BlockSet struct {
	Block uint16
	Low   *roaring.Bitmap
}

// applier makes the state from commands. It consults the state and the command
// and nothing else: no clock, no randomness, no option, no map order.
type applier struct {
	s      *Store
	st     *state
	d      *delta
	v      *view
	events []func(Observer)
	// What the record's commands have made of the progress of tasks: many commands of a record touch the same
	// few tasks, whose progress is written once, behind the last of them.
	counts map[uint64]*Progress
}

func (a *applier) tell(f func(Observer)) { a.events = append(a.events, f) }

// apply carries out one command. An error means that nothing has changed; it
// is the command's result.
func (a *applier) apply(c Command) (any, error) {
	a.v.parsed = 0 // nothing of the command before is looked at any more
	switch c := c.(type) {
	case *Batch:
		return a.batch(c)
	case *SetNames:
		return nil, a.setNames(c)
	case *SetLimits:
		a.st.limits = c.Limits
		return nil, nil
	case *Push:
		return a.push(c)
	case *Received:
		return a.received(c, true)
	case *Delivered:
		return a.received((*Received)(c), false)
	case *CaughtUp:
		return a.caughtUp(c, false)
	case *Acked:
		return a.caughtUp((*CaughtUp)(c), true)
	case *OnlinePart:
		return nil, a.onlinePart(c)
	case *OnlineDone:
		return nil, a.onlineDone(c)
	case *End:
		return a.end(c)
	case *Forget:
		return nil, a.forget(c)
	case *Checkpoint:
		return nil, a.checkpoint(c)
	case *PlanStep:
		return a.planStep(c)
	case *SetTypes:
		return nil, a.setTypes(c)
	case *Save:
		return nil, a.save(c)
	case *Opened:
		return a.opened(c)
	}
	panic("fanfare: command without apply")
}

// setNames refuses a name that would stand for two slots.
func (a *applier) setNames(c *SetNames) error {
	next := maps.Clone(a.st.names)
	for _, n := range c.Names {
		if n.Name == "" {
			delete(next, n.Slot)
		} else {
			next[n.Slot] = n.Name
		}
	}
	seen := make(map[string]uint8, len(next))
	for _, slot := range sortedSlots(next) {
		if other, twice := seen[next[slot]]; twice {
			return &DuplicateNameError{Name: next[slot], Slots: [2]int{int(other), int(slot)}}
		}
		seen[next[slot]] = slot
	}
	a.st.setNames(next)
	return nil
}

// TypeInUseError says that a slot whose type is to change has values.
type TypeInUseError struct {
	Slot     int      // of the attribute
	Name     string   // of the attribute; may be empty
	Have     AttrType // of the values that there are
	Declared AttrType // which was refused
}

// Error says which attribute it is, and both types.
func (e *TypeInUseError) Error() string {
	return fmt.Sprintf("fanfare: attribute %q, slot %d, is %s and not %s, and there are users with a value of it", e.Name, e.Slot, e.Have, e.Declared)
}

// setTypes refuses another type for a slot that anybody has a value of.
func (a *applier) setTypes(c *SetTypes) error {
	next := maps.Clone(a.st.types)
	if next == nil {
		next = make(map[uint8]AttrType, len(c.Types))
	}
	for _, t := range c.Types {
		if next[t.Slot] == t.Type {
			continue
		}
		if _, has := a.v.factNumber(appendHasFact(nil, t.Slot)); has {
			return &TypeInUseError{Slot: int(t.Slot), Name: a.st.names[t.Slot], Have: next[t.Slot], Declared: t.Type}
		}
		if next[t.Slot] = t.Type; t.Type == TextType {
			delete(next, t.Slot)
		}
	}
	a.st.types = next
	return nil
}

// save keeps an audience under a name. What it names need not be there: that is seen when it is used.
func (a *applier) save(c *Save) error {
	switch {
	case c.To != nil:
		var w writer
		c.To.encode(&w)
		a.put(bucketSaved, []byte(c.Name), w.b)
	case a.v.get(bucketSaved, []byte(c.Name)) == nil:
		return ErrUnknownAudience
	default:
		a.remove(bucketSaved, []byte(c.Name))
	}
	return nil
}

func (a *applier) put(b bucket, key, value []byte) { a.d.put(b, string(key), value) }
func (a *applier) remove(b bucket, key []byte)     { a.d.put(b, string(key), nil) }

// addDue notes something to be done at a time.
func (a *applier) addDue(kind byte, at int64, what []byte) {
	a.put(bucketDue, dueKeyOf(kind, at, what), []byte{})
}

func (a *applier) removeDue(kind byte, at int64, what []byte) {
	a.remove(bucketDue, dueKeyOf(kind, at, what))
}

// progress returns the progress of a task, to be changed in place; nil if there is no such task.
func (a *applier) progress(seq uint64) *Progress {
	if p, known := a.counts[seq]; known {
		return p
	}
	b := a.v.get(bucketProgress, key64(seq))
	if b == nil {
		return nil
	}
	p, err := decodeProgress(b)
	must(err)
	a.setProgress(seq, &p)
	return &p
}

// setProgress gives a task its first progress, or takes it away.
func (a *applier) setProgress(seq uint64, p *Progress) {
	if a.counts == nil {
		a.counts = make(map[uint64]*Progress)
	}
	a.counts[seq] = p
}

// flushProgress writes what the record has changed.
func (a *applier) flushProgress() {
	for _, seq := range sortedKeys(a.counts) {
		if p := a.counts[seq]; p == nil {
			a.remove(bucketProgress, key64(seq))
		} else {
			a.sample(seq, p)
			a.put(bucketProgress, key64(seq), p.encode())
		}
	}
	a.counts = nil
}

func (a *applier) task(seq uint64) *Task {
	b := a.v.get(bucketTasks, key64(seq))
	if b == nil {
		return nil
	}
	t, err := decodeTask(seq, b)
	must(err)
	return t
}

// must panics with a FormatError when a record of the store itself does not
// decode: that is damage, which the caller of apply or of a view turns into an error.
func must(err error) {
	if err == nil {
		return
	}
	if f, ok := err.(*FormatError); ok {
		panic(f)
	}
	panic(&FormatError{What: "record", Detail: err.Error()})
}

// lessPending settles count users of a task who no longer wait, and completes the
// task when they were the last.
func (a *applier) lessPending(seq uint64, count int64, to func(*Progress) *int64) {
	if count == 0 {
		return
	}
	p := a.progress(seq)
	if p == nil {
		return
	}
	p.Pending -= count
	*to(p) += count
	if p.Pending == 0 && !a.notifying(seq) {
		a.finish(seq, p, Completed)
	}
}

// finish ends a task whose progress is p, and drops what only a live one needs.
func (a *applier) finish(seq uint64, p *Progress, r Reason) {
	p.Ended, p.Reason, p.sampleAt = a.st.now, r, 0
	t := a.task(seq)
	if t == nil {
		return
	}
	key := key64(seq)
	recalled := a.recalled(seq)
	a.remove(bucketMessages, key)
	if recalled {
		// which ends at the expiry, if not before
	} else if t.Expires > t.Accepted {
		a.removeDue(dueExpire, t.Expires, key)
	} else {
		a.removeDue(dueOnline, 0, key)
	}
	a.addDue(dueForget, a.st.now+TaskRetention.Milliseconds(), key)
	for _, platform := range t.Platforms {
		if !recalled {
			a.endPhone(seq, platform)
		}
	}
	it := t.blocks.Iterator()
	for it.HasNext() {
		block := uint16(it.Next())
		if t.Kept || recalled {
			a.keepMissed(seq, block)
		}
		a.d.updatePending(block, seq, (*bits).drop)
	}
	if t.Always && !t.Kept && !recalled {
		a.dropSets(t)
	}
	over := *p
	a.tell(func(o Observer) {
		o.Ended(seq, r)
		o.Finished(seq, over)
	})
}

// keepMissed notes who of a block still waits for a message that ends.
func (a *applier) keepMissed(seq uint64, block uint16) {
	a.v.parsed = 0
	of := a.v.container(messageKey(block, kindPending, seq), func(b *blockDelta) *bits { return b.of(kindPending).of(seq) })
	switch {
	case of.set == nil:
	case of.owned:
		of.set.RunOptimize()
		a.put(bucketMissed, audienceKey(seq, block), packedBytes(bitmapBytes(of.set)))
	default:
		a.put(bucketMissed, audienceKey(seq, block), bytes.Clone(of.raw))
	}
}

// dropSets forgets who was in the audience of a task, and whom its message has not reached.
func (a *applier) dropSets(t *Task) {
	for it := t.blocks.Iterator(); it.HasNext(); {
		key := audienceKey(t.Seq, uint16(it.Next()))
		for _, b := range [...]bucket{bucketAudiences, bucketMissed} {
			if a.v.get(b, key) != nil {
				a.remove(b, key)
			}
		}
	}
}

// after returns the first key behind all that have the prefix, nil for the end.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// addCount changes the number of users of a fact and drops the fact when nobody has it.
func (a *applier) addCount(fact uint32, by int64) {
	key := key32(fact)
	count := by
	if b := a.v.get(bucketCounts, key); b != nil {
		count += int64(be64(b))
	}
	if count > 0 {
		a.put(bucketCounts, key, key64(uint64(count)))
		return
	}
	a.remove(bucketCounts, key)
	if name := a.v.get(bucketNames, key); name != nil {
		a.remove(bucketFacts, append([]byte(nil), name...))
	}
	a.remove(bucketNames, key)
}
