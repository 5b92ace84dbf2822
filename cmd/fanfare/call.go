package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/fanfare-im/fanfare"
)

// call is one run of a command.
type call struct {
	ctx  context.Context // ends with the first signal
	out  *bufio.Writer   // standard output
	json bool
	bars bool

	terminal bool // standard output is one
}

// object writes a line of JSON.
func (c *call) object(v any) error {
	return linesTo(c.out).Encode(v)
}

// largestLimits are for who looks: what the host accepts is for the host to say, and not known here.
func largestLimits() fanfare.Limits {
	const most = math.MaxInt
	return fanfare.Limits{Attributes: most, TagBytes: most, ValueBytes: most, NameBytes: most, BodyBytes: most, TokenBytes: most}
}

// look calls f with the directory open for reading only.
func (c *call) look(dir string, f func(*fanfare.Pusher) error) error {
	return c.existing(dir, fanfare.Options{ReadOnly: true, Limits: largestLimits()}, f)
}

// existing calls f with the directory open, which must be there.
func (c *call) existing(dir string, o fanfare.Options, f func(*fanfare.Pusher) error) error {
	if !isThere(dir) {
		return &fs.PathError{Op: "no directory of fanfare", Path: dir, Err: fs.ErrNotExist}
	}
	return c.with(dir, o, f)
}

// with calls f with the directory open.
func (c *call) with(dir string, o fanfare.Options, f func(*fanfare.Pusher) error) error {
	p, err := fanfare.Open(dir, o)
	if err != nil {
		return named(dir, err)
	}
	err = f(p)
	closing := c.ctx
	if closing.Err() != nil { // what is not done in time is safe in the journal
		var cancel context.CancelFunc
		closing, cancel = context.WithTimeout(context.WithoutCancel(c.ctx), 5*time.Second)
		defer cancel()
	}
	return errors.Join(err, p.Close(closing))
}

// isThere says whether one of the files of docs/format.md is there: Open would make others, or tell what is missing.
func isThere(dir string) bool {
	for _, name := range []string{"blocks.db", "journal.db"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// named puts before an error of which file or directory it is.
func named(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}
