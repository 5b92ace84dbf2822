package fanfare

import (
	"context"
	"maps"
	"slices"

	"github.com/fanfare-im/fanfare/store"
)

// SetAttributeNames gives attribute slots names, in one durable step. There are ten slots, 0 to
// 9; those not mentioned keep their names. A slot that is renamed keeps the values
// of all users; an empty name makes its values invisible until it has a name again. A
// name of two slots is a [*DuplicateNameError], a slot or a name beyond its limit a [*LimitError].
func (p *Pusher) SetAttributeNames(ctx context.Context, names map[int]string) error {
	if err := p.open(); err != nil {
		return err
	}
	c := new(store.SetNames)
	for _, slot := range slices.Sorted(maps.Keys(names)) {
		if limit := p.o.Limits.Attributes; slot < 0 || slot >= limit {
			return &LimitError{What: "attribute slot, from 0", Limit: int64(limit) - 1, Got: int64(slot)}
		}
		if err := validateText("attribute name", names[slot], 0, p.o.Limits.NameBytes); err != nil {
			return err
		}
		c.Names = append(c.Names, store.SlotName{Slot: uint8(slot), Name: names[slot]})
	}
	_, err := p.store.Propose(ctx, c)
	return err
}

// AttributeNames returns the names by slot.
func (p *Pusher) AttributeNames(ctx context.Context) (map[int]string, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	_, names := p.store.Settings()
	out := make(map[int]string, len(names))
	for slot, name := range names {
		out[int(slot)] = name
	}
	return out, nil
}

// SetAttributes sets attributes of a user by name, in one durable step; the
// others stay. Values are 1 to 50 bytes of valid UTF-8. It returns
// [ErrUnknownUser] for a user who is not known and [ErrUnnamedAttribute] for a name that no slot has.
func (p *Pusher) SetAttributes(ctx context.Context, user string, values map[string]string) error {
	var b Batch
	b.SetAttributes(user, values)
	return p.one(ctx, &b)
}

// RemoveAttributes takes attributes from a user by name, in one durable step.
// Those the user does not have are no error. It returns [ErrUnknownUser] for a user who is
// not known and [ErrUnnamedAttribute] for a name that no slot has.
func (p *Pusher) RemoveAttributes(ctx context.Context, user string, names ...string) error {
	var b Batch
	b.RemoveAttributes(user, names...)
	return p.one(ctx, &b)
}

// Attributes returns a user's attributes by name. It returns [ErrUnknownUser] for a user who is not known.
func (p *Pusher) Attributes(ctx context.Context, user string) (map[string]string, error) {
	u, err := p.User(ctx, user)
	return u.Attributes, err
}

func (l *Limits) attributes(values map[string]string) ([]store.AttrValue, error) {
	if len(values) == 0 {
		return nil, nil
	}
	out := make([]store.AttrValue, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := validateText("attribute name", name, 1, l.NameBytes); err != nil {
			return nil, err
		}
		if err := validateText("attribute value", values[name], 1, l.ValueBytes); err != nil {
			return nil, err
		}
		out = append(out, store.AttrValue{Name: name, Value: values[name]})
	}
	return out, nil
}
