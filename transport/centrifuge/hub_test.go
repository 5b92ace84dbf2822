package centrifuge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge"
	client "github.com/centrifugal/centrifuge-go"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// nobody checks that the hub remembers no user.
func (w *world) nobody() {
	w.Helper()
	w.hub.mu.RLock()
	defer w.hub.mu.RUnlock()
	if n := len(w.hub.users); n != 0 {
		w.Errorf("the hub remembers %d users", n)
	}
}

func (a *app) closed(code uint32) {
	a.w.Helper()
	select {
	case e := <-a.lost:
		if e.Code != code {
			a.w.Errorf("the connection ended with %d %s, want %d", e.Code, e.Reason, code)
		}
	case <-time.After(patience):
		a.w.Fatal("the connection does not end")
	}
	<-a.w.of(a.id).left
}

// TestAck: what is acknowledged, by one or by many, is not waited for any more, also after the files were closed; the rest comes again.
func TestAck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld(t, dir, centrifuge.Config{})
	alice := w.must("alice")
	for i := range 5 {
		w.push(fmt.Sprint(i))
	}
	ids := alice.expect("0", "1", "2", "3", "4")
	if err := alice.ack(ids[3]); err != nil {
		t.Error(err)
	}
	if got := w.pending("alice"); !slices.Equal(got, []string{"0", "1", "2", "4"}) {
		t.Errorf("after an ack of 3 these are waited for: %v", got)
	}
	if err := alice.ack(ids[0], ids[2], ids[2], ids[3]); err != nil {
		t.Error(err)
	}
	w.stop()
	w = newWorld(t, dir, centrifuge.Config{})
	alice = w.must("alice")
	if err := alice.ack(alice.expect("1", "4")...); err != nil {
		t.Error(err)
	}
	if got := w.pending("alice"); got != nil {
		t.Errorf("after all acks these are waited for: %v", got)
	}
}

// TestAckOfTheForgotten: a message that there is not any more is done with, and holds up no other.
func TestAckOfTheForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{})
	alice := w.must("alice")
	w.push("1")
	w.push("2")
	ids := alice.expect("1", "2")
	forgotten := strings.Repeat("0", 32)
	for _, ack := range [][]string{{forgotten}, {ids[0], forgotten, ids[1]}, {"none at all"}} {
		if err := alice.ack(ack...); err != nil {
			t.Errorf("an ack of %v: %v", ack, err)
		}
	}
	if got := w.pending("alice"); got != nil {
		t.Errorf("these are waited for: %v", got)
	}
}

func TestBadAcks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{})
	alice := w.must("alice")
	w.push("1")
	id := alice.expect("1")[0]
	for what, data := range map[string]string{
		"no JSON": `"ids"`, "no object": `[]`, "none": `{}`, "no IDs": `{"ids":[]}`, "other than text": `{"ids":[7]}`,
		"too many": `{"ids":[` + strings.Repeat(`"`+id+`",`, maxAcks) + `"` + id + `"]}`,
		"too long": `{"ids":["` + id + `","` + strings.Repeat("x", maxAckBytes) + `"]}`,
	} {
		if err := new(client.Error); !errors.As(alice.call(AckMethod, []byte(data)), &err) || err.Code != centrifuge.ErrorBadRequest.Code {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := alice.call("other", nil); err != nil {
		t.Errorf("a call for the host: %v", err)
	}
	if err := alice.ack(slices.Repeat([]string{id}, maxAcks)...); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
	if err := w.p.Unregister(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if err := alice.ack(id); err == nil {
		t.Error("an ack of nobody is taken")
	}
	alice.closed(DisconnectUnknownUser.Code)
}

// TestSecondConnection: what one connection did not acknowledge comes to the next one too, and the user is online until the last one ends.
func TestSecondConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{})
	first := w.must("alice")
	w.push("1")
	w.push("2")
	first.expect("1", "2")
	second := w.must("alice")
	ids := second.expect("1", "2")
	if again := first.expect("1", "2"); !slices.Equal(again, ids) { // which it knows by their IDs
		t.Errorf("the first connection got %v, the second %v", again, ids)
	}
	if err := second.ack(ids...); err != nil {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	w.online("alice", true)
	w.push("3")
	second.expect("3")
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	w.online("alice", false)
	w.nobody()
	w.must("alice").expect("3")
}

// TestDeliverDuringJoin: a user's deliveries do not wait for the disk that a further connection of the user waits for.
func TestDeliverDuringJoin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{})
	alice := w.must("alice")
	u := w.hub.acquire("alice", false)
	defer w.hub.release("alice", u)
	u.turn.Lock() // as Join has it
	defer u.turn.Unlock()
	w.push("1")
	alice.expect("1")
}

// TestLostBeforeJoin: a connection that ended before the hub was told of it is not taken in.
func TestLostBeforeJoin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{})
	done := make(chan struct{})
	w.join = func(c *centrifuge.Client) { // a host that does not wait
		close(w.of(c.ID()).joined)
		go func() {
			defer close(done)
			<-w.of(c.ID()).left
			if err := w.hub.Join(c); err != nil {
				t.Error(err)
			}
		}()
	}
	if err := w.must("alice").Close(); err != nil {
		t.Error(err)
	}
	<-done
	w.online("alice", false)
	w.nobody()
}

// TestComingAndGoing: whatever connections of a user do at once, no message is lost, and nobody is left online.
func TestComingAndGoing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{})
	users := []string{"alice", "bob", "carol"}
	if err := w.p.Register(t.Context(), users...); err != nil {
		t.Fatal(err)
	}
	const pushes = 40
	var all sync.WaitGroup
	for _, user := range users {
		for range 4 {
			all.Go(func() {
				for range 10 {
					a, err := w.dial(user)
					if err == nil {
						err = a.Close()
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Go(func() {
		for range 20 {
			if err := w.hub.Kick(t.Context(), "carol"); err != nil {
				t.Error(err)
			}
		}
	})
	var want []string
	for i := range pushes {
		want = append(want, fmt.Sprint(i))
		w.push(fmt.Sprint(i))
	}
	all.Wait()
	w.nobody()
	for _, user := range users {
		w.online(user, false)
		a, got := w.must(user), make(map[string]string)
		for len(got) < pushes { // one that was under way to a connection before may come first, and again
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			m, err := a.Next(ctx)
			cancel()
			if err != nil {
				t.Fatalf("%s has %d of %d messages: %v", user, len(got), pushes, err)
			}
			got[m.ID] = string(m.Body)
		}
		var bodies []string
		for _, id := range slices.Sorted(maps.Keys(got)) {
			bodies = append(bodies, got[id])
		}
		if !slices.Equal(bodies, want) {
			t.Errorf("%s has %v", user, bodies)
		}
	}
}

func TestKick(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{})
	phone, desk, bob := w.must("alice"), w.must("alice"), w.must("bob")
	if err := errors.Join(w.hub.Kick(t.Context(), "alice"), w.hub.Kick(t.Context(), "nobody")); err != nil {
		t.Error(err)
	}
	w.online("alice", false)
	for _, a := range []*app{phone, desk} {
		a.closed(centrifuge.DisconnectForceNoReconnect.Code)
	}
	w.push("1")
	bob.expect("1")
	w.must("alice").expect("1")
}

// TestTooManyConnections: a user has so many, and the oldest goes for a new one; others are not concerned.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{})
	bob := w.must("bob")
	var apps []*app
	for range maxConnections + 1 {
		apps = append(apps, w.must("alice"))
	}
	apps[0].closed(DisconnectTooMany.Code)
	w.push("1")
	for _, a := range append(apps[1:], bob) {
		a.expect("1")
	}
}

// TestSlowClient: a connection that does not read is closed, and its user is offline then.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{ClientQueueMaxSize: 64 << 10})
	w.must("alice")
	resume := w.stall("alice")
	defer resume()
	left := w.of(func() string {
		w.hub.mu.RLock()
		defer w.hub.mu.RUnlock()
		return w.hub.users["alice"].clients[0].ID()
	}()).left
	m := &transport.Message{ID: strings.Repeat("0", 32), Body: []byte(`"` + strings.Repeat("x", 32<<10) + `"`)}
	sent := 0
	for ; w.hub.Deliver(t.Context(), "alice", m) == nil; sent++ {
		if sent == 1000 {
			t.Fatal("nothing is too much")
		}
	}
	<-left
	w.online("alice", false)
	if err := w.hub.Deliver(t.Context(), "alice", m); !errors.Is(err, ErrNotConnected) {
		t.Errorf("to nobody: %v", err)
	}
}

// TestShutdown: what was taken for a client is written before the connection ends, and the acks that came count.
func TestShutdown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld(t, dir, centrifuge.Config{})
	alice := w.must("alice")
	w.push("1")
	w.push("2")
	ids := alice.expect("1", "2")
	if err := alice.ack(ids[0]); err != nil {
		t.Error(err)
	}
	m := &transport.Message{ID: strings.Repeat("0", 32), Body: []byte(`"last"`)}
	if err := w.hub.Deliver(t.Context(), "alice", m); err != nil {
		t.Error(err)
	}
	w.stop()
	alice.expect(`"last"`)
	<-alice.away
	w.nobody()
	w = newWorld(t, dir, centrifuge.Config{})
	w.must("alice").expect("2")
}

// TestClosedPusher: a connection that the Pusher does not take is told to come again.
func TestClosedPusher(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{})
	first := w.must("alice")
	if err := w.p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := w.must("alice")
	for _, a := range []*app{first, second} {
		<-a.away
		<-w.of(a.id).left
		if len(a.lost) > 0 {
			t.Errorf("it is not to come again: %v", <-a.lost)
		}
	}
	w.nobody()
}

// TestNobodyInParticular: a connection of a user whom the Pusher never takes does not come again and again.
func TestNobodyInParticular(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{})
	w.join = func(c *centrifuge.Client) {
		if err := w.hub.Join(c); !errors.As(err, new(*fanfare.LimitError)) {
			t.Errorf("%q joins with %v", c.UserID(), err)
		}
		close(w.of(c.ID()).joined)
	}
	for _, user := range []string{"", strings.Repeat("x", 300)} {
		w.must(user).closed(centrifuge.DisconnectBadRequest.Code)
	}
	w.nobody()
}

// oneWay is a transport over which a client says nothing.
type oneWay struct{ centrifuge.Transport }

func (oneWay) Name() string                                { return "one way" }
func (oneWay) AcceptProtocol() string                      { return "" }
func (oneWay) Protocol() centrifuge.ProtocolType           { return centrifuge.ProtocolTypeJSON }
func (oneWay) ProtocolVersion() centrifuge.ProtocolVersion { return centrifuge.ProtocolVersion2 }
func (oneWay) Unidirectional() bool                        { return true }
func (oneWay) Emulation() bool                             { return false }
func (oneWay) DisabledPushFlags() uint64                   { return 0 }
func (oneWay) PingPongConfig() centrifuge.PingPongConfig   { return centrifuge.PingPongConfig{} }
func (oneWay) Write([]byte) error                          { return nil }
func (oneWay) WriteMany(...[]byte) error                   { return nil }
func (oneWay) Close(centrifuge.Disconnect) error           { return nil }

// TestUnidirectional: a connection that nothing can be acknowledged over is not taken in, and not ended either.
func TestUnidirectional(t *testing.T) {
	t.Parallel()
	w := newWorld(t, t.TempDir(), centrifuge.Config{})
	c, end, err := centrifuge.NewClient(t.Context(), w.node, oneWay{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.hub.Join(c); !errors.Is(err, ErrUnidirectional) {
		t.Errorf("it joins with %v", err)
	}
	w.nobody()
	if err := end(); err != nil {
		t.Error(err)
	}
}
