package fanfare

import (
	"context"
	"iter"
	"slices"

	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
)

// Ack says that a user has a message, or several of them: they are not delivered to the user again.
// Acks of one user may come in any order, twice, and for messages that have
// ended; each counts once. It is one step, durable when it returns. An ID that is none, or is
// of no task, is [ErrUnknownTask], and then none of them counts; a user who is not known is [ErrUnknownUser].
func (p *Pusher) Ack(ctx context.Context, user, messageID string, more ...string) error {
	ord, seq, err := p.acked(user, messageID)
	if err != nil {
		return err
	}
	if len(more) == 0 {
		counts, err := p.store.Ack(ctx, ord, seq)
		if counts {
			p.delivery.counts.acked.Add(1)
		}
		return err
	}
	seqs := append(make([]uint64, 0, 1+len(more)), seq)
	for _, id := range more {
		if seq, err = p.taskSeq(id); err != nil {
			return err
		}
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	return p.caughtUp(ctx, ord, slices.Compact(seqs))
}

// AckThrough says that a user has a message and everything sent before it. It is for
// clients that were handed all of that in order, as by [Pusher.Pending]: what was lost before
// the last one counts as received too. Otherwise it is as [Pusher.Ack].
//
// It is not for an acknowledgement that a client sends on one of several connections, or on a new one: a Deliver that began
// before the old connection was lost may reach the new one ahead of what is older. A host notes
// what it wrote to each connection, and calls Ack with that part of it.
func (p *Pusher) AckThrough(ctx context.Context, user, messageID string) error {
	ord, seq, err := p.acked(user, messageID)
	if err != nil {
		return err
	}
	if sent, all := p.delivery.unackedThrough(ord, seq); all {
		return p.caughtUp(ctx, ord, sent)
	}
	cleared, err := p.store.AckThrough(ctx, ord, seq)
	p.delivery.counts.acked.Add(int64(cleared))
	return err
}

// caughtUp acknowledges several messages of a user.
func (p *Pusher) caughtUp(ctx context.Context, ord uint32, seqs []uint64) error {
	cleared, err := p.store.Propose(ctx, &store.Acked{Ordinal: ord, Seqs: seqs})
	if n, ok := cleared.(int); ok {
		p.delivery.counts.acked.Add(int64(n))
	}
	return err
}

// Opened says that a user has opened a message, in the app or by a tap on its notification. It is durable when it
// returns, and counts once for a user and a task in [Progress].Opened, also after the task has ended, until it is forgotten. It
// is no acknowledgement: a user who opened a message and waits for it still gets it. Whether the message was for the
// user is not looked at, so that one counts who was never in the audience: the host says it only of those whom it gave the
// message's ID. It returns [ErrUnknownTask] for a message of no task, [ErrUnknownUser] for a user who is not known.
func (p *Pusher) Opened(ctx context.Context, user, messageID string) error {
	ord, seq, err := p.acked(user, messageID)
	if err == nil {
		_, err = p.store.Opened(ctx, ord, seq)
	}
	return err
}

func (p *Pusher) acked(user, messageID string) (ord uint32, seq uint64, err error) {
	if err := p.writable(); err != nil {
		return 0, 0, err
	}
	if err := checkID(user); err != nil {
		return 0, 0, err
	}
	if seq, err = p.taskSeq(messageID); err != nil {
		return 0, 0, err
	}
	ord, err = p.store.Ordinal(user)
	return ord, seq, err
}

// Pending yields the messages that a user still waits for, in order. It delivers
// nothing: a host that wants to hand them over itself calls Ack for each. It returns
// [ErrUnknownUser] for a user who is not known.
func (p *Pusher) Pending(ctx context.Context, user string) iter.Seq2[*transport.Message, error] {
	return func(yield func(*transport.Message, error) bool) {
		err := p.open()
		if err == nil {
			err = checkID(user)
		}
		var ord uint32
		if err == nil {
			ord, err = p.store.Ordinal(user)
		}
		for after := uint64(0); err == nil; {
			var seqs []uint64
			seqs, err = p.store.PendingOf(ord, after, maxUnacked)
			if err != nil || len(seqs) == 0 {
				break
			}
			for _, seq := range seqs {
				after = seq
				var m *store.Message
				if m, err = p.store.Message(seq); err == nil {
					err = ctx.Err()
				}
				if err != nil {
					break
				}
				if m == nil || m.Expires <= p.o.now().UnixMilli() {
					continue
				}
				var own *transport.Message
				if own, err = newMessage(m).of(p.delivery, user); err != nil {
					break
				}
				if !yield(own, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}
