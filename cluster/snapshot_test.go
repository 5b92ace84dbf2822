package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// site is servers in this process, with a log.
type site struct {
	t        testing.TB
	servers  []*server.Server
	replicas int
}

func newSite(t testing.TB, n int) *site {
	t.Helper()
	s := &site{t: t, replicas: n}
	var routes []*url.URL
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		l.Close()
	}
	for i := range n {
		o := &server.Options{ServerName: fmt.Sprint("n", i), DontListen: true, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true}
		if n > 1 {
			o.DontListen = false
			o.Host, o.Port = "127.0.0.1", -1
			_, port, _ := net.SplitHostPort(routes[i].Host)
			fmt.Sscan(port, &o.Cluster.Port)
			o.Cluster.Name, o.Cluster.Host, o.Routes = "c", "127.0.0.1", routes
		}
		one, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		go one.Start()
		t.Cleanup(func() {
			one.Shutdown()
			one.WaitForShutdown()
		})
		s.servers = append(s.servers, one)
	}
	for _, one := range s.servers {
		if !one.ReadyForConnections(20 * time.Second) {
			t.Fatal("no server")
		}
	}
	return s
}

func (s *site) connect(i int) (*nats.Conn, jetstream.JetStream) {
	s.t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s.servers[i]))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	return nc, js
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (s *site) journal(records int) jetstream.Stream {
	s.t.Helper()
	_, js := s.connect(0)
	var log jetstream.Stream
	err := untilThere(within(s.t), func(ctx context.Context) (err error) {
		log, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "fanfare-c-log", Subjects: []string{"fanfare.c.log"}, Replicas: s.replicas})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range records {
		if _, err := js.Publish(within(s.t), "fanfare.c.log", fmt.Append(nil, "record ", i)); err != nil {
			s.t.Fatal(err)
		}
	}
	return log
}

func (s *site) snapshots(i int, journal jetstream.Stream) *snapshots {
	s.t.Helper()
	nc, js := s.connect(i)
	all, err := openSnapshots(within(s.t), nc, js, "c", s.replicas, journal, silent())
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// blocks are bytes that do not compress, the same each time.
func blocks(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func writes(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

func stored(t testing.TB, s *snapshots) uint64 {
	t.Helper()
	info, err := s.stream.Info(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

// A snapshot is read as it was written, the newest one; older ones are gone then.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	s, ctx := site.snapshots(0, nil), within(t)
	if _, _, err := s.get(ctx, 0); !errors.Is(err, errNoSnapshot) {
		t.Fatal(err)
	}
	data := blocks(snapshotPart*2 + 12345)
	for i, b := range [][]byte{{}, data} {
		position := uint64(7 + 1000*i)
		if err := s.put(ctx, position, writes(b)); err != nil {
			t.Fatal(err)
		}
		got, r, err := s.get(ctx, position)
		if err != nil || got != position {
			t.Fatal(got, err)
		}
		read, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(read, b) {
			t.Fatalf("%d bytes of %d, %v", len(read), len(b), err)
		}
		r.Close()
	}
	if err := s.put(ctx, 1008, writes(data)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.get(ctx, 1009); !errors.Is(err, errNoSnapshot) {
		t.Fatal(err)
	}
	l, err := s.list(ctx)
	if err != nil || len(l) != 1 || l[0].position != 1008 {
		t.Fatal(l, err)
	}
	if err := s.remove(ctx, l[0]); err != nil {
		t.Fatal(err)
	}
	if n := stored(t, s); n != 0 {
		t.Errorf("%d messages are left of what was removed", n)
	}
}

// A snapshot that is not completed is never there for others, and leaves nothing behind.
func TestSnapshotNotCompleted(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	s, ctx := site.snapshots(0, nil), within(t)
	data := blocks(snapshotPart + 5)
	broken := errors.New("broken")
	if err := s.put(ctx, 5, func(w io.Writer) error {
		if err := writes(data)(w); err != nil {
			return err
		}
		return broken
	}); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if n := stored(t, s); n != 0 {
		t.Errorf("%d messages are left after an error", n)
	}

	c, cancel := context.WithCancel(ctx)
	begun := make(chan struct{})
	go func() {
		<-begun
		cancel()
	}()
	err := s.put(c, 6, func(w io.Writer) error {
		if err := writes(data)(w); err != nil {
			return err
		}
		close(begun)
		for {
			if _, err := w.Write(data); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := stored(t, s); n != 0 {
		t.Errorf("%d messages are left after the context's end", n)
	}

	other := site.snapshots(0, nil)
	if err := other.put(ctx, 7, func(w io.Writer) error {
		for range 4 {
			if err := writes(data)(w); err != nil {
				return err
			}
		}
		other.nc.Close()
		return nil
	}); err == nil {
		t.Fatal("no error from a closed connection")
	}
	if _, _, err := s.get(ctx, 0); !errors.Is(err, errNoSnapshot) {
		t.Fatal(err)
	}
	if stored(t, s) == 0 {
		t.Fatal("there is nothing to clean")
	}
	kept := ages{}
	for range 2 {
		if err := s.clean(ctx, kept); err != nil {
			t.Fatal(err)
		}
	}
	if stored(t, s) == 0 {
		t.Fatal("what may still be written was cleaned")
	}
	for id, a := range kept {
		kept[id] = age{a.messages, a.since.Add(-snapshotStale)}
	}
	if err := s.clean(ctx, kept); err != nil {
		t.Fatal(err)
	}
	if n := stored(t, s); n != 0 {
		t.Errorf("%d messages are left after cleaning", n)
	}
}

// What is stored otherwise than it was written is not handed out, nor is a snapshot of which anything is missing.
func TestSnapshotDamaged(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	s, ctx := site.snapshots(0, nil), within(t)
	data := blocks(snapshotPart * 2)
	if err := s.put(ctx, 5, writes(data)); err != nil {
		t.Fatal(err)
	}
	l, err := s.list(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// The part's chunks are other ones than its digest is of.
	if err := s.stream.Purge(ctx, jetstream.WithPurgeSubject(s.chunks(l[0].parts[2].NUID))); err != nil {
		t.Fatal(err)
	}
	if err := s.nc.Publish(s.chunks(l[0].parts[2].NUID), []byte("other bytes")); err != nil {
		t.Fatal(err)
	}
	if err := s.nc.FlushWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	_, r, err := s.get(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if !errors.Is(err, jetstream.ErrDigestMismatch) || !bytes.Equal(got, data[:len(got)]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := s.stream.Purge(ctx, jetstream.WithPurgeSubject(s.meta(l[0].parts[1].Name))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.get(ctx, 0); !errors.Is(err, errNoSnapshot) {
		t.Error(err)
	}
}

// Two that ask get the one snapshot that is made, although two can make it.
func TestSnapshotAskedFor(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	ctx, stop := context.WithCancel(within(t))
	_, js := site.connect(0)
	kv, err := openBucket(ctx, js, leaseBucket("c", 1))
	if err != nil {
		t.Fatal(err)
	}
	data := blocks(100000)
	var made atomic.Int32
	var answering, asking sync.WaitGroup
	for i := range 2 {
		s := site.snapshots(0, nil)
		l := newLeases(kv, fmt.Sprint("n", i), testTTL, silent())
		answering.Go(func() {
			err := s.answer(ctx, l, func(_ context.Context, _ uint64, put func(uint64, func(io.Writer) error) error) error {
				made.Add(1)
				return put(50, writes(data))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range 2 {
		s := site.snapshots(0, nil)
		asking.Go(func() {
			position, r, err := s.ask(ctx, 40)
			if err != nil || position != 50 {
				t.Error(position, err)
				return
			}
			defer r.Close()
			if err := iotest.TestReader(r, data); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	stop()
	answering.Wait()
	if n := made.Load(); n != 1 {
		t.Errorf("%d were made", n)
	}
	s := site.snapshots(0, nil)
	c, cancel := context.WithCancel(within(t))
	cancel()
	if _, _, err := s.ask(c, 51); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
