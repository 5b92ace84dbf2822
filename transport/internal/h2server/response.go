package h2server

import (
	"slices"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Fault is what goes wrong with an answer.
type Fault uint8

const (
	// FaultNone lets the answer through.
	FaultNone Fault = iota
	// FaultReset resets the stream with Response.Code instead of an answer.
	FaultReset
	// FaultCut closes the TCP connection instead of an answer. Answers given
	// before are sent first.
	FaultCut
	// FaultCutBody closes the TCP connection after the header and half of the
	// body; of an answer without a body the end of the stream is missing.
	FaultCutBody
)

// Response is a handler's answer. Unless it is delayed, Fields and Body are no
// longer used when the handler is called again.
type Response struct {
	Status int // zero means 200
	// Fields are the header fields, names in lower case.
	Fields []hpack.HeaderField
	Body   []byte
	// Fault, if set, happens instead of the answer, at the time the answer is
	// due.
	Fault Fault
	Code  http2.ErrCode // of FaultReset
	// Until, if not nil, holds the answer back until it is closed; Delay holds
	// it back for a time after that. Other streams go on.
	Until <-chan struct{}
	Delay time.Duration
}

func (c *Conn) answer(id uint32, r Response) {
	if r.Until == nil && r.Delay <= 0 {
		c.mu.Lock()
		c.respond(id, &r)
		c.mu.Unlock()
		return
	}
	r.Fields, r.Body = slices.Clone(r.Fields), slices.Clone(r.Body)
	if r.Until == nil {
		c.after(id, r)
		return
	}
	c.srv.wg.Add(1) // safe beside Close: this connection's goroutine still counts
	go func() {
		defer c.srv.wg.Done()
		select {
		case <-r.Until:
			c.after(id, r)
		case <-c.done:
		}
	}()
}

// after answers when the delay is over. What comes after the connection's end
// finds its stream gone.
func (c *Conn) after(id uint32, r Response) {
	late := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.respond(id, &r)
		c.flushIfIdle()
	}
	if r.Delay <= 0 {
		late()
		return
	}
	time.AfterFunc(r.Delay, late)
}

// respond writes an answer or its fault; c.mu is held.
func (c *Conn) respond(id uint32, r *Response) {
	st := c.streams[id]
	if st == nil { // reset by the client meanwhile, or the connection is gone
		return
	}
	switch r.Fault {
	case FaultReset:
		_ = c.fr.WriteRSTStream(id, r.Code)
		c.forget(st)
		return
	case FaultCut:
		c.flush()
		c.Cut()
		return
	case FaultCutBody:
		c.writeHeader(id, r, false)
		if half := r.Body[:len(r.Body)/2]; len(half) > 0 && int64(len(half)) <= min(c.window, st.window, maxFrame) {
			_ = c.fr.WriteData(id, false, half)
		}
		c.flush()
		c.Cut()
		return
	}
	c.writeHeader(id, r, len(r.Body) == 0)
	if len(r.Body) == 0 {
		c.end(st)
		return
	}
	st.out = r.Body
	if !c.send(st) {
		// The client's window is too small now; the body outlives this call.
		st.out = slices.Clone(st.out)
	}
}

func (c *Conn) writeHeader(id uint32, r *Response, end bool) {
	c.block.Reset()
	status := "200"
	if r.Status != 0 && r.Status != 200 {
		status = strconv.Itoa(r.Status)
	}
	_ = c.enc.WriteField(hpack.HeaderField{Name: ":status", Value: status})
	for _, f := range r.Fields {
		_ = c.enc.WriteField(f)
	}
	b := c.block.Bytes()
	n := min(len(b), maxFrame)
	_ = c.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: b[:n], EndStream: end, EndHeaders: n == len(b),
	})
	for b = b[n:]; len(b) > 0; b = b[n:] {
		n = min(len(b), maxFrame)
		_ = c.fr.WriteContinuation(id, n == len(b), b[:n])
	}
}

// send writes as much of a stream's body as the client's windows allow and
// reports whether that was all; c.mu is held.
func (c *Conn) send(st *stream) bool {
	for len(st.out) > 0 {
		n := min(int64(len(st.out)), c.window, st.window, maxFrame)
		if n <= 0 {
			return false
		}
		_ = c.fr.WriteData(st.id, n == int64(len(st.out)), st.out[:n])
		c.window -= n
		st.window -= n
		st.out = st.out[n:]
	}
	c.end(st)
	return true
}

// end is called when an answer has been written whole.
func (c *Conn) end(st *stream) {
	if !st.ended {
		// Answered before the request was complete: RFC 9113, section 8.1, wants
		// to have the client told that the rest is not needed.
		_ = c.fr.WriteRSTStream(st.id, http2.ErrCodeNo)
	}
	c.forget(st)
}
