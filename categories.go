package fanfare

import "context"

// OptOut notes that a user wants no messages of some categories, in one durable step: from then on the user is left out of the audience of each push
// that is accepted with one of them as its [Message].Category, and counted in [Progress].OptedOut. What was accepted before goes on. A user may have 100 of them, which need not have
// been used; one more is a [*LimitError]. It returns [ErrUnknownUser] for a user who is not known.
func (p *Pusher) OptOut(ctx context.Context, user string, categories ...string) error {
	var b Batch
	b.OptOut(user, categories...)
	return p.one(ctx, &b)
}

// OptIn takes back what [Pusher.OptOut] noted, in one durable step: the user gets what is accepted from then on. Categories that the user has not opted out of are no error. It returns [ErrUnknownUser] for a user who is not known.
func (p *Pusher) OptIn(ctx context.Context, user string, categories ...string) error {
	var b Batch
	b.OptIn(user, categories...)
	return p.one(ctx, &b)
}
