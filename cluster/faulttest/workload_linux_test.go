package faulttest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// workload is what goes on while faults come and go: pushes, changes, and people who come and go between the nodes.
type workload struct {
	*trio
	random   func() *rand.Rand // one for each goroutine
	people   []*person
	waiters  [nodes]*person // they are pushed to, and come when the test wants them to
	sessions atomic.Int64
	keys     atomic.Int64
	settling chan struct{} // closed when nothing new is to begin
	active   sync.WaitGroup
	ended    chan struct{} // closed when everything is acknowledged
	ackers   sync.WaitGroup
}

// facts are what users may have.
var facts = []string{"red", "green", value}

// newWorkload registers most of the people; the others become known when they connect.
func newWorkload(c *trio, seed uint64) *workload {
	c.t.Helper()
	var goroutines atomic.Uint64
	w := &workload{trio: c, settling: make(chan struct{}), ended: make(chan struct{}), random: func() *rand.Rand { return rand.New(rand.NewPCG(seed, goroutines.Add(1))) }}
	random := w.random()
	known := make(map[string]*person)
	newPerson := func(user string) *person {
		p := &person{w: w, user: user, at: make(map[int]visit), wake: make(chan struct{}, 1)}
		known[user] = p
		if c.clientAcks {
			w.ackers.Go(p.acknowledge)
		}
		return p
	}
	for i := range 32 {
		w.people = append(w.people, newPerson(fmt.Sprintf("user-%02d", i)))
	}
	for i := range w.waiters {
		w.waiters[i] = newPerson(fmt.Sprint("waiter-", i))
	}
	c.heard = func(d delivery) {
		if p := known[d.User]; p != nil && c.clientAcks {
			p.receive(d)
		}
	}
	w.must(request{Do: "name"})
	w.must(request{Do: string(push), Fact: exists, Key: "before anybody"})
	for _, p := range w.waiters {
		w.must(request{Do: "register", User: p.user})
	}
	for _, p := range w.people[:24] {
		w.must(request{Do: "register", User: p.user})
		for _, fact := range facts {
			if random.IntN(2) == 0 {
				w.must(request{Do: string(set), User: p.user, Fact: fact})
			}
		}
	}
	w.must(request{Do: string(push), Fact: exists, Key: "before all"})
	return w
}

// must tries until it is done.
func (w *workload) must(r request) op {
	w.t.Helper()
	random := w.random()
	begin := clock()
	for {
		r.Node = random.IntN(nodes)
		o := w.do(r)
		if o.Outcome == done {
			return o
		}
		if clock()-begin > patience {
			w.t.Fatalf("not done within %v: %v", patience, o)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (w *workload) run() {
	for range 2 {
		w.active.Go(w.push)
	}
	w.active.Go(w.change)
	for _, p := range w.people {
		w.active.Go(p.live)
	}
}

// sleep returns whether things still are to begin after it.
func (w *workload) sleep(random *rand.Rand, least, most time.Duration) bool {
	select {
	case <-w.settling:
		return false
	case <-time.After(between(random, least, most)):
		return true
	}
}

// busy says whether things still are to begin.
func (w *workload) busy() bool {
	select {
	case <-w.settling:
		return false
	default:
		return true
	}
}

func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)))
}

// push pushes; what is not done it mostly tries again, at whatever node, until it is.
func (w *workload) push() {
	random := w.random()
	for w.sleep(random, 40*time.Millisecond, 200*time.Millisecond) {
		r := request{Do: string(push), Key: fmt.Sprint("push-", w.keys.Add(1)), Fact: exists}
		if i := random.IntN(len(facts) + 1); i < len(facts) {
			r.Fact = facts[i]
		}
		again := random.IntN(4) > 0
		w.active.Go(func() { w.try(r, again) })
	}
}

func (w *workload) try(r request, again bool) {
	random := w.random()
	begin := clock()
	for {
		r.Node = random.IntN(nodes)
		if o := w.do(r); o.Outcome == done || !again || w.t.Context().Err() != nil {
			return
		} else if clock()-begin > patience {
			w.t.Errorf("not done within %v: %v", patience, o)
			return
		}
		time.Sleep(between(random, 50*time.Millisecond, 250*time.Millisecond))
	}
}

func (w *workload) change() {
	random := w.random()
	for w.sleep(random, 10*time.Millisecond, 100*time.Millisecond) {
		r := request{Do: string(set), Node: random.IntN(nodes), User: w.people[random.IntN(24)].user, Fact: facts[random.IntN(len(facts))]}
		if random.IntN(2) == 0 {
			r.Do = string(unset)
		}
		w.active.Go(func() { w.do(r) })
	}
}

// person is a user with a client.
type person struct {
	w    *workload
	user string
	at   map[int]visit // node -> where the client is connected; of live alone

	mu      sync.Mutex
	unacked []delivery
	wake    chan struct{}
}

// visit is a session at a node's process.
type visit struct{ session, life int }

// live connects, stays, moves and goes away, and in the end is connected somewhere.
func (p *person) live() {
	random := p.w.random()
	for p.w.sleep(random, 250*time.Millisecond, 2*time.Second) {
		p.look()
		switch random.IntN(4) {
		case 0: // away
			p.leave(-1)
		default: // first there, then no more here; at times at both for a while
			i := random.IntN(nodes)
			if p.arrive(i) && random.IntN(3) > 0 {
				p.leave(i)
			}
		}
	}
	begin := clock()
	for p.look(); len(p.at) == 0; p.look() {
		if p.w.t.Context().Err() != nil {
			return
		}
		if !p.arrive(random.IntN(nodes)) {
			time.Sleep(100 * time.Millisecond)
		}
		if clock()-begin > patience {
			p.w.t.Errorf("%s could not connect within %v", p.user, patience)
			return
		}
	}
}

// look forgets sessions that died with their process.
func (p *person) look() {
	for i, v := range p.at {
		if n := p.w.node(i); n.life != v.life {
			delete(p.at, i)
		}
	}
}

func (p *person) arrive(i int) bool {
	if _, ok := p.at[i]; ok {
		return true
	}
	v := visit{int(p.w.sessions.Add(1)), p.w.node(i).life}
	if p.w.do(request{Do: string(connect), Node: i, User: p.user, Session: v.session}).Outcome != done {
		return false
	}
	p.at[i] = v
	return true
}

// leave ends all sessions but that at a node. A Deliver that was decided on for one of them may still come; live waits longer than that before it is at the same node again.
func (p *person) leave(but int) {
	for i := range p.at {
		if i != but {
			p.w.do(request{Do: string(disconnect), Node: i, User: p.user})
			delete(p.at, i)
		}
	}
}

func (p *person) receive(d delivery) {
	p.mu.Lock()
	p.unacked = append(p.unacked, d)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// acknowledge acknowledges what the client has received, in any order, and some of it only when it comes again.
func (p *person) acknowledge() {
	random := p.w.random()
	acked := make(map[string]bool)
	for {
		select {
		case <-p.wake:
		case <-p.w.ended:
			return
		case <-p.w.t.Context().Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
		p.mu.Lock()
		list := p.unacked
		p.unacked = nil
		p.mu.Unlock()
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		messages := make(map[int][]string) // by node
		for _, d := range list {
			lost := random.IntN(10) == 0 && p.w.busy()
			if !lost && !acked[d.Message] && !slices.Contains(messages[d.Node], d.Message) {
				messages[d.Node] = append(messages[d.Node], d.Message)
			}
		}
		for node, ids := range messages {
			if p.w.do(request{Do: string(ack), Node: node, User: p.user, Messages: ids}).Outcome == done {
				for _, id := range ids {
					acked[id] = true
				}
				continue
			}
			for _, id := range ids { // by another way next time
				p.receive(delivery{Node: random.IntN(nodes), Message: id})
			}
		}
	}
}
