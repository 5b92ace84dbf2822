package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// File is a file of the directory.
type File struct {
	Name   string
	Format int // the version of its format
	Bytes  int64
	Free   int64 // of these, what nothing is kept in: it is written to before the file grows, or given back by [Store.Compact]
}

// Files returns the files of the directory with the space that is free within them: blocks.db, the segment if there is one, journal.db. The journal
// is read for it, of blocks.db the list of free pages.
func (s *Store) Files(ctx context.Context) (files []File, err error) {
	defer guardFaults("files", &err)()
	if err := s.copying.lockUntil(ctx); err != nil { // a compaction puts other files in their places
		return nil, err
	}
	defer s.copying.Unlock()
	blocks, segment, err := s.blocksSpace(ctx)
	if err != nil {
		return nil, err
	}
	files = append(files, blocks)
	if segment != "" {
		size, err := fileSize(s.dir, segment)
		if err == nil {
			files = append(files, File{Name: segment, Format: segmentVersion, Bytes: size})
		} else if !errors.Is(err, fs.ErrNotExist) { // else it was folded meanwhile
			return nil, err
		}
	}
	journal, err := s.journalSpace()
	return append(files, journal), err
}

// blocksSpace is blocks.db, and the name of the segment that it names. The list of free pages stands in the file.
func (s *Store) blocksSpace(ctx context.Context) (f File, segment string, err error) {
	if err := s.blocksMu.lockUntil(ctx); err != nil {
		return f, "", err
	}
	defer s.blocksMu.Unlock()
	err = viewFile(s.blocksDB(), func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		f.Name, f.Format = blocksFile, int(be32(meta.Get(metaFormat)))
		segment = string(meta.Get(metaSegment))
		return nil
	})
	if err != nil {
		return f, "", err
	}
	if f.Bytes, err = fileSize(s.dir, f.Name); err != nil {
		return f, "", err
	}
	free, m, err := freePages(filepath.Join(s.dir, f.Name))
	if err == nil {
		f.Free = f.Bytes - int64(m.pages-free)*m.pageSize
	}
	return f, segment, err
}

// journalSpace is journal.db, which has no list of its free pages: what is in use is counted.
func (s *Store) journalSpace() (f File, err error) {
	err = viewFile(s.local.db.Load(), func(tx *bbolt.Tx) error {
		f.Name, f.Format = journalFile, int(be32(tx.Bucket(bucketMeta).Get(metaFormat)))
		if f.Bytes, err = fileSize(s.dir, f.Name); err != nil {
			return err
		}
		pages := 3 // two meta pages, and the root, which the small bucket is in
		for _, name := range [][]byte{bucketMeta, bucketRecords} {
			u := tx.Bucket(name).Stats()
			pages += u.BranchPageN + u.BranchOverflowN + u.LeafPageN + u.LeafOverflowN
		}
		f.Free = max(0, f.Bytes-int64(pages)*int64(tx.DB().Info().PageSize))
		return nil
	})
	return f, err
}

// freePages returns how many pages of a bbolt file are free, which nobody may be writing to.
func freePages(path string) (n uint64, m boltMeta, err error) {
	if m, err = readMeta(path); err != nil || m.free == noFreelist {
		return 0, m, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, m, err
	}
	defer f.Close()
	n, err = newWalker(f, &m).freelist(m.free)
	return n, m, err
}
