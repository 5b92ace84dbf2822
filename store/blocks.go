package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
)

const (
	blocksFile    = "blocks.db"
	blocksVersion = 1
)

// Keys of the meta bucket of blocks.db, beside format and store.
var (
	metaPosition = []byte("position")  // of the last record that the file and its segment contain
	metaSegment  = []byte("segment")   // name of the segment, while there is one
	metaBits     = []byte("blockbits") // low bits of an ordinal
	metaProposer = []byte("proposer")  // who this store is to the journal
	metaRecord   = []byte("record")    // which record of the log is at position; absent: that is not known
	metaLog      = []byte("log")       // ID of the log that position is of; absent: of the local journal
)

type blocksMeta struct {
	id       storeID
	position uint64
	segment  string
	geo      geometry
	proposer uint64
	log      []byte  // ID of the log; nil: the local journal
	group    groupID // of the log's record at position, zero if that is not known
}

// belongs says whether the directory is one for the log, or, with none, for the local journal.
func (m *blocksMeta) belongs(log Log, readOnly bool) error {
	switch {
	case log == nil && m.log != nil && !readOnly:
		return fmt.Errorf("%w: %s is of a node of a cluster, which package cluster opens", ErrForeignFile, blocksFile)
	case log == nil:
		return nil
	case m.log == nil:
		return fmt.Errorf("%w: %s is of no cluster", ErrForeignFile, blocksFile)
	}
	if id := log.ID(); !bytes.Equal(m.log, id[:]) {
		return fmt.Errorf("%w: %s is of another cluster", ErrForeignFile, blocksFile)
	}
	return nil
}

func newProposer() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return be64(b[:])
}

// The freelist is synced, or opening would walk the whole file.
func blocksOptions() *bbolt.Options {
	return &bbolt.Options{
		Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType,
		InitialMmapSize: mmapSize(blocksMap), NoStatistics: true,
	}
}

func createBlocks(dir string, id storeID, g geometry, log Log) error {
	return createFile(dir, blocksFile, blocksOptions(), func(tx *bbolt.Tx) error {
		for _, name := range bucketName {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		meta, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		st := newState()
		return errors.Join(
			meta.Put(metaFormat, key32(blocksVersion)),
			meta.Put(metaStore, id[:]),
			meta.Put(metaPosition, key64(0)),
			meta.Put(metaBits, []byte{g.bits}),
			meta.Put(metaProposer, key64(newProposer())),
			putLog(meta, log),
			tx.Bucket(bucketName[bucketState]).Put(stateKey, st.encode()))
	})
}

func putLog(meta *bbolt.Bucket, log Log) error {
	if log == nil {
		return nil
	}
	id := log.ID()
	return meta.Put(metaLog, id[:])
}

func openBlocks(dir string, readOnly bool) (db *bbolt.DB, m blocksMeta, err error) {
	kind := &fileKind{name: blocksFile, version: blocksVersion, buckets: bucketName[:], walk: walkBranches}
	db, m.id, err = openFile(dir, kind, readOnly, blocksOptions())
	if err != nil {
		return nil, m, err
	}
	ok := false
	defer func() {
		if !ok {
			db.Close()
		}
	}()
	err = db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		position, bits, proposer := meta.Get(metaPosition), meta.Get(metaBits), meta.Get(metaProposer)
		if len(position) != 8 || len(bits) != 1 || bits[0] < 1 || bits[0] > 16 || len(proposer) != 8 {
			return &FormatError{What: blocksFile, Detail: "meta bucket"}
		}
		m.position, m.geo.bits, m.proposer = be64(position), bits[0], be64(proposer)
		if log := meta.Get(metaLog); log != nil && len(log) != 16 {
			return &FormatError{What: blocksFile, Detail: "log"}
		} else if log != nil {
			m.log = bytes.Clone(log)
		}
		if b := meta.Get(metaRecord); b != nil && (len(b) != 16 || m.log == nil) {
			return &FormatError{What: blocksFile, Detail: "record"}
		} else if b != nil {
			m.group = groupID{be64(b), be64(b[8:])}
		}
		m.segment = string(meta.Get(metaSegment))
		if m.segment != "" && m.segment != segmentName(m.position) {
			return &FormatError{What: blocksFile, Detail: "segment name"}
		}
		return nil
	})
	ok = err == nil
	return db, m, err
}

// foldStep bounds a transaction of the fold: keys, and bytes of values.
const (
	foldKeys  = 50_000
	foldBytes = 16 << 20
)

// fold lays a frozen delta over the file, in key order and in transactions of
// a bounded size. Doing it again, in whole or in part, changes nothing. Pause is called
// around each transaction, so that a backup can get between two.
func fold(db func() *bbolt.DB, d *delta, pause func(func() error) error) error {
	pending := make([]change, 0, 4096)
	size := 0
	flush := func() error {
		if len(pending) == 0 {
			return nil
		}
		err := pause(func() error {
			return db().Update(func(tx *bbolt.Tx) error { return foldChanges(tx, pending) })
		})
		pending, size = pending[:0], 0
		return err
	}
	before := change{bucket: buckets}
	for c := range d.changes {
		pending = append(pending, c)
		size += c.room(&before)
		before = c
		if len(pending) >= foldKeys || size >= foldBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func foldChanges(tx *bbolt.Tx, list []change) error {
	var b *bbolt.Bucket
	of := buckets
	for len(list) > 0 {
		c := &list[0]
		if c.bucket != of {
			of = c.bucket
			b = tx.Bucket(bucketName[of])
			b.FillPercent = 0.9
		}
		key, n := c.place(list)
		base := b.Get(key)
		value, err := foldInto(base, list[:n])
		switch {
		case err != nil:
			return err
		case value != nil:
			err = b.Put(key, value)
		case base != nil:
			err = b.Delete(key)
		}
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// place returns the key of blocks.db that a change is to, and how many changes at the start of the list, which
// begins with it, are to that key.
func (c *change) place(list []change) (key []byte, n int) {
	switch {
	case c.bucket == bucketIDs:
		key = c.key[:idPrefix]
	case c.isUser():
		key = groupKey(be16(c.key), be16(c.key[3:]))
	default:
		return c.key, 1
	}
	for n = 1; n < len(list) && c.sharesKey(&list[n]); n++ {
	}
	return key, n
}

// sharesKey says whether two changes are to the same key of blocks.db.
func (c *change) sharesKey(o *change) bool {
	switch {
	case c.bucket == bucketIDs:
		return o.bucket == bucketIDs && bytes.HasPrefix(o.key, c.key[:idPrefix])
	case c.isUser():
		return o.isUser() && bytes.Equal(o.key[:3], c.key[:3]) && be16(o.key[3:])/groupUsers == be16(c.key[3:])/groupUsers
	}
	return false
}

// room is about what a change makes a transaction hold, when the one before it was another's: the value that it is
// laid over, which is written anew.
func (c *change) room(before *change) int {
	n := len(c.key) + len(c.value)
	switch {
	case c.bits != nil:
		n += 8 << 10
	case c.sharesKey(before):
	case c.bucket == bucketIDs:
		n += 4 << 10
	case c.isUser():
		n += 1 << 10
	}
	return n
}

func (c *change) isUser() bool {
	return c.bucket == bucketBlocks && c.bits == nil && c.key[2] == kindUser
}

// foldInto returns the value of a key with the changes to it laid over, nil for none.
func foldInto(base []byte, list []change) ([]byte, error) {
	c := &list[0]
	switch {
	case c.bucket == bucketIDs:
		return foldIDs(base, list), nil
	case c.isUser():
		return foldUsers(base, list)
	case c.bits == nil:
		return c.value, nil
	}
	var bm *roaring.Bitmap
	if base != nil {
		bm = roaring.New()
		if _, err := bm.FromUnsafeBytes(portable(base)); err != nil {
			return nil, &FormatError{What: "container", Detail: err.Error()}
		}
	}
	set := c.bits.over(bm)
	raw := containerBytes(set, bm)
	if isMessageKind(c.key[2]) && raw != nil {
		if packed := pack(set, len(raw)*7/8); packed != nil {
			return packed, nil
		}
	}
	return raw, nil
}

// containerBytes returns the canonical form of a set, nil for the empty one. Base
// may alias the file, so it is not optimised in place.
func containerBytes(bm, base *roaring.Bitmap) []byte {
	if bm == nil || bm.IsEmpty() {
		return nil
	}
	if bm == base {
		bm = bm.Clone()
	}
	bm.RunOptimize()
	return bitmapBytes(bm)
}

// nameSegment makes a written segment part of the store: from here on the
// journal up to its position is not needed.
func nameSegment(db *bbolt.DB, name string, position uint64, group groupID) error {
	return db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if group != (groupID{}) {
			if err := meta.Put(metaRecord, append(key64(group.proposer), key64(group.first)...)); err != nil {
				return err
			}
		}
		return errors.Join(meta.Put(metaSegment, []byte(name)), meta.Put(metaPosition, key64(position)))
	})
}

// dropSegment ends a fold: the file contains the segment now.
func dropSegment(db *bbolt.DB) error {
	return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Delete(metaSegment) })
}

// removeStray removes segments that meta does not name and files that were never completed.
func removeStray(dir, segment string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		stray := isSegmentName(name) && name != segment ||
			strings.HasPrefix(name, blocksFile+partSuffix) || strings.HasPrefix(name, journalFile+partSuffix) || e.IsDir() && strings.HasPrefix(name, "backup-")
		if stray {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("fanfare: remove what was left behind: %w", err)
			}
		}
	}
	return nil
}
