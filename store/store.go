// Package store keeps who the users are and what they still wait for: a
// journal of commands, a delta of what they changed, and blocks that the delta
// is folded into. It knows no network and no policy; package fanfare is what
// people use.
//
// Every change is a [Command]. The committer puts the commands of all waiting
// callers into one journal record, makes it durable, applies it and answers.
// docs/architecture.md and docs/format.md say how, byte by byte.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

// Options adjust a store. The zero value works.
type Options struct {
	// DeltaEntries and DeltaBytes bound the delta: at the bound it is frozen
	// and folded. The heap holds at most three times the bytes. Defaults:
	// 1,000,000 and 128 MiB.
	DeltaEntries int
	DeltaBytes   int64
	// BlockBits is how many low bits of an ordinal stay within a block, 1 to 16. It counts
	// only when the directory is created; less than 16 is for tests. Default: 16.
	BlockBits int
	// Now is the clock that stamps commands. Default: time.Now.
	Now func() time.Time
	// Logger gets what happens in the background. Default: nothing is logged.
	Logger *slog.Logger
	// Failed is told what keeps the store from folding, or from any change until it is opened again, and must not
	// block. Default: nobody is told.
	Failed func(error)
	// ReadOnly opens the directory for reading only: nothing is written to it, changes fail with
	// [ErrReadOnly], and other processes may read it at the same time. Default: it is opened for changes.
	ReadOnly bool
	// WrapJournal, for tests and for a journal elsewhere, gets the local journal and returns
	// the one to use. Default: the local one.
	WrapJournal func(Journal) Journal
	// WriteBlocks, for tests, makes a write to blocks.db, or fails it: with an error that is a lack of room, before
	// anything of it is made. Default: it is made.
	WriteBlocks func(write func() error) error
	// Log is the order of records of a cluster, in place of the local journal. The directory must be one that was made with the log, or [Attach]ed to it. Open replays what
	// the log has; after it records of other stores are applied as they come. Default: none.
	Log Log
	// RecordBytes bounds what goes into one record, if that is more than one command. Default: 1 MiB.
	RecordBytes int
	// LogTimeout is how long a change waits before it fails while the log takes nothing, neither it nor what is before it; half of that, and more if it was taken early, is how long a change that is in the log
	// waits to come back. Default: 5 s.
	LogTimeout time.Duration
	// Opening ends how long Open waits for what is in the log. Default: it does not end.
	Opening context.Context

	// Opened gets the store before the observer is told anything. Default: nobody does.
	Opened func(*Store)

	// For tests.
	digestEvery uint64            // in place of the constant
	foldError   func() error      // asked before each step of a fold
	foldDone    func(error) error // asked after each step of a fold, with what came of it
	checkError  func() error      // asked before each step of a check
}

func (o *Options) fill() {
	if o.DeltaEntries <= 0 {
		o.DeltaEntries = 1_000_000
	}
	if o.DeltaBytes <= 0 {
		o.DeltaBytes = 128 << 20
	}
	if o.BlockBits <= 0 || o.BlockBits > 16 {
		o.BlockBits = 16
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	if o.digestEvery == 0 {
		o.digestEvery = digestEvery
	}
	if o.Opened == nil {
		o.Opened = func(*Store) {}
	}
	if o.RecordBytes <= 0 || o.RecordBytes > maxRecord {
		o.RecordBytes = maxRecord
	}
	if o.LogTimeout <= 0 {
		o.LogTimeout = 5 * time.Second
	}
	if o.Opening == nil {
		o.Opening = context.Background()
	}
	if o.WriteBlocks == nil {
		o.WriteBlocks = func(write func() error) error { return write() }
	}
}

// Store is an open directory. Its methods are safe for concurrent use.
type Store struct {
	dir      string
	o        Options
	id       storeID
	geo      geometry
	proposer uint64
	logged   bool  // the directory is one of a log
	found    Found // does not change after Open
	local    *boltJournal
	journal  Journal
	observer Observer

	layers    atomic.Pointer[layers]
	views     atomic.Int64 // open now
	published atomic.Pointer[state]
	size      atomic.Pointer[deltaSize]

	// The committer's own; nobody else touches them after Open.
	st     state
	number uint64  // of the last command proposed
	users  *userTx // of the last batch, whose maps the next one uses
	aheads sync.Pool
	cut    atomic.Uint64

	follower follower // with a log
	queue    queue
	stop     context.CancelFunc
	stopped  context.Context // ends when the committer is to leave
	leave    context.CancelFunc
	leaving  context.Context // ends when Close begins
	closing  sync.Once
	running  sync.WaitGroup

	counts   counters
	refuse   atomic.Pointer[error] // why changes are refused, if they are
	foldFail atomic.Pointer[error] // why the fold cannot write, while it cannot
	frozen   chan struct{}         // to the folder: there is a frozen delta
	foldNews broadcast             // the fold is done, or failed
	foldedTo atomic.Uint64         // the position that the blocks contain without a segment
	layersMu sync.Mutex            // held to change layers
	copying  lock                  // held by who needs the files in their places: a backup's copy, a compaction, a look at their space
	blocksMu lock                  // held around each write to blocks.db, and by who needs none
}

// Open opens the directory, or creates it when it holds none of the store's
// files (for reading only it must be there), and replays what the last process left in the journal. It returns [ErrLocked]
// when another process has it open, [ErrMissingFile], [ErrForeignFile], [ErrNewerFormat] or
// [ErrDamaged] when the files are not as they should be, and then has changed nothing.
// The observer may be nil.
func Open(dir string, o Options, observer Observer) (s *Store, err error) {
	o.fill()
	defer func() {
		if err != nil {
			s = nil // a panic that became the error has left it
		}
	}()
	defer guardFaults("open", &err)()
	if !o.ReadOnly {
		if err := create(dir, geometry{uint8(o.BlockBits)}, o.Log); err != nil {
			return nil, err
		}
	}
	db, meta, err := openBlocks(dir, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	s = &Store{
		dir: dir, o: o, id: meta.id, geo: meta.geo, proposer: meta.proposer, logged: meta.log != nil, observer: observer,
		frozen: make(chan struct{}, 1), copying: newLock(), blocksMu: newLock(),
	}
	if o.Log != nil {
		s.proposer = newProposer() // a record of the process before may still come
	}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.leaving, s.leave = context.WithCancel(s.stopped)
	s.queue.most = o.RecordBytes
	s.queue.wake = make(chan struct{}, 1)
	ok := false
	defer func(s *Store) { // the result is nil by then
		if !ok {
			s.stop()
			db.Close()
			if s.local != nil {
				s.local.db.Load().Close()
			}
		}
	}(s)
	local, id, err := openJournal(dir, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	s.local, s.journal = local, local
	if o.WrapJournal != nil {
		s.journal = o.WrapJournal(local)
	}
	if id != meta.id {
		return nil, fmt.Errorf("%w: %s belongs to another %s", ErrForeignFile, journalFile, blocksFile)
	}
	if err := meta.belongs(o.Log, o.ReadOnly); err != nil {
		return nil, err
	}
	l := &layers{db: db, active: newDelta(), everyone: newEveryone()}
	if o.Log != nil {
		l.active.digest = &digest{every: o.digestEvery}
	}
	if meta.segment != "" {
		if l.frozen, err = readSegment(dir, meta.segment, s.id); err != nil {
			return nil, err
		}
		s.found.Segment = true
		if l.frozen.position != meta.position {
			return nil, &FormatError{What: meta.segment, Detail: "position"}
		}
	}
	s.layers.Store(l)
	if meta.log != nil { // whose records come later, or, for reading only, not at all
		err = s.loadState(meta.position)
	} else {
		err = s.replay(meta.position)
	}
	if err != nil {
		return nil, err
	}
	if o.ReadOnly {
		s.readOnly()
		o.Opened(s)
		ok = true
		return s, nil
	}
	if err := removeStray(dir, meta.segment); err != nil {
		return nil, err
	}
	s.publish()
	s.cut.Store(meta.position)
	if l.frozen == nil {
		s.foldedTo.Store(meta.position)
	}
	if o.Log == nil {
		s.running.Go(s.commit)
	} else if err := s.openLog(meta.position, meta.group); err != nil {
		return nil, err
	}
	ok = true
	s.running.Go(s.folder)
	if l.frozen != nil {
		s.frozen <- struct{}{}
	}
	if o.Log == nil {
		o.Opened(s)
		return s, nil
	}
	if err := s.catchUpWithLog(s.follower.quiet); err != nil {
		s.stop()
		close(s.follower.opened)
		s.running.Wait()
		return nil, errors.Join(err, l.db.Close(), s.local.db.Load().Close())
	}
	s.found.Records = int64(s.follower.quiet - meta.position)
	o.Opened(s)
	close(s.follower.opened)
	return s, nil
}

// create makes the files where there are none. The journal comes first, so that an
// interrupted creation shows as a journal that never held anything, and is finished here;
// any other missing file is an error.
func create(dir string, g geometry, log Log) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	has := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return !errors.Is(err, os.ErrNotExist)
	}
	// In this order: whoever creates the directory meanwhile makes the journal first, so that with blocks there is one.
	blocks := has(blocksFile)
	journal := has(journalFile)
	switch {
	case journal && blocks:
		return nil
	case blocks:
		return fmt.Errorf("%w: %s", ErrMissingFile, journalFile)
	case !journal:
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		segment := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return isSegmentName(e.Name()) })
		if segment && !has(journalFile) {
			return fmt.Errorf("%w: %s and %s", ErrMissingFile, blocksFile, journalFile)
		}
		var id storeID
		rand.Read(id[:])
		if log != nil { // so that the stores of a cluster that begins with nothing are one
			id = log.ID()
		}
		if err := createJournal(dir, id, 0); err != nil {
			return err
		}
	}
	// Under the journal's lock, so that of two processes that create the directory one makes the blocks.
	j, id, err := openJournal(dir, false)
	if err != nil {
		return err
	}
	defer func() { j.db.Load().Close() }()
	base, err := j.base()
	if err != nil || has(blocksFile) {
		return err
	}
	if base != 0 || j.last != 0 {
		return fmt.Errorf("%w: %s", ErrMissingFile, blocksFile)
	}
	return createBlocks(dir, id, g, log)
}

// replay applies the journal behind the position that the blocks and the segment contain.
func (s *Store) replay(position uint64) error {
	base, err := s.local.base()
	if err != nil {
		return err
	}
	if base > position {
		return fmt.Errorf("%w: %s is at position %d, but %s was cut up to %d: it is older than the journal",
			ErrForeignFile, blocksFile, position, journalFile, base)
	}
	if s.local.last < position {
		return fmt.Errorf("%w: %s ends at position %d, but %s is at %d: it is older than the blocks",
			ErrForeignFile, journalFile, s.local.last, blocksFile, position)
	}
	if err := s.loadState(position); err != nil {
		return err
	}
	if err := s.replayRecords(s.journal.Records(position), 0); err != nil {
		return err
	}
	last, _, err := s.journal.Last()
	if err != nil {
		return err
	}
	if s.st.position < last { // what was acknowledged must not be passed over
		return &FormatError{What: journalFile, Detail: fmt.Sprintf("its records end at %d, the last is %d", s.st.position, last)}
	}
	s.number = s.st.last(s.proposer)
	return nil
}

// loadState reads the state at the position that the blocks and the segment contain.
func (s *Store) loadState(position uint64) error {
	if err := s.withView(func(v *view) (err error) {
		s.st, err = decodeState(v.get(bucketState, stateKey), s.geo)
		return err
	}); err != nil {
		return err
	}
	s.st.position = position
	s.layers.Load().active.position = position
	s.publish() // what is read ahead needs the names of attributes
	return nil
}

// replayRecords applies records that come behind the state, until there are no more or the position is reached, unless that is 0.
func (s *Store) replayRecords(from iter.Seq2[JournalRecord, error], until uint64) error {
	records := make(chan *decoded, replayAhead)
	done := make(chan struct{})
	defer func() {
		close(done)
		for range records { // until it has left the journal, which may be closed next
		}
	}()
	aheads := &sync.Pool{New: func() any { return new(ahead) }}
	go s.decodeAhead(from, records, aheads, done)
	for d := range records {
		<-d.ready
		if d.err != nil {
			return d.err
		}
		if d.position != s.st.position+1 {
			return fmt.Errorf("%w: %s goes on at record %d after %d", ErrForeignFile, journalFile, d.position, s.st.position)
		}
		s.found.Records++
		s.found.Bytes += int64(d.bytes)
		if err := s.replayRecord(d); err != nil {
			return fmt.Errorf("journal record %d: %w", d.position, err)
		}
		if d.ahead != nil {
			aheads.Put(d.ahead)
		}
		if s.st.position == until {
			break
		}
	}
	return nil
}

// replayAhead is how many records are decoded and read for ahead of the one that is applied.
const replayAhead = 16

// decoded is a journal record with its commands, or why there is none. All but the position is there when ready is closed.
type decoded struct {
	position uint64
	bytes    int
	ready    chan struct{}
	rec      *record
	commands []Command
	own      *logGroup // if it is one of this store's, with a log
	ahead    *ahead    // of all of the commands; may be nil
	err      error
}

// decodeAhead sends the records behind a position, the last with an error if one keeps it from the rest. That a record
// is decoded, and what its commands look up is read, goes on in several goroutines while earlier records are applied: a replay
// has no callers who would do it. The replay of a journal changes neither the blocks nor the layers meanwhile; with a log both go on.
func (s *Store) decodeAhead(from iter.Seq2[JournalRecord, error], records chan<- *decoded, aheads *sync.Pool, done <-chan struct{}) {
	defer close(records)
	var decoding sync.WaitGroup
	defer decoding.Wait()
	free := make(chan struct{}, workers())
	send := func(d *decoded) bool {
		select {
		case records <- d:
			return true
		case <-done:
			return false
		}
	}
	err := eachRecord(from, func(r JournalRecord) bool {
		d := &decoded{position: r.Position, bytes: len(r.Record), ready: make(chan struct{})}
		free <- struct{}{}
		decoding.Go(func() {
			defer func() { <-free }()
			s.decode(d, r.Record, aheads)
		})
		return send(d)
	})
	if err != nil {
		d := &decoded{err: err, ready: make(chan struct{})}
		close(d.ready)
		send(d)
	}
}

func (s *Store) decode(d *decoded, b []byte, aheads *sync.Pool) {
	defer close(d.ready)
	defer guardFaults(journalFile, &d.err)()
	rec, err := decodeRecord(b)
	if err == nil {
		d.rec = rec
		if s.o.Log != nil && d.position <= s.follower.applied.Load() { // it was added by this store, and is passed over
			return
		}
		d.own = s.ownGroup(rec)
		if d.own != nil { // which has been read for, too
			d.commands = d.own.commands
			return
		}
		d.commands, err = decodeCommands(rec)
	}
	if err != nil {
		d.err = fmt.Errorf("journal record %d: %w", d.position, err)
		return
	}
	if r := aheads.Get().(*ahead); s.batchAhead(r, d.commands) == nil { // else who applies it meets the same error
		d.ahead = r
	}
}

// eachRecord has a guard of its own, for it reads in a goroutine of its own.
func eachRecord(from iter.Seq2[JournalRecord, error], f func(JournalRecord) bool) (err error) {
	defer guardFaults(journalFile, &err)()
	for r, err := range from {
		if err != nil {
			return fmt.Errorf("fanfare: read %s: %w", journalFile, err)
		}
		if !f(r) {
			return nil
		}
	}
	return nil
}

func decodeCommands(rec *record) ([]Command, error) {
	commands := make([]Command, len(rec.commands))
	for i, b := range rec.commands {
		c, err := decodeCommand(b)
		if err != nil {
			return nil, err
		}
		commands[i] = c
	}
	return commands, nil
}

func (s *Store) replayRecord(d *decoded) error {
	v, err := s.view()
	if err != nil {
		return err
	}
	a := &applier{s: s, st: &s.st, d: v.active, v: v}
	defer func() { a.v.close() }()
	a.record(d.position, d.rec, d.commands, func(int) *ahead { return d.ahead }, func(int, any, error) {})
	s.summed(d.position)
	return nil
}

// record applies a record's commands in order and hands on each result. Of each command there may be what its
// proposer has read ahead.
func (a *applier) record(position uint64, rec *record, commands []Command, read func(i int) *ahead, result func(i int, r any, err error)) {
	a.st.now = max(a.st.now, rec.stamp)
	last := a.st.last(rec.proposer)
	for i, c := range commands {
		if rec.first+uint64(i) <= last { // the log delivered it before
			result(i, nil, ErrOutcomeUnknown)
			continue
		}
		if a.v.ahead = read(i); a.v.ahead != nil && a.v.ahead.layers != a.v.layers {
			a.v.ahead = nil
		}
		r, err := a.apply(c)
		result(i, r, err)
	}
	a.v.ahead = nil
	a.flushProgress()
	if n := uint64(len(commands)); n > 0 {
		a.st.setLast(rec.proposer, max(last, rec.first+n-1))
	}
	a.st.position, a.d.position = position, position
	if a.s.o.Log != nil {
		a.d.group = rec.id()
	}
	if a.d.entries == 0 {
		a.d.entries = 1 // the stamp and the numbers are a change too
	}
}

// publish lets others see the state, and how large the delta is. Only the committer calls it, after a group.
func (s *Store) publish() {
	s.published.Store(s.st.clone())
	d := s.layers.Load().active
	s.size.Store(&deltaSize{d, d.entries, d.bytes})
}

// deltaSize is the size of an active delta, which only the committer may read there.
type deltaSize struct {
	of      *delta
	entries int
	bytes   int64
}

// Close finishes the fold under way, writes a last segment, folds it, and
// closes the files. When ctx ends first, what is not folded stays in the segment or
// the journal, the next Open goes on from there, and Close returns the context's error.
// After it every call returns [ErrClosed].
func (s *Store) Close(ctx context.Context) error {
	err := ErrClosed
	s.closing.Do(func() { err = s.close(ctx) })
	return err
}

func (s *Store) close(ctx context.Context) error {
	s.queue.close()
	s.leave()
	err := s.settle(ctx)
	s.stop()
	s.running.Wait()
	s.queue.failAll(ErrClosed)
	s.copying.Lock() // a compaction ends first, for it reads what is closed here
	defer s.copying.Unlock()
	if err == nil && s.refuse.Load() == nil && !s.o.ReadOnly && s.o.Log == nil { // else the next Open needs the journal
		err = s.journal.Cut(s.foldedTo.Load())
	}
	return errors.Join(err, s.layers.Load().db.Close(), s.local.db.Load().Close())
}

// settle brings everything into the blocks.
func (s *Store) settle(ctx context.Context) error {
	if s.refuse.Load() != nil || s.o.ReadOnly {
		return nil // the journal decides at the next Open
	}
	return s.Checkpoint(ctx)
}

// Refused returns why changes are refused until the store is reopened, nil if they are not.
func (s *Store) Refused() error {
	if p := s.refuse.Load(); p != nil {
		return *p
	}
	return nil
}

// refuseChanges makes every later change fail: what is on the disk is not known.
func (s *Store) refuseChanges(cause error) error {
	err := fmt.Errorf("%w, and changes are refused until the directory is opened again: %w", ErrOutcomeUnknown, cause)
	if s.refuse.CompareAndSwap(nil, &err) {
		s.o.Logger.Error("fanfare: changes are refused until the directory is reopened", "cause", cause)
		s.o.Failed(err)
	}
	return err
}

// untilClose returns a context that also ends when the store closes. Over, called when the work is
// done, makes an error that came of that ErrClosed.
func (s *Store) untilClose(outer context.Context) (ctx context.Context, over func(*error)) {
	inner, cancel := context.WithCancel(outer)
	stop := context.AfterFunc(s.leaving, cancel)
	return leavingContext{inner, s.leaving}, func(err *error) {
		stop()
		cancel()
		if errors.Is(*err, context.Canceled) && outer.Err() == nil {
			*err = ErrClosed
		}
	}
}

// leavingContext has ended as soon as the store is closing, while an AfterFunc takes its time.
type leavingContext struct {
	context.Context
	leaving context.Context
}

func (c leavingContext) Err() error {
	if err := c.leaving.Err(); err != nil {
		return err
	}
	return c.Context.Err()
}

// blocksDB returns the open blocks.db.
func (s *Store) blocksDB() *bbolt.DB { return s.layers.Load().db }

// workers is how many goroutines evaluate an audience.
func workers() int { return runtime.GOMAXPROCS(0) }
