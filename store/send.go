package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// sendPatience is how long the fold waits for who takes a store that is sent: what has not been taken by then is copied beside it, at the speed of the disk.
const sendPatience = 3 * time.Second

// Taker is who takes a store that is sent.
type Taker interface {
	io.Writer
	// Ready waits until a Write does not have to wait, and returns how many bytes it may be of. It returns the error of a context that ends before.
	Ready(ctx context.Context) (int, error)
}

// Send sends the blocks of a store, with everything folded into them, for [Receive] to make a directory of. Begin is told the position of them and how many bytes there will be. The store goes on meanwhile, but for the
// fold: that waits as long as the taker takes everything within seconds, and otherwise until the rest has been copied, for which the directory needs room.
func (s *Store) Send(ctx context.Context, begin func(position uint64, size int64) (Taker, error)) (err error) {
	if s.stopped.Err() != nil {
		return ErrClosed
	}
	ctx, over := s.untilClose(ctx)
	defer over(&err)
	defer guardFaults("send", &err)()
	var p *patient
	err = s.withFolded(ctx, func(tx *bbolt.Tx, _ string) error {
		to, err := begin(be64(tx.Bucket(bucketMeta).Get(metaPosition)), tx.Size())
		if err != nil {
			return err
		}
		p = &patient{to: to, dir: s.dir}
		waiting, cancel := context.WithTimeout(ctx, sendPatience)
		defer cancel()
		p.ctx, p.waiting = ctx, waiting
		return writeTx(ctx, tx, p)
	})
	if p == nil {
		return err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	if err != nil {
		return err
	}
	return p.sendRest()
}

// patient writes to a taker, and to a file instead when that takes too long.
type patient struct {
	to           Taker
	ctx, waiting context.Context
	dir          string
	beside       string // a directory,
	rest         *os.File
}

func (p *patient) Write(b []byte) (n int, err error) {
	for p.rest == nil && n < len(b) {
		k, err := take(p.waiting, p.to, b[n:])
		n += k
		switch {
		case err != nil && p.waiting.Err() != nil && p.ctx.Err() == nil:
			if err := p.spool(); err != nil {
				return n, err
			}
		case err != nil:
			return n, err
		}
	}
	if n == len(b) {
		return n, nil
	}
	k, err := p.rest.Write(b[n:])
	return n + k, copyError(err)
}

// take writes what the taker takes at once.
func take(ctx context.Context, to Taker, b []byte) (int, error) {
	n, err := to.Ready(ctx)
	if err != nil {
		return 0, err
	}
	return to.Write(b[:min(n, len(b))])
}

func (p *patient) spool() (err error) {
	if p.beside, err = os.MkdirTemp(p.dir, "backup-"); err != nil {
		return copyError(err)
	}
	p.rest, err = os.OpenFile(filepath.Join(p.beside, blocksFile), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	return copyError(err)
}

// sendRest writes what is in the file.
func (p *patient) sendRest() error {
	if p.rest == nil {
		return nil
	}
	if _, err := p.rest.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := copyLarge(takerWriter{p.ctx, p.to}, struct{ io.Reader }{p.rest})
	return err
}

func (p *patient) remove() (err error) {
	if p.rest != nil {
		err = p.rest.Close()
	}
	if p.beside != "" {
		err = errors.Join(err, os.RemoveAll(p.beside))
	}
	return err
}

// takerWriter writes to a taker however long that takes.
type takerWriter struct {
	ctx context.Context
	to  Taker
}

func (w takerWriter) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = take(w.ctx, w.to, b[n:])
		n += k
	}
	return n, err
}

// Receive makes a directory of what [Store.Send] sends, at the position that it said, to be opened with the log. There must be none; after an error there is none. An error of r is its own,
// and what is not the blocks of the log at that position is [ErrDamaged] or [ErrForeignFile]. Opening the directory checks the files.
func Receive(ctx context.Context, dir string, r io.Reader, log [16]byte, position uint64) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := restoreFile(ctx, filepath.Join(dir, blocksFile), r); err != nil {
		return err
	}
	db, m, err := openBlocks(dir, true)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	switch {
	case !bytes.Equal(m.log, log[:]):
		return fmt.Errorf("%w: %s is not of this cluster", ErrForeignFile, blocksFile)
	case m.position != position || m.segment != "":
		return &FormatError{What: blocksFile, Detail: "position"}
	}
	if err := createJournal(dir, m.id, m.position); err != nil {
		return err
	}
	return syncDir(dir)
}
