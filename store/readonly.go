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
	db, err := s.foldedCopy(ctx, l, path)
	if noRoom(err) {
		err = roomError("a copy in the temporary directory", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bbolt.Tx) error { return f(tx, path) })
}

func (s *Store) foldedCopy(ctx context.Context, l *layers, path string) (*bbolt.DB, error) {
	if err := viewFile(l.db, func(tx *bbolt.Tx) error { return copyTx(ctx, tx, path) }); err != nil {
		return nil, err
	}
	o := blocksOptions()
	o.NoSync = true // it does not outlive the call
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		return nil, err
	}
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
			err = nameSegment(db, segmentName(d.position), d.position)
		}
		if err == nil {
			err = dropSegment(db)
		}
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return db, nil
}

// backupInPlace is [Store.Backup] of files that nobody changes: they need not be copied first.
func (s *Store) backupInPlace(ctx context.Context, w io.Writer) (err error) {
	defer guardFaults("backup", &err)()
	tw := tar.NewWriter(w)
	segment := ""
	err = viewFile(s.blocksDB(), func(tx *bbolt.Tx) error {
		segment = string(tx.Bucket(bucketMeta).Get(metaSegment))
		return addTx(ctx, tw, tx, blocksFile)
	})
	if err == nil && segment != "" {
		err = addFile(ctx, tw, filepath.Join(s.dir, segment), segment)
	}
	if err == nil {
		err = viewFile(s.local.db.Load(), func(tx *bbolt.Tx) error { return addTx(ctx, tw, tx, journalFile) })
	}
	if err != nil {
		return err
	}
	return tw.Close()
}

func addTx(ctx context.Context, tw *tar.Writer, tx *bbolt.Tx, name string) error {
	if err := tw.WriteHeader(tarHeader(name, tx.Size())); err != nil {
		return err
	}
	return writeTx(ctx, tx, tw)
}
