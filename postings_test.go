package fanfare

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// TestPostings has one user of each kind, in blocks, in the journal, and both.
func TestPostings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // at 2000-01-01
		ctx, dir := t.Context(), t.TempDir()
		p := testPusher(t, dir, Options{blockBits: 1})
		must(t, p.SetAttributeNames(ctx, map[int]string{0: "city", 3: "spend"}))
		must(t, p.SetAttributeTypes(ctx, map[int]AttributeType{3: Number(0)}))
		must(t, p.Register(ctx, "a", "b", "c"))
		for _, id := range []string{"a", "b", "c"} {
			must(t, p.AddTags(ctx, id, "t1"))
		}
		must(t, p.AddTags(ctx, "a", "t0"))
		must(t, p.AddTags(ctx, "a", "gone"))
		must(t, p.RemoveTags(ctx, "a", "gone"))
		must(t, p.SetAttributes(ctx, "a", map[string]string{"city": "Shenzhen", "spend": "-4"}))
		must(t, p.OptOut(ctx, "b", "news"))
		must(t, p.RegisterDevice(ctx, "c", Device{Platform: "apns", Token: "t", Locale: "zh-Hant", TimeZone: "Asia/Taipei"}))
		want := []Posting{
			{Kind: PostingUser, Users: 3},
			{Kind: PostingAttribute, Value: "Shenzhen", Users: 1},
			{Kind: PostingBit, Slot: 3, Value: "2", Users: 1}, {Kind: PostingBit, Slot: 3, Value: "63", Users: 1},
			{Kind: PostingHasAttribute, Users: 1}, {Kind: PostingHasAttribute, Slot: 3, Users: 1},
			{Kind: PostingLanguage, Value: "zh", Users: 1}, {Kind: PostingLanguage, Value: "zh-Hant", Users: 1},
			{Kind: PostingOptOut, Value: "news", Users: 1},
			{Kind: PostingPlatform, Value: "apns", Users: 1},
			{Kind: PostingRegistered, Value: "2000-01-01", Users: 3},
			{Kind: PostingTag, Value: "t0", Users: 1}, {Kind: PostingTag, Value: "t1", Users: 3},
			{Kind: PostingTimeZone, Value: "Asia/Taipei", Users: 1},
		}
		same := func(name string, stored bool) {
			t.Helper()
			var got []Posting
			for f, err := range p.Postings(ctx) {
				must(t, err)
				if (f.Bytes > 0) != stored {
					t.Errorf("%s: %+v", name, f)
				}
				f.Bytes = 0
				got = append(got, f)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s:\n%+v\nnot\n%+v", name, got, want)
			}
		}
		same("journal", false)
		past, cancel := context.WithCancel(ctx)
		cancel()
		if err := p.Close(past); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		p = testPusher(t, dir, Options{ReadOnly: true})
		same("left behind", false)
		must(t, p.Close(ctx))
		p = testPusher(t, dir, Options{})
		must(t, p.Check(ctx)) // folds
		same("blocks", true)
		s, err := p.Connect(ctx, "a")
		must(t, err)
		must(t, s.Close())
		must(t, p.AddTags(ctx, "b", "t0"))
		want[11].Users = 2
		want = slices.Insert(want, 11, Posting{Kind: PostingSeen, Value: "2000-01-01", Users: 1})
		must(t, p.Check(ctx))
		same("more", true)

		for _, n := range []int{0, 3} {
			ctx, cancel := context.WithCancel(ctx)
			if n == 0 {
				cancel()
			}
			var last error
			seen := 0
			for _, err := range p.Postings(ctx) {
				if last = err; err == nil {
					seen++
				}
				if seen == n {
					cancel()
				}
			}
			cancel()
			if !errors.Is(last, context.Canceled) || seen != n {
				t.Errorf("after %d: %v", seen, last)
			}
		}
	})
}
