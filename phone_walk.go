package fanfare

import (
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// phoneWalk is how far a task has come on its way through its users, and on the next one through those who were asleep.
type phoneWalk struct {
	next    uint64
	scanned bool  // there is nobody after next
	slept   int64 // when users were last found asleep, in milliseconds since 1970; 0: nobody is
	// Of the ways through those who are: what is durable of these is who is asleep still.
	wake  time.Time // when the next begins
	again uint64    // how far it has come
	// Of the way that is under way.
	staying bool      // it has found somebody asleep
	look    time.Time // when the first of those are to be looked at again
}

// turn returns when the way goes on, if it does.
func (w *phoneWalk) turn() (at time.Time, more bool) {
	if !w.scanned {
		return time.Time{}, true
	}
	return w.wake, w.slept != 0
}

// advance takes a step of it that was made at a time. Look is when those who were asleep then are to be looked at again.
func (w *phoneWalk) advance(step *store.PhoneStep, at, look time.Time) {
	if len(step.Asleep) > 0 || step.Staying {
		if !w.staying || look.Before(w.look) {
			w.look = look
		}
		w.staying = true
	}
	if !w.scanned {
		if len(step.Asleep) > 0 {
			w.slept = max(w.slept, at.UnixMilli())
		}
		w.next, w.scanned = step.Next, !step.More
	} else if w.again = step.Next; !step.More && !w.staying {
		w.slept = 0
	}
	if !step.More {
		w.wake, w.again, w.staying = w.look, 0, false
	}
}
