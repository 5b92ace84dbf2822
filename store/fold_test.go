package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
)

// frozenBy makes changes in a store whose fold is held up, and returns the delta that is frozen then.
func frozenBy(t *testing.T, o Options, change func(s *Store)) (s *Store, d *delta) {
	t.Helper()
	at, goOn := make(chan struct{}), make(chan struct{})
	first := true
	o.foldError = func() error { // under the lock of the blocks, so one at a time
		if first {
			first = false
			close(at)
			<-goOn
		}
		return nil
	}
	s = open(t, t.TempDir(), o)
	change(s)
	checked := make(chan error, 1)
	go func() { checked <- s.Checkpoint(context.Background()) }()
	<-at
	d = s.layers.Load().frozen
	close(goOn)
	if err := <-checked; err != nil {
		t.Fatal(err)
	}
	return s, d
}

// TestEachKeyIsWrittenOnceInAFold changes the same users, facts and messages again and again: a fold touches each container once, in the
// order of the keys, and leaves each in its one smallest form.
func TestEachKeyIsWrittenOnceInAFold(t *testing.T) {
	t.Parallel()
	s, d := frozenBy(t, Options{BlockBits: 6}, func(s *Store) {
		b := new(Batch)
		for i := range 300 {
			b.Ops = append(b.Ops, UserOp{Kind: OpPut, ID: fmt.Sprintf("u%03d", i), Tags: []string{"all", fmt.Sprint(i % 2)}, Devices: []Device{{Platform: "fcm", Token: fmt.Sprint(i)}}})
		}
		propose(t, s, b)
		for i := range 60 {
			id := fmt.Sprintf("u%03d", i*5)
			propose(t, s, &Batch{Ops: []UserOp{{Kind: OpRemoveTags, ID: id, Tags: []string{"1"}}, {Kind: OpAddTags, ID: id, Tags: []string{"2", "0"}}}})
			if i%20 == 0 {
				push(t, s, &Expr{Op: OpTag, Value: "0"}, time.Hour)
			}
			propose(t, s, &Received{Seq: 1, Block: uint16(i % 5), Bits: roaring.BitmapOf(uint32(i%64), uint32(i%64)+1)})
		}
	})
	var last *change
	containers := 0
	for c := range d.changes {
		if last != nil && (c.bucket < last.bucket || c.bucket == last.bucket && bytes.Compare(c.key, last.key) <= 0) {
			t.Fatalf("key %x of bucket %d behind key %x of bucket %d", c.key, c.bucket, last.key, last.bucket)
		}
		if c.bits != nil {
			containers++
		}
		last = &c
	}
	if containers < 25 {
		t.Fatal("too little was tried:", containers)
	}
	sets := 0
	err := s.blocksDB().View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketName[bucketBlocks]).ForEach(func(k, v []byte) error {
			if k[2] != kindFact && !isMessageKind(k[2]) {
				return nil
			}
			sets++
			bm := roaring.New()
			if err := readPending(bm, v); err != nil {
				return err
			}
			bm.RunOptimize()
			if best := bitmapBytes(bm); !bytes.Equal(best, v) {
				t.Errorf("%x has %d bytes, and could have %d", k, len(v), len(best))
			}
			return nil
		})
	})
	if err != nil || sets < 25 {
		t.Fatal(sets, err)
	}
}

// TestFoldGoesInSteps folds more keys than a transaction may have: a backup gets in between, and no step is large.
func TestFoldGoesInSteps(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	d := newDelta()
	for i := range 2*foldKeys + 10 { // of keys that are not there, which costs no writing
		d.put(bucketNames, fmt.Sprintf("nothing %d", i), nil)
	}
	for i := range 5 {
		d.put(bucketMessages, string(key64(uint64(i))), make([]byte, foldBytes/2))
	}
	var steps int
	err := fold(s.blocksDB, d, func(write func() error) error {
		steps++
		if steps <= 2 {
			return write()
		}
		return nil // of the large ones the number is enough
	})
	if err != nil || steps != 5 { // two of keys; ten keys and two messages; two messages; the last
		t.Fatalf("%d steps (%v)", steps, err)
	}
}

// TestBytesOfAPushCount pushes to audiences whose bitmaps are large and whose entries are few: the bound in bytes of the delta is
// reached by them.
func TestBytesOfAPushCount(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{DeltaBytes: 200 << 10})
	users := new(Batch)
	for i := range 6000 {
		users.Ops = append(users.Ops, registerOp(fmt.Sprintf("user-%05d", i)))
	}
	propose(t, s, users)
	if err := s.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	d := s.layers.Load().active
	total := int64(0) // users of the pushes: each takes two bytes in a bitmap of every other user
	for i := 0; s.layers.Load().active == d; i++ {
		if total > 200<<10 {
			t.Fatalf("bitmaps of %d users, and the delta has not reached 200 KiB", total)
		}
		total += push(t, s, &Expr{Op: OpSample, PPM: 500_000, Value: fmt.Sprint(i)}, time.Hour).Total
	}
	if total < 40<<10 {
		t.Fatalf("bitmaps of %d users have reached 200 KiB", total)
	}
	if d.bytes < 2*total || d.entries > 1000 {
		t.Fatalf("%d bytes and %d entries for bitmaps of %d users", d.bytes, d.entries, total)
	}
}

// TestCallersWaitForTheFold makes changes faster than they are folded: at the bound callers wait, and all of them are answered when the
// fold is done. Nothing fails that only has to wait.
func TestCallersWaitForTheFold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		s := open(t, t.TempDir(), Options{DeltaEntries: 20, foldError: func() error { <-goOn; return nil }})
		done := 0
		finished := make(chan error, 1)
		go func() {
			for i := range 200 {
				if err := registerErr(s, fmt.Sprintf("u%03d", i)); err != nil {
					finished <- err
					return
				}
				done++
			}
			finished <- nil
		}()
		synctest.Wait()
		if l := s.layers.Load(); l.frozen == nil || l.active.entries+l.frozen.entries > 65 || done < 10 || done > 60 {
			t.Fatalf("%d changes were made while nothing was folded, into %d entries", done, l.active.entries)
		}
		if n, err := s.Count(context.Background(), &Expr{Op: OpAll}); err != nil || n != int64(done) { // reads do not wait
			t.Fatal(n, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := s.Propose(ctx, &SetNames{}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) {
			t.Fatal("who waits in the queue is not in the journal:", err)
		}
		close(goOn)
		if err := <-finished; err != nil || done != 200 {
			t.Fatal(done, err)
		}
	})
}

// TestFoldStepsWithoutRoom fails steps of folds for lack of room now and then: what was not done is tried again.
func TestFoldStepsWithoutRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		steps, failed := 0, 0
		s := open(t, t.TempDir(), Options{BlockBits: 1, DeltaEntries: 20, foldError: func() error {
			if steps++; steps%5 == 1 { // a fold has three at least, so the next try comes to another one
				failed++
				return syscall.ENOSPC
			}
			return nil
		}})
		for i := range 40 {
			if err := registerErr(s, fmt.Sprintf("u%02d", i)); errors.Is(err, ErrNoRoom) {
				time.Sleep(2 * foldRetry)
			} else if err != nil {
				t.Fatal(err)
			}
		}
		for {
			err := s.Checkpoint(t.Context())
			if err == nil {
				break
			}
			if !errors.Is(err, ErrNoRoom) {
				t.Fatal(err)
			}
		}
		if failed < 3 || s.Refused() != nil {
			t.Fatal(failed, s.Refused())
		}
		steps = -1000 // the check at the end finds room
	})
}

// TestAbsoluteEntries folds a delta twice, and the first half of it a third time: nothing changes any more.
func TestAbsoluteEntries(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, d := frozenBy(t, Options{BlockBits: 2}, func(s *Store) {
		for i := range 30 {
			propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPut, ID: fmt.Sprintf("u%d", i%11), Tags: []string{fmt.Sprint(i % 4)}}}})
			if i%8 == 0 {
				push(t, s, &Expr{Op: OpTag, Value: "1"}, time.Hour)
			}
		}
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "u3"}}})
		propose(t, s, &End{Seq: 2, Reason: Withdrawn})
	})
	want, err := s.Digest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	changes := slices.Collect(d.changes)
	for _, part := range [][]change{changes, changes[:len(changes)/2]} {
		if err := s.writeBlocks(func() error {
			return s.blocksDB().Update(func(tx *bbolt.Tx) error { return foldChanges(tx, part) })
		}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Digest(ctx); err != nil || got != want {
			t.Fatalf("folded again it is something else (%v)", err)
		}
	}
}
