package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"pgregory.net/rapid"
)

// memoryLog is a log in memory. It finds stores whose digests differ.
type memoryLog struct {
	mu       sync.Mutex
	id       [16]byte
	records  [][]byte
	ids      map[string]uint64
	more     broadcast
	digests  map[uint64]uint64
	compared int
	differ   error
	version  int
	first    uint64 // how many records are not there any more
	folded   []uint64
	// fault says how often a record is added, and what the store is told.
	fault func() (times int, err error)
	late  [][]byte // added before the next one
}

func newMemoryLog() *memoryLog {
	l := &memoryLog{version: applyVersion, ids: make(map[string]uint64), digests: make(map[uint64]uint64)}
	copy(l.id[:], "a log of the test")
	return l
}

func (l *memoryLog) ID() [16]byte { return l.id }

func (l *memoryLog) Version() int { return l.version }

func (l *memoryLog) Append(_ context.Context, id string, record []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, known := l.ids[id]; known {
		return at, nil
	}
	defer l.more.tell()
	times, err := 1, error(nil)
	if l.fault != nil {
		times, err = l.fault()
	}
	late := l.late
	l.late = nil
	if times < 0 { // it comes behind the next one
		l.late = append(l.late, record)
		return 0, err
	}
	for range times {
		l.records = append(l.records, record)
	}
	at := uint64(len(l.records))
	l.records = append(l.records, late...)
	if err != nil {
		return 0, err
	}
	l.ids[id] = at
	return at, nil
}

func (l *memoryLog) Last(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.records)), nil
}

func (l *memoryLog) Record(_ context.Context, position uint64) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if position <= l.first || position > uint64(len(l.records)) {
		return nil, nil
	}
	return l.records[position-1], nil
}

func (l *memoryLog) Records(ctx context.Context, after uint64) iter.Seq2[JournalRecord, error] {
	return func(yield func(JournalRecord, error) bool) {
		for {
			more := l.more.wait()
			l.mu.Lock()
			after = max(after, l.first)
			some := l.records[after:]
			l.mu.Unlock()
			for _, r := range some {
				after++
				if !yield(JournalRecord{after, r}, nil) {
					return
				}
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (l *memoryLog) Folded(position uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.folded = append(l.folded, position)
}

func (l *memoryLog) Summed(position, sum uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, known := l.digests[position]; known && other != sum {
		l.differ = fmt.Errorf("digests at %d: %x and %x", position, other, sum)
	} else if known {
		l.compared++
	}
	l.digests[position] = sum
}

// TestLogRandom has two stores follow one log, in which records are lost, come twice and come late. One folds all the time, and dies and is reopened; the other does not.
// Both have the same state, bit for bit, and the digests that they tell on the way are the same.
func TestLogRandom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	played, compared := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		if played++; played > replayChecks {
			return
		}
		l := newMemoryLog()
		playTwins(t, dir, l)
		if l.differ != nil {
			t.Fatal(l.differ)
		}
		compared += l.compared
	})
	if compared == 0 {
		t.Error("no digests were compared")
	}
}

func (w *twins) logOf() Log {
	if w.log == nil {
		return nil
	}
	return w.log
}

// proposeToLog makes a change by way of one of the two, and waits for both.
func (w *twins) proposeToLog(c Command) any {
	w.Helper()
	lost := errors.New("lost")
	w.log.fault = func() (int, error) {
		switch rapid.IntRange(0, 15).Draw(w.T, "fault") {
		case 0:
			return 0, ErrUnavailable
		case 1:
			return 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, lost)
		case 2:
			return 1, fmt.Errorf("%w: %w", ErrOutcomeUnknown, lost)
		case 3:
			return 2, nil
		case 4:
			return -1, fmt.Errorf("%w: %w", ErrOutcomeUnknown, lost)
		}
		return 1, nil
	}
	s := w.a
	if rapid.Bool().Draw(w.T, "by the other") {
		s = w.b
	}
	r, err := s.Propose(w.ctx, c)
	last, _ := w.log.Last(w.ctx)
	w.must(w.a.WaitApplied(w.ctx, last))
	w.must(w.b.WaitApplied(w.ctx, last))
	if err != nil {
		return nil
	}
	return r
}

// openLogged opens a store of a log, which is checked and closed at the end of the test.
func openLogged(t *testing.T, dir string, l Log) *Store {
	t.Helper()
	return open(t, dir, Options{BlockBits: 2, Log: l, LogTimeout: time.Minute})
}

// TestLogOfTwoVersions has an older store in the cluster: what it does not know is refused until it does, and what it knows is written so that it can be read.
func TestLogOfTwoVersions(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	s := openLogged(t, t.TempDir(), l)
	l.version = 1
	register(t, s, "ann")
	if _, err := s.Propose(context.Background(), &Delivered{Seq: 1, Bits: roaring.BitmapOf(1)}); !errors.Is(err, ErrUpgrading) {
		t.Error("a newer command:", err)
	}
	if v := l.records[0][0]; v != 1 {
		t.Error("version of the record:", v)
	}
	l.version = 2
	propose(t, s, &Delivered{Seq: 1, Bits: roaring.BitmapOf(1)})
	if v := l.records[1][0]; v != 2 {
		t.Error("version of the newer record:", v)
	}
}

// TestLogHandsBackLate: what a store has added it applies when the log has taken it, though the log hands it back later; but not before those of others that are before it.
func TestLogHandsBackLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		s, other := openLogged(t, t.TempDir(), &heldLog{memoryLog: l, hold: make(chan struct{})}), openLogged(t, t.TempDir(), l)
		register(t, s, "ann")
		register(t, s, "bob")
		must(other.WaitApplied(context.Background(), 2))
		register(t, other, "cid")
		if _, err := s.Propose(context.Background(), &Batch{Ops: []UserOp{registerOp("dan")}}); !errors.Is(err, ErrOutcomeUnknown) {
			t.Error("answered before what is before it:", err)
		}
		close(s.o.Log.(*heldLog).hold)
		must(s.WaitApplied(context.Background(), 4))
		must(other.WaitApplied(context.Background(), 4))
		for _, id := range []string{"ann", "bob", "cid", "dan"} {
			u, err := s.User(id)
			v, otherErr := other.User(id)
			if err != nil || otherErr != nil || u.Ordinal != v.Ordinal {
				t.Errorf("%s is %d and %d: %v, %v", id, u.Ordinal, v.Ordinal, err, otherErr)
			}
		}
		register(t, s, "eve")
	})
}

// heldLog hands nothing back until it may.
type heldLog struct {
	*memoryLog
	hold chan struct{}
}

func (l *heldLog) Records(ctx context.Context, after uint64) iter.Seq2[JournalRecord, error] {
	return func(yield func(JournalRecord, error) bool) {
		select {
		case <-l.hold:
			l.memoryLog.Records(ctx, after)(yield)
		case <-ctx.Done():
		}
	}
}

// TestLogIsKeptUntilHandedBack: what a store has folded before the log has handed it back must not be cut yet, for the log would go on behind a gap.
func TestLogIsKeptUntilHandedBack(t *testing.T) {
	t.Parallel()
	l := &heldLog{memoryLog: newMemoryLog(), hold: make(chan struct{})}
	s := openLogged(t, t.TempDir(), l)
	told := func() uint64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Max(l.folded)
	}
	register(t, s, "ann")
	register(t, s, "bob")
	must(s.Checkpoint(context.Background()))
	if to := told(); to != 0 {
		t.Error("to be cut up to", to)
	}
	close(l.hold)
	register(t, openLogged(t, t.TempDir(), l.memoryLog), "cid")
	must(s.WaitApplied(context.Background(), 3)) // which comes behind those two
	must(s.Checkpoint(context.Background()))
	if to := told(); to < 2 {
		t.Error("to be cut up to", to)
	}
}

// TestLogHandsBackAnother: where the log has another record than this store was told, its state is not that of the others.
func TestLogHandsBackAnother(t *testing.T) {
	t.Parallel()
	l := &heldLog{memoryLog: newMemoryLog(), hold: make(chan struct{})}
	s, other := openLogged(t, t.TempDir(), l), openLogged(t, t.TempDir(), newMemoryLog())
	register(t, s, "ann")
	register(t, other, "bob")
	l.mu.Lock()
	l.records[0] = other.o.Log.(*memoryLog).records[0]
	l.mu.Unlock()
	close(l.hold)
	if err := s.WaitApplied(context.Background(), 2); !errors.Is(err, ErrDiverged) {
		t.Error("applied:", err)
	}
	if _, err := s.Propose(context.Background(), &Batch{Ops: []UserOp{registerOp("cid")}}); !errors.Is(err, ErrDiverged) {
		t.Error("goes on:", err)
	}
}

// TestLogWentOnFromBefore: a store is not opened behind a log that lost its end and has got other records in its place, where these reach as far.
func TestLogWentOnFromBefore(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	dir := t.TempDir()
	s := openLogged(t, dir, l)
	register(t, s, "ann")
	register(t, s, "bob")
	closeStore(t, s)
	closeStore(t, openLogged(t, dir, l))
	l.records = l.records[:1]
	other := openLogged(t, t.TempDir(), l)
	register(t, other, "cid")
	if s, err := Open(dir, Options{Log: l, LogTimeout: time.Second}, nil); !errors.Is(err, ErrForeignFile) {
		t.Fatal("opened:", s, err)
	}
	l.first = 2
	closeStore(t, openLogged(t, dir, l)) // nobody can tell
}

// TestLogIsCut: a store for which the log goes on behind a gap applies nothing of it, and refuses changes.
func TestLogIsCut(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	dir := t.TempDir()
	s := openLogged(t, dir, l)
	register(t, s, "ann")
	closeStore(t, s)
	other := openLogged(t, t.TempDir(), l)
	for i := range 5 {
		register(t, other, fmt.Sprint("u", i))
	}
	closeStore(t, other)
	l.mu.Lock()
	l.first = 5
	l.mu.Unlock()
	if s, err := Open(dir, Options{Log: l, LogTimeout: time.Second}, nil); !errors.Is(err, ErrBehind) {
		t.Fatal("opened behind the cut:", s, err)
	}
}

// TestLogAndJournal: a directory is of a log or has its own journal, and no other is taken for it. A copy of one of a log is one with a journal, which
// goes on by itself, and can be attached to the log again.
func TestLogAndJournal(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newMemoryLog()
	dir := t.TempDir()
	s := openLogged(t, dir, l)
	register(t, s, "ann", "bob")
	var backup bytes.Buffer
	if err := s.Backup(ctx, &backup); err != nil {
		t.Fatal(err)
	}
	register(t, s, "cid")
	closeStore(t, s)
	if _, err := Open(dir, Options{}, nil); !errors.Is(err, ErrForeignFile) {
		t.Error("opened without its log:", err)
	}
	if r, err := Open(dir, Options{ReadOnly: true}, nil); err != nil {
		t.Error("for reading only:", err)
	} else if got := members(t, r, &Expr{Op: OpAll}); len(got) != 3 {
		t.Error("for reading only:", got)
		closeStore(t, r)
	} else {
		var b bytes.Buffer
		if err := r.Backup(ctx, &b); err != nil {
			t.Error("backup for reading only:", err)
		}
		closeStore(t, r)
		to := filepath.Join(t.TempDir(), "restored")
		if err := Restore(ctx, to, &b); err != nil {
			t.Fatal(err)
		}
		if got := members(t, open(t, to, Options{}), &Expr{Op: OpAll}); len(got) != 3 {
			t.Error("restored from a backup for reading only:", got)
		}
	}
	strange := newMemoryLog()
	strange.id[0]++
	if _, err := Open(dir, Options{Log: strange}, nil); !errors.Is(err, ErrForeignFile) {
		t.Error("opened with another log:", err)
	}

	copied := filepath.Join(t.TempDir(), "copy")
	if err := Restore(ctx, copied, bytes.NewReader(backup.Bytes())); err != nil {
		t.Fatal(err)
	}
	place, err := PlaceOf(copied)
	if err != nil || !place.Store || place.Log != nil || place.Empty {
		t.Error("place of the copy:", place, err)
	}
	position := place.Position
	if _, err := Open(copied, Options{Log: l}, nil); !errors.Is(err, ErrForeignFile) {
		t.Error("opened with a log that it is not attached to:", err)
	}
	alone := open(t, copied, Options{})
	if got := members(t, alone, &Expr{Op: OpAll}); !slices.Equal(got, []string{"ann", "bob"}) {
		t.Error("the copy has", got)
	}
	register(t, alone, "dan")
	closeStore(t, alone)

	again := filepath.Join(t.TempDir(), "again")
	if err := Restore(ctx, again, bytes.NewReader(backup.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := Attach(again, l.id, position); err != nil {
		t.Fatal(err)
	}
	if err := Attach(again, strange.id, position); !errors.Is(err, ErrForeignFile) {
		t.Error("attached to two logs:", err)
	}
	back := openLogged(t, again, l)
	if got := members(t, back, &Expr{Op: OpAll}); !slices.Equal(got, []string{"ann", "bob", "cid"}) {
		t.Error("attached again it has", got)
	}
}

// TestLogThatIsAway: changes fail in time, say whether they may have been made, and are made when the log is there again.
func TestLogThatIsAway(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newMemoryLog()
	s := openLogged(t, t.TempDir(), l)
	l.fault = func() (int, error) { return 0, ErrUnavailable }
	_, err := s.Propose(ctx, &Batch{Ops: []UserOp{{Kind: OpRegister, ID: "ann"}}})
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
		t.Error("a change that was not made:", err)
	}
	l.fault = func() (int, error) { return 1, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ErrUnavailable) }
	_, err = s.Propose(ctx, &Batch{Ops: []UserOp{{Kind: OpRegister, ID: "bob"}}})
	if !errors.Is(err, ErrOutcomeUnknown) || strings.Contains(err.Error(), "open") { // which would help nobody
		t.Error("a change that was made, and not answered:", err)
	}
	l.fault = nil
	register(t, s, "cid")
	if got := members(t, s, &Expr{Op: OpAll}); !slices.Equal(got, []string{"bob", "cid"}) {
		t.Error("there are", got)
	}
}

// TestPlaceOfNothing: a directory without a store, and one with an empty one.
func TestPlaceOfNothing(t *testing.T) {
	t.Parallel()
	if place, err := PlaceOf(filepath.Join(t.TempDir(), "none")); err != nil || place.Store {
		t.Error(place, err)
	}
	dir := t.TempDir()
	closeStore(t, open(t, dir, Options{}))
	if place, err := PlaceOf(dir); err != nil || !place.Store || !place.Empty {
		t.Error(place, err)
	}
}

// TestReplace puts files in the place of others, also where it was interrupted between any two of them.
func TestReplace(t *testing.T) {
	t.Parallel()
	for moved := range 3 {
		dir := t.TempDir()
		s := open(t, dir, Options{})
		register(t, s, "ann")
		closeStore(t, s)
		from := filepath.Join(dir, "joined")
		s = open(t, from, Options{})
		register(t, s, "bob", "cid")
		closeStore(t, s)
		for _, name := range []string{journalFile, blocksFile}[:moved] {
			if err := os.Rename(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := Replace(dir, from); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, Options{})
		if got := members(t, s, &Expr{Op: OpAll}); !slices.Equal(got, []string{"bob", "cid"}) {
			t.Error("there are", got)
		}
	}
}

// TestReplaceWithSegment: a segment of the files that come stays when they are put in place at the second attempt.
func TestReplaceWithSegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := filepath.Join(dir, "joined")
	if err := os.Mkdir(from, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(dir, name string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(dir), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(dir, blocksFile)
	write(from, blocksFile)
	write(dir, segmentName(7)) // was moved before the interruption
	write(dir, journalFile)
	if err := Replace(dir, from); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, segmentName(7))); err != nil {
		t.Error(err)
	}
}

// TestReadAheadOfALog: what has been read for a record that is to come from the log stays what it was, for unlike at a replay the blocks are written meanwhile.
func TestReadAheadOfALog(t *testing.T) {
	t.Parallel()
	s := openLogged(t, t.TempDir(), newMemoryLog())
	register(t, s, "u")
	for i := range 200 { // more than fit into the pages of other buckets
		register(t, s, fmt.Sprint("other ", i))
	}
	if err := s.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := new(ahead)
	if err := s.batchAhead(read, []Command{&Batch{Ops: []UserOp{{Kind: OpAddTags, ID: "u", Tags: []string{"tag"}}}}}); err != nil {
		t.Fatal(err)
	}
	if len(read.records) == 0 {
		t.Fatal("nothing was read")
	}
	before := make(map[recordOf][]byte)
	for k, b := range read.records {
		before[k] = bytes.Clone(b)
	}
	for i := range 20 {
		register(t, s, fmt.Sprint("further ", i))
		propose(t, s, &Batch{Ops: []UserOp{{Kind: OpAddTags, ID: "u", Tags: []string{fmt.Sprint("tag ", i)}}}})
		if err := s.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for k, b := range read.records {
		if !bytes.Equal(b, before[k]) {
			t.Errorf("%v has become %q, and was %q", k, b, before[k])
		}
	}
}

// silentLog has records that do not come.
type silentLog struct{ *memoryLog }

func (l silentLog) Last(context.Context) (uint64, error) { return 1, nil }

// TestOpeningEnds: Open does not wait longer than it may for a log that has become silent.
func TestOpeningEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	s, err := Open(t.TempDir(), Options{Log: silentLog{newMemoryLog()}, Opening: ctx}, nil)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(s, err)
	}
}

// lateEnd answers where it ends when its time has come, or never.
type lateEnd struct {
	*memoryLog
	after time.Duration
}

func (l lateEnd) Last(ctx context.Context) (uint64, error) {
	select {
	case <-time.After(l.after):
		return l.memoryLog.Last(ctx)
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// TestOpeningWaits: for a log that has no leader Open waits as long as it may, which is no matter of how long a change may take.
func TestOpeningWaits(t *testing.T) {
	t.Parallel()
	s, err := Open(t.TempDir(), Options{Log: lateEnd{newMemoryLog(), 50 * time.Millisecond}, LogTimeout: time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	s, err = Open(t.TempDir(), Options{Log: lateEnd{newMemoryLog(), time.Hour}, LogTimeout: time.Hour, Opening: ctx}, nil)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(s, err)
	}
}

// fadingLog says once that it ends before the store, and nothing any more.
type fadingLog struct {
	*memoryLog
	asked bool
}

func (l *fadingLog) Last(ctx context.Context) (uint64, error) {
	if !l.asked {
		l.asked = true
		return 0, nil
	}
	<-ctx.Done()
	return 0, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
}

// TestOpeningALogThatFades: a log that could not be asked again is not there, and not one that has lost its end.
func TestOpeningALogThatFades(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, l := t.TempDir(), newMemoryLog()
		s := openLogged(t, dir, l)
		register(t, s, "ann")
		closeStore(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if s, err := Open(dir, Options{Log: &fadingLog{memoryLog: l}, Opening: ctx}, nil); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrForeignFile) {
			t.Error(s, err)
		}
	})
}
