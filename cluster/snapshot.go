package cluster

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/store"
)

var (
	errNoSnapshot = errors.New("cluster: there is no snapshot")
	errQuiet      = errors.New("nothing more comes")
	errGivenUp    = errors.New("the other node has given up")
)

const (
	snapshotChunk  = 60 << 10               // bytes of a message: one that is larger than the 64 KiB that a server reads at once is copied once more by each
	snapshotWindow = 4 << 20                // bytes under way, at most
	snapshotTaken  = snapshotWindow / 4     // how often it is said what has been taken
	snapshotAsk    = 500 * time.Millisecond // for an offer to come
	snapshotTry    = time.Second            // until it is said anew what has been taken: it may have been lost, or what was sent
	snapshotAlive  = 2 * time.Second        // how often a node says that there will be more
	snapshotQuiet  = 15 * time.Second       // nothing more comes when nothing has come for so long
)

// snapshots are the files of a node at a position of the log, sent to one that joins, from node to node: nothing of it is stored on the way.
//
// Who joins asks all, with a subject of its own to answer to. Each node that can sends an offer there, whose reply subject is to be used for saying that it is
// taken; of them one is. That node sends the snapshot in messages, each with its place and a checksum, and no more of them than the window ahead of what
// the other one says it has taken. What does not come is asked for and sent again, so that it may be lost on the way, as when a server goes.
type snapshots struct {
	nc      *nats.Conn
	subject string
	log     *slog.Logger
}

func newSnapshots(nc *nats.Conn, cluster string, logger *slog.Logger) *snapshots {
	return &snapshots{nc: nc, subject: "fanfare." + cluster + ".snapshot", log: logger}
}

// own is a subject that nobody else has.
func (s *snapshots) own() string { return s.subject + "." + rand.Text() }

// request is what a node that needs a snapshot publishes.
type request struct {
	Position uint64 `json:"position"` // at least
}

// What a message to the node that joins is; its first byte.
const (
	snapshotOffer  = iota // nothing more
	snapshotData          // place (u64), checksum (u32), bytes
	snapshotEnd           // place (u64), checksum (u32): it has been sent
	snapshotWait          // nothing more: it will be sent
	snapshotFailed        // why
)

// What a message to the node that sends is; its first byte. Its place (u64), up to which the other one has all, is behind it.
const (
	snapshotHas     = iota
	snapshotAgain   // what is behind it did not come
	snapshotEnough  // it is not wanted any more
	snapshotHasSize = 1 + 8
)

const (
	snapshotHead  = 1 + 8 + 4 // bytes of a message before its own
	snapshotBegin = 8 + 8     // bytes before those of the file: position, and how many of the file there are
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealed puts the head before what is behind it.
func sealed(m []byte, kind byte, place uint64) []byte {
	m[0] = kind
	binary.BigEndian.PutUint64(m[1:], place)
	binary.BigEndian.PutUint32(m[9:], snapshotSum(m))
	return m
}

func snapshotSum(m []byte) uint32 {
	return crc32.Update(crc32.Checksum(m[:9], castagnoli), castagnoli, m[snapshotHead:])
}

// sendFunc is [store.Store.Send].
type sendFunc func(ctx context.Context, begin func(position uint64, size int64) (store.Taker, error)) error

// answer sends snapshots to those who ask, one at a time, until ctx ends. Able says whether there is one that is good enough, and send sends it.
func (s *snapshots) answer(ctx context.Context, able func(atLeast uint64) bool, send sendFunc) error {
	var busy atomic.Bool
	own, wishes := s.own(), make(chan string)
	asked, err := s.nc.Subscribe(s.subject, func(m *nats.Msg) {
		var r request
		if m.Reply != "" && len(m.Data) <= memberBytes && json.Unmarshal(m.Data, &r) == nil && !busy.Load() && able(r.Position) {
			_ = s.nc.PublishRequest(m.Reply, own, []byte{snapshotOffer}) // it asks again
		}
	})
	if err != nil {
		return fmt.Errorf("cluster: snapshots: %w", err)
	}
	defer asked.Unsubscribe()
	wished, err := s.nc.Subscribe(own, func(m *nats.Msg) {
		select {
		case wishes <- m.Reply:
		default:
			_ = s.nc.Publish(m.Reply, append([]byte{snapshotFailed}, "it is being sent to another node"...))
		}
	})
	if err != nil {
		return fmt.Errorf("cluster: snapshots: %w", err)
	}
	defer wished.Unsubscribe()
	for {
		busy.Store(false)
		select {
		case <-ctx.Done():
			return nil
		case to := <-wishes:
			busy.Store(true)
			if err := s.send(ctx, to, send); err != nil && ctx.Err() == nil {
				s.log.Warn("cluster: a snapshot that was asked for could not be sent", "error", err)
			}
		}
	}
}

// send sends a snapshot to a subject.
func (s *snapshots) send(ctx context.Context, to string, send sendFunc) (err error) {
	t := &sender{nc: s.nc, to: to, own: s.own(), news: make(chan struct{}, 1)}
	sub, err := s.nc.Subscribe(t.own, t.hear)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var alive sync.WaitGroup
	alive.Go(func() {
		for ok := true; ok; ok = pause(ctx, snapshotAlive) {
			_ = s.nc.PublishRequest(to, t.own, []byte{snapshotWait})
		}
	})
	defer func() {
		cancel()
		alive.Wait()
		sub.Unsubscribe()
		if err != nil {
			_ = s.nc.Publish(to, append([]byte{snapshotFailed}, fmt.Sprintf("%.200s", err)...))
		}
	}()
	err = send(ctx, func(position uint64, size int64) (store.Taker, error) {
		if _, err := t.Ready(ctx); err != nil {
			return nil, err
		}
		begin := binary.BigEndian.AppendUint64(nil, position)
		_, err := t.Write(binary.BigEndian.AppendUint64(begin, uint64(size)))
		return t, err
	})
	if err != nil {
		return err
	}
	return t.end(ctx)
}

// sender is a snapshot on its way. It keeps what the other node has not taken yet.
type sender struct {
	nc      *nats.Conn
	to, own string
	news    chan struct{} // of what is heard

	mu     sync.Mutex
	taken  uint64 // the other one has all before
	again  bool   // and not what is behind
	enough bool

	next uint64  // the place behind what has been sent
	kept []*sent // the oldest first
	free []*sent
}

// sent is a message.
type sent struct {
	message []byte
	end     uint64 // the place behind it
}

// hear takes what the other node says.
func (t *sender) hear(m *nats.Msg) {
	if len(m.Data) != snapshotHasSize {
		return
	}
	place := binary.BigEndian.Uint64(m.Data[1:])
	t.mu.Lock()
	switch m.Data[0] {
	case snapshotHas:
		t.taken = max(t.taken, place)
	case snapshotAgain:
		t.taken = max(t.taken, place)
		t.again = t.again || place == t.taken
	case snapshotEnough:
		t.enough = true
	}
	t.mu.Unlock()
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// until waits until the other node has all before a place, and sends again what it says did not come.
func (t *sender) until(ctx context.Context, place uint64) error {
	quiet := time.NewTimer(snapshotQuiet)
	defer quiet.Stop()
	for before := uint64(0); ; {
		t.mu.Lock()
		taken, again, enough := t.taken, t.again, t.enough
		t.again = false
		t.mu.Unlock()
		for len(t.kept) > 0 && t.kept[0].end <= taken {
			t.free, t.kept = append(t.free, t.kept[0]), t.kept[1:]
		}
		if again {
			for _, s := range t.kept {
				if err := t.publish(s); err != nil {
					return err
				}
			}
		}
		switch {
		case enough:
			return errGivenUp
		case taken >= place:
			return nil
		case taken > before:
			before = taken
			quiet.Reset(snapshotQuiet)
		}
		select {
		case <-t.news:
		case <-quiet.C:
			return errQuiet
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// publish sends a message, unless it is lost.
func (t *sender) publish(s *sent) error {
	err := t.nc.PublishMsg(&nats.Msg{Subject: t.to, Reply: t.own, Data: s.message})
	if errors.Is(err, nats.ErrConnectionClosed) {
		return err
	}
	return nil
}

// Ready is of a [store.Taker].
func (t *sender) Ready(ctx context.Context) (int, error) {
	least := uint64(0)
	if t.next > snapshotWindow-snapshotChunk {
		least = t.next - (snapshotWindow - snapshotChunk)
	}
	return snapshotChunk, t.until(ctx, least)
}

// Write sends what is at most of the size that Ready said.
func (t *sender) Write(b []byte) (int, error) {
	return len(b), t.put(snapshotData, b, uint64(len(b)))
}

func (t *sender) put(kind byte, b []byte, size uint64) error {
	var s *sent
	if n := len(t.free); n > 0 {
		s, t.free = t.free[n-1], t.free[:n-1]
	} else {
		s = &sent{message: make([]byte, 0, snapshotHead+snapshotChunk)}
	}
	s.message = sealed(append(s.message[:snapshotHead], b...), kind, t.next)
	t.next += size
	s.end = t.next
	t.kept = append(t.kept, s)
	return t.publish(s)
}

// end says that there is no more, and waits until the other node knows. The place behind that is one further.
func (t *sender) end(ctx context.Context) error {
	if err := t.put(snapshotEnd, nil, 1); err != nil {
		return err
	}
	return t.until(ctx, t.next)
}

// ask asks the nodes that run for a snapshot whose position is at least so high, until one of them sends it. The reader is to be closed.
func (s *snapshots) ask(ctx context.Context, atLeast uint64) (*snapshotReader, error) {
	for {
		r, err := s.take(ctx, atLeast)
		if err == nil {
			return r, nil
		}
		if !pause(ctx, tryAgain) {
			return nil, fmt.Errorf("%w: %w: %w", fanfare.ErrUnavailable, context.Cause(ctx), err)
		}
	}
}

// take asks once, and returns the snapshot when it has begun to come.
func (s *snapshots) take(ctx context.Context, atLeast uint64) (_ *snapshotReader, err error) {
	v, err := json.Marshal(request{atLeast})
	if err != nil {
		return nil, err
	}
	own := s.own()
	sub, err := s.nc.SubscribeSync(own)
	if err != nil {
		return nil, err
	}
	r := &snapshotReader{ctx: ctx, nc: s.nc, sub: sub}
	defer func() {
		if err != nil {
			err = errors.Join(errNoSnapshot, err, r.Close())
		}
	}()
	if err := s.nc.PublishRequest(s.subject, own, v); err != nil {
		return nil, err
	}
	c, cancel := context.WithTimeout(ctx, snapshotAsk)
	defer cancel()
	m, err := sub.NextMsgWithContext(c)
	if err != nil {
		return nil, err
	}
	if err := s.nc.PublishRequest(m.Reply, own, nil); err != nil {
		return nil, err
	}
	return r, r.begin(atLeast)
}
