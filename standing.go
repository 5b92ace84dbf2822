package fanfare

import (
	"context"

	"github.com/fanfare-im/fanfare/store"
)

// Standing is where a user stands with a message.
type Standing string

// The standings.
const (
	// StandingUnknown: the user does not wait for the message, and more is not kept; see [Options].KeepAudiences.
	StandingUnknown Standing = "unknown"
	// StandingWaiting: the message is pending for the user.
	StandingWaiting Standing = "waiting"
	// StandingReceived: the user has the message.
	StandingReceived Standing = "received"
	// StandingMissed: the user was in the audience, and still waited when the message expired or was withdrawn.
	StandingMissed Standing = "missed"
	// StandingOutside: the user was not in the frozen audience.
	StandingOutside Standing = "outside"
)

// Standing returns where a user stands with the task's message. Who is registered again after an Unregister is another user, and outside. It returns
// [ErrUnknownUser], and [ErrUnknownTask] once the task is forgotten.
func (t *Task) Standing(ctx context.Context, user string) (Standing, error) {
	if err := t.p.open(); err != nil {
		return "", err
	}
	if err := checkID(user); err != nil {
		return "", err
	}
	ordinal, err := t.p.store.Ordinal(user)
	if err != nil {
		return "", err
	}
	of, err := t.p.store.Standing(t.seq, ordinal)
	if err != nil {
		return "", err
	}
	return map[store.Standing]Standing{
		store.StandingNotKept: StandingUnknown, store.StandingWaiting: StandingWaiting, store.StandingReceived: StandingReceived, store.StandingMissed: StandingMissed, store.StandingOutside: StandingOutside,
	}[of], ctx.Err()
}
