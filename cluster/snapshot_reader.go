package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
)

var errSnapshotDamaged = errors.New("it is not as it was sent")

// snapshotReader reads the file of a snapshot while it is sent. What it hands out has been checked against the checksum of its message, and counts once it has
// come to the end: whoever sends it may fail before. Then reading fails.
type snapshotReader struct {
	ctx      context.Context
	nc       *nats.Conn
	sub      *nats.Subscription
	position uint64
	size     uint64 // of the file

	sender string // the subject of who sends it
	place  uint64 // up to which it has come,
	said   uint64 // and up to which that was said
	lost   bool   // what is behind it has been asked for again
	b      []byte // what is to be handed out
	failed error  // io.EOF at the end
}

// begin waits for what comes before the file.
func (r *snapshotReader) begin(atLeast uint64) error {
	err := r.next()
	if err != nil {
		return err
	}
	if len(r.b) != snapshotBegin {
		return fmt.Errorf("a snapshot that begins with %d bytes", len(r.b))
	}
	r.position, r.size = binary.BigEndian.Uint64(r.b), binary.BigEndian.Uint64(r.b[8:])
	if r.position < atLeast {
		return fmt.Errorf("a snapshot at %d, not at %d", r.position, atLeast)
	}
	r.b = nil
	return nil
}

func (r *snapshotReader) Read(b []byte) (n int, err error) {
	if len(r.b) == 0 && len(b) > 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n = copy(b, r.b)
	r.b = r.b[n:]
	return n, nil
}

// WriteTo is Read without a copy.
func (r *snapshotReader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		k, err := w.Write(r.b)
		n += int64(k)
		r.b = r.b[k:]
		if err != nil {
			return n, err
		}
		if err := r.next(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// next waits for the next bytes.
func (r *snapshotReader) next() error {
	if r.failed == nil {
		r.failed = r.receive()
		if r.failed != nil && r.failed != io.EOF {
			r.failed = fmt.Errorf("cluster: snapshot at %d: %w", r.position, r.failed)
		}
	}
	return r.failed
}

func (r *snapshotReader) receive() error {
	if r.place-r.said >= snapshotTaken {
		r.say(snapshotHas)
	}
	for heard := time.Now(); ; {
		wait := snapshotTry
		if r.sender == "" {
			wait = 3 * snapshotTry
		}
		c, cancel := context.WithTimeout(r.ctx, wait)
		m, err := r.sub.NextMsgWithContext(c)
		cancel()
		switch {
		case errors.Is(err, nats.ErrSlowConsumer): // what it has dropped is sent again
			continue
		case err != nil && (r.ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)):
			return err
		case err != nil && (time.Since(heard) >= snapshotQuiet || r.sender == ""): // who sends says so at once
			return errQuiet
		case err != nil:
			r.say(snapshotAgain)
			continue
		case len(m.Data) == 0:
			return errors.New("a message without anything")
		}
		heard = time.Now()
		switch kind := m.Data[0]; kind {
		case snapshotOffer: // of another node
		case snapshotWait:
			r.sender = m.Reply
		case snapshotFailed:
			return fmt.Errorf("the node that sends it: %.200q", m.Data[1:])
		case snapshotData, snapshotEnd:
			if len(m.Data) < snapshotHead || snapshotSum(m.Data) != binary.BigEndian.Uint32(m.Data[9:]) {
				return fmt.Errorf("%w: a message behind byte %d", errSnapshotDamaged, r.place)
			}
			r.sender = m.Reply
			b := m.Data[snapshotHead:]
			switch place := binary.BigEndian.Uint64(m.Data[1:]); {
			case place < r.place: // it was lost, and has come after all
				continue
			case place > r.place:
				if !r.lost {
					r.lost = true
					r.say(snapshotAgain)
				}
				continue
			}
			r.lost = false
			if kind == snapshotData && len(b) > 0 {
				r.b = b
				r.place += uint64(len(b))
				return nil
			}
			if len(b) > 0 || r.place != snapshotBegin+r.size {
				return fmt.Errorf("%w: %d bytes of %d", errSnapshotDamaged, r.place, snapshotBegin+r.size)
			}
			r.place++
			r.say(snapshotHas)
			return io.EOF
		default:
			return fmt.Errorf("a message of kind %d", kind)
		}
	}
}

// say tells who sends how far it has come. When that is lost, it is said again.
func (r *snapshotReader) say(kind byte) {
	if r.sender == "" {
		return
	}
	r.said = r.place
	_ = r.nc.Publish(r.sender, binary.BigEndian.AppendUint64([]byte{kind}, r.place))
}

// Close ends the reading.
func (r *snapshotReader) Close() error {
	if r.failed != io.EOF {
		r.say(snapshotEnough)
	}
	return r.sub.Unsubscribe()
}

// failure is why the snapshot itself could not be read, if that is so.
func (r *snapshotReader) failure() error {
	if r.failed == io.EOF {
		return nil
	}
	return r.failed
}
