package fanfare

import (
	"context"
	"iter"

	"github.com/fanfare-im/fanfare/store"
)

// NameCount is something that is in use, a tag say, and how many users have it.
type NameCount struct {
	Name  string // the tag, the value, the language or the time zone
	Users int64  // at least 1
}

// counted yields what the store does. Nothing is held open between two of them.
func (p *Pusher) counted(ctx context.Context, names func() iter.Seq2[store.Named, error]) iter.Seq2[NameCount, error] {
	return func(yield func(NameCount, error) bool) {
		if err := p.open(); err != nil {
			yield(NameCount{}, err)
			return
		}
		for n, err := range names() {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(NameCount{}, err)
				return
			}
			if !yield(NameCount(n), nil) {
				return
			}
		}
	}
}
