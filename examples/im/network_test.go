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
	links    []*link
	running  sync.WaitGroup
}

// link is a connection through the wire. What it lost does not come later.
type link struct {
	client, server net.Conn
	up, down       bool // under the wire's mu
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
		w.mend()
		w.running.Wait()
	})
	return w
}

func (w *wire) serve() {
	for {
		client, err := w.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", w.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		l := &link{client: client, server: server}
		w.mu.Lock()
		l.up, l.down = w.up, w.down
		w.links = append(w.links, l)
		w.mu.Unlock()
		w.running.Go(func() { w.pass(server, client, &l.up) })
		w.running.Go(func() { w.pass(client, server, &l.down) })
	}
}

// pass copies until the connection ends.
func (w *wire) pass(to, from net.Conn, open *bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		w.mu.Lock()
		passes := *open
		w.mu.Unlock()
		if passes && n > 0 {
			_, _ = to.Write(b[:n]) // or the other direction ends, too
		}
		if err != nil {
			return
		}
	}
}

// cut lets no more bytes to the server, or from it, pass.
func (w *wire) cut(up, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up, w.down = w.up && !up, w.down && !down
	for _, l := range w.links {
		l.up, l.down = w.up, w.down
	}
}

// mend lets new connections pass everything, and ends those that there are.
func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up, w.down = true, true
	for _, l := range w.links {
		_, _ = l.client.Close(), l.server.Close()
	}
	w.links = nil
}
