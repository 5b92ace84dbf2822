package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
)

// Check folds everything and verifies each invariant of the file: that every posting
// agrees with the user records, that every pending bit belongs to a known user
// and a live task, that indexes agree both ways, and that counters count what is there.
// The first violation is returned. Memory grows with the number of facts and of live
// tasks, not of users. The fold waits meanwhile; everything else goes on.
func (s *Store) Check(ctx context.Context) (err error) {
	defer guardFaults("check", &err)()
	ctx, over := s.untilClose(ctx)
	defer over(&err)
	if err := s.Checkpoint(ctx); err != nil {
		return err
	}
	return s.withBlocks(func(tx *bbolt.Tx) error {
		c := &checker{ctx: ctx, path: filepath.Join(s.dir, blocksFile), geo: s.geo, tx: tx, counts: make(map[uint32]int64), pending: make(map[uint64]int64)}
		for _, f := range []func() error{c.pages, c.state, c.facts, c.blocks, c.totals, c.tasks, c.phones} {
			if err := f(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Digest folds everything and returns a hash of the state: of all that the file
// keeps but the ID, position and proposer of the log it came through. Two stores that applied the
// same commands have the same.
func (s *Store) Digest(ctx context.Context) (sum [32]byte, err error) {
	defer guardFaults("digest", &err)()
	if err := s.Checkpoint(ctx); err != nil {
		return sum, err
	}
	h := sha256.New()
	err = s.withBlocks(func(tx *bbolt.Tx) error {
		for b := range bucketName {
			var w writer
			err := tx.Bucket(bucketName[b]).ForEach(func(k, v []byte) error {
				w.b = w.b[:0]
				w.byte(byte(b))
				w.bytes(k)
				w.bytes(v)
				_, err := h.Write(w.b)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	h.Sum(sum[:0])
	return sum, err
}

type checker struct {
	ctx     context.Context
	path    string
	geo     geometry
	tx      *bbolt.Tx
	st      state
	counts  map[uint32]int64 // users of a fact, from the user records
	pending map[uint64]int64 // users who wait, from the containers
	users   int64
	tokens  int64
}

func broken(format string, args ...any) error {
	return &FormatError{What: blocksFile, Detail: fmt.Sprintf(format, args...)}
}

func (c *checker) bucket(b bucket) *bbolt.Bucket { return c.tx.Bucket(bucketName[b]) }

// pages checks the tree of pages, and that every page is used or free. It comes first: the
// others follow the tree, and one that leads back to itself would never end.
func (c *checker) pages() error {
	if err := walkBolt(c.path); err != nil {
		return err
	}
	return c.ctx.Err()
}

func (c *checker) state() (err error) {
	c.st, err = decodeState(c.bucket(bucketState).Get(stateKey), c.geo)
	return err
}

// facts checks that names and numbers of facts agree both ways.
func (c *checker) facts() error {
	names, facts := 0, 0
	err := c.bucket(bucketNames).ForEach(func(k, name []byte) error {
		names++
		if n := c.bucket(bucketFacts).Get(name); !bytes.Equal(n, k) {
			return broken("fact %d is named %q, which is fact %x", be32(k), name, n)
		}
		if n := be32(k); n >= c.st.nextFact || n == existsFact {
			return broken("fact number %d was never given", n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.bucket(bucketFacts).ForEach(func(k, _ []byte) error { facts++; return nil })
	if err == nil && names != facts {
		err = broken("%d fact names, %d facts", names, facts)
	}
	return err
}

func (c *checker) blocks() error {
	for block := range c.geo.blocks(c.st.nextOrdinal) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.block(uint16(block)); err != nil {
			return fmt.Errorf("block %d: %w", block, err)
		}
	}
	// Nothing may stand behind the last block.
	last := c.geo.blocks(c.st.nextOrdinal)
	if last < 1<<16 {
		if k, _ := c.bucket(bucketBlocks).Cursor().Seek(blockKey(uint16(last), 0)); k != nil {
			return broken("key %x of a block that does not exist", k)
		}
	}
	return nil
}

// block rebuilds the block's postings from its user records and compares.
func (c *checker) block(block uint16) error {
	want := map[uint32]*roaring.Bitmap{}
	add := func(fact uint32, low uint16) {
		if want[fact] == nil {
			want[fact] = roaring.New()
		}
		want[fact].Add(uint32(low))
	}
	cur := c.bucket(bucketBlocks).Cursor()
	err := prefixed(cur, blockKey(block, kindUser), func(k, v []byte) error {
		low := uint16(k[3])<<8 | uint16(k[4])
		return c.user(block, low, v, add)
	})
	if err != nil {
		return err
	}
	err = prefixed(cur, blockKey(block, kindDevice), func(k, v []byte) error {
		low := uint16(k[3])<<8 | uint16(k[4])
		if e := want[existsFact]; e == nil || !e.Contains(uint32(low)) {
			return broken("devices of user %d, who does not exist", low)
		}
		return c.devices(block, low, v, add)
	})
	if err != nil {
		return err
	}
	seen := 0
	err = prefixed(cur, blockKey(block, kindFact), func(k, v []byte) error {
		fact, got := be32(k[3:]), roaring.New()
		if err := readBitmap(got, v); err != nil {
			return broken("posting of fact %d: %v", fact, err)
		}
		if want[fact] == nil || !want[fact].Equals(got) {
			return broken("posting of fact %d does not agree with the users: %v, not %v", fact, got, want[fact])
		}
		seen++
		if fact != existsFact {
			c.counts[fact] += int64(got.GetCardinality())
		}
		return nil
	})
	if err != nil {
		return err
	}
	if seen != len(want) {
		return broken("%d postings, the users have %d facts", seen, len(want))
	}
	return prefixed(cur, blockKey(block, kindPending), func(k, v []byte) error {
		seq, got := be64(k[3:]), roaring.New()
		if err := readBitmap(got, v); err != nil {
			return broken("pending of message %d: %v", seq, err)
		}
		if e := want[existsFact]; got.IsEmpty() || e == nil || roaring.AndNot(got, e).GetCardinality() > 0 {
			return broken("pending of message %d has users who do not exist, or none", seq)
		}
		c.pending[seq] += int64(got.GetCardinality())
		return nil
	})
}

func (c *checker) user(block, low uint16, v []byte, add func(uint32, uint16)) error {
	u, err := decodeUser(v)
	if err != nil {
		return err
	}
	ord := c.geo.ordinal(block, low)
	if id := c.bucket(bucketIDs).Get([]byte(u.id)); len(id) != 4 || be32(id) != ord {
		return broken("user %q has ordinal %d, its ID leads to %x", u.id, ord, id)
	}
	if uint64(ord) >= c.st.nextOrdinal {
		return broken("ordinal %d was never given", ord)
	}
	c.users++
	add(existsFact, low)
	for i, a := range u.attrs {
		name := c.bucket(bucketNames).Get(key32(a.fact))
		if len(name) < 2 || name[0] != factAttr || name[1] != a.slot || i > 0 && u.attrs[i-1].slot >= a.slot {
			return broken("user %q: attribute slot %d has fact %d, which is %q", u.id, a.slot, a.fact, name)
		}
		add(a.fact, low)
	}
	if !slices.IsSorted(u.tags) {
		return broken("user %q: tags out of order", u.id)
	}
	for _, t := range u.tags {
		if name := c.bucket(bucketNames).Get(key32(t)); len(name) < 1 || name[0] != factTag {
			return broken("user %q: tag has fact %d, which is %q", u.id, t, name)
		}
		add(t, low)
	}
	return nil
}

func (c *checker) devices(block, low uint16, v []byte, add func(uint32, uint16)) error {
	devices, err := decodeDevices(v)
	if err != nil {
		return err
	}
	ord := c.geo.ordinal(block, low)
	for _, d := range devices {
		h := HashToken(d.Platform, d.Token)
		if o := c.bucket(bucketTokens).Get(h[:]); len(o) != 4 || be32(o) != ord {
			return broken("a token of ordinal %d leads to %x", ord, o)
		}
		c.tokens++
	}
	for _, p := range platformsOf(devices) {
		n := c.bucket(bucketFacts).Get([]byte(platformFactKey(p)))
		if len(n) != 4 {
			return broken("platform %q of ordinal %d has no fact", p, ord)
		}
		add(be32(n), low)
	}
	return nil
}

// totals compares what the blocks added up to with the indexes.
func (c *checker) totals() error {
	for _, x := range []struct {
		what string
		b    bucket
		want int64
	}{
		{"user IDs", bucketIDs, c.users}, {"tokens", bucketTokens, c.tokens},
		{"fact counts", bucketCounts, int64(len(c.counts))}, {"facts", bucketFacts, int64(len(c.counts))},
	} {
		n := int64(0)
		err := c.bucket(x.b).ForEach(func(_, _ []byte) error { n++; return nil })
		if err != nil {
			return err
		}
		if n != x.want {
			return broken("%d %s, the users have %d", n, x.what, x.want)
		}
	}
	if int64(c.st.users) != c.users {
		return broken("the state counts %d users, there are %d", c.st.users, c.users)
	}
	return c.bucket(bucketCounts).ForEach(func(k, v []byte) error {
		if n := int64(be64(v)); n != c.counts[be32(k)] {
			return broken("fact %d is counted %d times and true of %d users", be32(k), n, c.counts[be32(k)])
		}
		return nil
	})
}

// tasks compares tasks, progress, messages, pending sets and due entries.
func (c *checker) tasks() error {
	live := 0
	err := c.bucket(bucketTasks).ForEach(func(k, v []byte) error {
		seq := be64(k)
		t, err := decodeTask(seq, v)
		if err != nil {
			return err
		}
		p, err := decodeProgress(c.bucket(bucketProgress).Get(k))
		if err != nil {
			return broken("task %d: progress: %v", seq, err)
		}
		if p.Total != p.Delivered+p.Failed+p.Pending+p.Expired+p.Withdrawn+p.Gone && (p.Ended != 0 || t.Expires > t.Accepted) {
			return broken("task %d: the counts %+v do not add up", seq, p)
		}
		if p.Pending != c.pending[seq] {
			return broken("task %d counts %d pending users, there are %d", seq, p.Pending, c.pending[seq])
		}
		delete(c.pending, seq)
		has := func(kind byte, at int64) bool {
			return c.bucket(bucketDue).Get(dueKeyOf(kind, at, k)) != nil
		}
		message := c.bucket(bucketMessages).Get(k) != nil
		switch {
		case p.Ended != 0:
			if message || !has(dueForget, p.Ended+TaskRetention.Milliseconds()) {
				return broken("task %d has ended: message there: %v, or is never forgotten", seq, message)
			}
			return nil
		case t.Expires == t.Accepted:
			if message || !has(dueOnline, 0) {
				return broken("task %d has lifetime 0: message there: %v, or waits for no outcome", seq, message)
			}
			return nil
		}
		live++
		if !message || !has(dueExpire, t.Expires) {
			return broken("task %d is live: message there: %v, or never expires", seq, message)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for seq := range c.pending {
		return broken("pending users of task %d, which does not exist", seq)
	}
	messages := 0
	err = c.bucket(bucketMessages).ForEach(func(_, _ []byte) error { messages++; return nil })
	if err == nil && messages != live {
		err = broken("%d messages, %d live tasks", messages, live)
	}
	return err
}

// phones checks that phone work that is not done is due, and belongs to a live task.
func (c *checker) phones() error {
	open := 0
	err := c.bucket(bucketPhones).ForEach(func(k, v []byte) error {
		rec, err := decodePhone(v)
		if err != nil {
			return err
		}
		due := c.bucket(bucketDue).Get(dueKeyOf(duePhone, 0, k)) != nil
		if due == rec.done || c.bucket(bucketTasks).Get(k[:8]) == nil || due && c.bucket(bucketMessages).Get(k[:8]) == nil {
			return broken("phone work of task %d on %s: done %v, due %v", be64(k), k[8:], rec.done, due)
		}
		if due {
			open++
		}
		return nil
	})
	if err != nil {
		return err
	}
	listed := 0
	err = prefixed(c.bucket(bucketDue).Cursor(), []byte{duePhone}, func(_, _ []byte) error { listed++; return nil })
	if err == nil && open != listed {
		err = broken("%d phone works open, %d due", open, listed)
	}
	if err != nil {
		return err
	}
	return c.bucket(bucketRetries).ForEach(func(k, _ []byte) error {
		n := int(k[8])
		if c.bucket(bucketDue).Get(dueKeyOf(duePhone, 0, append(bytes.Clone(k[:8]), k[9:9+n]...))) == nil {
			return broken("retry of task %d without open phone work", be64(k))
		}
		return nil
	})
}
