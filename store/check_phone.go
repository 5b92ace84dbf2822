package store

import (
	"bytes"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// sleepers is who is passed over because of quiet hours.
type sleepers struct {
	blocks *roaring.Bitmap
	last   uint64 // ordinal
}

// sleepers checks who is passed over because of quiet hours. That there is such work, and has been in the block, is seen when the phone work is.
func (c *checker) sleepers(block uint16, of uint64, v []byte, exists *roaring.Bitmap) error {
	got := roaring.New()
	if err := readPending(got, v); err != nil {
		return broken("who is asleep to message %d: %v", of>>8, err)
	}
	if got.IsEmpty() || roaring.AndNot(got, exists).GetCardinality() > 0 {
		return broken("users are asleep to message %d who do not exist, or none", of>>8)
	}
	s := c.asleep[of]
	if s == nil {
		s = &sleepers{blocks: roaring.New()}
		c.asleep[of] = s
	}
	s.blocks.Add(uint32(block))
	s.last = max(s.last, uint64(c.geo.ordinal(block, uint16(got.Maximum()))))
	return nil
}

// phones checks that the phone work of a task is there, and due until it is done.
func (c *checker) phones() error {
	works, tasks := int64(0), int64(0)
	err := c.bucket(bucketPhones).ForEach(func(k, v []byte) error {
		works++
		if len(k) < 8 {
			return broken("phone work %x", k)
		}
		rec, err := decodePhone(v)
		if err != nil {
			return broken("phone work of task %d on %s: %v", be64(k), k[8:], err)
		}
		for _, n := range rec.stats.fields() {
			if *n < 0 {
				return broken("phone work of task %d on %s: the counts %+v", be64(k), k[8:], rec.stats)
			}
		}
		of := bucketMessages
		if rec.recall {
			of = bucketRecalls
		}
		due, live := c.isDue(duePhone, 0, k), c.bucket(of).Get(k[:8]) != nil
		if due == rec.done || due && !live {
			return broken("phone work of task %d on %s: done %v, due %v, message there: %v", be64(k), k[8:], rec.done, due, live)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.bucket(bucketTasks).ForEach(func(k, v []byte) error {
		t, err := decodeTask(be64(k), v)
		if err != nil {
			return err
		}
		for i, platform := range t.Platforms {
			tasks++
			b := c.bucket(bucketPhones).Get(phoneKey(t.Seq, platform))
			if b == nil {
				return broken("task %d has no phone work on %s", t.Seq, platform)
			}
			rec, err := decodePhone(b)
			if err != nil || int(rec.number) != i {
				return broken("phone work of task %d on %s has number %d: %v", t.Seq, platform, rec.number, err)
			}
			asleep := c.asleep[asleepOf(t.Seq, rec.number)]
			if asleep == nil {
				continue
			}
			if other := roaring.AndNot(asleep.blocks, t.blocks); !other.IsEmpty() || rec.done || rec.slept == 0 || asleep.last >= rec.walked() {
				return broken("users are asleep to message %d on %s: done %v, found at %d, up to %d, the next is %d, in blocks that it does not know: %v",
					t.Seq, platform, rec.done, rec.slept, asleep.last, rec.walked(), other)
			}
			delete(c.asleep, asleepOf(t.Seq, rec.number))
		}
		return c.ctx.Err()
	})
	if err != nil {
		return err
	}
	for of := range c.asleep {
		return broken("users are asleep to message %d, which has no platform %d", of>>8, of&0xFF)
	}
	if works != tasks {
		return broken("%d phone works, the tasks have %d", works, tasks)
	}
	return nil
}

// audiences checks that who is in the audience of a task, and who still waited at its end, is known as long as, and only as long as, it is kept, or phones are notified by it.
func (c *checker) audiences() error {
	audience, err := c.sets(bucketAudiences)
	if err != nil {
		return err
	}
	missed, err := c.sets(bucketMissed)
	if err != nil {
		return err
	}
	err = c.bucket(bucketTasks).ForEach(func(k, v []byte) error {
		t, err := decodeTask(be64(k), v)
		if err != nil {
			return err
		}
		p, err := decodeProgress(c.bucket(bucketProgress).Get(k))
		if err != nil {
			return err
		}
		var all, late int64
		recalled := c.bucket(bucketRecalls).Get(k) != nil
		if t.Kept || t.Always && (p.Ended == 0 || recalled) {
			all = p.Total
		}
		if t.Kept && p.Ended != 0 || recalled {
			late = p.Expired + p.Withdrawn
		}
		if audience[t.Seq] != all || missed[t.Seq] != late {
			return broken("task %d notifies or keeps %d users, of which %d are known, and %d whom it missed, of which %d are known", t.Seq, all, audience[t.Seq], late, missed[t.Seq])
		}
		delete(audience, t.Seq)
		delete(missed, t.Seq)
		return c.ctx.Err()
	})
	if err != nil {
		return err
	}
	for seq := range audience {
		return broken("audience of task %d, which does not exist", seq)
	}
	for seq := range missed {
		return broken("whom task %d missed, which does not exist", seq)
	}
	return nil
}

// sets counts the users in sets of tasks.
func (c *checker) sets(b bucket) (map[uint64]int64, error) {
	users := make(map[uint64]int64)
	set := roaring.New()
	return users, c.bucket(b).ForEach(func(k, v []byte) error {
		if len(k) != 10 {
			return broken("audience %x", k)
		}
		if err := readPending(set, v); err != nil {
			return broken("audience of task %d in block %d: %v", be64(k), be16(k[8:]), err)
		}
		users[be64(k)] += int64(set.GetCardinality())
		return c.ctx.Err()
	})
}

// recalls checks that what phones are told is of a task that was withdrawn, and that some are still to be told, until the message would have expired.
func (c *checker) recalls() error {
	return c.bucket(bucketRecalls).ForEach(func(k, v []byte) error {
		t, p, err := c.of("recall", k)
		if err != nil {
			return err
		}
		left := slices.ContainsFunc(t.Platforms, func(platform string) bool { return c.isDue(duePhone, 0, phoneKey(t.Seq, platform)) })
		if p.Reason != Withdrawn || !left || len(v) == 0 || !c.isDue(dueExpire, t.Expires, k) {
			return broken("recall of task %d: it ended for reason %d, phones left: %v, %d bytes, or does not end", t.Seq, p.Reason, left, len(v))
		}
		return c.ctx.Err()
	})
}

// retries checks that what is to be tried again belongs to phone work that is not done.
func (c *checker) retries() error {
	return c.bucket(bucketRetries).ForEach(func(k, v []byte) error {
		const behind = 4 + 16 // ordinal and token hash
		if len(k) < 9+behind || len(k) != 9+int(k[8])+behind {
			return broken("retry %x", k)
		}
		r := reader{b: v}
		attempt, _, _ := r.uvarint(), r.varint(), r.bool()
		if err := r.done(); err != nil || attempt > 1<<32-1 {
			return broken("retry of task %d: attempt %d: %v", be64(k), attempt, err)
		}
		if work := append(bytes.Clone(k[:8]), k[9:len(k)-behind]...); !c.isDue(duePhone, 0, work) {
			return broken("retry of task %d without open phone work", be64(k))
		}
		return nil
	})
}
