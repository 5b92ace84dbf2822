package store

import (
	"fmt"
	"testing"
)

// quietJournal takes records and keeps none, so that changes come quickly.
type quietJournal struct{ Journal }

func (quietJournal) Append(uint64, []byte, uint64) error { return nil }

// TestUserIsNeverTorn reads a user whose one attribute and tag get another value all the time: each is
// there once, in whatever moment of a change the user is read.
func TestUserIsNeverTorn(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), Options{WrapJournal: func(j Journal) Journal { return quietJournal{j} }})
	propose(t, s, &SetNames{Names: []SlotName{{0, "tier"}}})
	change := func(i int) *Batch {
		v := fmt.Sprint(i)
		return &Batch{Ops: []UserOp{{Kind: OpPut, ID: "a"}, {Kind: OpClearTags, ID: "a"}, {Kind: OpPut, ID: "a", Tags: []string{v}, Attrs: []AttrValue{{"tier", v}}}}}
	}
	propose(t, s, change(0))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 5_000 {
			if err := s.Go(change(i+1), func(any, error) {}); err != nil {
				t.Error(err)
			}
		}
		propose(t, s, change(0)) // behind them all
	}()
	for {
		u, err := s.User("a")
		if err != nil {
			t.Error(err)
		} else if len(u.Attrs) != 1 || len(u.Tags) != 1 || u.Attrs[0].Value != u.Tags[0] {
			t.Errorf("torn: %+v", u)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
