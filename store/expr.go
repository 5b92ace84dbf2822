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
)

// Expr is an audience as the store knows it: an expression over facts, still by
// name. It is read-only once built and may be shared.
type Expr struct {
	Op    Op
	Name  string
	Value string
	IDs   []string
	PPM   uint32
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
	case OpAll, OpTag, OpAttr, OpPlatform:
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
	case OpTag, OpPlatform:
		w.str(e.Value)
	case OpAttr:
		w.str(e.Name)
		w.str(e.Value)
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
	case OpTag, OpPlatform:
		e.Value = r.str()
	case OpAttr:
		e.Name = r.str()
		e.Value = r.str()
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
