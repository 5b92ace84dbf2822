package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// TestLimitsAreState raises a limit, makes use of it, and dies: the replay, under whatever options, does what was done. A lowered one
// leaves alone what is there.
func TestLimitsAreState(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	now := time.Unix(1000, 0)
	clock := func() time.Time { return now }
	s := open(t, t.TempDir(), Options{BlockBits: 2, Now: clock})
	register(t, s, "a")
	if l, _ := s.Settings(); l != (Limits{TagsPerUser: 100, DevicesPerUser: 20}) {
		t.Fatal(l)
	}
	add := func(s *Store, from, to int) error {
		op := UserOp{Kind: OpAddTags, ID: "a"}
		for i := from; i < to; i++ {
			op.Tags = append(op.Tags, fmt.Sprintf("tag %03d", i))
		}
		_, err := s.Propose(ctx, &Batch{Ops: []UserOp{op}})
		return err
	}
	limited := func(err error, limit, got int64) {
		t.Helper()
		var l *LimitError
		if !errors.As(err, &l) || l.Limit != limit || l.Got != got {
			t.Fatal(err)
		}
	}
	limited(add(s, 0, 101), 100, 101)
	propose(t, s, &SetLimits{Limits{TagsPerUser: 150, DevicesPerUser: 1}})
	if err := add(s, 0, 150); err != nil {
		t.Fatal(err)
	}
	limited(add(s, 149, 151), 150, 151)
	propose(t, s, &SetLimits{Limits{TagsPerUser: 2, DevicesPerUser: 1}})
	limited(add(s, 150, 151), 2, 151)
	if err := add(s, 3, 7); err != nil {
		t.Fatal("tags that the user has already:", err)
	}
	replayed := crash(t, s, Options{DeltaEntries: 7, DeltaBytes: 1 << 12, Now: clock})
	if l, _ := replayed.Settings(); l != (Limits{TagsPerUser: 2, DevicesPerUser: 1}) {
		t.Fatal(l)
	}
	if u, err := replayed.User("a"); err != nil || len(u.Tags) != 150 {
		t.Fatal(len(u.Tags), err)
	}
	limited(add(replayed, 150, 151), 2, 151)
	limited(add(s, 150, 151), 2, 151) // the same command in both, for the digest
	want, err := s.Digest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := replayed.Digest(ctx); err != nil || got != want {
		t.Fatalf("%x, not %x (%v)", got, want, err)
	}
}

// TestTimeNeverGoesBack sets the clock back: what commands are stamped with stays where it was, in the journal too and after a
// replay, so a message accepted later never expires earlier.
func TestTimeNeverGoesBack(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	now := start
	j := new(groups)
	o := Options{Now: func() time.Time { return now }}
	first := o
	first.WrapJournal = j.wrap
	s := open(t, t.TempDir(), first)
	register(t, s, "a")
	accept := func(s *Store, want time.Time) {
		t.Helper()
		if r := push(t, s, &Expr{Op: OpAll}, time.Minute); r.Accepted != want.UnixMilli() || r.Expires != want.Add(time.Minute).UnixMilli() {
			t.Fatalf("accepted at %d, not %d", r.Accepted, want.UnixMilli())
		}
	}
	accept(s, start)
	now = start.Add(time.Second)
	accept(s, now)
	now = start.Add(-time.Hour)
	accept(s, start.Add(time.Second))
	if done := propose(t, s, &End{Seq: 1, Reason: Expired}); done != false {
		t.Fatal("expired an hour before its time")
	}
	register(t, s, "b")
	if u, err := s.User("b"); err != nil || u.Registered != start.Unix()+1 {
		t.Fatal(u.Registered, err)
	}
	replayed := crash(t, s, o) // with the clock still back
	accept(replayed, start.Add(time.Second))
	now = start.Add(time.Hour)
	accept(replayed, now)
	if done := propose(t, replayed, &End{Seq: 1, Reason: Expired}); done != true {
		t.Fatal("not expired")
	}
	if !slices.IsSorted(j.stamps) || len(j.stamps) < 6 {
		t.Fatal(j.stamps)
	}
	// A log that several write to may have an earlier stamp behind a later one.
	aside := &Store{geo: s.geo, proposer: s.proposer, st: *s.published.Load().clone()}
	aside.layers.Store(&layers{db: s.blocksDB(), active: newDelta(), everyone: newEveryone()})
	early := &Batch{Ops: []UserOp{registerOp("early")}}
	if err := aside.replayRecord(&decoded{position: aside.st.position + 1, rec: &record{stamp: 7, proposer: 99, first: 1}, commands: []Command{early}}); err != nil {
		t.Fatal(err)
	}
	aside.publish()
	if u, err := aside.User("early"); err != nil || u.Registered != start.Unix()+1 {
		t.Fatal(u.Registered, err)
	}
}

// TestNamesStandForSlots renames slots, swaps two names, and takes names away: values belong to the slots and go with them.
func TestNamesStandForSlots(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	o := Options{BlockBits: 1, Now: func() time.Time { return now }}
	attr := func(name, value string) *Expr { return &Expr{Op: OpAttr, Name: name, Value: value} }
	layered(t, o, func(t *testing.T, s *Store) {
		propose(t, s, &SetNames{Names: []SlotName{{0, "tier"}, {3, "city"}}})
		propose(t, s, &Batch{Ops: []UserOp{
			{Kind: OpPut, ID: "a", Attrs: []AttrValue{{"tier", "gold"}, {"city", "Bern"}}},
			{Kind: OpPut, ID: "b", Attrs: []AttrValue{{"tier", "Bern"}, {"city", "gold"}}},
			{Kind: OpPut, ID: "c"},
		}})
	}, func(t *testing.T, s *Store) {
		is := func(e *Expr, want ...string) {
			t.Helper()
			if got := members(t, s, e); !slices.Equal(got, want) {
				t.Fatalf("%s = %s: %q, not %q", e.Name, e.Value, got, want)
			}
		}
		unnamed := func(name string) {
			t.Helper()
			if _, err := s.Count(context.Background(), attr(name, "gold")); !errors.Is(err, ErrUnnamedAttribute) {
				t.Fatal(err)
			}
			if _, err := s.Propose(context.Background(), &Batch{Ops: []UserOp{{Kind: OpSetAttrs, ID: "c", Attrs: []AttrValue{{name, "x"}}}}}); !errors.Is(err, ErrUnnamedAttribute) {
				t.Fatal(err)
			}
		}
		has := func(id string, want ...AttrValue) {
			t.Helper()
			if u, err := s.User(id); err != nil || !slices.Equal(u.Attrs, want) {
				t.Fatal(u.Attrs, err)
			}
		}
		is(attr("tier", "gold"), "a")
		propose(t, s, &SetNames{Names: []SlotName{{0, "class"}}})
		is(attr("class", "gold"), "a")
		is(attr("class", "Bern"), "b")
		unnamed("tier")
		// Swapped: the names change places, the values do not.
		propose(t, s, &SetNames{Names: []SlotName{{0, "city"}, {3, "class"}}})
		is(attr("city", "gold"), "a")
		is(attr("class", "gold"), "b")
		has("a", AttrValue{"city", "gold"}, AttrValue{"class", "Bern"})
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpSetAttrs, ID: "c", Attrs: []AttrValue{{"city", "gold"}}}}})
		is(attr("city", "gold"), "a", "c")
		// Without a name the values stay, and show when there is one again.
		propose(t, s, &SetNames{Names: []SlotName{{0, ""}}})
		unnamed("city")
		has("a", AttrValue{"", "gold"}, AttrValue{"class", "Bern"})
		var twice *DuplicateNameError
		_, err := s.Propose(context.Background(), &SetNames{Names: []SlotName{{0, "free"}, {7, "class"}}})
		if !errors.As(err, &twice) || twice.Name != "class" || twice.Slots != [2]int{3, 7} {
			t.Fatal(err)
		}
		if _, names := s.Settings(); len(names) != 1 || names[3] != "class" {
			t.Fatal("of a refused change something was made:", names)
		}
		propose(t, s, &SetNames{Names: []SlotName{{0, "tier"}}})
		is(attr("tier", "gold"), "a", "c")
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpRemoveAttrs, ID: "a", Attrs: []AttrValue{{Name: "tier"}}}}})
		is(attr("tier", "gold"), "c")
		has("a", AttrValue{"class", "Bern"})
	})
}

// TestSampleHash has numbers of the hash that docs/format.md defines. They never change: an audience of today
// must be the same when it is replayed by a later version.
func TestSampleHash(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		salt    string
		ordinal uint32
		want    uint64
	}{
		{"", 0, 0xF52A15E9A9B5E89B}, {"", 1, 0xC3817C016BA4FF30}, {"christmas", 0, 0xCC4DD4BF2ED55791},
		{"christmas", math.MaxUint32, 0x734E011E76ED571B}, {"ä", 70_000, 0x3D15A7839B942707},
	} {
		if got := sampleHash(sampleSalt(c.salt), c.ordinal); got != c.want {
			t.Errorf("%q of %d: %#x, not %#x", c.salt, c.ordinal, got, c.want)
		}
	}
	s := open(t, t.TempDir(), Options{BlockBits: 5})
	b := new(Batch)
	for i := range 200 {
		b.Ops = append(b.Ops, registerOp(fmt.Sprintf("u%03d", i)))
	}
	propose(t, s, b)
	var smaller []string
	for _, ppm := range []uint32{0, 1, 100_000, 250_000, 900_000, 999_999, 1_000_000} {
		got := members(t, s, &Expr{Op: OpSample, PPM: ppm, Value: "salt"})
		for _, id := range smaller {
			if !slices.Contains(got, id) {
				t.Fatalf("%s is in a smaller sample, and not in %d", id, ppm)
			}
		}
		if want := float64(ppm) / 5000; math.Abs(float64(len(got))-want) > 30 {
			t.Errorf("%d users are no %d millionths of 200", len(got), ppm)
		}
		smaller = got
	}
	var want []string
	for ord := range uint32(200) {
		if sampleHash(sampleSalt("salt"), ord)>>32 < 250_000<<32/1_000_000 {
			want = append(want, fmt.Sprintf("u%03d", ord))
		}
	}
	if got := members(t, s, &Expr{Op: OpSample, PPM: 250_000, Value: "salt"}); !slices.Equal(got, want) {
		t.Fatalf("%q, not %q", got, want)
	}
}
