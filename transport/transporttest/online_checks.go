package transporttest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/fanfare-im/fanfare/transport"
)

var onlineChecks = []onlineCheck{
	{name: "Received", run: checkReceived},
	{name: "AnyUserID", run: checkAnyUserID},
	{name: "NotConnected", run: checkNotConnected, need: needKnowledge},
	{name: "NothingLeftOver", run: checkNothingLeftOver},
	{name: "AllConnections", run: checkAllConnections},
	{name: "Order", run: checkOrder},
	{name: "ManyUsersAtOnce", run: checkManyUsersAtOnce},
	{name: "SharedMessage", run: checkSharedMessage},
	{name: "EndedContext", run: checkEndedContext},
	{name: "SlowClient", run: checkSlowClient, need: needStall},
	{name: "Batch", run: checkBatch, need: needBatcher},
	{name: "BatchNotConnected", run: checkBatchNotConnected, need: both(needBatcher, needKnowledge)},
	{name: "BatchSlice", run: checkBatchSlice, need: needBatcher},
	{name: "BatchAndSingle", run: checkBatchAndSingle, need: needBatcher},
	{name: "ClientAcksStable", run: checkClientAcksStable, need: needAcker},
	{name: "SentAgain", run: checkSentAgain, need: needAcks},
	{name: "Close", run: checkClose, need: needCloser},
	{name: "CloseUnused", run: checkCloseUnused, need: needCloser},
}

func needKnowledge(h *OnlineHarness) string {
	if h.acked() {
		return "clients acknowledge: nil means only that the message is on its way"
	}
	return ""
}

func needStall(h *OnlineHarness) string {
	if h.Stall == nil {
		return "the harness has no Stall"
	}
	return ""
}

func needBatcher(h *OnlineHarness) string {
	if _, ok := h.Transport.(transport.Batcher); !ok {
		return "the transport is no Batcher"
	}
	return ""
}

func needAcker(h *OnlineHarness) string {
	if _, ok := h.Transport.(transport.ClientAcker); !ok {
		return "the transport is no ClientAcker"
	}
	return ""
}

func needAcks(h *OnlineHarness) string {
	if !h.acked() {
		return "clients do not acknowledge"
	}
	return ""
}

func needCloser(h *OnlineHarness) string {
	if _, ok := h.Transport.(transport.Closer); !ok {
		return "the transport is no Closer"
	}
	return ""
}

func both(a, b func(*OnlineHarness) string) func(*OnlineHarness) string {
	return func(h *OnlineHarness) string {
		if why := a(h); why != "" {
			return why
		}
		return b(h)
	}
}

// nil means that the client has it, whole.
func checkReceived(x *onlineRun) {
	c := x.connect("alice")
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	for _, body := range [][]byte{
		[]byte("hello"),
		[]byte(`{"text":"<b>Frohe Weihnachten</b> 圣诞快乐 🎄"}` + "\r\n"),
		everyByte,
		{},
		bytes.Repeat([]byte("0123456789abcdef"), 12<<10/16),
	} {
		m := x.message(body)
		x.deliver("alice", m)
		x.expect("alice", c, m)
	}
	m := x.message([]byte("from nobody in particular"))
	m.From = ""
	m.Expires = m.Accepted
	x.deliver("alice", m)
	x.expect("alice", c, m)
}

// A user ID is any valid text of 1 to 255 bytes.
func checkAnyUserID(x *onlineRun) {
	users := []string{
		"a", "A", " a ", "a/b?c=d&e#f", `"quoted"`, "%41", "用户 一", "é", "e\u0301",
		"user:1", "user.1", "user.*", "user.>", strings.Repeat("x", 255), strings.Repeat("界", 85),
	}
	clients := make([]Client, len(users))
	for i, u := range users {
		clients[i] = x.connect(u)
	}
	for i, u := range users {
		m := x.message([]byte("for " + u))
		x.deliver(u, m)
		x.expect(fmt.Sprintf("%q", u), clients[i], m)
	}
}

// An error when no connection of the user has it.
func checkNotConnected(x *onlineRun) {
	refused := func(user, when string) {
		x.Helper()
		err, broken := x.try(context.Background(), user, x.message([]byte("to nobody")))
		if broken != nil {
			x.Fatalf("%v", broken)
		}
		if err == nil {
			x.Fatalf("Deliver to %q, %s, returned nil", user, when)
		}
	}
	other := x.connect("bob")
	refused("alice", "who was never connected")
	c := x.connect("alice")
	m := x.message([]byte("hello"))
	x.deliver("alice", m)
	x.expect("alice", c, m)
	x.close(c)
	refused("alice", "whose connection is closed")
	m = x.message([]byte("bob is still there"))
	x.deliver("bob", m)
	x.expect("bob", other, m)
}

// What was not delivered does not come later, and what was does not come twice.
func checkNothingLeftOver(x *onlineRun) {
	c := x.connect("alice")
	m := x.message([]byte("before"))
	x.deliver("alice", m)
	x.expect("alice", c, m)
	x.close(c)
	err, broken := x.try(context.Background(), "alice", x.message([]byte("while away")))
	if broken != nil {
		x.Fatalf("%v", broken)
	}
	if err == nil {
		return // on its way, then, where clients acknowledge; elsewhere NotConnected has complained
	}
	c = x.connect("alice")
	for range 2 {
		m = x.message([]byte("after"))
		x.deliver("alice", m)
		x.expect("alice, connected again", c, m)
	}
}

// All connections get it; one is enough for nil.
func checkAllConnections(x *onlineRun) {
	phone, desk := x.connect("alice"), x.connect("alice")
	m := x.message([]byte("to both"))
	x.deliver("alice", m)
	x.expect("alice's first connection", phone, m)
	x.expect("alice's second connection", desk, m)
	x.close(phone)
	m = x.message([]byte("to the second"))
	x.deliver("alice", m)
	x.expect("alice's second connection", desk, m)
	phone = x.connect("alice")
	x.close(desk)
	m = x.message([]byte("to the third"))
	x.deliver("alice", m)
	x.expect("alice's third connection", phone, m)
	x.close(phone)
	if x.h.acked() {
		return
	}
	if err, broken := x.try(context.Background(), "alice", x.message([]byte("to none"))); broken != nil {
		x.Fatalf("%v", broken)
	} else if err == nil {
		x.Fatalf("Deliver to a user who has closed the last connection returned nil")
	}
}

// One user receives in the order of the calls, each message once.
func checkOrder(x *onlineRun) {
	c := x.connect("alice")
	sent := x.messages(100)
	read := make(chan error, 1)
	go func() { read <- tryExpect("alice", c, sent...) }()
	for _, m := range sent {
		x.deliver("alice", m)
	}
	if err := <-read; err != nil {
		x.Fatalf("%v", err)
	}
}

// Deliver is called from several goroutines at once, for different users.
func checkManyUsersAtOnce(x *onlineRun) {
	const users, each = 24, 20
	private := make([][]*transport.Message, users)
	for i := range private {
		private[i] = x.messages(each)
	}
	errs := make(chan error, users)
	for i := range users {
		go func() {
			user := fmt.Sprintf("user %d", i)
			errs <- func() error {
				c, err := x.h.Connect(user)
				if err != nil {
					return fmt.Errorf("Connect(%q): %w", user, err)
				}
				for _, m := range private[i] {
					if err := x.tryConnected(user, m); err != nil {
						return err
					}
				}
				if err := tryExpect(user, c, private[i]...); err != nil {
					return err
				}
				return c.Close()
			}()
		}()
	}
	for range users {
		if err := <-errs; err != nil {
			x.Fatalf("%v", err)
		}
	}
}

// One message is shared by all deliveries and is not changed.
func checkSharedMessage(x *onlineRun) {
	const users = 16
	clients := make([]Client, users)
	for i := range clients {
		clients[i] = x.connect(fmt.Sprintf("user %d", i))
	}
	m := x.message([]byte("the same for all"))
	before := clone(m)
	var wg sync.WaitGroup
	errs := make([]error, users)
	for i := range users {
		wg.Go(func() { errs[i] = x.tryConnected(fmt.Sprintf("user %d", i), m) })
	}
	wg.Wait()
	for i, c := range clients {
		if errs[i] != nil {
			x.Fatalf("%v", errs[i])
		}
		x.expect(fmt.Sprintf("user %d", i), c, before)
	}
	if !unchanged(m, before) {
		x.Fatalf("the message was changed: it is now %+v, was %+v", *m, *before)
	}
}

// A context that has ended does not hold Deliver up, and nil still means received.
func checkEndedContext(x *onlineRun) {
	c := x.connect("alice")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	m := x.message([]byte("at the last moment"))
	err, broken := x.try(ctx, "alice", m)
	if broken != nil {
		x.Fatalf("with an ended context: %v", broken)
	}
	if err == nil {
		x.expect("alice, after a nil with an ended context", c, m)
	}
	next := x.message([]byte("the next Pusher"))
	x.deliver("alice", next)
	x.expect("alice, after an ended context", c, next)
}

// A client that does not read harms nobody else, and the end of the context
// frees whoever waits for it.
func checkSlowClient(x *onlineRun) {
	x.connect("alice")
	bob := x.connect("bob")
	resume := x.h.Stall("alice")
	defer resume()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Enough to fill the buffers of a socket.
	flood := make([]*transport.Message, 10_000)
	body := make([]byte, 4<<10)
	for i := range flood {
		flood[i] = x.message(body)
	}
	started := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				ended <- fmt.Errorf("Deliver to a slow client panicked: %v", r)
			}
			close(ended)
		}()
		close(started)
		for _, m := range flood {
			if x.h.Transport.Deliver(ctx, "alice", m) != nil || ctx.Err() != nil {
				return
			}
		}
	}()
	<-started
	for range 10 {
		m := x.message([]byte("past the slow one"))
		x.deliver("bob", m)
		x.expect("bob, while another client is slow", bob, m)
	}
	cancel()
	panicked, broken := within("Deliver to a slow client, its context ended,", func() error { return <-ended })
	if err := cmp.Or(panicked, broken); err != nil {
		x.Fatalf("%v", err)
	}
}
