package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	snapshotQuiet = 15 * time.Second // nothing more comes of a snapshot of which nothing has come for so long
	snapshotFetch = 4 << 20          // bytes that a server sends ahead
)

var errQuiet = errors.New("nothing more comes")

// snapshotReader reads a snapshot, also one that is still being written. What it hands out has been checked against the digest of its part, and counts
// once it has come to the end: whoever writes may fail before. Then, and when the snapshot is deleted meanwhile, reading fails.
type snapshotReader struct {
	one    snapshot
	z      *s2.Reader
	parts  *partReader
	cancel context.CancelFunc
	failed error
}

// read begins with a snapshot. The reader is to be closed.
func (s *snapshots) read(ctx context.Context, one snapshot) *snapshotReader {
	ctx, cancel := context.WithCancel(ctx)
	p := &partReader{js: s.js, bucket: one.bucket, full: make(chan []byte), free: make(chan []byte, 2)}
	p.free <- nil
	p.free <- nil
	p.reading.Go(func() {
		defer close(p.full)
		if err := p.run(ctx); err != nil {
			p.err = fmt.Errorf("cluster: snapshot at %d: %w", one.position, err)
		}
	})
	return &snapshotReader{one: one, z: s2.NewReader(p), parts: p, cancel: cancel}
}

func (r *snapshotReader) Read(b []byte) (n int, err error) {
	if n, err = r.z.Read(b); err != nil && err != io.EOF {
		r.failed = err
	}
	return n, err
}

// Close ends the reading.
func (r *snapshotReader) Close() error {
	r.cancel()
	r.parts.reading.Wait()
	return nil
}

// failure is why the snapshot itself could not be read, if that is so.
func (r *snapshotReader) failure() error { return r.failed }

// partReader reads the messages of a bucket in the order in which they were written, and hands out one part after the other, each as a whole.
type partReader struct {
	js      jetstream.JetStream
	bucket  string
	reading sync.WaitGroup
	full    chan []byte // parts as they are to be handed out
	free    chan []byte // the room for them
	err     error       // once full is closed
	part, b []byte      // the one that is handed out, and what is left of it
}

func (p *partReader) Read(b []byte) (n int, err error) {
	for len(p.b) == 0 {
		if p.part != nil {
			p.free <- p.part[:0]
			p.part = nil
		}
		part, ok := <-p.full
		if !ok && p.err != nil {
			return 0, p.err
		}
		if !ok {
			return 0, io.EOF
		}
		p.part, p.b = part, part
	}
	n = copy(b, p.b)
	p.b = p.b[n:]
	return n, nil
}

// run fills parts until the end of the snapshot.
func (p *partReader) run(ctx context.Context) error {
	c, cancel := context.WithTimeout(ctx, snapshotQuiet)
	stream, err := p.js.Stream(c, bucketStream+p.bucket)
	cancel()
	if err != nil {
		return err
	}
	c, cancel = context.WithTimeout(ctx, snapshotQuiet)
	consumer, err := stream.OrderedConsumer(c, jetstream.OrderedConsumerConfig{MaxResetAttempts: 3})
	cancel()
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxBytes(snapshotFetch))
	if err != nil {
		return err
	}
	defer messages.Stop()

	all, chunks, metas := newSum(), chunksOf(p.bucket), metaOf(p.bucket, "")
	var now chunked
	for {
		m, err := p.next(ctx, stream, messages)
		if err != nil {
			return err
		}
		if id, ok := strings.CutPrefix(m.Subject(), chunks); ok {
			if now.b == nil {
				select {
				case now.b = <-p.free:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			if err := now.add(id, m.Data()); err != nil {
				return err
			}
			continue
		}
		o := new(jetstream.ObjectInfo)
		if !strings.HasPrefix(m.Subject(), metas) || len(m.Data()) > snapshotMeta || json.Unmarshal(m.Data(), o) != nil {
			return fmt.Errorf("a message %.200q", m.Subject())
		}
		switch {
		case o.Name == lastObject:
			if !maps.Equal(o.Metadata, all.metadata()) {
				return jetstream.ErrDigestMismatch
			}
			return nil
		case all.parts > 0 && o.Name == partName(all.parts-1): // whoever wrote it did not know that it was stored already
		case o.Name != partName(all.parts):
			return fmt.Errorf("a part %.64q in the place of %q", o.Name, partName(all.parts))
		case !now.is(o):
			return jetstream.ErrDigestMismatch
		default:
			all.add(o)
			select {
			case p.full <- now.b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			now = chunked{}
		}
	}
}

// next waits for a message. When none comes, the snapshot may have been deleted, or its writer or server may be gone.
func (p *partReader) next(ctx context.Context, stream jetstream.Stream, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	for began := time.Now(); ; {
		c, cancel := context.WithTimeout(ctx, snapshotTry)
		m, err := messages.Next(jetstream.NextContext(c))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return m, err
		}
		if time.Since(began) >= snapshotQuiet {
			return nil, errQuiet
		}
		c, cancel = context.WithTimeout(ctx, snapshotTry)
		_, err = stream.Info(c)
		cancel()
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, err
		}
	}
}

// chunked is what has come of an object. A writer writes one at a time, so that one whose end does not come is followed by another one.
type chunked struct {
	id   string
	b    []byte
	hash hash.Hash
}

func (c *chunked) add(id string, data []byte) error {
	if c.id != id {
		c.id, c.b, c.hash = id, c.b[:0], sha256.New()
	}
	if len(c.b)+len(data) > snapshotPart {
		return fmt.Errorf("a part of more than %d bytes", snapshotPart)
	}
	if cap(c.b) == 0 {
		c.b = make([]byte, 0, snapshotPart)
	}
	c.b = append(c.b, data...)
	c.hash.Write(data)
	return nil
}

// is says whether it is all of an object, and as its digest says.
func (c *chunked) is(o *jetstream.ObjectInfo) bool {
	return len(c.b) > 0 && c.id == o.NUID && o.Size == uint64(len(c.b)) && o.Digest == "SHA-256="+base64.URLEncoding.EncodeToString(c.hash.Sum(nil))
}
