package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
)

// tracesOf folds everything and returns the keys of blocks.db that have something of an ordinal.
func tracesOf(t *testing.T, s *Store, ord uint32, id string) (keys []string) {
	t.Helper()
	if err := s.Checkpoint(context.Background()); err != nil {
		t.Fatal(err)
	}
	block, low := s.Block(ord)
	err := s.blocksDB().View(func(tx *bbolt.Tx) error {
		e := idOf(id, ord)
		if got := tx.Bucket(bucketName[bucketIDs]).Get(e[:idPrefix]); slices.Contains(idsIn(got, hashID(id)), ord) {
			keys = append(keys, "id")
		}
		err := tx.Bucket(bucketName[bucketTokens]).ForEach(func(k, v []byte) error {
			if be32(v) == ord {
				keys = append(keys, fmt.Sprintf("token %x", k))
			}
			return nil
		})
		if err != nil {
			return err
		}
		c := tx.Bucket(bucketName[bucketBlocks]).Cursor()
		return prefixed(c, []byte{byte(block >> 8), byte(block)}, func(k, v []byte) error {
			switch k[2] {
			case kindUser:
				if be16(k[3:]) == low/groupUsers && groupRecord(v, low) != nil {
					keys = append(keys, "u record")
				}
			case kindDevice:
				if k[3] == byte(low>>8) && k[4] == byte(low) {
					keys = append(keys, fmt.Sprintf("%c record", k[2]))
				}
			default:
				if bm := roaring.New(); readBitmap(bm, v) != nil || bm.Contains(uint32(low)) {
					keys = append(keys, fmt.Sprintf("%c bit of %x", k[2], k[3:]))
				}
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// factsOf returns the facts that have a number, by name.
func factsOf(t *testing.T, s *Store) map[string]uint32 {
	t.Helper()
	facts := make(map[string]uint32)
	if err := s.withView(func(v *view) error {
		for _, e := range v.scan(bucketFacts, nil, nil, 1000, false) {
			facts[string(e.key)] = be32(e.value)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return facts
}

// TestUnregisterErasesEverything unregisters a user who has all that a user can have, wherever it stands. Nothing of it is left; the
// same ID is somebody else afterwards; and what still names the old ordinal does nothing and counts nothing.
func TestUnregisterErasesEverything(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	now := time.Unix(1000, 0)
	o := Options{BlockBits: 2, Now: func() time.Time { return now }}
	tag := func(v string) *Expr { return &Expr{Op: OpTag, Value: v} }
	retry := PhoneRetry{Ordinal: 1, Token: HashToken("fcm", "b1"), Attempt: 1, Due: 7}
	layered(t, o, func(t *testing.T, s *Store) {
		propose(t, s, &SetNames{Names: []SlotName{{0, "tier"}}})
		propose(t, s, &Batch{Ops: []UserOp{
			{Kind: OpPut, ID: "a", Tags: []string{"x"}, Devices: []Device{{Platform: "fcm", Token: "a1"}}},
			{
				Kind: OpPut, ID: "b", Tags: []string{"x", "only b"}, Attrs: []AttrValue{{"tier", "only b"}},
				Devices: []Device{{Platform: "fcm", Token: "b1"}, {Platform: "fcm", Token: "b2"}, {Platform: "apns", Token: "b3"}},
			},
			{Kind: OpRegister, ID: "c"},
		}})
		for range 3 {
			propose(t, s, &Push{To: &Expr{Op: OpAll}, Lifetime: 1000, Note: []byte("n"), Platforms: []string{"fcm"}})
		}
		propose(t, s, &Checkpoint{Seq: 3, Platform: "fcm", Next: 2, Stats: PhoneStats{Retried: 1}, Retry: []PhoneRetry{retry}})
		propose(t, s, &CaughtUp{Ordinal: 1, Seqs: []uint64{2}})
		propose(t, s, &Opened{Seq: 2, Block: 0, Bits: roaring.BitmapOf(1, 2)})
	}, func(t *testing.T, s *Store) {
		before := factsOf(t, s)
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "b"}}})
		if _, err := s.User("b"); !errors.Is(err, ErrUnknownUser) {
			t.Fatal(err)
		}
		for e, want := range map[*Expr][]string{
			{Op: OpAll}: {"a", "c"}, tag("x"): {"a"}, tag("only b"): {}, {Op: OpNot, Args: []*Expr{tag("x")}}: {"c"},
			{Op: OpAttr, Name: "tier", Value: "only b"}: {}, {Op: OpPlatform, Value: "apns"}: {}, {Op: OpPlatform, Value: "fcm"}: {"a"},
			{Op: OpUsers, IDs: []string{"b", "c"}}: {"c"}, {Op: OpSample, PPM: 1_000_000}: {"a", "c"},
		} {
			got := slices.DeleteFunc(members(t, s, e), func(id string) bool { return id == "zoe" }) // of "half folded"
			if !slices.Equal(got, want) {
				t.Errorf("%d %q: %q, not %q", e.Op, e.Value, got, want)
			}
		}
		for seq, want := range map[uint64]Progress{1: {Total: 3, Gone: 1, Pending: 2}, 2: {Total: 3, Delivered: 1, Pending: 2, Opened: 2}} {
			if got := progressOf(t, s, seq); got != want {
				t.Errorf("task %d: %+v, not %+v", seq, got, want)
			}
		}
		register(t, s, "b")
		again, err := s.Ordinal("b")
		if err != nil || again < 3 {
			t.Fatal("an ordinal is given again:", again, err)
		}
		if u, err := s.User("b"); err != nil || len(u.Tags)+len(u.Attrs)+len(u.Devices) > 0 || len(pendingOf(t, s, "b")) > 0 {
			t.Fatalf("the new b has what the old one had: %+v, %v", u, err)
		}
		// What was under way still names the old ordinal.
		if is, err := s.Ack(ctx, 1, 1); is || err != nil {
			t.Error("Ack:", is, err)
		}
		if n := propose(t, s, &CaughtUp{Ordinal: 1, Seqs: []uint64{1, 2, 3}}); n != 0 {
			t.Error("CaughtUp:", n)
		}
		if got := propose(t, s, &Received{Seq: 1, Block: 0, Bits: roaring.BitmapOf(1)}).(*roaring.Bitmap); !got.IsEmpty() {
			t.Error("Received:", got)
		}
		if got := propose(t, s, &Opened{Seq: 1, Block: 0, Bits: roaring.BitmapOf(1)}).(*roaring.Bitmap); !got.IsEmpty() {
			t.Error("Opened:", got)
		}
		if target, ok, err := s.PhoneTarget(3, "fcm", false, &retry); ok || err != nil {
			t.Errorf("a phone of nobody: %+v, %v", target, err)
		}
		step, err := s.PhoneStep(&PhoneWalk{Seq: 3, Platform: "fcm", Targets: 10})
		if err != nil || len(step.Targets) != 1 || step.Targets[0].ID != "a" {
			t.Errorf("%+v, %v", step, err)
		}
		if got := progressOf(t, s, 1); got != (Progress{Total: 3, Gone: 1, Pending: 2}) {
			t.Errorf("%+v", got)
		}
		// A fact that nobody has is gone; if it comes again it is another one.
		facts := factsOf(t, s)
		for _, key := range []string{tagFactKey("only b"), attrFactKey(0, "only b"), platformFactKey("apns")} {
			if _, has := facts[key]; has || before[key] == 0 {
				t.Errorf("%q: number %d before, %d after", key, before[key], facts[key])
			}
		}
		if facts[tagFactKey("x")] != before[tagFactKey("x")] {
			t.Error("x is still somebody's")
		}
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpAddTags, ID: "c", Tags: []string{"only b"}}}})
		most := uint32(0)
		for _, n := range before {
			most = max(most, n)
		}
		if n := factsOf(t, s)[tagFactKey("only b")]; n <= most {
			t.Errorf("number %d is given again", n)
		}
		if keys := tracesOf(t, s, 1, "b"); len(keys) > 0 {
			t.Error("left behind:", keys)
		}
	})
}

// TestUnregisterTheLastWhoWaits unregisters, one after the other, all who wait for a message: then it has ended.
func TestUnregisterTheLastWhoWaits(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	s := open(t, t.TempDir(), Options{BlockBits: 1, Now: func() time.Time { return now }})
	register(t, s, "a", "b", "c")
	r := push(t, s, &Expr{Op: OpAll}, time.Hour)
	propose(t, s, &CaughtUp{Ordinal: 1, Seqs: []uint64{r.Seq}})
	for _, id := range []string{"a", "c"} {
		if got := progressOf(t, s, r.Seq); got.Ended != 0 {
			t.Fatalf("%+v", got)
		}
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: id}}})
	}
	if got := progressOf(t, s, r.Seq); got != (Progress{Total: 3, Delivered: 1, Gone: 2, Ended: now.UnixMilli(), Reason: Completed}) {
		t.Fatalf("%+v", got)
	}
	_, err := s.Propose(context.Background(), &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "a"}}})
	if !errors.Is(err, ErrUnknownUser) {
		t.Fatal(err)
	}
}

// TestUnregisterWithinABatch registers, fills and unregisters users in one batch, in every order: what counts is the end of it.
func TestUnregisterWithinABatch(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{BlockBits: 2})
	device := []Device{{Platform: "fcm", Token: "one"}}
	put := func(id string) UserOp {
		return UserOp{Kind: OpPut, ID: id, Tags: []string{"x", "of " + id}, Devices: device}
	}
	gone := func(id string) UserOp { return UserOp{Kind: OpUnregister, ID: id} }
	for i, c := range []struct {
		ops  []UserOp
		want []string // with the tag x
	}{
		{[]UserOp{put("a"), gone("a")}, []string{}},
		{[]UserOp{put("a"), gone("a"), registerOp("a")}, []string{}},
		{[]UserOp{put("a"), put("b")}, []string{"a", "b"}},
		{[]UserOp{gone("a"), put("a"), gone("a"), put("a")}, []string{"a", "b"}},
		{[]UserOp{put("b"), gone("a"), gone("b"), put("c")}, []string{"c"}},
		{[]UserOp{gone("c"), put("d"), gone("d"), put("c")}, []string{"c"}},
	} {
		propose(t, s, &Batch{Ops: c.ops})
		if got := members(t, s, &Expr{Op: OpTag, Value: "x"}); !slices.Equal(got, c.want) {
			t.Fatalf("%d: %q, not %q", i, got, c.want)
		}
		// The token is the last user's who registered it.
		last := members(t, s, &Expr{Op: OpPlatform, Value: "fcm"})
		if len(c.want) == 0 && len(last) > 0 || len(c.want) > 0 && len(last) != 1 {
			t.Fatalf("%d: %q have the one device", i, last)
		}
		facts := factsOf(t, s)
		if _, has := facts[tagFactKey("of a")]; has != slices.Contains(c.want, "a") {
			t.Fatalf("%d: %v", i, facts)
		}
		if err := s.Check(context.Background()); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
}
