package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func idOf(id string, ordinal uint32) []byte {
	e := newIDEntry(hashID(id), ordinal)
	return e[:]
}

// TestIDsThatShareTheirHash has two users whose IDs the index cannot tell apart, in every layer.
func TestIDsThatShareTheirHash(t *testing.T) {
	t.Parallel()
	const one, other = "user-9688866", "user-16259611"
	if hashID(one) != hashID(other) {
		t.Fatal("they do not")
	}
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	want := map[string]int64{one: -1, other: -1}
	verify := func(when string) {
		t.Helper()
		for id, ord := range want {
			switch got, err := s.Ordinal(id); {
			case ord < 0 && !errors.Is(err, ErrUnknownUser):
				t.Errorf("%s: %s has ordinal %d (%v), and is not known", when, id, got, err)
			case ord >= 0 && (err != nil || int64(got) != ord):
				t.Errorf("%s: %s has ordinal %d (%v), not %d", when, id, got, err, ord)
			}
			if u, err := s.User(id); ord >= 0 && (err != nil || u.ID != id || !slices.Equal(u.Tags, []string{id})) {
				t.Errorf("%s: %s is %+v (%v)", when, id, u, err)
			}
		}
		if err := s.Check(ctx); err != nil {
			t.Fatal(when, err)
		}
	}
	next := int64(0)
	put := func(id string) {
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPut, ID: id, Tags: []string{id}}}})
		if want[id] < 0 {
			want[id] = next
			next++
		}
	}
	drop := func(id string) {
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: id}}})
		want[id] = -1
	}
	// Each step is seen in the delta first; verify folds.
	for i, step := range []func(){
		func() { put(one) }, func() { put(other) }, func() { drop(one) }, func() { put(one) }, func() { put(other) },
		func() { drop(other); put(other) }, func() { drop(one); drop(other) }, func() { put(other); put(one) },
	} {
		step()
		for id, ord := range want {
			if got, err := s.Ordinal(id); (err == nil) != (ord >= 0) || err == nil && int64(got) != ord {
				t.Errorf("step %d: %s has ordinal %d (%v), not %d", i, id, got, err, ord)
			}
		}
		verify(fmt.Sprint("step ", i))
	}
	// Both in one command, which has one of them leave and come again.
	propose(t, s, &Batch{Ops: []UserOp{
		{Kind: OpUnregister, ID: one}, {Kind: OpAddTags, ID: other, Tags: []string{"x"}}, {Kind: OpRemoveTags, ID: other, Tags: []string{"x"}},
		{Kind: OpPut, ID: one, Tags: []string{one}},
	}})
	want[one] = next
	next++
	verify("one command")
	n, err := s.Count(context.Background(), &Expr{Op: OpUsers, IDs: []string{one, other, "user-1"}})
	if err != nil || n != 2 {
		t.Errorf("%d users (%v)", n, err)
	}
}

// TestIDIndex lays changes over entries as the fold does, and compares with a set.
func TestIDIndex(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		set := map[string]bool{}
		var raw []byte
		for range rapid.IntRange(1, 4).Draw(t, "folds") {
			d := newDelta()
			for range rapid.IntRange(0, 8).Draw(t, "changes") {
				h, ord := idHash(rapid.Uint64Range(5<<32, 5<<32+3).Draw(t, "hash")), rapid.Uint32Range(0, 3).Draw(t, "ordinal")
				gone := rapid.Bool().Draw(t, "gone")
				d.putID(h, ord, gone)
				e := newIDEntry(h, ord)
				set[string(e[:])] = !gone
			}
			var list []change
			d.idChanges(func(c change) bool {
				list = append(list, c)
				return true
			})
			if len(list) > 0 {
				raw = foldIDs(raw, list)
				if again := foldIDs(raw, list); !bytes.Equal(raw, again) {
					t.Fatalf("folded again it is %x, not %x", again, raw)
				}
			}
		}
		var want []string
		for e, is := range set {
			if is {
				want = append(want, e[idPrefix:])
			}
		}
		slices.Sort(want)
		if string(raw) != strings.Join(want, "") {
			t.Fatalf("%x, not %x", raw, want)
		}
		for h := idHash(5 << 32); h < 5<<32+4; h++ {
			var ordinals []uint32
			for _, e := range want {
				if be32([]byte(e)) == uint32(h) {
					ordinals = append(ordinals, be32([]byte(e)[4:]))
				}
			}
			if got := idsIn(raw, h); !slices.Equal(got, ordinals) {
				t.Fatalf("hash %x: %v, not %v", h, got, ordinals)
			}
		}
	})
}

// TestRecordID takes IDs of all sorts through a record.
func TestRecordID(t *testing.T) {
	t.Parallel()
	const uuid = "0f8fad5b-d9cb-469f-a165-70867728950e"
	for _, c := range []struct {
		id   string
		size int
	}{
		{uuid, 17}, {"00000000-0000-0000-0000-000000000000", 17}, {"ffffffff-ffff-ffff-ffff-ffffffffffff", 17},
		{strings.ToUpper(uuid), 37}, {uuid[:35], 36}, {uuid + "0", 38}, {strings.Replace(uuid, "-", "0", 1), 37},
		{strings.Replace(uuid, "8", "-", 1), 37}, {strings.Replace(uuid, "f", "g", 1), 37}, {strings.Repeat("x", 36), 37}, {"\x00", 2}, {"u", 2},
	} {
		b := (&userRecord{id: c.id}).encode()
		if len(b) != c.size+3 { // and when the user was registered, was never seen, and that there are no attributes
			t.Errorf("%q takes %d bytes, not %d", c.id, len(b)-3, c.size)
		}
		u, err := decodeUser(b)
		if err != nil || u.id != c.id || recordID(b) != c.id || !recordHasID(b, c.id) || recordHasID(b, c.id+"0") || recordHasID(b, uuid[:34]+"ff") {
			t.Errorf("%q has become %q, %q (%v)", c.id, u.id, recordID(b), err)
		}
	}
	if recordHasID(nil, "") || recordHasID(nil, uuid) {
		t.Error("no record has an ID")
	}
}

// TestUserGroup takes records through a group and back, as a whole and one by one.
func TestUserGroup(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var list [groupUsers][]byte
		for i := range list {
			if rapid.Bool().Draw(t, "there") {
				list[i] = bytes.Repeat([]byte{byte(i)}, rapid.SampledFrom([]int{1, 2, 40, 127, 128, 300}).Draw(t, "size"))
			}
		}
		raw := joinGroup(&list)
		got, err := splitGroup(raw)
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			if one := groupRecord(raw, uint16(32+i)); !bytes.Equal(got[i], list[i]) || !bytes.Equal(one, list[i]) || (one == nil) != (list[i] == nil) {
				t.Fatalf("record %d is %x, or %x, not %x", i, got[i], one, list[i])
			}
		}
		if len(raw) == 0 {
			return
		}
		// What is damaged is an error, or another record, and never more than that.
		harmed := bytes.Clone(raw)
		harmed[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		harmed = harmed[:rapid.IntRange(0, len(raw)).Draw(t, "cut")]
		_, _ = splitGroup(harmed)
		for i := range uint16(groupUsers) {
			func() {
				defer func() {
					if x := recover(); x != nil {
						if _, is := x.(*FormatError); !is {
							panic(x)
						}
					}
				}()
				_ = groupRecord(harmed, i)
			}()
		}
	})
}

// TestIDTable compares with a map, for hashes of which many want the same places, the last ones among them.
func TestIDTable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := newDelta()
		want := map[idNote]bool{} // without gone; whether it is
		hash := rapid.Custom(func(t *rapid.T) idHash {
			near := rapid.SampledFrom([]uint64{0, 5 << 32, 1<<47 - 1, 1<<48 - 300}).Draw(t, "near")
			return idHash(near + rapid.Uint64Range(0, 299).Draw(t, "far"))
		})
		for range rapid.SampledFrom([]int{0, 1, 40, 41, 500}).Draw(t, "n") {
			h, ord, gone := hash.Draw(t, "hash"), rapid.Uint32Range(0, 2).Draw(t, "ordinal"), rapid.Bool().Draw(t, "gone")
			d.putID(h, ord, gone)
			want[idNote{hash: h, ordinal: ord}] = gone
		}
		if d.entries != len(want) || d.bytes != int64(len(want))*idCost {
			t.Fatalf("%d entries of %d bytes for %d", d.entries, d.bytes, len(want))
		}
		for n, gone := range want {
			notes := d.idNotes(n.hash, nil)
			if !slices.Contains(notes, idNote{n.hash, n.ordinal, gone}) {
				t.Fatalf("%x has %v, not %d, %v", n.hash, notes, n.ordinal, gone)
			}
		}
		if notes := d.idNotes(1<<40, nil); len(notes) > 0 {
			t.Fatalf("what was never put has %v", notes)
		}
		var last []byte
		d.idChanges(func(c change) bool {
			if bytes.Compare(last, c.key) >= 0 {
				t.Fatalf("%x behind %x", c.key, last)
			}
			last = c.key
			e := idEntry(c.key)
			n := idNote{hash: e.hash(), ordinal: e.ordinal()}
			if gone, is := want[n]; !is || gone != (c.value == nil) {
				t.Fatalf("%x: %v, gone %v", c.key, is, gone)
			}
			delete(want, n)
			return true
		})
		if len(want) > 0 {
			t.Fatalf("%d are left out", len(want))
		}
	})
}
