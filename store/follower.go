package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// follower is what proposing to a log, and applying what comes back from it, have between them: with a log they are two goroutines, where the committer is one.
type follower struct {
	controls chan *proposal // to be run between two records
	added    chan *decoded  // an own record that the log has taken: it is applied at once, unless others are before it, and passed over when it comes back
	back     atomic.Uint64  // the position up to which the log has handed its records back; behind it own ones may be applied already
	quiet    uint64         // records up to there were in the log when the store was opened, and nobody is told of them
	opened   chan struct{}  // closed when the observer can be told of those behind them
	moving   time.Time      // until then the log was not away: who waits since before that has waited for its turn. The proposer's own

	mu       sync.Mutex
	pending  map[uint64]*logGroup // own groups whose callers wait for the log, by the number of their first command
	answered broadcast            // a group has its answers

	// applying is held while a record is applied and told, so that who holds it for reading sees nothing of what records have changed that
	// the observer has not been told.
	applying sync.RWMutex
	applied  atomic.Uint64         // the position up to which records are applied and told
	moved    broadcast             // it is another
	full     atomic.Pointer[error] // why nothing is applied for now
	fullness broadcast             // it is another
	ended    atomic.Pointer[error] // why nothing more is applied
}

// logGroup is a group that this store adds to the log.
type logGroup struct {
	*formed
	group []*proposal
	done  atomic.Bool // its callers are answered, or are about to be
	late  atomic.Pointer[time.Timer]
}

// take says whether it is for the one who asks to answer the callers.
func (g *logGroup) take() bool {
	if !g.done.CompareAndSwap(false, true) {
		return false
	}
	if t := g.late.Load(); t != nil {
		t.Stop()
	}
	return true
}

// failGroup answers the callers of a group, unless they are answered, and keeps it no longer: if it comes late it is applied as any other.
func (s *Store) failGroup(g *logGroup, err error) {
	if g.formed != nil {
		s.follower.forget(g)
	}
	if !g.take() {
		return
	}
	s.counts.refused(len(g.group), err)
	for _, p := range g.group {
		p.done(nil, err)
	}
	s.follower.answered.tell()
}

// forget keeps a group no longer.
func (f *follower) forget(g *logGroup) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending[g.rec.first] == g {
		delete(f.pending, g.rec.first)
	}
}

// propose adds the groups of waiting callers to the log, one at a time: the numbers of their commands must go up in the log too, for apply passes
// over a number that is not above the last.
func (s *Store) propose() {
	for {
		group := s.queue.take()
		switch {
		case len(group) == 0:
			select {
			case <-s.queue.wake:
			case <-s.stopped.Done():
				return
			}
		case group[0].control != nil:
			s.passControl(group[0])
		default:
			if group = s.refuseLate(group); len(group) > 0 {
				s.proposeGroup(group)
			}
		}
	}
}

// passControl has a control run when the callers of everything before it have their answers.
func (s *Store) passControl(p *proposal) {
	f := &s.follower
	applied := f.applied.Load()
	for {
		news := f.answered.wait()
		if !f.waited() {
			break
		}
		select {
		case <-news:
		case <-s.stopped.Done():
			p.done(nil, ErrClosed)
			return
		}
	}
	if f.applied.Load() > applied {
		f.moving = time.Now()
	}
	select {
	case f.controls <- p:
	case <-s.stopped.Done():
		p.done(nil, ErrClosed)
	}
}

// since is when a proposal began to wait for the log.
func (f *follower) since(p *proposal) time.Time {
	if p.queued.Before(f.moving) {
		return f.moving
	}
	return p.queued
}

// refuseLate refuses those of a group that have waited for more than half of their time behind others that the log did not take, and returns the rest. So what is tried has
// time enough for a log that is slow, and what has come together while the log was away does not hold up what comes behind it.
func (s *Store) refuseLate(group []*proposal) []*proposal {
	late := 0
	for late < len(group) && time.Since(s.follower.since(group[late])) > s.o.LogTimeout/2 {
		late++
	}
	if late > 0 {
		s.failGroup(&logGroup{group: group[:late]}, fmt.Errorf("%w: the log did not take what was before it", ErrUnavailable))
	}
	return group[late:]
}

// waited says whether callers wait for their answers.
func (f *follower) waited() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.pending {
		if !g.done.Load() {
			return true
		}
	}
	return false
}

func (s *Store) proposeGroup(group []*proposal) {
	f := &s.follower
	g := &logGroup{formed: s.form(group), group: group}
	for _, why := range []*atomic.Pointer[error]{&s.refuse, &f.full} {
		if p := why.Load(); p != nil {
			s.failGroup(g, *p)
			return
		}
	}
	first := g.rec.first
	s.number += uint64(len(g.commands)) // also for a group that fails: it may come late, and is passed over then
	f.mu.Lock()
	f.pending[first] = g
	f.mu.Unlock()
	if p := f.ended.Load(); p != nil {
		s.failGroup(g, *p)
		return
	}
	rec, began := g.rec.encode(), time.Now()
	until := f.since(group[0]).Add(s.o.LogTimeout)
	ctx, cancel := context.WithDeadline(s.stopped, until)
	defer cancel()
	position, err := s.o.Log.Append(ctx, fmt.Sprintf("%016x-%d", s.proposer, first), rec)
	switch {
	case err == nil:
		f.moving = time.Now()
		s.counts.committed(g.formed, len(rec), f.moving.Sub(began))
		g.late.Store(time.AfterFunc(max(time.Until(until), s.o.LogTimeout/2), func() {
			s.failGroup(g, fmt.Errorf("%w: %w: it is in the log, and has not come back", ErrOutcomeUnknown, ErrUnavailable))
		}))
		if g.done.Load() {
			g.late.Load().Stop()
		}
		select {
		case f.added <- &decoded{position: position, rec: g.rec, commands: g.commands, own: g}:
		default: // it comes back
		}
	default:
		s.failGroup(g, err)
	}
}

// follow applies the log's records as they come.
func (s *Store) follow() {
	f := &s.follower
	records := make(chan *decoded, replayAhead)
	done, closed := make(chan struct{}), ErrClosed
	aheads := &sync.Pool{New: func() any { return new(ahead) }}
	ctx, cancel := context.WithCancel(s.stopped)
	go s.decodeAhead(s.o.Log.Records(ctx, s.st.position), records, aheads, done)
	defer func() {
		cancel()
		close(done)
		for range records {
		}
		f.ended.CompareAndSwap(nil, &closed) // for groups that are proposed yet
		s.failPending(fmt.Errorf("%w: %w", ErrOutcomeUnknown, ErrClosed))
	}()
	from, added := records, f.added
	early := map[uint64]groupID{} // own records that were applied when the log had taken them, by the position where they are to come back
	for {
		var d *decoded
		var err error
		more := true
		select {
		case p := <-f.controls:
			p.control()
			p.done(nil, nil)
			continue
		case <-s.stopped.Done():
			return
		case d = <-added:
			if d.position != s.st.position+1 || s.ownGroup(d.rec) != d.own { // others are before it, or it has come back already
				continue
			}
			early[d.position] = d.rec.id()
		case d, more = <-from:
			if !more {
				break
			}
			<-d.ready
			if d.err == nil && d.position == f.back.Load()+1 {
				f.back.Store(d.position)
				if d.position <= s.st.position {
					if d.rec.id() == early[d.position] {
						delete(early, d.position)
						continue
					}
					err = fmt.Errorf("%w: record %d of the log is not the one that this node was told is there", ErrDiverged, d.position)
				}
			}
		}
		if more && err == nil {
			if d.err == nil && d.position > f.quiet {
				<-f.opened
			}
			err = s.followRecord(d)
		}
		if err == nil && more {
			if d.ahead != nil {
				aheads.Put(d.ahead)
			}
			continue
		}
		if s.stopped.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("fanfare: the log has ended")
		}
		err = s.refuseChanges(err)
		f.ended.Store(&err)
		f.moved.tell()
		s.failPending(err)
		from, added = nil, nil // controls go on
	}
}

// failPending answers all who wait for their groups, of which nothing is applied any more.
func (s *Store) failPending(err error) {
	f := &s.follower
	f.mu.Lock()
	left := f.pending
	f.pending = make(map[uint64]*logGroup)
	f.mu.Unlock()
	for _, g := range left {
		s.failGroup(g, err)
	}
}

// followRecord applies one record, tells the observer, and answers the callers if it is this store's.
func (s *Store) followRecord(d *decoded) error {
	f := &s.follower
	if d.err != nil {
		return d.err
	}
	if d.position != s.st.position+1 {
		return fmt.Errorf("%w: record %d came after %d", ErrBehind, d.position, s.st.position)
	}
	if err := s.followRoom(); err != nil {
		return err
	}
	if d.own != nil && s.ownGroup(d.rec) != d.own { // its callers have their answers; or it was applied, and comes again
		d.own = nil
	}
	f.applying.Lock()
	events, err := s.applyRecord(d)
	if err == nil {
		s.publish()
		if d.position > f.quiet {
			s.tell(d.rec, events)
		}
		f.applied.Store(d.position)
	}
	f.applying.Unlock()
	if err != nil {
		return fmt.Errorf("record %d of the log: %w", d.position, err)
	}
	f.moved.tell()
	if g := d.own; g != nil {
		f.forget(g)
		if g.take() {
			for _, answer := range g.answers {
				answer()
			}
		}
		f.answered.tell()
	}
	s.freezeFull()
	return nil
}

// followRoom waits for the fold as [Store.waitForRoom] does. Nothing is applied meanwhile, and while the fold cannot write this store's own changes fail.
func (s *Store) followRoom() error {
	f := &s.follower
	tell := func(why *error) {
		if f.full.Swap(why) != why {
			f.fullness.tell()
		}
	}
	defer tell(nil)
	for {
		if p := s.refuse.Load(); p != nil {
			return *p
		}
		news := s.foldNews.wait()
		if l := s.layers.Load(); l.frozen == nil || s.fits(l.active, l.frozen) {
			return nil
		}
		tell(s.foldFail.Load())
		select {
		case <-news:
		case p := <-f.controls:
			p.control()
			p.done(nil, nil)
		case <-s.stopped.Done():
			return ErrClosed
		}
	}
}

// Applying waits while there is no room to fold, so that no record of the log is applied, and returns a context that ends when that is so again, or with ctx, or by stop.
func (s *Store) Applying(ctx context.Context) (applying context.Context, stop context.CancelFunc) {
	f := &s.follower
	await := func(ctx context.Context, full bool) {
		for {
			news := f.fullness.wait()
			if (f.full.Load() != nil) == full {
				return
			}
			select {
			case <-news:
			case <-ctx.Done():
				return
			}
		}
	}
	await(ctx, false)
	applying, stop = context.WithCancel(ctx)
	go func() {
		await(applying, true)
		stop()
	}()
	return applying, stop
}

func (s *Store) applyRecord(d *decoded) (events []func(Observer), err error) {
	defer guardFaults("apply", &err)()
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	a := &applier{s: s, st: &s.st, d: v.active, v: v}
	defer func() { a.v.close() }()
	read, result := func(int) *ahead { return d.ahead }, func(int, any, error) {}
	if g := d.own; g != nil {
		read = func(i int) *ahead { return g.aheads[i] }
		result = func(i int, r any, err error) { g.result[i](r, err) }
	}
	a.record(d.position, d.rec, d.commands, read, result)
	if d.own != nil {
		s.reuse(d.own.aheads)
	}
	s.summed(d.position)
	return a.events, nil
}

// summed tells the log the digest at a position at which it is told.
func (s *Store) summed(position uint64) {
	if sum, tell := s.layers.Load().active.digest.at(position, &s.st); tell {
		s.o.Log.Summed(position, sum)
	}
}

// ownGroup returns the group that a record is, nil for none of this store's.
func (s *Store) ownGroup(rec *record) *logGroup {
	if s.o.Log == nil || rec.proposer != s.proposer {
		return nil
	}
	s.follower.mu.Lock()
	defer s.follower.mu.Unlock()
	return s.follower.pending[rec.first]
}

// openLog begins to propose to the log, and to follow it from a position on, if the record there is still the one that this store has.
func (s *Store) openLog(position uint64, group groupID) error {
	f := &s.follower
	f.controls, f.added, f.pending, f.opened = make(chan *proposal), make(chan *decoded, 1), make(map[uint64]*logGroup), make(chan struct{})
	ctx := s.o.Opening
	last, err := s.o.Log.Last(ctx)
	for began := time.Now(); err == nil && last < position && time.Since(began) < s.o.LogTimeout; { // one who leads the log anew may not have come to its end yet
		select {
		case <-time.After(50 * time.Millisecond):
			last, err = s.o.Log.Last(ctx)
		case <-ctx.Done():
			err = fmt.Errorf("%w: the log: %w", ErrUnavailable, context.Cause(ctx))
		}
	}
	if err != nil {
		return err
	}
	if last < position {
		return fmt.Errorf("%w: the log ends at %d, and %s is at %d", ErrForeignFile, last, blocksFile, position)
	}
	if group != (groupID{}) {
		b, err := s.o.Log.Record(ctx, position)
		if err != nil {
			return err
		}
		if b != nil {
			rec, err := decodeRecord(b)
			if err != nil {
				return err
			}
			if rec.id() != group {
				return fmt.Errorf("%w: record %d of the log is not the one that %s has: the log lost its end, and went on from there", ErrForeignFile, position, blocksFile)
			}
		}
	}
	f.quiet = last
	f.applied.Store(position)
	f.back.Store(position)
	g := s.layers.Load().active.digest
	g.sum, g.whole = digestStart, position%g.every == 0
	s.o.Log.Folded(position)
	s.running.Go(s.follow)
	s.running.Go(s.propose)
	return nil
}

// catchUpWithLog waits until everything is applied that is in the log now, as long as Options.Opening lasts.
func (s *Store) catchUpWithLog(last uint64) error {
	for {
		news := s.follower.moved.wait()
		if s.follower.applied.Load() >= last {
			return nil
		}
		if p := s.follower.ended.Load(); p != nil {
			return *p
		}
		select {
		case <-news:
		case <-s.o.Opening.Done():
			return fmt.Errorf("%w: the log: %w", ErrUnavailable, context.Cause(s.o.Opening))
		}
	}
}

// Flush waits until everything that was proposed before has its answer.
func (s *Store) Flush(ctx context.Context) error { return s.control(ctx, func() {}) }

// WaitApplied waits until all records up to a position of the log are applied.
func (s *Store) WaitApplied(ctx context.Context, position uint64) error {
	for {
		news := s.follower.moved.wait()
		if s.follower.applied.Load() >= position {
			return nil
		}
		if p := s.follower.ended.Load(); p != nil {
			return *p
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped.Done():
			return ErrClosed
		}
	}
}

// Applied returns the position of the log up to which records are applied, and their observer has been told.
func (s *Store) Applied() uint64 { return s.follower.applied.Load() }

// Proposer returns who this store is in the log: another one each time that it is opened.
func (s *Store) Proposer() uint64 { return s.proposer }

// Told holds up the records of the log while f runs, which therefore reads nothing that the observer has not been told. F must not wait for a command. Without a log
// it just calls f.
func (s *Store) Told(f func()) {
	if s.o.Log == nil {
		f()
		return
	}
	s.follower.applying.RLock()
	defer s.follower.applying.RUnlock()
	f()
}

// Refuse makes every later change fail with an error, and nothing more is applied: the state is not to be trusted.
func (s *Store) Refuse(cause error) { s.refuseChanges(cause) }
