package h2server

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stream is a request from its HEADERS to the end of its answer.
type stream struct {
	id         uint32
	method     string
	path       string
	fields     []hpack.HeaderField
	body       []byte
	ended      bool   // the client has sent END_STREAM
	dispatched bool   // the handler has it
	tooLarge   bool   // body is not all of it
	window     int64  // what the client lets us send
	out        []byte // what of the answer's body waits for the window
}

// block is the header block that is being read, maybe over several frames.
type block struct {
	st        *stream // nil: decode, since the table must stay in step, and drop
	id        uint32
	end       bool // END_STREAM
	trailer   bool
	size      int // of the list, as RFC 9113 counts
	fragments int // bytes on the wire
	malformed bool
}

var errCalm = http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)

func (c *Conn) headers(f *http2.HeadersFrame) error {
	id := f.StreamID
	c.mu.Lock()
	st := c.streams[id]
	trailer := st != nil
	var err error
	if st == nil {
		st, err = c.open(id)
	} else if st.ended {
		st = nil
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.blk = block{st: st, id: id, end: f.StreamEnded(), trailer: trailer}
	return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
}

// open makes a stream of a new id. It returns nil, without an error, for one
// that is refused or comes after the last that a GOAWAY promised to process.
func (c *Conn) open(id uint32) (*stream, error) {
	if id%2 == 0 {
		return nil, http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if id <= c.seen { // HEADERS on a closed stream, as after our RST_STREAM
		return nil, nil
	}
	c.seen = id
	if c.goingAway {
		return nil, nil
	}
	if uint32(len(c.streams)) >= c.max {
		_ = c.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		return nil, nil
	}
	c.last = id
	var st *stream
	if n := len(c.free); n > 0 {
		st, c.free = c.free[n-1], c.free[:n-1]
	} else {
		st = new(stream)
	}
	*st = stream{id: id, fields: st.fields[:0], body: st.body[:0], window: c.initial}
	c.streams[id] = st
	return st, nil
}

// forget ends a stream, and with the last one a connection that goes away; c.mu
// is held.
func (c *Conn) forget(st *stream) {
	if c.streams[st.id] != st {
		return
	}
	delete(c.streams, st.id)
	st.out = nil
	if len(c.free) < 256 {
		c.free = append(c.free, st)
	}
	if c.goingAway && len(c.streams) == 0 {
		c.linger()
	}
}

func (c *Conn) fragment(b []byte, end bool) error {
	c.blk.fragments += len(b)
	if c.blk.fragments > 4*c.srv.o.MaxHeader {
		return errCalm
	}
	if _, err := c.dec.Write(b); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	if !end {
		return nil
	}
	if err := c.dec.Close(); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	c.headersEnd()
	return nil
}

// field is what the decoder emits.
func (c *Conn) field(f hpack.HeaderField) {
	b := &c.blk
	if b.st == nil || b.trailer {
		return
	}
	b.size += len(f.Name) + len(f.Value) + 32
	if b.size > c.srv.o.MaxHeader {
		return
	}
	if f.IsPseudo() {
		c.pseudo(f)
		return
	}
	for i := range len(f.Name) {
		if ch := f.Name[i]; ch <= ' ' || ch >= 0x7f || 'A' <= ch && ch <= 'Z' {
			b.malformed = true
		}
	}
	b.st.fields = append(b.st.fields, f)
}

func (c *Conn) pseudo(f hpack.HeaderField) {
	st := c.blk.st
	twice := false
	switch f.Name {
	case ":method":
		twice, st.method = st.method != "", f.Value
	case ":path":
		twice, st.path = st.path != "", f.Value
	case ":scheme", ":authority":
	default:
		twice = true
	}
	if twice || len(st.fields) > 0 {
		c.blk.malformed = true
	}
}

func (c *Conn) headersEnd() {
	b := &c.blk
	st := b.st
	if st == nil {
		return
	}
	if b.trailer {
		b.malformed = !b.end
	} else if b.size <= c.srv.o.MaxHeader && (st.method == "" || st.path == "") {
		b.malformed = true
	}
	if b.malformed {
		c.mu.Lock()
		_ = c.fr.WriteRSTStream(b.id, http2.ErrCodeProtocol)
		c.forget(st)
		c.mu.Unlock()
		return
	}
	c.mu.Lock()
	st.ended = b.end
	c.mu.Unlock()
	if b.size > c.srv.o.MaxHeader {
		st.dispatched = true
		c.answer(st.id, Response{Status: 431})
		return
	}
	if st.ended && !st.dispatched {
		c.dispatch(st)
	}
}

func (c *Conn) data(f *http2.DataFrame) error {
	c.credit(int64(f.Length))
	if f.StreamID > c.seen {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	st, err := c.received(f.StreamID, f.StreamEnded())
	if st == nil || err != nil {
		return err
	}
	room := c.srv.o.MaxBody - len(st.body)
	st.tooLarge = len(f.Data()) > room
	st.body = append(st.body, f.Data()[:min(room, len(f.Data()))]...)
	if st.ended || st.tooLarge {
		c.dispatch(st)
	}
	return nil
}

// received returns the stream whose request data belongs to. It is nil if the
// data is not wanted: the stream was refused or reset, came after a GOAWAY, or
// is with the handler already, its body being too large.
func (c *Conn) received(id uint32, end bool) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.streams[id]
	if st == nil {
		return nil, nil
	}
	if st.ended {
		return nil, http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
	}
	st.ended = end // a late answer reads it
	if st.dispatched {
		return nil, nil
	}
	return st, nil
}

// credit gives the client back what it has sent, in large steps. A stream needs
// none: its whole body fits the window that it begins with.
func (c *Conn) credit(n int64) {
	c.owed += n
	if c.owed >= recvWindow/2 {
		c.mu.Lock()
		_ = c.fr.WriteWindowUpdate(0, uint32(c.owed))
		c.mu.Unlock()
		c.owed = 0
	}
}

func (c *Conn) dispatch(st *stream) {
	st.dispatched = true
	id := st.id
	c.req = Request{
		Method: st.method, Path: st.path, Fields: st.fields, Body: st.body,
		TooLarge: st.tooLarge, Conn: c,
	}
	resp := c.srv.o.Handler(&c.req)
	c.answer(id, resp)
}
