package store

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// naiveCompare says whether a value, "" for none, is one that a comparison takes.
func naiveCompare(e *Expr, t AttrType, value string) bool {
	if value == "" {
		return false
	}
	if e.Op == OpHas {
		return true
	}
	exact := func(s string) *big.Rat {
		r := new(big.Rat)
		if t == DateType {
			d, err := time.Parse(time.DateOnly, s)
			if err != nil {
				d, _ = time.Parse(time.RFC3339, s)
			}
			return r.SetInt64(d.Unix())
		}
		r.SetString(s)
		return r
	}
	c := exact(value).Cmp(exact(e.Value))
	switch e.Op {
	case OpLess:
		return c < 0
	case OpAtMost:
		return c <= 0
	case OpMore:
		return c > 0
	case OpAtLeast:
		return c >= 0
	case OpBetween:
		return c >= 0 && exact(value).Cmp(exact(e.High)) <= 0
	}
	return c == 0
}

// valueGen draws values of a type, some of them equal and many of them close to each other, not all canonical.
func valueGen(t AttrType) *rapid.Generator[string] {
	if t == DateType {
		day := rapid.Map(rapid.IntRange(-700_000, 2_900_000), func(d int) string { return time.Unix(int64(d)*secondsOfDay, 0).UTC().Format(time.DateOnly) })
		zones := rapid.SampledFrom([]string{"Z", "+08:00", "-03:30"})
		moment := rapid.Custom(func(t *rapid.T) string {
			return "2026-11-28T" + fmt.Sprintf("%02d:00:%02d", rapid.IntRange(0, 23).Draw(t, "hour"), rapid.IntRange(0, 2).Draw(t, "second")) + zones.Draw(t, "zone")
		})
		return rapid.OneOf(day, moment, rapid.SampledFrom([]string{"1970-01-01", "1969-12-31", "2026-11-28", "0000-01-01", "9999-12-31T23:59:59Z"}))
	}
	decimals := int(t - NumberType)
	return rapid.Custom(func(t *rapid.T) string {
		sign := rapid.SampledFrom([]string{"", "", "-"}).Draw(t, "sign")
		n := rapid.OneOf(rapid.Int64Range(0, 9), rapid.Int64Range(0, 300), rapid.Int64Range(0, maxNumber), rapid.SampledFrom([]int64{0, 1, 63, 64, 127, 128, maxNumber})).Draw(t, "digits")
		s := fmt.Sprintf("%0*d", decimals+1, n)
		if decimals > 0 {
			s = s[:len(s)-decimals] + "." + s[len(s)-decimals:]
			if rapid.Bool().Draw(t, "zeros") {
				s = "00" + s + "00"
			}
		}
		return sign + s
	})
}

// TestComparisonsAreNaive compares every comparison with what a loop over the values says, while values are changed and taken away, in the
// delta, folded, and after the store was opened again.
func TestComparisonsAreNaive(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		o := Options{BlockBits: rapid.SampledFrom([]int{1, 3, 16}).Draw(t, "block bits")}
		s, err := Open(dir, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.Close(ctx) }()
		typ := rapid.SampledFrom([]AttrType{NumberType, NumberType + 2, NumberType + MaxDecimals, DateType}).Draw(t, "type")
		must := func(_ any, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(s.Propose(ctx, &SetNames{Names: []SlotName{{3, "x"}}}))
		must(s.Propose(ctx, &SetTypes{Types: []SlotType{{3, typ}}}))
		gen, users := valueGen(typ), map[string]string{}
		change := func() {
			b := new(Batch)
			for range rapid.IntRange(1, 12).Draw(t, "changes") {
				id := fmt.Sprintf("u%02d", rapid.IntRange(0, 19).Draw(t, "user"))
				b.Ops = append(b.Ops, registerOp(id))
				if users[id] += ""; rapid.IntRange(0, 4).Draw(t, "take away") == 0 {
					users[id] = ""
					b.Ops = append(b.Ops, UserOp{Kind: OpRemoveAttrs, ID: id, Attrs: []AttrValue{{Name: "x"}}})
				} else {
					users[id] = gen.Draw(t, "value")
					b.Ops = append(b.Ops, UserOp{Kind: OpSetAttrs, ID: id, Attrs: []AttrValue{{"x", users[id]}}})
				}
			}
			must(s.Propose(ctx, b))
		}
		bound := func(what string) string {
			if values := sortedKeys(users); rapid.Bool().Draw(t, "of a user") {
				if v := users[rapid.SampledFrom(values).Draw(t, what)]; v != "" {
					return v
				}
			}
			return gen.Draw(t, what)
		}
		compare := func(when string) {
			t.Helper()
			for _, op := range []Op{OpAttr, OpLess, OpAtMost, OpMore, OpAtLeast, OpBetween, OpHas} {
				e := &Expr{Op: op, Name: "x", Value: bound("bound"), High: bound("upper bound")}
				not := &Expr{Op: OpNot, Args: []*Expr{e}}
				var want, rest []string
				for _, id := range sortedKeys(users) {
					if naiveCompare(e, typ, users[id]) {
						want = append(want, id)
					} else {
						rest = append(rest, id)
					}
				}
				for e, want := range map[*Expr][]string{e: want, not: rest} {
					var got []string
					for id, err := range s.Members(e) {
						if err != nil {
							t.Fatal(err)
						}
						got = append(got, id)
					}
					slices.Sort(got)
					if n, err := s.Count(context.Background(), e); !slices.Equal(got, want) || n != int64(len(want)) || err != nil {
						t.Fatalf("%s: operator %d, %q %q: %v (counted %d, %v), not %v, of %v", when, op, e.Value, e.High, got, n, err, want, users)
					}
				}
			}
		}
		change()
		compare("at first")
		must(nil, s.Checkpoint(ctx))
		compare("folded")
		change()
		compare("over what is folded")
		must(nil, s.Check(ctx))
		must(nil, s.Close(ctx))
		if s, err = Open(dir, o, nil); err != nil {
			t.Fatal(err)
		}
		compare("opened again")
	})
}

// TestValues reads values and writes them in their canonical form, and refuses what cannot be kept exactly.
func TestValues(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		t           AttrType
		value, want string // "" for what is none
	}{
		{NumberType, "30", "30"}, {NumberType, "-0", "0"}, {NumberType, "007", "7"}, {NumberType, "1.0", "1"}, {NumberType, "999999999999999999", "999999999999999999"},
		{NumberType, "-999999999999999999", "-999999999999999999"}, {NumberType, "1000000000000000000", ""}, {NumberType, "1.5", ""}, {NumberType, "", ""},
		{NumberType, "-", ""}, {NumberType, "+1", ""}, {NumberType, "1e3", ""}, {NumberType, " 1", ""}, {NumberType, "1.", ""}, {NumberType, ".5", ""},
		{NumberType, "0x10", ""}, {NumberType, "--1", ""}, {NumberType, "٣", ""}, {NumberType, strings.Repeat("0", 49) + "5", "5"},
		{NumberType + 2, "-2.50", "-2.5"}, {NumberType + 2, "-0.05", "-0.05"}, {NumberType + 2, "12", "12"}, {NumberType + 2, "0.00", "0"}, {NumberType + 2, "0.001", ""},
		{NumberType + 2, "9999999999999999.99", "9999999999999999.99"}, {NumberType + 2, "10000000000000000", ""},
		{NumberType + 9, "0.000000001", "0.000000001"}, {NumberType + 9, "-123456789.987654321", "-123456789.987654321"},
		{DateType, "2026-11-28", "2026-11-28"}, {DateType, "2026-11-28T00:00:00Z", "2026-11-28"}, {DateType, "2026-11-28T10:00:01+08:00", "2026-11-28T02:00:01Z"},
		{DateType, "0000-01-01", "0000-01-01"}, {DateType, "1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"}, {DateType, "9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"},
		{DateType, "9999-12-31T23:59:59-01:00", ""}, {DateType, "0000-01-01T00:00:00+01:00", ""}, {DateType, "2026-11-28T10:00:00.5Z", ""}, {DateType, "2026-11-28T10:00:00.0Z", "2026-11-28T10:00:00Z"},
		{DateType, "2026-11-28 10:00:00", ""}, {DateType, "2026-2-1", ""}, {DateType, "2026-02-30", ""}, {DateType, "30", ""},
	} {
		n, ok := c.t.parse(c.value)
		if ok != (c.want != "") {
			t.Errorf("%s %q: %d, %v", c.t, c.value, n, ok)
		} else if got := c.t.format(n); ok && got != c.want {
			t.Errorf("%s %q: is %q, not %q", c.t, c.value, got, c.want)
		} else if again, _ := c.t.parse(got); ok && again != n {
			t.Errorf("%s %q: %d and %d", c.t, c.value, n, again)
		}
	}
}

// TestTypes declares types before and after there are values, and uses values and comparisons of the wrong ones.
func TestTypes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, Options{BlockBits: 2})
	propose(t, s, &SetNames{Names: []SlotName{{0, "city"}, {1, "age"}}})
	propose(t, s, &SetTypes{Types: []SlotType{{1, NumberType}}})
	register(t, s, "a", "b")
	set := func(name, value string) error {
		_, err := s.Propose(ctx, &Batch{Ops: []UserOp{{Kind: OpSetAttrs, ID: "a", Attrs: []AttrValue{{name, value}}}}})
		return err
	}
	var value *ValueError
	if err := set("age", "old"); !errors.As(err, &value) || *value != (ValueError{"age", "old", NumberType}) {
		t.Fatal(err)
	}
	for _, e := range []*Expr{{Op: OpLess, Name: "city", Value: "5"}, {Op: OpBetween, Name: "age", Value: "5", High: "x"}, {Op: OpAttr, Name: "age", Value: "x"}} {
		_, err := s.Count(context.Background(), e)
		_, err2 := s.Propose(ctx, &Push{To: e, Lifetime: 1})
		if !errors.As(err, &value) || !errors.As(err2, &value) {
			t.Fatal(e, err, err2)
		}
	}
	if err := errors.Join(set("age", "0"), set("city", "5")); err != nil {
		t.Fatal(err)
	}
	for slot, declared := range map[uint8]AttrType{0: NumberType, 1: TextType} {
		_, err := s.Propose(ctx, &SetTypes{Types: []SlotType{{5, DateType}, {slot, declared}}})
		var used *TypeInUseError
		if !errors.As(err, &used) || used.Slot != int(slot) || used.Declared != declared || len(s.Types()) != 1 {
			t.Fatal(err, s.Types())
		}
	}
	propose(t, s, &SetTypes{Types: []SlotType{{1, NumberType}}}) // as it is
	u, err := s.User("a")
	if err != nil || fmt.Sprint(u.Attrs) != "[{city 5} {age 0}]" {
		t.Fatal(u, err)
	}
	propose(t, s, &Batch{Ops: []UserOp{{Kind: OpRemoveAttrs, ID: "a", Attrs: []AttrValue{{Name: "age"}, {Name: "city"}}}}})
	propose(t, s, &SetTypes{Types: []SlotType{{0, NumberType + 1}, {1, TextType}}}) // nobody has one any more
	if err := errors.Join(set("age", "old"), set("city", "-1.5")); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, dir, Options{})
	if u, err = s.User("a"); err != nil || fmt.Sprint(u.Attrs) != "[{city -1.5} {age old}]" {
		t.Fatal(u, err)
	}
	propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "a"}}})
	propose(t, s, &SetTypes{Types: []SlotType{{0, DateType}}})
	if err := s.Check(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestDays lets days go by: who was seen moves on, and facts that nobody has any more are gone.
func TestDays(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	now := time.Date(2026, 11, 28, 23, 59, 59, 0, time.UTC)
	s := open(t, t.TempDir(), Options{BlockBits: 1, Now: func() time.Time { return now }})
	seen := func(ids ...string) {
		b := new(Batch)
		for _, id := range ids {
			b.Ops = append(b.Ops, UserOp{Kind: OpSeen, ID: id})
		}
		propose(t, s, b)
	}
	count := func(op Op, days uint32) int64 {
		t.Helper()
		n, err := s.Count(context.Background(), &Expr{Op: op, Days: days})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	want := func(op Op, counts ...int64) {
		t.Helper()
		for i, n := range counts {
			if got := count(op, uint32(i)+1); got != n {
				t.Errorf("%v: operator %d within %d days: %d, not %d", now, op, i+1, got, n)
			}
		}
	}
	register(t, s, "a", "b", "c")
	seen("a", "b", "nobody")
	want(OpSeenWithin, 2, 2, 2)
	want(OpRegisteredWithin, 3, 3)
	now = now.Add(time.Second) // the next day
	want(OpSeenWithin, 0, 2, 2)
	want(OpRegisteredWithin, 0, 3)
	register(t, s, "d")
	seen("a", "a", "d")
	want(OpSeenWithin, 2, 3, 3)
	want(OpRegisteredWithin, 1, 4, 4)
	if err := s.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	now = now.Add(48 * time.Hour)
	want(OpSeenWithin, 0, 0, 2, 3, 3)
	register(t, s, "e")
	today := Day(now.UnixMilli())
	for since, n := range map[uint32]int64{0: 5, today - 3: 5, today - 2: 2, today - 1: 1, today: 1, today + 1: 0} {
		if got := count(OpRegisteredSince, since); got != n {
			t.Errorf("registered since %d days ago: %d, not %d", today-since, got, n)
		}
	}
	seen("a", "b", "d") // and nobody is left of the days before
	facts := func(kind byte) (n int) {
		if err := s.withView(func(v *view) error {
			n = len(v.scan(bucketFacts, []byte{kind}, []byte{kind + 1}, 100, false))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if facts(factSeen) != 1 || facts(factRegistered) != 3 {
		t.Errorf("%d days seen, %d of registration", facts(factSeen), facts(factRegistered))
	}
	// A push reads the day off its own stamp.
	r := propose(t, s, &Push{To: &Expr{Op: OpSeenWithin, Days: 1}, Lifetime: 1000}).(PushResult)
	now = now.Add(24 * time.Hour)
	later := propose(t, s, &Push{To: &Expr{Op: OpSeenWithin, Days: 1}, Lifetime: 1000}).(PushResult)
	if r.Total != 3 || later.Total != 0 {
		t.Error(r.Total, later.Total)
	}
	if _, day, err := s.Seen("a"); err != nil || day != today+1 {
		t.Error(day, err)
	}
	if _, day, err := s.Seen("c"); err != nil || day != 0 {
		t.Error(day, err)
	}
	if _, _, err := s.Seen("nobody"); !errors.Is(err, ErrUnknownUser) {
		t.Error(err)
	}
	if err := s.Check(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestLanguages takes locales apart.
func TestLanguages(t *testing.T) {
	t.Parallel()
	for locale, want := range map[string]string{
		"": "", "C": "", "POSIX": "posix", "zh": "zh", "ZH_hant-tw": "zh zh-Hant zh-Hant-TW", "de_DE.UTF-8": "de de-DE", "sr_RS@latin": "sr sr-RS",
		"es-419": "es es-419", "de-CH-1996": "de de-CH de-CH-1996", "de-Latn-CH-1996-x-y": "de de-Latn de-Latn-CH de-Latn-CH-1996", "zh-u-co-pinyin": "zh",
		"a-b": "", "12-de": "", "zh-": "zh", "中文": "", "zh-中": "zh", "toolonglanguage": "", "en-GB-oxendict": "en en-GB en-GB-oxendict",
	} {
		if got := strings.Join(Languages(locale), " "); got != want {
			t.Errorf("%q: %q, not %q", locale, got, want)
		}
	}
	for tag, want := range map[string]string{"ZH_cn": "zh-CN", "zh-u-co": "zh-u-co", "x y": "x y", "": "", "de_DE.UTF-8": "de-DE", "a-b-c-d-e": "a-b-c-d-e", "de-Latn-CH-1996-x": "de-Latn-CH-1996-x"} {
		if got := CanonicalLanguage(tag); got != want || CanonicalLanguage(got) != got {
			t.Errorf("%q: %q, not %q", tag, got, want)
		}
	}
}

// TestNamed lists what is in use, page by page, over the file and what has come since.
func TestNamed(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{BlockBits: 2})
	propose(t, s, &SetNames{Names: []SlotName{{0, "city"}, {1, "age"}}})
	propose(t, s, &SetTypes{Types: []SlotType{{1, NumberType}}})
	for i := range 300 {
		o := UserOp{
			Kind: OpPut, ID: fmt.Sprint(i), Tags: []string{fmt.Sprintf("t%03d", i), "all"},
			Attrs:   []AttrValue{{"city", fmt.Sprint("c", i%3)}, {"age", fmt.Sprint(i)}},
			Devices: []Device{{Platform: "apns", Token: fmt.Sprint(i), Locale: []string{"zh-Hant-TW", "zh_CN", "de"}[i%3], TimeZone: []string{"UTC", ""}[i%2]}},
		}
		propose(t, s, &Batch{Ops: []UserOp{o}})
		if i == 150 {
			if err := s.Checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	propose(t, s, &Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "7"}}})
	list := func(seq func(func(Named, error) bool)) (out []string) {
		t.Helper()
		for n, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprint(n.Name, " ", n.Users))
		}
		return out
	}
	tags := []string{"all 299"}
	for i := range 300 {
		if i != 7 {
			tags = append(tags, fmt.Sprintf("t%03d 1", i))
		}
	}
	for _, c := range []struct{ got, want []string }{
		{list(s.Tags("")), tags}, {list(s.Tags("t29")), tags[len(tags)-10:]}, {list(s.Tags("t29x")), nil},
		{list(s.Values("city", "")), []string{"c0 100", "c1 99", "c2 100"}}, {list(s.Values("city", "c2")), []string{"c2 100"}}, {list(s.Values("age", "")), nil},
		{list(s.Languages()), []string{"de 100", "zh 199", "zh-CN 99", "zh-Hant 100", "zh-Hant-TW 100"}}, {list(s.TimeZones()), []string{"UTC 150"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%q, not %q", c.got, c.want)
		}
	}
	for _, err := range s.Values("size", "") {
		if !errors.Is(err, ErrUnnamedAttribute) {
			t.Error(err)
		}
	}
	n := 0
	for range s.Tags("") {
		if n++; n == 3 {
			break
		}
	}
}
