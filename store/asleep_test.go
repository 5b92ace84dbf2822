package store

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
)

// asleepScene is a message to twelve users in blocks of four, of whom all have a phone on both platforms but the first, and those in zone "night" are passed over on "fcm".
func asleepScene(t *testing.T, s *Store, always bool) {
	t.Helper()
	b := new(Batch)
	for i := range 12 {
		zone := "day"
		if i%2 == 1 {
			zone = "night"
		}
		op := UserOp{Kind: OpPut, ID: fmt.Sprint("u", i)}
		for _, platform := range []string{"apns", "fcm"} {
			if i > 0 {
				op.Devices = append(op.Devices, Device{Platform: platform, Token: fmt.Sprint(i), TimeZone: zone})
			}
		}
		b.Ops = append(b.Ops, op)
	}
	propose(t, s, b)
	propose(t, s, &Push{To: &Expr{Op: OpAll}, Lifetime: 10_000, Note: []byte("n"), Platforms: []string{"apns", "fcm"}, Always: always})
	w := &PhoneWalk{Seq: 1, Platform: "fcm", Always: always, Targets: 2, Asleep: &Expr{Op: OpTimeZone, Value: "night"}}
	for range 2 { // and not the rest
		step := phoneStep(t, s, w)
		w.From = step.Next
		propose(t, s, &Checkpoint{Seq: 1, Platform: "fcm", Next: step.Next, Asleep: step.Asleep, At: 7})
	}
}

func phoneStep(t *testing.T, s *Store, w *PhoneWalk) PhoneStep {
	t.Helper()
	step, err := s.PhoneStep(w)
	if err != nil {
		t.Fatal(err)
	}
	return step
}

// ordinals returns who is in sets of blocks of four.
func ordinals(sets []BlockSet) (list []uint32) {
	for _, s := range sets {
		for _, low := range s.Low.ToArray() {
			list = append(list, uint32(s.Block)*4+low)
		}
	}
	return list
}

// asleepSets folds everything and returns how many sets of who is asleep are in the file.
func asleepSets(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.blocksDB().View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketName[bucketBlocks]).ForEach(func(k, _ []byte) error {
			if k[2] == kindAsleep {
				n++
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPassedOver: who was passed over is found again, in steps, until the checkpoint of a step says that they are awake, and nobody else. Who has had their turn
// are those before the next ordinal who were not.
func TestPassedOver(t *testing.T) {
	t.Parallel()
	for _, always := range []bool{false, true} {
		t.Run(fmt.Sprint(always), func(t *testing.T) {
			t.Parallel()
			layered(t, Options{BlockBits: 2, Now: func() time.Time { return time.UnixMilli(1000) }}, func(t *testing.T, s *Store) { asleepScene(t, s, always) }, func(t *testing.T, s *Store) {
				_, work, err := s.Unfinished()
				if err != nil || len(work) != 2 || work[1].Next != 10 || work[1].Slept != 7 || work[0].Slept != 0 {
					t.Fatalf("%+v, %v", work, err)
				}
				turn := func(want ...uint32) {
					t.Helper()
					var sets []BlockSet
					for block := range uint16(3) {
						for _, platform := range []string{"fcm", "apns"} {
							var had *roaring.Bitmap
							err := s.withView(func(v *view) error {
								had = v.toNotify(block, 1, platform, always)
								v.notNotified(had, block, 1, platform)
								had = had.Clone()
								return nil
							})
							if err != nil || platform == "apns" && !had.IsEmpty() {
								t.Fatal(platform, had, err)
							}
							sets = append(sets, BlockSet{block, had})
						}
					}
					if got := ordinals(sets); !slices.Equal(got, want) {
						t.Errorf("had their turn: %v, not %v", got, want)
					}
				}
				turn(2, 4, 6, 8)
				// All of them sleep on: there is nothing to record.
				again := &PhoneWalk{Seq: 1, Platform: "fcm", Always: always, Again: true, Targets: 10, Asleep: &Expr{Op: OpTimeZone, Value: "night"}}
				if step := phoneStep(t, s, again); len(step.Targets)+len(step.Awake)+len(step.Asleep) > 0 || !step.Staying || step.More {
					t.Errorf("%+v", step)
				}
				again.Platform = "apns"
				if step := phoneStep(t, s, again); len(step.Targets)+len(step.Awake) > 0 || step.Staying || step.More {
					t.Errorf("on the other platform: %+v", step)
				}
				again.Platform = "fcm"
				// One moves to where it is day, and one of those who were there to where it is night.
				propose(t, s, &Batch{Ops: []UserOp{
					{Kind: OpPutDevices, ID: "u3", Devices: []Device{{Platform: "apns", Token: "3", TimeZone: "day"}, {Platform: "fcm", Token: "3", TimeZone: "day"}}},
					{Kind: OpPutDevices, ID: "u4", Devices: []Device{{Platform: "apns", Token: "4", TimeZone: "night"}, {Platform: "fcm", Token: "4", TimeZone: "night"}}},
				}})
				step := phoneStep(t, s, again)
				if len(step.Targets) != 1 || step.Targets[0].ID != "u3" || !slices.Equal(ordinals(step.Awake), []uint32{3}) || !step.Staying || step.More {
					t.Errorf("%+v", step)
				}
				propose(t, s, &Checkpoint{Seq: 1, Platform: "fcm", Next: 10, Awake: step.Awake})
				turn(2, 3, 4, 6, 8)
				// It is day. One has the message, one is gone, and the others have their turn in steps.
				propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "u5"}}})
				if is, err := s.Ack(context.Background(), 7, 1); !is || err != nil {
					t.Fatal(is, err)
				}
				again.Asleep, again.Targets = nil, 1
				var targets []string
				var awake []uint32
				for more := true; more; {
					step := phoneStep(t, s, again)
					for _, x := range step.Targets {
						targets = append(targets, x.ID)
					}
					awake = append(awake, ordinals(step.Awake)...)
					propose(t, s, &Checkpoint{Seq: 1, Platform: "fcm", Next: 10, Awake: step.Awake})
					again.From, more = step.Next, step.More
				}
				want := []string{"u1", "u9"}
				if always {
					want = []string{"u1", "u7", "u9"}
				}
				if !slices.Equal(awake, []uint32{1, 7, 9}) || !slices.Equal(targets, want) {
					t.Errorf("%v, %q", awake, targets)
				}
				if n := asleepSets(t, s); n != 0 {
					t.Error("sets are left:", n)
				}
			})
		})
	}
}

// TestNobodyIsPassedOver: nobody is noted as passed over who is not in the audience, is unregistered, or has not had their turn, nor to a message that notifies nobody there.
func TestNobodyIsPassedOver(t *testing.T) {
	t.Parallel()
	for _, always := range []bool{false, true} {
		s := open(t, t.TempDir(), Options{BlockBits: 2})
		register(t, s, "a", "b", "c", "d", "e")
		propose(t, s, &Push{To: &Expr{Op: OpNot, Args: []*Expr{{Op: OpUsers, IDs: []string{"a"}}}}, Lifetime: 10_000_000, Note: []byte("n"), Platforms: []string{"fcm"}, Always: always})
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "b"}}})
		all := []BlockSet{{0, roaring.BitmapOf(0, 1, 2, 3, 4, 77)}, {1, roaring.BitmapOf(0)}, {9, roaring.BitmapOf(0)}}
		propose(t, s, &Checkpoint{Seq: 1, Platform: "fcm", Next: 3, Asleep: all, At: 1})
		propose(t, s, &Checkpoint{Seq: 1, Platform: "apns", Next: 9, Asleep: all, At: 1})
		propose(t, s, &Checkpoint{Seq: 7, Platform: "fcm", Next: 9, Asleep: all, At: 1})
		step := phoneStep(t, s, &PhoneWalk{Seq: 1, Platform: "fcm", Always: always, Again: true, Targets: 10})
		if got := ordinals(step.Awake); !slices.Equal(got, []uint32{2}) || asleepSets(t, s) != 1 {
			t.Errorf("passed over: %v", got)
		}
	}
}

// TestNobodySleepsBehindTheEnd: the end of a task, or of its work on a platform, takes with it who was passed over.
func TestNobodySleepsBehindTheEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]Command{
		"withdrawn": &End{Seq: 1, Reason: Withdrawn}, "done": &Checkpoint{Seq: 1, Platform: "fcm", Next: 10, Done: true},
		"gone": &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "u1"}, {Kind: OpUnregister, ID: "u3"}, {Kind: OpUnregister, ID: "u5"}, {Kind: OpUnregister, ID: "u7"}, {Kind: OpUnregister, ID: "u9"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			layered(t, Options{BlockBits: 2, Now: func() time.Time { return time.UnixMilli(1000) }}, func(t *testing.T, s *Store) { asleepScene(t, s, true) }, func(t *testing.T, s *Store) {
				if name == "done" {
					if n := asleepSets(t, s); n != 3 {
						t.Error("sets in the night:", n)
					}
				}
				propose(t, s, end)
				propose(t, s, &Checkpoint{Seq: 1, Platform: "apns", Done: true})
				if n := asleepSets(t, s); n != 0 {
					t.Error("sets are left:", n)
				}
			})
		})
	}
}
