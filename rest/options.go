package rest

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// Options say for whom the API is. SDKAppID and Keys are needed.
type Options struct {
	// SDKAppID is the number of the application.
	SDKAppID int64
	// Keys are those with which a UserSig may be signed; more than one while one replaces another.
	Keys []transport.Secret
	// Admins may call the commands. The first is also the sender of pushes that name none. Default: "administrator".
	Admins []string
	// Kick ends the sessions of a user, as the server that has them can: for the command kick, and for each account that account_delete
	// has deleted. It may be called for a user without a session. Nil: kick answers that the feature is not there.
	Kick func(ctx context.Context, user string) error

	// Limits are those of the service that this API is compatible with. Default: none of them; see [CloudLimits].
	Limits Limits
	// MaxInFlight is how many requests are worked on at a time. Beyond it the answer is "too frequent" at once. Default: 256.
	MaxInFlight int
	// MaxBodyBytes is the most that a request's body may have. Default: 1 MiB.
	MaxBodyBytes int64
	// BodyTimeout is how long a request's body may take to come. Default: 10 s.
	BodyTimeout time.Duration
	// Now is the clock by which a UserSig expires. Default: time.Now.
	Now func() time.Time
	// Logger is told of what went wrong inside. Default: nothing is logged.
	Logger *slog.Logger
}

// Limits bound how much is pushed. The zero value bounds nothing.
type Limits struct {
	// Pace is the least time between two pushes to all, by tag or by attribute.
	Pace time.Duration
	// PerDay is how many of them there may be on a day, by UTC. The count is that of the tasks that are there, so a restart does not
	// set it back.
	PerDay int
	// PushBytes is the most that the body of im_push may have.
	PushBytes int64
	// PerSecond is how many requests of one command may come in a second.
	PerSecond float64
}

// CloudLimits returns the limits that the service documents: a push a second, 100 a day, of 10 KB.
func CloudLimits() Limits {
	return Limits{Pace: time.Second, PerDay: 100, PushBytes: 10 << 10, PerSecond: 100}
}

func (o Options) withDefaults() Options {
	if len(o.Admins) == 0 {
		o.Admins = []string{"administrator"}
	}
	o.MaxInFlight = cmp.Or(max(o.MaxInFlight, 0), 256)
	o.MaxBodyBytes = cmp.Or(max(o.MaxBodyBytes, 0), 1<<20)
	o.BodyTimeout = cmp.Or(max(o.BodyTimeout, 0), 10*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
