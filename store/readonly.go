package store

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// readOnly makes a store that has been opened and replayed one that changes nothing: it has neither a committer nor a folder.
// What the journal and the segment have beyond the blocks stays in memory.
func (s *Store) readOnly() {
	if d := s.layers.Load().active; d.entries > 0 {
		d.put(bucketState, string(stateKey), s.st.encode()) // as when it is frozen
	}
	s.publish()
	s.queue.refuse = ErrReadOnly
}

// withFoldedCopy calls f with a transaction on the blocks, or, where the last process left something to fold, on a copy of them in the
// system's temporary directory with that folded into it.
func (s *Store) withFoldedCopy(ctx context.Context, f func(tx *bbolt.Tx, path string) error) (err error) {
	l := s.layers.Load()
	if l.frozen == nil && l.active.entries == 0 {
		return viewFile(l.db, func(tx *bbolt.Tx) error { return f(tx, filepath.Join(s.dir, blocksFile)) })
	}
	dir, err := os.MkdirTemp("", "fanfare-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, blocksFile)
	db, err := copyOpen(ctx, l.db, path)
	if err == nil {
		defer func() { err = errors.Join(err, db.Close()) }() // before it is removed
		err = foldLayers(ctx, db, l)
	}
	if noRoom(err) {
		err = roomError("a copy in the temporary directory", err)
	}
	if err != nil {
		return err
	}
	return db.View(func(tx *bbolt.Tx) error { return f(tx, path) })
}

// copyOpen copies a file and opens the copy for changes.
func copyOpen(ctx context.Context, of *bbolt.DB, path string) (*bbolt.DB, error) {
	if err := viewFile(of, func(tx *bbolt.Tx) error { return copyTx(ctx, tx, path) }); err != nil {
		return nil, err
	}
	o := blocksOptions()
	o.NoSync = true // it does not outlive the call
	return bbolt.Open(path, 0o600, o)
}

// foldLayers folds what is in memory into a copy of the blocks.
func foldLayers(ctx context.Context, db *bbolt.DB, l *layers) error {
	for _, d := range []*delta{l.frozen, l.active} {
		if d == nil || d.entries == 0 {
			continue
		}
		err := fold(func() *bbolt.DB { return db }, d, func(write func() error) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return write()
		})
		if err == nil {
			err = nameSegment(db, segmentName(d.position), d.position, groupID{})
		}
		if err == nil {
			err = dropSegment(db)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// backupInPlace is [Store.Backup] of files that nobody changes: they need not be copied first. It has no transaction open while somebody slow
// reads it, for Close would wait for that.
func (s *Store) backupInPlace(ctx context.Context, w io.Writer) error {
	blocks, segment, err := inUse(s.blocksDB())
	if err != nil {
		return err
	}
	journal, _, err := inUse(s.local.db.Load())
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	if err := addFile(ctx, tw, s.dir, blocksFile, blocks); err != nil {
		return err
	}
	if segment != "" {
		size, err := fileSize(s.dir, segment)
		if err == nil {
			err = addFile(ctx, tw, s.dir, segment, size)
		}
		if err != nil {
			return err
		}
	}
	if err := addFile(ctx, tw, s.dir, journalFile, journal); err != nil {
		return err
	}
	return tw.Close()
}

// inUse returns how much of a file is in use, which may end in what it grew by, and the segment that it names.
func inUse(db *bbolt.DB) (size int64, segment string, err error) {
	defer guardFaults("backup", &err)()
	err = viewFile(db, func(tx *bbolt.Tx) error {
		size, segment = tx.Size(), string(tx.Bucket(bucketMeta).Get(metaSegment))
		return nil
	})
	return size, segment, err
}
