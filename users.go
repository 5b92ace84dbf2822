package fanfare

import (
	"context"
	"iter"
	"time"
)

// User is an account: what is given to Import, and what the Pusher knows of it.
type User struct {
	ID         string            // 1 to 255 bytes of valid UTF-8
	Tags       []string          // sorted when read
	OptOuts    []string          // categories that the user wants no messages of, sorted when read; see [Pusher.OptOut]
	Attributes map[string]string // by name; of slots without a name there is nothing to read
	Devices    []Device          // in the order in which they were first registered
	Registered time.Time         // to the second; not looked at by Import
}

// Register makes users known, in one durable step. Those who are known already stay as they are. An ID that is not of 1 to 255 bytes is a [*LimitError], and so are more users
// than fit in a step of 512 KiB; for those there is [Pusher.Import].
func (p *Pusher) Register(ctx context.Context, users ...string) error {
	var b Batch
	b.Register(users...)
	return p.one(ctx, &b)
}

// Unregister removes users and every trace of them, in one durable step:
// tags, attributes, devices, and what they still wait for. It returns
// [ErrUnknownUser] if one of them is not known. Open sessions get nothing more; the same ID registered again is a new user.
func (p *Pusher) Unregister(ctx context.Context, users ...string) error {
	var b Batch
	b.Unregister(users...)
	return p.one(ctx, &b)
}

// User returns what is known of a user, or [ErrUnknownUser].
func (p *Pusher) User(ctx context.Context, id string) (User, error) {
	if err := p.open(); err != nil {
		return User{}, err
	}
	if err := checkID(id); err != nil {
		return User{}, err
	}
	s, err := p.store.User(id)
	if err != nil {
		return User{}, err
	}
	u := User{ID: s.ID, Tags: s.Tags, OptOuts: s.OptOuts, Registered: time.Unix(s.Registered, 0)}
	for _, a := range s.Attrs {
		if a.Name != "" {
			if u.Attributes == nil {
				u.Attributes = make(map[string]string, len(s.Attrs))
			}
			u.Attributes[a.Name] = a.Value
		}
	}
	for _, d := range s.Devices {
		u.Devices = append(u.Devices, deviceOf(d))
	}
	return u, nil
}

// Count returns how many users an audience has now, exactly. A change that is made during
// the call may count in one part of the users and not in another; a push
// is exact at one instant. It returns [ErrNoAudience] for the zero Audience and
// [ErrUnnamedAttribute] for an attribute that has no name, a [*ValueError] for a comparison that its type does not have,
// [ErrUnknownAudience] for a saved audience that is not there, and the error of a context that ends before the last block of users is looked at.
func (p *Pusher) Count(ctx context.Context, a Audience) (int64, error) {
	if err := p.open(); err != nil {
		return 0, err
	}
	if err := a.validate(p.o.Limits); err != nil {
		return 0, err
	}
	a, err := p.expand(a)
	if err != nil {
		return 0, err
	}
	return p.store.Count(ctx, a.expr)
}

// Members yields the users of an audience in the order in which they were
// registered. Nothing is held open between two of them, so the caller may take its time and call the Pusher;
// users who come to the audience or leave it meanwhile may be seen or not. An error, one of [Pusher.Count], ends the iteration.
func (p *Pusher) Members(ctx context.Context, a Audience) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := p.open()
		if err == nil {
			err = a.validate(p.o.Limits)
		}
		if err == nil {
			a, err = p.expand(a)
		}
		if err != nil {
			yield("", err)
			return
		}
		for id, err := range p.store.Members(a.expr) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield("", err)
				return
			}
			if !yield(id, nil) {
				return
			}
		}
	}
}

func checkID(id string) error { return validateText("user ID", id, 1, maxIDBytes) }
