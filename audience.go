package fanfare

import (
	"math"
	"slices"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// Audience says who receives a message: an expression over what is known of
// users. It is made by [All], [Tag], [Attr] and the comparisons beside it, [HasAttr], [Users], [Platform], [Language], [TimeZone],
// [SeenWithin], [RegisteredSince], [RegisteredWithin], [Sample] and [Saved],
// combined by its methods, written and read as text ([ParseAudience]) or JSON.
//
// An Audience is a value that never changes and may be shared freely. The zero
// Audience is nobody's: every use of it is refused with [ErrNoAudience], and
// what it is combined with becomes zero too, so that nobody is pushed by accident.
//
// Nothing is checked while an audience is put together. Sizes and text are
// checked where it is used, and found wrong there they are an error of that
// call. Two audiences are the same when their String is.
type Audience struct {
	expr *store.Expr
}

const maxSaltBytes = 255 // of the salt of a sample

// All is every user.
func All() Audience {
	return Audience{&store.Expr{Op: store.OpAll}}
}

// Tag is the users with this tag.
func Tag(tag string) Audience {
	return Audience{&store.Expr{Op: store.OpTag, Value: tag}}
}

// Attr is the users whose attribute of this name has this value. Where it is
// used, a name that no attribute has is [ErrUnnamedAttribute]. Of a number or a date all ways to write it are the same value,
// and what is no value of the attribute's type is a [*ValueError] there.
func Attr(name, value string) Audience {
	return Audience{&store.Expr{Op: store.OpAttr, Name: name, Value: value}}
}

// AttrLess is the users whose attribute of this name, a number or a date, has a value below this one; see [Pusher.SetAttributeTypes]. Who has
// no value is in none of the comparisons. Where one is used, an attribute of type [Text], and a value that is not of the
// attribute's type, are a [*ValueError].
func AttrLess(name, value string) Audience { return compared(store.OpLess, name, value) }

// AttrAtMost is the users whose attribute has this value or one below; see [AttrLess].
func AttrAtMost(name, value string) Audience { return compared(store.OpAtMost, name, value) }

// AttrMore is the users whose attribute has a value above this one; see [AttrLess].
func AttrMore(name, value string) Audience { return compared(store.OpMore, name, value) }

// AttrAtLeast is the users whose attribute has this value or one above; see [AttrLess].
func AttrAtLeast(name, value string) Audience { return compared(store.OpAtLeast, name, value) }

// AttrBetween is the users whose attribute has a value from low to high, both included; nobody, if low is above
// high. See [AttrLess].
func AttrBetween(name, low, high string) Audience {
	return Audience{&store.Expr{Op: store.OpBetween, Name: name, Value: low, High: high}}
}

func compared(op store.Op, name, value string) Audience {
	return Audience{&store.Expr{Op: op, Name: name, Value: value}}
}

// HasAttr is the users whose attribute of this name has a value, whatever it is.
func HasAttr(name string) Audience {
	return Audience{&store.Expr{Op: store.OpHas, Name: name}}
}

// Users is the users with these IDs. Unknown ones are left out, order and
// repetition do not matter, and no IDs at all are an audience of nobody.
func Users(ids ...string) Audience {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return Audience{&store.Expr{Op: store.OpUsers, IDs: slices.Compact(ids)}}
}

// Platform is the users who have a device on this platform, such as "apns".
func Platform(platform string) Audience {
	return Audience{&store.Expr{Op: store.OpPlatform, Value: platform}}
}

// Language is the users who have a device of this language, or of a narrower one: of "zh" are those with the
// locales zh, zh-CN and zh_Hant_TW. Upper and lower case are the same, and so are hyphens and underscores.
func Language(tag string) Audience {
	return Audience{&store.Expr{Op: store.OpLanguage, Value: store.CanonicalLanguage(tag)}}
}

// TimeZone is the users who have a device in the time zone of exactly this name, such as "Asia/Shanghai".
func TimeZone(name string) Audience {
	return Audience{&store.Expr{Op: store.OpTimeZone, Value: name}}
}

// SeenWithin is the users who connected on one of the last so many days by UTC, of which today is the first: 1 is today, 7 is today and
// the six days before. For a push today is the day on which it is accepted. Who has never connected is not in it.
// Days that are not from 1 to 3,650 are a [*LimitError] where it is used.
func SeenWithin(days int) Audience {
	return Audience{&store.Expr{Op: store.OpSeenWithin, Days: clampDays(days)}}
}

// RegisteredWithin is the users who were registered on one of the last so many days by UTC, counted as for [SeenWithin].
func RegisteredWithin(days int) Audience {
	return Audience{&store.Expr{Op: store.OpRegisteredWithin, Days: clampDays(days)}}
}

// RegisteredSince is the users who were registered on the day of t by UTC, at whatever time, or on a later one.
func RegisteredSince(t time.Time) Audience {
	day := max(0, min(t.Unix()/secondsOfDay, lastDay))
	return Audience{&store.Expr{Op: store.OpRegisteredSince, Days: uint32(day)}}
}

const (
	secondsOfDay = 24 * 60 * 60
	lastDay      = 2932896 // 9999-12-31, which is as far as a date can be written
)

// clampDays keeps what is below zero, so that the error can say what was given.
func clampDays(days int) uint32 {
	return uint32(int32(max(math.MinInt32, min(days, math.MaxInt32))))
}

// Sample is a random choice of so many percent of all users, to the nearest
// part per million. It is stable: the same salt chooses the same users each
// time, and a larger percent adds users without losing any; another salt
// chooses independently. A percent that is not from 0 to 100 is a [*LimitError]
// where the audience is used.
func Sample(percent float64, salt string) Audience {
	return Audience{&store.Expr{Op: store.OpSample, PPM: samplePPM(percent), Value: salt}}
}

// samplePPM keeps what is out of range out of range: below zero as a negative
// int32, which as a uint32 is far above a million, so that the error can say
// what was given.
func samplePPM(percent float64) uint32 {
	ppm := percent * 10_000
	switch {
	case percent >= 0 && percent <= 100:
		return uint32(math.Round(ppm))
	case percent > 100:
		return uint32(math.Min(math.Ceil(ppm), math.MaxInt32))
	case percent < 0:
		return uint32(int32(math.Max(math.Floor(ppm), math.MinInt32)))
	}
	return 1 << 31 // not a number
}

// And is the users who are in a and in all of the others.
func (a Audience) And(others ...Audience) Audience {
	return a.with(store.OpAnd, others)
}

// Or is the users who are in a or in any of the others.
func (a Audience) Or(others ...Audience) Audience {
	return a.with(store.OpOr, others)
}

// Not is the users who are not in a.
func (a Audience) Not() Audience {
	switch {
	case a.expr == nil:
		return a
	case a.expr.Op == store.OpNot:
		return Audience{a.expr.Args[0]}
	}
	return Audience{&store.Expr{Op: store.OpNot, Args: []*store.Expr{a.expr}}}
}

// IsZero reports whether a is the zero Audience.
func (a Audience) IsZero() bool { return a.expr == nil }

func (a Audience) with(op store.Op, others []Audience) Audience {
	return joinAudiences(op, append([]Audience{a}, others...))
}

// joinAudiences makes one node of the terms, which are one or more. Terms of
// the same operator are taken apart, so that an audience has one form however
// it was put together.
func joinAudiences(op store.Op, terms []Audience) Audience {
	if len(terms) == 1 {
		return terms[0]
	}
	args := make([]*store.Expr, 0, len(terms))
	for _, t := range terms {
		switch {
		case t.expr == nil:
			return Audience{}
		case t.expr.Op == op:
			args = append(args, t.expr.Args...)
		default:
			args = append(args, t.expr)
		}
	}
	return Audience{&store.Expr{Op: op, Args: args}}
}

// validate reports the first thing for which the audience cannot be used:
// ErrNoAudience, or text of a wrong size or kind, or too much of everything.
func (a Audience) validate(l Limits) error {
	if a.expr == nil {
		return ErrNoAudience
	}
	// The walk ends at the bound that Validate reports: subexpressions may be
	// shared, so the tree can be very much larger than what was built.
	nodes := []*store.Expr{a.expr}
	for i := 0; i < len(nodes) && i <= store.MaxExprNodes; i++ {
		if nodes[i] == nil {
			return ErrNoAudience
		}
		if err := validateTerm(nodes[i], l); err != nil {
			return err
		}
		nodes = append(nodes, nodes[i].Args...)
	}
	return a.expr.Validate()
}

func validateAttr(e *store.Expr, l Limits) error {
	err := validateText("attribute name", e.Name, 1, l.NameBytes)
	if err == nil && e.Op != store.OpHas {
		err = validateText("attribute value", e.Value, 1, l.ValueBytes)
	}
	if err == nil && e.Op == store.OpBetween {
		err = validateText("attribute value", e.High, 1, l.ValueBytes)
	}
	return err
}

func validateTerm(e *store.Expr, l Limits) error {
	switch e.Op {
	case store.OpTag:
		return validateText("tag", e.Value, 1, l.TagBytes)
	case store.OpAttr, store.OpLess, store.OpAtMost, store.OpMore, store.OpAtLeast, store.OpBetween, store.OpHas:
		return validateAttr(e, l)
	case store.OpLanguage:
		return validateText("language", e.Value, 1, maxFieldBytes)
	case store.OpTimeZone:
		return validateText("time zone", e.Value, 1, maxFieldBytes)
	case store.OpSaved:
		return checkSavedName(e.Value)
	case store.OpSeenWithin, store.OpRegisteredWithin:
		if days := int32(e.Days); days < 1 {
			return &LimitError{What: "days of an audience, at least", Limit: 1, Got: int64(days)}
		}
	case store.OpPlatform:
		return validateText("platform", e.Value, 1, maxPlatformBytes)
	case store.OpUsers:
		if len(e.IDs) > store.MaxExprUsers {
			return nil // Validate says so
		}
		for _, id := range e.IDs {
			if err := validateText("user ID", id, 1, maxIDBytes); err != nil {
				return err
			}
		}
	case store.OpSample:
		if e.PPM > 1_000_000 {
			return &LimitError{
				What:  "parts per million of a sample, from 0",
				Limit: 1_000_000, Got: int64(int32(e.PPM)),
			}
		}
		return validateText("salt of a sample", e.Value, 0, maxSaltBytes)
	}
	return nil
}
