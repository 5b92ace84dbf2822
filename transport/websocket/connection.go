package websocket

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-im/fanfare"
)

const (
	writeTimeout = 10 * time.Second
	ackTimeout   = 10 * time.Second
	// maxUnacked is how many frames a connection remembers that the client has not acknowledged. The library has 64 messages with
	// retention on their way to a user; the others are messages without, which a client need not acknowledge.
	maxUnacked = 512
	// finishTimeout is for what is still in the queue and for acks that are on their way.
	finishTimeout = 5 * time.Second
)

// connection is one WebSocket of a user.
type connection struct {
	h      *Hub
	p      pusher
	user   string
	ready  chan struct{}   // has something when the queue may have
	ending context.Context // ends with the websocket.CloseError that the client is told
	ended  context.CancelCauseFunc
	io     context.Context // of reads and writes: its end cuts the connection off
	cut    context.CancelFunc
	acking atomic.Bool // nothing is read meanwhile

	mu    sync.Mutex
	queue []queued // to be written; not a channel, which would take the room of a full queue from the start
	sent  []string // the messages taken out of the queue, in order, that the client has not acknowledged
}

// queued is a message that waits to be written.
type queued struct {
	id   string
	data []byte
}

func newConnection(h *Hub, p pusher, user string) *connection {
	c := &connection{h: h, p: p, user: user, ready: make(chan struct{}, 1)}
	c.ending, c.ended = context.WithCancelCause(context.Background())
	c.io, c.cut = context.WithCancel(context.Background())
	return c
}

// put adds a message to the queue, or says that it is full. It never blocks.
func (c *connection) put(id string, data []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) >= c.h.o.Queue {
		return false
	}
	c.queue = append(c.queue, queued{id, data})
	select {
	case c.ready <- struct{}{}:
	default:
	}
	return true
}

// next takes the first frame out of the queue. From then on an ack of what comes behind it counts for it, and not before: a client
// may acknowledge here what it has from an earlier connection.
func (c *connection) next() (data []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil, false
	}
	first := c.queue[0]
	c.queue[0] = queued{}
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		c.queue = nil
	}
	if len(c.sent) >= maxUnacked { // the oldest comes again
		c.sent = slices.Delete(c.sent, 0, 1)
	}
	c.sent = append(c.sent, first.id)
	return first.data, true
}

// acked takes out what an acknowledgement is for: a message, and all that this connection was sent before it, the first time that
// it was. What another connection was sent is not among it, as that one may have lost it.
func (c *connection) acked(id string) (before []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.sent, id)
	if i < 0 { // it came over an earlier connection
		return nil
	}
	before = slices.Clone(c.sent[:i])
	c.sent = slices.Delete(c.sent, 0, i+1)
	return before
}

// end has the connection closed. It waits for nothing; the first reason is the one that the client is told.
func (c *connection) end(code websocket.StatusCode, reason string) {
	c.ended(websocket.CloseError{Code: code, Reason: reason})
}

// serve reads and writes until the connection has ended.
func (c *connection) serve(ws *websocket.Conn) {
	c.h.o.Logger.Debug("connected", "user", c.user)
	ws.SetReadLimit(c.h.o.ReadLimit)
	reading, hasRead := context.WithCancel(c.io)
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write(ws, reading)
	}()
	c.read(ws)
	hasRead()
	c.end(websocket.StatusNormalClosure, "")
	<-written
	c.h.o.Logger.Debug("disconnected", "user", c.user, "reason", context.Cause(c.ending).Error())
}

// read applies the acks of the client. When one has ended the connection, what follows is read all the same, until the client has answered the
// close: so a cut reaches that too.
func (c *connection) read(ws *websocket.Conn) {
	for hearing := true; ; {
		kind, text, err := ws.Read(c.io)
		if err != nil {
			return
		}
		hearing = hearing && c.hear(kind, text)
	}
}

// hear takes a frame of the client, or ends the connection for it.
func (c *connection) hear(kind websocket.MessageType, text []byte) bool {
	id, err := decodeAck(text)
	if kind != websocket.MessageText || err != nil {
		c.end(websocket.StatusPolicyViolation, errFrame.Error())
		return false
	}
	return c.ack(id)
}

// ack says that the client has a message and all that came before it; it does so also while the connection ends.
func (c *connection) ack(id string) bool {
	c.acking.Store(true)
	defer c.acking.Store(false)
	ctx, cancel := context.WithTimeout(c.io, ackTimeout)
	defer cancel()
	before := c.acked(id)
	err := c.p.Ack(ctx, c.user, id, before...)
	if errors.Is(err, fanfare.ErrUnknownTask) && len(before) > 0 { // one of those before, without a lifetime and never acknowledged, may be forgotten
		err = c.p.Ack(ctx, c.user, id)
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, fanfare.ErrUnknownTask):
		c.end(websocket.StatusPolicyViolation, "ack: no such message")
	case errors.Is(err, fanfare.ErrUnknownUser):
		c.end(websocket.StatusPolicyViolation, "the account was deleted")
	case errors.Is(err, fanfare.ErrClosed): // it comes again
		c.end(websocket.StatusGoingAway, stoppingReason)
	case c.io.Err() != nil: // cut off meanwhile
	default: // it comes again after fanfare.Options.AckTimeout; a client that was sent away would come back at once, and so would what it acknowledges
		c.h.o.Logger.Error("an ack failed", "user", c.user, "error", err)
		return true
	}
	return false
}

// write writes what is in the queue, pings now and then, and closes the connection in the end.
func (c *connection) write(ws *websocket.Conn, reading context.Context) {
	defer ws.CloseNow()
	err := c.writeOn(ws)
	c.h.leave(c) // so that nothing comes into the queue that nobody writes
	if err == nil {
		c.finish(ws, reading)
	}
}

// writeOn writes and pings until the connection is to end, or has.
func (c *connection) writeOn(ws *websocket.Conn) error {
	ping := time.NewTicker(c.h.o.PingEvery)
	defer ping.Stop()
	var pong <-chan error // nil: no ping is under way
	for {
		select {
		case <-c.ready:
			if err := c.writeQueue(ws, c.ending); err != nil {
				return err
			}
		case <-ping.C:
			if pong == nil {
				pong = c.ping(ws)
			}
		case err := <-pong:
			if err != nil {
				return err
			}
			pong = nil
		case <-c.ending.Done():
			return nil
		}
	}
}

// ping pings without holding up what is to be written. It says when the client has answered, or that its time is over.
func (c *connection) ping(ws *websocket.Conn) <-chan error {
	pong := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(c.io, c.h.o.PongTimeout)
		defer cancel()
		err := ws.Ping(ctx)
		if ctx.Err() == nil || c.acking.Load() { // it was not sent, because a large frame took its time; or the answer waits behind an ack, for the disk
			err = nil
		}
		pong <- err
	}()
	return pong
}

// writeQueue writes what is in the queue, until it is empty or until ends. Each frame has its own time.
func (c *connection) writeQueue(ws *websocket.Conn, until context.Context) error {
	for until.Err() == nil {
		data, ok := c.next()
		if !ok {
			return nil
		}
		ctx, cancel := context.WithTimeout(c.io, writeTimeout)
		err := ws.Write(ctx, c.h.kind, data)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// finish writes what is still in the queue and says why the connection ends.
func (c *connection) finish(ws *websocket.Conn, reading context.Context) {
	ctx, cancel := context.WithTimeout(c.io, finishTimeout)
	defer cancel()
	for data, ok := c.next(); ok; data, ok = c.next() {
		if ws.Write(ctx, c.h.kind, data) != nil {
			return
		}
	}
	var why websocket.CloseError
	if !errors.As(context.Cause(c.ending), &why) {
		return
	}
	if why.Code == websocket.StatusGoingAway {
		// Close reads no acks any more. The answer to a ping comes behind those that are on their way.
		ctx, cancel := context.WithTimeout(reading, finishTimeout)
		defer cancel()
		_ = ws.Ping(ctx)
	}
	_ = ws.Close(why.Code, why.Reason) // within 10 s
}
