package fanfare

import (
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/fanfare-im/fanfare/store"
)

// SetAttributeNames gives attribute slots names, in one durable step. There are ten slots, 0 to
// 9, or as many as [Limits].Attributes says; those not mentioned keep their names. A slot that is renamed keeps the values
// of all users; an empty name makes its values invisible until it has a name again. A
// name of two slots is a [*DuplicateNameError], a slot or a name beyond its limit a [*LimitError].
func (p *Pusher) SetAttributeNames(ctx context.Context, names map[int]string) error {
	if err := p.writable(); err != nil {
		return err
	}
	c := new(store.SetNames)
	for _, slot := range slices.Sorted(maps.Keys(names)) {
		if err := p.o.Limits.slot(slot); err != nil {
			return err
		}
		if err := validateText("attribute name", names[slot], 0, p.o.Limits.NameBytes); err != nil {
			return err
		}
		c.Names = append(c.Names, store.SlotName{Slot: uint8(slot), Name: names[slot]})
	}
	_, err := p.store.Propose(ctx, c)
	return err
}

// AttributeNames returns the names by slot, without the slots that have none. The map is the caller's.
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

// AttributeType says what the values of an attribute are: [Text], [Date], or a [Number].
type AttributeType int

// The types without decimals.
const (
	Text AttributeType = AttributeType(store.TextType) // anything, compared for being equal only
	Date AttributeType = AttributeType(store.DateType) // a day, or a moment to the second
)

// Number is the type of numbers with up to so many decimals, from 0 to 9. They have at most 18 digits, decimals included. With other decimals it is a [*LimitError] where it
// is used.
func Number(decimals int) AttributeType {
	if decimals < 0 {
		return -1 // which is refused where it is used
	}
	return AttributeType(store.NumberType) + AttributeType(min(decimals, store.MaxDecimals+1))
}

// String returns "text", "date", or, with its decimals, "number(2)"; for what is no type, something else.
func (t AttributeType) String() string {
	if t < 0 || t > 255 {
		return "unknown"
	}
	return store.AttrType(t).String()
}

// SetAttributeTypes says what the values of attribute slots are, in one durable step. Those not mentioned keep their types; at first all are
// [Text]. Values stay strings, but a slot of another type takes only values of that type, and has an order: see [AttrLess] and
// the like. A number is written like "30" or "-2.50"; a date like "2026-11-28", or like "2026-11-28T10:00:00+08:00" (RFC 3339) for a moment to the
// second, and without a time it is midnight UTC. What cannot be kept exactly, such as a decimal too many, is refused with
// a [*ValueError]. A value is read back in its canonical form: without zeros that say nothing, in UTC, and without a time at midnight.
//
// A slot of which any user has a value, whatever its name, keeps its type: another one is refused with a [*TypeInUseError], and nothing of
// the call is applied. Remove the values first, or use another slot. A slot or a number of decimals beyond its limit is a [*LimitError].
func (p *Pusher) SetAttributeTypes(ctx context.Context, types map[int]AttributeType) error {
	if err := p.writable(); err != nil {
		return err
	}
	c := new(store.SetTypes)
	for _, slot := range slices.Sorted(maps.Keys(types)) {
		if err := p.o.Limits.slot(slot); err != nil {
			return err
		}
		t := types[slot]
		if t < 0 || !store.AttrType(min(t, 255)).Known() {
			return &LimitError{What: "decimals of a number, from 0", Limit: store.MaxDecimals, Got: max(-1, int64(t)-int64(store.NumberType))}
		}
		c.Types = append(c.Types, store.SlotType{Slot: uint8(slot), Type: store.AttrType(t)})
	}
	_, err := p.store.Propose(ctx, c)
	return err
}

// AttributeTypes returns the types by slot, without those that are [Text], as all are at first. The map is the caller's.
func (p *Pusher) AttributeTypes(ctx context.Context) (map[int]AttributeType, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	types := p.store.Types()
	out := make(map[int]AttributeType, len(types))
	for slot, t := range types {
		out[int(slot)] = AttributeType(t)
	}
	return out, nil
}

// AttributeValues yields the values in use of an attribute of type [Text] that begin with a prefix, which may be empty, each with the number of
// its users, in the order of their bytes; see [Pusher.TagNames]. Numbers and dates are not kept value by value: of
// them nothing is yielded. For a name that no slot has the error is [ErrUnnamedAttribute].
func (p *Pusher) AttributeValues(ctx context.Context, name, prefix string) iter.Seq2[NameCount, error] {
	return p.counted(ctx, func() iter.Seq2[store.Named, error] { return p.store.Values(name, prefix) })
}

// SetAttributes sets attributes of a user by name, in one durable step; the
// others stay. Values are 1 to 50 bytes of valid UTF-8, or what [Limits] says; others are a [*LimitError] or [ErrInvalidText]. It returns
// [ErrUnknownUser] for a user who is not known, [ErrUnnamedAttribute] for a name that no slot has, and a
// [*ValueError] for a value that is not of its attribute's type.
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

func (l *Limits) slot(slot int) error {
	if slot < 0 || slot >= l.Attributes {
		return &LimitError{What: "attribute slot, from 0", Limit: int64(l.Attributes) - 1, Got: int64(slot)}
	}
	return nil
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
