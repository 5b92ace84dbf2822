package fanfare

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fanfare-im/fanfare/store"
)

// modelKill takes the copy of a directory that a killed process would leave.
type modelKill struct {
	mu     sync.Mutex
	in     int // appends to the journal until then; 0: not armed
	after  bool
	first  bool
	at     time.Time // when it killed
	dir    string
	to     string
	online *modelOnline
	also   func() // what is done then; may be nil
	fired  bool
	undone bool // before the first append
	err    error
}

type modelJournal struct {
	store.Journal
	k *modelKill
}

func (k *modelKill) wrap(j store.Journal) store.Journal { return &modelJournal{j, k} }

func (j *modelJournal) Append(position uint64, rec []byte, cut uint64) error {
	j.k.strike(false)
	err := j.Journal.Append(position, rec, cut)
	j.k.strike(true)
	return err
}

// strike counts an append, and kills at the one that was chosen, before it or after.
func (k *modelKill) strike(after bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.in == 0 {
		return
	}
	if k.in == 1 && after == k.after {
		k.kill()
		k.fired, k.undone, k.in = true, k.first && !after, 0
		return
	}
	if after {
		k.in--
		k.first = false
	}
}

func (k *modelKill) kill() {
	l := k.online.log
	l.mu.Lock()
	l.moment++
	k.online.dead = l.moment
	l.mu.Unlock()
	k.err, k.at = copyAsKilled(k.dir, k.to), l.now()
	if k.also != nil {
		k.also()
	}
}

// copyAsKilled copies the files as a process that is killed now leaves them, while nothing is
// appended to the journal. The fold may be at work: the copy is taken again until its last
// commit is the same before and after, so that everything that this commit needs is whole.
func copyAsKilled(from, to string) error {
	for {
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		before, err := blocksMetas(from)
		if err != nil {
			return err
		}
		entries, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			b, err := os.ReadFile(filepath.Join(from, e.Name()))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(to, e.Name()), b, 0o600)
			}
			if err != nil {
				return err
			}
		}
		after, err := blocksMetas(from)
		if err != nil || bytes.Equal(before, after) {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
}

// blocksMetas reads the two meta pages of blocks.db.
func blocksMetas(dir string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, "blocks.db"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 2*os.Getpagesize())
	_, err = f.ReadAt(b, 0)
	return b, err
}

// die kills the process between two commands or in the middle of one, and goes on with what it leaves behind.
func (m *modelRun) die() {
	m.settle()
	m.compareTasks()
	before := m.n.clone()
	k := &m.kill
	k.mu.Lock()
	k.in = rapid.IntRange(0, 4).Draw(m.T, "appends until the kill")
	if m.v.plans { // which make several
		k.in = rapid.SampledFrom([]int{3, 2, 4, 5, 1, 0}).Draw(m.T, "appends of plans until the kill")
	}
	k.after = rapid.Bool().Draw(m.T, "after the append")
	k.first, k.fired, k.undone, k.err = true, false, false, nil
	k.dir, k.to, k.online = m.dir, m.newDir(), m.online
	armed := k.in > 0
	k.mu.Unlock()
	if m.withdrew = ""; armed {
		m.blind = true // whatever happens now may not have happened
		list := []func(){
			m.push, m.push, m.connect, m.batch, m.importUsers, m.ackAny, m.withdraw, m.pass, m.names, m.single,
			m.plan, m.steerOnce,
		}
		if m.v.plans {
			list = []func(){m.withdrawPlan, m.plan, m.plan, m.pass, m.steerOnce, m.pass, m.batch, m.push}
		}
		rapid.SampledFrom(list).Draw(m.T, "killed in")()
		if rapid.Bool().Draw(m.T, "while folding") {
			m.must(m.p.store.Checkpoint(m.ctx), "checkpoint")
		}
		for synctest.Wait(); !m.log.idle(); synctest.Wait() {
			time.Sleep(100 * time.Millisecond)
		}
	}
	k.mu.Lock()
	k.in = 0
	fired, undone := k.fired, k.undone
	k.mu.Unlock()
	if !fired {
		m.see()
		m.drain()
		k.err = copyAsKilled(m.dir, k.to)
	}
	m.must(k.err, "copy")
	m.close()
	if undone {
		m.n = before
	}
	delivered := m.drain()
	if fired && !undone {
		m.killed = k.at.Truncate(time.Millisecond)
	}
	m.reopenAt(k.to)
	synctest.Wait()
	if fired {
		if !undone && m.withdrew != "" {
			m.halfWithdrawn(before)
		}
		m.raceFleeting()
		for _, e := range append(delivered, m.drain()...) {
			if t := m.n.tasks[e.m.Sequence-1]; e.ok && !t.fleeting() && !m.v.acks {
				t.unsure, t.audience[e.user].unsure = true, true
			}
		}
	}
	m.findOut()
	m.settle()
}

func (m *modelRun) ackAny() {
	if t := m.task(); t != nil {
		m.ackOne(m.known(), t, rapid.Bool().Draw(m.T, "through"))
	}
}

// findOut asks whether deliveries before a kill were committed: only these may come again.
func (m *modelRun) findOut() {
	for _, id := range slices.Sorted(maps.Keys(m.n.users)) {
		waits := map[uint64]bool{}
		for x, err := range m.p.Pending(m.ctx, id) {
			m.must(err, "pending")
			waits[x.Sequence] = true
		}
		for _, t := range m.n.tasks {
			if g := t.audience[id]; g != nil && g.unsure && !g.pending && waits[t.seq] && g.closed == 0 {
				g.pending = true
				t.delivered--
			}
		}
	}
	for _, t := range m.n.tasks {
		for _, g := range t.audience {
			g.unsure = false
		}
	}
}
