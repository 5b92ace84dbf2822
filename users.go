package fanfare

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// User is an account: what is given to Import, and what the Pusher knows of it.
type User struct {
	ID         string            // 1 to 255 bytes of valid UTF-8
	Tags       []string          // sorted when read
	Attributes map[string]string // by name; of slots without a name there is nothing to read
	Devices    []Device
	Registered time.Time // to the second; not looked at by Import
}

// ImportOptions adjust an Import. A nil one is the same as a zero one.
type ImportOptions struct {
	// Progress is called after each durable step, from the goroutine of the
	// call. Default: none.
	Progress func(ImportStats)
}

// ImportStats is how far an import has come.
type ImportStats struct {
	Users      int64 // durable; those behind an error are not
	Registered int64 // of them, new
	Updated    int64 // of them, known before
}

// Steps of an import: users in one, and the bytes at which it is made smaller.
const (
	importUsers = 500
	importBytes = store.MaxCommand / 2
)

// Import registers users in bulk, with their tags, attributes and devices. A
// user who is known is updated: attributes that are given are set, tags added, devices
// registered, and what is not mentioned stays; so importing again is harmless.
//
// It goes in durable steps of a few hundred users, and memory does not
// grow with their number. What a yielded User refers to, its tags say, is read until the call
// returns, so the iterator must not use it again. It is not atomic as a whole: at an error, from the iterator
// or of a user (an [*ImportError] says which), the steps before stay, and the
// stats say how many users those were. Other calls go on meanwhile.
func (p *Pusher) Import(ctx context.Context, users iter.Seq2[User, error], o *ImportOptions) (ImportStats, error) {
	var stats ImportStats
	if err := p.open(); err != nil {
		return stats, err
	}
	if o == nil {
		o = new(ImportOptions)
	}
	step := &importStep{p: p}
	flush := func() error {
		n := len(step.ops)
		r, err := step.apply(ctx, stats.Users)
		if err != nil || n == 0 {
			return err
		}
		stats.Users += int64(n)
		stats.Registered += int64(r.Registered)
		stats.Updated += int64(r.Known)
		if o.Progress != nil {
			o.Progress(stats)
		}
		return nil
	}
	for u, err := range users {
		var op store.UserOp
		if err == nil {
			op, err = step.op(&u)
		}
		if err != nil {
			at := stats.Users + int64(len(step.ops))
			if e := flush(); e != nil {
				return stats, e
			}
			return stats, &ImportError{Index: at, ID: u.ID, Err: err}
		}
		size := opBytes(&op)
		if step.bytes+size > importBytes {
			if err := flush(); err != nil {
				return stats, err
			}
		}
		if step.add(op, size); len(step.ops) >= importUsers || step.bytes >= importBytes {
			if err := flush(); err != nil {
				return stats, err
			}
		}
	}
	return stats, flush()
}

// ImportError says at which user an import ended.
type ImportError struct {
	Index int64  // of the user in the iterator, from 0
	ID    string // may be empty
	Err   error
}

func (e *ImportError) Error() string {
	return fmt.Sprintf("fanfare: import: user %d, %q: %v", e.Index, e.ID, e.Err)
}

// Unwrap returns the cause.
func (e *ImportError) Unwrap() error { return e.Err }

// importStep collects the users of one command.
type importStep struct {
	p     *Pusher
	ops   []store.UserOp
	order []int // of each op, its place in the iterator
	bytes int
	// owners are the ops that give a user a token, by token: the op of a later user takes it from them
	// here, because the sort does not keep who of two different users comes last.
	owners map[[16]byte][]int
}

// op checks a user and turns it into a command's.
func (s *importStep) op(u *User) (op store.UserOp, err error) {
	if err := checkID(u.ID); err != nil {
		return op, err
	}
	op = store.UserOp{Kind: store.OpPut, ID: u.ID}
	if op.Tags, err = s.p.o.Limits.tags(u.Tags); err != nil {
		return op, err
	}
	if op.Attrs, err = s.p.o.Limits.attributes(u.Attributes); err != nil {
		return op, err
	}
	op.Devices, err = s.p.o.Limits.devices(u.Devices)
	return op, err
}

func (s *importStep) add(op store.UserOp, size int) {
	s.takeTokens(&op)
	s.order = append(s.order, len(s.ops))
	s.ops = append(s.ops, op)
	s.bytes += size
}

// takeTokens takes the tokens of an op, which will be the next one, from those before it that are of other users.
func (s *importStep) takeTokens(op *store.UserOp) {
	for i := range op.Devices {
		h := store.HashToken(op.Devices[i].Platform, op.Devices[i].Token)
		for _, at := range s.owners[h] {
			if at == len(s.ops) {
				continue // the op itself, which names the token twice
			}
			if before := &s.ops[at]; before.ID != op.ID {
				before.Devices = slices.DeleteFunc(before.Devices, func(d store.Device) bool {
					return store.HashToken(d.Platform, d.Token) == h
				})
			}
		}
		if s.owners == nil {
			s.owners = make(map[[16]byte][]int)
		}
		s.owners[h] = append(s.owners[h], len(s.ops))
	}
}

func opBytes(o *store.UserOp) int {
	n := len(o.ID) + 8
	for _, t := range o.Tags {
		n += len(t) + 2
	}
	for _, a := range o.Attrs {
		n += len(a.Name) + len(a.Value) + 4
	}
	for _, d := range o.Devices {
		n += len(d.Platform) + len(d.Token) + len(d.Topic) + len(d.Locale) + len(d.TimeZone) + 16
	}
	return n
}

// apply makes the step durable and empties it. Users go in order of their IDs, which is the
// order of the index; the sort is stable, so of two with the same ID the later still counts last.
func (s *importStep) apply(ctx context.Context, before int64) (r store.BatchResult, err error) {
	if len(s.ops) == 0 {
		return r, nil
	}
	slices.SortStableFunc(s.order, func(x, y int) int {
		switch {
		case s.ops[x].ID < s.ops[y].ID:
			return -1
		case s.ops[x].ID > s.ops[y].ID:
			return 1
		}
		return 0
	})
	b := &store.Batch{Import: true, Ops: make([]store.UserOp, len(s.ops))}
	for i, at := range s.order {
		b.Ops[i] = s.ops[at]
	}
	res, err := s.p.store.Propose(ctx, b)
	var op *BatchError
	if errors.As(err, &op) {
		return r, &ImportError{Index: before + int64(s.order[op.Index]), ID: op.ID, Err: op.Err}
	}
	var limit *LimitError
	if errors.As(err, &limit) && len(s.ops) == 1 { // only a user who is alone can be too large for a step
		return r, &ImportError{Index: before, ID: s.ops[0].ID, Err: err}
	}
	if err != nil {
		return r, err
	}
	s.ops, s.order, s.bytes = nil, s.order[:0], 0
	clear(s.owners)
	return res.(store.BatchResult), nil
}

// Register makes users known, in one durable step. Those who are known already stay as they are.
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
	u := User{ID: s.ID, Tags: s.Tags, Registered: time.Unix(s.Registered, 0)}
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
// [ErrUnnamedAttribute] for an attribute that has no name.
func (p *Pusher) Count(ctx context.Context, a Audience) (int64, error) {
	if err := p.open(); err != nil {
		return 0, err
	}
	if err := a.validate(p.o.Limits); err != nil {
		return 0, err
	}
	return p.store.Count(a.expr)
}

// Members yields the users of an audience in the order in which they were
// registered. Nothing is held open between two of them, so the caller may take its time and call the Pusher;
// users who come to the audience or leave it meanwhile may be seen or not. An error ends the iteration.
func (p *Pusher) Members(ctx context.Context, a Audience) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := p.open()
		if err == nil {
			err = a.validate(p.o.Limits)
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
