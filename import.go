package fanfare

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/fanfare-im/fanfare/store"
)

// ImportOptions adjust an Import. A nil one is the same as a zero one.
type ImportOptions struct {
	// Progress is called after each durable step, from the goroutine of the
	// call. Default: none.
	Progress func(ImportStats)
	// Replace makes the tags and attributes of each user exactly those that are given, as for an import that follows a table:
	// the others are taken away. Opt-outs and devices are added all the same. Default: what is not mentioned stays.
	Replace bool
}

// ImportStats is how far an import has come.
type ImportStats struct {
	Users      int64 // durable; those behind an error are not
	Registered int64 // of them, new
	Updated    int64 // of them, known before
}

// Steps of an import: users in one, the bytes at which it is made smaller, and how many are under way beside the one
// that is made.
const (
	importUsers   = 1000
	importBytes   = store.MaxCommand / 2
	importFlights = 2
)

// Import registers users in bulk, with their tags, opt-outs, attributes and devices. A
// user who is known is updated: attributes that are given are set, tags and opt-outs added, devices
// registered, and what is not mentioned stays, but for [ImportOptions].Replace; so importing again is harmless.
//
// It goes in durable steps of at most 1,000 users, and memory does not
// grow with their number. What a yielded User refers to, its tags say, is read until the call
// returns, so the iterator must not use it again. It is not atomic as a whole: at an error, from the iterator
// or of a user (an [*ImportError] says which), the steps before stay, and the
// stats say how many users those were. Other calls go on meanwhile.
func (p *Pusher) Import(ctx context.Context, users iter.Seq2[User, error], o *ImportOptions) (ImportStats, error) {
	if err := p.writable(); err != nil {
		return ImportStats{}, err
	}
	if o == nil {
		o = new(ImportOptions)
	}
	m := &importer{p: p, progress: o.Progress, step: new(importStep)}
	if o.Replace {
		names, err := p.AttributeNames(ctx)
		if err != nil {
			return ImportStats{}, err
		}
		m.replace, m.names = true, slices.Sorted(maps.Values(names))
	}
	err := m.run(ctx, users)
	return m.stats, err
}

// importer is an Import under way. Three steps are: one is made, one is prepared, and one is written and applied.
type importer struct {
	p        *Pusher
	progress func(ImportStats)
	replace  bool
	names    []string // of all attributes, with replace
	stats    ImportStats
	taken    int64          // users, from the iterator
	sent     int64          // of them, in steps that were sent
	ops      []store.UserOp // of a user, used again
	step     *importStep
	flights  []*importFlight // in order
}

// importFlight is a step that was sent.
type importFlight struct {
	step   *importStep
	before int64 // users of the steps before
	landed chan struct{}
	result store.BatchResult // these two are there then
	err    error
}

func (m *importer) run(ctx context.Context, users iter.Seq2[User, error]) error {
	for u, err := range users {
		var ops []store.UserOp
		if err == nil {
			ops, err = m.p.o.Limits.importOps(&u, m.ops[:0])
		}
		if err == nil && m.replace {
			ops = m.replaceOps(&u, ops)
		}
		if err != nil {
			if e := m.finish(ctx); e != nil {
				return e
			}
			return &ImportError{Index: m.taken, ID: u.ID, Err: err}
		}
		m.ops = ops
		size := 0
		for i := range ops {
			size += opBytes(&ops[i])
		}
		if m.step.bytes+size > importBytes {
			if err := m.send(ctx); err != nil {
				return err
			}
		}
		m.taken++
		if m.step.add(ops, size); m.step.users >= importUsers || m.step.bytes >= importBytes {
			if err := m.send(ctx); err != nil {
				return err
			}
		}
	}
	return m.finish(ctx)
}

func (m *importer) finish(ctx context.Context) error {
	err := m.send(ctx)
	for err == nil && len(m.flights) > 0 {
		err = m.land()
	}
	return err
}

// send lets the step go when there is room for one more under way.
func (m *importer) send(ctx context.Context) error {
	if m.step.users == 0 {
		return nil
	}
	if len(m.flights) == importFlights {
		if err := m.land(); err != nil {
			return err
		}
	}
	f := &importFlight{step: m.step, before: m.sent, landed: make(chan struct{})}
	var before *importFlight
	if n := len(m.flights); n > 0 {
		before = m.flights[n-1]
	}
	go f.fly(ctx, m.p.store, before)
	m.flights = append(m.flights, f)
	m.sent += int64(f.step.users)
	m.step = &importStep{ops: make([]store.UserOp, 0, importUsers)}
	return nil
}

// fly proposes the step as soon as the one before is durable, if it is.
func (f *importFlight) fly(ctx context.Context, s *store.Store, before *importFlight) {
	defer close(f.landed)
	propose, err := s.Prepare(&store.Batch{Import: true, Ops: f.step.ops})
	if before != nil {
		if <-before.landed; before.err != nil {
			f.err = before.err
			return
		}
	}
	if err == nil {
		var r any
		if r, err = propose(ctx); err == nil {
			f.result = r.(store.BatchResult)
			return
		}
	}
	f.err = f.failed(err)
}

// land waits for the first step under way. After an error none is.
func (m *importer) land() error {
	f := m.flights[0]
	<-f.landed
	if f.err != nil {
		for _, f := range m.flights {
			<-f.landed
		}
		m.flights = nil
		return f.err
	}
	m.flights = slices.Delete(m.flights, 0, 1)
	m.stats.Users += int64(f.step.users)
	m.stats.Registered += int64(f.result.Registered)
	m.stats.Updated += int64(f.result.Known)
	if m.progress != nil {
		m.progress(m.stats)
	}
	return nil
}

// failed says which user an error is of, if it is one's.
func (f *importFlight) failed(err error) error {
	var op *BatchError
	if errors.As(err, &op) {
		return &ImportError{Index: f.before + int64(f.step.user(op.Index)), ID: op.ID, Err: op.Err}
	}
	var limit *LimitError
	if errors.As(err, &limit) && f.step.users == 1 { // only a user who is alone can be too large for a step
		return &ImportError{Index: f.before, ID: f.step.ops[0].ID, Err: err}
	}
	return err
}

// ImportError says at which user an import ended.
type ImportError struct {
	Index int64  // of the user in the iterator, from 0
	ID    string // may be empty
	Err   error  // what is wrong with the user, such as a [*LimitError]
}

// Error says which user it is, and what is wrong.
func (e *ImportError) Error() string {
	return fmt.Sprintf("fanfare: import: user %d, %q: %v", e.Index, e.ID, e.Err)
}

// Unwrap returns the cause.
func (e *ImportError) Unwrap() error { return e.Err }

// importStep collects the users of one command.
type importStep struct {
	ops   []store.UserOp
	users int
	bytes int
}

// importOps checks a user and turns it into operations of a command.
func (l *Limits) importOps(u *User, ops []store.UserOp) ([]store.UserOp, error) {
	if err := checkID(u.ID); err != nil {
		return nil, err
	}
	op := store.UserOp{Kind: store.OpPut, ID: u.ID}
	var err error
	// Copies, for a step that was given up may be applied when the call has returned, and not as the log has it then.
	if op.Tags, err = l.tags(slices.Clone(u.Tags)); err != nil {
		return nil, err
	}
	if op.Attrs, err = l.attributes(u.Attributes); err != nil {
		return nil, err
	}
	if op.Devices, err = l.devices(u.Devices); err != nil {
		return nil, err
	}
	ops = append(ops, op)
	if len(u.OptOuts) == 0 {
		return ops, nil
	}
	out, err := l.op(&batchOp{kind: store.OpOptOut, id: u.ID, tags: slices.Clone(u.OptOuts)})
	return append(ops, out), err
}

// replaceOps has the operations of a user take away what is not mentioned. The first one stays the first; tags are added behind those
// that go, so that both together need not be within the limit.
func (m *importer) replaceOps(u *User, ops []store.UserOp) []store.UserOp {
	tags := ops[0].Tags
	ops[0].Tags = nil
	var others []store.AttrValue
	for _, name := range m.names {
		if _, given := u.Attributes[name]; !given {
			others = append(others, store.AttrValue{Name: name})
		}
	}
	if len(others) > 0 {
		ops = append(ops, store.UserOp{Kind: store.OpRemoveAttrs, ID: u.ID, Attrs: others})
	}
	ops = append(ops, store.UserOp{Kind: store.OpClearTags, ID: u.ID})
	if len(tags) > 0 {
		ops = append(ops, store.UserOp{Kind: store.OpAddTags, ID: u.ID, Tags: tags})
	}
	return ops
}

func (s *importStep) add(ops []store.UserOp, size int) {
	s.ops = append(s.ops, ops...)
	s.users++
	s.bytes += size
}

// user is which of the users an operation is of.
func (s *importStep) user(op int) int {
	n := -1
	for i := range min(op+1, len(s.ops)) {
		if s.ops[i].Kind == store.OpPut { // the first of each
			n++
		}
	}
	return n
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
