package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// bbolt trusts its pages. One that makes no sense is a panic, perhaps in a goroutine of
// bbolt's own; a page that leads back to itself overflows the stack, which no recover catches. So
// the pages are looked at before bbolt follows them, by reading the file and not by
// mapping it. The layout is that of bbolt's internal/common/page.go.

// walkBolt follows every page of a bbolt file from the newest valid meta page and
// checks that the pages make a tree: each in the file, used once, of a known kind,
// its elements within it and in order. Every other page must be free.
func walkBolt(path string) error { return walk(path, true) }

// walkBranches is walkBolt for a file that may be large: of the buckets it reads the branch pages
// only, about one page in a hundred, and it checks the list of free pages. What it leaves unread,
// the leaves, can make a read fail, but not the process: all of them stand at one
// depth, and a mistake in one is met where it is turned into an error. A leaf that says it is a branch
// leads to pages far beyond the file, because an element's value size stands where a branch has the upper half of a
// page number. Only where values are empty it would lead to a page, perhaps itself: so the leaves of that
// bucket are read. So is everything when there is no list of free pages, because then bbolt walks it all itself.
func walkBranches(path string) error { return walk(path, false) }

func walk(path string, leaves bool) error {
	m, err := readMeta(path)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := newWalker(f, &m)
	w.leaves = leaves || m.free == noFreelist
	if err := w.bucket(m.root, true); err != nil {
		return err
	}
	if m.free == noFreelist {
		return nil
	}
	if _, err := w.freelist(m.free); err != nil {
		return err
	}
	for id := uint64(2); leaves && id < w.pages; id++ {
		if !w.has(id) {
			return w.bad(id, "neither used nor free")
		}
	}
	return nil
}

func newWalker(f *os.File, m *boltMeta) *walker {
	return &walker{f: f, name: filepath.Base(f.Name()), pageSize: m.pageSize, pages: m.pages, seen: make([]uint64, m.pages/64+1)}
}

type walker struct {
	f        *os.File
	name     string
	leaves   bool // read them too
	pageSize int64
	pages    uint64 // the high-water mark
	seen     []uint64
}

const (
	pageHeader   = 16
	elementSize  = 16
	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	subBucket    = 0x01
	noFreelist   = 1<<64 - 1
	maxTree      = 32 // levels; a tree of a real file has a handful
)

func (w *walker) bad(id uint64, detail string) error {
	return &FormatError{What: w.name, Detail: fmt.Sprintf("page %d: %s", id, detail)}
}

func (w *walker) has(id uint64) bool { return w.seen[id/64]&(1<<(id%64)) != 0 }

// use marks a page and those it overflows into.
func (w *walker) use(id, overflow uint64) error {
	if id < 2 || id >= w.pages || overflow >= w.pages-id {
		return w.bad(id, "not in the file")
	}
	for end := id + overflow; id <= end; id++ {
		if w.has(id) {
			return w.bad(id, "used twice")
		}
		w.seen[id/64] |= 1 << (id % 64)
	}
	return nil
}

// page is one page with those it overflows into.
type page struct {
	id    uint64
	body  []byte
	flags uint16
	count int
}

func (w *walker) read(id uint64) (p page, err error) {
	if id < 2 || id >= w.pages {
		return p, w.bad(id, "not in the file")
	}
	p.id, p.body = id, make([]byte, w.pageSize)
	if _, err := w.f.ReadAt(p.body, int64(id)*w.pageSize); err != nil && !errors.Is(err, io.EOF) {
		return p, err
	}
	le := binary.NativeEndian
	p.flags, p.count = le.Uint16(p.body[8:]), int(le.Uint16(p.body[10:]))
	overflow := uint64(le.Uint32(p.body[12:]))
	if le.Uint64(p.body) != id {
		return p, w.bad(id, "header")
	}
	if err := w.use(id, overflow); err != nil {
		return p, err
	}
	if overflow > 0 {
		p.body = make([]byte, (overflow+1)*uint64(w.pageSize))
		if _, err := w.f.ReadAt(p.body, int64(id)*w.pageSize); err != nil && !errors.Is(err, io.EOF) {
			return p, err
		}
	}
	return p, nil
}

// span is the range that the keys of a page must be in: from <= key < to; "" is no bound.
type span struct{ from, to string }

// bucket walks a bucket from its root page.
func (w *walker) bucket(root uint64, leaves bool) error {
	return w.page(root, 0, -1, leaves, span{})
}

// page walks a page and what is below. Level is its height above the leaves, which the
// first path down finds out: -1 before that.
func (w *walker) page(id uint64, depth, level int, leaves bool, in span) error {
	if depth > maxTree {
		return w.bad(id, "too deep")
	}
	if level == 0 && !leaves {
		return w.use(id, 0) // it may be more than one page; the length is within
	}
	p, err := w.read(id)
	if err != nil {
		return err
	}
	switch {
	case p.flags == leafPage && level <= 0:
		return w.leaf(&p, leaves, in)
	case p.flags == branchPage && level != 0 && p.count > 0:
	default:
		return w.bad(id, "kind")
	}
	keys, children, err := w.branch(&p, in)
	if err != nil {
		return err
	}
	if level < 0 {
		if level, err = w.height(id); err != nil {
			return err
		}
	}
	for i, child := range children {
		sub := span{keys[i], in.to}
		if i+1 < len(keys) {
			sub.to = keys[i+1]
		}
		if err := w.page(child, depth+1, level-1, leaves, sub); err != nil {
			return err
		}
	}
	return nil
}

// height returns how far a page is above the leaves.
func (w *walker) height(id uint64) (int, error) {
	le := binary.NativeEndian
	head := make([]byte, pageHeader+elementSize)
	for level := range maxTree {
		if id < 2 || id >= w.pages {
			break
		}
		if _, err := w.f.ReadAt(head, int64(id)*w.pageSize); err != nil {
			return 0, err
		}
		if le.Uint16(head[8:]) != branchPage {
			return level, nil
		}
		id = le.Uint64(head[pageHeader+8:])
	}
	return 0, w.bad(id, "not a page of the tree")
}

// key returns the key of an element and checks it and the value against the page's end and the span.
func (w *walker) key(p *page, i int, pos, ksize, vsize uint64, last string, in span) (string, error) {
	start := uint64(pageHeader+i*elementSize) + pos
	if start+ksize+vsize > uint64(len(p.body)) {
		return "", w.bad(p.id, "element beyond the page")
	}
	key := string(p.body[start : start+ksize])
	if i > 0 && key <= last || key < in.from || in.to != "" && key >= in.to {
		return "", w.bad(p.id, "keys out of order")
	}
	return key, nil
}

func (w *walker) branch(p *page, in span) (keys []string, children []uint64, err error) {
	if pageHeader+p.count*elementSize > len(p.body) {
		return nil, nil, w.bad(p.id, "count")
	}
	le := binary.NativeEndian
	last := ""
	for i := range p.count {
		e := p.body[pageHeader+i*elementSize:]
		last, err = w.key(p, i, uint64(le.Uint32(e)), uint64(le.Uint32(e[4:])), 0, last, in)
		if err != nil {
			return nil, nil, err
		}
		keys, children = append(keys, last), append(children, le.Uint64(e[8:]))
	}
	return keys, children, nil
}

func (w *walker) leaf(p *page, leaves bool, in span) error {
	if pageHeader+p.count*elementSize > len(p.body) {
		return w.bad(p.id, "count")
	}
	if !leaves {
		return nil
	}
	le := binary.NativeEndian
	last := ""
	for i := range p.count {
		e := p.body[pageHeader+i*elementSize:]
		pos, ksize, vsize := uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
		key, err := w.key(p, i, pos, ksize, vsize, last, in)
		if err != nil {
			return err
		}
		last = key
		if le.Uint32(e)&subBucket == 0 {
			continue
		}
		if vsize < 16 {
			return w.bad(p.id, "bucket")
		}
		value := e[pos+ksize : pos+ksize+vsize]
		if root := le.Uint64(value); root != 0 {
			err = w.bucket(root, w.leaves || key == string(bucketName[bucketDue]))
		} else {
			err = w.inline(p.id, value[16:])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inline checks a bucket that stands within a leaf; it has none within itself.
func (w *walker) inline(id uint64, body []byte) error {
	le := binary.NativeEndian
	if len(body) < pageHeader || le.Uint16(body[8:]) != leafPage {
		return w.bad(id, "inline bucket")
	}
	p := &page{id: id, body: body, count: int(le.Uint16(body[10:]))}
	if err := w.leaf(p, false, span{}); err != nil {
		return err
	}
	last := ""
	for i := range p.count {
		e := body[pageHeader+i*elementSize:]
		if le.Uint32(e)&subBucket != 0 {
			return w.bad(id, "bucket in an inline bucket")
		}
		key, err := w.key(p, i, uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:])), last, span{})
		if err != nil {
			return err
		}
		last = key
	}
	return nil
}

// freelist checks the list of free pages: each in the file, listed once, and in no use. It returns how many there are.
func (w *walker) freelist(id uint64) (count uint64, err error) {
	p, err := w.read(id)
	if err != nil {
		return 0, err
	}
	if p.flags != freelistPage {
		return 0, w.bad(id, "kind")
	}
	le := binary.NativeEndian
	ids := p.body[pageHeader:]
	count = uint64(p.count)
	if p.count == 0xFFFF { // then the first element is the count
		count, ids = le.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return 0, w.bad(id, "count of free pages")
	}
	for i := range count {
		if err := w.use(le.Uint64(ids[8*i:]), 0); err != nil {
			return 0, fmt.Errorf("free page: %w", err)
		}
	}
	return count, nil
}
