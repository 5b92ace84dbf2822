package store

import (
	"errors"
	"fmt"
)

// Errors that callers decide on. The fanfare package exports them under the same names.
var (
	ErrClosed           = errors.New("fanfare: closed")
	ErrUnknownUser      = errors.New("fanfare: unknown user")
	ErrUnnamedAttribute = errors.New("fanfare: no attribute has this name")
	ErrUnknownAudience  = errors.New("fanfare: no audience is saved under this name")
	ErrNoAudience       = errors.New("fanfare: the audience is empty of terms")
	ErrUnknownTask      = errors.New("fanfare: unknown task")
	ErrKeyReused        = errors.New("fanfare: the key was used for a push with other content")
	ErrUnknownPlan      = errors.New("fanfare: unknown plan")
	ErrPlanChanged      = errors.New("fanfare: the plan has changed since it was read")
	ErrPlanEnded        = errors.New("fanfare: the plan has ended")
	ErrOutcomeUnknown   = errors.New("fanfare: it is not known whether the change was made")
	ErrLocked           = errors.New("fanfare: the directory is open in another process")
	ErrMissingFile      = errors.New("fanfare: a file of the directory is missing")
	ErrForeignFile      = errors.New("fanfare: not a file of this store")
	ErrDamaged          = errors.New("fanfare: a file is damaged")
	ErrNewerFormat      = errors.New("fanfare: written by a newer version")
	ErrReadOnly         = errors.New("fanfare: the directory is open for reading only")
	ErrNoRoom           = errors.New("fanfare: no room to write")
	ErrUnavailable      = errors.New("fanfare: too few of the cluster's nodes can be reached")
	ErrBehind           = errors.New("fanfare: the cluster's log does not go back as far as this node")
	ErrUpgrading        = errors.New("fanfare: not before all nodes of the cluster run a version that knows it")
	ErrDiverged         = errors.New("fanfare: the state differs from that of other nodes")
)

// LimitError says that something given is larger than its limit. Nothing of
// the call was applied.
type LimitError struct {
	What  string // what is limited, such as "tag in bytes"
	Limit int64  // the most of it that is accepted, or the least, as What says
	Got   int64  // what was given
}

// Error says what was limited, to what, and what was given.
func (e *LimitError) Error() string {
	return fmt.Sprintf("fanfare: %s: limit %d, got %d", e.What, e.Limit, e.Got)
}

// FormatError says that bytes do not have the form they should have. It
// matches [ErrDamaged] with errors.Is.
type FormatError struct {
	What   string // what was read, such as "journal record 17"
	Detail string
}

// Error says what was read, and what is wrong with it.
func (e *FormatError) Error() string {
	return fmt.Sprintf("fanfare: %s is malformed: %s", e.What, e.Detail)
}

// Is reports whether target is [ErrDamaged].
func (e *FormatError) Is(target error) bool { return target == ErrDamaged }
