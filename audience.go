package fanfare

import (
	"math"
	"slices"

	"github.com/fanfare-im/fanfare/store"
)

// Audience says who receives a message: an expression over what is known of
// users. It is made by [All], [Tag], [Attr], [Users], [Platform] and [Sample],
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
// used, a name that no attribute has is [ErrUnnamedAttribute].
func Attr(name, value string) Audience {
	return Audience{&store.Expr{Op: store.OpAttr, Name: name, Value: value}}
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

func validateTerm(e *store.Expr, l Limits) error {
	switch e.Op {
	case store.OpTag:
		return validateText("tag", e.Value, 1, l.TagBytes)
	case store.OpAttr:
		if err := validateText("attribute name", e.Name, 1, l.NameBytes); err != nil {
			return err
		}
		return validateText("attribute value", e.Value, 1, l.ValueBytes)
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
