package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
)

// walkBolt follows every page of a bbolt file from the newest valid meta page,
// without mapping it, and checks that the pages make a tree: each in the
// file, used once, of a known kind, its elements within it. It is for the
// journal, whose free pages bbolt finds at opening by such a walk in a goroutine of its
// own, where a page that makes no sense would end the process. The layout is bbolt's
// internal/common/page.go.
func walkBolt(path string) error {
	if err := inspectBolt(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	w := &walker{f: f, name: filepath.Base(path), size: info.Size(), seen: make(map[uint64]bool)}
	root, err := w.meta()
	if err != nil {
		return err
	}
	return w.page(root, 0)
}

type walker struct {
	f        *os.File
	name     string
	size     int64
	pageSize int64
	pages    uint64 // the high-water mark
	seen     map[uint64]bool
}

const (
	pageHeader  = 16
	elementSize = 16
	branchPage  = 0x01
	leafPage    = 0x02
	subBucket   = 0x01
	maxTree     = 32 // levels; a tree of a real file has a handful
)

func (w *walker) bad(id uint64, detail string) error {
	return &FormatError{What: w.name, Detail: fmt.Sprintf("page %d: %s", id, detail)}
}

// meta returns the root page of the newest valid meta page.
func (w *walker) meta() (root uint64, err error) {
	le := binary.NativeEndian
	var best uint64
	for _, at := range []int64{0, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		b := make([]byte, 64)
		if _, err := w.f.ReadAt(b, at+pageHeader); err != nil {
			continue
		}
		sum := fnv.New64a()
		sum.Write(b[:56])
		size := int64(le.Uint32(b[8:]))
		if le.Uint64(b[56:]) != sum.Sum64() || at != 0 && at != size || size < 1<<10 {
			continue
		}
		if txid := le.Uint64(b[48:]); w.pageSize == 0 || txid > best {
			best, root = txid, le.Uint64(b[16:])
			w.pageSize, w.pages = size, le.Uint64(b[40:])
		}
	}
	if w.pageSize == 0 {
		return 0, w.bad(0, "no valid meta page")
	}
	return root, nil
}

func (w *walker) page(id uint64, depth int) error {
	if id < 2 || id >= w.pages || depth > maxTree || w.seen[id] {
		return w.bad(id, "not a page of the tree")
	}
	w.seen[id] = true
	head := make([]byte, w.pageSize)
	if _, err := w.f.ReadAt(head, int64(id)*w.pageSize); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	le := binary.NativeEndian
	flags, count, overflow := le.Uint16(head[8:]), int(le.Uint16(head[10:])), uint64(le.Uint32(head[12:]))
	if le.Uint64(head) != id || overflow >= w.pages-id {
		return w.bad(id, "header")
	}
	for i := id + 1; i <= id+overflow; i++ {
		if w.seen[i] {
			return w.bad(i, "used twice")
		}
		w.seen[i] = true
	}
	body := head
	if overflow > 0 {
		body = make([]byte, (overflow+1)*uint64(w.pageSize))
		if _, err := w.f.ReadAt(body, int64(id)*w.pageSize); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	if flags != branchPage && flags != leafPage {
		return w.bad(id, "kind")
	}
	if pageHeader+count*elementSize > len(body) || flags == branchPage && count == 0 {
		return w.bad(id, "count")
	}
	return w.elements(id, body, flags, count, depth)
}

func (w *walker) elements(id uint64, body []byte, flags uint16, count, depth int) error {
	le := binary.NativeEndian
	last := ""
	for i := range count {
		at := pageHeader + i*elementSize
		e := body[at:]
		var pos, ksize, vsize uint64
		if flags == branchPage {
			pos, ksize = uint64(le.Uint32(e)), uint64(le.Uint32(e[4:]))
		} else {
			pos, ksize, vsize = uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
		}
		if uint64(at)+pos+ksize+vsize > uint64(len(body)) {
			return w.bad(id, "element beyond the page")
		}
		key := string(e[pos : pos+ksize])
		if i > 0 && key <= last {
			return w.bad(id, "keys out of order")
		}
		last = key
		switch {
		case flags == branchPage:
			if err := w.page(le.Uint64(e[8:]), depth+1); err != nil {
				return err
			}
		case le.Uint32(e)&subBucket != 0:
			if vsize < 16 {
				return w.bad(id, "bucket")
			}
			if root := le.Uint64(e[pos+ksize:]); root != 0 {
				if err := w.page(root, depth+1); err != nil {
					return err
				}
			} else if err := w.inline(id, e[pos+ksize+16:pos+ksize+vsize]); err != nil {
				return err
			}
		}
	}
	return nil
}

// inline checks a bucket that stands within a leaf.
func (w *walker) inline(id uint64, body []byte) error {
	le := binary.NativeEndian
	if len(body) < pageHeader || le.Uint16(body[8:]) != leafPage {
		return w.bad(id, "inline bucket")
	}
	count := int(le.Uint16(body[10:]))
	if pageHeader+count*elementSize > len(body) {
		return w.bad(id, "inline bucket count")
	}
	return w.elements(id, body, leafPage, count, maxTree)
}
