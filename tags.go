package fanfare

import (
	"context"
)

// AddTags adds tags to a user, in one durable step. Those the user has already
// stay. A user has at most 100, each of 1 to 50 bytes of valid UTF-8; more is a [*LimitError].
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

// ClearTags takes all tags from a user. It returns [ErrUnknownUser] for a user who is not known.
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

func (l *Limits) tags(tags []string) ([]string, error) {
	for _, t := range tags {
		if err := validateText("tag", t, 1, l.TagBytes); err != nil {
			return nil, err
		}
	}
	return tags, nil
}
