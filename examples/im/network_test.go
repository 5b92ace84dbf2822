package main

import (
	"net"
	"sync"
	"testing"
)

// wire is the line to a server, that a test can cut: nothing passes then, and neither side is told, as when a phone loses its network.
type wire struct {
	net.Listener
	to string

	mu       sync.Mutex
	up, down bool // whether bytes to the server, and from it, pass
	conns    []net.Conn
	running  sync.WaitGroup
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, to: to, up: true, down: true}
	w.running.Go(w.serve)
	t.Cleanup(func() {
		_ = l.Close()
		w.hang()
		w.running.Wait()
	})
	return w
}

func (w *wire) serve() {
	for {
		in, err := w.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", w.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, in, out)
		w.mu.Unlock()
		w.running.Go(func() { w.pass(out, in, &w.up) })
		w.running.Go(func() { w.pass(in, out, &w.down) })
	}
}

// pass copies until the connection ends. What comes while the line is cut is lost.
func (w *wire) pass(to, from net.Conn, open *bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		w.mu.Lock()
		passes := *open
		w.mu.Unlock()
		if n > 0 && passes {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut lets bytes to the server, and from it, pass, or not.
func (w *wire) cut(up, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up, w.down = !up, !down
}

// mend lets everything pass again. The connections that there were are gone.
func (w *wire) mend() {
	w.cut(false, false)
	w.hang()
}

func (w *wire) hang() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}
