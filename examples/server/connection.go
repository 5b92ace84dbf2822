package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-im/fanfare"
)

const (
	maxRead      = 4 << 10 // bytes of a frame from a client
	writeTimeout = 10 * time.Second
	ackTimeout   = 10 * time.Second
	pingEvery    = 30 * time.Second
	pongTimeout  = 10 * time.Second
	// maxUnacked is how many frames a connection remembers that the client has not acknowledged. The library has 64 messages with
	// retention on their way to a user; the others are messages without, which a client need not acknowledge.
	maxUnacked = 512
	// finishTimeout is for what is still in the queue and for acks that are on their way.
	finishTimeout = 5 * time.Second
)

// connection is one WebSocket of a user.
type connection struct {
	g      *gateway
	user   string
	out    chan []byte
	mu     sync.Mutex
	sent   []string        // the messages put into out, in order, that the client has not acknowledged
	ending context.Context // ends with the websocket.CloseError that the client is told
	ended  context.CancelCauseFunc
	io     context.Context // of reads and writes: its end cuts the connection off
	cut    context.CancelFunc
}

func newConnection(g *gateway, user string) *connection {
	c := &connection{g: g, user: user, out: make(chan []byte, g.queue)}
	c.ending, c.ended = context.WithCancelCause(context.Background())
	c.io, c.cut = context.WithCancel(context.Background())
	return c
}

// put adds a message to the queue, or says that it is full. It never blocks.
func (c *connection) put(id string, text []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.out <- text:
	default:
		return false
	}
	if len(c.sent) >= maxUnacked { // the oldest comes again
		c.sent = slices.Delete(c.sent, 0, 1)
	}
	c.sent = append(c.sent, id)
	return true
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
	c.g.log.Debug("connected", "user", c.user)
	ws.SetReadLimit(maxRead)
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
	c.g.log.Debug("disconnected", "user", c.user, "reason", context.Cause(c.ending).Error())
}

// read applies the acks of the client.
func (c *connection) read(ws *websocket.Conn) {
	for {
		kind, text, err := ws.Read(c.io)
		if err != nil {
			return
		}
		var in struct {
			Ack string `json:"ack"`
		}
		if kind != websocket.MessageText || json.Unmarshal(text, &in) != nil || in.Ack == "" {
			c.end(websocket.StatusPolicyViolation, `a frame must be text, {"ack":"<id>"}`)
			return
		}
		if !c.ack(in.Ack) {
			return
		}
	}
}

// ack says that the client has a message and all that came before it; it does so also while the connection ends.
func (c *connection) ack(id string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	err := c.g.p.Ack(ctx, c.user, id, c.acked(id)...)
	switch {
	case err == nil:
		return true
	case errors.Is(err, fanfare.ErrUnknownTask):
		c.end(websocket.StatusPolicyViolation, "ack: no such message")
	case errors.Is(err, fanfare.ErrUnknownUser):
		c.end(websocket.StatusPolicyViolation, "the account was deleted")
	default: // it comes again
		c.g.log.Error("an ack failed", "user", c.user, "error", err)
		c.end(websocket.StatusTryAgainLater, "try again")
	}
	return false
}

// write writes what is in the queue, pings now and then, and closes the connection in the end.
func (c *connection) write(ws *websocket.Conn, reading context.Context) {
	defer ws.CloseNow()
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case text := <-c.out:
			ctx, cancel := context.WithTimeout(c.io, writeTimeout)
			err := ws.Write(ctx, websocket.MessageText, text)
			cancel()
			if err != nil {
				return
			}
		case <-ping.C:
			ctx, cancel := context.WithTimeout(c.ending, pongTimeout)
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

// finish writes what is still in the queue and says why the connection ends.
func (c *connection) finish(ws *websocket.Conn, reading context.Context) {
	ctx, cancel := context.WithTimeout(c.io, finishTimeout)
	defer cancel()
	for len(c.out) > 0 {
		if ws.Write(ctx, websocket.MessageText, <-c.out) != nil {
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
