package store

import (
	"bytes"
	"slices"
)

// A recall is what phones are told of a message that was withdrawn after they had been notified of it. It goes to whom the notification went, as far as
// they still waited for the message, and lasts until all of them are told, or the message would have expired.

// recalled says whether phones are being told that the message of a task was withdrawn.
func (a *applier) recalled(seq uint64) bool { return a.v.get(bucketRecalls, key64(seq)) != nil }

// beginRecall begins to tell the phones of a task that was just withdrawn: on the platforms on which some were notified, or may be just now.
func (a *applier) beginRecall(t *Task, now []string) {
	var to []string
	for _, platform := range t.Platforms {
		rec, known := a.v.phone(t.Seq, platform)
		if !known {
			continue
		}
		if rec.next == 0 && !slices.Contains(now, platform) {
			a.endPhone(t.Seq, platform)
			continue
		}
		if rec.retried {
			a.dropRetries(t.Seq, platform)
		}
		rec.recall, rec.all, rec.until, rec.next, rec.done, rec.retried = true, t.Always, rec.next, 0, false, false
		key := phoneKey(t.Seq, platform)
		a.put(bucketPhones, key, rec.encode())
		a.addDue(duePhone, 0, key)
		to = append(to, platform)
	}
	if len(to) == 0 {
		a.dropRecall(t)
		return
	}
	m := t.recall(bytes.Clone(a.v.get(bucketRecalls, key64(t.Seq))))
	a.tell(func(o Observer) { o.Recalled(m, to) })
}

// dropRecall ends a recall, wherever it is under way.
func (a *applier) dropRecall(t *Task) {
	key := key64(t.Seq)
	a.remove(bucketRecalls, key)
	a.removeDue(dueExpire, t.Expires, key)
	for _, platform := range t.Platforms {
		a.endPhone(t.Seq, platform)
	}
	if !t.Kept {
		a.dropSets(t)
	}
	a.tell(func(o Observer) { o.Ended(t.Seq, Completed) })
}

// recall is what is sent when the message of a task was withdrawn.
func (t *Task) recall(note []byte) *Message {
	return &Message{Seq: t.Seq, Random: t.Random, From: t.From, Note: note, Accepted: t.Accepted, Expires: t.Expires}
}

// Recall returns what phones are told of a message that was withdrawn, nil if they are told nothing any more.
func (s *Store) Recall(seq uint64) (m *Message, err error) {
	err = s.withView(func(v *view) error {
		note, b := v.get(bucketRecalls, key64(seq)), v.get(bucketTasks, key64(seq))
		if note == nil || b == nil {
			return nil
		}
		t, err := decodeTask(seq, b)
		if err == nil {
			m = t.recall(bytes.Clone(note))
		}
		return err
	})
	return m, err
}

// endRecall ends a recall that is not done when the message would have expired.
func (a *applier) endRecall(c *End) error {
	if c.Reason != Expired || !a.recalled(c.Seq) {
		return nil
	}
	if t := a.task(c.Seq); t != nil && t.Expires <= a.st.now {
		a.dropRecall(t)
	}
	return nil
}
