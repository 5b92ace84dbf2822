package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/fanfare-im/fanfare"
)

const (
	// digestsKept is how many positions are compared at which nodes have told their digest: a node that is further behind than that is not compared.
	digestsKept = 64
	// judgeAfter is how long the digests of a position are waited for once two of them differ.
	judgeAfter = 2 * time.Second
	// digestVersion begins each message: version, position and digest, big endian, and the node's name.
	digestVersion = 1
	digestHeader  = 1 + 8 + 8
)

// digests compares what the records of the log have made of the state on each node. The nodes tell each other at the same positions; what is lost on the way is not
// compared. Where they differ, those stop that are not more than the others: one node of three, both of two.
type digests struct {
	nc      *nats.Conn
	subject string
	name    string
	logger  *slog.Logger
	stop    func(error)
	sub     *nats.Subscription

	mu     sync.Mutex
	at     map[uint64]map[string]uint64 // by position and node
	order  []uint64                     // the positions, as they came
	judges map[uint64]*time.Timer
	after  time.Duration
	closed bool
}

// newDigests begins to listen. Stop is called at most once, when this node differs.
func newDigests(nc *nats.Conn, cluster, name string, logger *slog.Logger, stop func(error)) (*digests, error) {
	d := &digests{
		nc: nc, subject: "fanfare." + cluster + ".digest", name: name, logger: logger, after: judgeAfter,
		at: make(map[uint64]map[string]uint64), judges: make(map[uint64]*time.Timer),
	}
	var once sync.Once
	d.stop = func(err error) { once.Do(func() { stop(err) }) }
	var err error
	d.sub, err = nc.Subscribe(d.subject, func(m *nats.Msg) {
		position, sum, node, err := decodeDigest(m.Data)
		if err == nil && node != name {
			d.note(position, sum, node)
		}
	})
	return d, err
}

func encodeDigest(position, sum uint64, node string) []byte {
	b := make([]byte, digestHeader, digestHeader+len(node))
	b[0] = digestVersion
	binary.BigEndian.PutUint64(b[1:], position)
	binary.BigEndian.PutUint64(b[9:], sum)
	return append(b, node...)
}

func decodeDigest(b []byte) (position, sum uint64, node string, err error) {
	if len(b) <= digestHeader || len(b) > digestHeader+maxName || b[0] != digestVersion {
		return 0, 0, "", errors.New("fanfare: not a digest of this version")
	}
	return binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:]), string(b[digestHeader:]), nil
}

// summed tells the others this node's digest at a position.
func (d *digests) summed(position, sum uint64) {
	d.note(position, sum, d.name)
	if err := d.nc.Publish(d.subject, encodeDigest(position, sum, d.name)); err != nil {
		d.logger.Debug("fanfare: tell a digest", "error", err)
	}
}

func (d *digests) note(position, sum uint64, node string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	of := d.at[position]
	if of == nil {
		of = make(map[string]uint64)
		d.at[position] = of
		d.order = append(d.order, position)
		if len(d.order) > digestsKept {
			d.forgetOne()
		}
	}
	if _, known := of[node]; !known && node != d.name && len(of) >= maxOthers {
		return
	}
	of[node] = sum
	own, told := of[d.name]
	if !told || d.judges[position] != nil {
		return
	}
	for _, other := range of {
		if other != own {
			d.judges[position] = time.AfterFunc(d.after, func() { d.judge(position) })
			return
		}
	}
}

// forgetOne forgets the position that came first of those that are not to be judged yet.
func (d *digests) forgetOne() {
	i := max(0, slices.IndexFunc(d.order, func(position uint64) bool { return d.judges[position] == nil }))
	delete(d.at, d.order[i])
	d.order = slices.Delete(d.order, i, i+1)
}

// judge decides whether it is this node that differs.
func (d *digests) judge(position uint64) {
	d.mu.Lock()
	delete(d.judges, position)
	of := d.at[position]
	own := of[d.name]
	with, against := 0, make(map[uint64]int)
	for _, sum := range of {
		if sum == own {
			with++
		} else {
			against[sum]++
		}
	}
	closed := d.closed
	d.mu.Unlock()
	most := 0
	for _, n := range against {
		most = max(most, n)
	}
	switch {
	case closed || of == nil:
	case most >= with:
		d.stop(fmt.Errorf("%w: at position %d of the log its digest is %016x, that of %d others is another", fanfare.ErrDiverged, position, own, most))
	default:
		d.logger.Error("fanfare: the state of another node differs, and that node stops", "position", position, "digests", fmt.Sprint(of))
	}
}

func (d *digests) close() error {
	d.mu.Lock()
	d.closed = true
	for _, t := range d.judges {
		t.Stop()
	}
	d.mu.Unlock()
	return d.sub.Unsubscribe()
}
