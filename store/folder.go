package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// foldRetry is the pause before a checkpoint or fold that found no room is tried again.
const foldRetry = time.Second

// folder writes each frozen delta as a segment and folds it into the blocks.
func (s *Store) folder() {
	for {
		select {
		case <-s.frozen:
		case <-s.stopped.Done():
			return
		}
		for {
			d, began := s.layers.Load().frozen, time.Now()
			err := s.foldFrozen()
			s.counts.folded(d, time.Since(began), err)
			if err == nil {
				break
			}
			if err == errStopped {
				return
			}
			var unnamed *segmentError
			if !noRoom(err) && !errors.As(err, &unnamed) {
				// After a failed sync nobody knows what is on the disk.
				err = s.refuseChanges(err)
				s.foldFail.Store(&err)
				s.foldNews.tell()
				return
			}
			if noRoom(err) {
				err = roomError(blocksFile, err)
			}
			if s.foldFail.Swap(&err) == nil {
				s.o.Logger.Warn("fanfare: cannot fold; trying again until it can", "error", err)
				s.o.Failed(err)
			}
			s.foldNews.tell()
			select {
			case <-time.After(foldRetry):
			case <-s.stopped.Done():
				return
			}
		}
		s.foldFail.Store(nil)
		s.foldNews.tell()
	}
}

// foldFrozen does what is left to do for the frozen delta. It may be called again after an error.
func (s *Store) foldFrozen() (err error) {
	defer guardFaults("fold", &err)()
	l := s.layers.Load()
	d := l.frozen
	if s.cut.Load() < d.position { // not named yet
		name, err := writeSegment(s.dir, s.id, d)
		if err != nil {
			var limit *LimitError
			if errors.As(err, &limit) {
				return err // it would be the next time too
			}
			return &segmentError{err} // nothing names it, and the journal has everything
		}
		if err := s.writeBlocks(func() error { return nameSegment(s.blocksDB(), name, d.position, d.group) }); err != nil {
			return err
		}
		s.cut.Store(d.position)
		if s.o.Log != nil {
			s.o.Log.Folded(min(d.position, s.follower.back.Load()))
		}
	}
	if err := fold(s.blocksDB, d, s.writeBlocks); err != nil {
		return err
	}
	if err := s.writeBlocks(func() error { return dropSegment(s.blocksDB()) }); err != nil {
		return err
	}
	s.removeSegment(segmentName(d.position))
	s.setLayers(func(l *layers) { l.frozen, l.everyone = nil, l.everyone.after(d) })
	s.foldedTo.Store(d.position)
	return nil
}

// segmentError says that a segment could not be written. It can be tried again.
type segmentError struct{ err error }

func (e *segmentError) Error() string { return "write a segment: " + e.err.Error() }
func (e *segmentError) Unwrap() error { return e.err }

// removeSegment removes a segment that meta does not name any more. Where that fails, the next Open does it.
func (s *Store) removeSegment(name string) {
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.o.Logger.Warn("fanfare: a segment that was folded is left behind until the next Open", "error", err)
	}
}

// writeBlocks is one write to blocks.db, between which a backup or a compaction may come. An error that is
// a lack of room means that nothing was written.
func (s *Store) writeBlocks(write func() error) error {
	s.blocksMu.Lock()
	defer s.blocksMu.Unlock()
	if s.stopped.Err() != nil {
		return errStopped
	}
	if s.o.foldError != nil {
		if err := s.o.foldError(); err != nil {
			return err
		}
	}
	before, err := lastCommit(s.blocksDB())
	if err != nil {
		return err
	}
	err = s.o.WriteBlocks(write)
	if s.o.foldDone != nil {
		err = s.o.foldDone(err)
	}
	if !noRoom(err) {
		return err
	}
	// A failed commit is not a failed write: what is there although its sync failed may be gone after a
	// crash, so that nothing may be built on it, nor done again as if it were not there.
	if now, e := lastCommit(s.blocksDB()); e != nil || now != before {
		return fmt.Errorf("fanfare: a commit of %s failed, and is there all the same: %v", blocksFile, err)
	}
	return err
}

// lastCommit returns the number of the last transaction that readers see.
func lastCommit(db *bbolt.DB) (id int, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		id = tx.ID()
		return nil
	})
	return id, err
}

// Checkpoint folds everything that was applied before the call into the
// blocks. It returns the error that keeps the fold from writing, if one does.
func (s *Store) Checkpoint(ctx context.Context) error {
	need, known := uint64(0), false
	for {
		news := s.foldNews.wait()
		done := false
		var refused error
		err := s.control(ctx, func() {
			if !known {
				need, known = s.st.position, true
			}
			if p := s.refuse.Load(); p != nil {
				refused = *p
				return
			}
			if done = s.foldedTo.Load() >= need; !done {
				s.freezeDelta()
			}
		})
		if err == nil {
			err = refused
		}
		if err != nil || done {
			return err
		}
		if p := s.foldFail.Load(); p != nil && errors.Is(*p, ErrOutcomeUnknown) {
			return *p // there is no folder any more
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped.Done():
			return ErrClosed
		}
		if p := s.foldFail.Load(); p != nil {
			return *p
		}
	}
}

// withFolded folds everything and calls f with a transaction on blocks.db, and its path, while nothing is written to it. Of a store
// that is open for reading only it may be a copy.
func (s *Store) withFolded(ctx context.Context, f func(tx *bbolt.Tx, path string) error) error {
	if s.o.ReadOnly {
		return s.withFoldedCopy(ctx, f)
	}
	for {
		if err := s.Checkpoint(ctx); err != nil {
			return err
		}
		if whole, err := s.withWhole(ctx, f); whole || err != nil {
			return err
		}
	}
}

// withWhole calls f unless the next fold is under way: of that the blocks have a part, and so no moment's state.
func (s *Store) withWhole(ctx context.Context, f func(tx *bbolt.Tx, path string) error) (whole bool, err error) {
	if err := s.blocksMu.lockUntil(ctx); err != nil {
		return false, err
	}
	defer s.blocksMu.Unlock()
	err = viewFile(s.blocksDB(), func(tx *bbolt.Tx) error {
		if whole = tx.Bucket(bucketMeta).Get(metaSegment) == nil; !whole {
			return nil
		}
		return f(tx, filepath.Join(s.dir, blocksFile))
	})
	return whole, err
}

// viewFile is [bbolt.DB.View] for who may come after Close.
func viewFile(db *bbolt.DB, f func(tx *bbolt.Tx) error) error {
	err := db.View(f)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}
