package websocket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

func TestAckIsCumulative(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{})
	if err := h.p.Register(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	h.push("pending", week)
	c := h.dial("alice")
	c.expect("pending")
	h.push("two", week)
	h.push("three", week)
	c.expect("two", "three")
	c.leave() // and nothing was acknowledged
	c = h.dial("alice")
	c.ack(c.expect("pending", "two", "three"))
	h.push("four", week)
	c.expect("four")
	c.leave()
	c = h.dial("alice")
	c.ack(c.expect("four"))
	c.leave()
	h.push("five", week)
	c = h.dial("alice")
	c.expect("five")
}

// TestSecondConnection: what one connection did not acknowledge comes on the next, so that an ack there loses nothing.
func TestSecondConnection(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{})
	dead := h.dial("alice")
	h.push("one", week)
	dead.expect("one")
	second := h.dial("alice")
	h.push("two", week)
	second.ack(second.expect("one", "two"))
	second.leave()
	dead.ws.CloseNow()
	h.push("three", week)
	h.dial("alice").expect("three")
}

// TestAckOfWhatCameEarly: a message that was under way when the connection before was lost can come ahead of older ones. Its ack must
// not count for those, as they may be lost too.
func TestAckOfWhatCameEarly(t *testing.T) {
	t.Parallel()
	c := newConnection(New(Options{Queue: 2 * maxUnacked}), nil, "alice")
	write := func(ids ...string) {
		for _, id := range ids {
			if !c.put(id, nil) {
				t.Fatal("full")
			}
			c.next()
		}
	}
	write("5", "3", "4", "5", "6")
	for _, of := range []struct {
		ack    string
		before []string
	}{{"5", nil}, {"of another connection", nil}, {"4", []string{"3"}}, {"4", nil}, {"6", []string{"5"}}} {
		if before := c.acked(of.ack); !slices.Equal(before, of.before) {
			t.Errorf("an ack of %s is one of %v too, want %v", of.ack, before, of.before)
		}
	}
	for i := range maxUnacked + 1 { // who acknowledges nothing costs no more than this
		write(strconv.Itoa(i))
	}
	if n := len(c.acked(strconv.Itoa(maxUnacked))); n != maxUnacked-1 {
		t.Errorf("%d messages are remembered", n+1)
	}
}

// TestAckOfWhatIsStillToCome: a client may acknowledge over a new connection what it has from the one before. That counts for nothing that is
// not even written to the new one.
func TestAckOfWhatIsStillToCome(t *testing.T) {
	t.Parallel()
	c := newConnection(New(Options{}), nil, "alice")
	for _, id := range []string{"3", "4", "5"} {
		c.put(id, nil)
	}
	c.next()
	if before := c.acked("5"); len(before) != 0 {
		t.Errorf("%v count too", before)
	}
	c.next()
	c.next()
	if before := c.acked("5"); !slices.Equal(before, []string{"3", "4"}) {
		t.Errorf("when it has come, %v count too", before)
	}
}

// fakePusher answers acks.
type fakePusher struct {
	ack func(ids []string) error
}

func (fakePusher) Connect(context.Context, string) (*fanfare.Session, error) {
	return new(fanfare.Session), nil
}

func (p fakePusher) Ack(_ context.Context, _, id string, more ...string) error {
	return p.ack(append(more, id))
}

// TestAckThatFails: a disk that takes no acks sends nobody away, as those would all come back at once.
func TestAckThatFails(t *testing.T) {
	t.Parallel()
	c := newConnection(New(Options{}), fakePusher{func([]string) error { return fanfare.ErrNoRoom }}, "alice")
	if !c.ack("1") || c.ending.Err() != nil {
		t.Errorf("the connection ends with %v", context.Cause(c.ending))
	}
}

// TestAckBehindTheForgotten: a message without a lifetime, which nobody has to acknowledge, may be forgotten when a later one is acknowledged.
func TestAckBehindTheForgotten(t *testing.T) {
	t.Parallel()
	var acked []string
	c := newConnection(New(Options{}), fakePusher{func(ids []string) error {
		if slices.Contains(ids, "forgotten") {
			return fanfare.ErrUnknownTask
		}
		acked = append(acked, ids...)
		return nil
	}}, "alice")
	for _, id := range []string{"forgotten", "2"} {
		c.put(id, nil)
		c.next()
	}
	if !c.ack("2") || !slices.Equal(acked, []string{"2"}) {
		t.Errorf("acknowledged is %v, and the connection ends with %v", acked, context.Cause(c.ending))
	}
}

func TestBadFrames(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{ReadLimit: 100})
	for _, of := range []struct{ send, reason string }{
		{`{"ack":"nothing"}`, "ack: no such message"},
		{`{"ack":""}`, `a frame must be text, {"ack":"<id>"}`},
		{`no JSON`, `a frame must be text, {"ack":"<id>"}`},
	} {
		c := h.dial("alice")
		c.send(of.send)
		c.closed(websocket.StatusPolicyViolation, of.reason)
	}
	c := h.dial("alice")
	if err := c.ws.Write(t.Context(), websocket.MessageBinary, []byte(`{"ack":"x"}`)); err != nil {
		t.Fatal(err)
	}
	c.closed(websocket.StatusPolicyViolation, `a frame must be text, {"ack":"<id>"}`)
	c = h.dial("alice")
	c.send(strings.Repeat("x", 101))
	if _, err := c.read(); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("a large frame ended the connection with %v", err)
	}
}

// TestDeleted: who is unregistered can acknowledge nothing more.
func TestDeleted(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{})
	c := h.dial("alice")
	h.push("one", week)
	id := c.expect("one")
	if err := h.p.Unregister(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	c.ack(id)
	c.closed(websocket.StatusPolicyViolation, "the account was deleted")
}

// TestTooManyConnections: a user has so many, and the oldest goes for a new one; others are not concerned.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{MaxConnections: 3})
	bob := h.dial("bob")
	var list []*client
	for range 4 {
		list = append(list, h.dial("alice"))
	}
	list[0].closed(websocket.StatusPolicyViolation, "too many connections")
	h.push("one", week)
	for _, c := range append(list[1:], bob) {
		c.expect("one")
	}
}

func TestKick(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{})
	phone, desk, bob := h.dial("alice"), h.dial("alice"), h.dial("bob")
	for _, user := range []string{"alice", "alice", "nobody"} {
		if err := h.hub.Kick(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.p.Online(); n != 1 {
		t.Errorf("%d users are online after a kick", n)
	}
	phone.closed(websocket.StatusPolicyViolation, "kicked")
	desk.closed(websocket.StatusPolicyViolation, "kicked")
	h.push("still here", 0)
	bob.expect("still here")
}

func TestSlowClient(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{Queue: 4})
	c := h.dial("alice") // which reads nothing for now
	body := append(append([]byte{'"'}, bytes.Repeat([]byte("x"), 256<<10)...), '"')
	sent := 0
	for m := (&transport.Message{ID: "m", Body: body}); h.hub.Deliver(t.Context(), "alice", m) == nil; sent++ {
		if sent == 1000 {
			t.Fatal("the queue is never full")
		}
	}
	if n := h.p.Online(); n != 0 {
		t.Errorf("%d users are online", n)
	}
	// Who reads on gets all that was taken, and the reason.
	got := 0
	for ; ; got++ {
		if _, _, err := c.ws.Read(t.Context()); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
				t.Errorf("the connection ended with %v", err)
			}
			break
		}
	}
	if got != sent {
		t.Errorf("%d frames of %d came", got, sent)
	}
}

// TestPing: a client that answers no pings is gone, and what it did not acknowledge is not lost.
func TestPing(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{PingEvery: time.Millisecond, PongTimeout: 100 * time.Millisecond})
	c := h.dial("alice") // which reads nothing, and so no pings
	h.push("one", week)
	<-c.left
	if n := h.p.Online(); n != 0 {
		t.Errorf("%d users are online", n)
	}
	h.dial("alice").expect("one")
}

// TestPingHoldsUpNothing: what is pushed is written while a pong is waited for.
func TestPingHoldsUpNothing(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{PingEvery: time.Millisecond, PongTimeout: time.Hour})
	s := h.socket("alice")
	for s.next() != 0x89 { // a ping, which gets no answer
	}
	h.push("one", week)
	for s.next() != 0x81 { // text
	}
}

// TestPingDuringAnAck: a client whose answer waits behind its ack, which waits for the disk, is not taken for dead.
func TestPingDuringAnAck(t *testing.T) {
	t.Parallel()
	written := make(chan struct{})
	h := New(Options{PingEvery: time.Millisecond, PongTimeout: 50 * time.Millisecond})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := newConnection(h, fakePusher{func([]string) error { <-written; return nil }}, "alice")
		h.admit(c)
		defer h.gone(c)
		if err := h.join(c); err != nil {
			t.Error(err)
		}
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		c.serve(ws)
	}))
	defer server.Close()
	pings := make(chan struct{})
	ws, _, err := websocket.Dial(t.Context(), server.URL, &websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool {
		pings <- struct{}{}
		return true
	}})
	if err != nil {
		t.Fatal(err)
	}
	gone := ws.CloseRead(t.Context())
	<-pings
	if err := ws.Write(t.Context(), websocket.MessageText, []byte(`{"ack":"1"}`)); err != nil {
		t.Fatal(err)
	}
	for range 5 { // of which the first may have been sent before the ack came
		select {
		case <-pings:
		case <-gone.Done():
			t.Fatal("the connection has ended")
		}
	}
	close(written)
	go func() {
		for range pings {
		}
	}()
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	<-gone.Done()
	close(pings)
}

// TestEndedConnection: a client that has been told that its connection ends is not connected, however long it takes to answer, so that nothing is taken for it
// that is never written; and it holds up no shutdown.
func TestEndedConnection(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{})
	s := h.socket("alice")
	s.send("no ack")
	for s.next() != 0x88 { // a close, which gets no answer
	}
	if n := h.p.Online(); n != 0 {
		t.Errorf("%d users are online", n)
	}
	if err := h.hub.Deliver(t.Context(), "alice", &transport.Message{ID: "m"}); !errors.Is(err, errNotConnected) {
		t.Errorf("a message for it: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	began := time.Now()
	if err := h.hub.Shutdown(ctx); !errors.Is(err, context.Canceled) || time.Since(began) > 4*time.Second { // which is less than what a close waits for
		t.Errorf("cut off after %v with %v", time.Since(began), err)
	}
}

// TestShutdownFinishes: what was pushed without a lifetime to those who are connected gets to them before they are let go.
func TestShutdownFinishes(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{})
	const clients, pushes = 100, 100
	var reading sync.WaitGroup
	for i := range clients {
		c := h.dial(fmt.Sprint("u", i))
		reading.Go(func() {
			for got := 0; ; got++ {
				if _, err := c.read(); err != nil {
					if websocket.CloseStatus(err) != websocket.StatusGoingAway || got != pushes {
						t.Errorf("u%d got %d of %d messages, and then %v", i, got, pushes, err)
					}
					return
				}
			}
		})
	}
	for i := range pushes {
		h.push(fmt.Sprint(i), 0)
	}
	h.hub.Stop()
	if err := h.p.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := h.stop(t.Context()); err != nil {
		t.Error(err)
	}
	reading.Wait()
}

// TestShutdown: acks that were on their way count, and nobody comes in any more.
func TestShutdown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := start(t, dir, Options{})
	c, bob := h.dial("alice"), h.dial("bob")
	h.push("one", week)
	bob.expect("one")
	c.ack(c.expect("one"))
	h.hub.Stop()
	if status, text := h.get("user=carol", upgrade()); status != http.StatusServiceUnavailable || text != stoppingReason {
		t.Errorf("who comes late is answered with %d %s", status, text)
	}
	h.push("those who are there stay", week)
	bob.ack(bob.expect("those who are there stay"))
	done := make(chan error, 1)
	go func() { done <- h.stop(t.Context()) }()
	c.closed(websocket.StatusGoingAway, stoppingReason)
	bob.closed(websocket.StatusGoingAway, stoppingReason)
	if err := <-done; err != nil {
		t.Error(err)
	}
	h = start(t, dir, Options{})
	h.push("two", week)
	h.dial("bob").expect("two")
	h.dial("alice").expect("those who are there stay", "two")
}

// TestShutdownOfTheSilent: a client that does not answer holds nothing up for longer than the time-out.
func TestShutdownOfTheSilent(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{})
	c := h.dial("alice") // which reads nothing, so does not answer the close
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cut off with %v", err)
	}
	<-c.left
}

// TestCloseOfThePusher ends connections that the host has forgotten, and what comes later.
func TestCloseOfThePusher(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{})
	c := h.dial("alice")
	done := make(chan error, 1)
	go func() { done <- h.p.Close(context.Background()) }()
	c.closed(websocket.StatusGoingAway, stoppingReason)
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-c.left
	if status, _ := h.get("user=alice", upgrade()); status != http.StatusServiceUnavailable {
		t.Errorf("after the end the answer is %d", status)
	}
}

// slowPusher has a disk that takes its time for one user.
type slowPusher struct {
	slow    string
	writing chan struct{} // closed when that one's write begins
	written chan struct{} // and is closed to end it
	err     error
}

func (p *slowPusher) Connect(ctx context.Context, user string) (*fanfare.Session, error) {
	if user == p.slow {
		close(p.writing)
		select {
		case <-p.written:
			return nil, p.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return new(fanfare.Session), nil
}

func (p *slowPusher) Ack(context.Context, string, string, ...string) error { return nil }

// TestOneWaitsForTheDisk: while one user's login is written to the disk, others come, get messages, and go.
func TestOneWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	p := &slowPusher{slow: "new", writing: make(chan struct{}), written: make(chan struct{}), err: errors.New("no room")}
	h := New(Options{})
	came := make(chan error, 1)
	fresh := newConnection(h, p, "new")
	h.admit(fresh)
	go func() { came <- h.join(fresh) }()
	<-p.writing
	known := newConnection(h, p, "known")
	h.admit(known)
	if err := h.join(known); err != nil {
		t.Fatal(err)
	}
	if err := h.Deliver(t.Context(), "known", &transport.Message{ID: "1"}); err != nil {
		t.Error(err)
	}
	h.gone(known)
	close(p.written)
	if err := <-came; !errors.Is(err, p.err) {
		t.Errorf("the other came in with %v", err)
	}
	h.gone(fresh)
	if len(h.users) != 0 || len(h.open) != 0 {
		t.Errorf("%d users and %d connections are left", len(h.users), len(h.open))
	}
}

// TestShutdownWhileTheDiskHangs: a login that waits for the disk is cut off as well.
func TestShutdownWhileTheDiskHangs(t *testing.T) {
	t.Parallel()
	p := &slowPusher{slow: "new", writing: make(chan struct{})}
	h := New(Options{})
	c := newConnection(h, p, "new")
	h.admit(c)
	came := make(chan error, 1)
	go func() {
		defer h.gone(c)
		came <- h.join(c)
	}()
	<-p.writing
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cut off with %v", err)
	}
	if err := <-came; !errors.Is(err, context.Canceled) {
		t.Errorf("the login ended with %v", err)
	}
}

// TestComeAndGo: however they come, are kicked and go, in the end nobody is online, and until then whoever has a connection is.
func TestComeAndGo(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{MaxConnections: 2})
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			for j := range 50 {
				user := fmt.Sprint("u", (i+j)%3)
				c := newConnection(h.hub, h.p, user)
				h.hub.admit(c)
				if err := h.hub.join(c); err != nil {
					t.Error(err)
				}
				h.hub.mu.RLock()
				u := h.hub.users[user]
				if u != nil && slices.Contains(u.connections, c) && u.held == 0 && u.session == nil {
					t.Error("there is a connection, and no session")
				}
				h.hub.mu.RUnlock()
				if j%5 == 0 {
					_ = h.hub.Kick(t.Context(), user)
				}
				h.hub.gone(c)
			}
		})
	}
	running.Wait()
	if n := h.p.Online(); n != 0 || len(h.hub.users) != 0 || len(h.hub.open) != 0 {
		t.Errorf("%d users are online; %d users and %d connections are left", n, len(h.hub.users), len(h.hub.open))
	}
}

// TestAckedIsKept: clients that come and go, lose connections amid frames, and acknowledge some of what they have: what is acknowledged in the end somebody has kept.
func TestAckedIsKept(t *testing.T) {
	t.Parallel()
	h := start(t, t.TempDir(), Options{MaxConnections: 2, PingEvery: time.Millisecond})
	users := []string{"alice", "bob", "carol"}
	if err := h.p.Register(t.Context(), users...); err != nil {
		t.Fatal(err)
	}
	const pushes = 100
	var mu sync.Mutex
	kept := make(map[string]map[string]bool) // by user and text
	news := make(chan struct{}, 1)
	keep := func(user string, text []byte) (id string) {
		var r received
		if err := json.Unmarshal(text, &r); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if kept[user] == nil {
			kept[user] = make(map[string]bool)
		}
		kept[user][r.Body] = true
		select {
		case news <- struct{}{}:
		default:
		}
		return r.ID
	}
	pushing, pushed := context.WithCancel(t.Context())
	var apps sync.WaitGroup
	for _, user := range users {
		for range 3 {
			apps.Go(func() {
				for pushing.Err() == nil {
					c, err := h.connect(user)
					if err != nil {
						t.Error(err)
						return
					}
					for range rand.N(20) {
						_, text, err := c.ws.Read(pushing)
						if err != nil {
							break
						}
						if id := keep(user, text); rand.N(4) == 0 {
							_ = c.ws.Write(t.Context(), websocket.MessageText, []byte(`{"ack":"`+id+`"}`)) // which may be lost
						}
					}
					_ = c.ws.CloseNow()
				}
			})
		}
	}
	for i := range pushes {
		h.push(strconv.Itoa(i), week)
		<-news // so that they are at it all the time
	}
	pushed()
	apps.Wait()
	if err := h.hub.Shutdown(t.Context()); err != nil { // the acks that have come are applied
		t.Error(err)
	}
	waiting := 0
	for _, user := range users {
		waits := make(map[string]bool)
		for m, err := range h.p.Pending(t.Context(), user) {
			if err != nil {
				t.Fatal(err)
			}
			waits[strings.Trim(string(m.Body), `"`)] = true
		}
		for i := range pushes {
			if text := strconv.Itoa(i); !kept[user][text] && !waits[text] {
				t.Errorf("%s does not have %s, and does not wait for it", user, text)
			}
		}
		waiting += len(waits)
	}
	if waiting == pushes*len(users) {
		t.Error("nothing was acknowledged")
	}
}
