package main

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"github.com/fanfare-im/fanfare"
)

// How the process exits. Scripts decide on these, so they stay.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitInUse       = 4
	exitDamaged     = 5
	exitNewer       = 6
	exitInterrupted = 130
)

const description = `Looks at a directory of fanfare, and looks after it.

Exit codes:
    0  done
    1  failed
    2  the command line is wrong, or an audience cannot be read
    3  not there: the directory, a file, a user, a task, an attribute
    4  the directory is in use by another process
    5  damaged, or the check has failed
    6  written by a newer version
  130  interrupted`

// usageError is a mistake in what was asked for.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// exitCode says how the process exits after an error.
func exitCode(ctx context.Context, err error) int {
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	var (
		usage usageError
		line  *lineError
		value *fanfare.ValueError
	)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil && is(context.Canceled):
		return exitInterrupted
	case is(fanfare.ErrLocked):
		return exitInUse
	case is(fanfare.ErrNewerFormat):
		return exitNewer
	case is(fanfare.ErrDamaged, fanfare.ErrForeignFile, fanfare.ErrMissingFile):
		return exitDamaged
	case errors.As(err, &line): // whatever a line of a file names
		return exitFailed
	case errors.As(err, &usage), errors.As(err, &value):
		return exitUsage
	case is(fs.ErrNotExist, fanfare.ErrUnknownUser, fanfare.ErrUnknownTask, fanfare.ErrUnknownAudience, fanfare.ErrUnnamedAttribute):
		return exitNotFound
	}
	return exitFailed
}

// message is an error for a person, who needs the name of this program once. An error may have in it what somebody else chose, a file's lines say.
func message(err error) string {
	const name = "fanfare: "
	lines := strings.Split(strings.ReplaceAll(err.Error(), name, ""), "\n")
	for i, line := range lines {
		if !isPlain(line) {
			quoted := strconv.Quote(line)
			lines[i] = quoted[1 : len(quoted)-1]
		}
	}
	return name + strings.Join(lines, "\n")
}
