package fanfare

import (
	"context"
	"errors"
	"sync"

	"github.com/fanfare-im/fanfare/store"
)

// Session is one connection of a user. A user is online from the first
// session's Connect to the last one's Close.
type Session struct {
	p    *presence // nil without an Online transport
	once sync.Once
}

// Connect makes the user online, and known if the user was not. What is pending is then
// delivered in order by the library's own goroutines, and after it new
// messages as they come; Connect waits for none of that. A further session of a user who
// is online gets nothing older: Deliver is for the user, on all connections.
//
// The first Connect of a user on a day, by UTC, is noted in one durable step, for [SeenWithin]; the others write nothing. A user who is known is connected also where
// there is no room to note it. An ID that is not of 1 to 255 bytes is a [*LimitError].
//
// Without an Online transport Connect makes the user known, notes the day, and no more: nobody is online then.
//
// It may be called from anywhere, also while the host holds a lock that its Deliver takes.
func (p *Pusher) Connect(ctx context.Context, user string) (*Session, error) {
	if err := p.writable(); err != nil {
		return nil, err
	}
	if err := checkID(user); err != nil {
		return nil, err
	}
	for {
		before := p.delivery.unregistered.Load()
		ord, seen, err := p.store.Seen(user)
		if errors.Is(err, ErrUnknownUser) {
			if err := p.arrive(ctx, user, store.OpRegister, store.OpSeen); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if seen <= store.Day(p.o.now().UnixMilli()) {
			// Who cannot be noted, because there is no room say, can be delivered to.
			_ = p.arrive(ctx, user, store.OpSeen)
		}
		if p.delivery.online == nil {
			return new(Session), nil // for phones the user is away, and there is nobody to wait for
		}
		p.o.hook("connect:found", user)
		s := p.delivery.connect(ord, user)
		if p.delivery.unregistered.Load() == before {
			return s, nil
		}
		// Perhaps it was this user who was unregistered, and perhaps registered anew, in between: then that session was nobody's.
		if now, err := p.store.Ordinal(user); err == nil && now == ord {
			return s, nil
		} else if err != nil && !errors.Is(err, ErrUnknownUser) {
			s.Close()
			return nil, err
		}
		s.Close()
	}
}

// arrive makes changes of a user who connects, in one durable step.
func (p *Pusher) arrive(ctx context.Context, user string, kinds ...store.OpKind) error {
	c := new(store.Batch)
	for _, kind := range kinds {
		c.Ops = append(c.Ops, store.UserOp{Kind: kind, ID: user})
	}
	_, err := p.store.Propose(ctx, c)
	var op *BatchError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Online returns how many users are connected; 0 without an Online transport. In a cluster it is those of all nodes, of the others as of about a second ago. It reads a counter, and is the
// one method that does not say that the Pusher is closed.
func (p *Pusher) Online() int {
	n := int(p.delivery.present.Load())
	if p.o.cluster != nil {
		n += p.o.cluster.Presence.Others()
	}
	return n
}

// Connected says whether a user has a session. It returns [ErrUnknownUser] for one who is not known; without an Online transport nobody has.
func (p *Pusher) Connected(ctx context.Context, user string) (bool, error) {
	if err := p.open(); err != nil {
		return false, err
	}
	ord, err := p.store.Ordinal(user)
	if err != nil {
		return false, err
	}
	return p.delivery.connected(ord), nil
}

// Close ends the session. It may be called from any goroutine, and waits for nothing, so a Deliver for the user may still be under way
// when it returns. Closing again does nothing. It always returns nil.
func (s *Session) Close() error {
	if s.p != nil {
		s.once.Do(s.p.disconnect)
	}
	return nil
}
