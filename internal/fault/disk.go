// Package fault is how package fanfaretest gets between a Pusher and its disk: what it does there is nothing that the
// options of a program should offer.
package fault

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// Under puts a disk under the options of a Pusher, a *fanfare.Options. Package fanfare sets it.
var Under func(options any, d *Disk)

// ErrKilled is what a write fails with after [Disk.Kill].
var ErrKilled = errors.New("fanfaretest: the process was killed")

// Disk stands before everything that a Pusher makes durable in its directory. The zero value lets it through.
type Disk struct {
	mu    sync.RWMutex // held by each write: what changes the state waits for those under way
	state state
}

type state int

const (
	sound state = iota
	full
	brokenKept
	brokenLost
	killed
)

// Write makes a write to the file, or fails it. Where the error does not say whether it was made, it may have been.
func (d *Disk) Write(file string, write func() error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	failed := func(cause error) error { return &os.PathError{Op: "write", Path: file, Err: cause} }
	switch d.state {
	case full:
		return failed(syscall.ENOSPC)
	case brokenKept:
		return errors.Join(failed(syscall.EIO), write())
	case brokenLost:
		return failed(syscall.EIO)
	case killed:
		return ErrKilled
	}
	return write()
}

func (d *Disk) set(s state) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != killed {
		d.state = s
	}
}

// Fill lets writes fail for want of room, before anything of them is made.
func (d *Disk) Fill() { d.set(full) }

// Free undoes Fill and Break.
func (d *Disk) Free() { d.set(sound) }

// Break lets writes fail with an error that does not say whether they were made; kept says whether they are.
func (d *Disk) Break(kept bool) {
	if kept {
		d.set(brokenKept)
	} else {
		d.set(brokenLost)
	}
}

// Kill waits for the writes under way, and fails all that come later: the directory is what the process leaves behind.
func (d *Disk) Kill() { d.set(killed) }
