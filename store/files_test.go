package store

import (
	"context"
	"errors"
	"testing"
)

// TestFound looks at directories as processes leave them, which end well and which do not: what is to be replayed, and which files there are.
func TestFound(t *testing.T) {
	t.Parallel()
	for name, as := range map[string]struct{ journal, segment bool }{
		"closed": {}, "journal": {journal: true}, "segment": {segment: true}, "both": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			closedStore(t, dir, as.journal, as.segment)
			s := open(t, dir, Options{ReadOnly: true})
			r, err := s.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if f := r.Found; f.Segment != as.segment || (f.Records > 0) != as.journal || (f.Bytes > f.Records) != as.journal || r.ID == [16]byte{} {
				t.Errorf("%+v", r)
			}
			files, err := s.Files(context.Background())
			want := 2
			if as.segment {
				want = 3
			}
			if err != nil || len(files) != want {
				t.Fatalf("%+v, %v", files, err)
			}
			for _, f := range files {
				if f.Bytes <= 0 || f.Free < 0 || f.Free >= f.Bytes || f.Format != 1 {
					t.Errorf("%+v", f)
				}
			}
			users := int64(0)
			for p, err := range s.Postings(context.Background()) {
				if err != nil {
					t.Fatal(err)
				}
				if p.Kind == FactUser {
					users = p.Users
				}
			}
			if users != r.Users || users == 0 {
				t.Errorf("%d users, not %d", users, r.Users)
			}
		})
	}
}

// TestPostingOf: each kind of fact is read as it is written, and what is none is damage.
func TestPostingOf(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]Posting{
		tagFactKey("vip"): {Kind: FactTag, Value: "vip"}, string(appendOutFact(nil, "news")): {Kind: FactOut, Value: "news"},
		attrFactKey(3, "gold"): {Kind: FactAttr, Slot: 3, Value: "gold"}, string(appendHasFact(nil, 4)): {Kind: FactHas, Slot: 4}, string(appendBitFact(nil, 5, 63)): {Kind: FactBit, Slot: 5, Bit: 63},
		platformFactKey("fcm"): {Kind: FactPlatform, Value: "fcm"}, languageFactKey("zh"): {Kind: FactLanguage, Value: "zh"}, timeZoneFactKey("UTC"): {Kind: FactTimeZone, Value: "UTC"},
		string(appendDayFact(nil, factRegistered, 7)): {Kind: FactRegistered, Day: 7}, string(appendDayFact(nil, factSeen, 1<<31)): {Kind: FactSeen, Day: 1 << 31},
	} {
		if got, err := postingOf([]byte(key)); got != want || err != nil {
			t.Errorf("%q: %+v, %v", key, got, err)
		}
	}
	for _, key := range []string{"", "x", "a", "h", "b", "b\x01", "b\x01\x02\x03", "r\x00\x00\x00", "s\x00\x00\x00\x00\x00"} {
		if got, err := postingOf([]byte(key)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q is %+v, %v", key, got, err)
		}
	}
}
