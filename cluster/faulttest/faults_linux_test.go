package faulttest

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	rounds = flag.Int("faults.rounds", 0, "how often each fault is tried; with 0, one fault for a short time")
	small  = flag.String("faults.small", "", "a directory on a filesystem of its own, of some 200 MB, which is filled under a node")
	keep   = flag.String("faults.keep", "", "a directory for histories, and what the nodes log")
	seed   = flag.Uint64("faults.seed", 0, "of what is random, 0 for one by the clock")
)

// bound is the longest that a call may take: it may wait for the one before, then for the log to take it, then for it to come back; and for a busy machine.
const bound = 3*timeout + 3*time.Second

// scenario is a fault, or several that come one after another.
type scenario struct {
	name       string
	did        string // for the table
	clientAcks bool
	calm       bool
	harmless   bool  // no change fails
	everywhere bool  // not at one node
	small      bool  // node 0 is on the small filesystem
	targets    []int // the node of each fault in turn
	lasts      time.Duration
	// begin makes the fault, and returns what ends it.
	begin func(w *workload, target int) (end func())
	// during looks at what is promised while it lasts.
	during func(w *workload, target int)
	// after does what is to be done after it, when the nodes make changes again.
	after func(w *workload, target int)

	// What it came to.
	spells          []spell
	others, atFault account // of the nodes that a fault was not at, and of those that it was at
}

func scenarios(random *rand.Rand) []*scenario {
	all := []int{0, 1, 2}
	random.Shuffle(nodes, func(i, j int) { all[i], all[j] = all[j], all[i] })
	others := func(i int) []int { return []int{(i + 1) % nodes, (i + 2) % nodes} }
	var list []*scenario
	for _, clientAcks := range []bool{false, true} {
		list = append(list, &scenario{
			name: "none", did: "nothing", calm: true, harmless: true, everywhere: true, clientAcks: clientAcks, targets: all[:1], lasts: 6 * time.Second,
			begin: func(*workload, int) func() { return func() {} },
		})
	}
	list = append(list,
		&scenario{
			name: "partition", did: "a node cut off, both ways: each of the three in turn", targets: all, lasts: 8 * time.Second,
			begin: func(w *workload, i int) func() {
				w.net.cut(i)
				return w.net.heal
			},
			during: minority,
		},
		&scenario{
			name: "mute", did: "what a node sends is lost, what is sent to it is not: each of the three in turn", clientAcks: true, targets: all, lasts: 16 * time.Second,
			begin: func(w *workload, i int) func() {
				for _, j := range others(i) {
					w.net.lose(i, j)
				}
				return w.net.heal
			},
		},
		&scenario{
			name: "deaf", did: "what is sent to a node is lost, what it sends is not: each of the three in turn", targets: all, lasts: 16 * time.Second,
			begin: func(w *workload, i int) func() {
				for _, j := range others(i) {
					w.net.lose(j, i)
				}
				return w.net.heal
			},
		},
		&scenario{
			name: "one way", did: "what one node sends to one other is lost", clientAcks: true, targets: all, lasts: 16 * time.Second,
			begin: func(w *workload, i int) func() {
				w.net.lose(i, others(i)[0])
				return w.net.heal
			},
		},
		&scenario{
			name: "latency", did: "200 ms more on each way between all nodes", everywhere: true, targets: all[:1], lasts: 15 * time.Second,
			begin: func(w *workload, _ int) func() {
				for i := range nodes {
					for _, j := range others(i) {
						w.net.delay(i, j, 200*time.Millisecond)
					}
				}
				return w.net.heal
			},
		},
		&scenario{
			name: "paused", did: "a process stopped (SIGSTOP) for 10 s: each of the three in turn", clientAcks: true, targets: all, lasts: 10 * time.Second,
			begin: func(w *workload, i int) func() { return w.stop(i) },
		},
		&scenario{
			name: "killed", did: "a process killed (SIGKILL), and started again: each of the three in turn", targets: all, lasts: 4 * time.Second,
			begin: func(w *workload, i int) func() {
				w.node(i).kill()
				return func() { w.start(i) }
			},
		},
		&scenario{
			name: "clocks", did: "one node's clock put forward by 7 minutes, another's back by 7", harmless: true, everywhere: true, targets: all[:1], lasts: 8 * time.Second,
			begin: func(w *workload, i int) func() {
				w.control(others(i)[0], request{Do: "skew", Skew: 7 * time.Minute})
				w.control(others(i)[1], request{Do: "skew", Skew: -7 * time.Minute})
				return func() {
					for _, j := range others(i) {
						w.control(j, request{Do: "skew"})
					}
				}
			},
		},
		&scenario{
			name: "full", did: "no room for a node's own files", clientAcks: true, targets: all[:1], lasts: 8 * time.Second,
			begin: func(w *workload, i int) func() {
				w.control(i, request{Do: "fill"})
				return func() { w.control(i, request{Do: "free"}) }
			},
		},
		&scenario{
			name: "full for all", did: "no file of a node's process can grow, the log's neither (RLIMIT_FSIZE)", targets: all[:1], lasts: 8 * time.Second,
			begin: func(w *workload, i int) func() {
				w.limit(i, 1)
				return func() { w.limit(i, 1<<62) }
			},
			after: revived,
		},
	)
	if *small != "" {
		list = append(list, &scenario{
			name: "full disk", did: "the filesystem full that has a node's files, those of the log too", small: true, targets: []int{0}, lasts: 10 * time.Second,
			begin: func(w *workload, _ int) func() { return fillUp(w.t, *small) },
			after: revived,
		})
	}
	return list
}

// revived shows that a node has its part of the log: with another node gone, changes go on.
func revived(w *workload, i int) {
	w.t.Helper()
	time.Sleep(8 * time.Second) // its server catches up too, which it does not say
	other := (i + 1) % nodes
	w.node(other).kill()
	w.whole(i)
	w.start(other)
	for j := range nodes {
		w.whole(j)
	}
}

// fillUp writes to a filesystem until it is full.
func fillUp(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Error(err)
		}
	}
}

// minority is what a node does that is cut off: it refuses changes in time, and delivers what it has.
func minority(w *workload, i int) {
	t := w.t
	t.Helper()
	cut := clock()
	time.Sleep(time.Second) // what was under way has come back
	o := w.do(request{Do: string(push), Node: i, Fact: exists, Key: fmt.Sprint("cut-", w.keys.Add(1))})
	if o.Outcome == done {
		t.Errorf("done without a majority: %v", o)
	}
	// Somebody comes who was away all the time. That this is not noted, and that the others are not asked, does no harm.
	w.do(request{Do: string(connect), Node: i, User: w.waiters[i].user, Session: int(w.sessions.Add(1))})
	begin := clock()
	for {
		w.mu.Lock()
		got := slices.ContainsFunc(w.history.Deliveries, func(d delivery) bool { return d.User == w.waiters[i].user && d.Node == i && d.Begin > cut })
		w.mu.Unlock()
		if got {
			break
		}
		if clock()-begin > 10*time.Second {
			t.Errorf("node %d, cut off, did not deliver what it has within 10 s", i)
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func fileName(t *testing.T) string { return strings.ReplaceAll(t.Name(), "/", "-") }

// write leaves the history to be looked at.
func (h *history) write(t *testing.T, dir string) {
	t.Helper()
	text, err := json.Marshal(h)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, fileName(t)+".json"), text, 0o600)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestFaults puts a cluster through each fault while people come and go, are pushed to and changed. See check for what must hold.
func TestFaults(t *testing.T) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	var tried []*scenario
	for round := range max(1, uint64(*rounds)) {
		random := rand.New(rand.NewPCG(s+round, 0))
		for _, one := range scenarios(random) {
			if *rounds == 0 {
				if one.name != "partition" {
					continue
				}
				one.targets = one.targets[:1]
			}
			name := one.name
			if one.clientAcks {
				name += ", clients acknowledge"
			}
			tried = append(tried, one)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				t.Logf("-faults.seed %d", s+round)
				one.run(t, s+round)
			})
		}
	}
	t.Cleanup(func() { t.Log("\n" + table(tried)) }) // when all have come to their ends
}

func (s *scenario) run(t *testing.T, seed uint64) {
	c := &trio{t: t, clientAcks: s.clientAcks}
	if s.small {
		c.dirs[0] = filepath.Join(*small, "node")
	}
	c.open()
	w := newWorkload(c, seed)
	w.run()
	for _, target := range s.targets {
		time.Sleep(1500 * time.Millisecond)
		sp := spell{target: target, begin: clock()}
		end := s.begin(w, target)
		until := time.Now().Add(s.lasts)
		if s.during != nil {
			s.during(w, target)
		}
		time.Sleep(time.Until(until))
		sp.end = clock()
		end()
		for i := range nodes {
			w.whole(i)
		}
		sp.whole = clock() - sp.end
		s.spells = append(s.spells, sp)
		if s.after != nil {
			s.after(w, target)
		}
	}
	time.Sleep(time.Second)
	w.settle()
	c.history.ClientAcks, c.history.Calm, c.history.Bound = s.clientAcks, s.calm, bound
	for i := range nodes {
		c.control(i, request{Do: "check"})
	}
	c.end()
	for _, wrong := range c.history.check() {
		t.Error(wrong)
	}
	if *keep != "" {
		c.history.write(t, *keep)
	}
	s.account(t, &c.history)
}

// whole waits until a node makes changes again. It has then applied all that was acknowledged before.
func (w *workload) whole(i int) {
	w.t.Helper()
	begin := clock()
	key := fmt.Sprint("whole-", w.keys.Add(1))
	for {
		o := w.do(request{Do: string(push), Node: i, Fact: "nobody", Key: key})
		if o.Outcome == done {
			return
		}
		if clock()-begin > patience {
			w.t.Errorf("node %d makes no changes %v after the fault: %v", i, patience, o)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// settle lets everybody be connected and receive everything, until all nodes are at rest with the same.
func (w *workload) settle() {
	w.t.Helper()
	close(w.settling)
	w.active.Wait()
	for i, p := range w.waiters {
		w.do(request{Do: string(connect), Node: (i + 1) % nodes, User: p.user, Session: int(w.sessions.Add(1))})
	}
	begin := clock()
	told := begin
	for {
		var rests []rest
		pending := 0
		for i := range nodes {
			a := w.control(i, request{Do: "rest"})
			if a.Rest == nil {
				w.t.FailNow()
			}
			rests = append(rests, *a.Rest)
			pending += a.Rest.Pending
		}
		same := rests[0].State == rests[1].State && rests[0].State == rests[2].State
		if pending == 0 && same || clock()-begin > patience {
			w.history.Rests = rests
			if pending > 0 {
				w.t.Errorf("%d messages are still waited for on the three nodes, %v after all came", pending, patience)
			}
			w.t.Logf("at rest after %v", clock()-begin)
			break
		}
		if clock()-told > 5*time.Second {
			told = clock()
			w.t.Logf("%v after all came, users wait for %d, %d and %d messages", told-begin, rests[0].Pending, rests[1].Pending, rests[2].Pending)
		}
		time.Sleep(100 * time.Millisecond)
	}
	close(w.ended)
	w.ackers.Wait()
}
