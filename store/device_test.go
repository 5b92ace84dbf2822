package store

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func devicesOf(t *testing.T, s *Store, id string) (list []string) {
	t.Helper()
	u, err := s.User(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range u.Devices {
		list = append(list, fmt.Sprintf("%s %s %s %d", d.Platform, d.Token, d.Topic, d.Registered))
	}
	slices.Sort(list)
	return list
}

// TestTokenMoves registers a token for one user and then for another: the first one's device goes, and the platform with it when it was
// the last; others of the first one stay.
func TestTokenMoves(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(5)
	o := Options{BlockBits: 1, Now: func() time.Time { return now }}
	put := func(id string, tokens ...string) UserOp {
		op := UserOp{Kind: OpPutDevices, ID: id}
		for _, token := range tokens {
			op.Devices = append(op.Devices, Device{Platform: token[:4], Token: token, Topic: "of " + id})
		}
		return op
	}
	layered(t, o, func(t *testing.T, s *Store) {
		register(t, s, "a", "b", "c")
		propose(t, s, &Batch{Ops: []UserOp{put("a", "fcm 1", "fcm 2", "apns1")}})
	}, func(t *testing.T, s *Store) {
		on := func(platform string, want ...string) {
			t.Helper()
			if got := members(t, s, &Expr{Op: OpPlatform, Value: platform}); !slices.Equal(got, want) {
				t.Fatalf("on %s: %q, not %q", platform, got, want)
			}
		}
		on("fcm ", "a")
		on("apns", "a")
		propose(t, s, &Batch{Ops: []UserOp{put("c", "fcm 1", "apns1")}})
		on("fcm ", "a", "c")
		on("apns", "c")
		if got := devicesOf(t, s, "a"); !slices.Equal(got, []string{"fcm  fcm 2 of a 5"}) {
			t.Fatal(got)
		}
		propose(t, s, &Batch{Ops: []UserOp{put("b", "fcm 2"), put("c", "fcm 2"), put("b", "fcm 1")}})
		on("fcm ", "b", "c")
		if got := devicesOf(t, s, "c"); !slices.Equal(got, []string{"apns apns1 of c 5", "fcm  fcm 2 of c 5"}) {
			t.Fatal(got)
		}
		// Of another platform it is another token.
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPutDevices, ID: "a", Devices: []Device{{Platform: "huawei", Token: "fcm 1"}}}}})
		on("fcm ", "b", "c")
		on("huawei", "a")
		// Who takes away what somebody else has by now takes away nothing.
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpRemoveDevices, ID: "a", Devices: []Device{{Platform: "fcm ", Token: "fcm 1"}}}}})
		on("fcm ", "b", "c")
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "c"}, put("a", "apns1")}})
		on("apns", "a")
		on("fcm ", "b")
	})
}

// TestDeadTokenThatWasRegisteredAgain drops tokens that a service called dead: not one that was registered since, by whoever, and
// none of a user who is not known any more.
func TestDeadTokenThatWasRegisteredAgain(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1000)
	s := open(t, t.TempDir(), Options{BlockBits: 1, Now: func() time.Time { return now }})
	device := Device{Platform: "fcm", Token: "1"}
	put := func(id string) {
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPut, ID: id, Devices: []Device{device}}}})
	}
	drop := func(id string, died int64) {
		dead := device
		dead.Registered = died
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpDropDevices, ID: id, Devices: []Device{dead}}}})
	}
	has := func(id string, want int) {
		t.Helper()
		if got := devicesOf(t, s, id); len(got) != want {
			t.Fatal(id, got)
		}
	}
	put("a")
	drop("a", 1000) // it died before, or as it was registered
	has("a", 1)
	now = time.UnixMilli(2000)
	put("a") // again
	drop("a", 1500)
	has("a", 1)
	put("b")
	drop("a", 3000)
	has("b", 1)
	has("a", 0)
	drop("b", 2001)
	has("b", 0)
	drop("nobody", 3000)
	if got := members(t, s, &Expr{Op: OpPlatform, Value: "fcm"}); len(got) != 0 {
		t.Fatal(got)
	}
}

// TestPlatformTooLong pushes to the phones of a platform whose name is a byte too long for the key of a retry, which has its length in
// a byte; and to those of the longest.
func TestPlatformTooLong(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{})
	register(t, s, "a")
	name := strings.Repeat("p", 256)
	c := &Push{To: &Expr{Op: OpAll}, Lifetime: 1000, Note: []byte("n"), Platforms: []string{"fcm", name}}
	if _, err := s.Propose(context.Background(), c); err == nil {
		t.Fatal("accepted")
	}
	if got := s.LastSeq(); got != 0 {
		t.Fatal("refused, and it has sequence", got)
	}
	name = name[1:]
	many := *c
	for many.Platforms = nil; len(many.Platforms) <= maxPlatforms; {
		many.Platforms = append(many.Platforms, fmt.Sprintf("%03d", len(many.Platforms)))
	}
	if _, err := s.Propose(context.Background(), &many); err == nil {
		t.Fatal("accepted for too many platforms")
	}
	c.Platforms[1] = name
	propose(t, s, c)
	retry := PhoneRetry{Attempt: 1, Due: 7}
	propose(t, s, &Checkpoint{Seq: 1, Platform: name, Next: 1, Retry: []PhoneRetry{retry}})
	_, work, err := s.Unfinished()
	if err != nil || len(work) != 2 || work[1].Platform != name || !slices.Equal(work[1].Retries, []PhoneRetry{retry}) {
		t.Fatalf("%+v, %v", work, err)
	}
}

// TestPhoneWorkIsDurable notifies phones batch by batch, dies, and goes on: at the next user, with the retries that waited, their number and
// their time, and without those that are settled. What a task's end or an ack makes needless is no target any more.
func TestPhoneWorkIsDurable(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1000)
	o := Options{BlockBits: 1, Now: func() time.Time { return now }}
	target := func(i int) PhoneRetry {
		return PhoneRetry{Ordinal: uint32(i), Token: HashToken("fcm", fmt.Sprint(i)), Attempt: 1, Due: int64(100 + i)}
	}
	layered(t, o, func(t *testing.T, s *Store) {
		b := new(Batch)
		for i := range 9 {
			b.Ops = append(b.Ops, UserOp{Kind: OpPut, ID: fmt.Sprintf("u%d", i), Devices: []Device{{Platform: "fcm", Token: fmt.Sprint(i)}}})
		}
		propose(t, s, b)
		propose(t, s, &Push{To: &Expr{Op: OpAll}, Lifetime: 10_000, Note: []byte("n"), Platforms: []string{"apns", "fcm"}})
		propose(t, s, &Checkpoint{Seq: 1, Platform: "fcm", Next: 4, Stats: PhoneStats{Sent: 4, Accepted: 1, Retried: 3}, Retry: []PhoneRetry{target(1), target(2), target(3)}})
		second := target(2)
		second.Attempt, second.Due, second.Asleep = 2, 900, true
		propose(t, s, &Checkpoint{Seq: 1, Platform: "fcm", Stats: PhoneStats{Sent: 2, Accepted: 1, Retried: 1}, Retry: []PhoneRetry{second}, Settled: []PhoneRetry{target(1)}})
		propose(t, s, &Checkpoint{Seq: 1, Platform: "apns", Next: 9, Done: true})
	}, func(t *testing.T, s *Store) {
		second := target(2)
		second.Attempt, second.Due, second.Asleep = 2, 900, true
		_, work, err := s.Unfinished()
		if err != nil || len(work) != 1 {
			t.Fatalf("%+v, %v", work, err)
		}
		if w := work[0]; w.Seq != 1 || w.Platform != "fcm" || w.Next != 4 || !slices.Equal(w.Retries, []PhoneRetry{second, target(3)}) {
			t.Fatalf("%+v", w)
		}
		state, err := s.Task(1)
		if err != nil || state.Notified || !sameStats(state.Phones["fcm"], PhoneStats{Sent: 6, Accepted: 2, Retried: 4}) {
			t.Fatalf("%+v, %v", state, err)
		}
		// From there on: 5 has acknowledged it, and the token of 6 is 8's now.
		if is, err := s.Ack(context.Background(), 5, 1); !is || err != nil {
			t.Fatal(is, err)
		}
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPutDevices, ID: "u8", Devices: []Device{{Platform: "fcm", Token: "6"}}}}})
		var got []string
		next, more := uint64(4), true
		for more {
			step, err := s.PhoneStep(&PhoneWalk{Seq: 1, Platform: "fcm", From: next, Targets: 2})
			if next, more = step.Next, step.More; err != nil || len(step.Targets) > 3 { // all devices of the last user are in
				t.Fatal(step, err)
			}
			for _, x := range step.Targets {
				got = append(got, x.ID+" "+x.Device.Token)
			}
		}
		if !slices.Equal(got, []string{"u4 4", "u7 7", "u8 8", "u8 6"}) {
			t.Fatalf("%q", got)
		}
		is := func(r PhoneRetry, want bool) {
			t.Helper()
			x, ok, err := s.PhoneTarget(1, "fcm", false, &r)
			if err != nil || ok != want || ok && x.Ordinal != r.Ordinal {
				t.Fatalf("%+v: %+v, %v, %v", r, x, ok, err)
			}
		}
		is(second, true)
		is(target(5), false) // acknowledged
		is(target(6), false) // the token has moved
		// A checkpoint never goes back, and after the end of the message there is nothing to be done.
		propose(t, s, &Checkpoint{Seq: 1, Platform: "fcm", Next: 2})
		if _, work, err = s.Unfinished(); err != nil || work[0].Next != 4 {
			t.Fatalf("%+v, %v", work, err)
		}
		propose(t, s, &End{Seq: 1, Reason: Withdrawn})
		is(second, false)
		propose(t, s, &Checkpoint{Seq: 1, Platform: "fcm", Next: 9, Retry: []PhoneRetry{target(7)}, Stats: PhoneStats{Sent: 1}})
		if _, work, err = s.Unfinished(); err != nil || len(work) != 0 {
			t.Fatalf("%+v, %v", work, err)
		}
		if state, err = s.Task(1); err != nil || !state.Notified || state.Phones["fcm"].Sent != 7 {
			t.Fatalf("%+v, %v", state, err)
		}
	})
}

func sameStats(a, b PhoneStats) bool { return reflect.DeepEqual(a, b) }
