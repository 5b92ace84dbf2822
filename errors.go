package fanfare

import (
	"errors"
	"fmt"

	"github.com/fanfare-im/fanfare/store"
)

// Sentinel errors, for errors.Is.
var (
	// ErrClosed: the Pusher has been closed, or is closing.
	ErrClosed = store.ErrClosed
	// ErrUnknownUser: the user was never registered or imported and has never connected, or was unregistered.
	ErrUnknownUser = store.ErrUnknownUser
	// ErrUnnamedAttribute: no slot has this attribute name.
	ErrUnnamedAttribute = store.ErrUnnamedAttribute
	// ErrUnknownAudience: no audience is saved under this name, or none any more.
	ErrUnknownAudience = store.ErrUnknownAudience
	// ErrAudienceCycle: a saved audience contains itself, by way of others that it has in it.
	ErrAudienceCycle = errors.New("fanfare: a saved audience contains itself")
	// ErrNoAudience: the zero Audience, or one made from it. Nobody is pushed by accident.
	ErrNoAudience = store.ErrNoAudience
	// ErrInvalidText: an ID, tag, name or value is not valid UTF-8.
	ErrInvalidText = errors.New("not valid UTF-8")
	// ErrUnknownTask: no task has this ID, or it was forgotten, 30 days after its end.
	ErrUnknownTask = store.ErrUnknownTask
	// ErrKeyReused: the idempotency key belongs to a push with other content.
	ErrKeyReused = store.ErrKeyReused
	// ErrUnknownPlan: no plan has this ID, or it was forgotten, 30 days after its end.
	ErrUnknownPlan = store.ErrUnknownPlan
	// ErrPlanChanged: the plan is not what it was when it was looked at. The methods of a [Planned] begin again then, and do not return it; it is for
	// a host that compares, as package console does for two people who change the same plan.
	ErrPlanChanged = store.ErrPlanChanged
	// ErrPlanEnded: the plan has ended, so it cannot be changed.
	ErrPlanEnded = store.ErrPlanEnded
	// ErrPlanStarted: the plan has fired, so it cannot be changed.
	ErrPlanStarted = errors.New("fanfare: the plan has fired")
	// ErrNoCron: the plan repeats, and there is no [Options].Cron to read its expression.
	ErrNoCron = errors.New("fanfare: no Options.Cron")
	// ErrOutcomeUnknown: the change may or may not have been made. Either the
	// context ended while it was being written; or, in a cluster, too few nodes answered in time ([ErrUnavailable]); or the disk failed in a way that says
	// nothing of what is on it, and then the Pusher refuses changes until it is reopened, while reads and
	// delivery go on. Doing the call again is safe; for a push, with the same Key.
	ErrOutcomeUnknown = store.ErrOutcomeUnknown
	// ErrLocked: another process, or another Pusher of this one, has the directory open.
	ErrLocked = store.ErrLocked
	// ErrMissingFile: one of the directory's files is not there.
	ErrMissingFile = store.ErrMissingFile
	// ErrForeignFile: a file is not one of this store.
	ErrForeignFile = store.ErrForeignFile
	// ErrDamaged: a file is truncated or does not make sense.
	ErrDamaged = store.ErrDamaged
	// ErrNewerFormat: a file was written by a newer version of the library.
	ErrNewerFormat = store.ErrNewerFormat
	// ErrReadOnly: the directory is open for reading only, by [Options].ReadOnly.
	ErrReadOnly = store.ErrReadOnly
	// ErrNoRoom: there is no room to write. Nothing of the call was applied;
	// the Pusher goes on when there is room again.
	ErrNoRoom = store.ErrNoRoom
	// ErrUnavailable: in a cluster, too few nodes can be reached to make a change. If the change may have been made all the same the error
	// matches [ErrOutcomeUnknown] too. Reads and the delivery of what is here go on, and so do changes when the nodes are there again.
	ErrUnavailable = store.ErrUnavailable
	// ErrBehind: in a cluster, this node has been away, or stopped, for so long that what it has missed is not in the log any more. It refuses changes; opening it again
	// fetches the state from another node.
	ErrBehind = store.ErrBehind
	// ErrUpgrading: in a cluster, not all nodes run a version of the library that knows what is asked for. It is made when they do.
	ErrUpgrading = store.ErrUpgrading
	// ErrDiverged: in a cluster, what the same changes made of this node's state is not what they made of the others'. The node applies nothing more, and refuses changes. Its directory
	// is worth a report; without it the node opens with the state of another.
	ErrDiverged = store.ErrDiverged
)

// LimitError says that something given is beyond its limit: What, such as "tag in bytes", the
// Limit, and what it Got. Nothing of the call was applied.
type LimitError = store.LimitError

// BatchError says which change of a [Batch] was refused, by its Index, from 0, the ID of its user, and
// why, Err, which errors.Is and errors.As find. Nothing of the batch was applied.
type BatchError = store.OpError

// NotificationError says that the transport of a platform would never take a notification, and why. The push was not accepted.
type NotificationError struct {
	Platform string // whose transport would not take it; the first of them by name
	Err      error  // what that transport's Check returned
}

// Error says which platform it is, and what its transport says.
func (e *NotificationError) Error() string {
	return fmt.Sprintf("fanfare: notification for platform %q: %v", e.Platform, e.Err)
}

// Unwrap returns the transport's error.
func (e *NotificationError) Unwrap() error { return e.Err }

// ValueError says that a Value is not of the Type of the attribute of this Name, or that an attribute is compared that has no order: it is [Text].
type ValueError = store.ValueError

// TypeInUseError says that an attribute, of this Slot and Name, has values, so that its type cannot change from what they Have to what was Declared.
type TypeInUseError = store.TypeInUseError

// DuplicateNameError says that an attribute Name would stand for two Slots.
type DuplicateNameError = store.DuplicateNameError
