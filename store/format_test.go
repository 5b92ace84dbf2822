package store

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
)

// byHand puts a record together from the words of docs/format.md.
func byHand(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case string: // without its length
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

// TestFormatByHand: what docs/format.md says of records is what is written and read.
func TestFormatByHand(t *testing.T) {
	t.Parallel()
	five := byHand(0x3A, 0x30, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 5, 0) // the set of 5
	counts := byHand(2, 1, 0, 1, 0, 0, 1, 3, "bad", 1)
	stats := PhoneStats{Sent: 2, Accepted: 1, Rejected: 1, Reasons: map[string]int64{"bad": 1}}
	token := [16]byte{15: 7}
	set := roaring.BitmapOf(5)
	for _, c := range []struct {
		kind commandKind
		want Command
		got  []byte
	}{
		{8, &End{Seq: 9, Reason: Withdrawn, Note: []byte("{}"), Notifying: []string{"apns"}}, byHand(9, 3, 2, "{}", 1, 4, "apns")},
		{10, &Checkpoint{
			Seq: 9, Platform: "fcm", Next: 300, Recall: true, Stats: stats, Retry: []PhoneRetry{{Ordinal: 3, Token: token, Attempt: 2, Due: 100, Asleep: true}}, Settled: []PhoneRetry{},
			Asleep: []BlockSet{{1, set}}, Awake: []BlockSet{{0, set}, {1, set}}, At: -1,
		}, byHand(9, 3, "fcm", 0xAC, 2, 0, 1, counts, 1, 3, token[:], 2, 0xC8, 1, 1, 0, 1, 1, len(five), five, 2, 0, len(five), five, 1, len(five), five, 1)},
		{13, &PlanStep{
			ID: 4, Hash: [16]byte{1}, Version: 2, State: []byte("{}"), Due: 7, Run: 3, Thaw: true, Freeze: &Expr{Op: OpAll},
		}, byHand(4, 0, 1, make([]byte, 15), 2, 4+32, 2, "{}", 7, 3, 1)},
		{13, &PlanStep{
			Key: "k", State: []byte{}, Spec: []byte("{}"), Run: 1, Take: true, Part: "A", Limit: 10, Among: &Expr{Op: OpTimeZone, Value: "UTC"},
			Push: &Push{Random: 1, From: "f", To: &Expr{Op: OpAll}, Body: []byte("b"), Note: []byte{}, Platforms: []string{}, Lifetime: 60, Keep: true},
		}, byHand(0, 1, "k", make([]byte, 16), 0, 2+8+16+64, 2, "{}", 0, 0, 1,
			make([]byte, 7), 1, 1, "f", 0, make([]byte, 16), 1, "b", 1, 60, 0, 0, 0, 1, 0, 0, 0, 0, 1, "A", 10, 17, 3, "UTC")},
	} {
		if c.kind != c.want.kind() {
			t.Errorf("%T is of kind %d, not %d", c.want, c.want.kind(), c.kind)
		}
		var w writer
		c.want.encode(&w)
		if !bytes.Equal(w.b, c.got) {
			t.Errorf("%T is written as\n%x, by hand\n%x", c.want, w.b, c.got)
		}
		got := reflect.New(reflect.TypeOf(c.want).Elem()).Interface().(Command)
		r := reader{b: c.got}
		if got.decode(&r); r.done() != nil {
			t.Errorf("%T: %v", c.want, r.done())
		}
		var again writer
		if got.encode(&again); !bytes.Equal(again.b, c.got) {
			t.Errorf("%T is read as %+v", c.want, got)
		}
	}

	phone := phoneRecord{next: 300, number: 1, retried: true, stats: stats, slept: 3, recall: true, all: true, until: 301, recalled: PhoneStats{Sent: 1, Accepted: 1}}
	hand := byHand(0xAC, 2, 1, 2+4+8, counts, 0xAD, 2, 1, 1, 0, 0, 0, 0, 0, 6)
	if got, err := decodePhone(hand); err != nil || !bytes.Equal(phone.encode(), hand) || !bytes.Equal(got.encode(), hand) {
		t.Errorf("phones: %x, by hand %x, which is %+v: %v", phone.encode(), hand, got, err)
	}
	progress := Progress{Total: 1, Delivered: 2, Failed: 3, Pending: 4, Expired: 5, Withdrawn: 6, Gone: 7, OptedOut: 8, Capped: 9, Opened: 10, Ended: 11, sampleAt: 12, Reason: Withdrawn}
	hand = byHand(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 3)
	if got, err := decodeProgress(hand); err != nil || got != progress || !bytes.Equal(progress.encode(), hand) {
		t.Errorf("progress: %x, by hand %x, which is %+v: %v", progress.encode(), hand, got, err)
	}
	want := []Sample{{At: 300, Delivered: 1, Failed: 2, Pending: 3, Opened: 4, Notified: []int64{5, 6}}, {At: 1, Notified: []int64{}}}
	if got, err := decodeHistory(byHand(0xAC, 2, 1, 2, 3, 4, 2, 5, 6, 1, 0, 0, 0, 0, 0)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("samples: %+v, %v", got, err)
	}
	if got := frozenKey(2, 3, 4); !bytes.Equal(got, byHand(make([]byte, 7), 2, 0, 0, 0, 3, 0, 4)) {
		t.Errorf("a key of frozen: %x", got)
	}
	if got := messageKey(1, kindAsleep, asleepOf(5, 2)); !bytes.Equal(got, byHand(0, 1, "s", make([]byte, 6), 5, 2)) {
		t.Errorf("a key of who is asleep: %x", got)
	}
}
