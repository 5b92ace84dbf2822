package store

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"

	"go.etcd.io/bbolt"
)

// Journal is the durable order of records. The committer is its one user; the
// local one is a bbolt file, a cluster's is a replicated log.
type Journal interface {
	// Append makes the record durable at the position, which is one above the
	// last, and may drop some records up to and including cut.
	Append(position uint64, record []byte, cut uint64) error
	// Last returns the position of the last record and the record, or the
	// position up to which everything was dropped and nil.
	Last() (position uint64, record []byte, err error)
	// Records yields the records after a position, in order, and ends with the error
	// that keeps it from the rest, if there is one.
	Records(after uint64) iter.Seq2[JournalRecord, error]
	// Cut drops all records up to and including the position.
	Cut(through uint64) error
}

// JournalRecord is a record and where it stands.
type JournalRecord struct {
	Position uint64
	Record   []byte
}

const (
	journalFile    = "journal.db"
	journalVersion = 1
	partSuffix     = ".new" // and more behind it: a file that is being made
	// cutPerAppend bounds what a group pays for dropping old records; above one
	// record a group, so that the journal shrinks while it is written.
	cutPerAppend = 64
)

var (
	bucketMeta    = []byte("meta")
	bucketRecords = []byte("records")
	metaFormat    = []byte("format")
	metaStore     = []byte("store")
	metaBase      = []byte("base")
)

// boltJournal keeps the records in a bbolt file of their own, because bbolt
// has one writer and a fold in the same file would stall every group.
type boltJournal struct {
	db   atomic.Pointer[bbolt.DB]
	last uint64
}

func journalOptions() *bbolt.Options {
	return &bbolt.Options{
		Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
		InitialMmapSize: mmapSize(journalMap), NoStatistics: true,
	}
}

// createJournal makes an empty journal, whose first record is to come behind base, under a temporary name and renames it into place.
func createJournal(dir string, id storeID, base uint64) error {
	return createFile(dir, journalFile, journalOptions(), func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucket(bucketRecords); err != nil {
			return err
		}
		return errors.Join(
			meta.Put(metaFormat, key32(journalVersion)),
			meta.Put(metaStore, id[:]),
			meta.Put(metaBase, key64(base)))
	})
}

func openJournal(dir string, readOnly bool) (j *boltJournal, id storeID, err error) {
	kind := &fileKind{name: journalFile, version: journalVersion, buckets: [][]byte{bucketRecords}, walk: walkBolt}
	db, id, err := openFile(dir, kind, readOnly, journalOptions())
	if err != nil {
		return nil, id, err
	}
	ok := false
	defer func() {
		if !ok {
			db.Close()
		}
	}()
	j = new(boltJournal)
	j.db.Store(db)
	if err = j.check(); err == nil {
		j.last, _, err = j.Last()
	}
	ok = err == nil
	return j, id, err
}

// check looks at the sizes that the other methods take for granted.
func (j *boltJournal) check() error {
	return j.db.Load().View(func(tx *bbolt.Tx) error {
		if len(tx.Bucket(bucketMeta).Get(metaBase)) != 8 {
			return &FormatError{What: journalFile, Detail: "meta bucket"}
		}
		c := tx.Bucket(bucketRecords).Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if len(k) != 8 || v == nil {
				return &FormatError{What: journalFile, Detail: fmt.Sprintf("key %x", k)}
			}
		}
		return nil
	})
}

// base returns the position up to which records have been dropped.
func (j *boltJournal) base() (base uint64, err error) {
	err = j.db.Load().View(func(tx *bbolt.Tx) error {
		base = be64(tx.Bucket(bucketMeta).Get(metaBase))
		return nil
	})
	return base, err
}

func (j *boltJournal) Append(position uint64, rec []byte, cut uint64) error {
	err := j.db.Load().Update(func(tx *bbolt.Tx) error {
		records := tx.Bucket(bucketRecords)
		records.FillPercent = 1 // keys only ever grow
		if err := records.Put(key64(position), rec); err != nil {
			return err
		}
		return cutRecords(tx, cut, cutPerAppend)
	})
	if err == nil {
		j.last = position
	}
	return err
}

func cutRecords(tx *bbolt.Tx, through uint64, max int) error {
	records := tx.Bucket(bucketRecords)
	c := records.Cursor()
	var base []byte
	for k, _ := c.First(); k != nil && be64(k) <= through && max > 0; k, _ = c.First() {
		base = bytes.Clone(k)
		if err := c.Delete(); err != nil {
			return err
		}
		max--
	}
	if base == nil {
		return nil
	}
	return tx.Bucket(bucketMeta).Put(metaBase, base)
}

func (j *boltJournal) Cut(through uint64) error {
	for {
		more := false
		err := j.db.Load().Update(func(tx *bbolt.Tx) error {
			if err := cutRecords(tx, through, 4096); err != nil {
				return err
			}
			k, _ := tx.Bucket(bucketRecords).Cursor().First()
			more = k != nil && be64(k) <= through
			return nil
		})
		if err != nil || !more {
			return err
		}
	}
}

func (j *boltJournal) Last() (position uint64, rec []byte, err error) {
	err = j.db.Load().View(func(tx *bbolt.Tx) error {
		k, v := tx.Bucket(bucketRecords).Cursor().Last()
		if k == nil {
			position = be64(tx.Bucket(bucketMeta).Get(metaBase))
			return nil
		}
		position, rec = be64(k), bytes.Clone(v)
		return nil
	})
	return position, rec, err
}

// Records copies a few records at a time, so that no transaction is open while the caller works.
func (j *boltJournal) Records(after uint64) iter.Seq2[JournalRecord, error] {
	return func(yield func(JournalRecord, error) bool) {
		for {
			var some []JournalRecord
			size := 0
			err := j.db.Load().View(func(tx *bbolt.Tx) error {
				c := tx.Bucket(bucketRecords).Cursor()
				for k, v := c.Seek(key64(after + 1)); k != nil && size < 4*maxRecord; k, v = c.Next() {
					some = append(some, JournalRecord{be64(k), bytes.Clone(v)})
					size += len(v)
				}
				return nil
			})
			if err != nil {
				yield(JournalRecord{}, err)
				return
			}
			if len(some) == 0 {
				return
			}
			for _, r := range some {
				if !yield(r, nil) {
					return
				}
				after = r.Position
			}
		}
	}
}

// compact rewrites the file without its free pages. The committer calls it, so nothing is appended meanwhile.
func (j *boltJournal) compact(dir string) error {
	db, err := compactFile(dir, journalFile, j.db.Load(), journalOptions())
	if db == nil {
		return err
	}
	if e := j.db.Swap(db).Close(); err == nil {
		return e
	}
	return fmt.Errorf("%w: %w", errRenamed, err)
}

// errRenamed says that a compacted copy is in use, and that its name may not be durable.
var errRenamed = errors.New("fanfare: the new name may not last")

// noRoom reports whether an error of a bbolt commit came from a lack of room,
// before the meta page was touched: then the file is as it was. bbolt hides
// the cause of a failed resize, so its text is looked at too.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG) || errors.Is(err, syscall.EDQUOT) ||
		errors.Is(err, ErrNoRoom) || err != nil && strings.HasPrefix(err.Error(), "file resize error")
}

func roomError(file string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrNoRoom, file, err)
}

// createFile makes a bbolt file by fill, under another name until it is complete and durable. A file
// that another process made meanwhile stays, and is no error.
func createFile(dir, name string, o *bbolt.Options, fill func(*bbolt.Tx) error) error {
	path := filepath.Join(dir, name)
	f, err := os.CreateTemp(dir, name+partSuffix+"*")
	if err != nil {
		return err
	}
	part := f.Name()
	defer os.Remove(part)
	if err := f.Close(); err != nil {
		return err
	}
	o.InitialMmapSize = 0
	db, err := bbolt.Open(part, 0o600, o)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(fill), db.Close()); err != nil {
		return err
	}
	if err := os.Link(part, path); err != nil { // unlike a rename it replaces nothing
		if _, there := os.Stat(path); there == nil {
			return nil
		}
		if err := os.Rename(part, path); err != nil { // a file system without links
			return err
		}
	}
	return syncDir(dir)
}

func copyUsed(dst, db *bbolt.DB) (err error) {
	defer guardFaults("compact", &err)()
	return bbolt.Compact(dst, db, 4<<20)
}

// compactFile copies a file without its free pages, puts the copy in its place and
// returns it open. The copy is locked before it gets the name, so that no other process gets in between.
func compactFile(dir, name string, db *bbolt.DB, o *bbolt.Options) (*bbolt.DB, error) {
	path := filepath.Join(dir, name)
	part := path + partSuffix
	d, err := os.Open(dir) // before the rename: behind it there is no way back
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	dst, err := bbolt.Open(part, 0o600, o)
	if err != nil {
		return nil, err
	}
	err = copyUsed(dst, db)
	if err == nil {
		err = dst.Sync()
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return nil, errors.Join(err, dst.Close(), os.Remove(part))
	}
	if runtime.GOOS != "windows" {
		err = d.Sync()
	}
	return dst, err // with both, the copy has the name, and it is not known for how long
}
