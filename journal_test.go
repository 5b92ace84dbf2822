package fanfare

import (
	"sync/atomic"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// testJournal is a journal that fails, or takes its time, as told. It counts what it is given.
type testJournal struct {
	store.Journal
	fail    atomic.Pointer[error]
	slow    atomic.Int64 // nanoseconds for each record
	appends atomic.Int64
}

func (j *testJournal) wrap(in store.Journal) store.Journal {
	j.Journal = in
	return j
}

func (j *testJournal) Append(position uint64, rec []byte, cut uint64) error {
	j.appends.Add(1)
	time.Sleep(time.Duration(j.slow.Load()))
	if err := j.fail.Load(); err != nil {
		return *err
	}
	return j.Journal.Append(position, rec, cut)
}

// failWith makes each record fail; nil ends it.
func (j *testJournal) failWith(err error) {
	if err == nil {
		j.fail.Store(nil)
	} else {
		j.fail.Store(&err)
	}
}
