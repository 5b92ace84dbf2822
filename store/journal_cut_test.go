package store

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
)

// positions returns the positions of the records that a journal has, and its base.
func positions(t *testing.T, j *boltJournal) (list []uint64, base uint64) {
	t.Helper()
	base, err := j.base()
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range j.Records(0) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r.Position)
	}
	return list, base
}

func newJournal(t *testing.T) *boltJournal {
	t.Helper()
	dir := t.TempDir()
	if err := createJournal(dir, storeID{1}, 0); err != nil {
		t.Fatal(err)
	}
	j, _, err := openJournal(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.db.Load().Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

// TestAppendCutsALittle has many old records: what one group pays for dropping them is bounded, and more than it adds.
func TestAppendCutsALittle(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	if at, rec, err := j.Last(); at != 0 || rec != nil || err != nil {
		t.Fatal(at, rec, err)
	}
	next := uint64(1)
	add := func(cut uint64) {
		t.Helper()
		if err := j.Append(next, fmt.Appendf(nil, "record %d", next), cut); err != nil {
			t.Fatal(err)
		}
		next++
	}
	has := func(first, last, base uint64) {
		t.Helper()
		list, b := positions(t, j)
		if uint64(len(list)) != last-first+1 || list[0] != first || list[len(list)-1] != last || b != base || !slices.IsSorted(list) {
			t.Fatalf("records %d to %d, base %d; should be %d to %d, base %d", list[0], list[len(list)-1], b, first, last, base)
		}
	}
	for range 200 {
		add(0)
	}
	has(1, 200, 0)
	add(150)
	has(1+cutPerAppend, 201, cutPerAppend)
	add(150)
	has(1+2*cutPerAppend, 202, 2*cutPerAppend)
	add(150)
	has(151, 203, 150) // not beyond what is folded
	add(150)
	has(151, 204, 150)
	if err := j.Cut(204); err != nil {
		t.Fatal(err)
	}
	if at, rec, err := j.Last(); at != 204 || rec != nil || err != nil {
		t.Fatal("an empty journal stands where its last record was:", at, rec, err)
	}
	add(0)
	has(205, 205, 204)
}

// TestRecordsAfterAPosition reads records of more bytes than are copied at a time.
func TestRecordsAfterAPosition(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	const n = 11
	for at := uint64(1); at <= n; at++ {
		rec := make([]byte, maxRecord)
		rec[0] = byte(at)
		if err := j.Append(at, rec, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []uint64{0, 3, 4, n - 1, n, n + 1} {
		next := after
		for r, err := range j.Records(after) {
			if next++; err != nil || r.Position != next || r.Record[0] != byte(next) || len(r.Record) != maxRecord {
				t.Fatalf("after %d: %v at %d", after, err, r.Position)
			}
		}
		if next != max(n, after) {
			t.Fatalf("after %d there is nothing behind %d", after, next)
		}
	}
	for range j.Records(0) { // to leave off is no mistake
		break
	}
}

// TestJournalStaysSmall makes many small changes and never closes: what is folded is dropped as new groups come, so the journal has a
// few deltas' worth of records, and the file does not grow with the number of changes.
func TestJournalStaysSmall(t *testing.T) {
	t.Parallel()
	const entries, groups = 20, 250
	s := open(t, t.TempDir(), Options{DeltaEntries: entries})
	most := 0
	for i := range groups {
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpPut, ID: fmt.Sprintf("u%d", i%7), Tags: []string{fmt.Sprint(i)}}}})
		list, base := positions(t, s.local)
		if last := list[len(list)-1]; last != uint64(i+1) || list[0] != base+1 {
			t.Fatalf("records %d to %d, base %d", list[0], last, base)
		}
		most = max(most, len(list))
	}
	// A record has an entry of its own here; the deltas are three at most, and what is folded waits for the next group.
	if bound := 4*entries + cutPerAppend; most > bound {
		t.Fatalf("%d records at once, after %d groups; at most %d are needed", most, groups, bound)
	}
	if size, err := fileSize(s.dir, journalFile); err != nil || size > 32<<20 { // bbolt grows it by 16 MiB
		t.Fatal(size, err)
	}
}

// TestFreeLists looks at how the two files keep their free pages: the journal never writes the list, since each group would pay for
// it, and blocks.db does, since opening would go through the whole file without.
func TestFreeLists(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closedStore(t, dir, false, false)
	look := func() {
		t.Helper()
		for name, written := range map[string]bool{journalFile: false, blocksFile: true} {
			m, err := readMeta(filepath.Join(dir, name))
			if err != nil || (m.free != noFreelist) != written {
				t.Errorf("%s: the list of free pages is at %x (%v)", name, m.free, err)
			}
		}
	}
	look()
	s := open(t, dir, Options{})
	register(t, s, "new")
	if err := s.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	look()
}

// TestCloseEmptiesTheJournal closes completely: no record, no segment, so that any later version can go on from there.
func TestCloseEmptiesTheJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{DeltaEntries: 5})
	for i := range 40 {
		register(t, s, fmt.Sprint(i))
	}
	closeStore(t, s)
	db, err := bbolt.Open(filepath.Join(dir, journalFile), 0o600, journalOptions())
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		if k, _ := tx.Bucket(bucketRecords).Cursor().First(); k != nil {
			t.Errorf("record %x is left", k)
		}
		if base := be64(tx.Bucket(bucketMeta).Get(metaBase)); base != 40 {
			t.Error("base", base)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "segment-*")); err != nil || len(left) > 0 {
		t.Fatal(left, err)
	}
	s = open(t, dir, Options{})
	if st, err := s.Stats(); err != nil || st.Position != 40 {
		t.Fatal(st, err)
	}
}
