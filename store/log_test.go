package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// memoryLog is a log in memory. It finds stores whose digests differ.
type memoryLog struct {
	mu       sync.Mutex
	id       [16]byte
	records  [][]byte
	ids      map[string]uint64
	more     broadcast
	digests  map[uint64]uint64
	compared int
	differ   error
	folded   []uint64
	// fault says how often a record is added, and what the store is told.
	fault func() (times int, err error)
	late  [][]byte // added before the next one
}

func newMemoryLog() *memoryLog {
	l := &memoryLog{ids: make(map[string]uint64), digests: make(map[uint64]uint64)}
	copy(l.id[:], "a log of the test")
	return l
}

func (l *memoryLog) ID() [16]byte { return l.id }

func (l *memoryLog) Append(_ context.Context, id string, record []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, known := l.ids[id]; known {
		return at, nil
	}
	defer l.more.tell()
	times, err := 1, error(nil)
	if l.fault != nil {
		times, err = l.fault()
	}
	late := l.late
	l.late = nil
	if times < 0 { // it comes behind the next one
		l.late = append(l.late, record)
		return 0, err
	}
	for range times {
		l.records = append(l.records, record)
	}
	at := uint64(len(l.records))
	l.records = append(l.records, late...)
	if err != nil {
		return 0, err
	}
	l.ids[id] = at
	return at, nil
}

func (l *memoryLog) Last(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.records)), nil
}

func (l *memoryLog) Records(ctx context.Context, after uint64) iter.Seq2[JournalRecord, error] {
	return func(yield func(JournalRecord, error) bool) {
		for {
			more := l.more.wait()
			l.mu.Lock()
			some := l.records[after:]
			l.mu.Unlock()
			for _, r := range some {
				after++
				if !yield(JournalRecord{after, r}, nil) {
					return
				}
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (l *memoryLog) Folded(position uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.folded = append(l.folded, position)
}

func (l *memoryLog) Summed(position, sum uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, known := l.digests[position]; known && other != sum {
		l.differ = fmt.Errorf("digests at %d: %x and %x", position, other, sum)
	} else if known {
		l.compared++
	}
	l.digests[position] = sum
}

// TestLogRandom has two stores follow one log, in which records are lost, come twice and come late. One folds all the time, and dies and is reopened; the other does not.
// Both have the same state, bit for bit, and the digests that they tell on the way are the same.
func TestLogRandom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	played, compared := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		if played++; played > replayChecks {
			return
		}
		l := newMemoryLog()
		playTwins(t, dir, l)
		if l.differ != nil {
			t.Fatal(l.differ)
		}
		compared += l.compared
	})
	if compared == 0 {
		t.Error("no digests were compared")
	}
}

func (w *twins) logOf() Log {
	if w.log == nil {
		return nil
	}
	return w.log
}

// proposeToLog makes a change by way of one of the two, and waits for both.
func (w *twins) proposeToLog(c Command) any {
	w.Helper()
	lost := errors.New("lost")
	w.log.fault = func() (int, error) {
		switch rapid.IntRange(0, 15).Draw(w.T, "fault") {
		case 0:
			return 0, ErrUnavailable
		case 1:
			return 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, lost)
		case 2:
			return 1, fmt.Errorf("%w: %w", ErrOutcomeUnknown, lost)
		case 3:
			return 2, nil
		case 4:
			return -1, fmt.Errorf("%w: %w", ErrOutcomeUnknown, lost)
		}
		return 1, nil
	}
	s := w.a
	if rapid.Bool().Draw(w.T, "by the other") {
		s = w.b
	}
	r, err := s.Propose(w.ctx, c)
	last, _ := w.log.Last(w.ctx)
	w.must(w.a.WaitApplied(w.ctx, last))
	w.must(w.b.WaitApplied(w.ctx, last))
	if err != nil {
		return nil
	}
	return r
}
