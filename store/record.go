package store

import (
	"encoding/binary"
	"hash/crc32"
)

// castagnoli is CRC-32C, which records and segments carry because bbolt's pages have no checksum.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is a group of commands: what the journal keeps at one position.
type record struct {
	stamp    int64 // milliseconds since 1970, when the group was formed
	proposer uint64
	first    uint64 // number of the first command; the others follow
	commands [][]byte
}

// groupID tells a group, and so a record, of a log from any other.
type groupID struct{ proposer, first uint64 }

func (rec *record) id() groupID { return groupID{rec.proposer, rec.first} }

// encode lays a record out: apply version, stamp, proposer, first number,
// commands, and the CRC-32C of it all.
func (rec *record) encode() []byte {
	n := 32
	for _, c := range rec.commands {
		n += len(c) + binary.MaxVarintLen32
	}
	w := writer{b: make([]byte, 0, n)}
	version := byte(1)
	for _, c := range rec.commands {
		version = max(version, commandKind(c[0]).version())
	}
	w.byte(version)
	w.varint(rec.stamp)
	w.u64(rec.proposer)
	w.uvarint(rec.first)
	w.uvarint(uint64(len(rec.commands)))
	for _, c := range rec.commands {
		w.bytes(c)
	}
	return binary.BigEndian.AppendUint32(w.b, crc32.Checksum(w.b, castagnoli))
}

// decodeRecord checks a record and takes it apart; its commands alias b.
func decodeRecord(b []byte) (*record, error) {
	if len(b) < 5 {
		return nil, &FormatError{What: "journal record", Detail: "too short"}
	}
	body, sum := b[:len(b)-4], be32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, &FormatError{What: "journal record", Detail: "checksum"}
	}
	r := reader{b: body}
	if r.byte() > applyVersion {
		return nil, ErrNewerFormat
	}
	rec := &record{stamp: r.varint(), proposer: r.u64(), first: r.uvarint()}
	n := r.count(1)
	rec.commands = make([][]byte, n)
	for i := range rec.commands {
		rec.commands[i] = r.bytes()
	}
	return rec, r.done()
}
