package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
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

	"github.com/klauspost/compress/s2"
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
	for _, address := range unused(t, n) {
		routes = append(routes, &url.URL{Scheme: "nats", Host: address})
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
	return newSnapshots(nc, js, "c", journal, silent())
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

// wholly reads the newest snapshot to its end.
func wholly(t testing.TB, s *snapshots, atLeast uint64) (one snapshot, read []byte, err error) {
	t.Helper()
	one, err = s.newest(within(t), atLeast)
	if err != nil {
		return one, nil, err
	}
	r := s.read(within(t), one)
	defer r.Close()
	read, err = io.ReadAll(r)
	return one, read, err
}

// there are the buckets.
func there(t testing.TB, s *snapshots) []snapshot {
	t.Helper()
	l, err := s.list(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A snapshot is read as it was written, the newest one; older ones are gone then.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	s, ctx := site.snapshots(0, nil), within(t)
	if one, err := s.newest(ctx, 0); !errors.Is(err, errNoSnapshot) || one.bucket != "" {
		t.Fatal(one, err)
	}
	data := blocks(snapshotPart*2 + 12345)
	for i, b := range [][]byte{{}, data} {
		position := uint64(7 + 1000*i)
		if err := s.put(ctx, position, writes(b)); err != nil {
			t.Fatal(err)
		}
		one, read, err := wholly(t, s, position)
		if err != nil || one.position != position || !bytes.Equal(read, b) {
			t.Fatalf("%d bytes of %d at %d, %v", len(read), len(b), one.position, err)
		}
	}
	if err := s.put(ctx, 1008, writes(data)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.newest(ctx, 1009); !errors.Is(err, errNoSnapshot) {
		t.Fatal(err)
	}
	l := there(t, s)
	if len(l) != 1 || l[0].position != 1008 {
		t.Fatal(l)
	}
	for range 2 { // also when it is gone
		if err := s.remove(ctx, l[0]); err != nil {
			t.Fatal(err)
		}
	}
	if l := there(t, s); len(l) != 0 {
		t.Error(l)
	}
}

// The buckets of other clusters are not those of this one, however they are named.
func TestSnapshotNames(t *testing.T) {
	t.Parallel()
	s := newSnapshots(nil, nil, "c", nil, silent())
	if one, ok := s.named(s.name(1<<63 + 5)); !ok || one.position != 1<<63+5 {
		t.Error(one, ok)
	}
	id := "0123456789abcdef"
	for _, name := range []string{
		"", "fanfare-c-snapshot-", "fanfare-c-snapshot-1-" + id, "fanfare-c-snapshot-0000000000000000000x-" + id, "fanfare-d-snapshot-00000000000000000001-" + id,
		newSnapshots(nil, nil, "c-snapshot-00000000000000000001", nil, silent()).name(1), "fanfare-c-snapshot-00000000000000000001-" + id + "A", "fanfare-c-snapshot-99999999999999999999-" + id,
	} {
		if one, ok := s.named(name); ok {
			t.Errorf("%q is a snapshot at %d", name, one.position)
		}
	}
}

// A snapshot that is not completed is never one for others, and leaves nothing behind.
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
	if l := there(t, s); len(l) != 0 {
		t.Errorf("after an error there are %v", l)
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
	if l := there(t, s); len(l) != 0 {
		t.Errorf("after the context's end there are %v", l)
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
	if one, err := s.newest(ctx, 0); !errors.Is(err, errNoSnapshot) || one.position != 7 {
		t.Fatal(one, err)
	}
	if positions, err := s.positions(ctx); err != nil || len(positions) != 1 || positions[0] != 7 {
		t.Fatal(positions, err) // the log is kept
	}
	kept := ages{}
	for range 2 {
		if err := s.clean(ctx, kept); err != nil {
			t.Fatal(err)
		}
	}
	if len(there(t, s)) != 1 {
		t.Fatal("what may still be written was cleaned")
	}
	for bucket, a := range kept {
		kept[bucket] = age{a.written, a.complete, a.since.Add(-snapshotStale)}
	}
	if err := s.clean(ctx, kept); err != nil {
		t.Fatal(err)
	}
	if l := there(t, s); len(l) != 0 || len(kept) != 1 {
		t.Errorf("after cleaning there are %v, %v", l, kept)
	}
	if err := s.clean(ctx, kept); err != nil || len(kept) != 0 {
		t.Errorf("%v is kept, %v", kept, err)
	}
}

// gate is a write that goes on when the test says so.
type gate struct {
	data  []byte
	steps chan error // one for each time that the data is written, or an error with which writing ends; closed at the end
}

func (g *gate) write(w io.Writer) error {
	for err := range g.steps {
		if err != nil {
			return err
		}
		if _, err := w.Write(g.data); err != nil {
			return err
		}
	}
	return nil
}

// A snapshot is read while it is written. If that ends with an error the reader has one, and if it goes on to its end the reader has all of it.
func TestSnapshotFollowed(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprint(fails), func(t *testing.T) {
			t.Parallel()
			site := newSite(t, 1)
			s, ctx := site.snapshots(0, nil), within(t)
			g := &gate{blocks(snapshotPart * 2), make(chan error)}
			put := make(chan error, 1)
			go func() { put <- s.put(ctx, 9, g.write) }()
			g.steps <- nil
			one, err := s.newest(ctx, 9)
			if !errors.Is(err, errNoSnapshot) || one.position != 9 {
				t.Fatal(one, err)
			}
			r := s.read(ctx, one)
			defer r.Close()
			first := make([]byte, snapshotPart/2)
			if _, err := io.ReadFull(r, first); err != nil || !bytes.Equal(first, g.data[:len(first)]) {
				t.Fatal(err)
			}
			broken := errors.New("broken")
			if fails {
				g.steps <- broken
			} else {
				g.steps <- nil
			}
			close(g.steps)
			if err := <-put; errors.Is(err, broken) != fails {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(r)
			if fails {
				if err == nil {
					t.Errorf("%d bytes without an error", len(rest))
				}
				if r.failure() == nil {
					t.Error("it is not said that it was the snapshot")
				}
				return
			}
			if want := append(g.data[len(first):], g.data...); err != nil || !bytes.Equal(rest, want) {
				t.Errorf("%d bytes of %d, %v", len(rest), len(want), err)
			}
		})
	}
}

// damaged stores a snapshot of the parts given, each as change leaves it.
func damaged(t *testing.T, s *snapshots, position uint64, parts [][]byte, change func(publish func(subject string, data []byte), bucket string, i int, o *jetstream.ObjectInfo)) snapshot {
	t.Helper()
	ctx := within(t)
	one := snapshot{s.name(position), position}
	bucket, err := s.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: one.bucket})
	if err != nil {
		t.Fatal(err)
	}
	all := newSum()
	for i, b := range parts {
		o, err := s.putObject(ctx, bucket, jetstream.ObjectMeta{Name: partName(i)}, b)
		if err != nil {
			t.Fatal(err)
		}
		all.add(o)
		change(func(subject string, data []byte) {
			if _, err := s.js.Publish(ctx, subject, data); err != nil {
				t.Fatal(err)
			}
		}, one.bucket, i, o)
	}
	if _, err := s.putObject(ctx, bucket, jetstream.ObjectMeta{Name: lastObject, Metadata: all.metadata()}, nil); err != nil {
		t.Fatal(err)
	}
	return one
}

// What is stored otherwise than it was written is not handed out.
func TestSnapshotDamaged(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	s := site.snapshots(0, nil)
	var whole bytes.Buffer
	z := s2.NewWriter(&whole)
	data := blocks(3000)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	parts := [][]byte{whole.Bytes()[:1000], whole.Bytes()[1000:2000], whole.Bytes()[2000:]}
	remove := func(t *testing.T, bucket, subject string) {
		stream, err := s.js.Stream(within(t), bucketStream+bucket)
		if err == nil {
			err = stream.Purge(within(t), jetstream.WithPurgeSubject(subject))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range []struct {
		name   string
		change func(t *testing.T, publish func(string, []byte), bucket string, o *jetstream.ObjectInfo)
		fine   bool
	}{
		{"nothing", func(*testing.T, func(string, []byte), string, *jetstream.ObjectInfo) {}, true},
		{"what a writer left that began anew", func(_ *testing.T, publish func(string, []byte), bucket string, o *jetstream.ObjectInfo) {
			publish(chunksOf(bucket)+"other", []byte("begun"))
		}, true},
		{"a part twice", func(_ *testing.T, publish func(string, []byte), bucket string, o *jetstream.ObjectInfo) {
			b, _ := json.Marshal(o)
			publish(chunksOf(bucket)+o.NUID, parts[1])
			publish(metaOf(bucket, o.Name), b)
		}, true},
		{"other bytes", func(t *testing.T, publish func(string, []byte), bucket string, o *jetstream.ObjectInfo) {
			remove(t, bucket, chunksOf(bucket)+o.NUID)
			remove(t, bucket, metaOf(bucket, o.Name))
			b, _ := json.Marshal(o)
			publish(chunksOf(bucket)+o.NUID, bytes.Repeat([]byte{1}, len(parts[1])))
			publish(metaOf(bucket, o.Name), b)
		}, false},
		{"other bytes with their digest", func(t *testing.T, publish func(string, []byte), bucket string, o *jetstream.ObjectInfo) {
			remove(t, bucket, chunksOf(bucket)+o.NUID)
			remove(t, bucket, metaOf(bucket, o.Name))
			other := bytes.Repeat([]byte{1}, len(parts[1]))
			o.Digest = fmt.Sprintf("SHA-256=%s", base64.URLEncoding.EncodeToString(func() []byte { h := sha256.Sum256(other); return h[:] }()))
			b, _ := json.Marshal(o)
			publish(chunksOf(bucket)+o.NUID, other)
			publish(metaOf(bucket, o.Name), b)
		}, false},
		{"no chunks", func(t *testing.T, _ func(string, []byte), bucket string, o *jetstream.ObjectInfo) {
			remove(t, bucket, chunksOf(bucket)+o.NUID)
		}, false},
		{"no part", func(t *testing.T, _ func(string, []byte), bucket string, o *jetstream.ObjectInfo) {
			remove(t, bucket, chunksOf(bucket)+o.NUID)
			remove(t, bucket, metaOf(bucket, o.Name))
		}, false},
		{"too many bytes", func(_ *testing.T, publish func(string, []byte), bucket string, o *jetstream.ObjectInfo) {
			for range snapshotPart/len(whole.Bytes())/100 + 1 {
				publish(chunksOf(bucket)+"other", bytes.Repeat(whole.Bytes(), 100))
			}
		}, false},
		{"no form", func(_ *testing.T, publish func(string, []byte), bucket string, o *jetstream.ObjectInfo) {
			publish(metaOf(bucket, "what"), []byte("{"))
		}, false},
	} {
		t.Run(d.name, func(t *testing.T) {
			one := damaged(t, s, uint64(i), parts, func(publish func(string, []byte), bucket string, at int, o *jetstream.ObjectInfo) {
				if at == 1 {
					d.change(t, publish, bucket, o)
				}
			})
			r := s.read(within(t), one)
			got, err := io.ReadAll(r)
			r.Close()
			if d.fine {
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			} else if err == nil || r.failure() == nil {
				t.Errorf("%d bytes without an error", len(got))
			}
		})
	}
}

// The server of a snapshot may be gone. Then there is another snapshot for who asks, and what is left of the one is cleaned, and keeps the log meanwhile.
func TestSnapshotServerGone(t *testing.T) {
	t.Parallel()
	site := newSite(t, 3)
	ctx := within(t)
	site.journal(1) // so that the servers have met
	s := site.snapshots(0, nil)
	if err := untilThere(ctx, func(ctx context.Context) error { return s.put(ctx, 5, writes(blocks(10))) }); err != nil {
		t.Fatal(err)
	}
	one, err := s.newest(ctx, 5)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := s.js.Stream(ctx, bucketStream+one.bucket)
	if err != nil {
		t.Fatal(err)
	}
	kept := ages{}
	if err := s.clean(ctx, kept); err != nil {
		t.Fatal(err)
	}
	for i, server := range site.servers {
		if server.Name() == stream.CachedInfo().Cluster.Leader {
			s = site.snapshots((i+1)%len(site.servers), nil)
			server.Shutdown()
			server.WaitForShutdown()
		}
	}
	for {
		_, err := s.newest(ctx, one.position)
		if errors.Is(err, errNoSnapshot) {
			break
		}
		if !pause(ctx, snapshotLook) { // the others may not have found another leader yet
			t.Fatal(err)
		}
	}
	if positions, err := s.positions(ctx); err != nil || len(positions) != 1 || positions[0] != one.position {
		t.Fatal(positions, err)
	}
	if err := untilThere(ctx, func(ctx context.Context) error { return s.put(ctx, one.position, writes(blocks(20))) }); err != nil {
		t.Fatal(err)
	}
	_, read, err := wholly(t, s, one.position)
	if err != nil || len(read) != 20 {
		t.Fatal(len(read), err)
	}
	if err := s.clean(ctx, kept); err != nil {
		t.Fatal(err)
	}
	kept[one.bucket] = age{kept[one.bucket].written, kept[one.bucket].complete, kept[one.bucket].since.Add(-snapshotKept)}
	if err := s.clean(ctx, kept); err != nil {
		t.Fatal(err)
	}
	if l := there(t, s); len(l) != 1 || l[0].bucket == one.bucket {
		t.Error(l)
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
			r, err := s.ask(ctx, 40)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			if r.one.position != 50 {
				t.Error(r.one.position)
			}
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
	if _, err := s.ask(c, 51); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
