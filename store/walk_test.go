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
	"time"

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

// leadingToItself exchanges two leaves of a file, so that there is one whose first element has an empty value and a key as
// long as the page's number.
func leadingToItself(file []byte) []byte {
	file = bytes.Clone(file)
	le := binary.NativeEndian
	page := func(id uint64) []byte { return file[id*4096:][:4096] }
	exchange := map[uint64]uint64{}
	for id := uint64(2); id*4096 < uint64(len(file)); id++ {
		p := page(id)
		key := le.Uint64(p[pageHeader+8:]) // with the length of the value as its upper half
		if le.Uint16(p[8:]) == leafPage && key*4096 < uint64(len(file)) && key > 2 && le.Uint16(page(key)[8:]) == leafPage {
			exchange[id], exchange[key] = key, id
			other := bytes.Clone(page(key))
			copy(page(key), p)
			copy(p, other)
			le.PutUint64(p, id)
			le.PutUint64(page(key), key)
			break
		}
	}
	for id := uint64(2); id*4096 < uint64(len(file)); id++ {
		for i := range le.Uint16(page(id)[10:]) {
			child := page(id)[pageHeader+int(i)*elementSize+8:]
			if to, moved := exchange[le.Uint64(child)]; moved && le.Uint16(page(id)[8:]) == branchPage {
				le.PutUint64(child, to)
			}
		}
	}
	return file
}

// TestLeafThatSaysItIsABranch makes each leaf of blocks.db a branch. Its elements are page numbers then: of those with
// empty values one is the page itself, which bbolt would follow until the stack is full, and no recover catches that.
func TestLeafThatSaysItIsABranch(t *testing.T) {
	t.Parallel()
	files := manyTasks(t)
	files = with(files, leadingToItself(files[blocksFile]))
	le := binary.NativeEndian
	leads, tried := 0, 0
	for id := 2; id*4096 < len(files[blocksFile]); id++ {
		blocks := bytes.Clone(files[blocksFile])
		page := blocks[id*4096:]
		if le.Uint16(page[8:]) != leafPage {
			continue
		}
		if tried%2 == 1 { // the length of a key is where a branch has a page: here it is this one
			le.PutUint64(page[pageHeader+8:], uint64(id))
			leads++
		}
		tried++
		le.PutUint16(page[8:], branchPage)
		dir := write(t, with(files, blocks))
		s, err := Open(dir, Options{}, nil)
		if err != nil {
			refused(t, dir, ErrDamaged, blocksFile)
			continue
		}
		_, _ = s.DueAt(1<<50, 1000)
		_, _ = s.User(damagedUser(20, 3))
		if err := s.Check(context.Background()); err != nil && !errors.Is(err, ErrDamaged) { // it may be a page that is free
			t.Errorf("page %d: %v", id, err)
		}
		_ = s.Close(context.Background())
	}
	if leads == 0 || tried < 20 {
		t.Fatalf("of %d leaves %d would lead to themselves: nothing was tried", tried, leads)
	}
}

// TestMetaPageInAMessage has a message whose body has the images of meta pages, newer than any, at just the places where those of a file
// of larger pages would be. They are somebody's data.
func TestMetaPageInAMessage(t *testing.T) {
	t.Parallel()
	withBody := func(body []byte) map[string][]byte {
		dir := createdStore(t)
		s, err := Open(dir, Options{Now: func() time.Time { return time.Unix(1_000_000, 0) }}, nil)
		if err != nil {
			t.Fatal(err)
		}
		register(t, s, "a")
		propose(t, s, &Push{Body: body, To: &Expr{Op: OpAll}, Lifetime: 1000})
		closeStore(t, s)
		return canonical(t, dir)
	}
	body := bytes.Repeat([]byte("x"), 200_000)
	blocks := withBody(body)[blocksFile]
	start, placed := bytes.Index(blocks, body), 0
	le := binary.NativeEndian
	for _, size := range []int{8192, 16384, 32768, 65536} {
		at := size - start
		if at < 0 || at+4096 > len(body) {
			continue
		}
		placed++
		page := body[at : at+4096]
		image := page[copy(page, blocks[:pageHeader]):]
		copy(image, blocks[pageHeader:pageHeader+64])
		le.PutUint32(image[8:], uint32(size))
		le.PutUint64(image[16:], 1<<30) // root
		le.PutUint64(image[48:], 1<<60) // transaction
		repair(blocksFile, page)
	}
	if placed == 0 {
		t.Fatalf("the body is at %d: nothing was tried", start)
	}
	files := withBody(body)
	if at := bytes.Index(files[blocksFile], body); at != start {
		t.Fatalf("the body is at %d, not at %d", at, start)
	}
	s := open(t, write(t, files), Options{})
	if m, err := s.Message(1); err != nil || !bytes.Equal(m.Body, body) {
		t.Fatal(err)
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
		if le.Uint16(page[8:]) == leafPage && le.Uint16(page[10:]) > 0 && le.Uint32(page[pageHeader+8:]) == idPrefix {
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

// TestPagesThatGoRoundWhileOpen has a branch lead back to itself when Open has seen the pages already: who follows all of them
// looks first whether they come to an end.
func TestPagesThatGoRoundWhileOpen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	files := manyTasks(t)
	le := binary.NativeEndian
	blocks := files[blocksFile]
	id := 2
	for le.Uint16(blocks[id*4096+8:]) != branchPage {
		id++
	}
	last := int(le.Uint16(blocks[id*4096+10:])) - 1
	dir := write(t, files)
	s, err := Open(dir, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := id*4096 + pageHeader + last*elementSize + 8
	child := bytes.Clone(blocks[at : at+8])
	overwrite(t, filepath.Join(dir, blocksFile), at, le.AppendUint64(nil, uint64(id))...)
	for what, f := range map[string]func() error{
		"Compact": func() error { return s.Compact(ctx) },
		"Digest":  func() error { _, err := s.Digest(ctx); return err },
		"Check":   func() error { return s.Check(ctx) },
	} {
		if err := f(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	overwrite(t, filepath.Join(dir, blocksFile), at, child...)
	if err := s.Check(ctx); err != nil {
		t.Error(err)
	}
	closeStore(t, s)
}

// TestFileCutWhileOpen cuts blocks.db off under an open store: what was mapped there is a fault now, and each call that meets one
// says so.
func TestFileCutWhileOpen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	files := manyTasks(t)
	for _, size := range []int64{2 * 4096, 20 * 4096} {
		dir := write(t, files)
		s, err := Open(dir, Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, blocksFile), size); err != nil {
			t.Fatal(err)
		}
		if _, err := s.User(damagedUser(0, 0)); !errors.Is(err, ErrDamaged) {
			t.Error("User:", err)
		}
		if err := registerErr(s, "new"); !errors.Is(err, ErrDamaged) { // its caller read ahead for it
			t.Error("Propose:", err)
		}
		if err := s.Backup(ctx, io.Discard); !errors.Is(err, ErrDamaged) {
			t.Error("Backup:", err)
		}
		if err := s.Compact(ctx); !errors.Is(err, ErrDamaged) {
			t.Error("Compact:", err)
		}
		if n := s.Views(); n != 0 {
			t.Error(n, "views are open")
		}
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}
