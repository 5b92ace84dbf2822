package store

import "strconv"

// Op is the operator of an [Expr] node.
type Op byte

// The operators. Their numbers are part of the command format.
const (
	OpAll      Op = 1 // every user
	OpTag      Op = 2 // Value is the tag
	OpAttr     Op = 3 // Name is the attribute's name, Value its value
	OpPlatform Op = 4 // users with a device on platform Value
	OpUsers    Op = 5 // IDs are user IDs; those unknown are left out
	OpSample   Op = 6 // PPM parts of a million, chosen by a hash of ordinal and Value (the salt)
	OpAnd      Op = 7 // all of Args; at least one
	OpOr       Op = 8 // any of Args; at least one
	OpNot      Op = 9 // the users that are not in Args[0]

	OpLess    Op = 10 // users whose attribute Name, a number or a date, is below Value
	OpAtMost  Op = 11 // the same, or Value itself
	OpMore    Op = 12 // above Value
	OpAtLeast Op = 13 // the same, or Value itself
	OpBetween Op = 14 // from Value to High, both included

	OpHas              Op = 15 // users with any value of attribute Name
	OpLanguage         Op = 16 // users with a device of language Value, or a narrower one; as [CanonicalLanguage] has it
	OpTimeZone         Op = 17 // users with a device in time zone Value
	OpSeenWithin       Op = 18 // users who connected on one of the last Days days, today included
	OpRegisteredWithin Op = 19 // users who were registered on one of them
	OpRegisteredSince  Op = 20 // users who were registered on day Days (see [Day]) or later
	OpSaved            Op = 21 // what is saved as Value; a push has none of it any more
)

// MaxDays is the most days of [OpSeenWithin] and [OpRegisteredWithin], which have one at least.
const MaxDays = 3650

// Expr is an audience as the store knows it: an expression over facts, still by
// name. It is read-only once built and may be shared.
type Expr struct {
	Op    Op
	Name  string
	Value string
	High  string
	IDs   []string
	PPM   uint32
	Days  uint32
	Args  []*Expr
}

// Bounds of an expression, checked when one is decoded and when one is proposed.
const (
	MaxExprNodes = 10_000 // nodes of an expression
	MaxExprDepth = 100    // nesting of an expression
	MaxExprUsers = 10_000 // explicit user IDs in an expression
)

// Validate reports the first violation of the bounds, or a node that no
// constructor makes. Sizes of names and values are the caller's to check.
func (e *Expr) Validate() error {
	var nodes, users int
	return e.validate(1, &nodes, &users)
}

func (e *Expr) validate(depth int, nodes, users *int) error {
	if e == nil {
		return ErrNoAudience
	}
	if depth > MaxExprDepth {
		return &LimitError{What: "nesting of an audience", Limit: MaxExprDepth, Got: int64(depth)}
	}
	if *nodes++; *nodes > MaxExprNodes {
		return &LimitError{What: "terms of an audience", Limit: MaxExprNodes, Got: int64(*nodes)}
	}
	args := 0
	switch e.Op {
	case OpAll, OpTag, OpAttr, OpPlatform, OpLess, OpAtMost, OpMore, OpAtLeast, OpBetween, OpHas, OpLanguage, OpTimeZone, OpRegisteredSince, OpSaved:
	case OpSeenWithin, OpRegisteredWithin:
		if e.Days < 1 {
			return &LimitError{What: "days of an audience, at least", Limit: 1, Got: int64(e.Days)}
		}
		if e.Days > MaxDays {
			return &LimitError{What: "days of an audience", Limit: MaxDays, Got: int64(e.Days)}
		}
	case OpUsers:
		if *users += len(e.IDs); *users > MaxExprUsers {
			return &LimitError{What: "explicit users in an audience", Limit: MaxExprUsers, Got: int64(*users)}
		}
	case OpSample:
		if e.PPM > 1_000_000 {
			return &LimitError{What: "parts per million of a sample", Limit: 1_000_000, Got: int64(e.PPM)}
		}
	case OpAnd, OpOr:
		if args = len(e.Args); args == 0 {
			return ErrNoAudience
		}
	case OpNot:
		args = 1
	default:
		return &FormatError{What: "audience", Detail: "operator " + strconv.Itoa(int(e.Op))}
	}
	if len(e.Args) != args {
		return &FormatError{What: "audience", Detail: "wrong number of terms"}
	}
	for _, a := range e.Args {
		if err := a.validate(depth+1, nodes, users); err != nil {
			return err
		}
	}
	return nil
}

func (e *Expr) encode(w *writer) {
	w.byte(byte(e.Op))
	switch e.Op {
	case OpTag, OpPlatform, OpLanguage, OpTimeZone, OpSaved:
		w.str(e.Value)
	case OpAttr, OpLess, OpAtMost, OpMore, OpAtLeast:
		w.str(e.Name)
		w.str(e.Value)
	case OpBetween:
		w.str(e.Name)
		w.str(e.Value)
		w.str(e.High)
	case OpHas:
		w.str(e.Name)
	case OpSeenWithin, OpRegisteredWithin, OpRegisteredSince:
		w.uvarint(uint64(e.Days))
	case OpUsers:
		w.uvarint(uint64(len(e.IDs)))
		for _, id := range e.IDs {
			w.str(id)
		}
	case OpSample:
		w.uvarint(uint64(e.PPM))
		w.str(e.Value)
	case OpAnd, OpOr, OpNot:
		w.uvarint(uint64(len(e.Args)))
		for _, a := range e.Args {
			a.encode(w)
		}
	}
}

func decodeExpr(r *reader) *Expr {
	nodes := 0
	return decodeExprNode(r, 1, &nodes)
}

func decodeExprNode(r *reader, depth int, nodes *int) *Expr {
	if *nodes++; depth > MaxExprDepth || *nodes > MaxExprNodes {
		r.fail("audience too large")
		return nil
	}
	e := &Expr{Op: Op(r.byte())}
	switch e.Op {
	case OpAll:
	case OpTag, OpPlatform, OpLanguage, OpTimeZone, OpSaved:
		e.Value = r.str()
	case OpAttr, OpLess, OpAtMost, OpMore, OpAtLeast:
		e.Name = r.str()
		e.Value = r.str()
	case OpBetween:
		e.Name = r.str()
		e.Value = r.str()
		e.High = r.str()
	case OpHas:
		e.Name = r.str()
	case OpSeenWithin, OpRegisteredWithin, OpRegisteredSince:
		e.Days = uint32(r.uvarint())
	case OpUsers:
		n := r.count(1)
		e.IDs = make([]string, 0, n)
		for range n {
			e.IDs = append(e.IDs, r.str())
		}
	case OpSample:
		e.PPM = uint32(r.uvarint())
		e.Value = r.str()
	case OpAnd, OpOr, OpNot:
		n := r.count(1)
		for range n {
			if r.err != nil {
				return nil
			}
			e.Args = append(e.Args, decodeExprNode(r, depth+1, nodes))
		}
	default:
		r.fail("audience operator")
	}
	if r.err != nil {
		return nil
	}
	return e
}
