package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	memberBytes     = 1 << 10          // of an entry, at most
	memberHeartbeat = 30 * time.Second // an entry is written anew at least this often
	memberPace      = time.Second      // and at most this often
	memberLately    = 4 * memberHeartbeat
	memberLook      = 10 * time.Second // how often the entries of the others are read
)

// member is what a node tells the others about itself.
type member struct {
	Name     string `json:"name"`
	Proposer uint64 `json:"proposer"`
	Folded   uint64 `json:"folded"` // the position up to which the node needs the log no more, whatever happens to its process
	Apply    int    `json:"apply"`  // the newest version of applying that the node knows
	Format   int    `json:"format"` // the version of its files
}

// members is the nodes of a cluster, each an entry of a bucket under its name.
type members struct {
	kv  jetstream.KeyValue
	log *slog.Logger

	mu      sync.Mutex
	own     member
	others  sightings
	changed chan struct{}
}

// memberBucket is the bucket that the nodes of a cluster are in.
func memberBucket(cluster string, replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: "fanfare-" + cluster + "-nodes", Replicas: replicas, Storage: jetstream.FileStorage, MaxValueSize: memberBytes}
}

// newMembers makes the members of what is in a bucket, see [memberBucket], with this node as one of them. A call of run tells the others.
func newMembers(kv jetstream.KeyValue, own member, logger *slog.Logger) *members {
	return &members{kv: kv, log: logger, own: own, others: sightings{}, changed: make(chan struct{}, 1)}
}

// folded says that this node needs the log only after a position from now on. It does not block, and what is told to the others is the last of several.
func (m *members) folded(position uint64) {
	m.set(func(own *member) { own.Folded = max(own.Folded, position) })
}

func (m *members) set(f func(*member)) {
	m.mu.Lock()
	before := m.own
	f(&m.own)
	same := before == m.own
	m.mu.Unlock()
	if same {
		return
	}
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// put writes this node's entry.
func (m *members) put(ctx context.Context) error {
	m.mu.Lock()
	own := m.own
	m.mu.Unlock()
	v, err := json.Marshal(own)
	if err != nil {
		return err
	}
	if len(v) > memberBytes {
		return fmt.Errorf("cluster: the entry of node %.64q has %d bytes, more than %d", own.Name, len(v), memberBytes)
	}
	c, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = m.kv.Put(c, leaseKey(own.Name), v)
	return err
}

// run tells the others about this node, and reads what they tell, until ctx ends. It writes at most once a second when something has changed, and every 30
// seconds anyway.
func (m *members) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() {
		for ok := true; ok; ok = pause(ctx, memberLook) {
			_ = m.meet(ctx) // else they are as they were
		}
	})
	failed := false
	heartbeat := time.NewTimer(memberHeartbeat)
	defer heartbeat.Stop()
	for {
		err := m.put(ctx)
		if (err != nil) != failed && ctx.Err() == nil {
			if failed = err != nil; failed {
				m.log.Warn("cluster: the other nodes cannot be told about this one", "error", err)
			}
		}
		if !pause(ctx, memberPace) {
			return
		}
		if err != nil {
			continue
		}
		heartbeat.Reset(memberHeartbeat - memberPace)
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
		case <-heartbeat.C:
		}
	}
}

// meet reads what the others tell.
func (m *members) meet(ctx context.Context) error {
	all, err := m.look(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.others.see(all, time.Now())
	return nil
}

// seen is an entry as it was read.
type seen struct {
	member
	revision uint64
}

// errCutShort is that a list ended before its end. The log would be cut although a node that is not in it needs it.
var errCutShort = errors.New("cluster: the list of the nodes was cut short")

// look reads the entries of all nodes. One that cannot be understood is there with its name, and holds everything back that it might need.
func (m *members) look(ctx context.Context) (map[string]seen, error) {
	c, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	w, err := m.kv.WatchAll(c, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	defer func() { go w.Stop() }() // which waits for an answer
	all := map[string]seen{}
	for {
		var e jetstream.KeyValueEntry
		more := true
		select {
		case e, more = <-w.Updates():
		case <-c.Done():
			return nil, c.Err()
		}
		switch {
		case !more:
			return nil, errCutShort
		case e == nil:
			return all, nil
		}
		s := seen{revision: e.Revision()}
		if len(e.Value()) > memberBytes || json.Unmarshal(e.Value(), &s.member) != nil || leaseKey(s.Name) != e.Key() {
			m.log.Warn("cluster: the entry of a node cannot be understood", "key", e.Key())
			s.member = member{Name: e.Key()}
		}
		all[e.Key()] = s
	}
}

// sighting is what is known of a node, and since when.
type sighting struct {
	seen
	since time.Time
}

// sightings is what one reader has seen of the nodes, by key. It counts by its own clock how long it has seen no change.
type sightings map[string]sighting

func (s sightings) see(all map[string]seen, now time.Time) {
	for key := range s {
		if _, ok := all[key]; !ok {
			delete(s, key)
		}
	}
	for key, e := range all {
		if old, ok := s[key]; !ok || old.revision != e.revision {
			s[key] = sighting{e, now}
		}
	}
}

// version returns the lowest version of applying of the nodes that this one has heard of lately, itself among them.
func (m *members) version() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	lowest := m.own.Apply
	for key, s := range m.others {
		if key == leaseKey(m.own.Name) || time.Since(s.since) > memberLately {
			continue
		}
		lowest = min(lowest, s.Apply)
	}
	return lowest
}

// names are those of the other nodes whose entries there are, also of nodes that are gone.
func (m *members) names() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.others {
		if s.Name != m.own.Name {
			names = append(names, s.Name)
		}
	}
	return names
}

// cutter cuts the log where nobody needs it any more.
type cutter struct {
	members *members
	stream  jetstream.Stream
	absence time.Duration // a node that has said nothing for so long holds the log back no more
	maxLog  uint64        // bytes; a log that is larger is cut although a node needs it
	log     *slog.Logger
}

const (
	cutEvery   = 5 * time.Second
	cutRecords = 1000     // the log is cut when at least so many records can go,
	cutBytes   = 16 << 20 // or so many bytes,
	cutPause   = 10 * time.Minute
)

// run cuts the log every few seconds, until ctx ends: it is the work of the lease "cut".
func (c *cutter) run(ctx context.Context) {
	nodes := sightings{}
	last := time.Now()
	for pause(ctx, cutEvery) {
		to, err := c.turn(ctx, nodes, last)
		if err != nil && ctx.Err() == nil {
			c.log.Warn("cluster: the log could not be cut", "error", err)
		}
		if to != 0 {
			last = time.Now()
		}
	}
}

// turn cuts the log once, if that is worth it, and returns the first position that it kept, or 0.
func (c *cutter) turn(ctx context.Context, nodes sightings, last time.Time) (uint64, error) {
	all, err := c.members.look(ctx)
	if err != nil {
		return 0, err
	}
	nodes.see(all, time.Now())
	t, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	info, err := c.stream.Info(t)
	if err == nil {
		err = byLeader(info)
	}
	if err != nil {
		return 0, err
	}
	state := info.State
	for key, s := range nodes {
		if time.Since(s.since) < c.absence {
			continue
		}
		// Without its entry, a later holder of the lease does not begin to count anew.
		if err := c.members.kv.Delete(t, key, jetstream.LastRevision(s.revision)); err != nil {
			return 0, err
		}
		delete(nodes, key)
		c.log.Warn("cluster: a node has said nothing for long, and the log is not kept for it any more: it will need a snapshot", "node", s.Name, "for", c.absence)
	}
	keep := needed(nodes, state.FirstSeq)
	if state.Bytes > c.maxLog {
		if s, ok := hindmost(nodes, state.FirstSeq); ok {
			c.log.Warn("cluster: the log is too large to be kept for a node: it will need a snapshot", "node", s.Name, "bytes", state.Bytes)
			delete(nodes, leaseKey(s.Name))
			keep = needed(nodes, state.FirstSeq)
		}
	}
	if keep <= state.FirstSeq || keep > state.LastSeq+1 {
		return 0, nil
	}
	gain := keep - state.FirstSeq
	bytes := state.Bytes / max(state.Msgs, 1) * min(gain, state.Msgs)
	if gain < cutRecords && bytes < cutBytes && time.Since(last) < cutPause {
		return 0, nil
	}
	// The lease may be lost by now: what is cut is what was needed by nobody then, and is not needed since.
	if err := c.stream.Purge(t, jetstream.WithPurgeSequence(keep)); err != nil {
		return 0, err
	}
	return keep, nil
}

// needed is the first position of the log that a node needs, or 0 when no node says so. A node that would need one before first has lost it already.
func needed(nodes sightings, first uint64) uint64 {
	var keep uint64
	for _, s := range nodes {
		if n := s.Folded + 1; n >= first && (keep == 0 || n < keep) {
			keep = n
		}
	}
	return keep
}

// hindmost is the node that holds the log back: of those that have not been heard of lately, or else of all. It is none when no other one is left to make a
// snapshot, or all are equally far.
func hindmost(nodes sightings, first uint64) (sighting, bool) {
	var last, silent sighting
	var furthest uint64
	for _, s := range nodes {
		if s.Folded+1 < first {
			continue
		}
		furthest = max(furthest, s.Folded)
		if last.since.IsZero() || s.Folded < last.Folded {
			last = s
		}
		if time.Since(s.since) > memberLately && (silent.since.IsZero() || s.Folded < silent.Folded) {
			silent = s
		}
	}
	if !silent.since.IsZero() && silent.Folded < furthest {
		return silent, true
	}
	return last, !last.since.IsZero() && last.Folded < furthest
}
