package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/store"
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

func (s *site) snapshots(i int) *snapshots {
	s.t.Helper()
	nc, _ := s.connect(i)
	return newSnapshots(nc, "c", silent())
}

// blocks are bytes that do not compress, the same each time.
func blocks(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// sends is what a node sends that has data as its state at a position, and goes on with each piece of it when the gate says so, if there is one.
func sends(position uint64, data []byte, gate <-chan error) sendFunc {
	return func(ctx context.Context, begin func(uint64, int64) (store.Taker, error)) error {
		data := data
		to, err := begin(position, int64(len(data)))
		if err != nil {
			return err
		}
		for len(data) > 0 {
			if gate != nil {
				select {
				case err := <-gate:
					if err != nil {
						return err
					}
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			n, err := to.Ready(ctx)
			if err != nil {
				return err
			}
			n = min(n, len(data))
			if _, err := to.Write(data[:n]); err != nil {
				return err
			}
			data = data[n:]
		}
		return nil
	}
}

// answers has a node answer until the end of the test, and returns what ends it before.
func answers(t *testing.T, s *snapshots, position uint64, send sendFunc) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var answering sync.WaitGroup
	answering.Go(func() {
		if err := s.answer(ctx, func(atLeast uint64) bool { return position >= atLeast }, send); err != nil {
			t.Error(err)
		}
	})
	stop = func() {
		cancel()
		answering.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// A snapshot is received as it was sent, whatever it is of, between servers too.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	for _, servers := range []int{1, 3} {
		for _, size := range []int{0, 1, snapshotChunk, 3*snapshotWindow + 12345} {
			t.Run(fmt.Sprint(servers, size), func(t *testing.T) {
				t.Parallel()
				site := newSite(t, servers)
				data := blocks(size)
				answers(t, site.snapshots(0), 1008, sends(1008, data, nil))
				s := site.snapshots(servers - 1)
				for _, read := range []func(io.Reader) ([]byte, error){io.ReadAll, func(r io.Reader) ([]byte, error) {
					var b bytes.Buffer
					_, err := io.Copy(&b, r)
					return b.Bytes(), err
				}} {
					r, err := s.ask(within(t), 1008)
					if err != nil {
						t.Fatal(err)
					}
					got, err := read(r)
					if err != nil || r.position != 1008 || r.failure() != nil || !bytes.Equal(got, data) {
						t.Errorf("%d bytes of %d at %d, %v", len(got), size, r.position, err)
					}
					if err := r.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// A node that is not so far offers none, and one that has just sent something else is asked again.
func TestSnapshotAskedFor(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	data := blocks(snapshotWindow * 2)
	gate := make(chan error)
	answers(t, site.snapshots(0), 50, sends(50, data, gate))
	s := site.snapshots(0)
	ctx, cancel := context.WithTimeout(t.Context(), 2*snapshotAsk)
	defer cancel()
	if _, err := s.ask(ctx, 51); !errors.Is(err, fanfare.ErrUnavailable) || !errors.Is(err, errNoSnapshot) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	first, err := s.ask(within(t), 40)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if r, err := s.take(within(t), 40); !errors.Is(err, errNoSnapshot) {
		t.Error("while it is sent to another node:", r, err)
	}
	var asking sync.WaitGroup
	read := func(r *snapshotReader) {
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	for range 2 {
		asking.Go(func() {
			r, err := s.ask(within(t), 40)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			read(r)
		})
	}
	close(gate)
	read(first)
	asking.Wait()
}

// A node whose snapshot is not taken to its end goes on with the next one.
func TestSnapshotNotTaken(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	data := blocks(snapshotWindow * 2)
	ended := make(chan error, 2)
	answers(t, site.snapshots(0), 50, func(ctx context.Context, begin func(uint64, int64) (store.Taker, error)) error {
		err := sends(50, data, nil)(ctx, begin)
		ended <- err
		return err
	})
	s := site.snapshots(0)
	r, err := s.ask(within(t), 50)
	if err == nil {
		err = r.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, errGivenUp) {
		t.Error(err)
	}
	if r, err = s.ask(within(t), 50); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A snapshot that breaks off is none: when its node says why, when it is stopped, and when nothing is heard of it any more.
func TestSnapshotBreaksOff(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"an error", "stopped", "cut off"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			site := newSite(t, 1)
			from := site.snapshots(0)
			gate := make(chan error, 1)
			data := blocks(snapshotWindow)
			stop := answers(t, from, 50, sends(50, data, gate))
			r, err := site.snapshots(0).ask(within(t), 50)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			gate <- nil
			if _, err := io.ReadFull(r, make([]byte, snapshotChunk)); err != nil {
				t.Fatal(err)
			}
			switch how {
			case "an error":
				gate <- errors.New("broken")
			case "stopped":
				stop()
			default:
				from.nc.Close()
			}
			got, err := io.ReadAll(r)
			if err == nil || r.failure() == nil {
				t.Errorf("%d bytes without an error", len(got))
			}
			if how == "an error" && !strings.Contains(err.Error(), "broken") || how == "cut off" && !errors.Is(err, errQuiet) {
				t.Error(err)
			}
		})
	}
}

// faulty stands between two nodes: change may return a message twice, or changed, or not at all.
func faulty(t *testing.T, nc *nats.Conn, change func(m []byte) [][]byte) (to, own string) {
	t.Helper()
	s := newSnapshots(nc, "c", silent())
	to, own = s.own(), s.own()
	var mu sync.Mutex
	back := map[string]string{}
	_, err := nc.Subscribe(to, func(m *nats.Msg) {
		mu.Lock()
		reply := back[m.Reply]
		if reply == "" {
			reply = s.own()
			back[m.Reply] = reply
			if _, err := nc.Subscribe(reply, func(b *nats.Msg) {
				for _, data := range change(b.Data) {
					_ = nc.Publish(m.Reply, data)
				}
			}); err != nil {
				t.Error(err)
			}
		}
		mu.Unlock()
		for _, data := range change(m.Data) {
			_ = nc.PublishRequest(own, reply, data)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return to, own
}

// What is lost on the way, or comes twice, or late, is not missing in the end.
func TestSnapshotLost(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	data := blocks(2*snapshotWindow + 5)
	var mu sync.Mutex
	n, ends := 0, 0
	var late []byte
	nc, _ := site.connect(0)
	to, own := faulty(t, nc, func(m []byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		n++
		switch {
		case len(m) > snapshotHasSize && m[0] == snapshotEnd:
			if ends++; ends == 1 {
				return nil
			}
		case n%17 == 0:
			return nil
		case n%23 == 0:
			return [][]byte{m, m}
		case n%29 == 0 && len(m) > snapshotHasSize:
			late = m
			return nil
		case late != nil && n%29 == 3 && len(m) > snapshotHasSize:
			return [][]byte{m, late}
		}
		return [][]byte{m}
	})
	from, s := site.snapshots(0), site.snapshots(0)
	sub, err := s.nc.SubscribeSync(own)
	if err == nil {
		err = s.nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { sent <- from.send(within(t), to, sends(9, data, nil)) }()
	r := &snapshotReader{ctx: within(t), nc: s.nc, sub: sub}
	defer r.Close()
	if err := r.begin(9); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if ends == 0 || late == nil {
		t.Error("nothing was lost")
	}
}

// What comes otherwise than it was sent is not handed out, and what has no form is refused.
func TestSnapshotDamaged(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	begin := func(position, size uint64) []byte {
		b := append(make([]byte, snapshotHead), binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, position), size)...)
		return sealed(b, snapshotData, 0)
	}
	data := func(place uint64, text string) []byte {
		return sealed(append(make([]byte, snapshotHead), text...), snapshotData, place)
	}
	end := func(place uint64) []byte { return sealed(make([]byte, snapshotHead), snapshotEnd, place) }
	flipped := func(m []byte, at int) []byte {
		m = bytes.Clone(m)
		m[at] ^= 1
		return m
	}
	const at = snapshotBegin
	for name, c := range map[string]struct {
		messages [][]byte
		damaged  bool // rather than an error of another kind
		fine     bool
	}{
		"nothing":                {[][]byte{begin(7, 4), data(at, "text"), end(at + 4)}, false, true},
		"an offer between":       {[][]byte{begin(7, 4), {snapshotOffer}, data(at, "text"), {snapshotWait}, end(at + 4)}, false, true},
		"twice":                  {[][]byte{begin(7, 4), begin(7, 4), data(at, "text"), data(at, "text"), end(at + 4)}, false, true},
		"another byte":           {[][]byte{begin(7, 4), flipped(data(at, "text"), snapshotHead+2), end(at + 4)}, true, false},
		"another place":          {[][]byte{begin(7, 4), flipped(data(at, "text"), 8), end(at + 4)}, true, false},
		"another end":            {[][]byte{begin(7, 4), data(at, "text"), flipped(end(at+4), 8)}, true, false},
		"a head that is cut":     {[][]byte{begin(7, 4), data(at, "text")[:snapshotHead-1], end(at + 4)}, true, false},
		"an end that is early":   {[][]byte{begin(7, 5), data(at, "text"), end(at + 4)}, true, false},
		"more than there is":     {[][]byte{begin(7, 3), data(at, "text"), end(at + 4)}, true, false},
		"more behind the end":    {[][]byte{begin(7, 4), data(at, "text"), sealed(append(make([]byte, snapshotHead), 1), snapshotEnd, at+4)}, true, false},
		"a piece of nothing":     {[][]byte{begin(7, 4), data(at, "")}, true, false},
		"empty":                  {[][]byte{begin(7, 4), {}}, false, false},
		"an unknown kind":        {[][]byte{begin(7, 4), {99, 1, 2}}, false, false},
		"why not":                {[][]byte{begin(7, 4), append([]byte{snapshotFailed}, "broken"...)}, false, false},
		"a beginning of nothing": {[][]byte{data(0, "text")}, false, false},
		"an older one":           {[][]byte{begin(6, 4), data(at, "text"), end(at + 4)}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := site.snapshots(0)
			own := s.own()
			sub, err := s.nc.SubscribeSync(own)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range c.messages {
				if err := s.nc.PublishRequest(own, s.own(), m); err != nil {
					t.Fatal(err)
				}
			}
			r := &snapshotReader{ctx: within(t), nc: s.nc, sub: sub}
			defer r.Close()
			var got []byte
			if err = r.begin(7); err == nil {
				got, err = io.ReadAll(r)
			}
			switch {
			case c.fine && (err != nil || string(got) != "text" || r.failure() != nil):
				t.Errorf("%q, %v", got, err)
			case !c.fine && (err == nil || errors.Is(err, errSnapshotDamaged) != c.damaged):
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// Who takes nothing, and says nothing, is waited for no longer than one who sends.
func TestSnapshotToNobody(t *testing.T) {
	t.Parallel()
	site := newSite(t, 1)
	s := site.snapshots(0)
	if err := s.send(within(t), s.own(), sends(50, blocks(2*snapshotWindow), nil)); !errors.Is(err, errQuiet) {
		t.Error(err)
	}
}
