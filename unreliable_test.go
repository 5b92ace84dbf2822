package fanfare

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// unreliable is a transport that fails, panics, takes its time or hangs at random, until it is told to be calm. It
// keeps what it said that a user has, and what it was asked to do that it must never be asked.
type unreliable struct {
	mu      sync.Mutex
	rnd     *rand.Rand
	calm    bool
	sick    func(user string) bool // whom it fails
	busy    map[string]bool
	has     map[string][]*transport.Message
	illegal []string
}

var errUnreliable = errors.New("unreliable")

// tooLong is a time in which a call is left behind.
const tooLong = 12 * time.Second

func (u *unreliable) enter(user string, m *transport.Message) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy[user] {
		u.illegal = append(u.illegal, user+" has two calls at the same time")
	}
	u.busy[user] = true
	if has := u.has[user]; len(has) > 0 && has[len(has)-1].Sequence >= m.Sequence {
		u.illegal = append(u.illegal, fmt.Sprintf("%s has %d, and is sent %d", user, has[len(has)-1].Sequence, m.Sequence))
	}
}

// leave ends a call for a user; the error is what the call says.
func (u *unreliable) leave(user string, m *transport.Message, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.busy[user] = false
	if err == nil {
		u.has[user] = append(u.has[user], m)
	}
}

// fate is what becomes of a call: it takes its time, and then panics, or has a result.
func (u *unreliable) fate(user string) (takes time.Duration, panics bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.calm || !u.sick(user) {
		return 0, false, nil
	}
	switch n := u.rnd.IntN(100); {
	case n < 50:
		return 0, false, nil
	case n < 70:
		return 0, false, errUnreliable
	case n < 80:
		return 0, true, nil
	case n < 90:
		return time.Duration(u.rnd.IntN(300)) * time.Millisecond, false, nil
	case n < 95:
		return tooLong, false, nil
	case n < 98:
		return tooLong, false, errUnreliable
	}
	return tooLong, true, nil
}

func (u *unreliable) Deliver(_ context.Context, user string, m *transport.Message) (err error) {
	u.enter(user, m)
	takes, panics, err := u.fate(user)
	defer func() {
		if panics {
			err = errUnreliable // for the record
		}
		u.leave(user, m, err)
	}()
	time.Sleep(takes) // of the bubble
	if panics {
		panic("unreliable")
	}
	return err
}

// unreliableBatcher is the same with many users in a call, and a count of results that is wrong at times.
type unreliableBatcher struct{ unreliable }

func (u *unreliableBatcher) MaxBatch() int { return 5 }

func (u *unreliableBatcher) DeliverBatch(_ context.Context, users []string, m *transport.Message) []error {
	users = slices.Clone(users)
	errs := make([]error, len(users), len(users)+1)
	var longest time.Duration
	panics := false
	for i, user := range users {
		u.enter(user, m)
		takes, p, err := u.fate(user)
		errs[i], longest, panics = err, max(longest, takes), panics || p
	}
	u.mu.Lock()
	wrong := 0
	if !u.calm && u.rnd.IntN(10) == 0 {
		wrong = []int{-1, 1}[u.rnd.IntN(2)]
	}
	u.mu.Unlock()
	time.Sleep(longest)
	for i, user := range users {
		if err := errs[i]; panics || wrong != 0 {
			u.leave(user, m, errUnreliable)
		} else {
			u.leave(user, m, err)
		}
	}
	if panics {
		panic("unreliable")
	}
	return errs[:len(users)+wrong]
}

// TestUnreliableTransport plays pushes, connections and reconnections on transports that fail at random. Healthy users get
// everything meanwhile, and when the transport is calm at last, everybody has each message once and in order.
func TestUnreliableTransport(t *testing.T) {
	t.Parallel()
	for _, batches := range []bool{false, true} {
		for range 2 {
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("batches %v, seed %d", batches, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { playUnreliable(t, batches, rand.New(rand.NewPCG(seed, 0))) })
			})
		}
	}
}

func playUnreliable(t *testing.T, batches bool, rnd *rand.Rand) {
	ctx := context.Background()
	u := &unreliableBatcher{unreliable{
		rnd: rand.New(rand.NewPCG(rnd.Uint64(), 1)), busy: map[string]bool{}, has: map[string][]*transport.Message{},
		sick: func(user string) bool { return user > "u0011" },
	}}
	var online transport.Online = &u.unreliable
	if batches {
		online = u
	}
	t.Cleanup(func() { time.Sleep(2 * tooLong) }) // behind Close: until the calls that were left behind have returned
	p := testPusher(t, t.TempDir(), Options{Online: online, Workers: 1 + rnd.IntN(6), blockBits: 2 + rnd.IntN(3)})
	users := numberedUsers(36) // of whom twelve are healthy
	importUsersNamed(t, p, users)
	sessions := map[string]*Session{}
	join := func(user string) {
		s, err := p.Connect(ctx, user)
		must(t, err)
		sessions[user] = s
	}
	for _, user := range users[:30] {
		join(user)
	}
	want := map[string][]string{}
	for i := range 40 {
		a := All()
		if i%2 == 0 {
			a = Sample(50, fmt.Sprint(i))
		}
		task := mustTask(t, p, Message{Body: fmt.Append(nil, i), To: a, Lifetime: week})
		for user, err := range p.Members(ctx, a) {
			must(t, err)
			want[user] = append(want[user], task.ID)
		}
		user := users[rnd.IntN(len(users))]
		if s := sessions[user]; s == nil {
			join(user)
		} else if rnd.IntN(3) == 0 {
			must(t, s.Close())
			delete(sessions, user)
		}
		time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
	}
	for _, user := range users {
		if sessions[user] == nil {
			join(user)
		}
	}
	compare := func(users []string) {
		t.Helper()
		u.mu.Lock()
		defer u.mu.Unlock()
		if len(u.illegal) > 0 {
			t.Fatal(u.illegal)
		}
		for _, user := range users {
			var got []string
			for _, m := range u.has[user] {
				got = append(got, m.ID)
			}
			if !slices.Equal(got, want[user]) {
				t.Fatalf("%s has %d messages, not %d:\n%q\nnot\n%q", user, len(got), len(want[user]), got, want[user])
			}
		}
	}
	time.Sleep(30 * time.Minute) // calls that take their time are many, and workers few
	compare(users[:12])
	u.mu.Lock()
	u.calm = true
	u.mu.Unlock()
	time.Sleep(2 * time.Minute)
	compare(users)
	for task, err := range p.Tasks(ctx) {
		must(t, err)
		if g := progress(t, task); g.Delivered != g.Total || g.Ended.IsZero() {
			t.Fatalf("%+v", g)
		}
	}
}
