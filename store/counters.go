package store

import (
	"errors"
	"sync/atomic"
	"time"
)

// Counters count what a store has done since it was opened.
type Counters struct {
	Commits     int64         // records written to the journal, one synced write each
	CommitTime  time.Duration // that these took
	CommitBytes int64         // of the records
	Commands    int64         // in them
	NoRoom      int64         // commands and acknowledgements refused for want of room
	Unknown     int64         // of which nobody knows whether they are there
	Folds       int64
	FoldTime    time.Duration // with segments, and with tries that failed
	FoldEntries int64
	FoldBytes   int64 // in memory, about
	FoldErrors  int64 // tries that failed
}

// counters are the same while they change.
type counters struct {
	commits, commitTime, commitBytes, commands, noRoom, unknown atomic.Int64
	folds, foldTime, foldEntries, foldBytes, foldErrors         atomic.Int64
}

func (c *counters) read() Counters {
	return Counters{
		Commits: c.commits.Load(), CommitTime: time.Duration(c.commitTime.Load()), CommitBytes: c.commitBytes.Load(),
		Commands: c.commands.Load(), NoRoom: c.noRoom.Load(), Unknown: c.unknown.Load(),
		Folds: c.folds.Load(), FoldTime: time.Duration(c.foldTime.Load()), FoldEntries: c.foldEntries.Load(),
		FoldBytes: c.foldBytes.Load(), FoldErrors: c.foldErrors.Load(),
	}
}

// committed counts a record that was written.
func (c *counters) committed(g *formed, bytes int, took time.Duration) {
	c.commits.Add(1)
	c.commitTime.Add(int64(took))
	c.commitBytes.Add(int64(bytes))
	c.commands.Add(int64(len(g.commands)))
}

// refused counts proposals that failed.
func (c *counters) refused(n int, err error) {
	switch {
	case errors.Is(err, ErrNoRoom):
		c.noRoom.Add(int64(n))
	case errors.Is(err, ErrOutcomeUnknown):
		c.unknown.Add(int64(n))
	}
}

// folded counts a try to fold a delta.
func (c *counters) folded(d *delta, took time.Duration, err error) {
	c.foldTime.Add(int64(took))
	switch {
	case err == nil:
		c.folds.Add(1)
		c.foldEntries.Add(int64(d.entries))
		c.foldBytes.Add(d.bytes)
	case err != errStopped:
		c.foldErrors.Add(1)
	}
}
