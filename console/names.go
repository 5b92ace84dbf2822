package console

import (
	"context"
	"iter"

	"github.com/fanfare-im/fanfare"
)

// names are the names in use, for the completion of an audience. A function that is nil is one that the Pusher does not have.
type names struct {
	tags       func(ctx context.Context, prefix string) iter.Seq2[string, int64]
	values     func(ctx context.Context, attribute, prefix string) iter.Seq2[string, int64]
	attributes func(ctx context.Context) (map[int]string, error)
}

// tagNamer is a Pusher that tells the tags in use, and how many users have each.
type tagNamer interface {
	TagNames(ctx context.Context, prefix string) iter.Seq2[string, int64]
}

// valueNamer is a Pusher that tells the values in use of an attribute, and how many users have each.
type valueNamer interface {
	AttributeValues(ctx context.Context, name, prefix string) iter.Seq2[string, int64]
}

func namesOf(p *fanfare.Pusher) names {
	n := names{attributes: p.AttributeNames}
	if t, ok := any(p).(tagNamer); ok {
		n.tags = t.TagNames
	}
	if t, ok := any(p).(valueNamer); ok {
		n.values = t.AttributeValues
	}
	return n
}
