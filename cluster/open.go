package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/fanfare-im/fanfare/store"
)

const (
	natsDir = "nats"   // of the embedded server, in the directory of the node
	joinDir = "joined" // files that are to take the place of the directory's, complete
)

// node is what a Pusher has of its cluster.
type node struct {
	o         *Options
	dir       string
	conn      *connection
	log       *log
	digests   *digests
	presence  *presence
	leases    *leases
	members   *members
	snapshots *snapshots
	stream    jetstream.Stream
	running   context.Context // of what goes on by itself
	stop      context.CancelFunc
	all       sync.WaitGroup
	telling   sync.Once

	mu    sync.Mutex
	store *store.Store // of the Pusher, once it is open
	bad   error        // why it is not to go on
}

// Open opens a node of a cluster in a directory, and makes it when there is none. It waits until more than half of the nodes are there, until this one has
// the state that the log leads to, and until ctx ends at most; what it returns then is [fanfare.ErrUnavailable] if it was the others that it waited for. The first start of a cluster wants all nodes of Peers.
//
// A node without state, or with one from which the log goes on no more, first fetches that of another node. Its directory may
// be lost with it, as long as others have theirs.
//
// The Pusher is the node: its Close takes the node out of the cluster, with the embedded server, and the others go on as long as they are more than half. The errors beyond
// those of [fanfare.Open] are of the network, of NATS, and of [Options] that say what cannot be.
func Open(ctx context.Context, dir string, o Options) (_ *fanfare.Pusher, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o.fill()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := finishJoin(dir); err != nil {
		return nil, err
	}
	place, err := store.PlaceOf(dir)
	if err != nil {
		return nil, err
	}
	n := &node{o: &o, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close(context.Background()))
		}
	}()
	if n.conn, err = connect(ctx, filepath.Join(dir, natsDir), &o); err != nil {
		return nil, err
	}
	if err := n.conn.ready(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", fanfare.ErrUnavailable, err)
	}
	if most := n.conn.nc.MaxPayload(); most < store.MaxCommand+recordHead {
		return nil, fmt.Errorf("cluster: the NATS deployment takes messages of %d bytes, and less than %d are too few", most, store.MaxCommand+recordHead)
	}
	if n.log, err = openLog(ctx, n.conn.js, &o); err != nil {
		return nil, err
	}
	if err := n.begin(ctx); err != nil {
		return nil, err
	}
	if err := n.enter(ctx, place); err != nil {
		return nil, err
	}
	peers.Join(&o.Options, &peers.Cluster{
		Log: n.log, Record: int(n.conn.nc.MaxPayload()) - recordHead, Timeout: o.Timeout, Opening: ctx, Presence: n.presence, Leases: n.leases, Opened: n.open, Close: n.close,
	})
	return fanfare.Open(dir, o.Options)
}

// recordHead is what a message has beside a record's commands: its headers, and what the record has for each command.
const recordHead = 64 << 10

// leaseTTL is how long a lease outlives its holder, at most and with a margin; all nodes must have the same.
const leaseTTL = 3 * time.Second

// begin opens what is between the nodes, beside the log.
func (n *node) begin(ctx context.Context) (err error) {
	o, c := n.o, n.conn
	n.running = context.WithoutCancel(ctx)
	n.running, n.stop = context.WithCancel(n.running)
	leased, err := openBucket(ctx, c.js, leaseBucket(o.Cluster, o.Replicas))
	if err != nil {
		return err
	}
	n.leases = newLeases(leased, o.Name, leaseTTL, o.Logger)
	nodes, err := openBucket(ctx, c.js, memberBucket(o.Cluster, o.Replicas))
	if err != nil {
		return err
	}
	apply, format := store.Versions()
	n.members = newMembers(nodes, member{Name: o.Name, Apply: apply, Format: format}, o.Logger)
	// Before the first command: what the others know says which it may be.
	err = untilThere(ctx, func(ctx context.Context) error {
		try, cancel := context.WithTimeout(ctx, 2*time.Second) // of a bucket that was made a moment ago the list may never come
		defer cancel()
		return n.members.meet(try)
	})
	if err != nil {
		return fmt.Errorf("cluster: the other nodes: %w", err)
	}
	err = untilThere(ctx, func(ctx context.Context) (err error) { // of a leader that goes meanwhile no answer comes
		n.stream, err = c.js.Stream(ctx, n.log.name)
		return err
	})
	if err != nil {
		return fmt.Errorf("cluster: the log: %w", err)
	}
	n.snapshots = newSnapshots(c.nc, o.Cluster, o.Logger)
	if n.digests, err = newDigests(c.nc, o.Cluster, o.Name, o.Logger, n.diverged); err != nil {
		return err
	}
	n.presence = newPresence(c.nc, o.Cluster, o.Name, o.Logger)
	n.presence.expected, n.presence.least = n.members.names, o.nodes()-1
	n.log.folded, n.log.version, n.log.summed = n.members.folded, n.members.version, n.digests.summed
	return nil
}

// enter brings the directory to a place from which the log goes on.
func (n *node) enter(ctx context.Context, place store.Place) error {
	first, last, err := n.log.bounds(ctx)
	if err != nil {
		return err
	}
	if place.Log != nil && *place.Log != n.log.id {
		return fmt.Errorf("%w: the directory is of another cluster", fanfare.ErrForeignFile)
	}
	for began := time.Now(); place.Log != nil && last < place.Position; { // it may be a leader's that nobody follows any more
		if time.Since(began) >= n.log.lostFor {
			return fmt.Errorf("%w: %w: it ends at %d, and the directory is at %d", fanfare.ErrForeignFile, errLost, last, place.Position)
		}
		if !pause(ctx, tryAgain) {
			return fmt.Errorf("%w: %w: the log ends at %d, and the directory is at %d", fanfare.ErrUnavailable, context.Cause(ctx), last, place.Position)
		}
		if first, last, err = n.log.bounds(ctx); err != nil {
			return err
		}
	}
	switch {
	case place.Log != nil && place.Position+1 >= first:
		return nil
	case place.Log == nil && place.Store && !place.Empty:
		switch {
		case n.log.seed != n.o.Name:
			return fmt.Errorf("%w: the directory has a store of its own, and the cluster does not begin with it: that is what Seed is for", fanfare.ErrForeignFile)
		case last > 0:
			return fmt.Errorf("%w: the directory has a store of its own, and the cluster has begun already", fanfare.ErrForeignFile)
		}
		return store.Attach(n.dir, n.log.id, 0)
	case first == 1 && n.log.seed == "":
		if place.Store {
			return store.Attach(n.dir, n.log.id, 0)
		}
		return nil
	}
	return n.join(ctx, first-1)
}

// join fetches the state of another node, which is at a position from which the log goes on. When a snapshot fails on the way, another one is asked for.
func (n *node) join(ctx context.Context, atLeast uint64) error {
	for {
		r, err := n.snapshots.ask(ctx, atLeast)
		if err != nil {
			return err
		}
		// From now on the log is kept for this node as for any other.
		n.members.folded(r.position)
		n.tell()
		err = n.fetch(ctx, r)
		err = errors.Join(err, r.Close())
		switch {
		case err != nil && r.failure() != nil && ctx.Err() == nil:
			n.o.Logger.Warn("cluster: a snapshot cannot be read, and another one is asked for", "position", r.position, "error", err)
			pause(ctx, tryAgain)
			continue
		case err != nil:
			return fmt.Errorf("fanfare: fetch the state of another node: %w", err)
		}
		first, _, err := n.log.bounds(ctx)
		if err != nil {
			return err
		}
		if r.position+1 >= first {
			return finishJoin(n.dir)
		}
		atLeast = first - 1 // the log had to be cut meanwhile
		if err := os.RemoveAll(filepath.Join(n.dir, joinDir)); err != nil {
			return err
		}
	}
}

// fetch makes the directory that finishJoin takes.
func (n *node) fetch(ctx context.Context, r *snapshotReader) error {
	part := filepath.Join(n.dir, joinDir+".new")
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := store.Receive(ctx, part, r, n.log.id, r.position); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(n.dir, joinDir))
}

// tell has the others told about this node, from the first call on.
func (n *node) tell() {
	n.telling.Do(func() { n.all.Go(func() { n.members.run(n.running) }) })
}

// finishJoin puts files that were fetched, and are complete, in the place of those of the directory. It may be called again when it was interrupted.
func finishJoin(dir string) error {
	from := filepath.Join(dir, joinDir)
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return store.Replace(dir, from)
}

// open gets the store of the Pusher, and starts what goes on by itself.
func (n *node) open(s *store.Store) {
	n.mu.Lock()
	n.store = s
	if n.bad != nil {
		s.Refuse(n.bad)
	}
	n.mu.Unlock()
	n.members.set(func(own *member) { own.Proposer = s.Proposer() })
	n.tell()
	n.all.Go(func() { n.conn.revive(n.running, filepath.Join(n.dir, natsDir), n.o) })
	cut := &cutter{members: n.members, stream: n.stream, absence: n.o.Absence, maxLog: uint64(n.o.MaxLog), log: n.o.Logger}
	n.all.Go(func() { n.leases.Hold(n.running, "cut", cut.run) })
	n.all.Go(func() {
		if err := n.snapshots.answer(n.running, n.able, s.Send); err != nil {
			n.o.Logger.Error("fanfare: nobody joins by this node", "error", err)
		}
	})
}

// able says whether this node has a state from which one that joins can go on.
func (n *node) able(atLeast uint64) bool {
	return n.store.Applied() >= atLeast && n.store.Refused() == nil
}

// diverged stops the node, as soon as there is something to stop.
func (n *node) diverged(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bad = err; n.store != nil {
		n.store.Refuse(err)
	}
}

// close ends what begin and connect have begun. When ctx ends before what goes on by itself has ended, as it may without a majority in the middle of a snapshot, that ends later, without a connection.
func (n *node) close(ctx context.Context) error {
	var errs []error
	if n.stop != nil {
		n.stop()
	}
	ended := make(chan struct{})
	go func() {
		n.all.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("cluster: what this node does for others has not ended yet: %w", context.Cause(ctx)))
	}
	if n.digests != nil {
		errs = append(errs, n.digests.close())
	}
	if n.conn != nil {
		errs = append(errs, n.conn.close(ctx))
	}
	return errors.Join(errs...)
}
