package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// inbox is an Online transport that keeps what each user got.
type inbox struct {
	mu  sync.Mutex
	got map[string][]string
	new chan struct{}
}

func newInbox() *inbox { return &inbox{got: make(map[string][]string), new: make(chan struct{}, 1)} }

func (b *inbox) Deliver(_ context.Context, user string, m *transport.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got[user] = append(b.got[user], string(m.Body))
	select {
	case b.new <- struct{}{}:
	default:
	}
	return nil
}

func (b *inbox) of(user string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.got[user]...)
}

func ports(t testing.TB, n int) (list []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		list = append(list, l.Addr().String())
	}
	return list
}

func testLogger(t testing.TB, name string) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(writerOf{t, name}, nil))
}

type writerOf struct {
	t    testing.TB
	name string
}

func (w writerOf) Write(b []byte) (int, error) {
	w.t.Logf("%s: %s", w.name, b)
	return len(b), nil
}

var _ io.Writer = writerOf{}

func TestOpenThree(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	addresses := ports(t, 3)
	nodes := make([]*fanfare.Pusher, 3)
	boxes := make([]*inbox, 3)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range nodes {
		boxes[i] = newInbox()
		name := string(rune('a' + i))
		wg.Go(func() {
			p, err := Open(ctx, filepath.Join(dir, name), Options{
				Name: name, Listen: addresses[i], Peers: addresses,
				Options: fanfare.Options{Online: boxes[i], Logger: testLogger(t, name)},
			})
			if err != nil {
				t.Error(err)
				return
			}
			nodes[i] = p
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	t.Log("open", time.Since(began))
	for i := range 9 {
		if _, err := nodes[i%3].Connect(ctx, fmt.Sprint("u", i)); err != nil {
			t.Fatal(err)
		}
	}
	began = time.Now()
	for i := range 3 {
		task, err := nodes[i].Push(ctx, fanfare.Message{To: fanfare.All(), Body: []byte(fmt.Sprint("m", i))})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(task.ID, time.Since(began))
	}
	for i := range 9 {
		for len(boxes[i%3].of(fmt.Sprint("u", i))) < 3 {
			select {
			case <-boxes[i%3].new:
			case <-ctx.Done():
				t.Fatal("not all came", boxes[i%3].of(fmt.Sprint("u", i)))
			}
		}
	}
	t.Log("all", time.Since(began))
	for _, p := range nodes {
		if err := p.Check(ctx); err != nil {
			t.Error(err)
		}
	}
	for _, p := range nodes {
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}
