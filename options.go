package fanfare

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/fanfare-im/fanfare/internal/fault"
	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
)

// Options adjust a Pusher. The zero value works: it keeps users and messages,
// and those who connect get nothing until there is an Online transport.
type Options struct {
	// Online delivers to connected users. Default: none; Connect then only registers, and nobody is online:
	// phones are notified as if all were away.
	Online transport.Online
	// Mobile notifies phones, one transport a platform. Default: none.
	Mobile []transport.Mobile
	// Limits bound what is accepted. Default: the limits described there.
	Limits Limits
	// Logger gets what happens in the background. Default: nothing is logged.
	Logger *slog.Logger
	// Hooks are called when something happens. Default: none.
	Hooks Hooks
	// Quiet are hours in which phones are not notified, but for what is urgent ([Notification].Urgent). Default: none.
	Quiet QuietHours
	// Caps bound how many messages of a category a user is pushed, so that nobody is disturbed too often. Who has had as many is left out of
	// the audience when the push is accepted, and counted in [Progress].Capped. Default: none.
	Caps map[string]Cap
	// KeepAudiences keeps who was in the audience of a push, and whom its message did not reach, as long as the task is known, so that [Task.Standing] can
	// say of each user whether they have it. It costs at most some 9 bits for a user of an audience, of the file: a push to a million of ten million users takes a megabyte, one to all of them nearly nothing. It
	// is of pushes that are accepted with it, other than those with lifetime 0. Default: they are not kept.
	KeepAudiences bool
	// ReadOnly opens the directory to look at it: nothing is written to it, nothing is delivered, and every change fails with [ErrReadOnly], whatever else is wrong with it, as do Connect
	// and who would wait for deliveries. Of Limits, those of sizes are the ones that are given: what is asked for may be no larger.
	// The directory must be there. Other processes may have it open for reading at the same time, and none for changes. What a process that was killed left in
	// the journal is read into memory, as at any other Open, and is still there for the next one. It goes with no transports. Default: false.
	ReadOnly bool
	// Maintenance opens the directory to look after it, with [Pusher.Import] or [Pusher.Compact] say, while the server that it belongs to is stopped: everything can be changed, but
	// nothing goes on by itself. No plan fires, nothing expires, and what was under way when the last process ended waits for the next Open without it; Task.Wait does not wait for that, and Planned.Wait
	// waits until its context ends. It is not for pushing: such a message waits for those who connect later, and notifies no phones, not later either. TagsPerUser and DevicesPerUser of
	// Limits stay as they are stored, unless they are given. It goes with no transports. Default: false.
	Maintenance bool
	// Cron reads the expressions of plans that repeat; package schedule has one. Default: none, and plans cannot repeat.
	Cron func(expression string) (Recurrence, error)

	// Workers is how many deliveries run at the same time. Default: 32.
	Workers int
	// DeliverTimeout is how long a Deliver may take before its worker is replaced
	// and its user passed over until it returns. Default: 5 s.
	DeliverTimeout time.Duration
	// AckTimeout, with a transport whose clients acknowledge, is how long after its delivery a
	// message may stay unacknowledged before it, and everything else that the user has not
	// acknowledged, is sent again on the same connection; it doubles with each time in a row, up to 16 times. Default: 30 s.
	AckTimeout time.Duration
	// Grace is how long after a push phones are notified, so that those who are
	// just connecting are not. Default: 10 s. Negative: none.
	Grace time.Duration
	// SendTimeout ends the context of a batch of phone notifications. Default: 1 min.
	SendTimeout time.Duration

	// DeltaEntries and DeltaBytes bound the changes that are held in memory
	// before they are folded into the blocks. The heap holds at most three times as many.
	// A process that is killed leaves at most so many to be replayed at the next Open.
	// Default: 1,000,000 entries, 128 MiB.
	DeltaEntries int
	DeltaBytes   int64

	blockBits  int                               // for tests: a smaller block; counts at creation
	now        func() time.Time                  // for tests: the clock of commands
	hook       func(point, user string)          // for tests: called at interleaving points, without locks
	wrap       func(store.Journal) store.Journal // for tests: a journal that fails
	retryPause func(attempt int) time.Duration   // for tests
	paceEvery  time.Duration                     // for tests: a second of a pace
	disk       *fault.Disk                       // for package fanfaretest
	cluster    *peers.Cluster                    // of package cluster
}

// Cap bounds the messages of a category that a user is pushed, in days and weeks (from Monday on) by UTC. What counts is that a push was accepted with the user in
// its audience, while the category had a cap, whatever became of it.
type Cap struct {
	PerDay  int // 0: any number; at most 255, and [Open] refuses others
	PerWeek int // the same
}

// Recurrence is when something happens again and again.
type Recurrence interface {
	// Next returns the first time after another, in the zone of that, which is UTC for a Local plan; zero for none.
	Next(after time.Time) time.Time
}

// check reports the first thing that would do nothing where it was meant to spare somebody.
func (o *Options) check() error {
	if (o.ReadOnly || o.Maintenance) && (o.Online != nil || len(o.Mobile) > 0) {
		return errors.New("fanfare: a directory that is open for reading only, or for maintenance, has no transports")
	}
	if err := o.Quiet.check(); err != nil {
		return err
	}
	for _, category := range slices.Sorted(maps.Keys(o.Caps)) {
		if err := validateText("category of a cap", category, 0, maxCategoryBytes); err != nil {
			return err
		}
		c := o.Caps[category]
		for i, n := range []int{c.PerDay, c.PerWeek} {
			if n < 0 || n > store.MaxCap {
				return &LimitError{What: "cap of messages a " + []string{"day", "week"}[i] + ", from 0", Limit: store.MaxCap, Got: int64(n)}
			}
		}
	}
	return nil
}

func (o *Options) fill() {
	o.Limits.fill()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Workers <= 0 {
		o.Workers = 32
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	dur(&o.DeliverTimeout, 5*time.Second)
	dur(&o.AckTimeout, 30*time.Second)
	if o.Grace == 0 {
		o.Grace = 10 * time.Second
	}
	dur(&o.SendTimeout, time.Minute)
	if o.now == nil {
		o.now = time.Now
	}
	if o.hook == nil {
		o.hook = func(string, string) {}
	}
	dur(&o.paceEvery, time.Second)
	if o.retryPause == nil {
		o.retryPause = pause
	}
}
