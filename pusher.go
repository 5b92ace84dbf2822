package fanfare

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
)

// Pusher is an open directory of users, tags, attributes and pending messages, and the
// deliveries to those who are connected. Its methods are safe for concurrent
// use. After Close each returns [ErrClosed].
type Pusher struct {
	o        Options
	store    *store.Store
	delivery *delivery
	closed   atomic.Bool
	stop     context.CancelFunc
	planner  *planner
	sweeping sync.WaitGroup
	nextDue  atomic.Int64 // when the sweep has something to do, in milliseconds since 1970
}

// sweepEvery is how often the sweep looks whether something is due.
const sweepEvery = time.Second

// Open opens the directory and starts deliveries. A directory that holds no
// store yet, or does not exist, gets an empty one. Pushes that were in progress when the last
// process ended go on.
//
// It refuses [Options] that say what cannot be: mobile transports of the same platform, transports for a directory that is only read or looked after, quiet hours in a zone that is not known or at times that no day has, and a [Cap]
// beyond its bounds (a [*LimitError]).
//
// It returns [ErrLocked] if the directory is open elsewhere, [ErrMissingFile],
// [ErrForeignFile], [ErrNewerFormat] or [ErrDamaged] if its files are not as they
// should be, and then has changed nothing. Opening is instant after a complete Close; after a crash it
// replays at most two deltas' worth of changes.
func Open(dir string, o Options) (*Pusher, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	given := o.Limits
	o.fill()
	ctx, cancel := context.WithCancel(context.Background())
	d := newDelivery(ctx, &o)
	p := &Pusher{o: o, delivery: d, stop: cancel}
	p.planner = newPlanner(p)
	d.o, d.dueSoon, d.planned = &p.o, p.dueSoon, p.planner.poke
	if !o.ReadOnly { // in which nothing happens
		d.events = newEvents(p, &p.o.Hooks)
	}
	var err error
	if d.phones, err = newPhones(d, o.Mobile); err != nil {
		cancel()
		return nil, err
	}
	so := store.Options{
		DeltaEntries: o.DeltaEntries, DeltaBytes: o.DeltaBytes, BlockBits: o.blockBits,
		ReadOnly: o.ReadOnly, Now: o.now, Logger: o.Logger, WrapJournal: o.wrap, Failed: d.storeFailed,
		Opened: d.opened,
	}
	if o.cluster != nil {
		so.Log, so.LogTimeout, so.RecordBytes, so.Opening = o.cluster.Log, o.cluster.Timeout, o.cluster.Record, o.cluster.Opening
	}
	if o.disk != nil {
		so = on(o.disk, so)
	}
	p.store, err = store.Open(dir, so, d)
	if err != nil {
		cancel()
		return nil, err
	}
	p.keepLimits(given)
	if o.ReadOnly {
		return p, nil // with nothing that goes on by itself
	}
	err = p.setLimits(ctx)
	if err == nil {
		err = d.joinCluster()
	}
	if err == nil && !o.Maintenance {
		err = p.resume(ctx)
	}
	if err != nil {
		cancel()
		d.leaveCluster(context.Background())
		return nil, errors.Join(err, p.store.Close(context.Background()))
	}
	if d.events != nil {
		go d.events.run()
	}
	if o.Maintenance {
		return p, nil
	}
	if d.online != nil {
		d.pool.start(o.Workers)
	}
	d.phones.run()
	p.sweeping.Go(func() { p.sweep(ctx) })
	if o.cluster != nil {
		p.sweeping.Go(func() { d.hold(peers.Background, p.background) })
	} else {
		p.sweeping.Go(func() { p.background(ctx) })
	}
	return p, nil
}

// keepLimits puts the stored limits in the place of those that are not to change them.
func (p *Pusher) keepLimits(given Limits) {
	have, _ := p.store.Settings()
	if p.o.ReadOnly || p.o.Maintenance && given.TagsPerUser <= 0 {
		p.o.Limits.TagsPerUser = have.TagsPerUser
	}
	if p.o.ReadOnly || p.o.Maintenance && given.DevicesPerUser <= 0 {
		p.o.Limits.DevicesPerUser = have.DevicesPerUser
	}
}

// setLimits makes the limits those of the stored state.
func (p *Pusher) setLimits(ctx context.Context) error {
	want := store.Limits{TagsPerUser: p.o.Limits.TagsPerUser, DevicesPerUser: p.o.Limits.DevicesPerUser}
	if have, _ := p.store.Settings(); have == want {
		return nil
	}
	_, err := p.store.Propose(ctx, &store.SetLimits{Limits: want})
	return err
}

// resume takes up what the last process left unfinished.
func (p *Pusher) resume(ctx context.Context) error {
	if p.o.cluster != nil { // where what is unfinished goes on, on other nodes
		return p.delivery.adopt()
	}
	online, phones, err := p.store.Unfinished()
	if err != nil {
		return err
	}
	for _, seq := range online {
		if _, err := p.store.Propose(ctx, &store.OnlineDone{Seq: seq}); err != nil {
			return err
		}
	}
	return p.delivery.phones.resume(phones, "")
}

// open returns ErrClosed once the Pusher is closing.
func (p *Pusher) open() error {
	if p.closed.Load() {
		return ErrClosed
	}
	return nil
}

// writable returns ErrClosed once the Pusher is closing, and ErrReadOnly if it only reads.
func (p *Pusher) writable() error {
	if err := p.open(); err != nil {
		return err
	}
	if p.o.ReadOnly {
		return ErrReadOnly
	}
	return nil
}

// Close stops deliveries, folds what is in memory into the blocks, and closes
// the files; after a complete Close opening is instant. Messages that have not
// been delivered stay pending. A Deliver that has not returned 200 ms after its context ended is left behind. If ctx ends first, Close
// returns its error, everything accepted is safe in the journal, and the next
// Open replays it. Transports that are closers are closed last.
func (p *Pusher) Close(ctx context.Context) error {
	if p.closed.Swap(true) {
		return ErrClosed
	}
	p.delivery.abort()
	p.stop()
	var errs []error
	if p.delivery.online != nil {
		errs = append(errs, p.delivery.pool.close(ctx))
	}
	idle := make(chan struct{})
	go func() {
		p.sweeping.Wait()
		p.delivery.phones.running.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-ctx.Done():
		errs = append(errs, ctx.Err())
	}
	p.delivery.leaveCluster(ctx)
	p.delivery.stopTimers()
	p.delivery.retryUnsaved()
	p.delivery.events.close(ctx)
	errs = append(errs, p.store.Close(ctx))
	if p.o.cluster != nil {
		errs = append(errs, p.o.cluster.Close(ctx))
	}
	for _, t := range append([]any{p.o.Online}, anys(p.o.Mobile)...) {
		if c, ok := t.(transport.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

func anys(list []transport.Mobile) []any {
	out := make([]any, len(list))
	for i, m := range list {
		out[i] = m
	}
	return out
}

func (p *Pusher) dueSoon(at int64) {
	for {
		next := p.nextDue.Load()
		if next <= at && next != 0 || p.nextDue.CompareAndSwap(next, at) {
			return
		}
	}
}

// sweep looks after deliveries that need another try.
func (p *Pusher) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		p.delivery.retryUnsaved()
		p.delivery.checkAcks(time.Now())
		p.delivery.checkParts()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// background does what the clock brings about: in a cluster, on one node.
func (p *Pusher) background(ctx context.Context) {
	var plans sync.WaitGroup
	plans.Go(func() { p.planner.run(ctx) })
	defer plans.Wait()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	p.dueSoon(1) // whatever is due since the last process, or node
	for {
		if next := p.nextDue.Load(); next != 0 && next <= p.o.now().UnixMilli() {
			if err := p.sweepDue(ctx); err != nil && ctx.Err() == nil {
				p.delivery.fault("sweep", err)
			}
		}
		if err := p.delivery.endOrphans(ctx); err != nil && ctx.Err() == nil {
			p.delivery.fault("sweep", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// sweepDue does what is due, in small steps. Each reads the clock, as the commands do: were it set back
// after one reading for all, what seems due would be refused, and tried again without end.
func (p *Pusher) sweepDue(ctx context.Context) error {
	for ctx.Err() == nil {
		p.nextDue.Store(0)
		now := p.o.now().UnixMilli()
		due, err := p.store.DueAt(now, 100)
		if err == nil {
			err = p.carryOut(ctx, due)
		}
		if err != nil {
			p.dueSoon(now) // at the next tick again
			return err
		}
		if due.Next != 0 {
			p.dueSoon(due.Next)
		}
		if due.Next == 0 || due.Next > now {
			return nil
		}
	}
	return nil
}

// carryOut proposes the ends together, so that they share a commit.
func (p *Pusher) carryOut(ctx context.Context, due store.Due) error {
	answers := make(chan error, len(due.Expired))
	for _, e := range due.Expired {
		done := func(_ any, err error) { answers <- err }
		if err := p.store.Go(&store.End{Seq: e[0], Reason: store.Expired}, done); err != nil {
			done(nil, err)
		}
	}
	var err error
	for range due.Expired {
		if e := <-answers; err == nil {
			err = e
		}
	}
	if err != nil || len(due.Forget) == 0 {
		return err
	}
	_, err = p.store.Propose(ctx, &store.Forget{Due: due.Forget})
	return err
}

// Check folds what is in memory into the blocks and verifies every invariant of the
// files: that postings agree with the user records, pending bits belong to
// known users and live tasks, indexes agree both ways, and counters count
// what is there. It returns the first violation, which matches [ErrDamaged]. It
// reads everything, so it takes seconds for millions of users; other calls go on meanwhile.
//
// With [Options].ReadOnly nothing is folded. If the last process left something to fold, Check makes a copy of blocks.db in the system's temporary directory,
// folds it into that, as the next Open would, and verifies the copy.
func (p *Pusher) Check(ctx context.Context) error {
	if err := p.open(); err != nil {
		return err
	}
	return p.store.Check(ctx)
}

// Backup writes a copy of everything at one position to w, as a tar archive, while the
// Pusher goes on. It first makes a copy in the directory, which needs as
// much free space as the files take, so that a slow w holds nothing up; with [Options].ReadOnly there is nothing to hold up, and it makes none.
// [Restore] makes a directory of it.
func (p *Pusher) Backup(ctx context.Context, w io.Writer) error {
	if err := p.open(); err != nil {
		return err
	}
	err := p.store.Backup(ctx, w)
	// Of the end of a context bbolt's copy keeps only the text.
	if cause := ctx.Err(); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	} else if err != nil && cause == nil && p.closed.Load() && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// Restore makes a directory from what [Pusher.Backup] wrote. The directory must be
// empty or not exist; after an error it is as it was. A backup that was cut short or changed is [ErrDamaged],
// [ErrMissingFile] or [ErrForeignFile], where that can be seen without reading all that is in the files: [Pusher.Check] does that.
func Restore(ctx context.Context, dir string, r io.Reader) error {
	return store.Restore(ctx, dir, r)
}

// Compact rewrites the files without the space that is free in them, while the Pusher
// goes on. It needs room for a second copy of them, and a system that can replace an open
// file: on Windows it returns an error and changes nothing.
func (p *Pusher) Compact(ctx context.Context) error {
	if err := p.writable(); err != nil {
		return err
	}
	return p.store.Compact(ctx)
}

// Stats are figures about a Pusher at a moment.
type Stats struct {
	Users        int64  // known
	Online       int64  // connected, in a cluster to any node, as [Pusher.Online] says; 0 without an Online transport
	Here         int64  // of them, connected to this process
	Pushes       int64  // ever accepted
	Position     uint64 // of the journal: durable steps ever made
	DeltaEntries int    // changes that are held in memory until they are in the blocks, those being folded too
	DeltaBytes   int64  // of these changes, about; see [Options]
	Folding      bool   // changes are being folded into the blocks
	BlocksBytes  int64  // size of blocks.db
	JournalBytes int64  // size of journal.db
	StoreID      string // of the directory, which its files have in them: 32 hexadecimal digits
	// Found is what the last process left undone. What is zero was left by a complete Close.
	Found Found
	// Limits are those in force. With ReadOnly, TagsPerUser and DevicesPerUser are as they are stored.
	Limits Limits
	// Stuck counts Deliver calls that were left behind and have not returned.
	Stuck int64
	// Refused says why changes are refused until the directory is reopened; nil normally.
	Refused error
	// Counters count what happened since Open, Phones by platform the notifications, for each platform with a transport.
	Counters Counters
	Phones   map[string]PhoneCounters
}

// Found is what Open found that the last process had accepted and not brought into the blocks, because it was killed, or its Close did
// not come to its end. Nothing of it is lost.
type Found struct {
	Segment bool  // a segment that was being folded
	Records int64 // of the journal, which were replayed
	Bytes   int64 // of these records
}

// Stats returns figures about the Pusher. It takes microseconds, whatever the number of users, so it may be asked at each scrape.
func (p *Pusher) Stats(ctx context.Context) (Stats, error) {
	if err := p.open(); err != nil {
		return Stats{}, err
	}
	s, err := p.store.Stats()
	d, n := p.delivery, &p.delivery.counts
	c := Counters{
		Accepted: n.accepted.Load(), Delivered: n.delivered.Load(), Failed: n.failed.Load(), Acked: n.acked.Load(), Opened: n.opened.Load(),
		Expired: n.expired.Load(), Withdrawn: n.withdrawn.Load(), Gone: n.gone.Load(), CaughtUp: n.caughtUp.Load(), Errors: n.errors.Load(),
		Commits: s.Counters.Commits, CommitTime: s.Counters.CommitTime, CommitBytes: s.Counters.CommitBytes, Commands: s.Counters.Commands,
		NoRoom: s.Counters.NoRoom, Unknown: s.Counters.Unknown, Folds: s.Counters.Folds, FoldTime: s.Counters.FoldTime,
		FoldEntries: s.Counters.FoldEntries, FoldBytes: s.Counters.FoldBytes, FoldErrors: s.Counters.FoldErrors,
	}
	if d.events != nil {
		c.EventsDropped = d.events.dropped.Load()
	}
	phones := make(map[string]PhoneCounters, len(d.phones.runners))
	for platform, r := range d.phones.runners {
		phones[platform] = r.counters()
	}
	return Stats{
		Counters: c, Phones: phones,
		Users: s.Users, Online: int64(p.Online()), Here: p.delivery.present.Load(), Pushes: s.Pushes, Position: s.Position,
		DeltaEntries: s.DeltaEntries, DeltaBytes: s.DeltaBytes, Folding: s.Folding,
		BlocksBytes: s.BlocksBytes, JournalBytes: s.JournalBytes, StoreID: hex.EncodeToString(s.ID[:]), Found: Found(s.Found), Limits: p.o.Limits,
		Stuck: int64(p.delivery.pool.abandoned.Load()), Refused: p.store.Refused(),
	}, err
}
