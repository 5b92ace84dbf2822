package cluster

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func newTestMembers(t testing.TB, site *site, own member) *members {
	t.Helper()
	_, js := site.connect(0)
	kv, err := openBucket(within(t), js, memberBucket("c", site.replicas))
	if err != nil {
		t.Fatal(err)
	}
	return newMembers(kv, own, silent())
}

func put(t testing.TB, m *members) {
	t.Helper()
	if err := m.put(within(t)); err != nil {
		t.Fatal(err)
	}
}

func first(t testing.TB, log jetstream.Stream) uint64 {
	t.Helper()
	info, err := log.Info(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.FirstSeq
}

// The log is cut up to what every node has folded.
func TestCutPassesNobody(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	log := site.journal(3000)
	ctx := within(t)
	a := newTestMembers(t, site, member{Name: "a"})
	b := newTestMembers(t, site, member{Name: "b/ü"})
	c := &cutter{members: a, stream: log, absence: time.Hour, maxLog: 1 << 30, log: silent()}
	nodes, now := sightings{}, time.Now()
	turn := func(last time.Time, want uint64) {
		t.Helper()
		if _, err := c.turn(ctx, nodes, last); err != nil {
			t.Fatal(err)
		}
		if got := first(t, log); got != want {
			t.Fatalf("the log begins at %d, not %d", got, want)
		}
	}
	turn(now.Add(-cutPause), 1) // nobody has said anything
	put(t, a)
	put(t, b)
	a.folded(2500)
	put(t, a)
	turn(now.Add(-cutPause), 1)
	b.folded(1200)
	put(t, b)
	turn(now, 1201)
	b.folded(1300)
	put(t, b)
	turn(now, 1201) // too little
	turn(now.Add(-cutPause), 1301)

	a.folded(3000)
	b.folded(3000)
	put(t, a)
	put(t, b)
	turn(now.Add(-cutPause), 3001)
}

// A node that says nothing for long, or for which the log gets too large, holds the log back no more.
func TestCutPassesThoseAway(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	log := site.journal(3000)
	ctx := within(t)
	a := newTestMembers(t, site, member{Name: "a", Folded: 2000})
	away := newTestMembers(t, site, member{Name: "away", Folded: 10})
	slow := newTestMembers(t, site, member{Name: "slow", Folded: 5})
	c := &cutter{members: a, stream: log, absence: time.Hour, maxLog: 1 << 30, log: silent()}
	nodes, long := sightings{}, time.Now().Add(-cutPause)
	turn := func(want uint64) {
		t.Helper()
		if _, err := c.turn(ctx, nodes, long); err != nil {
			t.Fatal(err)
		}
		if got := first(t, log); got != want {
			t.Fatalf("the log begins at %d, not %d", got, want)
		}
	}
	unheard := func(d time.Duration) {
		s := nodes["away"]
		s.since = time.Now().Add(-d)
		nodes["away"] = s
	}
	put(t, a)
	put(t, away)
	put(t, slow)
	turn(6)
	slow.folded(1500)
	put(t, slow)
	turn(11)
	unheard(59 * time.Minute)
	turn(11)
	unheard(time.Hour)
	turn(1501)
	if all, err := a.look(ctx); err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	// It is back, and needs what is not there any more: it does not hold the log.
	put(t, away)
	slow.folded(1600)
	put(t, slow)
	turn(1601)
	away.folded(1650)
	put(t, away)
	slow.folded(1620)
	put(t, slow)
	turn(1621)
	// Too large, the one that is silent goes first, although another is as far back; and the last one stays.
	c.maxLog = 1
	slow.folded(1700)
	put(t, slow)
	unheard(memberLately + time.Second)
	turn(1701)
	turn(2001)
	turn(2001)
}

// An entry that is not one holds back what it may need, and its node's name is bounded.
func TestMembersReadDefensively(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	a := newTestMembers(t, site, member{Name: "a", Folded: 100, Apply: 3})
	b := newTestMembers(t, site, member{Name: "b", Apply: 2})
	put(t, a)
	put(t, b)
	v, err := json.Marshal(member{Name: "c", Folded: 100})
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string][]byte{"broken": []byte(`{"name":`), "other": v, "late": []byte(`{"name":"late","folded":1000,"later":1}`)} {
		if _, err := a.kv.Put(within(t), key, value); err != nil {
			t.Fatal(err)
		}
	}
	all, err := a.look(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for key, folded := range map[string]uint64{"a": 100, "b": 0, "broken": 0, "other": 0, "late": 1000} {
		if s, ok := all[key]; !ok || s.Folded != folded {
			t.Errorf("%s has folded %d (%v), not %d", key, s.Folded, ok, folded)
		}
	}
	long := newMembers(a.kv, member{Name: strings.Repeat("x", memberBytes)}, silent())
	if err := long.put(within(t)); err == nil {
		t.Error("an entry that is too long was written")
	}
}

// A list of nodes that was cut short, by a connection that was lost say, is none.
func TestMembersCutShort(t *testing.T) {
	t.Parallel()
	b := newBucket()
	m := newMembers(b, member{Name: "a"}, silent())
	put(t, m)
	b.short = true
	if all, err := m.look(within(t)); err == nil {
		t.Error(all)
	}
}

// The lowest version of applying is that of the nodes heard of lately.
func TestMembersVersions(t *testing.T) {
	t.Parallel()
	m := newMembers(nil, member{Name: "a", Apply: 3}, silent())
	now := time.Now()
	m.others.see(map[string]seen{
		"a": {member{Name: "a", Apply: 1}, 1}, "b": {member{Name: "b", Apply: 2}, 2}, "c": {member{Name: "c", Apply: 4}, 3},
	}, now)
	if v := m.version(); v != 2 {
		t.Error(v)
	}
	m.others.see(map[string]seen{"b": {member{Name: "b", Apply: 2}, 2}}, now)
	m.others["b"] = sighting{m.others["b"].seen, now.Add(-memberLately - time.Second)}
	if v := m.version(); v != 3 {
		t.Error(v)
	}
}

// What changes often is told once a second, and the last of it.
func TestMembersTellAtMostOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		m := newMembers(b, member{Name: "a"}, silent())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.run(ctx)
		}()
		for i := range uint64(1000) {
			m.folded(i)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		e, err := b.Get(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		before := e.Revision()
		if before < 10 || before > 12 {
			t.Errorf("%d entries in 10 seconds", before)
		}
		if !strings.Contains(string(e.Value()), `"folded":999`) {
			t.Errorf("%s", e.Value())
		}
		time.Sleep(5 * time.Minute)
		if e, err = b.Get(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if n := e.Revision() - before; n != 10 {
			t.Errorf("%d entries in 5 quiet minutes", n)
		}
		stop()
		<-done
	})
}

// memoryLog is a log in memory, of records that nobody reads.
type memoryLog struct {
	jetstream.Stream // the methods that are not here are not called

	mu    sync.Mutex
	state jetstream.StreamState
}

func (l *memoryLog) Info(ctx context.Context, _ ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &jetstream.StreamInfo{State: l.state}, ctx.Err()
}

func (l *memoryLog) Purge(ctx context.Context, o ...jetstream.StreamPurgeOpt) error {
	var r jetstream.StreamPurgeRequest
	for _, f := range o {
		if err := f(&r); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.FirstSeq = max(l.state.FirstSeq, r.Sequence)
	l.state.Msgs = l.state.LastSeq + 1 - l.state.FirstSeq
	return ctx.Err()
}

func (l *memoryLog) first() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.FirstSeq
}

// The node with the lease cuts the log; one that takes over waits for the whole absence of another again, by its own clock.
func TestCutUnderLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{state: jetstream.StreamState{FirstSeq: 1, LastSeq: 1e6, Msgs: 1e6}}
		nodes, leased := newBucket(), newBucket()
		away := newMembers(nodes, member{Name: "away", Folded: 10}, silent())
		put(t, away)
		var all sync.WaitGroup
		start := func(name string) context.CancelFunc {
			ctx, stop := context.WithCancel(t.Context())
			m := newMembers(nodes, member{Name: name}, silent())
			m.folded(5000)
			c := &cutter{members: m, stream: log, absence: time.Hour, maxLog: 1 << 30, log: silent()}
			all.Go(func() { m.run(ctx) })
			all.Go(func() { newLeases(leased, name, testTTL, silent()).Hold(ctx, "cut", c.run) })
			return stop
		}
		stopA := start("a")
		time.Sleep(time.Minute)
		stopB := start("b")
		time.Sleep(55 * time.Minute)
		if n := log.first(); n != 11 {
			t.Fatalf("the log begins at %d", n)
		}
		stopA()
		time.Sleep(55 * time.Minute)
		if n := log.first(); n != 11 {
			t.Fatalf("the log begins at %d: the absence was not counted anew", n)
		}
		time.Sleep(10 * time.Minute)
		if n := log.first(); n != 5001 {
			t.Errorf("the log begins at %d", n)
		}
		stopB()
		all.Wait()
	})
}
