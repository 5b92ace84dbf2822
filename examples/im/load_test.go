//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
)

var (
	connections = flag.Int("clients", 200, "WebSocket `connections` of TestLoad")
	kills       = flag.Int("kills", 1, "how many times TestLoad kills the server")
)

const (
	beforeKill = 12 // announcements that are sent before a kill, one right after the other
	killAt     = 4  // which of them, from 1, a third of the people have when the server is killed
	atLast     = 3  // announcements after the last kill
)

// TestLoad: the server is killed in the middle of a fan-out to many real clients, and started again. They connect again by themselves, and in the end
// everybody has every announcement, once by its ID and in order, and waits for none.
func TestLoad(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if need := uint64(*connections) + 200; files.Cur < need { // the Go runtime has raised it to files.Max
		t.Fatalf("a process may have %d files open, and %d connections need %d: ulimit -n %[3]d", files.Cur, *connections, need)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(max(1, *kills))*3*time.Minute) // of which a machine that is busy with other things needs a part
	defer cancel()
	r := &rampage{t: t, ctx: ctx, listen: freeAddress(t), dir: filepath.Join(t.TempDir(), "data")}
	r.start()
	began := time.Now()
	r.crowd = gather(ctx, t, "ws://"+r.listen+"/connection/websocket", *connections)
	t.Logf("%d people with %d connections are there after %v", len(r.crowd.people), *connections, time.Since(began).Round(time.Millisecond))

	for range *kills {
		r.killAmid()
	}
	if err := r.send(atLast); err != nil {
		t.Fatal(err)
	}
	all := len(r.crowd.people) * r.sent
	if err := r.crowd.await("everybody has acknowledged everything", func() bool { return r.crowd.acked == all }); err != nil {
		t.Fatal(err)
	}
	r.server.stop()
	r.crowd.leave()
	r.check()
	t.Logf("%d announcements, killed %d times: %d frames came, and %d of them, %d to people with two apps, were had already; everything is acknowledged after %v",
		r.sent, *kills, r.crowd.frames, r.crowd.again, r.crowd.twice, time.Since(began).Round(time.Millisecond))
	http.DefaultClient.CloseIdleConnections()
}

// rampage is a server that is killed under a crowd.
type rampage struct {
	t      *testing.T
	ctx    context.Context
	listen string
	dir    string
	crowd  *crowd
	sent   int // announcements that the server has taken
	server *child

	mu sync.Mutex
	up chan struct{} // closed when the server listens again
}

// start starts the server, on the same address and directory each time.
func (r *rampage) start() {
	r.server = startChild(r.t, r.listen, r.dir)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.up != nil {
		close(r.up)
	}
	r.up = make(chan struct{})
}

// killAmid sends, and kills the server when a third of the people have one of the announcements.
func (r *rampage) killAmid() {
	r.t.Helper()
	from, people := r.sent, len(r.crowd.people)
	at := from + killAt - 1
	r.crowd.mu.Lock()
	// From then on what is on its way is lost, as when a cable is pulled: else most of what the server has written would come after its end.
	r.crowd.deafen = func() bool { return r.crowd.hadBy(at, people/3) }
	r.crowd.mu.Unlock()
	sent := make(chan error, 1)
	go func() { sent <- r.send(beforeKill) }()
	if err := r.crowd.await("a third have it", r.crowd.deafened); err != nil {
		r.t.Fatal(err, <-sent)
	}
	r.server.kill()
	r.crowd.mu.Lock()
	r.crowd.deafen = nil
	had := append(slices.Clone(r.crowd.had[from:]), make([]int, beforeKill)...)[:beforeKill]
	acked := r.crowd.acked
	r.crowd.mu.Unlock()
	r.t.Logf("killed: of %d people so many have announcements %d to %d: %v; %d acknowledgements are answered so far", people, from, from+beforeKill-1, had, acked)
	began := time.Now()
	r.start()
	if err := <-sent; err != nil {
		r.t.Fatal(err)
	}
	if err := r.crowd.await("everybody has them", func() bool { return r.crowd.allHave(r.sent) }); err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("everybody has them %v later", time.Since(began).Round(time.Millisecond))
}

// send pushes so many announcements to all.
func (r *rampage) send(n int) error {
	for range n {
		if err := r.push(r.sent); err != nil {
			return err
		}
		r.sent++
	}
	return nil
}

// push pushes an announcement until the server has taken it. By its key it is one, however often.
func (r *rampage) push(n int) error {
	body, err := json.Marshal(map[string]string{"text": fmt.Sprint(n), "key": fmt.Sprint("announcement ", n)})
	if err != nil {
		return err
	}
	for {
		r.mu.Lock()
		up := r.up
		r.mu.Unlock()
		id, err := r.post(body)
		if err == nil {
			r.crowd.mu.Lock()
			defer r.crowd.mu.Unlock()
			if known := r.crowd.ids[n]; known != "" && known != id {
				return fmt.Errorf("announcement %d has the ID %s, and people got %s", n, id, known)
			}
			return nil
		}
		select {
		case <-up:
		case <-r.ctx.Done():
			return err
		}
	}
}

func (r *rampage) post(body []byte) (id string, err error) {
	req, err := http.NewRequestWithContext(r.ctx, http.MethodPost, "http://"+r.listen+"/push", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var out struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.ID == "" {
		return "", fmt.Errorf("a push is answered with %s: %w", resp.Status, err)
	}
	return out.ID, nil
}

// check looks at what everybody got, and at the files that the server has left.
func (r *rampage) check() {
	r.t.Helper()
	p, err := fanfare.Open(r.dir, fanfare.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := p.Close(context.Background()); err != nil {
			r.t.Error(err)
		}
	}()
	if err := p.Check(r.ctx); err != nil {
		r.t.Error(err)
	}
	for _, someone := range r.crowd.people {
		// Each is there once, by its ID. What is on its way when somebody's second connection opens may come over that one ahead of what the first has not
		// read yet: see transport.Online.
		if ordered := slices.IsSorted(someone.got); len(someone.got) != r.sent || !ordered && someone.apps == 1 {
			r.t.Errorf("%s got %v", someone.name, someone.got)
		} else if !ordered {
			r.t.Logf("%s, with two apps, got %v", someone.name, someone.got)
		}
		for m, err := range p.Pending(r.ctx, someone.name) {
			r.t.Errorf("%s still waits for %v, %v", someone.name, m, err)
		}
	}
	for n, id := range r.crowd.ids {
		task, err := p.Task(r.ctx, id)
		if err != nil {
			r.t.Fatal(err)
		}
		if progress, err := task.Progress(); err != nil || progress.Delivered != int64(len(r.crowd.people)) {
			r.t.Errorf("announcement %d: %+v, %v", n, progress, err)
		}
	}
}

// freeAddress is one that no connection is made from: while the server is away, one that is made to such an address may be made from it, and so with itself.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprint("127.0.0.1:", 18200+rand.IntN(100))
		if l, err := net.Listen("tcp", address); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return address
		}
	}
	t.Fatal("no address is free")
	return ""
}
