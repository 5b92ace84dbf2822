package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
)

// harmed makes a store with a little of everything and changes its blocks.db behind its back.
func harmed(t *testing.T, harm func(tx *bbolt.Tx)) *Store {
	t.Helper()
	now := time.Unix(1_000_000, 0)
	s, err := Open(t.TempDir(), Options{BlockBits: 2, Now: func() time.Time { return now }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	propose(t, s, &SetNames{Names: []SlotName{{0, "tier"}, {1, "city"}, {2, "age"}}})
	propose(t, s, &SetTypes{Types: []SlotType{{2, NumberType}}})
	propose(t, s, &Save{Name: "saved", To: &Expr{Op: OpAll}})
	register(t, s, "a", "b", "c", "d", "e", "f")
	propose(t, s, &Batch{Ops: []UserOp{{
		Kind: OpPut, ID: "a", Tags: []string{"x", "y"}, Attrs: []AttrValue{{"tier", "gold"}, {"city", "Bern"}},
		Devices: []Device{{Platform: "fcm", Token: "1", Locale: "zh_CN", TimeZone: "UTC"}},
	}, {Kind: OpSetAttrs, ID: "b", Attrs: []AttrValue{{"age", "-5"}}}, {Kind: OpSeen, ID: "b"}}})
	// Message 1 is live, 2 has ended, 3 has lifetime 0.
	for i, lifetime := range []int64{1 << 30, 1 << 30, 0} {
		key := []string{"k", "", ""}[i]
		propose(t, s, &Push{
			Random: 1, From: "me", Key: key, Body: []byte("m"), To: &Expr{Op: OpAll},
			Lifetime: lifetime, Note: []byte("n"), Platforms: []string{"fcm"}, Always: true,
		})
	}
	propose(t, s, &Checkpoint{Seq: 1, Platform: "fcm", Next: 2, Retry: []PhoneRetry{{Attempt: 1, Due: 5}}, Asleep: []BlockSet{{0, roaring.BitmapOf(0, 1, 2)}}, At: 5})
	propose(t, s, &End{Seq: 2, Reason: Withdrawn})
	propose(t, s, &Opened{Seq: 2, Block: 0, Bits: roaring.BitmapOf(0, 1)})
	if err := s.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.blocksDB().Update(func(tx *bbolt.Tx) error { harm(tx); return nil }); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCheckSeesDamage changes one record that is well formed as a page goes, and wants Check to name what is wrong.
func TestCheckSeesDamage(t *testing.T) {
	t.Parallel()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(b bucket, key, value []byte) func(*bbolt.Tx) {
		return func(tx *bbolt.Tx) { must(tx.Bucket(bucketName[b]).Put(key, value)) }
	}
	remove := func(b bucket, key []byte) func(*bbolt.Tx) {
		return func(tx *bbolt.Tx) {
			if tx.Bucket(bucketName[b]).Get(key) == nil {
				t.Errorf("there is no %x to remove", key)
			}
			must(tx.Bucket(bucketName[b]).Delete(key))
		}
	}
	change := func(b bucket, key []byte, f func([]byte) []byte) func(*bbolt.Tx) {
		return func(tx *bbolt.Tx) {
			old := tx.Bucket(bucketName[b]).Get(key)
			if old == nil {
				t.Errorf("there is no %x to change", key)
			}
			must(tx.Bucket(bucketName[b]).Put(key, f(bytes.Clone(old))))
		}
	}
	first := func(b bucket, prefix []byte, f func(b *bbolt.Bucket, k, v []byte)) func(*bbolt.Tx) {
		return func(tx *bbolt.Tx) {
			k, v := tx.Bucket(bucketName[b]).Cursor().Seek(prefix)
			if !bytes.HasPrefix(k, prefix) || k == nil {
				t.Errorf("no key of %s begins with %x", bucketName[b], prefix)
				return
			}
			f(tx.Bucket(bucketName[b]), bytes.Clone(k), bytes.Clone(v))
		}
	}
	removeFirst := func(b bucket, prefix ...byte) func(*bbolt.Tx) {
		return first(b, prefix, func(b *bbolt.Bucket, k, _ []byte) { must(b.Delete(k)) })
	}
	changeState := func(f func(*state)) func(*bbolt.Tx) {
		return change(bucketState, stateKey, func(v []byte) []byte {
			st, err := decodeState(v, geometry{16})
			must(err)
			f(&st)
			return st.encode()
		})
	}
	changeUser := func(f func(*userRecord)) func(*bbolt.Tx) {
		return change(bucketBlocks, groupKey(0, 0), func(v []byte) []byte {
			group, err := splitGroup(v)
			must(err)
			u, err := decodeUser(group[0])
			must(err)
			f(&u)
			group[0] = u.encode()
			return joinGroup(&group)
		})
	}
	changeOther := func(f func(*userRecord)) func(*bbolt.Tx) {
		return change(bucketBlocks, groupKey(0, 0), func(v []byte) []byte {
			group, err := splitGroup(v)
			must(err)
			u, err := decodeUser(group[1])
			must(err)
			f(&u)
			group[1] = u.encode()
			return joinGroup(&group)
		})
	}
	changeTask := func(seq uint64, f func(*Task)) func(*bbolt.Tx) {
		return change(bucketTasks, key64(seq), func(v []byte) []byte {
			task, err := decodeTask(seq, v)
			must(err)
			f(task)
			return task.encode()
		})
	}
	changeProgress := func(seq uint64, f func(*Progress)) func(*bbolt.Tx) {
		return change(bucketProgress, key64(seq), func(v []byte) []byte {
			p, err := decodeProgress(v)
			must(err)
			f(&p)
			return p.encode()
		})
	}
	const expires = 1_000_000_000 + 1<<30
	work := phoneKey(1, "fcm")
	retry := retryKey(1, "fcm", &PhoneRetry{})
	for _, c := range []struct {
		name string
		harm func(*bbolt.Tx)
		says string
	}{
		{"no position", func(tx *bbolt.Tx) { must(tx.Bucket(bucketMeta).Delete(metaPosition)) }, "meta position"},
		{"a second state", put(bucketState, []byte("other"), []byte{1}), "records of the state"},
		{"more users than ordinals", changeState(func(st *state) { st.users = 100 }), "users"},
		{"sequences given again", changeState(func(st *state) { st.nextSeq = 2 }), "never accepted"},
		{"fact numbers given again", changeState(func(st *state) { st.nextFact = 2 }), "never given"},
		{"ordinals given again", changeState(func(st *state) { st.nextOrdinal = 6; st.users = 6 }), ""}, // as it is
		{"fewer ordinals", changeState(func(st *state) { st.nextOrdinal, st.users = 5, 5 }), "never given"},
		{"a name of two slots", changeState(func(st *state) { st.names[1] = "tier" }), "have the name"},
		{"a proposer twice", changeState(func(st *state) { st.proposers = append(st.proposers, st.proposers...) }), "proposer"},
		{"a time before the tasks", changeState(func(st *state) { st.now = 1 }), "never accepted"},

		{"a fact that leads nowhere", removeFirst(bucketFacts, factTag), "which is fact"},
		{"a name that is half a bit", put(bucketNames, key32(1), []byte{factBit, 2}), "is named"},
		{"a day that is lost", removeFirst(bucketFacts, factSeen), "which is fact"},
		{"a fact of no kind", put(bucketNames, key32(1), []byte("?x")), "is named"},
		{"a fact without its count", removeFirst(bucketCounts), "fact counts"},
		{"a count that is wrong", first(bucketCounts, nil, func(b *bbolt.Bucket, k, _ []byte) { must(b.Put(k, key64(7))) }), "counted"},
		{"an ID that leads nowhere", removeFirst(bucketIDs), "leads elsewhere"},
		{"an ID of nobody", put(bucketIDs, idOf("nobody", 0)[:idPrefix], idOf("nobody", 0)[idPrefix:]), "user IDs"},
		{"half an ID", change(bucketIDs, idOf("b", 0)[:idPrefix], func(v []byte) []byte { return v[:4] }), "leads elsewhere"},
		{"IDs out of order", put(bucketIDs, idOf("nobody", 0)[:idPrefix], bytes.Repeat(idOf("nobody", 0)[idPrefix:], 2)), "out of order"},
		{"an ID twice", func(tx *bbolt.Tx) {
			ids, b := tx.Bucket(bucketName[bucketIDs]), tx.Bucket(bucketName[bucketBlocks])
			group, err := splitGroup(b.Get(groupKey(0, 0)))
			must(err)
			of := func(record []byte) idEntry {
				u, err := decodeUser(record)
				must(err)
				return newIDEntry(hashID(u.id), 0)
			}
			first := of(group[0])
			group[1] = group[0]
			must(b.Put(groupKey(0, 0), joinGroup(&group)))
			twice := append(bytes.Clone(first[idPrefix:]), first[idPrefix:]...)
			twice[len(twice)-1] = 1
			must(ids.Put(first[:idPrefix], twice))
		}, "has the ordinals"},
		{"a token of nobody", put(bucketTokens, make([]byte, 16), key32(0)), "tokens"},
		{"a token that leads nowhere", removeFirst(bucketTokens), "a token of ordinal"},

		{"a key of an unknown kind in a block", put(bucketBlocks, []byte{0, 1, 'x', 0, 1}, []byte{1}), "of no kind"},
		{"a key of a wrong length in a block", put(bucketBlocks, []byte{0, 1, kindUser, 0, 1, 0}, []byte{1}), "wrong length"},
		{"a block that does not exist", put(bucketBlocks, groupKey(9, 0), []byte{1}), "does not exist"},
		{"a user beyond the block", func(tx *bbolt.Tx) {
			b := tx.Bucket(bucketName[bucketBlocks])
			group, err := splitGroup(b.Get(groupKey(0, 0)))
			must(err)
			group[4] = group[0]
			must(b.Put(groupKey(0, 0), joinGroup(&group)))
		}, "beyond the block"},
		{"a group of nobody", put(bucketBlocks, userKey(0, 1), []byte{0, 0}), "empty"},
		{"a group that ends early", change(bucketBlocks, groupKey(0, 0), func(v []byte) []byte { return v[:len(v)-1] }), "length of a record"},
		{"a user's tag twice", changeUser(func(u *userRecord) { u.tags = append(u.tags, u.tags[1]) }), "behind tag"},
		{"a user's tags out of order", changeUser(func(u *userRecord) { u.tags[0], u.tags[1] = u.tags[1], u.tags[0] }), "behind tag"},
		{"a tag that is none", changeUser(func(u *userRecord) { u.tags = []uint32{u.attrs[0].fact} }), "tag has fact"},
		{"a value in another slot", changeUser(func(u *userRecord) { u.attrs[0].slot = 1; u.attrs = u.attrs[:1] }), "attribute slot"},
		{"a number of another type", changeOther(func(u *userRecord) { u.attrs[0].typ++ }), "should be number(0)"},
		{"a number in a slot of text", changeOther(func(u *userRecord) { u.attrs[0].slot = 1 }), "should be text"},
		{"text in a slot of numbers", changeState(func(st *state) { st.types = map[uint8]AttrType{0: DateType, 2: NumberType} }), "should be date"},
		{"a type that is none", changeState(func(st *state) { st.types = map[uint8]AttrType{0: 99, 2: NumberType} }), "has the type"},
		{"another number", changeOther(func(u *userRecord) { u.attrs[0].number = -4 }), "does not agree"},
		{"a number above zero", changeOther(func(u *userRecord) { u.attrs[0].number = 5 }), "does not agree"},
		{"a number with a bit that nobody has", changeOther(func(u *userRecord) { u.attrs[0].number = -7 }), "is not there"},
		{"a number that is gone", changeOther(func(u *userRecord) { u.attrs = nil }), "does not agree"},
		{"another day of registration", changeOther(func(u *userRecord) { u.registered += secondsOfDay }), "is not there"},
		{"another day with a connection", changeOther(func(u *userRecord) { u.seen++ }), "is not there"},
		{"never seen", changeOther(func(u *userRecord) { u.seen = 0 }), "does not agree"},
		{"devices of another language", change(bucketBlocks, deviceKey(0, 0), func(v []byte) []byte { return bytes.Replace(v, []byte("zh_CN"), []byte("zh_TW"), 1) }), "is not there"},
		{"devices without their language", change(bucketBlocks, deviceKey(0, 0), func(v []byte) []byte { return bytes.Replace(v, []byte("zh_CN"), []byte("-----"), 1) }), "does not agree"},
		{"devices without their time zone", change(bucketBlocks, deviceKey(0, 0), func(v []byte) []byte { return bytes.Replace(v, []byte("\x03UTC"), []byte("\x03UTX"), 1) }), "is not there"},
		{"a saved audience that is none", put(bucketSaved, []byte("saved"), []byte{99}), "saved as"},
		{"a user without bits", remove(bucketBlocks, factKey(0, existsFact)), "postings"},
		{"a bit without a user", put(bucketBlocks, factKey(1, existsFact), bitmapBytes(roaring.BitmapOf(0, 1, 2))), "posting of fact 0"},
		{"a set of two containers", put(bucketBlocks, factKey(1, existsFact), bitmapBytes(roaring.BitmapOf(0, 1, 1<<16))), "posting of fact 0"},
		{"an empty set", put(bucketBlocks, pendingKey(0, 1), bitmapBytes(roaring.New())), "pending of message 1"},
		{"devices that are none", put(bucketBlocks, deviceKey(0, 1), []byte{0}), "no devices"},

		{"progress of no task", put(bucketProgress, key64(77), (&Progress{}).encode()), "progress of"},
		{"samples of no task", put(bucketHistory, key64(77), sampleOf(Sample{At: 1})), "samples of task"},
		{"samples that do not decode", put(bucketHistory, key64(1), []byte{99}), "samples of task 1"},
		{"no samples", put(bucketHistory, key64(1), nil), "samples of task 1"},
		{"a sample before its task", put(bucketHistory, key64(1), sampleOf(Sample{At: 1})), "the sample"},
		{"a task without progress", remove(bucketProgress, key64(2)), "progress"},
		{"counts that do not add up", changeProgress(1, func(p *Progress) { p.Total++ }), "add up"},
		{"an end without a reason", changeProgress(2, func(p *Progress) { p.Reason = 0 }), "for reason"},
		{"somebody waits and is not counted", put(bucketBlocks, pendingKey(0, 1), bitmapBytes(roaring.BitmapOf(1))), "pending users"},
		{"somebody waits for nothing", put(bucketBlocks, pendingKey(0, 77), bitmapBytes(roaring.BitmapOf(1))), "does not exist"},
		{"fewer counted than have opened it", changeProgress(2, func(p *Progress) { p.Opened = 1 }), "who have opened"},
		{"somebody who does not exist has opened it", put(bucketBlocks, messageKey(1, kindOpener, 2), bitmapBytes(roaring.BitmapOf(3))), "opened by users who do not exist"},
		{"opened by nobody", put(bucketBlocks, messageKey(0, kindOpener, 2), bitmapBytes(roaring.New())), "or none"},
		{"who has opened it does not decode", put(bucketBlocks, messageKey(0, kindOpener, 2), []byte{99}), "who has opened message 2"},
		{"opened, of no task", put(bucketBlocks, messageKey(0, kindOpener, 77), bitmapBytes(roaring.BitmapOf(0))), "does not exist"},
		{"a task that does not know its blocks", changeTask(1, func(t *Task) { t.blocks.Remove(1) }), "does not know"},
		{"a task without its message", remove(bucketMessages, key64(1)), "message 1"},
		{"a message that does not decode", put(bucketMessages, key64(1), []byte{1, 2, 3}), "message 1"},
		{"a message of another", change(bucketMessages, key64(1), func(v []byte) []byte { v[0] ^= 1; return v }), "not that of its task"},
		{"a message of a task that has ended", put(bucketMessages, key64(2), (&Message{}).encode()), "has ended"},
		{"a message of nothing", put(bucketMessages, key64(77), (&Message{}).encode()), "messages"},
		{"a message that never expires", remove(bucketDue, dueKeyOf(dueExpire, expires, key64(1))), "never expires"},
		{"a task that is never forgotten", removeFirst(bucketDue, dueForget), "never forgotten"},
		{"a lifetime 0 push that waits for nothing", remove(bucketDue, dueKeyOf(dueOnline, 0, key64(3))), "no outcome"},

		{"a key that is never forgotten", removeFirst(bucketDue, dueKey), "never forgotten"},
		{"a key without its task", first(bucketKeys, nil, func(b *bbolt.Bucket, k, v []byte) { v[0] = 99; must(b.Put(k, v)) }), "leads to task 99"},
		{"a key of another task", first(bucketKeys, nil, func(b *bbolt.Bucket, k, v []byte) { v[0] = 2; must(b.Put(k, v)) }), "leads to task 2"},
		{"a key of nothing", func(tx *bbolt.Tx) {
			key, rec := make([]byte, 20), &keyRecord{seq: 2, at: 1_000_000_000}
			must(tx.Bucket(bucketName[bucketKeys]).Put(key, rec.encode()))
			must(tx.Bucket(bucketName[bucketDue]).Put(dueKeyOf(dueKey, rec.at+KeyRetention.Milliseconds(), key), nil))
		}, "is not that of task 2"},
		{"a key that is lost", removeFirst(bucketKeys), "the key of task 1"},

		{"an expiry of no task", put(bucketDue, dueKeyOf(dueExpire, 1<<50, key64(77)), nil), "nothing to do"},
		{"a second expiry", put(bucketDue, dueKeyOf(dueExpire, 1<<50, key64(1)), nil), "nothing to do"},
		{"an expiry of what has ended", put(bucketDue, dueKeyOf(dueExpire, expires, key64(2)), nil), "nothing to do"},
		{"forgetting what is live", put(bucketDue, dueKeyOf(dueForget, 1<<50, key64(1)), nil), "nothing to do"},
		{"forgetting no key", put(bucketDue, dueKeyOf(dueKey, 1<<50, make([]byte, 20)), nil), "nothing to do"},
		{"an outcome of what is retained", put(bucketDue, dueKeyOf(dueOnline, 0, key64(1)), nil), "nothing to do"},
		{"phones of no task", put(bucketDue, dueKeyOf(duePhone, 0, phoneKey(77, "fcm")), nil), "nothing to do"},
		{"something due of no kind", put(bucketDue, dueKeyOf('x', 0, key64(1)), nil), "nothing to do"},
		{"something due with a value", put(bucketDue, dueKeyOf(dueExpire, expires, key64(1)), []byte{1}), "due entry"},

		{"phone work that is not due", remove(bucketDue, dueKeyOf(duePhone, 0, work)), "phone work"},
		{"phone work that is lost", func(tx *bbolt.Tx) {
			must(tx.Bucket(bucketName[bucketPhones]).Delete(work))
			must(tx.Bucket(bucketName[bucketDue]).Delete(dueKeyOf(duePhone, 0, work)))
		}, "no phone work"},
		{"phone work of no task", put(bucketPhones, phoneKey(77, "fcm"), (&phoneRecord{done: true}).encode()), "phone works"},
		{"phone work of what has ended", func(tx *bbolt.Tx) {
			must(tx.Bucket(bucketName[bucketPhones]).Put(phoneKey(2, "fcm"), (&phoneRecord{}).encode()))
			must(tx.Bucket(bucketName[bucketDue]).Put(dueKeyOf(duePhone, 0, phoneKey(2, "fcm")), nil))
		}, "phone work"},
		{"phone counts below nothing", put(bucketPhones, work, (&phoneRecord{stats: PhoneStats{Sent: -1}}).encode()), "phone work"},
		{"phone work with another number", change(bucketPhones, work, func(v []byte) []byte { v[1]++; return v }), "has number 1"},
		{"asleep, who does not exist", put(bucketBlocks, messageKey(1, kindAsleep, asleepOf(1, 0)), bitmapBytes(roaring.BitmapOf(3))), "who do not exist"},
		{"nobody is asleep", put(bucketBlocks, messageKey(0, kindAsleep, asleepOf(1, 0)), bitmapBytes(roaring.New())), "or none"},
		{"who is asleep does not decode", put(bucketBlocks, messageKey(0, kindAsleep, asleepOf(1, 0)), []byte{99}), "who is asleep"},
		{"asleep to no message", put(bucketBlocks, messageKey(0, kindAsleep, asleepOf(77, 0)), bitmapBytes(roaring.BitmapOf(0))), "asleep to message 77"},
		{"asleep on no platform", put(bucketBlocks, messageKey(0, kindAsleep, asleepOf(1, 1)), bitmapBytes(roaring.BitmapOf(0))), "no platform 1"},
		{"asleep to what has ended", put(bucketBlocks, messageKey(0, kindAsleep, asleepOf(2, 0)), bitmapBytes(roaring.BitmapOf(0))), "done true"},
		{"asleep before the task has come", put(bucketBlocks, messageKey(0, kindAsleep, asleepOf(1, 0)), bitmapBytes(roaring.BitmapOf(0, 2))), "up to 2, the next is 2"},
		{"asleep at no time", put(bucketPhones, work, (&phoneRecord{next: 2}).encode()), "found at 0"},
		{"asleep in a block that the task does not know", changeTask(1, func(t *Task) { t.blocks.Remove(0) }), "does not know"},
		{"an audience that is lost", remove(bucketAudiences, audienceKey(1, 0)), "notifies"},
		{"an audience that lacks a user", put(bucketAudiences, audienceKey(1, 0), bitmapBytes(roaring.BitmapOf(0, 1, 2))), "notifies"},
		{"an audience of no task", put(bucketAudiences, audienceKey(77, 0), bitmapBytes(roaring.BitmapOf(0))), "does not exist"},
		{"an audience of what has ended", put(bucketAudiences, audienceKey(2, 0), bitmapBytes(roaring.BitmapOf(0))), "notifies"},
		{"an audience that does not decode", put(bucketAudiences, audienceKey(1, 0), []byte{99}), "audience"},
		{"an audience with half a key", put(bucketAudiences, audienceKey(1, 0)[:9], bitmapBytes(roaring.BitmapOf(0))), "audience"},
		{"missed by no task", put(bucketMissed, audienceKey(77, 0), bitmapBytes(roaring.BitmapOf(0))), "does not exist"},
		{"missed by a task that is not kept", put(bucketMissed, audienceKey(2, 0), bitmapBytes(roaring.BitmapOf(0))), "missed"},
		{"a recall of no task", put(bucketRecalls, key64(77), []byte("note")), "recall of task"},
		{"a recall of what was not withdrawn", put(bucketRecalls, key64(2), []byte("note")), "recall of task 2"},
		{"phones that are told nothing", put(bucketPhones, work, (&phoneRecord{recall: true}).encode()), "phone work"},
		{"a retry of no work", put(bucketRetries, retryKey(2, "fcm", &PhoneRetry{}), []byte{1, 1, 0}), "without open phone work"},
		{"a retry that does not decode", put(bucketRetries, retry, []byte{1}), "retry"},
		{"a retry with half a key", put(bucketRetries, retry[:len(retry)-1], []byte{1, 1, 0}), "retry"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := harmed(t, c.harm).Check(context.Background())
			switch {
			case c.says == "" && err == nil:
			case c.says == "" || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "met at"):
				t.Errorf("Check says %v, not %q", err, c.says)
			}
		})
	}
}

// TestCheckOfAPartOfAFold comes between two steps of a fold, when the blocks have the state of no moment.
func TestCheckOfAPartOfAFold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		steps, full := 0, true
		s := open(t, t.TempDir(), Options{foldError: func() error {
			if steps++; full && steps > 1 { // the segment is named
				return &os.PathError{Op: "write", Path: blocksFile, Err: syscall.ENOSPC}
			}
			return nil
		}})
		register(t, s, "a")
		if err := s.Checkpoint(context.Background()); !errors.Is(err, ErrNoRoom) {
			t.Fatal(err)
		}
		whole, err := s.withWhole(context.Background(), func(*bbolt.Tx, string) error { t.Error("reads half a fold"); return nil })
		if whole || err != nil {
			t.Fatal(whole, err)
		}
		s.blocksMu.Lock()
		full = false
		s.blocksMu.Unlock()
		time.Sleep(2 * foldRetry)
		synctest.Wait()
		whole, err = s.withWhole(context.Background(), func(*bbolt.Tx, string) error { return nil })
		if !whole || err != nil {
			t.Fatal(whole, err)
		}
	})
}

// TestCheckWhileChangesGoOn checks, and takes digests, while every few changes are folded.
func TestCheckWhileChangesGoOn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := open(t, t.TempDir(), Options{BlockBits: 2, DeltaEntries: 10})
	register(t, s, "a", "b", "c", "d", "e")
	done := make(chan error)
	go func() {
		var err error
		for range 100 {
			if _, e := s.Propose(ctx, &Push{Random: 1, Body: []byte("m"), To: &Expr{Op: OpAll}, Lifetime: 1 << 30}); e != nil {
				err = e
			}
		}
		done <- err
	}()
	for {
		_, err := s.Digest(ctx)
		if err := errors.Join(err, s.Check(ctx)); err != nil {
			t.Error(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

func sampleOf(s Sample) []byte {
	var w writer
	s.encode(&w)
	return w.b
}
