package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// closedStore makes a store with a little of everything, closed as asked: completely, or
// with a journal to replay, or with a segment to fold too.
func closedStore(t testing.TB, dir string, journal, segment bool) {
	t.Helper()
	steps, last := 0, 1<<30
	now := func() time.Time { return time.Unix(1_000_000, 0) }
	s, err := Open(dir, Options{BlockBits: 2, Now: now, foldError: func() error {
		if steps++; steps > last {
			return context.Canceled
		}
		return nil
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	propose(t, s, &SetNames{Names: []SlotName{{0, "tier"}}})
	for i := range 10 {
		propose(t, s, &Batch{Ops: []UserOp{{
			Kind: OpPut, ID: fmt.Sprintf("u%d", i), Tags: []string{"x", fmt.Sprint(i % 3)}, Attrs: []AttrValue{{"tier", "gold"}},
			Devices: []Device{{Platform: "fcm", Token: fmt.Sprint(i)}},
		}}})
	}
	r := push(t, s, &Expr{Op: OpTag, Value: "x"}, time.Hour)
	if _, err := s.Ack(ctx, 3, r.Seq); err != nil {
		t.Fatal(err)
	}
	if segment {
		steps, last = 0, 1 // the segment is named, and not folded
		if err := s.Checkpoint(ctx); !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		closeStore(t, s)
		if !journal {
			return
		}
		goOn := make(chan struct{})
		s, err = Open(dir, Options{Now: now, foldError: func() error { <-goOn; return context.Canceled }}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			register(t, s, fmt.Sprintf("v%d", i))
		}
		close(goOn)
		if err := s.Checkpoint(ctx); !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		closeStore(t, s)
		return
	}
	if journal {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if err := s.Close(ended); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		return
	}
	closeStore(t, s)
}

// fingerprint returns the names and contents of a directory.
func fingerprint(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			fmt.Fprintln(&b, path)
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %d %x\n", path, len(content), sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// refused opens a directory that must be refused with the error, which names the file, and be left as it is. That
// it is refused the second time with the same error says that nothing stayed locked.
func refused(t *testing.T, dir string, want error, file string) {
	t.Helper()
	before := fingerprint(t, dir)
	for range 2 {
		s, err := Open(dir, Options{}, nil)
		if err == nil {
			closeStore(t, s)
			t.Fatalf("opened; should be %v", want)
		}
		if s != nil {
			t.Fatal("a store beside the error", err)
		}
		if !errors.Is(err, want) {
			t.Fatalf("%v; should be %v", err, want)
		}
		if !strings.Contains(err.Error(), file) {
			t.Fatalf("%q does not name %s", err, file)
		}
	}
	if after := fingerprint(t, dir); after != before {
		t.Fatalf("the directory has changed:\n%s\n%s", before, after)
	}
}

// patch changes a bbolt file as a transaction would.
func patch(t testing.TB, dir, name string, f func(*bbolt.Tx) error) {
	t.Helper()
	o := blocksOptions()
	if name == journalFile {
		o = journalOptions()
	}
	db, err := bbolt.Open(filepath.Join(dir, name), 0o600, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func segmentOf(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "segment-*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	return filepath.Base(names[0])
}

func TestOpenNewerFormat(t *testing.T) {
	t.Parallel()
	for _, name := range []string{blocksFile, journalFile} {
		dir := t.TempDir()
		closedStore(t, dir, true, false)
		patch(t, dir, name, func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(metaFormat, key32(99)) })
		refused(t, dir, ErrNewerFormat, name)
	}
	// A record of a later apply.
	dir := t.TempDir()
	closedStore(t, dir, true, false)
	patch(t, dir, journalFile, func(tx *bbolt.Tx) error {
		records := tx.Bucket(bucketRecords)
		k, v := records.Cursor().Last()
		rec, err := decodeRecord(v)
		if err != nil {
			return err
		}
		b := rec.encode()
		b[0] = applyVersion + 1
		return records.Put(k, sealed(b[:len(b)-4]))
	})
	refused(t, dir, ErrNewerFormat, "journal")
	// A segment.
	dir = t.TempDir()
	closedStore(t, dir, false, true)
	name := segmentOf(t, dir)
	overwrite(t, filepath.Join(dir, name), len(segmentMagic), segmentVersion+1)
	refused(t, dir, ErrNewerFormat, name)
}

// TestOpenWithoutABucket: which is not made, for who wrote the file meant something else by the others.
func TestOpenWithoutABucket(t *testing.T) {
	t.Parallel()
	for _, bucket := range bucketName {
		dir := t.TempDir()
		closedStore(t, dir, true, false)
		patch(t, dir, blocksFile, func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucket) })
		refused(t, dir, ErrForeignFile, string(bucket))
	}
}

func overwrite(t testing.TB, path string, at int, with ...byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(with, int64(at))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenTruncated(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	closedStore(t, from, true, true)
	for _, name := range []string{blocksFile, journalFile, segmentOf(t, from)} {
		whole, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		end := len(whole)
		lengths := []int{0, 1, 15, 16, 20, 79, 80, 200, 4095, 4096, 4096 + 80, 2*4096 - 1, 2 * 4096, 3 * 4096, end / 2, end - 4096, end - 4}
		if strings.HasPrefix(name, "segment") {
			lengths = append(lengths, end-5, end-1)
		} else {
			// Behind the high-water mark there is nothing to miss.
			end = highWater(whole)
			lengths = append(lengths, end-1, end-4096)
		}
		tried := make(map[int]bool)
		for _, n := range lengths {
			if n < 0 || n >= end || tried[n] {
				continue
			}
			tried[n] = true
			dir := t.TempDir()
			if err := copyDir(from, dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filepath.Join(dir, name), int64(n)); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %d of %d", name, n, end)
			refused(t, dir, ErrDamaged, name)
		}
	}
}

// highWater returns how long a bbolt file must be.
func highWater(b []byte) int {
	le := binary.NativeEndian
	meta := b[pageHeader:]
	size := int(le.Uint32(meta[8:]))
	if second := b[size+pageHeader:]; le.Uint64(second[48:]) > le.Uint64(meta[48:]) {
		meta = second
	}
	return int(le.Uint64(meta[40:])) * size
}

func TestOpenWithAFileMissing(t *testing.T) {
	t.Parallel()
	for _, journal := range []bool{false, true} {
		for _, segment := range []bool{false, true} {
			from := t.TempDir()
			closedStore(t, from, journal, segment)
			names := []string{blocksFile, journalFile}
			if segment {
				names = append(names, segmentOf(t, from))
			}
			for _, name := range names {
				dir := t.TempDir()
				if err := copyDir(from, dir); err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
				refused(t, dir, ErrMissingFile, name)
			}
			if segment { // only the segment is left
				dir := t.TempDir()
				if err := copyDir(from, dir); err != nil {
					t.Fatal(err)
				}
				for _, name := range names[:2] {
					if err := os.Remove(filepath.Join(dir, name)); err != nil {
						t.Fatal(err)
					}
				}
				refused(t, dir, ErrMissingFile, blocksFile)
			}
		}
	}
}

func TestOpenForeignFile(t *testing.T) {
	t.Parallel()
	from, other := t.TempDir(), t.TempDir()
	closedStore(t, from, true, true)
	closedStore(t, other, true, true)
	text := func(path string) error {
		return os.WriteFile(path, []byte(strings.Repeat("Dear Sir or Madam, ", 1000)), 0o600)
	}
	someones := func(o *bbolt.Options) func(string) error {
		return func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			db, err := bbolt.Open(path, 0o600, o)
			if err != nil {
				return err
			}
			return errors.Join(db.Update(func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucket([]byte("widgets"))
				if err != nil {
					return err
				}
				inner, err := b.CreateBucket([]byte("blue"))
				if err != nil {
					return err
				}
				for i := range 1000 {
					if err := errors.Join(b.Put(key32(uint32(i)), key32(0)), inner.Put(key32(uint32(i)), key64(0))); err != nil {
						return err
					}
				}
				return nil
			}), db.Close())
		}
	}
	fill := func(from string) func(string) error {
		return func(path string) error {
			b, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			return os.WriteFile(path, b, 0o600)
		}
	}
	for _, c := range []struct {
		what, file string
		make       func(path string) error
		want       error
		names      string
	}{
		{"text", blocksFile, text, ErrForeignFile, blocksFile},
		{"text", journalFile, text, ErrForeignFile, journalFile},
		{"text", segmentOf(t, from), text, ErrForeignFile, segmentOf(t, from)},
		{"someone's database", blocksFile, someones(nil), ErrForeignFile, blocksFile},
		{"someone's database", journalFile, someones(nil), ErrForeignFile, journalFile},
		{"someone's database without a freelist", blocksFile, someones(&bbolt.Options{NoFreelistSync: true}), ErrForeignFile, blocksFile},
		{"another store's blocks", blocksFile, fill(filepath.Join(other, blocksFile)), ErrForeignFile, journalFile},
		{"another store's journal", journalFile, fill(filepath.Join(other, journalFile)), ErrForeignFile, journalFile},
		{"another store's segment", segmentOf(t, from), fill(filepath.Join(other, segmentOf(t, other))), ErrForeignFile, segmentOf(t, from)},
		{"the journal for blocks", blocksFile, fill(filepath.Join(from, journalFile)), ErrForeignFile, blocksFile},
		{"the blocks for journal", journalFile, fill(filepath.Join(from, blocksFile)), ErrForeignFile, journalFile},
	} {
		t.Run(c.what+" as "+c.file, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := copyDir(from, dir); err != nil {
				t.Fatal(err)
			}
			if err := c.make(filepath.Join(dir, c.file)); err != nil {
				t.Fatal(err)
			}
			refused(t, dir, c.want, c.names)
		})
	}
	dir := t.TempDir()
	if err := copyDir(from, dir); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, journalFile)), os.Mkdir(filepath.Join(dir, journalFile), 0o700)); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, ErrForeignFile, journalFile)
}

// TestOpenTwice opens a directory that is open.
func TestOpenTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	register(t, s, "a")
	start := time.Now()
	if _, err := Open(dir, Options{}, nil); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), blocksFile) {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Fatal("at once:", took)
	}
	register(t, s, "b")
	closeStore(t, s)
	s = open(t, dir, Options{})
	if got := members(t, s, &Expr{Op: OpAll}); len(got) != 2 {
		t.Fatal(got)
	}
}

// TestOpenInAnotherProcess opens a directory that a child process has open, and after its death.
func TestOpenInAnotherProcess(t *testing.T) {
	t.Parallel()
	const variable = "FANFARE_TEST_HOLD"
	if dir := os.Getenv(variable); dir != "" {
		s := open(t, dir, Options{})
		register(t, s, "child")
		fmt.Println("open")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until it is killed
		return
	}
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestOpenInAnotherProcess$")
	child.Env = append(os.Environ(), variable+"="+dir)
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	dead := sync.OnceFunc(func() { _ = child.Process.Kill(); _ = child.Wait() })
	defer dead()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatal(line, err)
	}
	before := fingerprint(t, dir)
	if _, err := Open(dir, Options{}, nil); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if fingerprint(t, dir) != before {
		t.Fatal("the directory has changed")
	}
	dead()
	s := open(t, dir, Options{})
	if got := members(t, s, &Expr{Op: OpAll}); len(got) != 1 {
		t.Fatal(got)
	}
}

// TestOpenWhileCreating opens a directory that does not exist from several goroutines at once:
// one gets it, the others are told that it is locked, and what the one does stays.
func TestOpenWhileCreating(t *testing.T) {
	t.Parallel()
	for range 20 {
		dir := filepath.Join(t.TempDir(), "new")
		var mu sync.Mutex
		var got []*Store
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				s, err := Open(dir, Options{}, nil)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					got = append(got, s)
				} else if !errors.Is(err, ErrLocked) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(got) > 1 {
			t.Fatal("open at once:", len(got))
		}
		for _, s := range got {
			register(t, s, "a")
			closeStore(t, s)
		}
		s := open(t, dir, Options{})
		if list := members(t, s, &Expr{Op: OpAll}); len(list) != len(got) {
			t.Fatal(list)
		}
		closeStore(t, s)
	}
}

// TestOpenFilesOfDifferentTimes mixes files of one store that do not belong together any more.
func TestOpenFilesOfDifferentTimes(t *testing.T) {
	t.Parallel()
	early, late := t.TempDir(), t.TempDir()
	s := open(t, early, Options{})
	register(t, s, "a")
	closeStore(t, s)
	if err := copyDir(early, late); err != nil {
		t.Fatal(err)
	}
	s = open(t, late, Options{})
	register(t, s, "b", "c")
	register(t, s, "d")
	closeStore(t, s)
	mix := func(blocks, journal string) string {
		dir := t.TempDir()
		for name, from := range map[string]string{blocksFile: blocks, journalFile: journal} {
			b, err := os.ReadFile(filepath.Join(from, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	refused(t, mix(early, late), ErrForeignFile, blocksFile)  // stale blocks
	refused(t, mix(late, early), ErrForeignFile, journalFile) // stale journal
}

func TestOpenJournalWithAGap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{foldError: func() error { return context.Canceled }})
	for i := range 100 { // more than are read ahead
		register(t, s, fmt.Sprint(i))
	}
	if err := s.Checkpoint(context.Background()); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	closeStore(t, s)
	remove := func(at uint64) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket(bucketRecords).Delete(key64(at)) }
	}
	for _, at := range []uint64{1, 3} {
		gap := t.TempDir()
		if err := copyDir(dir, gap); err != nil {
			t.Fatal(err)
		}
		patch(t, gap, journalFile, remove(at))
		refused(t, gap, ErrForeignFile, journalFile)
	}
	damaged := t.TempDir()
	if err := copyDir(dir, damaged); err != nil {
		t.Fatal(err)
	}
	patch(t, damaged, journalFile, func(tx *bbolt.Tx) error {
		records := tx.Bucket(bucketRecords)
		v := append([]byte(nil), records.Get(key64(2))...)
		v[len(v)/2] ^= 1
		return records.Put(key64(2), v)
	})
	refused(t, damaged, ErrDamaged, "journal record 2")
	s = open(t, dir, Options{})
	if got := members(t, s, &Expr{Op: OpAll}); len(got) != 100 {
		t.Fatal(got)
	}
}

// TestInterruptedCreation finishes what a process began that died while it made the files.
func TestInterruptedCreation(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"", blocksFile + ".new", journalFile + ".new"} {
		dir := t.TempDir()
		var id storeID
		if part != journalFile+".new" {
			if err := createJournal(dir, id, 0); err != nil {
				t.Fatal(err)
			}
		}
		if part != "" {
			if err := os.WriteFile(filepath.Join(dir, part), []byte("half a file"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := open(t, dir, Options{})
		register(t, s, "a")
		closeStore(t, s)
		s = open(t, dir, Options{})
		if got := members(t, s, &Expr{Op: OpAll}); len(got) != 1 {
			t.Fatal(got)
		}
		if part != "" {
			if _, err := os.Stat(filepath.Join(dir, part)); !errors.Is(err, os.ErrNotExist) {
				t.Fatal("left behind:", err)
			}
		}
	}
}

// TestOpenRemovesWhatWasLeftBehind has files of a fold and of a backup that never came to their end.
func TestOpenRemovesWhatWasLeftBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closedStore(t, dir, false, false)
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, segmentName(99)), []byte("half a segment"), 0o600),
		os.Mkdir(filepath.Join(dir, "backup-123"), 0o700),
		os.WriteFile(filepath.Join(dir, "backup-123", blocksFile), []byte("x"), 0o600),
		os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("somebody's"), 0o600),
		os.WriteFile(filepath.Join(dir, "backup-2026-11-24.tar"), []byte("the user's own"), 0o600),
		os.WriteFile(filepath.Join(dir, "segment-99"), []byte("so is this"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "backup-2026-11-24.tar blocks.db journal.db notes.txt segment-99" {
		t.Fatal(got)
	}
}

// TestOpenBesideOtherFiles makes a store where there are files whose names are much like the store's.
func TestOpenBesideOtherFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"backup-2026-11-24.tar", "segment-notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("somebody's"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	register(t, open(t, dir, Options{}), "a")
}

// sealed appends the checksum that makes a record of its bytes.
func sealed(body []byte) []byte {
	return binary.BigEndian.AppendUint32(body[:len(body):len(body)], crc32.Checksum(body, castagnoli))
}
