package fanfare

import (
	"context"
	"iter"

	"github.com/fanfare-im/fanfare/store"
)

// AddTags adds tags to a user, in one durable step. Those the user has already
// stay. A user has at most 100, each of 1 to 50 bytes of valid UTF-8, or what [Limits] says; more is a [*LimitError], other text [ErrInvalidText].
// It returns [ErrUnknownUser] for a user who is not known.
func (p *Pusher) AddTags(ctx context.Context, user string, tags ...string) error {
	var b Batch
	b.AddTags(user, tags...)
	return p.one(ctx, &b)
}

// RemoveTags takes tags from a user, in one durable step. Those the user does not have
// are no error. It returns [ErrUnknownUser] for a user who is not known.
func (p *Pusher) RemoveTags(ctx context.Context, user string, tags ...string) error {
	var b Batch
	b.RemoveTags(user, tags...)
	return p.one(ctx, &b)
}

// ClearTags takes all tags from a user, in one durable step. It returns [ErrUnknownUser] for a user who is not known.
func (p *Pusher) ClearTags(ctx context.Context, user string) error {
	var b Batch
	b.ClearTags(user)
	return p.one(ctx, &b)
}

// Tags returns a user's tags, sorted. It returns [ErrUnknownUser] for a user who is not known.
func (p *Pusher) Tags(ctx context.Context, user string) ([]string, error) {
	u, err := p.User(ctx, user)
	return u.Tags, err
}

// TagNames yields the tags in use that begin with a prefix, which may be empty, each with the number of its users, in the order of their
// bytes. It reads little more than it yields, so a page may show the first few while somebody types. Changes
// made meanwhile may be seen or not. An error ends the iteration.
func (p *Pusher) TagNames(ctx context.Context, prefix string) iter.Seq2[NameCount, error] {
	return p.counted(ctx, func() iter.Seq2[store.Named, error] { return p.store.Tags(prefix) })
}

func (l *Limits) tags(tags []string) ([]string, error) {
	for _, t := range tags {
		if err := validateText("tag", t, 1, l.TagBytes); err != nil {
			return nil, err
		}
	}
	return tags, nil
}
