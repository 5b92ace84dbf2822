package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// storeID ties the files of a directory together.
type storeID [16]byte

// Address space that the files are mapped into, so that bbolt never has to map
// anew while readers are about: a remap waits for all of them, and new ones
// wait behind it. It is neither memory nor disk.
const (
	blocksMap  = 64 << 30
	journalMap = 8 << 30
	// lockTimeout is for a process that was just killed: it has its locks until the system has taken its memory
	// apart, which may be a moment after it is gone. Bbolt tries every 50 ms.
	lockTimeout = 300 * time.Millisecond
)

// mmapSize leaves the growth of the map to bbolt where a map is disk (Windows) or address space is small.
func mmapSize(size int64) int {
	if runtime.GOOS == "windows" || strconv.IntSize < 64 {
		return 0
	}
	return int(size)
}

// fileKind is what a file of the store must be.
type fileKind struct {
	name    string
	version uint32
	buckets [][]byte
	walk    func(path string) error
}

// openFile opens a bbolt file that must be there. It looks at the file first, under a shared
// lock and reading only, because bbolt maps what it is given and trusts it: a short file would fault,
// and a foreign one be written to.
func openFile(dir string, k *fileKind, readOnly bool, o *bbolt.Options) (db *bbolt.DB, id storeID, err error) {
	path := filepath.Join(dir, k.name)
	if err := inspectBolt(path); err != nil {
		return nil, id, err
	}
	if db, err = lockFile(path, &bbolt.Options{ReadOnly: true, Timeout: lockTimeout, NoStatistics: true}); err != nil {
		return nil, id, err
	}
	id, err = k.identify(db)
	if err == nil && readOnly {
		return db, id, nil
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, id, err
	}
	db, err = lockFile(path, o)
	return db, id, err
}

func lockFile(path string, o *bbolt.Options) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, o)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrLocked, filepath.Base(path))
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, filepath.Base(path), err)
	case err != nil:
		return nil, fmt.Errorf("fanfare: open %s: %w", filepath.Base(path), err)
	}
	return db, nil
}

// identify checks that a file is sound and of the kind, and returns the store that it belongs to.
func (k *fileKind) identify(db *bbolt.DB) (id storeID, err error) {
	defer guardFaults(k.name, &err)()
	if err := k.walk(db.Path()); err != nil {
		return id, err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return fmt.Errorf("%w: %s has no meta bucket", ErrForeignFile, k.name)
		}
		format, store := meta.Get(metaFormat), meta.Get(metaStore)
		if len(format) != 4 || len(store) != len(id) {
			return fmt.Errorf("%w: %s has no format or store ID", ErrForeignFile, k.name)
		}
		if v := be32(format); v > k.version {
			return fmt.Errorf("%w: %s has format %d, this version knows %d", ErrNewerFormat, k.name, v, k.version)
		}
		for _, name := range k.buckets {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("%w: %s has no bucket %q", ErrForeignFile, k.name, name)
			}
		}
		copy(id[:], store)
		return nil
	})
	return id, err
}

// inspectBolt checks, reading only, that a file is a complete bbolt file: one
// of its two meta pages must be valid, and the file as long as that page says.
func inspectBolt(path string) error {
	_, err := readMeta(path)
	return err
}

// boltMeta is what the meta page that counts says: the newer one of those that are valid.
type boltMeta struct {
	pageSize   int64
	root, free uint64 // pages: of the root bucket, and of the list of free pages
	pages      uint64 // the high-water mark
	txid       uint64
}

// readMeta is inspectBolt, and returns the meta page. It chooses as bbolt does. The layout is
// bbolt's internal/common/meta.go.
func readMeta(path string) (m boltMeta, err error) {
	name := filepath.Base(path)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return m, fmt.Errorf("%w: %s", ErrMissingFile, name)
	}
	if err != nil {
		return m, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return m, err
	}
	if !info.Mode().IsRegular() {
		return m, fmt.Errorf("%w: %s is not a regular file", ErrForeignFile, name)
	}
	const (
		header   = 16 // of a page, before the meta
		metaSize = 64
		magic    = 0xED0CDAED
	)
	foreign, strange := info.Size() >= header+metaSize, false
	look := func(at int64) (valid bool) {
		b := make([]byte, metaSize)
		if _, err := f.ReadAt(b, at+header); err != nil && !errors.Is(err, io.EOF) {
			return false
		}
		le := binary.NativeEndian
		if le.Uint32(b) != magic {
			return false
		}
		foreign = false
		sum := fnv.New64a()
		sum.Write(b[:metaSize-8])
		if le.Uint64(b[56:]) != sum.Sum64() || le.Uint32(b[4:]) != 2 {
			return false
		}
		x := boltMeta{int64(le.Uint32(b[8:])), le.Uint64(b[16:]), le.Uint64(b[32:]), le.Uint64(b[40:]), le.Uint64(b[48:])}
		if x.pageSize < 1<<10 || x.pageSize > 64<<10 || x.pageSize&(x.pageSize-1) != 0 || x.pages > 1<<40 || at > 0 && at != x.pageSize {
			strange = true
			return false
		}
		if m.pageSize == 0 || x.txid > m.txid {
			m = x
		}
		return true
	}
	if look(0) {
		look(m.pageSize)
	} else {
		for size := int64(1024); size <= 64<<10; size *= 2 { // the first page is lost: the second is at its size
			if look(size) {
				break
			}
		}
	}
	switch {
	case foreign:
		return m, fmt.Errorf("%w: %s is not a database", ErrForeignFile, name)
	case strange: // bbolt would believe it
		return m, &FormatError{What: name, Detail: "a meta page that makes no sense"}
	case m.pageSize == 0:
		return m, &FormatError{What: name, Detail: "neither meta page is valid"}
	case info.Size() < int64(m.pages)*m.pageSize:
		return m, &FormatError{What: name, Detail: fmt.Sprintf("truncated: %d bytes of %d", info.Size(), int64(m.pages)*m.pageSize)}
	}
	return m, nil
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// guardFaults turns a fault on a mapped file, and bbolt's panics on pages that make no
// sense, into an error that names what was being done. Use it with defer, and its result too:
//
//	defer guardFaults("open", &err)()
func guardFaults(doing string, err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if x := recover(); x != nil {
			if f, ok := x.(*FormatError); ok {
				*err = f
				return
			}
			*err = &FormatError{What: "the store, met at " + doing, Detail: fmt.Sprint(x)}
		}
	}
}
