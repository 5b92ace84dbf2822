package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
)

// Check folds everything and verifies each invariant of the file: that every posting
// agrees with the user records, that every pending bit belongs to a known user
// and a live task, that indexes agree both ways, that what is due is what there is to do, and that
// counters count what is there. The first violation is returned. Memory grows with the number of
// facts and of live tasks, not of users. The fold waits meanwhile; everything else goes on.
func (s *Store) Check(ctx context.Context) (err error) {
	defer guardFaults("check", &err)()
	ctx, over := s.untilClose(ctx)
	defer over(&err)
	return s.withFolded(ctx, func(tx *bbolt.Tx, path string) error {
		c := &checker{
			ctx: ctx, path: path, geo: s.geo, tx: tx,
			counts: make(map[uint32]int64), numbers: make(map[string]uint32), waiting: make(map[uint64]*waiting), openers: make(map[uint64]int64), asleep: make(map[uint64]*sleepers),
		}
		for _, f := range []func() error{c.pages, c.meta, c.state, c.facts, c.blocks, c.totals, c.tasks, c.phones, c.recalls, c.audiences, c.plans, c.caps, c.retries, c.keys, c.due, c.saved} {
			if s.o.checkError != nil {
				if err := s.o.checkError(); err != nil {
					return err
				}
			}
			if err := ctx.Err(); err != nil {
				return err
			}
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
	ctx, over := s.untilClose(ctx)
	defer over(&err)
	h := sha256.New()
	err = s.withFolded(ctx, func(tx *bbolt.Tx, path string) error {
		if err := walkBolt(path); err != nil { // pages that lead back to themselves would have no end
			return err
		}
		for b := range bucketName {
			var w writer
			err := tx.Bucket(bucketName[b]).ForEach(func(k, v []byte) error {
				w.b = w.b[:0]
				w.byte(byte(b))
				w.bytes(k)
				w.bytes(v)
				_, err := h.Write(w.b)
				return errors.Join(err, ctx.Err())
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
	counts  map[uint32]int64     // users of a fact, from the user records
	numbers map[string]uint32    // of facts that follow from a record, as far as they were asked for
	waiting map[uint64]*waiting  // who waits for a message, from the containers
	openers map[uint64]int64     // how many users have opened a message, from the containers
	asleep  map[uint64]*sleepers // who is passed over because of quiet hours, by [asleepOf]
	users   int64
	tokens  int64
}

// waiting is who waits for a message.
type waiting struct {
	users  int64
	blocks *roaring.Bitmap
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

// meta checks what Open looks at, which may have been harmed since.
func (c *checker) meta() error {
	meta := c.tx.Bucket(bucketMeta)
	for _, f := range []struct {
		key  []byte
		size int
	}{{metaFormat, 4}, {metaStore, len(storeID{})}, {metaPosition, 8}, {metaBits, 1}, {metaProposer, 8}} {
		if v := meta.Get(f.key); len(v) != f.size {
			return broken("meta %s is %x", f.key, v)
		}
	}
	return nil
}

func (c *checker) state() (err error) {
	if n, err := c.count(bucketState); n != 1 {
		return errors.Join(broken("%d records of the state", n), err)
	}
	if c.st, err = decodeState(c.bucket(bucketState).Get(stateKey), c.geo); err != nil {
		return err
	}
	st := &c.st
	if st.nextOrdinal > 1<<32 || c.geo.blocks(st.nextOrdinal) > 1<<16 || st.users > st.nextOrdinal || st.nextFact == existsFact || st.nextSeq == 0 {
		return broken("the state counts %d users, and goes on at ordinal %d, fact %d, sequence %d", st.users, st.nextOrdinal, st.nextFact, st.nextSeq)
	}
	if st.limits.TagsPerUser < 0 || st.limits.DevicesPerUser < 0 {
		return broken("limits %+v", st.limits)
	}
	slots := make(map[string]uint8, len(st.names))
	for slot, name := range st.names {
		if other, twice := slots[name]; twice || name == "" {
			return broken("attribute slots %d and %d have the name %q", slot, other, name)
		}
		slots[name] = slot
	}
	for slot, t := range st.types {
		if t == TextType || !t.Known() {
			return broken("attribute slot %d has the type %d", slot, t)
		}
	}
	proposers := make(map[uint64]bool, len(st.proposers))
	for _, p := range st.proposers {
		if proposers[p.id] {
			return broken("proposer %x is there twice", p.id)
		}
		proposers[p.id] = true
	}
	return nil
}

// count returns how many keys a bucket has.
func (c *checker) count(b bucket) (n int64, err error) {
	err = c.bucket(b).ForEach(func(_, _ []byte) error {
		if n++; n%4096 == 0 {
			return c.ctx.Err()
		}
		return nil
	})
	return n, err
}

// facts checks that names and numbers of facts agree both ways.
func (c *checker) facts() error {
	names := int64(0)
	err := c.bucket(bucketNames).ForEach(func(k, name []byte) error {
		names++
		if len(k) != 4 || !isFact(name) {
			return broken("fact %x is named %q", k, name)
		}
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
	facts, err := c.count(bucketFacts)
	if err == nil && names != facts {
		err = broken("%d fact names, %d facts", names, facts)
	}
	return err
}

// isFact says whether a name is one of a fact.
func isFact(name []byte) bool {
	if len(name) == 0 {
		return false
	}
	switch name[0] {
	case factTag, factOut, factAttr, factPlatform, factLanguage, factTimeZone:
		return true
	case factHas:
		return len(name) == 2
	case factBit:
		return len(name) == 3
	case factRegistered, factSeen:
		return len(name) == 5
	}
	return false
}

// number returns the number of a fact that follows from a record.
func (c *checker) number(key []byte) (uint32, error) {
	if n, known := c.numbers[string(key)]; known {
		return n, nil
	}
	b := c.bucket(bucketFacts).Get(key)
	if len(b) != 4 {
		return 0, broken("fact %q of a user is not there", key)
	}
	c.numbers[string(key)] = be32(b)
	return be32(b), nil
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
	if err := c.kinds(block); err != nil {
		return err
	}
	want := map[uint32]*roaring.Bitmap{}
	add := func(fact uint32, low uint16) {
		if want[fact] == nil {
			want[fact] = roaring.New()
		}
		want[fact].Add(uint32(low))
	}
	err := c.each(block, kindUser, 2, func(rest, v []byte) error {
		group, err := splitGroup(v)
		if err != nil {
			return err
		}
		for i, record := range group {
			if record == nil {
				continue
			}
			low := int(be16(rest))*groupUsers + i
			if low > 1<<16-1 {
				return broken("user %d lies beyond the block", low)
			}
			if err := c.user(block, uint16(low), record, add); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	exists := want[existsFact]
	if exists == nil {
		exists = roaring.New()
	}
	err = c.each(block, kindDevice, 2, func(rest, v []byte) error {
		low := be16(rest)
		if !exists.Contains(uint32(low)) {
			return broken("devices of user %d, who does not exist", low)
		}
		return c.devices(block, low, v, add)
	})
	if err != nil {
		return err
	}
	if err := c.postings(block, want); err != nil {
		return err
	}
	if err := c.each(block, kindOpener, 8, func(rest, v []byte) error {
		return c.opened(be64(rest), v, exists)
	}); err != nil {
		return err
	}
	if err := c.each(block, kindAsleep, 8, func(rest, v []byte) error {
		return c.sleepers(block, be64(rest), v, exists)
	}); err != nil {
		return err
	}
	return c.each(block, kindPending, 8, func(rest, v []byte) error {
		return c.pending(block, be64(rest), v, exists)
	})
}

// opened adds up who has opened a message. That there is a task with as many is seen when the tasks are.
func (c *checker) opened(seq uint64, v []byte, exists *roaring.Bitmap) error {
	got := roaring.New()
	if err := readPending(got, v); err != nil {
		return broken("who has opened message %d: %v", seq, err)
	}
	if got.IsEmpty() || roaring.AndNot(got, exists).GetCardinality() > 0 {
		return broken("message %d was opened by users who do not exist, or none", seq)
	}
	c.openers[seq] += int64(got.GetCardinality())
	return nil
}

// kinds checks that a block has no keys of other kinds than there are.
func (c *checker) kinds(block uint16) error {
	cur, prefix := c.bucket(bucketBlocks).Cursor(), blockKey(block, 0)[:2]
	for k, _ := cur.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = cur.Seek(blockKey(block, k[2]+1)) {
		if len(k) < 3 || !bytes.Contains([]byte{kindDevice, kindFact, kindOpener, kindPending, kindAsleep, kindUser}, k[2:3]) {
			return broken("key %x is of no kind", k)
		}
	}
	return nil
}

// each calls f for the keys of one kind in a block, whose rest has a size.
func (c *checker) each(block uint16, kind byte, size int, f func(rest, v []byte) error) error {
	prefix := blockKey(block, kind)
	return prefixed(c.bucket(bucketBlocks).Cursor(), prefix, func(k, v []byte) error {
		if len(k) != len(prefix)+size {
			return broken("key %x has the wrong length", k)
		}
		return f(k[len(prefix):], v)
	})
}

// postings compares a block's postings with those that its users make.
func (c *checker) postings(block uint16, want map[uint32]*roaring.Bitmap) error {
	seen := 0
	err := c.each(block, kindFact, 4, func(rest, v []byte) error {
		fact, got := be32(rest), roaring.New()
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
	if err == nil && seen != len(want) {
		err = broken("%d postings, the users have %d facts", seen, len(want))
	}
	return err
}

// pending adds up one pending set. That its task is live is seen when the tasks are.
func (c *checker) pending(block uint16, seq uint64, v []byte, exists *roaring.Bitmap) error {
	got := roaring.New()
	if err := readPending(got, v); err != nil {
		return broken("pending of message %d: %v", seq, err)
	}
	if got.IsEmpty() || roaring.AndNot(got, exists).GetCardinality() > 0 {
		return broken("pending of message %d has users who do not exist, or none", seq)
	}
	w := c.waiting[seq]
	if w == nil {
		w = &waiting{blocks: roaring.New()}
		c.waiting[seq] = w
	}
	w.users += int64(got.GetCardinality())
	w.blocks.Add(uint32(block))
	return nil
}

func (c *checker) user(block, low uint16, v []byte, add func(uint32, uint16)) error {
	u, err := decodeUser(v)
	if err != nil {
		return err
	}
	ord := c.geo.ordinal(block, low)
	if c.geo.block(ord) != block {
		return broken("user %d lies beyond the block", low)
	}
	h := hashID(u.id)
	e := newIDEntry(h, ord)
	raw := c.bucket(bucketIDs).Get(e[:idPrefix])
	if len(raw)%idRest != 0 || !slices.Contains(idsIn(raw, h), ord) {
		return broken("user %q has ordinal %d, its ID leads elsewhere: %x", u.id, ord, raw)
	}
	for _, other := range idsIn(raw, h) {
		if other != ord && recordHasID(c.record(other), u.id) {
			return broken("user %q has the ordinals %d and %d", u.id, ord, other)
		}
	}
	if uint64(ord) >= c.st.nextOrdinal {
		return broken("ordinal %d was never given", ord)
	}
	c.users++
	add(existsFact, low)
	for i, a := range u.attrs {
		if i > 0 && u.attrs[i-1].slot >= a.slot || a.typ != c.st.types[a.slot] {
			return broken("user %q: attribute slot %d is %s, after slot %d, and should be %s", u.id, a.slot, a.typ, u.attrs[max(i-1, 0)].slot, c.st.types[a.slot])
		}
		if a.typ != TextType {
			continue
		}
		name := c.bucket(bucketNames).Get(key32(a.fact))
		if len(name) < 2 || name[0] != factAttr || name[1] != a.slot {
			return broken("user %q: attribute slot %d has fact %d, which is %q", u.id, a.slot, a.fact, name)
		}
		add(a.fact, low)
	}
	for _, key := range recordFacts(&u) {
		fact, err := c.number(key)
		if err != nil {
			return fmt.Errorf("user %q: %w", u.id, err)
		}
		add(fact, low)
	}
	for i, t := range u.tags {
		if i > 0 && u.tags[i-1] >= t {
			return broken("user %q: tag %d behind tag %d", u.id, t, u.tags[i-1])
		}
		if name := c.bucket(bucketNames).Get(key32(t)); len(name) < 1 || name[0] != factTag {
			return broken("user %q: tag has fact %d, which is %q", u.id, t, name)
		}
		add(t, low)
	}
	for i, o := range u.outs {
		name := c.bucket(bucketNames).Get(key32(o))
		if len(name) < 1 || name[0] != factOut || i > 0 && u.outs[i-1] >= o {
			return broken("user %q: category has fact %d, which is %q", u.id, o, name)
		}
		add(o, low)
	}
	return nil
}

// recordFacts returns the keys of the facts that follow from a record.
func recordFacts(u *userRecord) (keys [][]byte) {
	keys = append(keys, appendDayFact(nil, factRegistered, u.registeredDay()))
	if u.seen != 0 {
		keys = append(keys, appendDayFact(nil, factSeen, u.seen-1))
	}
	for _, a := range u.attrs {
		keys = append(keys, appendHasFact(nil, a.slot))
		for i := range uint8(64) {
			if numberBits(a.number)>>i&1 != 0 {
				keys = append(keys, appendBitFact(nil, a.slot, i))
			}
		}
	}
	return keys
}

// record returns the record of a user.
func (c *checker) record(ord uint32) []byte {
	block, low := c.geo.block(ord), c.geo.low(ord)
	return groupRecord(c.bucket(bucketBlocks).Get(groupKey(block, low)), low)
}

// ids checks the form of the index of IDs and returns how many entries it has.
func (c *checker) ids() (n int64, err error) {
	err = c.bucket(bucketIDs).ForEach(func(k, v []byte) error {
		if len(k) != idPrefix || len(v) == 0 || len(v)%idRest != 0 {
			return broken("user IDs under %x: %d bytes", k, len(v))
		}
		for i := idRest; i < len(v); i += idRest {
			if bytes.Compare(v[i-idRest:i], v[i:i+idRest]) >= 0 {
				return broken("user IDs under %x are out of order", k)
			}
		}
		n += int64(len(v) / idRest)
		return c.ctx.Err()
	})
	return n, err
}

func (c *checker) devices(block, low uint16, v []byte, add func(uint32, uint16)) error {
	devices, err := decodeDevices(v)
	if err != nil {
		return err
	}
	ord := c.geo.ordinal(block, low)
	if len(devices) == 0 {
		return broken("no devices of ordinal %d", ord)
	}
	for _, d := range devices {
		h := HashToken(d.Platform, d.Token)
		if o := c.bucket(bucketTokens).Get(h[:]); len(o) != 4 || be32(o) != ord {
			return broken("a token of ordinal %d leads to %x", ord, o)
		}
		c.tokens++
	}
	for _, key := range deviceFacts(devices) {
		fact, err := c.number([]byte(key))
		if err != nil {
			return fmt.Errorf("devices of ordinal %d: %w", ord, err)
		}
		add(fact, low)
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
		{"tokens", bucketTokens, c.tokens},
		{"fact counts", bucketCounts, int64(len(c.counts))}, {"facts", bucketFacts, int64(len(c.counts))},
	} {
		n, err := c.count(x.b)
		if err != nil {
			return err
		}
		if n != x.want {
			return broken("%d %s, the users have %d", n, x.what, x.want)
		}
	}
	ids, err := c.ids()
	if err != nil {
		return err
	}
	if ids != c.users {
		return broken("%d user IDs, there are %d users", ids, c.users)
	}
	if int64(c.st.users) != c.users {
		return broken("the state counts %d users, there are %d", c.st.users, c.users)
	}
	return c.bucket(bucketCounts).ForEach(func(k, v []byte) error {
		if len(k) != 4 || len(v) != 8 {
			return broken("count %x of fact %x", v, k)
		}
		if n := int64(be64(v)); n != c.counts[be32(k)] {
			return broken("fact %d is counted %d times and true of %d users", be32(k), n, c.counts[be32(k)])
		}
		return nil
	})
}

// tasks compares tasks, progress, messages, pending sets, and what is due of them.
func (c *checker) tasks() error {
	live, tasks := int64(0), int64(0)
	err := c.bucket(bucketTasks).ForEach(func(k, v []byte) error {
		tasks++
		if len(k) != 8 {
			return broken("task %x", k)
		}
		is, err := c.task(be64(k), v)
		if is {
			live++
		}
		return errors.Join(err, c.ctx.Err())
	})
	if err != nil {
		return err
	}
	for seq := range c.waiting {
		return broken("pending users of task %d, which does not exist", seq)
	}
	for seq := range c.openers {
		return broken("users who have opened the message of task %d, which does not exist", seq)
	}
	messages, err := c.count(bucketMessages)
	if err == nil && messages != live {
		err = broken("%d messages, %d live tasks", messages, live)
	}
	if err != nil {
		return err
	}
	progress, err := c.count(bucketProgress)
	if err == nil && progress != tasks {
		err = broken("progress of %d tasks, there are %d", progress, tasks)
	}
	if err != nil {
		return err
	}
	return c.histories()
}

// task checks one task; live says that it has a message to deliver.
func (c *checker) task(seq uint64, v []byte) (live bool, err error) {
	t, err := decodeTask(seq, v)
	if err != nil {
		return false, broken("task %d: %v", seq, err)
	}
	if seq == 0 || seq >= c.st.nextSeq || t.Accepted > c.st.now || t.Expires < t.Accepted || t.To.Validate() != nil {
		return false, broken("task %d was never accepted: the next is %d", seq, c.st.nextSeq)
	}
	p, err := decodeProgress(c.bucket(bucketProgress).Get(key64(seq)))
	if err != nil {
		return false, broken("task %d: progress: %v", seq, err)
	}
	retained := t.Expires > t.Accepted
	if err := c.progress(t, &p, retained); err != nil {
		return false, err
	}
	if err := c.keyOf(t); err != nil {
		return false, err
	}
	message := c.bucket(bucketMessages).Get(key64(seq))
	switch {
	case p.Ended != 0:
		if message != nil || !c.isDue(dueForget, p.Ended+TaskRetention.Milliseconds(), key64(seq)) {
			return false, broken("task %d has ended: message there: %v, or is never forgotten", seq, message != nil)
		}
		return false, nil
	case !retained:
		if message != nil || !c.isDue(dueOnline, 0, key64(seq)) {
			return false, broken("task %d has lifetime 0: message there: %v, or waits for no outcome", seq, message != nil)
		}
		return false, nil
	case !c.isDue(dueExpire, t.Expires, key64(seq)):
		return true, broken("task %d never expires", seq)
	}
	m, err := decodeMessage(seq, message)
	if err != nil {
		return true, broken("message %d: %v", seq, err)
	}
	if m.Random != t.Random || m.From != t.From || m.Accepted != t.Accepted || m.Expires != t.Expires {
		return true, broken("message %d is not that of its task", seq)
	}
	return true, nil
}

// progress compares a task's counts with its pending sets, which are done with then.
func (c *checker) progress(t *Task, p *Progress, retained bool) error {
	w := c.waiting[t.Seq]
	if w == nil {
		w = &waiting{blocks: roaring.New()}
	}
	delete(c.waiting, t.Seq)
	opened := c.openers[t.Seq]
	delete(c.openers, t.Seq)
	if opened > p.Opened { // there may be fewer: of those unregistered since only the count is left
		return broken("task %d counts %d users who have opened its message, there are %d", t.Seq, p.Opened, opened)
	}
	sum := p.Delivered + p.Failed + p.Pending + p.Expired + p.Withdrawn + p.Gone
	for _, n := range p.fields() {
		if *n < 0 {
			return broken("task %d: the counts %+v", t.Seq, *p)
		}
	}
	if sum != p.Total && (p.Ended != 0 || retained) || sum > p.Total {
		return broken("task %d: the counts %+v do not add up", t.Seq, *p)
	}
	if p.Pending != w.users || (p.Ended != 0) != (p.Reason != 0) || p.Reason > Withdrawn || p.Ended != 0 && p.Pending > 0 {
		return broken("task %d counts %d pending users, there are %d; it ended at %d for reason %d", t.Seq, p.Pending, w.users, p.Ended, p.Reason)
	}
	if other := roaring.AndNot(w.blocks, t.blocks); !other.IsEmpty() {
		return broken("task %d has pending users in blocks that it does not know: %v", t.Seq, other)
	}
	return nil
}

// keyOf checks that a task's key leads to it, while the key is remembered.
func (c *checker) keyOf(t *Task) error {
	if t.Key == "" || t.Accepted+KeyRetention.Milliseconds() <= c.st.now {
		return nil
	}
	k, err := decodeKey(c.bucket(bucketKeys).Get(keyKey(t.From, t.Key)))
	if err != nil || k.seq != t.Seq {
		return broken("the key of task %d leads to task %d: %v", t.Seq, k.seq, err)
	}
	return nil
}

func (c *checker) isDue(kind byte, at int64, what []byte) bool {
	return c.bucket(bucketDue).Get(dueKeyOf(kind, at, what)) != nil
}

// keys checks that each idempotency key is forgotten some time, and leads to its task until then.
func (c *checker) keys() error {
	return c.bucket(bucketKeys).ForEach(func(k, v []byte) error {
		rec, err := decodeKey(v)
		if err != nil || len(k) != 20 {
			return broken("key %x: %v", k, err)
		}
		end := rec.at + KeyRetention.Milliseconds()
		if !c.isDue(dueKey, end, k) {
			return broken("the key of task %d is never forgotten", rec.seq)
		}
		b := c.bucket(bucketTasks).Get(key64(rec.seq))
		if b == nil && end <= c.st.now {
			return nil // both are past their time, and the task went first
		}
		t, err := decodeTask(rec.seq, b)
		if err != nil || t.Accepted != rec.at || !bytes.Equal(keyKey(t.From, t.Key), k) {
			return broken("key %x is not that of task %d: %v", k, rec.seq, err)
		}
		return nil
	})
}

// due checks that whatever is due is to be done. That nothing is missing was seen before.
func (c *checker) due() error {
	return c.bucket(bucketDue).ForEach(func(k, v []byte) error {
		if len(k) < 10 || len(v) != 0 {
			return broken("due entry %x", k)
		}
		if is, err := c.justified(k[0], int64(be64(k[1:9])), k[9:]); !is || err != nil {
			return broken("due entry %x has nothing to do: %v", k, err)
		}
		return c.ctx.Err()
	})
}

func (c *checker) justified(kind byte, at int64, what []byte) (bool, error) {
	switch kind {
	case dueKey:
		rec, err := decodeKey(c.bucket(bucketKeys).Get(what))
		return rec.at+KeyRetention.Milliseconds() == at, err
	case dueCaps:
		if len(what) < 6 || len(what) != 6+int(what[5]) || at != capEnd(what) {
			return false, nil
		}
		k, _ := c.bucket(bucketCaps).Cursor().Seek(what)
		return bytes.HasPrefix(k, what), nil
	case duePhone:
		rec, err := decodePhone(c.bucket(bucketPhones).Get(what))
		return at == 0 && !rec.done, err
	}
	if len(what) != 8 {
		return false, nil
	}
	switch kind {
	case duePlan, dueForgetPlan:
		p, err := decodePlan(be64(what), c.bucket(bucketPlans).Get(what))
		if err != nil || kind == duePlan {
			return err == nil && p.Due == at, err
		}
		return p.Ended != 0 && at == p.Ended+TaskRetention.Milliseconds(), nil
	}
	t, err := decodeTask(be64(what), c.bucket(bucketTasks).Get(what))
	if err != nil {
		return false, err
	}
	p, err := decodeProgress(c.bucket(bucketProgress).Get(what))
	if err != nil {
		return false, err
	}
	switch kind {
	case dueExpire:
		return (p.Ended == 0 || c.bucket(bucketRecalls).Get(what) != nil) && t.Expires > t.Accepted && at == t.Expires, nil
	case dueForget:
		return p.Ended != 0 && at == p.Ended+TaskRetention.Milliseconds(), nil
	case dueOnline:
		return p.Ended == 0 && t.Expires == t.Accepted && at == 0, nil
	}
	return false, nil
}

// saved checks that each saved audience is one.
func (c *checker) saved() error {
	return c.bucket(bucketSaved).ForEach(func(k, v []byte) error {
		if e, err := decodeSaved(v); err != nil || e.Validate() != nil {
			return broken("audience saved as %q: %v", k, errors.Join(err, e.Validate()))
		}
		return c.ctx.Err()
	})
}
