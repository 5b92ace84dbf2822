package store

import (
	"context"
	"iter"
)

// Log is the order of records that several stores share, in place of a journal of their own: each adds the records of its groups, and
// each applies all of them. Positions are those of the log and go up by one. Its methods are safe for concurrent use.
type Log interface {
	// ID tells the log from any other. A directory that stands at a position of one log is of no use to another.
	ID() [16]byte
	// Version is the newest version of apply that all stores of the log know, see [Versions]. A command of a newer one is refused with [ErrUpgrading].
	Version() int
	// Append adds a record and returns its position, where it then is for good: this store may apply it before Records yields it. A record with an ID that the log has had lately is not added again, and its position
	// is returned. It tries until ctx ends. An error that matches [ErrOutcomeUnknown] means that the record may be there or come yet; after any other, which matches [ErrUnavailable], it is not and does not.
	Append(ctx context.Context, id string, record []byte) (position uint64, err error)
	// Last returns the position of the last record that the log has, 0 for none.
	Last(ctx context.Context) (position uint64, err error)
	// Record returns the record at a position, nil where the log does not have it any more.
	Record(ctx context.Context, position uint64) ([]byte, error)
	// Records yields the records after a position, in order and without a gap, waiting for those that are still to come, until ctx ends or the consumer
	// breaks off, which ends it without an error. Whatever keeps it from the next record for a while, it waits for; it ends with an error only where there is no going on, with [ErrBehind] where the next record
	// is not there any more.
	Records(ctx context.Context, after uint64) iter.Seq2[JournalRecord, error]
	// Folded tells that this store needs no record up to a position, which may be the same as before: its files have what they made, and Records has yielded them. It must not block.
	Folded(position uint64)
	// Summed tells the digest of what records have made of the state, up to a position at which all stores tell it. It must not block.
	Summed(position uint64, digest uint64)
}
