package store

import (
	"errors"
	"iter"
)

// Named is a name with the number of users it is true of: a tag, a value, a language, a time zone.
type Named struct {
	Name  string
	Users int64
}

// factsStep is how many facts, or saved audiences, are read at a time.
const factsStep = 100

// Tags yields the tags in use that begin with a prefix, in the order of their bytes.
func (s *Store) Tags(prefix string) iter.Seq2[Named, error] {
	return s.named([]byte{factTag}, prefix)
}

// Languages yields the languages in use, by name. Who speaks zh-Hant speaks zh too.
func (s *Store) Languages() iter.Seq2[Named, error] { return s.named([]byte{factLanguage}, "") }

// TimeZones yields the time zones in use, by name.
func (s *Store) TimeZones() iter.Seq2[Named, error] { return s.named([]byte{factTimeZone}, "") }

// Values yields the values in use of an attribute that begin with a prefix, in the order of their bytes; of one that is a number or a date
// none. For a name that no slot has it yields [ErrUnnamedAttribute].
func (s *Store) Values(name, prefix string) iter.Seq2[Named, error] {
	return func(yield func(Named, error) bool) {
		slot, named := s.published.Load().slot(name)
		if !named {
			yield(Named{}, ErrUnnamedAttribute)
			return
		}
		s.named([]byte{factAttr, slot}, prefix)(yield)
	}
}

// named yields the facts of a kind whose names begin with a prefix.
func (s *Store) named(kind []byte, prefix string) iter.Seq2[Named, error] {
	return func(yield func(Named, error) bool) {
		from := append(kind[:len(kind):len(kind)], prefix...)
		for f, err := range s.facts(from, after(from)) {
			if err != nil {
				yield(Named{}, err)
				return
			}
			if !yield(Named{string(f.key[len(kind):]), f.users}, nil) {
				return
			}
		}
	}
}

// fact is a fact that is true of users.
type fact struct {
	key    []byte
	number uint32
	users  int64
}

// facts yields the facts from one key to another, nil for the end. No transaction is open while the caller has one.
func (s *Store) facts(from, to []byte) iter.Seq2[fact, error] {
	return func(yield func(fact, error) bool) {
		for {
			var some []fact
			n := 0
			err := s.withView(func(v *view) error {
				list := v.scan(bucketFacts, from, to, factsStep, false)
				if n = len(list); n > 0 {
					from = append(list[n-1].key, 0)
				}
				for _, e := range list {
					if b := v.get(bucketCounts, e.value); b != nil { // else nobody has it any more
						some = append(some, fact{e.key, be32(e.value), int64(be64(b))})
					}
				}
				return nil
			})
			if err != nil {
				yield(fact{}, err)
				return
			}
			for _, f := range some {
				if !yield(f, nil) {
					return
				}
			}
			if n < factsStep {
				return
			}
		}
	}
}

// SavedAudience is an audience with the name it is saved under.
type SavedAudience struct {
	Name string
	To   *Expr
}

func decodeSaved(b []byte) (*Expr, error) {
	r := reader{b: b}
	e := decodeExpr(&r)
	return e, r.done()
}

// Saved returns what is saved under a name, or [ErrUnknownAudience].
func (s *Store) Saved(name string) (e *Expr, err error) {
	err = s.withView(func(v *view) error {
		b := v.get(bucketSaved, []byte(name))
		if b == nil {
			return ErrUnknownAudience
		}
		e, err = decodeSaved(b)
		return err
	})
	return e, err
}

// SavedAudiences yields the saved audiences whose names begin with a prefix, in the order of their bytes.
func (s *Store) SavedAudiences(prefix string) iter.Seq2[SavedAudience, error] {
	return func(yield func(SavedAudience, error) bool) {
		from := []byte(prefix)
		to := after(from)
		for {
			var some []SavedAudience
			err := s.withView(func(v *view) (err error) {
				for _, e := range v.scan(bucketSaved, from, to, factsStep, false) {
					x, wrong := decodeSaved(e.value)
					err = errors.Join(err, wrong)
					some = append(some, SavedAudience{string(e.key), x})
				}
				return err
			})
			if err != nil {
				yield(SavedAudience{}, err)
				return
			}
			for _, a := range some {
				if !yield(a, nil) {
					return
				}
			}
			if len(some) < factsStep {
				return
			}
			from = append([]byte(some[len(some)-1].Name), 0)
		}
	}
}
