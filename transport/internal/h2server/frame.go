package h2server

import (
	"errors"

	"golang.org/x/net/http2"
)

func (c *Conn) frame(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.HeadersFrame:
		return c.headers(f)
	case *http2.ContinuationFrame:
		return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.DataFrame:
		return c.data(f)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := f.(type) {
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = c.fr.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		return c.windowUpdate(f)
	case *http2.RSTStreamFrame:
		if st := c.streams[f.StreamID]; st != nil {
			c.forget(st)
		}
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

func (c *Conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
		for _, st := range c.streams {
			st.window += int64(v) - c.initial
		}
		c.initial = int64(v)
		c.sendAll()
	}
	_ = c.fr.WriteSettingsAck()
	return nil
}

func (c *Conn) windowUpdate(f *http2.WindowUpdateFrame) error {
	const most = 1<<31 - 1
	if f.StreamID == 0 {
		c.window += int64(f.Increment)
		if c.window > most {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.sendAll()
		return nil
	}
	st := c.streams[f.StreamID]
	if st == nil {
		return nil
	}
	st.window += int64(f.Increment)
	if st.window > most {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeFlowControl}
	}
	if len(st.out) > 0 {
		c.send(st)
	}
	return nil
}

func (c *Conn) sendAll() {
	for _, st := range c.streams {
		if len(st.out) > 0 {
			c.send(st)
		}
	}
}

// survives reports whether the connection goes on after err, and tells the
// client what was wrong.
func (c *Conn) survives(err error) bool {
	var se http2.StreamError
	var ce http2.ConnectionError
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.As(err, &se):
		_ = c.fr.WriteRSTStream(se.StreamID, se.Code)
		if st := c.streams[se.StreamID]; st != nil {
			c.forget(st)
		}
		return true
	case errors.As(err, &ce):
		_ = c.fr.WriteGoAway(c.last, http2.ErrCode(ce), nil)
	case errors.Is(err, http2.ErrFrameTooLarge):
		_ = c.fr.WriteGoAway(c.last, http2.ErrCodeFrameSize, nil)
	}
	return false
}
