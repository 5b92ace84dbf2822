package store

import (
	"errors"
	"fmt"
	"iter"
	"syscall"
	"testing"
)

// brokenJournal reads no further than some records, and says why or does not.
type brokenJournal struct {
	Journal
	records int
	err     error
}

func (j brokenJournal) Records(after uint64) iter.Seq2[JournalRecord, error] {
	return func(yield func(JournalRecord, error) bool) {
		n := 0
		for r, err := range j.Journal.Records(after) {
			if n++; n > j.records {
				break
			}
			if !yield(r, err) {
				return
			}
		}
		if j.err != nil {
			yield(JournalRecord{}, j.err)
		}
	}
}

// panickingJournal meets a page that makes no sense, in whatever goroutine reads it.
type panickingJournal struct{ Journal }

func (panickingJournal) Records(uint64) iter.Seq2[JournalRecord, error] {
	return func(func(JournalRecord, error) bool) { panic("page 7: invalid type") }
}

// TestReplayOfAJournalThatCannotBeRead must not take the records that it gets for all that there are.
func TestReplayOfAJournalThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(dir, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		register(t, s, fmt.Sprint(i))
	}
	dir = t.TempDir()
	if err := errors.Join(copyDir(s.dir, dir)); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	for name, c := range map[string]struct {
		wrap func(Journal) Journal
		want error
	}{
		"error":         {func(j Journal) Journal { return brokenJournal{j, 3, syscall.EIO} }, syscall.EIO},
		"error at once": {func(j Journal) Journal { return brokenJournal{j, 0, syscall.EIO} }, syscall.EIO},
		"early end":     {func(j Journal) Journal { return brokenJournal{j, 3, nil} }, ErrDamaged},
		"panic":         {func(j Journal) Journal { return panickingJournal{j} }, ErrDamaged},
	} {
		if s, err := Open(dir, Options{WrapJournal: c.wrap}, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	if got := members(t, open(t, dir, Options{}), &Expr{Op: OpAll}); len(got) != 5 {
		t.Error(got)
	}
}
