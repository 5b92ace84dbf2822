package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// Place is where a directory stands.
type Place struct {
	Log      *[16]byte // that Position is of; nil: the local journal, or there is no store
	Position uint64    // up to which it needs no record
	Store    bool      // there is one
	Empty    bool      // nothing was ever put into it
}

// PlaceOf looks at a directory that nobody has open. One that is not there, or has nothing of a store in it, is no error.
func PlaceOf(dir string) (p Place, err error) {
	for _, name := range []string{journalFile, blocksFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) {
			return p, nil // Open says what is missing, if one of them is
		}
	}
	db, m, err := openBlocks(dir, true)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	p.Store, p.Position = true, m.position
	if m.log != nil {
		p.Log = (*[16]byte)(m.log)
		return p, nil
	}
	j, _, err := openJournal(dir, true)
	if err != nil {
		return p, err
	}
	p.Empty = m.position == 0 && j.last == 0
	return p, j.db.Load().Close()
}

// Attach makes a directory one of a log, in which it stands at a position. It must have been closed completely, or be one that [Restore] made; otherwise there is
// something left to be opened first, and it is [ErrForeignFile]. A directory of a log already stays as it is, or is [ErrForeignFile] if it is of another.
func Attach(dir string, log [16]byte, position uint64) (err error) {
	db, m, err := openBlocks(dir, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if m.log != nil {
		if !bytes.Equal(m.log, log[:]) {
			return fmt.Errorf("%w: %s is of another cluster", ErrForeignFile, blocksFile)
		}
		return nil
	}
	j, id, err := openJournal(dir, false)
	if err != nil {
		return err
	}
	if err := j.db.Load().Close(); err != nil {
		return err
	}
	switch {
	case id != m.id:
		return fmt.Errorf("%w: %s belongs to another %s", ErrForeignFile, journalFile, blocksFile)
	case j.last != m.position || m.segment != "" && position != m.position:
		return fmt.Errorf("%w: the directory has changes that are not in its blocks yet: open and close it first", ErrForeignFile)
	}
	return db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		return errors.Join(meta.Put(metaLog, log[:]), meta.Put(metaPosition, key64(position)), meta.Delete(metaRecord))
	})
}

// detach makes a copy of a log's directory one with an empty journal of its own, which goes on at the position of the blocks.
func detach(dir string) (err error) {
	db, m, err := openBlocks(dir, false)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		return errors.Join(meta.Delete(metaLog), meta.Delete(metaRecord))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return createJournal(dir, m.id, m.position)
}

// Replace puts the files of another directory, which [Receive] made, in the place of those of a directory, and removes the other. When it was interrupted it is to be called again,
// before either is opened.
func Replace(dir, from string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	blocks := false
	// The blocks go last: as long as they are there, so is everything that tells what is theirs. A segment of the old ones stays until Open, which removes those that its blocks do not name:
	// here nobody knows whether a segment is old, or was moved before an interruption.
	for _, e := range entries {
		if e.Name() == blocksFile {
			blocks = true
		} else if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if blocks {
		if err := syncDir(dir); err != nil { // nor does a loss of power put them before the others
			return err
		}
		if err := os.Rename(filepath.Join(from, blocksFile), filepath.Join(dir, blocksFile)); err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	return os.Remove(from)
}
