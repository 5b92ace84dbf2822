package websocket

import (
	"context"
	"errors"
	"slices"
	"sync"
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

	mu    sync.Mutex
	queue [][]byte // frames to be written; not a channel, which would take the room of a full queue from the start
	sent  []string // the messages put into queue, in order, that the client has not acknowledged
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
	c.queue = append(c.queue, data)
	select {
	case c.ready <- struct{}{}:
	default:
	}
	if len(c.sent) >= maxUnacked { // the oldest comes again
		c.sent = slices.Delete(c.sent, 0, 1)
	}
	c.sent = append(c.sent, id)
	return true
}

// next takes the first frame out of the queue.
func (c *connection) next() (data []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil, false
	}
	data, c.queue[0] = c.queue[0], nil
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		c.queue = nil
	}
	return data, true
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

// read applies the acks of the client.
func (c *connection) read(ws *websocket.Conn) {
	for {
		kind, text, err := ws.Read(c.io)
		if err != nil {
			return
		}
		id, err := decodeAck(text)
		if kind != websocket.MessageText || err != nil {
			c.end(websocket.StatusPolicyViolation, errFrame.Error())
			return
		}
		if !c.ack(id) {
			return
		}
	}
}

// ack says that the client has a message and all that came before it; it does so also while the connection ends.
func (c *connection) ack(id string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	err := c.p.Ack(ctx, c.user, id, c.acked(id)...)
	switch {
	case err == nil:
		return true
	case errors.Is(err, fanfare.ErrUnknownTask):
		c.end(websocket.StatusPolicyViolation, "ack: no such message")
	case errors.Is(err, fanfare.ErrUnknownUser):
		c.end(websocket.StatusPolicyViolation, "the account was deleted")
	case errors.Is(err, fanfare.ErrClosed): // it comes again
		c.end(websocket.StatusGoingAway, stoppingReason)
	default: // the same
		c.h.o.Logger.Error("an ack failed", "user", c.user, "error", err)
		c.end(websocket.StatusTryAgainLater, "try again")
	}
	return false
}

// write writes what is in the queue, pings now and then, and closes the connection in the end.
func (c *connection) write(ws *websocket.Conn, reading context.Context) {
	defer ws.CloseNow()
	ping := time.NewTicker(c.h.o.PingEvery)
	defer ping.Stop()
	for {
		select {
		case <-c.ready:
			if c.writeQueue(ws, c.ending) != nil {
				return
			}
		case <-ping.C:
			ctx, cancel := context.WithTimeout(c.ending, c.h.o.PongTimeout)
			err := ws.Ping(ctx)
			cancel()
			if err != nil && c.ending.Err() == nil {
				return
			}
		case <-c.ending.Done():
			c.finish(ws, reading)
			return
		}
	}
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
