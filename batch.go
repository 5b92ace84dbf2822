package fanfare

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/fanfare-im/fanfare/store"
)

// Batch collects changes that are made in one durable step, all or none, in the order in
// which they were added. The zero Batch is empty and ready. It is not safe for
// concurrent use, and may be applied more than once. What is given to it is copied.
//
// A batch is at most 512 KiB as encoded, which is some thousands of changes;
// for more there is [Pusher.Import].
type Batch struct {
	ops []batchOp
}

// batchOp is an operation as it was given; it is checked when it is applied.
type batchOp struct {
	kind    store.OpKind
	id      string
	tags    []string
	attrs   map[string]string
	names   []string
	devices []Device
}

// Len returns how many changes the batch has.
func (b *Batch) Len() int { return len(b.ops) }

// Register makes users known; see [Pusher.Register]. Each of them is a change.
func (b *Batch) Register(users ...string) {
	for _, id := range users {
		b.ops = append(b.ops, batchOp{kind: store.OpRegister, id: id})
	}
}

// Unregister removes users and every trace of them; see [Pusher.Unregister]. Each of them is a change.
func (b *Batch) Unregister(users ...string) {
	for _, id := range users {
		b.ops = append(b.ops, batchOp{kind: store.OpUnregister, id: id})
	}
}

// AddTags adds tags to a user; see [Pusher.AddTags].
func (b *Batch) AddTags(user string, tags ...string) {
	b.ops = append(b.ops, batchOp{kind: store.OpAddTags, id: user, tags: slices.Clone(tags)})
}

// RemoveTags takes tags from a user; see [Pusher.RemoveTags].
func (b *Batch) RemoveTags(user string, tags ...string) {
	b.ops = append(b.ops, batchOp{kind: store.OpRemoveTags, id: user, tags: slices.Clone(tags)})
}

// ClearTags takes all tags from a user; see [Pusher.ClearTags].
func (b *Batch) ClearTags(user string) {
	b.ops = append(b.ops, batchOp{kind: store.OpClearTags, id: user})
}

// OptOut notes categories that a user wants no messages of; see [Pusher.OptOut].
func (b *Batch) OptOut(user string, categories ...string) {
	b.ops = append(b.ops, batchOp{kind: store.OpOptOut, id: user, tags: slices.Clone(categories)})
}

// OptIn takes back what OptOut noted; see [Pusher.OptIn].
func (b *Batch) OptIn(user string, categories ...string) {
	b.ops = append(b.ops, batchOp{kind: store.OpOptIn, id: user, tags: slices.Clone(categories)})
}

// SetAttributes sets attributes of a user by name; see [Pusher.SetAttributes].
func (b *Batch) SetAttributes(user string, values map[string]string) {
	b.ops = append(b.ops, batchOp{kind: store.OpSetAttrs, id: user, attrs: maps.Clone(values)})
}

// RemoveAttributes takes attributes from a user by name; see [Pusher.RemoveAttributes].
func (b *Batch) RemoveAttributes(user string, names ...string) {
	b.ops = append(b.ops, batchOp{kind: store.OpRemoveAttrs, id: user, names: slices.Clone(names)})
}

// RegisterDevice registers devices of a user; see [Pusher.RegisterDevice].
func (b *Batch) RegisterDevice(user string, devices ...Device) {
	b.ops = append(b.ops, batchOp{kind: store.OpPutDevices, id: user, devices: slices.Clone(devices)})
}

// RemoveDevice removes a device of a user; see [Pusher.RemoveDevice].
func (b *Batch) RemoveDevice(user, platform, token string) {
	b.ops = append(b.ops, batchOp{kind: store.OpRemoveDevices, id: user, devices: []Device{{Platform: platform, Token: token}}})
}

// Apply makes the changes of a batch, all or none, in one durable step. What is refused is a
// [*BatchError] with the index of the change and the cause; a batch that is too large as a whole is a [*LimitError]. An empty batch does nothing.
func (p *Pusher) Apply(ctx context.Context, b *Batch) error {
	if err := p.writable(); err != nil {
		return err
	}
	if len(b.ops) == 0 {
		return nil
	}
	c := &store.Batch{Ops: make([]store.UserOp, len(b.ops))}
	for i := range b.ops {
		op, err := p.o.Limits.op(&b.ops[i])
		if err != nil {
			return &BatchError{Index: i, ID: b.ops[i].id, Err: err}
		}
		c.Ops[i] = op
	}
	_, err := p.store.Propose(ctx, c)
	return err
}

// one applies a batch that stands for a single call, whose error needs no index.
func (p *Pusher) one(ctx context.Context, b *Batch) error {
	err := p.Apply(ctx, b)
	var op *BatchError
	if errors.As(err, &op) && len(b.ops) == 1 {
		return op.Err
	}
	return err
}

// op checks an operation and turns it into a command's.
func (l *Limits) op(o *batchOp) (op store.UserOp, err error) {
	if err := checkID(o.id); err != nil {
		return op, err
	}
	op = store.UserOp{Kind: o.kind, ID: o.id}
	switch o.kind {
	case store.OpOptOut, store.OpOptIn:
		for _, category := range o.tags {
			if err := validateText("category", category, 1, maxCategoryBytes); err != nil {
				return op, err
			}
		}
		op.Tags = o.tags
	default:
		if op.Tags, err = l.tags(o.tags); err != nil {
			return op, err
		}
	}
	if op.Attrs, err = l.attributes(o.attrs); err != nil {
		return op, err
	}
	for _, name := range o.names {
		if err := validateText("attribute name", name, 1, l.NameBytes); err != nil {
			return op, err
		}
		op.Attrs = append(op.Attrs, store.AttrValue{Name: name})
	}
	op.Devices, err = l.devices(o.devices)
	return op, err
}
