package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// write makes a directory of files.
func write(t testing.TB, files map[string][]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// with returns the files with another blocks.db.
func with(files map[string][]byte, blocks []byte) map[string][]byte {
	return map[string][]byte{blocksFile: blocks, journalFile: files[journalFile]}
}

// TestLeafThatSaysItIsABranch makes each leaf of blocks.db a branch. Its elements are page numbers then: of those with
// empty values one is the page itself, which bbolt would follow until the stack is full, and no recover catches that.
func TestLeafThatSaysItIsABranch(t *testing.T) {
	t.Parallel()
	files := manyTasks(t)
	le := binary.NativeEndian
	leads, tried := 0, 0
	for id := 2; id*4096 < len(files[blocksFile]); id++ {
		blocks := bytes.Clone(files[blocksFile])
		page := blocks[id*4096:]
		if le.Uint16(page[8:]) != leafPage {
			continue
		}
		if le.Uint64(page[pageHeader+8:]) == uint64(id) {
			leads++
		}
		tried++
		le.PutUint16(page[8:], branchPage)
		dir := write(t, with(files, blocks))
		s, err := Open(dir, Options{}, nil)
		if err == nil {
			useDamaged(s)
			continue
		}
		refused(t, dir, ErrDamaged, blocksFile)
	}
	if leads == 0 || tried < 20 {
		t.Fatalf("of %d leaves %d would lead to themselves: nothing was tried", tried, leads)
	}
}

// TestMetaPageWithinData has the image of a meta page in a page of data, as a message's body may: it is no meta page, however new
// it says it is.
func TestMetaPageWithinData(t *testing.T) {
	t.Parallel()
	files := pristine(t, false, false)
	le := binary.NativeEndian
	for _, size := range []int{8192, 16384} {
		blocks := bytes.Clone(files[blocksFile])
		for len(blocks) < size+4096 { // the file may be longer than the tree
			blocks = append(blocks, make([]byte, 4096)...)
		}
		image := bytes.Clone(blocks[pageHeader : pageHeader+64])
		le.PutUint32(image[8:], uint32(size))
		le.PutUint64(image[16:], 1<<30) // root
		le.PutUint64(image[48:], 1<<60) // transaction
		page := make([]byte, 4096)
		copy(page[pageHeader:], image)
		repair(blocksFile, page)
		// It is looked at by the walk, which must not care what a free page holds.
		path := filepath.Join(write(t, with(files, blocks)), blocksFile)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w := &walker{f: f, name: blocksFile}
		root, free, err := w.meta()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(page, int64(size)); err != nil {
			t.Fatal(err)
		}
		w = &walker{f: f, name: blocksFile}
		root2, free2, err := w.meta()
		if err != nil || root2 != root || free2 != free || w.pageSize != 4096 {
			t.Fatalf("root %d, free %d, page size %d: that is not the meta page (%v)", root2, free2, w.pageSize, err)
		}
	}
}

// TestMetaPageThatMakesNoSense has meta pages that are valid for bbolt, checksum and all, and say what no file says.
func TestMetaPageThatMakesNoSense(t *testing.T) {
	t.Parallel()
	files := manyTasks(t)
	le := binary.NativeEndian
	for what, change := range map[string]func(meta []byte){
		"pages of 2 GiB, so many that their sum is nothing": func(m []byte) { le.PutUint32(m[8:], 1<<31); le.PutUint64(m[40:], 1<<33) },
		"pages of 5000 bytes":                               func(m []byte) { le.PutUint32(m[8:], 5000) },
		"pages of 0 bytes":                                  func(m []byte) { le.PutUint32(m[8:], 0) },
		"more pages than the file":                          func(m []byte) { le.PutUint64(m[40:], 1<<50) },
		"a root beyond the file":                            func(m []byte) { le.PutUint64(m[16:], 1<<40) },
		"a root that is the meta":                           func(m []byte) { le.PutUint64(m[16:], 1) },
		"a free list that is a leaf":                        func(m []byte) { le.PutUint64(m[32:], 17) },
	} {
		blocks := bytes.Clone(files[blocksFile])
		change(blocks[pageHeader:])
		change(blocks[4096+pageHeader:])
		repair(blocksFile, blocks)
		t.Log(what)
		refused(t, write(t, with(files, blocks)), ErrDamaged, blocksFile)
	}
}

// TestNoListOfFreePages has a blocks.db without that list: bbolt goes through all pages then, in a goroutine of its own, where
// nobody catches a panic. So all of them are looked at first.
func TestNoListOfFreePages(t *testing.T) {
	t.Parallel()
	files := manyTasks(t)
	le := binary.NativeEndian
	blocks := bytes.Clone(files[blocksFile])
	for at := pageHeader; at <= pageHeader+4096; at += 4096 {
		le.PutUint64(blocks[at+32:], noFreelist)
	}
	repair(blocksFile, blocks)
	open(t, write(t, with(files, blocks)), Options{}) // it can be done without
	leaf := 0
	for id := 2; leaf == 0; id++ {
		if page := blocks[id*4096:]; le.Uint16(page[8:]) == leafPage && le.Uint16(page[10:]) > 20 && le.Uint64(page[pageHeader+8:])>>32 > 0 {
			leaf = id
		}
	}
	overwriteBytes(blocks[leaf*4096:], pageHeader+16+4, 0xFF, 0xFF, 0xFF, 0x7F) // where an element's key is
	refused(t, write(t, with(files, blocks)), ErrDamaged, blocksFile)
}

func overwriteBytes(b []byte, at int, with ...byte) { copy(b[at:], with) }

// TestStateOfMoreBlocksThanThereAre has a state that says so many users were registered that going through their blocks would
// never end, nor fit into memory.
func TestStateOfMoreBlocksThanThereAre(t *testing.T) {
	t.Parallel()
	for _, ordinals := range []uint64{1<<18 + 1, 1<<32 + 1, 1 << 62, 1<<64 - 1} {
		dir := t.TempDir()
		closedStore(t, dir, false, false) // blocks of four
		patch(t, dir, blocksFile, func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketName[bucketState])
			st, err := decodeState(b.Get(stateKey), geometry{2})
			if err != nil {
				return err
			}
			st.nextOrdinal = ordinals
			return b.Put(stateKey, st.encode())
		})
		refused(t, dir, ErrDamaged, "")
	}
}

// TestDamageMetByACopy has a leaf damaged in a way that Open does not see: what goes through the whole file says so and leaves
// nothing behind, and the store goes on.
func TestDamageMetByACopy(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	files := manyTasks(t)
	le := binary.NativeEndian
	root := uint64(0) // of the tree of user IDs
	blocks := bytes.Clone(files[blocksFile])
	for id := 2; root == 0; id++ {
		page := blocks[id*4096:]
		if le.Uint16(page[8:]) == leafPage && bytes.HasPrefix(page[pageHeader+int(le.Uint32(page[pageHeader+4:])):], []byte("user 00-00")) {
			root = uint64(id)
			le.PutUint16(page[8:], 0x22)
		}
	}
	dir := write(t, with(files, blocks))
	s, err := Open(dir, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() error{
		"Compact": func() error { return s.Compact(ctx) },
		"Digest":  func() error { _, err := s.Digest(ctx); return err },
		"Check":   func() error { return s.Check(ctx) },
	} {
		if err := f(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.Backup(ctx, io.Discard); err != nil { // which copies pages as they are
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*"+partSuffix+"*")); err != nil || len(left) > 0 {
		t.Error("left behind:", left, err)
	}
	if n := s.Views(); n != 0 {
		t.Error(n, "views are open")
	}
	if _, err := s.Task(3); err != nil {
		t.Error(err)
	}
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}
