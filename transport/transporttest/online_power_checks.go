package transporttest

import (
	"context"
	"fmt"
	"slices"

	"github.com/fanfare-im/fanfare/transport"
)

// batch calls DeliverBatch and brings its answer to one error for each user.
func (x *onlineRun) batch(users []string, m *transport.Message) []error {
	x.Helper()
	errs, broken := within(fmt.Sprintf("DeliverBatch to %d users", len(users)), func() []error {
		return x.h.Transport.(transport.Batcher).DeliverBatch(context.Background(), users, m)
	})
	if broken != nil {
		x.Fatalf("%v", broken)
	}
	if errs == nil {
		return make([]error, len(users))
	}
	if len(errs) != len(users) {
		x.Fatalf("DeliverBatch to %d users returned %d errors", len(users), len(errs))
	}
	return errs
}

// batchSize is the most users the suite puts into a batch: what the transport
// asks for, as far as it is sensible to open connections in a test.
func (x *onlineRun) batchSize() int {
	n := x.h.Transport.(transport.Batcher).MaxBatch()
	if n < 1 {
		n = 256
	}
	return min(n, 256)
}

// The largest batch arrives, each user has it once.
func checkBatch(x *onlineRun) {
	users := make([]string, x.batchSize())
	clients := make([]Client, len(users))
	for i := range users {
		users[i] = fmt.Sprintf("user %d", i)
		clients[i] = x.connect(users[i])
	}
	for _, size := range []int{len(users), 1, len(users)} {
		m := x.message(fmt.Appendf(nil, "to %d", size))
		before := clone(m)
		for i, err := range x.batch(slices.Clone(users[:size]), m) {
			if err != nil {
				x.Fatalf("DeliverBatch, %d of %d users, all connected: %v", i+1, size, err)
			}
			x.expect(users[i], clients[i], before)
		}
		if !unchanged(m, before) {
			x.Fatalf("DeliverBatch changed the message")
		}
	}
}

// Errors stand in the order of the users.
func checkBatchNotConnected(x *onlineRun) {
	var users []string
	clients := make(map[string]Client)
	for i := range min(x.batchSize(), 9) {
		u := fmt.Sprintf("user %d", 9-i)
		users = append(users, u)
		if i%3 != 1 {
			clients[u] = x.connect(u)
		}
	}
	for range 2 {
		m := x.message([]byte("to those who are there"))
		for i, err := range x.batch(slices.Clone(users), m) {
			c := clients[users[i]]
			switch {
			case c == nil && err == nil:
				x.Fatalf("DeliverBatch: no error for user %d of %d, who is not connected", i+1, len(users))
			case c != nil && err != nil:
				x.Fatalf("DeliverBatch: user %d of %d, who is connected: %v", i+1, len(users), err)
			case c != nil:
				x.expect(users[i], c, m)
			}
		}
	}
}

// The slice of users is neither changed nor kept.
func checkBatchSlice(x *onlineRun) {
	var users []string
	var clients []Client
	for i := range min(x.batchSize(), 8) {
		users = append(users, fmt.Sprintf("user %d", i))
		clients = append(clients, x.connect(users[i]))
	}
	given := slices.Clone(users)
	for range 3 {
		m := x.message([]byte("again"))
		x.batch(given, m)
		if !slices.Equal(given, users) {
			x.Fatalf("DeliverBatch changed the slice of users")
		}
		// A transport that goes on reading it is found by the race detector, or
		// by what its clients miss.
		clear(given)
		for i, c := range clients {
			x.expect(users[i], c, m)
		}
		copy(given, users)
	}
}

// Deliver and DeliverBatch share one order.
func checkBatchAndSingle(x *onlineRun) {
	c := x.connect("alice")
	sent := x.messages(40)
	for i, m := range sent {
		if i%2 == 0 {
			x.deliver("alice", m)
		} else if err := x.batch([]string{"alice"}, m)[0]; err != nil {
			x.Fatalf("DeliverBatch to a user who is connected: %v", err)
		}
	}
	x.expect("alice", c, sent...)
}

func checkClientAcksStable(x *onlineRun) {
	a := x.h.Transport.(transport.ClientAcker)
	first := a.ClientAcks()
	c := x.connect("alice")
	m := x.message([]byte("hello"))
	x.deliver("alice", m)
	x.expect("alice", c, m)
	if a.ClientAcks() != first {
		x.Fatalf("ClientAcks says %v, and after a delivery %v", first, !first)
	}
}

// What was not acknowledged is sent again, and the transport lets it through.
func checkSentAgain(x *onlineRun) {
	c := x.connect("alice")
	m := x.message([]byte("not acknowledged"))
	for range 2 {
		x.deliver("alice", m)
		x.expect("alice", c, m)
	}
	x.close(c)
	c = x.connect("alice")
	x.deliver("alice", m)
	x.expect("alice, on another connection", c, m)
}

// A call that was left behind may come after Close: it returns, and does not panic.
func checkClose(x *onlineRun) {
	c := x.connect("alice")
	m := x.message([]byte("hello"))
	x.deliver("alice", m)
	x.expect("alice", c, m)
	checkCloseUnused(x)
	late := x.message([]byte("too late"))
	for _, user := range []string{"alice", "bob"} {
		if _, broken := x.try(context.Background(), user, late); broken != nil {
			x.Fatalf("after Close: %v", broken)
		}
	}
	if b, ok := x.h.Transport.(transport.Batcher); ok {
		if _, broken := within("DeliverBatch after Close", func() []error {
			return b.DeliverBatch(context.Background(), []string{"alice"}, late)
		}); broken != nil {
			x.Fatalf("%v", broken)
		}
	}
}

func checkCloseUnused(x *onlineRun) {
	err, broken := within("Close", x.h.Transport.(transport.Closer).Close)
	if broken != nil {
		x.Fatalf("%v", broken)
	}
	if err != nil {
		x.Fatalf("Close: %v", err)
	}
}
