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
	snapshotPart  = 8 << 20   // bytes of an object, but for the last: what is in flight at a time
	snapshotChunk = 128 << 10 // bytes of a message: larger ones were slower, on three servers
	snapshotWait  = time.Minute
	snapshotMeta  = 64 << 10               // bytes of what is known of an object, at most
	snapshotKept  = time.Hour              // a snapshot is for the nodes that join now
	snapshotStale = 10 * time.Minute       // what no snapshot came of, and nobody goes on with
	snapshotAsk   = 2 * time.Second        // how often it is asked for
	snapshotLook  = 250 * time.Millisecond // how often it is looked for
	snapshotEnd   = 5 * time.Second
)

// snapshots are the files of a node at a position of the log, for those that join, in an object store. A snapshot is several objects whose names begin with
// its position and a random ID: part 0, which is empty, says that it is begun; parts of a few megabytes each, so that as little is in
// flight at a time; and last the one that makes it a snapshot, which has the number of the parts and a digest of their digests in its metadata.
// As long as any of it is there the log is not cut behind its position.
type snapshots struct {
	store   jetstream.ObjectStore
	stream  jetstream.Stream // that the store is
	journal jetstream.Stream // the log
	bucket  string
	subject string
	nc      *nats.Conn
	log     *slog.Logger
}

// openSnapshots makes or opens the object store of a cluster's snapshots, and waits for it as long as ctx.
func openSnapshots(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, cluster string, replicas int, journal jetstream.Stream, logger *slog.Logger) (*snapshots, error) {
	s := &snapshots{bucket: "fanfare-" + cluster + "-snapshots", subject: "fanfare." + cluster + ".snapshot", journal: journal, nc: nc, log: logger}
	err := untilThere(ctx, func(ctx context.Context) (err error) {
		s.store, err = js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: s.bucket, Replicas: replicas, Storage: jetstream.FileStorage})
		if errors.Is(err, jetstream.ErrBucketExists) {
			s.store, err = js.ObjectStore(ctx, s.bucket)
		}
		if err != nil {
			return err
		}
		s.stream, err = js.Stream(ctx, "OBJ_"+s.bucket)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cluster: object store %s: %w", s.bucket, err)
	}
	return s, nil
}

// snapshot is what is there of one.
type snapshot struct {
	id       string // begins the names of its objects
	position uint64
	last     *jetstream.ObjectInfo
	parts    []*jetstream.ObjectInfo // in their order
	subjects []string                // of all that is stored of it
	messages uint64                  // in those
}

// digest is that of the parts together, as the last object has it.
func digest(parts []*jetstream.ObjectInfo) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintln(h, p.Name, p.Size, p.Digest)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// complete says that all of a snapshot is there.
func (s *snapshot) complete() bool {
	return s.last != nil && s.last.Metadata["parts"] == strconv.Itoa(len(s.parts)) && s.last.Metadata["digest"] == digest(s.parts)
}

func snapshotID(position uint64) string { return fmt.Sprintf("%020d.%s", position, rand.Text()) }

// objects reads what is known of each object. The store's own list follows the stream, and waits for ever where that counts more to come than there is, as it may after a purge.
func (s *snapshots) objects(ctx context.Context, subjects map[string]uint64) (list []*jetstream.ObjectInfo, err error) {
	for subject := range subjects {
		if !strings.HasPrefix(subject, s.meta("")) {
			continue
		}
		m, err := s.stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		o := new(jetstream.ObjectInfo)
		if len(m.Data) <= snapshotMeta && json.Unmarshal(m.Data, o) == nil && !o.Deleted && s.meta(o.Name) == subject {
			list = append(list, o)
		}
	}
	return list, nil
}

// list reads what is there, in the order of positions. Messages that belong to nothing, as of a part whose writer has died, are one without a position.
func (s *snapshots) list(ctx context.Context) ([]*snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotWait)
	defer cancel()
	info, err := s.stream.Info(ctx, jetstream.WithSubjectFilter("$O."+s.bucket+".>"))
	if err != nil {
		return nil, err
	}
	objects, err := s.objects(ctx, info.State.Subjects)
	if err != nil {
		return nil, err
	}
	all := map[string]*snapshot{}
	of := func(id string) *snapshot {
		if all[id] == nil {
			all[id] = &snapshot{id: id}
		}
		return all[id]
	}
	owner := map[string]*snapshot{}
	for _, o := range objects {
		name := strings.Split(o.Name, ".")
		position, err := strconv.ParseUint(name[0], 10, 64)
		if err != nil || len(name) < 2 || len(name) > 3 {
			continue // not ours
		}
		one := of(name[0] + "." + name[1])
		one.position = position
		if len(name) == 2 {
			one.last = o
		} else {
			one.parts = append(one.parts, o)
		}
		owner[s.chunks(o.NUID)], owner[s.meta(o.Name)] = one, one
	}
	for subject, n := range info.State.Subjects {
		one := owner[subject]
		if one == nil {
			one = of(subject)
		}
		one.subjects = append(one.subjects, subject)
		one.messages += n
	}
	var l []*snapshot
	for _, one := range all {
		slices.SortFunc(one.parts, func(a, b *jetstream.ObjectInfo) int { return strings.Compare(a.Name, b.Name) })
		l = append(l, one)
	}
	slices.SortFunc(l, func(a, b *snapshot) int { return strings.Compare(a.id, b.id) })
	return l, nil
}

// The subjects of an object, see ADR-20 of NATS.
func (s *snapshots) chunks(nuid string) string { return "$O." + s.bucket + ".C." + nuid }
func (s *snapshots) meta(name string) string {
	return "$O." + s.bucket + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

// remove deletes all of a snapshot, the last object first: no reader begins with it any more. It leaves no marker, as a deletion of an object does.
func (s *snapshots) remove(ctx context.Context, one *snapshot) error {
	slices.Sort(one.subjects) // the chunks are before what says whose they are
	subjects := one.subjects
	if one.last != nil {
		subjects = append([]string{s.meta(one.last.Name)}, subjects...)
	}
	for _, subject := range subjects {
		c, cancel := context.WithTimeout(ctx, snapshotWait)
		err := s.stream.Purge(c, jetstream.WithPurgeSubject(subject))
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// positions are those of the snapshots that are there or being made: the log after the lowest must be kept.
func (s *snapshots) positions(ctx context.Context) ([]uint64, error) {
	l, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, one := range l {
		if len(one.parts) > 0 {
			all = append(all, one.position)
		}
	}
	return all, nil
}

// ages is what one cleaner has seen, by ID, and since when it is as it is, by its own clock.
type ages map[string]age

type age struct {
	messages uint64
	since    time.Time
}

// clean deletes the snapshots that are older than an hour, and what nobody has gone on with for ten minutes.
func (s *snapshots) clean(ctx context.Context, kept ages) error {
	l, err := s.list(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, one := range l {
		there[one.id] = true
		if old, ok := kept[one.id]; !ok || old.messages != one.messages {
			kept[one.id] = age{one.messages, time.Now()}
			continue
		}
		limit := snapshotStale
		if one.complete() {
			limit = snapshotKept
		}
		if time.Since(kept[one.id].since) >= limit {
			if err := s.remove(ctx, one); err != nil {
				return err
			}
		}
	}
	for id := range kept {
		if !there[id] {
			delete(kept, id)
		}
	}
	return nil
}

// putObject stores an object, and tries again when that fails for a while, as when a server has gone. When ctx ends it has a few seconds to finish: what is
// under way then would be left behind, as it is not known yet whose it is.
func (s *snapshots) putObject(ctx context.Context, meta jetstream.ObjectMeta, data []byte) (info *jetstream.ObjectInfo, err error) {
	meta.Opts = &jetstream.ObjectMetaOptions{ChunkSize: snapshotChunk}
	for try := range 3 {
		if try > 0 && !pause(ctx, time.Second) {
			break
		}
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), snapshotWait)
		stop := context.AfterFunc(ctx, func() { time.AfterFunc(snapshotEnd, cancel) })
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
		info, err = s.store.Put(c, meta, bytes.NewReader(data))
		stop()
		cancel()
		s.nc.RemoveStatusListener(closed)
		if err == nil || s.nc.IsClosed() {
			break
		}
	}
	return info, err
}

// put stores what write writes as the snapshot of a position. It is there for others once all of it is, and then those of lower positions are deleted; when
// that fails, what was stored is deleted, or left to a later cleaning if that fails as well. In memory are at most a few parts.
func (s *snapshots) put(ctx context.Context, position uint64, write func(io.Writer) error) (err error) {
	id := snapshotID(position)
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		if err == nil {
			return
		}
		err = fmt.Errorf("cluster: snapshot at %d: %w", position, err)
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), snapshotWait)
		defer cancel()
		l, lerr := s.list(c)
		for _, one := range l {
			if one.id == id {
				lerr = s.remove(c, one)
			}
		}
		if lerr != nil {
			s.log.Warn("cluster: what is there of a snapshot that was not completed is left to the next cleaning", "position", position, "error", lerr)
		}
	}()

	var parts []*jetstream.ObjectInfo
	part := func(data []byte) error {
		info, err := s.putObject(ctx, jetstream.ObjectMeta{Name: fmt.Sprintf("%s.%06d", id, len(parts))}, data)
		if err == nil {
			parts = append(parts, info)
		}
		return err
	}
	if err := part(nil); err != nil {
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
	full := make(chan []byte)
	failed := make(chan error, 1)
	writing.Go(func() {
		defer close(full)
		for {
			b := make([]byte, snapshotPart)
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
	for b := range full {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := part(b); err != nil {
			return err
		}
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
		// Who cuts the log may not have seen part 0 in time.
		c, cancel := context.WithTimeout(ctx, snapshotWait)
		info, err := s.journal.Info(c)
		cancel()
		if err != nil {
			return err
		}
		if info.State.FirstSeq > position+1 {
			return fmt.Errorf("the log begins at %d", info.State.FirstSeq)
		}
	}
	last := jetstream.ObjectMeta{Name: id, Metadata: map[string]string{
		"position": strconv.FormatUint(position, 10), "parts": strconv.Itoa(len(parts)), "digest": digest(parts),
	}}
	if _, err := s.putObject(ctx, last, nil); err != nil {
		return err
	}
	l, err := s.list(ctx)
	if err != nil {
		s.log.Warn("cluster: older snapshots are left to the next cleaning", "error", err)
		return nil
	}
	for _, one := range l {
		if one.complete() && one.position < position {
			if err := s.remove(ctx, one); err != nil {
				s.log.Warn("cluster: an older snapshot is left to the next cleaning", "position", one.position, "error", err)
			}
		}
	}
	return nil
}

// newest is the complete snapshot of the highest position, if that is at least so high.
func (s *snapshots) newest(ctx context.Context, atLeast uint64) (*snapshot, error) {
	l, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, one := range slices.Backward(l) {
		if one.complete() && one.position >= atLeast {
			return one, nil
		}
	}
	return nil, errNoSnapshot
}

// get opens the newest snapshot whose position is at least so high, or returns [errNoSnapshot]. What is read has been checked against its digest. A snapshot
// may be deleted while it is read, when a newer one has been made: then a read fails, and get finds the newer one.
func (s *snapshots) get(ctx context.Context, atLeast uint64) (position uint64, r io.ReadCloser, err error) {
	one, err := s.newest(ctx, atLeast)
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &partReader{s: s, ctx: ctx, cancel: cancel, parts: one.parts}
	return one.position, &snapshotReader{s2.NewReader(p), p}, nil
}

type snapshotReader struct {
	io.Reader
	parts *partReader
}

func (r *snapshotReader) Close() error {
	r.parts.cancel()
	return nil
}

// partReader reads one part after the other, each as a whole: what is not as its digest says is not handed out.
type partReader struct {
	s      *snapshots
	ctx    context.Context
	cancel context.CancelFunc
	parts  []*jetstream.ObjectInfo
	b      []byte
}

func (p *partReader) Read(b []byte) (n int, err error) {
	for len(p.b) == 0 {
		if len(p.parts) == 0 {
			return 0, io.EOF
		}
		if p.b, err = p.part(p.parts[0]); err != nil {
			return 0, fmt.Errorf("cluster: snapshot: %w", err)
		}
		p.parts = p.parts[1:]
	}
	n = copy(b, p.b)
	p.b = p.b[n:]
	return n, nil
}

func (p *partReader) part(o *jetstream.ObjectInfo) (b []byte, err error) {
	if o.Size > snapshotPart {
		return nil, fmt.Errorf("a part of %d bytes", o.Size)
	}
	for try := range 3 {
		if try > 0 && !pause(p.ctx, time.Second) {
			break
		}
		c, cancel := context.WithTimeout(p.ctx, snapshotWait)
		b, err = p.s.store.GetBytes(c, o.Name)
		cancel()
		if err == nil || errors.Is(err, jetstream.ErrObjectNotFound) || p.s.nc.IsClosed() {
			break
		}
	}
	if err == nil && jetstreamDigest(b) != o.Digest {
		err = jetstream.ErrDigestMismatch
	}
	return b, err
}

func jetstreamDigest(b []byte) string {
	h := sha256.Sum256(b)
	return "SHA-256=" + base64.URLEncoding.EncodeToString(h[:])
}

// request is what a node that needs a snapshot publishes.
type request struct {
	Position uint64 `json:"position"` // at least
}

// ask asks the nodes that run for a snapshot whose position is at least so high, until there is one, and opens it.
func (s *snapshots) ask(ctx context.Context, atLeast uint64) (position uint64, r io.ReadCloser, err error) {
	v, err := json.Marshal(request{atLeast})
	if err != nil {
		return 0, nil, err
	}
	for asked := (time.Time{}); ; {
		position, r, err = s.get(ctx, atLeast)
		if err == nil {
			return position, r, nil
		}
		if time.Since(asked) >= snapshotAsk {
			asked = time.Now()
			if perr := s.nc.Publish(s.subject, v); perr != nil {
				err = errors.Join(err, perr)
			}
		}
		if !pause(ctx, snapshotLook) {
			return 0, nil, fmt.Errorf("%w: %w: %w", fanfare.ErrUnavailable, context.Cause(ctx), err)
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
			if _, err := s.newest(ctx, need); !errors.Is(err, errNoSnapshot) {
				return
			}
			err := make(ctx, need, func(position uint64, write func(io.Writer) error) error {
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
