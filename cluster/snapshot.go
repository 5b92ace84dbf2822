package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/internal/peers"
)

var errNoSnapshot = errors.New("cluster: there is no snapshot")

const (
	snapshotPart  = 8 << 20   // bytes of an object, at most
	snapshotChunk = 128 << 10 // bytes of a message
	snapshotWait  = time.Minute
	snapshotMeta  = 64 << 10               // bytes of what is known of an object, at most
	snapshotKept  = time.Hour              // a snapshot is for the nodes that join now
	snapshotStale = 10 * time.Minute       // what no snapshot came of, and nobody goes on with
	snapshotAsk   = 2 * time.Second        // how often it is asked for
	snapshotLook  = 100 * time.Millisecond // how often it is looked for
	snapshotTry   = 3 * time.Second        // for a question, to which no answer comes when a server goes
)

// snapshots are the files of a node at a position of the log, for those that join. Each is an object store of its own, a bucket, whose name has the position and a random ID: parts of a
// few megabytes each, whose names are their numbers, so that as little is in flight at a time; and last an object that makes it a snapshot, which has the number of the parts and a digest of their digests in its metadata.
// It may be read while it is written.
//
// A bucket has one replica. What is lost with its server is a snapshot, and another one is made for who asks; three replicas would be written six times, and are no
// safer for that. All that is said of it without its server is its name, and that is enough: as long as the bucket is there the log is not cut behind the position, and it can be deleted.
type snapshots struct {
	js      jetstream.JetStream
	journal jetstream.Stream // the log
	prefix  string           // of the buckets
	subject string
	nc      *nats.Conn
	log     *slog.Logger
}

func newSnapshots(nc *nats.Conn, js jetstream.JetStream, cluster string, journal jetstream.Stream, logger *slog.Logger) *snapshots {
	return &snapshots{js: js, prefix: "fanfare-" + cluster + "-snapshot-", subject: "fanfare." + cluster + ".snapshot", journal: journal, nc: nc, log: logger}
}

// snapshot is one of them, complete or not.
type snapshot struct {
	bucket   string
	position uint64
}

func (s *snapshots) name(position uint64) string {
	var id [8]byte
	rand.Read(id[:])
	return fmt.Sprintf("%s%020d-%x", s.prefix, position, id)
}

// named is the snapshot of a bucket, if it is the name of one.
func (s *snapshots) named(bucket string) (one snapshot, ok bool) {
	rest, ok := strings.CutPrefix(bucket, s.prefix)
	digits, id, of := strings.Cut(rest, "-")
	position, err := strconv.ParseUint(digits, 10, 64)
	return snapshot{bucket, position}, ok && of && err == nil && len(digits) == 20 && len(id) == 16
}

// The names of what a bucket is, see ADR-20 of NATS.
const bucketStream = "OBJ_"

func chunksOf(bucket string) string { return "$O." + bucket + ".C." }
func metaOf(bucket, object string) string {
	return "$O." + bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(object))
}

// lastObject is the name of the object that makes a snapshot of the parts.
const lastObject = "end"

func partName(i int) string { return fmt.Sprintf("%06d", i) }

// sum is a digest of the parts together.
type sum struct {
	parts int
	hash  hash.Hash
}

func newSum() *sum { return &sum{hash: sha256.New()} }

func (s *sum) add(part *jetstream.ObjectInfo) {
	s.parts++
	fmt.Fprintln(s.hash, part.Name, part.Size, part.Digest)
}

func (s *sum) metadata() map[string]string {
	return map[string]string{"parts": strconv.Itoa(s.parts), "digest": base64.RawURLEncoding.EncodeToString(s.hash.Sum(nil))}
}

// list is what is there, in the order of positions, whether its server is or not.
func (s *snapshots) list(ctx context.Context) (l []snapshot, err error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotTry)
	defer cancel()
	names := s.js.StreamNames(ctx, jetstream.WithStreamListSubject("$O.*.C.>"))
	for name := range names.Name() {
		if one, ok := s.named(strings.TrimPrefix(name, bucketStream)); ok {
			l = append(l, one)
		}
	}
	slices.SortFunc(l, func(a, b snapshot) int { return strings.Compare(a.bucket, b.bucket) })
	return l, names.Err()
}

// look returns how far one has been written, and whether it is complete.
func (s *snapshots) look(ctx context.Context, one snapshot) (written uint64, complete bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotTry)
	defer cancel()
	stream, err := s.js.Stream(ctx, bucketStream+one.bucket)
	if err != nil {
		return 0, false, err
	}
	_, err = stream.GetLastMsgForSubject(ctx, metaOf(one.bucket, lastObject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return stream.CachedInfo().State.LastSeq, false, nil
	}
	return stream.CachedInfo().State.LastSeq, err == nil, err
}

// remove deletes one. Who reads it or writes it fails.
func (s *snapshots) remove(ctx context.Context, one snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotWait)
	defer cancel()
	err := s.js.DeleteStream(ctx, bucketStream+one.bucket)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return err
}

// positions are those of the snapshots that are there or being made: the log after the lowest must be kept.
func (s *snapshots) positions(ctx context.Context) (all []uint64, err error) {
	l, err := s.list(ctx)
	for _, one := range l {
		all = append(all, one.position)
	}
	return all, err
}

// ages is what one cleaner has seen, by bucket, and since when it is as it is, by its own clock.
type ages map[string]age

type age struct {
	written  uint64
	complete bool
	since    time.Time
}

// clean deletes the snapshots that are older than an hour, and what nobody has gone on with for ten minutes, also where the server is gone.
func (s *snapshots) clean(ctx context.Context, kept ages) error {
	l, err := s.list(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, one := range l {
		there[one.bucket] = true
		written, complete, err := s.look(ctx, one)
		if ctx.Err() != nil {
			return err
		}
		old, known := kept[one.bucket]
		if !known || err == nil && old.written != written {
			kept[one.bucket] = age{written, complete, time.Now()}
			continue
		}
		limit := snapshotStale
		if old.complete {
			limit = snapshotKept
		}
		if time.Since(old.since) >= limit {
			if err := s.remove(ctx, one); err != nil {
				return err
			}
		}
	}
	for bucket := range kept {
		if !there[bucket] {
			delete(kept, bucket)
		}
	}
	return nil
}

// putObject stores an object, and tries again when that fails for a while, as when a connection is lost, or when the servers do not all know of a new bucket yet.
func (s *snapshots) putObject(ctx context.Context, bucket jetstream.ObjectStore, meta jetstream.ObjectMeta, data []byte) (info *jetstream.ObjectInfo, err error) {
	meta.Opts = &jetstream.ObjectMetaOptions{ChunkSize: snapshotChunk}
	for try := range 5 {
		if try > 0 && !pause(ctx, 50*time.Millisecond<<(2*(try-1))) { // up to 3 s
			break
		}
		c, cancel := context.WithTimeout(ctx, snapshotWait)
		closed := s.nc.StatusChanged(nats.CLOSED) // after which the client may wait for ever for what it has sent
		go func() {
			select {
			case <-closed:
				cancel()
			case <-c.Done():
			}
		}()
		if s.nc.IsClosed() {
			cancel()
		}
		info, err = bucket.Put(c, meta, bytes.NewReader(data))
		cancel()
		s.nc.RemoveStatusListener(closed)
		if err == nil || s.nc.IsClosed() {
			break
		}
	}
	return info, err
}

// put stores what write writes as the snapshot of a position, and then deletes those of lower positions; when
// that fails, what was stored is deleted, or left to a later cleaning if that fails as well. In memory are at most a few parts.
func (s *snapshots) put(ctx context.Context, position uint64, write func(io.Writer) error) (err error) {
	one := snapshot{s.name(position), position}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		if err == nil {
			return
		}
		err = fmt.Errorf("cluster: snapshot at %d: %w", position, err)
		if rerr := s.remove(context.WithoutCancel(ctx), one); rerr != nil {
			s.log.Warn("cluster: what is there of a snapshot that was not completed is left to the next cleaning", "position", position, "error", rerr)
		}
	}()
	c, made := context.WithTimeout(ctx, snapshotWait)
	bucket, err := s.js.CreateObjectStore(c, jetstream.ObjectStoreConfig{Bucket: one.bucket, Replicas: 1, Storage: jetstream.FileStorage})
	made()
	if err != nil {
		return err
	}

	r, w := io.Pipe()
	var writing sync.WaitGroup
	defer writing.Wait()
	defer r.CloseWithError(context.Canceled) // which ends the writer
	defer context.AfterFunc(ctx, func() { r.CloseWithError(context.Cause(ctx)) })()
	writing.Go(func() {
		z := s2.NewWriter(w, s2.WriterConcurrency(1))
		err := write(z)
		w.CloseWithError(errors.Join(err, z.Close()))
	})
	full, free := make(chan []byte), make(chan []byte, 2)
	free <- make([]byte, snapshotPart)
	free <- make([]byte, snapshotPart)
	failed := make(chan error, 1)
	writing.Go(func() {
		defer close(full)
		for {
			var b []byte
			select {
			case b = <-free:
			case <-ctx.Done():
				return
			}
			n, err := io.ReadFull(r, b)
			end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
			if err != nil && !end {
				failed <- err
				return
			}
			if n > 0 {
				select {
				case full <- b[:n]:
				case <-ctx.Done():
					return
				}
			}
			if end {
				return
			}
		}
	})
	defer cancel()
	all := newSum()
	for b := range full {
		info, err := s.putObject(ctx, bucket, jetstream.ObjectMeta{Name: partName(all.parts)}, b)
		if err != nil {
			return err
		}
		all.add(info)
		free <- b[:cap(b)]
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
	}
	if s.journal != nil {
		// Who cuts the log may not have seen the bucket in time.
		c, cancel := context.WithTimeout(ctx, snapshotWait)
		var info *jetstream.StreamInfo
		err := untilThere(c, func(ctx context.Context) (err error) {
			if info, err = s.journal.Info(ctx); err != nil {
				return err
			}
			return byLeader(info)
		})
		cancel()
		if err != nil {
			return err
		}
		if info.State.FirstSeq > position+1 {
			return fmt.Errorf("the log begins at %d", info.State.FirstSeq)
		}
	}
	if _, err := s.putObject(ctx, bucket, jetstream.ObjectMeta{Name: lastObject, Metadata: all.metadata()}, nil); err != nil {
		return err
	}
	l, err := s.list(ctx)
	if err != nil {
		s.log.Warn("cluster: older snapshots are left to the next cleaning", "error", err)
		return nil
	}
	for _, old := range l {
		if old.position < position {
			if err := s.remove(ctx, old); err != nil {
				s.log.Warn("cluster: an older snapshot is left to the next cleaning", "position", old.position, "error", err)
			}
		}
	}
	return nil
}

// newest is the complete snapshot of the highest position, if that is at least so high, and otherwise, with [errNoSnapshot], the newest that is being made, if there is one.
func (s *snapshots) newest(ctx context.Context, atLeast uint64) (begun snapshot, err error) {
	l, err := s.list(ctx)
	if err != nil {
		return begun, err
	}
	for _, one := range slices.Backward(l) {
		if one.position < atLeast {
			break
		}
		_, complete, err := s.look(ctx, one)
		switch {
		case err != nil && ctx.Err() != nil:
			return begun, err
		case err != nil: // its server is gone
		case complete:
			return one, nil
		case begun.bucket == "":
			begun = one
		}
	}
	return begun, errNoSnapshot
}

// request is what a node that needs a snapshot publishes.
type request struct {
	Position uint64 `json:"position"` // at least
}

// ask asks the nodes that run for a snapshot whose position is at least so high, until there is one, or one is being made, and reads it.
func (s *snapshots) ask(ctx context.Context, atLeast uint64) (*snapshotReader, error) {
	v, err := json.Marshal(request{atLeast})
	if err != nil {
		return nil, err
	}
	for asked := (time.Time{}); ; {
		one, err := s.newest(ctx, atLeast)
		if errors.Is(err, errNoSnapshot) {
			// Also where one is being made: its node may have died.
			if time.Since(asked) >= snapshotAsk {
				asked = time.Now()
				if perr := s.nc.Publish(s.subject, v); perr != nil {
					err = errors.Join(err, perr)
				}
			}
			if one.bucket != "" {
				err = nil
			}
		}
		if err == nil {
			return s.read(ctx, one), nil
		}
		if !pause(ctx, snapshotLook) {
			return nil, fmt.Errorf("%w: %w: %w", fanfare.ErrUnavailable, context.Cause(ctx), err)
		}
	}
}

// answer has snapshots made for those who ask, until ctx ends: under the lease "snapshot", and only if none is there that is good enough. Make hands what it has to put.
func (s *snapshots) answer(ctx context.Context, leases peers.Leases, make func(ctx context.Context, atLeast uint64, put func(position uint64, write func(io.Writer) error) error) error) error {
	asked := newLatest()
	sub, err := s.nc.Subscribe(s.subject, func(m *nats.Msg) {
		var r request
		if len(m.Data) <= memberBytes && json.Unmarshal(m.Data, &r) == nil {
			asked.put(r.Position)
		}
	})
	if err != nil {
		return fmt.Errorf("cluster: snapshots: %w", err)
	}
	defer sub.Unsubscribe()
	for {
		need, ok := asked.get(ctx)
		if !ok {
			return nil
		}
		turn, done := context.WithCancel(ctx)
		leases.Hold(turn, "snapshot", func(ctx context.Context) {
			defer done()
			begun, err := s.newest(ctx, need)
			if !errors.Is(err, errNoSnapshot) {
				return
			}
			if begun.bucket != "" { // by who had the lease before; whoever reads it is not to wait for more
				if err := s.remove(ctx, begun); err != nil {
					s.log.Warn("cluster: what is there of a snapshot that was not completed is left to the next cleaning", "position", begun.position, "error", err)
				}
			}
			err = make(ctx, need, func(position uint64, write func(io.Writer) error) error {
				return s.put(ctx, position, write)
			})
			if err != nil && ctx.Err() == nil {
				s.log.Warn("cluster: a snapshot that was asked for could not be made", "error", err)
			}
		})
		done()
	}
}

// latest holds the highest number that was put into it, until it is taken out.
type latest struct {
	mu   sync.Mutex
	n    uint64
	some chan struct{}
}

func newLatest() *latest { return &latest{some: make(chan struct{}, 1)} }

func (l *latest) put(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n = max(l.n, n)
	select {
	case l.some <- struct{}{}:
	default:
	}
}

func (l *latest) get(ctx context.Context) (uint64, bool) {
	select {
	case <-ctx.Done():
		return 0, false
	case <-l.some:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.some: // the same number, put meanwhile
	default:
	}
	n := l.n
	l.n = 0
	return n, true
}
