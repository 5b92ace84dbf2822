package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/RoaringBitmap/roaring/v2"
)

// A segment is a frozen delta on disk. docs/format.md describes each byte.
const (
	segmentMagic   = "fanfare segment\n"
	segmentVersion = 1
	maxSegmentItem = 64 << 20 // of one key or value; a bound for what is read back
)

// The tags of a segment's entries.
const (
	segmentEnd    = 0
	segmentPut    = 1 // bucket, key, value
	segmentDelete = 2 // bucket, key
	segmentBits   = 3 // key of bucketBlocks, gone, set, clear
)

func segmentName(position uint64) string { return fmt.Sprintf("segment-%016x", position) }

// change is one entry of a delta in key order: what it does to one key of blocks.db.
type change struct {
	bucket bucket
	key    []byte
	value  []byte // nil: delete; not looked at with bits
	bits   *bits
}

// changes yields the entries of a frozen delta in the order in which the file keeps its keys.
func (d *delta) changes(yield func(change) bool) {
	for b := range d.records {
		if bucket(b) == bucketIDs && !d.idChanges(yield) {
			return
		}
		for _, k := range d.keys(bucket(b)) {
			if !yield(change{bucket: bucket(b), key: []byte(k), value: d.records[b].values[k]}) {
				return
			}
		}
	}
	for _, n := range sortedKeys(d.blocks) {
		b := d.blocks[n]
		for _, low := range sortedKeys(b.devices) {
			if !yield(change{bucket: bucketBlocks, key: deviceKey(n, low), value: b.devices[low]}) {
				return
			}
		}
		for _, fact := range sortedKeys(b.facts) {
			if !yield(change{bucket: bucketBlocks, key: factKey(n, fact), bits: b.facts[fact]}) {
				return
			}
		}
		for _, kind := range messageKinds {
			sets := b.of(kind)
			for i, seq := range sets.seqs {
				if !yield(change{bucket: bucketBlocks, key: messageKey(n, kind, seq), bits: sets.list[i]}) {
					return
				}
			}
		}
		for _, low := range sortedKeys(b.users) {
			if !yield(change{bucket: bucketBlocks, key: userKey(n, low), value: b.users[low]}) {
				return
			}
		}
	}
}

// writeSegment writes a frozen delta beside the other files and syncs it with its
// directory. Until blocks.db names it, it is nothing.
func writeSegment(dir string, id storeID, d *delta) (name string, err error) {
	name = segmentName(d.position)
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(path))
		}
	}()
	sum := crc32.New(castagnoli)
	out := bufio.NewWriterSize(io.MultiWriter(&steadyFile{f: f}, sum), 1<<20)
	var w writer
	w.b = append(w.b, segmentMagic...)
	w.byte(segmentVersion)
	w.b = append(w.b, id[:]...)
	w.u64(d.position)
	flush := func() error {
		if len(w.b) > maxSegmentItem { // which nobody would read back; what commands may carry is far below
			return &LimitError{What: "bytes of a segment's entry", Limit: maxSegmentItem, Got: int64(len(w.b))}
		}
		_, err := out.Write(w.b)
		w.b = w.b[:0]
		return err
	}
	for c := range d.changes {
		switch {
		case c.bits != nil:
			w.byte(segmentBits)
			w.bytes(c.key)
			w.bool(c.bits.gone)
			set, clear := c.bits.serialized()
			w.bytes(set)
			w.bytes(clear)
		case c.value == nil:
			w.byte(segmentDelete)
			w.byte(byte(c.bucket))
			w.bytes(c.key)
		default:
			w.byte(segmentPut)
			w.byte(byte(c.bucket))
			w.bytes(c.key)
			w.bytes(c.value)
		}
		if err := flush(); err != nil {
			return "", err
		}
	}
	w.byte(segmentEnd)
	if err := errors.Join(flush(), out.Flush()); err != nil {
		return "", err
	}
	if _, err := f.Write(sum.Sum(nil)); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return name, syncDir(dir)
}

// steadyFile syncs what is written every few megabytes: the journal's syncs would wait for all of it at once.
type steadyFile struct {
	f        *os.File
	unsynced int
}

const steadyBytes = 4 << 20

func (s *steadyFile) Write(b []byte) (int, error) {
	n, err := s.f.Write(b)
	if s.unsynced += n; err == nil && s.unsynced >= steadyBytes {
		s.unsynced = 0
		err = s.f.Sync()
	}
	return n, err
}

// readSegment loads a segment as a frozen delta.
func readSegment(dir, name string, id storeID) (d *delta, err error) {
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrMissingFile, name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, err = decodeSegment(f, id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// segmentReader reads a segment and sums it up as it goes.
type segmentReader struct {
	in  *bufio.Reader
	sum hash.Hash32
	one [1]byte
}

func (r *segmentReader) ReadByte() (byte, error) {
	b, err := r.in.ReadByte()
	if err == nil {
		r.one[0] = b
		r.sum.Write(r.one[:])
	}
	return b, err
}

func (r *segmentReader) take(n int) ([]byte, error) {
	// Grown as it is read, so that a length that lies costs no more than what is there.
	var b bytes.Buffer
	if got, err := io.CopyN(&b, r.in, int64(n)); err != nil || got != int64(n) {
		return nil, &FormatError{What: "segment", Detail: "ends early"}
	}
	r.sum.Write(b.Bytes())
	return b.Bytes(), nil
}

func (r *segmentReader) bytes() ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n > maxSegmentItem {
		return nil, &FormatError{What: "segment", Detail: "length"}
	}
	return r.take(int(n))
}

func decodeSegment(in io.Reader, id storeID) (*delta, error) {
	bad := func(detail string) error { return &FormatError{What: "segment", Detail: detail} }
	r := &segmentReader{in: bufio.NewReaderSize(in, 1<<20), sum: crc32.New(castagnoli)}
	head, err := r.take(len(segmentMagic) + 1 + len(id) + 8)
	if err != nil {
		return nil, err
	}
	h := reader{b: head[len(segmentMagic):]}
	if string(head[:len(segmentMagic)]) != segmentMagic {
		return nil, fmt.Errorf("%w: not a segment", ErrForeignFile)
	}
	if h.byte() > segmentVersion {
		return nil, ErrNewerFormat
	}
	if !bytes.Equal(h.b[:len(id)], id[:]) {
		return nil, fmt.Errorf("%w: segment of another store", ErrForeignFile)
	}
	h.b = h.b[len(id):]
	d := newDelta()
	d.position = h.u64()
	for {
		tag, err := r.ReadByte()
		if err != nil {
			return nil, bad("ends early")
		}
		if tag == segmentEnd {
			break
		}
		if err := d.load(r, tag); err != nil {
			return nil, err
		}
	}
	want := r.sum.Sum32()
	var tail [5]byte
	if n, err := io.ReadFull(r.in, tail[:]); n != 4 || !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, bad("end")
	}
	if be32(tail[:]) != want {
		return nil, bad("checksum")
	}
	return d, nil
}

// load reads one entry. The checksum is known only at the end, so nothing is trusted here.
func (d *delta) load(r *segmentReader, tag byte) error {
	bad := func(detail string) error { return &FormatError{What: "segment", Detail: detail} }
	b := bucketBlocks
	if tag != segmentBits {
		n, err := r.ReadByte()
		if err != nil || n > byte(bucketBlocks) {
			return bad("bucket")
		}
		b = bucket(n)
	}
	key, err := r.bytes()
	if err != nil {
		return err
	}
	if len(key) == 0 || b == bucketBlocks && len(key) < 3 {
		return bad("key")
	}
	switch tag {
	case segmentDelete:
		return d.loadRecord(b, key, nil)
	case segmentPut:
		value, err := r.bytes()
		if err != nil {
			return err
		}
		if value == nil {
			value = []byte{}
		}
		return d.loadRecord(b, key, value)
	case segmentBits:
		gone, err := r.ReadByte()
		if err != nil {
			return bad("bits")
		}
		e := &bits{gone: gone != 0}
		for _, bm := range []**roaring.Bitmap{&e.set, &e.clear} {
			p, err := r.bytes()
			if err != nil {
				return err
			}
			if len(p) == 0 {
				continue
			}
			*bm = roaring.New()
			if err := readBitmap(*bm, p); err != nil {
				return bad("bitmap")
			}
		}
		block, rest := uint16(key[0])<<8|uint16(key[1]), key[3:]
		to := d.ensureBlock(block)
		switch {
		case key[2] == kindFact && len(rest) == 4:
			to.facts[be32(rest)] = e
		case isMessageKind(key[2]) && len(rest) == 8:
			sets := to.of(key[2])
			if sets.of(be64(rest)) != nil {
				return bad("a key twice")
			}
			sets.add(be64(rest), e)
		default:
			return bad("key of bits")
		}
		d.entries++
		d.bytes += bitsCost
		d.chargeBits(e)
		return nil
	}
	return bad("tag")
}

func (d *delta) loadRecord(b bucket, key, value []byte) error {
	switch b {
	case bucketIDs:
		if len(key) != len(idEntry{}) || len(value) > 0 {
			return &FormatError{What: "segment", Detail: "entry of a user ID"}
		}
		e := idEntry(key)
		d.putID(e.hash(), e.ordinal(), value == nil)
		return nil
	case bucketBlocks:
	default:
		d.put(b, string(key), value)
		return nil
	}
	if len(key) != 5 {
		return &FormatError{What: "segment", Detail: "key of a block"}
	}
	block, low := uint16(key[0])<<8|uint16(key[1]), uint16(key[3])<<8|uint16(key[4])
	switch key[2] {
	case kindUser:
		d.putUser(block, low, value)
	case kindDevice:
		d.putDevices(block, low, value)
	default:
		return &FormatError{What: "segment", Detail: "kind of a block's key"}
	}
	return nil
}
