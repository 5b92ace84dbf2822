package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
)

// pristine returns the files of a directory that closedStore made, the same to the byte each time, so that what
// an input damages is what it damaged when it was found.
func pristine(t testing.TB, journal, segment bool) map[string][]byte {
	t.Helper()
	dir := createdStore(t)
	closedStore(t, dir, journal, segment)
	return canonical(t, dir)
}

// createdStore makes an empty directory of blocks of four users, without anything random in it.
func createdStore(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := createJournal(dir, storeID([]byte("a store of tests")), 0); err != nil {
		t.Fatal(err)
	}
	if err := create(dir, geometry{2}, nil); err != nil {
		t.Fatal(err)
	}
	patch(t, dir, blocksFile, func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(metaProposer, key64(17)) })
	return dir
}

var many struct {
	sync.Once
	files map[string][]byte
}

// manyTasks is pristine with trees of several levels in blocks.db. The files are made once, and are not to be changed.
func manyTasks(t testing.TB) map[string][]byte {
	t.Helper()
	many.Do(func() {
		dir := createdStore(t)
		s, err := Open(dir, Options{Now: func() time.Time { return time.Unix(1_000_000, 0) }}, nil)
		if err != nil {
			t.Fatal(err)
		}
		a := &answers{t: t}
		together(t, s, func() {
			for i := range 48 {
				b := new(Batch)
				for j := range 8 {
					b.Ops = append(b.Ops, UserOp{Kind: OpPut, ID: damagedUser(i, j), Tags: []string{"x"}})
				}
				a.propose(s, b)
			}
			for range 160 {
				a.propose(s, &Push{Body: []byte("hello"), To: &Expr{Op: OpUsers, IDs: []string{damagedUser(3, 3)}}, Lifetime: time.Hour.Milliseconds()})
			}
		})
		a.wait.Wait()
		closeStore(t, s)
		many.files = canonical(t, dir)
	})
	if many.files == nil {
		t.Fatal("there are no files: see the test that was to make them")
	}
	return many.files
}

// canonical lays the files out anew and returns them. Bbolt takes free pages, and buckets that a transaction changes, in the
// order of a map, so that what is at which page is never the same twice. Here it is: a list, and a transaction for each pair.
func canonical(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	for name, o := range map[string]*bbolt.Options{blocksFile: blocksOptions(), journalFile: journalOptions()} {
		path := filepath.Join(dir, name)
		src, err := bbolt.Open(path, 0o600, o)
		if err != nil {
			t.Fatal(err)
		}
		o.FreelistType, o.InitialMmapSize, o.PageSize, o.NoSync, o.NoGrowSync = bbolt.FreelistArrayType, 0, 4096, true, true
		dst, err := bbolt.Open(path+".canonical", 0o600, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(bbolt.Compact(dst, src, 1), src.Close(), dst.Close(), os.Rename(path+".canonical", path)); err != nil {
			t.Fatal(err)
		}
	}
	files := make(map[string][]byte)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(e.Name()) == ".db" {
			b = b[:highWater(b)] // the room to grow holds nothing
		}
		files[e.Name()] = b
	}
	return files
}

// damage applies patches to a file, each an offset of three bytes, a length of one, and so many bytes. Length 0 is a page that
// was written to the wrong place, or not at all: three more bytes say what stands there instead.
func damage(b []byte, patches []byte) {
	take := func(n int) []byte {
		n = min(n, len(patches))
		p := patches[:n]
		patches = patches[n:]
		return p
	}
	number := func() int {
		n := 0
		for _, c := range take(3) {
			n = n<<8 | int(c)
		}
		return n % len(b)
	}
	for len(b) > 0 && len(patches) > 3 {
		at, n := number(), int(take(1)[0])
		if n == 0 {
			from := number()
			copy(b[at&^4095:], bytes.Clone(b[from&^4095:min(from|4095+1, len(b))]))
			continue
		}
		copy(b[at:], take(n))
	}
}

// repair makes the checksums of a damaged file right, so that what is behind them is met.
func repair(name string, b []byte) {
	if filepath.Ext(name) != ".db" {
		if n := len(b) - 4; n > 0 {
			binary.BigEndian.PutUint32(b[n:], crc32.Checksum(b[:n], castagnoli))
		}
		return
	}
	for at := pageHeader; at <= pageHeader+4096 && at+64 <= len(b); at += 4096 {
		sum := fnv.New64a()
		sum.Write(b[at : at+56])
		binary.NativeEndian.PutUint64(b[at+56:], sum.Sum64())
	}
}

// FuzzOpen damages one file of a sound directory: Open refuses it by one of its errors and changes nothing, or it opens, and
// whatever is done with it then ends, in an answer or an error. Bbolt trusts its pages, so this says that
// nothing that it could fall over gets to it.
func FuzzOpen(f *testing.F) {
	bases := []map[string][]byte{
		pristine(f, false, false), pristine(f, true, false), pristine(f, false, true), pristine(f, true, true), manyTasks(f),
	}
	f.Add(uint8(0), uint8(0), uint32(0), false, []byte{})
	f.Fuzz(func(t *testing.T, base, file uint8, length uint32, repaired bool, patches []byte) {
		t.Parallel()
		pristine := bases[int(base)%len(bases)]
		names := slices.Sorted(maps.Keys(pristine))
		name := names[int(file)%len(names)]
		damaged := bytes.Clone(pristine[name])
		damage(damaged, patches)
		if length > 0 {
			damaged = damaged[:int(length-1)%(len(damaged)+1)]
		}
		if repaired {
			repair(name, damaged)
		}
		memory := name == blocksFile && wantsMemory(damaged)
		if memory && len(names) > 2 {
			return // it is folded while it is opened
		}
		dir := t.TempDir()
		for _, n := range names {
			b := pristine[n]
			if n == name {
				b = damaged
			}
			if err := os.WriteFile(filepath.Join(dir, n), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		stuck := time.AfterFunc(2*time.Minute, func() {
			debug.SetTraceback("all")
			panic("it does not end")
		})
		defer stuck.Stop()
		before := fingerprint(t, dir)
		s, err := Open(dir, Options{}, nil)
		if err == nil {
			readDamagedStore(s)
			if memory {
				ended, cancel := context.WithCancel(context.Background())
				cancel()
				_ = s.Close(ended)
				return
			}
			changeDamagedStore(s)
			if bytes.Equal(damaged, pristine[name]) {
				soundAfterUse(t, dir)
			}
			return
		}
		known := []error{ErrDamaged, ErrForeignFile, ErrMissingFile, ErrNewerFormat}
		matches := func(err error) bool {
			return slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) })
		}
		if s != nil || !matches(err) || bytes.Equal(damaged, pristine[name]) {
			t.Fatalf("%s: %v", name, err)
		}
		if after := fingerprint(t, dir); after != before {
			t.Fatalf("%v, and the directory has changed:\n%s\n%s", err, before, after)
		}
		if _, err := Open(dir, Options{}, nil); !matches(err) { // nothing is left locked
			t.Fatalf("the second time: %v", err)
		}
	})
}

// wantsMemory says whether a leaf has an element with a key or a value of hundreds of megabytes. Who writes beside it, as the fold does, asks for
// that memory before the element is looked at, because bbolt does: it ends in an error, but not soon.
func wantsMemory(b []byte) bool {
	le := binary.NativeEndian
	for at := 0; at+4096 <= len(b); at += 4096 {
		if le.Uint16(b[at+8:]) != leafPage {
			continue
		}
		for i := range min(int(le.Uint16(b[at+10:])), 4096/elementSize-1) {
			e := b[at+pageHeader+i*elementSize:]
			if (le.Uint32(e[8:])|le.Uint32(e[12:]))>>28 > 0 {
				return true
			}
		}
	}
	return false
}

// readDamagedStore reads everything of a store whose files may be damaged. All errors are answers.
func readDamagedStore(s *Store) {
	for i := range 10 {
		for _, id := range []string{fmt.Sprintf("u%d", i), fmt.Sprintf("v%d", i), damagedUser(i, i%5)} {
			u, err := s.User(id)
			if err == nil {
				_, _ = s.PendingOf(u.Ordinal, 0, 100)
			}
		}
	}
	tag := &Expr{Op: OpTag, Value: "x"}
	for _, e := range []*Expr{
		{Op: OpAll}, tag, {Op: OpNot, Args: []*Expr{tag}}, {Op: OpSample, PPM: 500_000, Value: "s"}, {Op: OpUsers, IDs: []string{"u1", "u2"}},
		{Op: OpAnd, Args: []*Expr{{Op: OpPlatform, Value: "fcm"}, {Op: OpAttr, Name: "tier", Value: "gold"}}},
	} {
		_, _ = s.Count(context.Background(), e)
		for range s.Members(e) {
		}
	}
	for t, err := range s.Tasks() {
		if err == nil && t.Seq < 3 {
			_, _ = s.Message(t.Seq)
			_, _ = s.Pending(0, t.Seq)
			for _, again := range []bool{false, true} {
				_, _ = s.PhoneStep(&PhoneWalk{Seq: t.Seq, Platform: "fcm", Always: t.Always, Targets: 10, Again: again, Asleep: &Expr{Op: OpTimeZone, Value: "UTC"}})
			}
		}
	}
	_, _ = s.DueAt(1<<50, 10)
	_, _, _ = s.Unfinished()
	_, _ = s.Settings()
	_, _ = s.Stats()
	_, _ = s.Files(context.Background())
	for range s.Postings(context.Background()) {
	}
}

// changeDamagedStore changes it, does all that goes through the whole of it, and closes it.
func changeDamagedStore(s *Store) {
	ctx := context.Background()
	tag := &Expr{Op: OpTag, Value: "x"}
	for _, c := range []Command{
		&Batch{Ops: []UserOp{registerOp("new"), {Kind: OpPut, ID: "u1", Tags: []string{"x", "y"}, Devices: []Device{{Platform: "fcm", Token: "2"}}}}},
		&Batch{Ops: []UserOp{{Kind: OpUnregister, ID: "u2"}}},
		&Push{Key: "k", Body: []byte("x"), To: tag, Lifetime: 1000, Note: []byte("n"), Platforms: []string{"fcm"}, Always: true},
		&Received{Seq: 1, Bits: roaring.BitmapOf(0, 1)}, &CaughtUp{Ordinal: 1, Seqs: []uint64{1, 2}}, &End{Seq: 1, Reason: Withdrawn},
		&Opened{Seq: 1, Bits: roaring.BitmapOf(0, 1)},
	} {
		_, _ = s.Propose(ctx, c)
	}
	_, _ = s.Ack(ctx, 3, 1)
	_ = s.Check(ctx)
	_, _ = s.Digest(ctx)
	_ = s.Backup(ctx, io.Discard)
	_ = s.Compact(ctx)
	_ = s.Close(ctx)
}

// soundAfterUse opens what changeDamagedStore closed when there was no damage.
func soundAfterUse(t *testing.T, dir string) {
	t.Helper()
	s, err := Open(dir, Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.User("new"); err != nil {
		t.Error("a change is gone:", err)
	}
	if err := s.Check(context.Background()); err != nil {
		t.Error(err)
	}
	closeStore(t, s)
}
