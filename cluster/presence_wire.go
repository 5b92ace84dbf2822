package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// What nodes tell each other of who is connected to them, on the subjects
//
//	fanfare.<cluster name>.presence.all       to all nodes
//	fanfare.<cluster name>.presence.<epoch>   to one process, its epoch in 16 hexadecimal digits
//
// A message begins with
//
//	version  1 byte, 1: a message of another version is ignored
//	kind     1 byte: one of an unknown kind is ignored
//	name     uvarint length (1 to 255) and bytes: the node's
//	node     8 bytes, big endian: its proposer
//	epoch    8 bytes, big endian: random, another for each process
//	uptime   uvarint: milliseconds since that process began
//
// and goes on by its kind:
//
//	hello    to all: number. A beat that wants one back from each, at its own subject
//	beat     to all or one: number, of the last changes that were told
//	changes  to all: number, sections. The first changes have number 1
//	goodbye  to all: nothing. Nobody is connected to this node any more
//	ask      to one: nothing. Wants all parts
//	part     to one: number, index, count, sections. Part index of count of who is connected, as of the changes with this number
//	settle   to all, or again to one: round, count, and as many ordinals, ascending: the first, then the differences
//	settled  to one: round, position
//
// where each is a uvarint, except sections: a uvarint count and as many of
//
//	block    uvarint: ordinal >> 16, ascending
//	joined   uvarint length and bytes: a set of the low halves of ordinals
//	left     likewise; empty in a part
//
// A set is empty for no bytes, or in the portable roaring format, one container with key 0 which is not one of runs: 8 KiB at most, and checked in linear time.
// What follows in a message is ignored, so that more can be said later: as which range of blocks it is about.
const wireVersion = 1

// wireKind is what a message is.
type wireKind byte

const (
	kindHello wireKind = iota + 1
	kindBeat
	kindChanges
	kindGoodbye
	kindAsk
	kindPart
	kindSettle
	kindSettled
)

const (
	partSize      = 256 << 10   // of the sections of a message; the last one may reach beyond it
	messageSize   = 1 << 20     // nothing that is longer is looked at
	maxName       = 255         // bytes
	maxParts      = 1 << 12     // what 65,536 blocks need at most is half of it
	maxOrdinals   = 1 << 15     // in a settle message
	maxSet        = 8<<10 + 64  // bytes: a container and what is around it
	maxUptime     = 1 << 40     // milliseconds
	wordsOfABlock = 65_536 / 64 // in which a set of users of one block fits
)

// words are a set of users of a block.
type words [wordsOfABlock]uint64

// wireHead is what each message begins with.
type wireHead struct {
	kind   wireKind
	name   string
	node   uint64
	epoch  uint64
	uptime uint64
}

func (h *wireHead) append(b []byte) []byte {
	b = append(b, wireVersion, byte(h.kind))
	b = binary.AppendUvarint(b, uint64(len(h.name)))
	b = append(b, h.name...)
	b = binary.BigEndian.AppendUint64(b, h.node)
	b = binary.BigEndian.AppendUint64(b, h.epoch)
	return binary.AppendUvarint(b, h.uptime)
}

var (
	errVersion   = errors.New("unknown version")
	errMalformed = errors.New("malformed message")
)

// wireReader takes a message apart. After something that is not right it returns zeros.
type wireReader struct {
	rest []byte
	bad  bool
}

func (r *wireReader) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *wireReader) fixed() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// uvarint reads a number which is at most as given.
func (r *wireReader) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if r.bad || n <= 0 || v > most {
		r.bad = true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// readHead reads the beginning of a message; r has the rest.
func readHead(data []byte) (h wireHead, r *wireReader, err error) {
	if len(data) == 0 || len(data) > messageSize {
		return h, nil, fmt.Errorf("%w of %d bytes", errMalformed, len(data))
	}
	if data[0] != wireVersion {
		return h, nil, fmt.Errorf("%w %d", errVersion, data[0])
	}
	r = &wireReader{rest: data[1:]}
	if b := r.bytes(1); b != nil {
		h.kind = wireKind(b[0])
	}
	h.name = string(r.bytes(r.uvarint(maxName)))
	h.node, h.epoch, h.uptime = r.fixed(), r.fixed(), r.uvarint(maxUptime)
	if r.bad || h.name == "" {
		return h, nil, errMalformed
	}
	return h, r, nil
}

// section is what a message says of one block. Nil is nobody.
type section struct {
	block        uint16
	joined, left *roaring.Bitmap
}

func (r *wireReader) sections() ([]section, error) {
	n := r.uvarint(1 << 16)
	if n > uint64(len(r.rest)/3) { // each has three bytes at least
		return nil, errMalformed
	}
	list := make([]section, 0, n)
	for range n {
		block := uint16(r.uvarint(math.MaxUint16))
		joined, err := readSet(r.bytes(r.uvarint(maxSet)))
		if err != nil {
			return nil, err
		}
		left, err := readSet(r.bytes(r.uvarint(maxSet)))
		if err != nil {
			return nil, err
		}
		if joined != nil && left != nil && joined.Intersects(left) {
			return nil, fmt.Errorf("%w: users who have both joined and left", errMalformed)
		}
		if r.bad || len(list) > 0 && block <= list[len(list)-1].block {
			return nil, errMalformed
		}
		list = append(list, section{block, joined, left})
	}
	if r.bad {
		return nil, errMalformed
	}
	return list, nil
}

// readSet reads a set from a copy of b.
func readSet(b []byte) (set *roaring.Bitmap, err error) {
	if len(b) == 0 {
		return nil, nil
	}
	// Cookie, number of containers, key. A container of runs is not taken: checking it takes the square of their number.
	const noRuns = 12346
	if len(b) < 10 || binary.LittleEndian.Uint32(b) != noRuns || binary.LittleEndian.Uint32(b[4:]) != 1 || binary.LittleEndian.Uint16(b[8:]) != 0 {
		return nil, fmt.Errorf("%w: a set of another form", errMalformed)
	}
	defer func() { // the format's reader trusts some of what it reads
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: a set: %v", errMalformed, v)
		}
	}()
	set = roaring.New()
	n, err := set.ReadFrom(bytes.NewReader(b))
	if err == nil && n != int64(len(b)) {
		err = errors.New("bytes left over")
	}
	if err == nil {
		err = set.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: a set: %w", errMalformed, err)
	}
	return set, nil
}

func (r *wireReader) ordinals() ([]uint32, error) {
	n := r.uvarint(maxOrdinals)
	if n > uint64(len(r.rest)) {
		return nil, errMalformed
	}
	list := make([]uint32, n)
	var last uint64
	for i := range list {
		last += r.uvarint(math.MaxUint32 - last)
		list[i] = uint32(last)
	}
	if r.bad {
		return nil, errMalformed
	}
	return list, nil
}

// appendOrdinals sorts a list and appends it.
func appendOrdinals(b []byte, list []uint32) []byte {
	slices.Sort(list)
	b = binary.AppendUvarint(b, uint64(len(list)))
	last := uint32(0)
	for _, o := range list {
		b = binary.AppendUvarint(b, uint64(o-last))
		last = o
	}
	return b
}

// sheets collects sections and splits them into messages.
type sheets struct {
	done [][]byte // a count and its sections each
	body []byte
	n    uint64
}

func (s *sheets) add(block uint16, joined, left *words) {
	s.body = binary.AppendUvarint(s.body, uint64(block))
	s.body = appendSet(s.body, joined)
	s.body = appendSet(s.body, left)
	if s.n++; len(s.body) >= partSize {
		s.end()
	}
}

func (s *sheets) end() {
	if s.n == 0 {
		return
	}
	s.done = append(s.done, append(binary.AppendUvarint(nil, s.n), s.body...))
	s.body, s.n = s.body[:0], 0
}

// appendSet appends a set; nil and one without users are no bytes.
func appendSet(b []byte, w *words) []byte {
	if w == nil {
		return append(b, 0)
	}
	set := roaring.New()
	set.FromDense(w[:], false)
	if set.IsEmpty() {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, set.GetSerializedSizeInBytes())
	raw, err := set.ToBytes()
	if err != nil { // it writes to memory
		panic(err)
	}
	return append(b, raw...)
}
