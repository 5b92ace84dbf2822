package store

import (
	"context"
	"iter"
)

// FactKind is the first byte of a fact.
type FactKind byte

// The kinds of facts.
const (
	FactUser       FactKind = 0 // which everybody is
	FactTag        FactKind = factTag
	FactOut        FactKind = factOut
	FactAttr       FactKind = factAttr
	FactHas        FactKind = factHas
	FactBit        FactKind = factBit
	FactPlatform   FactKind = factPlatform
	FactLanguage   FactKind = factLanguage
	FactTimeZone   FactKind = factTimeZone
	FactRegistered FactKind = factRegistered
	FactSeen       FactKind = factSeen
)

// Posting is a fact, with the users it is true of, and what is kept of who they are.
type Posting struct {
	Kind  FactKind
	Slot  uint8  // of FactAttr, FactHas and FactBit
	Value string // the tag, value, category, platform, language or time zone
	Bit   uint8  // of FactBit
	Day   uint32 // of FactRegistered and FactSeen
	Users int64
	Bytes int64 // of its keys and containers in blocks.db
}

// Postings yields the facts that are true of anybody, first that everybody is there, then in the order of the bytes of their keys. What they take is looked up first, in all
// blocks: memory grows with the number of facts, not of users. No transaction is open while the caller has one.
func (s *Store) Postings(ctx context.Context) iter.Seq2[Posting, error] {
	return func(yield func(Posting, error) bool) {
		sizes, err := s.postingSizes(ctx)
		if err != nil {
			yield(Posting{}, err)
			return
		}
		if n := int64(s.published.Load().users); n > 0 && !yield(Posting{Kind: FactUser, Users: n, Bytes: sizes[existsFact]}, nil) {
			return
		}
		for f, err := range s.facts(nil, nil) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Posting{}, err)
				return
			}
			p, err := postingOf(f.key)
			if err != nil {
				yield(Posting{}, err)
				return
			}
			p.Users, p.Bytes = f.users, sizes[f.number]
			if !yield(p, nil) {
				return
			}
		}
	}
}

func (s *Store) postingSizes(ctx context.Context) (map[uint32]int64, error) {
	sizes := make(map[uint32]int64)
	for block := range s.geo.blocks(s.published.Load().nextOrdinal) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := s.withView(func(v *view) error {
			prefix := blockKey(uint16(block), kindFact)
			return prefixed(v.tx.Bucket(bucketName[bucketBlocks]).Cursor(), prefix, func(k, raw []byte) error {
				if len(k) != len(prefix)+4 {
					return broken("posting key %x", k)
				}
				sizes[be32(k[len(prefix):])] += int64(len(k) + len(raw))
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return sizes, nil
}

// postingOf reads the key of a fact.
func postingOf(key []byte) (Posting, error) {
	r := reader{b: key}
	rest := func() string {
		s := string(r.b)
		r.b = nil
		return s
	}
	p := Posting{Kind: FactKind(r.byte())}
	switch p.Kind {
	case FactTag, FactOut, FactPlatform, FactLanguage, FactTimeZone:
		p.Value = rest()
	case FactAttr, FactHas:
		p.Slot, p.Value = r.byte(), rest()
	case FactBit:
		p.Slot, p.Bit = r.byte(), r.byte()
	case FactRegistered, FactSeen:
		if len(r.b) != 4 {
			r.fail("not a day")
			break
		}
		p.Day = be32(r.b)
		r.b = nil
	default:
		r.fail("kind of a fact")
	}
	return p, r.done()
}
