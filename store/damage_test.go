package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// grown makes a store whose blocks.db has branch pages, and returns the file's pages: nil for
// those that are free. The files are without the room to grow that bbolt gives them.
func grown(t *testing.T, dir string) (pages [][]byte) {
	t.Helper()
	s := open(t, dir, Options{})
	for i := range 40 {
		b := new(Batch)
		for j := range 20 {
			b.Ops = append(b.Ops, UserOp{Kind: OpPut, ID: damagedUser(i, j), Tags: []string{"x"}})
		}
		propose(t, s, b)
	}
	closeStore(t, s)
	for _, name := range []string{journalFile, blocksFile} {
		path := filepath.Join(dir, name)
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, int64(highWater(file))); err != nil {
			t.Fatal(err)
		}
		pages = slices.Collect(slices.Chunk(file[:highWater(file)], int(binary.NativeEndian.Uint32(file[pageHeader+8:]))))
	}
	f, err := os.Open(filepath.Join(dir, blocksFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := readMeta(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	w := newWalker(f, &m)
	w.leaves = true
	if err := errors.Join(w.bucket(m.root, true), w.use(m.free, 0)); err != nil {
		t.Fatal(err)
	}
	for id := range pages {
		if !w.has(uint64(id)) {
			pages[id] = nil
		}
	}
	return pages
}

func damagedUser(i, j int) string {
	return fmt.Sprintf("user %02d-%02d, whose name is long so that the index takes many pages", i, j)
}

// TestDamagedPages overwrites the header of each page of blocks.db in turn, and the child of each branch.
// Damage to the tree of pages, where bbolt could end the process, is found by Open, which leaves
// nothing locked; damage to a leaf by what reads it, and by Check.
func TestDamagedPages(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	pages := grown(t, from)
	le := binary.NativeEndian
	found := make(map[uint16]int)
	for id := 2; id < len(pages); id++ {
		page := pages[id]
		if page == nil || le.Uint64(page) != uint64(id) {
			continue // free, or what the page before overflows into
		}
		flags := le.Uint16(page[8:])
		patches := map[string][]byte{ // what is written, by where
			"id":    append([]byte{0xFF}, page[1:8]...),
			"kind":  {byte(flags ^ 0x20)},
			"count": {0xFE, 0xFF},
		}
		places := map[string]int{"id": 0, "kind": 8, "count": 10, "child": pageHeader + 8}
		if flags == branchPage { // it leads back to itself
			patches["child"] = le.AppendUint64(nil, uint64(id))
		}
		for what, with := range patches {
			dir := t.TempDir()
			if err := copyDir(from, dir); err != nil {
				t.Fatal(err)
			}
			overwrite(t, filepath.Join(dir, blocksFile), id*len(page)+places[what], with...)
			s, err := Open(dir, Options{}, nil)
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeignFile) {
					t.Fatalf("page %d, %s: %v", id, what, err)
				}
				refused(t, dir, ErrDamaged, "")
				found[flags]++
				continue
			}
			if flags == branchPage || flags == freelistPage && what != "count" {
				t.Errorf("page %d, %s: not found by Open", id, what)
			}
			readDamaged(t, s)
		}
	}
	if found[branchPage] < 4 || found[freelistPage] < 2 {
		t.Fatalf("too little was tried: %v", found)
	}
}

// readDamaged reads everything: an error is fine, and nothing else is but the answer. Check must see the damage.
func readDamaged(t *testing.T, s *Store) {
	t.Helper()
	for i := range 40 {
		if _, err := s.User(damagedUser(i, i%20)); err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnknownUser) {
			t.Error(err)
		}
	}
	for _, err := range s.Members(&Expr{Op: OpTag, Value: "x"}) {
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	}
	if err := s.Check(context.Background()); !errors.Is(err, ErrDamaged) {
		t.Error("Check:", err)
	}
	_ = s.Close(context.Background()) // as far as it can
}
