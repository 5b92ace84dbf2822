package fanfare

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
)

// messages are the messages under way, and some that were lately.
type messages struct {
	d      *delivery
	mu     sync.Mutex
	cached map[uint64]*message
}

// maxMessages is how many messages are kept when nothing uses them.
const maxMessages = 1024

// message is a message under way.
type message struct {
	seq     uint64
	m       *transport.Message
	note    []byte
	decoded sync.Once
	shown   *transport.Content // the note
	expires int64
	ended   atomic.Bool
	now     func() time.Time
	f       *flight // of a message without retention
	refs    int     // under messages.mu
	over    bool    // under messages.mu: its task is complete, and whoever uses it is the last to
	loaded  chan struct{}
	err     error // of loading it

	fill   Fill
	parsed sync.Once
	filled *filler
}

func newMessage(m *store.Message) *message {
	return &message{seq: m.Seq, m: transportMessage(m), note: m.Note, expires: m.Expires, fill: Fill(m.Fill)}
}

func transportMessage(m *store.Message) *transport.Message {
	return &transport.Message{
		ID: store.MessageID(m.Seq, m.Random), Sequence: m.Seq, From: m.From, Body: m.Body,
		Accepted: time.UnixMilli(m.Accepted), Expires: time.UnixMilli(m.Expires),
	}
}

// deliverable says whether a Deliver may begin.
func (m *message) deliverable() bool {
	return !m.ended.Load() && (m.f != nil || m.now().UnixMilli() < m.expires)
}

// left is how long the message may still be delivered; one without retention as long as it takes.
func (m *message) left() time.Duration {
	if m.f != nil {
		return 1 << 62
	}
	return time.UnixMilli(m.expires).Sub(m.now())
}

// acquire returns a message for use, nil if its task has ended, or, with the error, if it cannot be read. The
// flight is given where the message may be one without retention. Each acquired message is released once.
func (c *messages) acquire(seq uint64, f *flight) (*message, error) {
	if f != nil && f.fleeting() {
		return f.message, nil
	}
	c.mu.Lock()
	m, load := c.entry(seq)
	c.mu.Unlock()
	return c.ready(m, load)
}

// acquireAll appends those of several messages with retention that have not ended and can be read.
func (c *messages) acquireAll(seqs []uint64, to []*message) []*message {
	n := len(to)
	var loads []bool
	c.mu.Lock()
	for i, seq := range seqs {
		m, load := c.entry(seq)
		if load && loads == nil {
			loads = make([]bool, len(seqs))
		}
		if load {
			loads[i] = true
		}
		to = append(to, m)
	}
	c.mu.Unlock()
	good := to[:n]
	for i, m := range to[n:] {
		if m, _ := c.ready(m, loads != nil && loads[i]); m != nil {
			good = append(good, m)
		}
	}
	return good
}

// entry returns the entry of a message, counted as used, and whether it is new and the caller has to load it.
func (c *messages) entry(seq uint64) (m *message, load bool) {
	m = c.cached[seq]
	if load = m == nil; load {
		if len(c.cached) >= maxMessages {
			c.evict()
		}
		// The entry is there before the message is read, so that an end that comes in between marks it.
		m = &message{seq: seq, now: c.d.o.now, loaded: make(chan struct{})}
		c.cached[seq] = m
	}
	m.refs++
	return m, load
}

// ready loads a message, or waits until it is loaded.
func (c *messages) ready(m *message, load bool) (*message, error) {
	if load {
		s, err := c.d.store.Message(m.seq)
		m.err = err
		if err != nil {
			c.d.fault("read message", err, "sequence", m.seq)
		} else if s != nil {
			m.m, m.note, m.expires, m.fill = transportMessage(s), s.Note, s.Expires, Fill(s.Fill)
		}
		close(m.loaded)
	} else {
		<-m.loaded
	}
	if m.m == nil {
		c.mu.Lock()
		if c.cached[m.seq] == m { // not kept: the next one asks the store again
			delete(c.cached, m.seq)
		}
		c.mu.Unlock()
		return nil, m.err
	}
	return m, nil
}

func (c *messages) evict() {
	for seq, m := range c.cached {
		if m.refs == 0 {
			delete(c.cached, seq)
			return
		}
	}
}

func (c *messages) retain(m *message) {
	if m.f == nil {
		c.mu.Lock()
		m.refs++
		c.mu.Unlock()
	}
}

func (c *messages) release(m *message) {
	if m.f == nil {
		c.mu.Lock()
		if m.refs--; m.over && m.refs == 0 {
			delete(c.cached, m.seq)
		}
		c.mu.Unlock()
	}
}

// keep has a message at hand that has just been accepted. In a cluster its task may be complete, and its body not be in the store any more, before the lanes come to it.
func (c *messages) keep(s *store.Message) {
	m := newMessage(s)
	m.now, m.loaded = c.d.o.now, make(chan struct{})
	close(m.loaded)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cached) >= maxMessages {
		c.evict()
	}
	c.cached[m.seq] = m
}

// hold returns a message for use if it is at hand, else nil.
func (c *messages) hold(seq uint64) *message {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.cached[seq]
	if m != nil {
		m.refs++
	}
	return m
}

// complete lets go of a message that everybody has. Who is using it goes on: it is on its way to connections here, of users who have others elsewhere.
func (c *messages) complete(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.cached[seq]; m != nil {
		if m.over = true; m.refs == 0 {
			delete(c.cached, seq)
		}
	}
}

func (c *messages) end(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.cached[seq]; m != nil {
		m.ended.Store(true)
		delete(c.cached, seq)
	}
}
