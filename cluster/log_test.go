package cluster

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/store"
)

// deaf makes a first consumer that says it is there, and sends nothing, as one does whose server has lost its part of the stream.
type deaf struct {
	jetstream.JetStream
	once sync.Once
	made chan struct{}
}

func (d *deaf) CreateConsumer(ctx context.Context, stream string, c jetstream.ConsumerConfig) (made jetstream.Consumer, err error) {
	first := false
	d.once.Do(func() { first = true })
	if first {
		until := time.Now().Add(time.Hour)
		c.PauseUntil = &until
		defer close(d.made)
	}
	return d.JetStream.CreateConsumer(ctx, stream, c)
}

// TestConsumerThatSendsNothing has the log read on without the consumer that sends nothing.
func TestConsumerThatSendsNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	o := &Options{Name: "a"}
	o.fill()
	conn, err := connect(ctx, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.close(context.Background())
	js := &deaf{JetStream: conn.js, made: make(chan struct{})}
	l, err := openLog(ctx, js, o)
	if err != nil {
		t.Fatal(err)
	}
	var appended sync.WaitGroup
	defer appended.Wait()
	appended.Go(func() {
		select {
		case <-js.made: // before it is, records are got one by one
		case <-ctx.Done():
		}
		if position, err := l.Append(ctx, "one", []byte("record")); err != nil || position != 1 {
			t.Error(position, err)
		}
	})
	for r, err := range l.Records(ctx, 0) {
		if err != nil || r.Position != 1 || string(r.Record) != "record" {
			t.Fatal(r, err)
		}
		return
	}
	t.Fatal("it never came")
}

// newLog is a log on a server of its own, with records.
func newLog(ctx context.Context, t *testing.T, records ...string) (*connection, *log, *Options) {
	t.Helper()
	o := &Options{Name: "a"}
	o.fill()
	c, err := connect(ctx, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	l, err := openLog(ctx, c.js, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if _, err := l.Append(ctx, r, []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	return c, l, o
}

// wantsForeign wants that nothing is read after a position, but an error.
func wantsForeign(ctx context.Context, t *testing.T, l *log, after uint64) {
	t.Helper()
	for r, err := range l.Records(ctx, after) {
		if !errors.Is(err, fanfare.ErrForeignFile) {
			t.Errorf("after %d came %d, %v", after, r.Position, err)
		}
		return
	}
	t.Error("nothing came in time")
}

// TestLogMadeAnew: a stream that was deleted and made anew is not gone on with from a position of the one before.
func TestLogMadeAnew(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, old, o := newLog(ctx, t, "1", "2")
	if err := c.js.DeleteStream(ctx, old.name); err != nil {
		t.Fatal(err)
	}
	l, err := openLog(ctx, c.js, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{"a", "b", "c"} {
		if _, err := l.Append(ctx, r, []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	wantsForeign(ctx, t, old, 2)
}

// TestLogLostItsEnd: a node does not wait for the position after its own in a log that ends before it, for others fill the positions between with other records.
func TestLogLostItsEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, l, _ := newLog(ctx, t, "1", "2")
	l.lostFor = 100 * time.Millisecond
	wantsForeign(ctx, t, l, 3)
}

// TestLogCutCompletely: a log of which nothing is kept ends where its last record was.
func TestLogCutCompletely(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, l, _ := newLog(ctx, t, "1", "2")
	s, err := c.js.Stream(ctx, l.name)
	if err == nil {
		err = s.Purge(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(ctx, "3", []byte("3")); err != nil {
		t.Fatal(err)
	}
	for r, err := range l.Records(ctx, 2) {
		if err != nil || r.Position != 3 {
			t.Error(r.Position, err)
		}
		return
	}
	t.Error("nothing came in time")
}

// consumerless makes no consumer.
type consumerless struct {
	jetstream.JetStream
	stream oneByOne
	made   atomic.Int32
}

func (c *consumerless) Stream(context.Context, string) (jetstream.Stream, error) {
	return &c.stream, nil
}

// CreateConsumer fails at once while there are no records, and else when they have been got one by one.
func (c *consumerless) CreateConsumer(ctx context.Context, _ string, _ jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	if c.made.Add(1); c.stream.last.Load() > 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, errors.New("the server is behind")
}

// oneByOne is a stream whose messages can be got.
type oneByOne struct {
	jetstream.Stream
	last atomic.Uint64
}

func (s *oneByOne) CachedInfo() *jetstream.StreamInfo {
	return &jetstream.StreamInfo{
		Config: jetstream.StreamConfig{Metadata: map[string]string{metaLog: hex.EncodeToString(make([]byte, 16))}},
		State:  jetstream.StreamState{LastSeq: s.last.Load()},
	}
}

func (s *oneByOne) GetMsg(_ context.Context, seq uint64, _ ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	if seq > s.last.Load() {
		return nil, jetstream.ErrMsgNotFound
	}
	return &jetstream.RawStreamMsg{Sequence: seq}, nil
}

// TestConsumersOneAfterTheOther: the longer none is of use, the longer it takes until another consumer is made, up to a bound; and a record that comes begins anew.
func TestConsumersOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		js := new(consumerless)
		l := &log{js: js, stream: &js.stream, logger: slog.New(slog.DiscardHandler), lostFor: lostFor}
		came := make(chan uint64)
		go func() {
			defer close(came)
			for r := range l.Records(ctx, 0) {
				came <- r.Position
			}
		}()
		during := func(d time.Duration) (made int32) {
			before := js.made.Load()
			time.Sleep(d)
			synctest.Wait()
			return js.made.Load() - before
		}
		if n := during(time.Second); n < 4 || n > 6 {
			t.Error("consumers in the first second:", n)
		}
		during(time.Minute)
		if n := during(time.Minute); n < 25 || n > 35 {
			t.Error("consumers in a later minute:", n)
		}
		js.stream.last.Store(1)
		if position := <-came; position != 1 {
			t.Error("there came", position)
		}
		time.Sleep(consumerTry)
		if n := during(4 * consumerTry); n < 3 {
			t.Error("consumers made when a record had come:", n)
		}
		cancel()
		<-came
	})
}

// refusing answers each publication with an error.
type refusing struct {
	jetstream.JetStream
	err error
}

func (r refusing) PublishMsg(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return nil, r.err
}

// TestAppendOutcome: whether a record may be in the log is known by what the log has answered.
func TestAppendOutcome(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		err     error
		unknown bool
	}{
		"nobody there":     {jetstream.ErrNoStreamResponse, false},
		"no connection":    {nats.ErrReconnectBufExceeded, false},
		"refused":          {&jetstream.APIError{Code: 503, ErrorCode: 10023}, false},
		"no answer":        {context.DeadlineExceeded, true},
		"connection lost":  {nats.ErrConnectionClosed, true},
		"not written here": {&jetstream.APIError{Code: 503, ErrorCode: 10077}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := (&log{js: refusing{err: c.err}}).Append(ctx, "id", nil)
			if !errors.Is(err, fanfare.ErrUnavailable) || !errors.Is(err, c.err) || errors.Is(err, fanfare.ErrOutcomeUnknown) != c.unknown {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
}

// nowhere has no streams, and cannot make one.
type nowhere struct{ jetstream.JetStream }

func (nowhere) Stream(context.Context, string) (jetstream.Stream, error) {
	return nil, jetstream.ErrStreamNotFound
}

func (nowhere) CreateStream(context.Context, jetstream.StreamConfig) (jetstream.Stream, error) {
	return nil, errors.New("more replicas than servers")
}

// TestOpenLogSaysWhyNot: a log that cannot be made for good is not waited for in silence.
func TestOpenLogSaysWhyNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		said := new(logs)
		o := &Options{Name: "a", Options: fanfare.Options{Logger: slog.New(said)}}
		o.fill()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := openLog(ctx, nowhere{}, o); !errors.Is(err, fanfare.ErrUnavailable) {
			t.Error(err)
		}
		if n := said.count(slog.LevelWarn, "more replicas than servers"); n != 1 {
			t.Errorf("it was said %d times", n)
		}
	})
}

// TestEnterLog: who is told of a log that ends before its directory does, as by a leader that nobody follows any more, asks again before it takes that for true.
func TestEnterLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		js := new(consumerless)
		l := &log{js: js, stream: &js.stream, logger: silent(), lostFor: lostFor}
		n := &node{o: &Options{Name: "a"}, log: l}
		place := store.Place{Store: true, Log: &l.id, Position: 5}
		js.stream.last.Store(3)
		time.AfterFunc(lostFor-time.Second, func() { js.stream.last.Store(5) })
		if err := n.enter(t.Context(), place); err != nil {
			t.Error("the log comes to its end late:", err)
		}
		place.Position = 6
		if err := n.enter(t.Context(), place); !errors.Is(err, fanfare.ErrForeignFile) {
			t.Error("the log has lost records:", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := n.enter(ctx, place); !errors.Is(err, fanfare.ErrUnavailable) || time.Since(began) > 2*time.Second {
			t.Error("there is no time to ask again:", err, time.Since(began))
		}
	})
}

// TestLogWentOnFromBefore: a log that lost its end, and has got as many records again, is not gone on with by a node that has read another one.
func TestLogWentOnFromBefore(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, l, _ := newLog(ctx, t, "1", "2", "3")
	if err := l.same(ctx, 2, []byte("two")); !errors.Is(err, fanfare.ErrForeignFile) {
		t.Error("another record:", err)
	}
	if err := l.same(ctx, 2, []byte("2")); err != nil {
		t.Error("the same record:", err)
	}
	s, err := c.js.Stream(ctx, l.name)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSequence(3))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := l.same(ctx, 2, []byte("two")); err != nil {
		t.Error("a record that was cut:", err)
	}
}

// TestByLeader: what a server says of its own part of the log, that is not the leader's, is not taken for the log.
func TestByLeader(t *testing.T) {
	t.Parallel()
	replicas := func(names ...string) (l []*jetstream.PeerInfo) {
		for _, name := range names {
			l = append(l, &jetstream.PeerInfo{Name: name})
		}
		return l
	}
	for what, c := range map[string]struct {
		replicas int
		cluster  *jetstream.ClusterInfo
		is       bool
	}{
		"the leader":                     {3, &jetstream.ClusterInfo{RaftGroup: "g", Leader: "a", Replicas: replicas("b", "c")}, true},
		"a server that knows of none":    {3, &jetstream.ClusterInfo{RaftGroup: "g", Replicas: replicas("a", "b", "c")}, false},
		"a server that knows the leader": {3, &jetstream.ClusterInfo{RaftGroup: "g", Leader: "a", Replicas: replicas("a", "b")}, false},
		"a server that has not begun":    {3, &jetstream.ClusterInfo{Leader: "c"}, false},
		"the only one that has it":       {1, &jetstream.ClusterInfo{Leader: "a"}, true},
		"a server alone":                 {1, nil, true},
	} {
		err := byLeader(&jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: c.replicas}, Cluster: c.cluster})
		if (err == nil) != c.is {
			t.Errorf("%s: %v", what, err)
		}
	}
}
