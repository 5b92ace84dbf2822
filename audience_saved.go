package fanfare

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/fanfare-im/fanfare/store"
)

// maxSavedNesting is how many saved audiences may be within each other.
const maxSavedNesting = 10

// SavedAudience is an audience with the name it is saved under.
type SavedAudience struct {
	Name     string   // 1 to 255 bytes
	Audience Audience // as it was saved: what it has in it by name is not looked up
}

// Saved is who the audience is that is saved under this name at the time of use. A push is
// frozen with what was saved then. Where it is used, a name under which nothing is saved is
// [ErrUnknownAudience].
func Saved(name string) Audience {
	return Audience{&store.Expr{Op: store.OpSaved, Value: name}}
}

// SaveAudience saves an audience under a name of 1 to 255 bytes, in one durable step, in place of what was saved there. It may have
// saved audiences in it, which are looked up when it is used; they must be there now. It returns [ErrNoAudience] for the zero Audience,
// [ErrUnknownAudience], [ErrAudienceCycle] for one that would contain itself, and a [*LimitError] for one
// that is too large with all that is in it.
func (p *Pusher) SaveAudience(ctx context.Context, name string, a Audience) error {
	if err := p.writable(); err != nil {
		return err
	}
	if err := checkSavedName(name); err != nil {
		return err
	}
	if err := a.validate(p.o.Limits); err != nil {
		return err
	}
	if _, err := p.expand(a, name); err != nil {
		return err
	}
	_, err := p.store.Propose(ctx, &store.Save{Name: name, To: a.expr})
	return err
}

// SavedAudience returns what is saved under a name, as it was saved, or [ErrUnknownAudience].
func (p *Pusher) SavedAudience(ctx context.Context, name string) (Audience, error) {
	if err := p.open(); err != nil {
		return Audience{}, err
	}
	if err := checkSavedName(name); err != nil {
		return Audience{}, err
	}
	e, err := p.store.Saved(name)
	if err != nil {
		return Audience{}, err
	}
	return Audience{e}, nil
}

// SavedAudiences yields the saved audiences in the order of the bytes of their names. Nothing is held open between two of them. An
// error ends the iteration.
func (p *Pusher) SavedAudiences(ctx context.Context) iter.Seq2[SavedAudience, error] {
	return func(yield func(SavedAudience, error) bool) {
		if err := p.open(); err != nil {
			yield(SavedAudience{}, err)
			return
		}
		for s, err := range p.store.SavedAudiences("") {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(SavedAudience{}, err)
				return
			}
			if !yield(SavedAudience{s.Name, Audience{s.To}}, nil) {
				return
			}
		}
	}
}

// DeleteAudience removes what is saved under a name, in one durable step, or returns [ErrUnknownAudience]. Audiences that
// have it in them are refused from then on, where they are used; pushes are not touched.
func (p *Pusher) DeleteAudience(ctx context.Context, name string) error {
	if err := p.writable(); err != nil {
		return err
	}
	if err := checkSavedName(name); err != nil {
		return err
	}
	_, err := p.store.Propose(ctx, &store.Save{Name: name})
	return err
}

func checkSavedName(name string) error {
	return validateText("name of an audience", name, 1, maxIDBytes)
}

// expand puts what is saved in the place of its name, so that what is proposed stands for itself. The audience has been
// validated. Within are the names of saved audiences that it is to be part of.
func (p *Pusher) expand(a Audience, within ...string) (Audience, error) {
	if !hasSaved(a.expr) {
		return a, nil
	}
	x := &expansion{p: p, within: within}
	whole, err := x.expr(a.expr)
	if err == nil {
		err = whole.expr.Validate()
	}
	return whole, err
}

func hasSaved(e *store.Expr) bool {
	return e.Op == store.OpSaved || slices.ContainsFunc(e.Args, hasSaved)
}

type expansion struct {
	p      *Pusher
	within []string // from the outside
	nodes  int
}

func (x *expansion) expr(e *store.Expr) (Audience, error) {
	// What is saved twice in something that is saved twice grows beyond any bound long before the nesting is at its own.
	if x.nodes++; x.nodes > store.MaxExprNodes {
		return Audience{}, &LimitError{What: "terms of an audience", Limit: store.MaxExprNodes, Got: int64(x.nodes)}
	}
	if e.Op == store.OpSaved {
		return x.saved(e.Value)
	}
	if len(e.Args) == 0 {
		return Audience{e}, nil
	}
	terms := make([]Audience, len(e.Args))
	for i, arg := range e.Args {
		var err error
		if terms[i], err = x.expr(arg); err != nil {
			return Audience{}, err
		}
	}
	if e.Op == store.OpNot {
		return terms[0].Not(), nil
	}
	return joinAudiences(e.Op, terms), nil
}

func (x *expansion) saved(name string) (Audience, error) {
	if slices.Contains(x.within, name) {
		return Audience{}, fmt.Errorf("%w: %q is in %q", ErrAudienceCycle, name, x.within[len(x.within)-1])
	}
	if n := len(x.within); n == maxSavedNesting {
		return Audience{}, &LimitError{What: "nesting of saved audiences", Limit: maxSavedNesting, Got: int64(n) + 1}
	}
	e, err := x.p.store.Saved(name)
	if err != nil {
		return Audience{}, fmt.Errorf("%w: %q", err, name)
	}
	x.within = append(x.within, name)
	a, err := x.expr(e)
	x.within = x.within[:len(x.within)-1]
	return a, err
}
