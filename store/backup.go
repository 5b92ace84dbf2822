package store

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// Backup writes a tar archive of the store at one position, while the store goes on: blocks.db,
// the segment if there is one, and journal.db. The files are first copied
// beside the store, at the speed of the disk and with the fold waiting, and only then written to w: a
// slow writer holds nothing up, but the directory needs as much free space as the store
// uses. [Restore] makes a directory of it again, and so does tar. Of a store of a log it is one with a journal of its own; for reading only it is then
// copied to the system's temporary directory first, and as of the last checkpoint.
func (s *Store) Backup(ctx context.Context, w io.Writer) (err error) {
	if s.stopped.Err() != nil {
		return ErrClosed
	}
	ctx, over := s.untilClose(ctx)
	defer over(&err)
	if s.o.ReadOnly && !s.logged {
		return s.backupInPlace(ctx, w)
	}
	if s.logged && !s.o.ReadOnly { // the log's records are not in the copy
		if err := s.Checkpoint(ctx); err != nil {
			return err
		}
	}
	beside := s.dir
	if s.o.ReadOnly {
		beside = "" // in the system's directory
	}
	dir, err := os.MkdirTemp(beside, "backup-")
	if err != nil {
		return copyError(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	names, err := s.spool(ctx, dir)
	if err != nil {
		return copyError(err)
	}
	return writeArchive(ctx, w, dir, names)
}

// copyError is an error of making a copy beside the store.
func copyError(err error) error {
	if noRoom(err) {
		return roomError("a copy beside the store", err)
	}
	return err
}

// writeArchive writes the archive that [Restore] takes.
func writeArchive(ctx context.Context, w io.Writer, dir string, names []string) error {
	tw := tar.NewWriter(w)
	for _, name := range names {
		size, err := fileSize(dir, name)
		if err == nil {
			err = addFile(ctx, tw, dir, name, size)
		}
		if err != nil {
			return err
		}
	}
	return tw.Close()
}

// spool copies the files while nothing is written to the blocks. The journal goes on, and is
// copied last: it has every record behind the position of the others.
func (s *Store) spool(ctx context.Context, spool string) (names []string, err error) {
	defer guardFaults("backup", &err)()
	if err := s.copying.lockUntil(ctx); err != nil {
		return nil, err
	}
	defer s.copying.Unlock()
	if err := s.blocksMu.lockUntil(ctx); err != nil {
		return nil, err
	}
	defer s.blocksMu.Unlock()
	segment := ""
	err = viewFile(s.blocksDB(), func(tx *bbolt.Tx) error {
		segment = string(tx.Bucket(bucketMeta).Get(metaSegment))
		return copyTx(ctx, tx, filepath.Join(spool, blocksFile))
	})
	if err != nil {
		return nil, err
	}
	names = append(names, blocksFile)
	if segment != "" {
		if err := copyFile(ctx, filepath.Join(s.dir, segment), filepath.Join(spool, segment)); err != nil {
			return nil, err
		}
		names = append(names, segment)
	}
	if s.logged {
		err = detach(spool)
	} else {
		err = viewFile(s.local.db.Load(), func(tx *bbolt.Tx) error { return copyTx(ctx, tx, filepath.Join(spool, journalFile)) })
	}
	return append(names, journalFile), err
}

func copyTx(ctx context.Context, tx *bbolt.Tx, to string) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(writeTx(ctx, tx, f), f.Close())
}

func writeTx(ctx context.Context, tx *bbolt.Tx, to io.Writer) error {
	w := &errorKeeper{w: ctxWriter{ctx, to}}
	_, err := tx.WriteTo(w)
	if w.err != nil {
		return w.err
	}
	return err
}

// errorKeeper keeps the error of a write, of which bbolt passes on the text alone.
type errorKeeper struct {
	w   io.Writer
	err error
}

func (k *errorKeeper) Write(p []byte) (n int, err error) {
	if n, err = k.w.Write(p); err != nil {
		k.err = err
	}
	return n, err
}

// ReadFrom is for the room of its buffer.
func (k *errorKeeper) ReadFrom(r io.Reader) (int64, error) {
	return copyLarge(struct{ io.Writer }{k}, r)
}

// copyLarge copies in large pieces, of which a file system makes less work than of small ones.
func copyLarge(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(w, r, make([]byte, 1<<20))
}

func copyFile(ctx context.Context, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = copyLarge(ctxWriter{ctx, out}, struct{ io.Reader }{in})
	return errors.Join(err, out.Close())
}

// ctxWriter stops a copy when its context ends.
type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (w ctxWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// addFile adds the first bytes of a file.
func addFile(ctx context.Context, tw *tar.Writer, dir, name string, size int64) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tw.WriteHeader(tarHeader(name, size)); err != nil {
		return err
	}
	n, err := copyLarge(ctxWriter{ctx, tw}, io.LimitReader(f, size))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func tarHeader(name string, size int64) *tar.Header {
	return &tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}

// Restore makes a directory from what [Store.Backup] wrote. The directory must
// not exist or be empty; after an error it is as it was. A backup that was cut short or changed is
// [ErrDamaged], [ErrMissingFile] or [ErrForeignFile], and an error of r is its own. Opening the directory checks the files.
func Restore(ctx context.Context, dir string, r io.Reader) (err error) {
	dir = filepath.Clean(dir)
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("fanfare: restore: %s is not empty", filepath.Base(dir))
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".restore-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(part))
		}
	}()
	seen := make(map[string]bool)
	from := &source{r: r}
	for tr := tar.NewReader(from); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return from.fault(err)
		}
		if seen[h.Name] || h.Name != blocksFile && h.Name != journalFile && !isSegmentName(h.Name) {
			return fmt.Errorf("%w: backup has a file %q", ErrForeignFile, h.Name)
		}
		seen[h.Name] = true
		err = restoreFile(ctx, filepath.Join(part, h.Name), tr)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = from.fault(err)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range []string{blocksFile, journalFile} {
		if !seen[name] {
			return fmt.Errorf("%w: backup without %s", ErrMissingFile, name)
		}
		if err := inspectBolt(filepath.Join(part, name)); err != nil {
			return err
		}
	}
	if err := syncDir(part); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(part, dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// source is where a backup is read from. It tells a backup that is damaged from one that could not be read.
type source struct {
	r   io.Reader
	err error // of r
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// fault is an error that the archive was read with.
func (s *source) fault(err error) error {
	if s.err != nil {
		return fmt.Errorf("fanfare: restore: %w", s.err)
	}
	return fmt.Errorf("%w: backup: %w", ErrDamaged, err)
}

func restoreFile(ctx context.Context, path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w := syncAhead(f)
	_, err = copyLarge(ctxWriter{ctx, w}, r)
	return errors.Join(err, w.end(), f.Sync(), f.Close())
}

// aheadBytes are written before they are synced.
const aheadBytes = 32 << 20

// aheadWriter has a file synced while more of it is written, so that there is little left to be synced at the end.
type aheadWriter struct {
	f       *os.File
	written int
	due     chan struct{}
	ended   chan error
}

func syncAhead(f *os.File) *aheadWriter {
	w := &aheadWriter{f: f, due: make(chan struct{}, 1), ended: make(chan error, 1)}
	go func() {
		var err error
		for range w.due {
			err = errors.Join(err, f.Sync())
		}
		w.ended <- err
	}()
	return w
}

func (w *aheadWriter) Write(p []byte) (n int, err error) {
	n, err = w.f.Write(p)
	if w.written += n; w.written >= aheadBytes {
		w.written = 0
		select {
		case w.due <- struct{}{}:
		default:
		}
	}
	return n, err
}

// end returns what a sync has failed with, which the file says only once.
func (w *aheadWriter) end() error {
	close(w.due)
	return <-w.ended
}

func isSegmentName(name string) bool {
	var position uint64
	n, err := fmt.Sscanf(name, "segment-%016x", &position)
	return n == 1 && err == nil && name == segmentName(position)
}

func fileSize(dir, name string) (int64, error) {
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Compact rewrites both files without their free pages, while the store goes
// on; the fold waits. It needs room for a second copy of blocks.db.
func (s *Store) Compact(ctx context.Context) (err error) {
	defer guardFaults("compact", &err)()
	if err := s.Checkpoint(ctx); err != nil {
		return err
	}
	if err := s.copying.lockUntil(ctx); err != nil {
		return err
	}
	defer s.copying.Unlock()
	if s.stopped.Err() != nil {
		return ErrClosed
	}
	if err := s.compactBlocks(ctx); err != nil {
		if noRoom(err) {
			return roomError("a copy beside the store", err)
		}
		return err
	}
	compacted := make(chan error, 1)
	err = s.control(ctx, func() { compacted <- s.compactJournal() })
	if errors.Is(err, ErrOutcomeUnknown) { // it is under way, or there is no committer any more
		select {
		case err := <-compacted:
			return err
		case <-s.stopped.Done():
			s.running.Wait()
		}
	}
	select {
	case err := <-compacted:
		return err
	default:
		return err
	}
}

func (s *Store) compactJournal() (err error) {
	defer guardFaults("compact", &err)()
	if err = s.local.Cut(s.cut.Load()); err == nil {
		err = s.local.compact(s.dir)
	}
	if errors.Is(err, errRenamed) {
		err = s.refuseChanges(err)
	}
	return err
}

func (s *Store) compactBlocks(ctx context.Context) error {
	if err := s.blocksMu.lockUntil(ctx); err != nil {
		return err
	}
	defer s.blocksMu.Unlock()
	// A copy reads all of it anyway, and follows whatever says that it is a bucket.
	if err := walkBolt(filepath.Join(s.dir, blocksFile)); err != nil {
		return err
	}
	old := s.blocksDB()
	db, err := compactFile(s.dir, blocksFile, old, blocksOptions())
	if db == nil {
		return err
	}
	s.setLayers(func(l *layers) { l.db = db })
	if err != nil {
		err = s.refuseChanges(err)
	}
	return errors.Join(err, old.Close()) // waits for the views on it; new ones are on the new file
}
