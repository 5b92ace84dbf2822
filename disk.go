package fanfare

import (
	"github.com/fanfare-im/fanfare/internal/fault"
	"github.com/fanfare-im/fanfare/store"
)

func init() {
	fault.Under = func(o any, d *fault.Disk) { o.(*Options).disk = d }
}

// on lets a store write by way of a disk.
func on(d *fault.Disk, o store.Options) store.Options {
	o.WrapJournal = func(j store.Journal) store.Journal { return &diskJournal{j, d} }
	o.WriteBlocks = func(write func() error) error { return d.Write("blocks.db", write) }
	return o
}

type diskJournal struct {
	store.Journal
	d *fault.Disk
}

func (j *diskJournal) Append(position uint64, record []byte, cut uint64) error {
	return j.d.Write("journal.db", func() error { return j.Journal.Append(position, record, cut) })
}

func (j *diskJournal) Cut(through uint64) error {
	return j.d.Write("journal.db", func() error { return j.Journal.Cut(through) })
}
