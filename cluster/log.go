package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/store"
)

const (
	// appendTry is how long one publication waits for the stream's answer. After it the record is published again, under the same ID.
	appendTry = time.Second
	// tryAgain is the pause before something that has failed is tried again.
	tryAgain = 50 * time.Millisecond
	// mostPause is that before another consumer is made, by and by, while no record comes: each is one more that its server keeps for consumerIdle.
	mostPause = 2 * time.Second
	// duplicates is how long the stream remembers IDs; more than a record is tried for. What comes later all the same is passed over when it is applied.
	duplicates = 2 * time.Minute
	// heartbeat is how often the stream says that there is nothing new. After two that are missing it is asked anew: the least that the client takes.
	heartbeat = 500 * time.Millisecond

	// consumerTry is how long the stream is given to answer that there is a consumer; while it has no leader it does not.
	consumerTry = time.Second
	// quiet is how long no record has come when the stream's leader is asked whether there is one.
	quiet = 2 * time.Second
	// busy stands for no position: no record is waited for.
	busy = math.MaxUint64
	// leastPatience is how long the stream's leader is given at first to answer, for while one is elected a question is lost; mostPatience after that, by and by.
	leastPatience = 250 * time.Millisecond
	mostPatience  = 2 * time.Second
	// getEvery is how often the next record is asked for while there is no consumer.
	getEvery = 20 * time.Millisecond
	// lostFor is how long the log has to end before the position of this node until it counts as one that has lost records: longer than a leader without followers answers, which in a
	// deployment elsewhere is up to 20 s.
	lostFor = 25 * time.Second
	// logPatience is how long the log may be looked for, as it is when a cluster starts, until it is said why it is not there: that may be for good.
	logPatience = 10 * time.Second
	// consumerIdle is after how long without requests the stream forgets one.
	consumerIdle = time.Minute

	// storeFailed is the code of JetStream for a record that its leader could not write, which older servers answer also where they have agreed on it and the others have it.
	storeFailed jetstream.ErrorCode = 10077

	metaLog  = "fanfare-log"  // key of the stream's metadata: the log's ID in hexadecimal digits
	metaSeed = "fanfare-seed" // the node whose directory the log begins behind; absent: it begins with nothing
)

// log is the stream as a store sees it: each message is a record, and its sequence the position.
type log struct {
	js      jetstream.JetStream
	stream  jetstream.Stream // for what any of the servers that keep it can answer
	name    string           // of the stream
	subject string
	id      [16]byte
	seed    string
	logger  *slog.Logger
	lostFor time.Duration
	folded  func(position uint64)
	summed  func(position, digest uint64)
	version func() int
}

func streamName(cluster string) string { return "fanfare-" + cluster }

// openLog finds the stream, and makes it where there is none and this node may: a cluster that begins with the directory of a node waits for that one. It tries until ctx ends.
func openLog(ctx context.Context, js jetstream.JetStream, o *Options) (*log, error) {
	l := &log{js: js, name: streamName(o.Cluster), subject: "fanfare." + o.Cluster + ".log", logger: o.Logger, lostFor: lostFor}
	var last error
	began, told := time.Now(), false
	for {
		s, err := l.find(ctx, o)
		if err == nil {
			l.stream = s
			return l, l.read(s.CachedInfo())
		}
		if last == nil || ctx.Err() == nil { // else it says no more than that
			last = err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: the log: %w", fanfare.ErrUnavailable, last)
		}
		if !told && time.Since(began) > logPatience {
			told = true
			o.Logger.Warn("cluster: the log cannot be opened; trying again until it can", "error", err)
		}
		pause(ctx, tryAgain) // whatever it is: servers that have not met yet refuse in many ways
	}
}

// find does one try.
func (l *log) find(ctx context.Context, o *Options) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := l.js.Stream(ctx, l.name)
	if !errors.Is(err, jetstream.ErrStreamNotFound) || o.Seed != "" && o.Seed != o.Name {
		return s, err
	}
	var id [16]byte
	rand.Read(id[:])
	c := jetstream.StreamConfig{
		Name: l.name, Subjects: []string{l.subject}, Storage: jetstream.FileStorage, Replicas: o.Replicas, Duplicates: duplicates,
		Discard: jetstream.DiscardNew, DenyDelete: true, AllowDirect: true, Metadata: map[string]string{metaLog: hex.EncodeToString(id[:])},
	}
	if o.Seed != "" {
		c.Metadata[metaSeed] = o.Seed
	}
	s, err = l.js.CreateStream(ctx, c)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // by another node meanwhile
		return l.js.Stream(ctx, l.name)
	}
	return s, err
}

func (l *log) read(info *jetstream.StreamInfo) error {
	id, err := hex.DecodeString(info.Config.Metadata[metaLog])
	if err != nil || len(id) != len(l.id) {
		return fmt.Errorf("%w: the stream %s is not one of a cluster of fanfare", fanfare.ErrForeignFile, l.name)
	}
	copy(l.id[:], id)
	l.seed = info.Config.Metadata[metaSeed]
	return nil
}

// errNoLeader is that what is known of a stream is not from its leader.
var errNoLeader = errors.New("the stream has no leader")

// byLeader says whether what is known of a stream is from its leader. A server answers too that has just been given its part of the stream, or knows of no leader, by what it has, which may be nothing: it
// names no leader, or one that is another server than itself and so among the replicas.
func byLeader(info *jetstream.StreamInfo) error {
	c := info.Cluster
	if c == nil || info.Config.Replicas <= 1 {
		return nil
	}
	if c.Leader == "" || c.RaftGroup == "" || slices.ContainsFunc(c.Replicas, func(r *jetstream.PeerInfo) bool { return r.Name == c.Leader }) {
		return errNoLeader
	}
	return nil
}

// info asks the stream's leader.
func (l *log) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	s, err := l.js.Stream(ctx, l.name)
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), byLeader(s.CachedInfo())
}

// errLost is that the log ends before the position of this node.
var errLost = errors.New("the log has lost records that this node has")

// same looks whether the stream is the log still, and has what this node has: a consumer would wait in silence for the position after it, whatever is before that.
func (l *log) same(ctx context.Context, after uint64, record []byte) error {
	info, err := l.info(ctx)
	if err != nil {
		return err
	}
	if info.Config.Metadata[metaLog] != hex.EncodeToString(l.id[:]) {
		return fmt.Errorf("%w: the stream %s was made anew, and is not the log of this node any more", fanfare.ErrForeignFile, l.name)
	}
	if last := max(info.State.LastSeq, info.State.FirstSeq-min(info.State.FirstSeq, 1)); last < after {
		return fmt.Errorf("%w: it ends at %d, and this node is at %d", errLost, last, after)
	}
	if record == nil {
		return nil
	}
	there, err := l.Record(ctx, after)
	if err == nil && there != nil && !bytes.Equal(there, record) {
		err = fmt.Errorf("%w: the log lost its end, and went on from there: record %d is another one than this node has", fanfare.ErrForeignFile, after)
	}
	return err
}

// ID is in the stream's metadata.
func (l *log) ID() [16]byte { return l.id }

// Version is the lowest of the nodes that were heard of lately.
func (l *log) Version() int { return l.version() }

// Append publishes a record until the stream has answered or ctx ends. The ID keeps it from being added twice.
func (l *log) Append(ctx context.Context, id string, record []byte) (position uint64, err error) {
	m := &nats.Msg{Subject: l.subject, Data: record}
	known := true // that it is not there
	var last error
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, appendTry)
		ack, err := l.js.PublishMsg(try, m, jetstream.WithMsgID(id), jetstream.WithExpectStream(l.name), jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil {
			return ack.Sequence, nil
		}
		last = err
		var refused *jetstream.APIError
		if !errors.Is(err, jetstream.ErrNoStreamResponse) && !errors.Is(err, nats.ErrReconnectBufExceeded) && !(errors.As(err, &refused) && refused.ErrorCode != storeFailed) {
			known = false // it was sent, and may be there
		}
		pause(ctx, tryAgain)
	}
	if last == nil {
		last = ctx.Err()
	}
	if known {
		return 0, fmt.Errorf("%w: %w", fanfare.ErrUnavailable, last)
	}
	return 0, fmt.Errorf("%w: %w: %w", fanfare.ErrOutcomeUnknown, fanfare.ErrUnavailable, last)
}

// Last asks the stream's leader.
func (l *log) Last(ctx context.Context) (uint64, error) {
	first, last, err := l.bounds(ctx)
	return max(last, first-1), err
}

// bounds returns the sequence of the first message that is kept, at least 1, and of the last one that there was.
func (l *log) bounds(ctx context.Context) (first, last uint64, err error) {
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		var info *jetstream.StreamInfo
		info, err = l.info(try)
		cancel()
		if err == nil {
			return max(info.State.FirstSeq, 1), info.State.LastSeq, nil
		}
		if ctx.Err() != nil {
			return 1, 0, fmt.Errorf("%w: the log: %w", fanfare.ErrUnavailable, err)
		}
		pause(ctx, tryAgain)
	}
}

// Record asks a server that has it, or had it not long ago.
func (l *log) Record(ctx context.Context, position uint64) ([]byte, error) {
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		m, err := l.stream.GetMsg(try, position)
		cancel()
		if err == nil {
			return m.Data, nil
		}
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: the log: %w", fanfare.ErrUnavailable, err)
		}
		pause(ctx, tryAgain)
	}
}

// Records reads by a consumer once the stream's leader has said, in time, that it is the same log, and by another one when that has failed.
func (l *log) Records(ctx context.Context, after uint64) iter.Seq2[store.JournalRecord, error] {
	return func(yield func(store.JournalRecord, error) bool) {
		var lost time.Time // since when it has been
		var last []byte    // the record at after, once one was read
		keep := func(r store.JournalRecord, err error) bool {
			if err == nil {
				last = r.Record
			}
			return yield(r, err)
		}
		patience := leastPatience
		warned, wait := false, tryAgain // wait is the pause before another consumer
		for ctx.Err() == nil {
			before, began, more, rest := after, time.Now(), true, tryAgain
			check, cancel := context.WithTimeout(ctx, patience)
			err := l.same(check, after, last)
			cancel()
			if err == nil {
				more, err = l.consume(ctx, &after, keep)
				rest, wait = wait, min(2*wait, mostPause)
			}
			if patience = min(2*patience, mostPatience); after > before || time.Since(began) > consumerIdle { // it was of use, also where there was nothing to read
				patience, rest, wait, warned = leastPatience, tryAgain, tryAgain, false
			}
			switch {
			case !more:
				return
			case !errors.Is(err, errLost):
				lost = time.Time{}
			case lost.IsZero():
				lost = time.Now()
			case time.Since(lost) >= l.lostFor:
				err = fmt.Errorf("%w: %w", fanfare.ErrForeignFile, err)
			}
			if errors.Is(err, fanfare.ErrForeignFile) {
				yield(store.JournalRecord{}, err)
				return
			}
			if err != nil && ctx.Err() == nil && !warned {
				warned = true
				l.logger.Warn("fanfare: the cluster's log cannot be read; trying again until it can", "error", err)
			}
			pause(ctx, rest)
		}
	}
}

// consume reads until its consumer fails. More is false when there is nobody who wants any. It is not the client's ordered consumer, which waits for as much as 10 s for one request
// before it makes another, while a leader is elected in 3.
func (l *log) consume(ctx context.Context, after *uint64, yield func(store.JournalRecord, error) bool) (more bool, err error) {
	c, more, err := l.consumer(ctx, after, yield)
	if c == nil {
		return more, err
	}
	messages, err := c.Messages(jetstream.PullHeartbeat(heartbeat), jetstream.PullMaxBytes(16<<20), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return true, err
	}
	defer messages.Stop()
	var waits atomic.Uint64 // the position behind which the next record is waited for
	waits.Store(*after)
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go l.watch(reading, &waits, stop)
	for first := true; ; first = false {
		waits.Store(*after)
		m, err := messages.Next(jetstream.NextContext(reading))
		if err != nil {
			if reading.Err() != nil {
				err = context.Cause(reading)
			}
			return true, err
		}
		waits.Store(busy)
		meta, err := m.Metadata()
		if err != nil {
			return true, err
		}
		position := meta.Sequence.Stream
		switch {
		case position <= *after: // its server is behind, and does not know that from there on all is new
			continue
		case position == *after+1:
		case first && position > *after+1: // which is what there is of the log
			yield(store.JournalRecord{}, fmt.Errorf("%w: the next record is %d, this node is at %d", fanfare.ErrBehind, position, *after))
			return false, nil
		default: // one was lost on the way
			return true, fmt.Errorf("record %d came after %d", position, *after)
		}
		*after = position
		if !yield(store.JournalRecord{Position: position, Record: m.Data()}, nil) {
			return false, nil
		}
	}
}

// consumer makes a consumer. Until there is one, or it has failed, records are got one by one: a consumer takes that the servers have a leader for all that is kept, while those that have the log may have agreed on more of it.
func (l *log) consumer(ctx context.Context, after *uint64, yield func(store.JournalRecord, error) bool) (_ jetstream.Consumer, more bool, _ error) {
	try, cancel := context.WithTimeout(ctx, consumerTry)
	defer cancel()
	from, made := *after+1, make(chan struct{})
	var c jetstream.Consumer
	var err error
	go func() {
		defer close(made)
		c, err = l.js.CreateConsumer(try, l.name, jetstream.ConsumerConfig{
			DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from, AckPolicy: jetstream.AckNonePolicy,
			Replicas: 1, MemoryStorage: true, InactiveThreshold: consumerIdle,
		})
	}()
	defer func() {
		cancel()
		<-made
	}()
	tick := time.NewTicker(getEvery)
	defer tick.Stop()
	for {
		select {
		case <-made:
			return c, true, err
		case <-tick.C:
		}
		for {
			m, err := l.stream.GetMsg(try, *after+1)
			if err != nil {
				break // it is not there, or not yet, or nobody says so
			}
			*after = m.Sequence
			if !yield(store.JournalRecord{Position: m.Sequence, Record: m.Data}, nil) {
				return nil, false, nil
			}
		}
	}
}

// watch gives a consumer up that sends nothing though the log goes on. Its server may have lost its part of the log, to a disk that is full say, and say all the same, and for ever, that there is nothing new.
func (l *log) watch(ctx context.Context, waits *atomic.Uint64, stop context.CancelCauseFunc) {
	for {
		at := waits.Load()
		pause(ctx, quiet)
		if ctx.Err() != nil {
			return
		}
		if at == busy || waits.Load() != at {
			continue
		}
		try, cancel := context.WithTimeout(ctx, quiet)
		info, err := l.info(try)
		cancel()
		if err != nil || info.State.LastSeq <= at {
			continue
		}
		pause(ctx, heartbeat) // it may be on its way
		if waits.Load() == at {
			stop(fmt.Errorf("record %d is in the log, and does not come", at+1))
			return
		}
	}
}

// Folded passes it on to what cuts the log.
func (l *log) Folded(position uint64) { l.folded(position) }

// Summed passes it on to who compares.
func (l *log) Summed(position, digest uint64) { l.summed(position, digest) }
