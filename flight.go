package fanfare

import (
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/fanfare-im/fanfare/store"
)

// flight is the fan-out of one task in this process.
type flight struct {
	d    *delivery
	seq  uint64
	left atomic.Int32 // lanes that have not had it, users it is queued on, platforms not done
	done chan struct{}

	origin  uint64              // who accepted it, to the log
	foreign bool                // it is another node
	parts   map[uint64]struct{} // nodes whose outcome is waited for, under flightsMu

	// Of a message without retention, which lives here alone.
	message           *message
	blocks            map[uint16]*roaring.Bitmap
	delivered, failed atomic.Int64
	reported          atomic.Bool // the outcome is proposed
}

func (f *flight) fleeting() bool { return f.message != nil }

func (f *flight) audience(block uint16) *roaring.Bitmap { return f.blocks[block] }

func (f *flight) retain() { f.left.Add(1) }

// again returns the fan-out of a task that goes on, or one that begins again, retained.
func (d *delivery) again(seq uint64) *flight {
	d.flightsMu.Lock()
	defer d.flightsMu.Unlock()
	if f := d.flights[seq]; f != nil {
		for n := f.left.Load(); n > 0; n = f.left.Load() {
			if f.left.CompareAndSwap(n, n+1) {
				return f
			}
		}
	}
	f := &flight{d: d, seq: seq, done: make(chan struct{})}
	f.retain()
	d.flights[seq] = f
	return f
}

// release ends one part of the fan-out; the last one ends it all. It may be called under a lane's lock.
func (f *flight) release() {
	if f.left.Add(-1) == 0 {
		f.d.land(f)
	}
}

// land ends a fan-out. The outcome of a push without retention is made durable first, or, when there is no
// room for it, remembered until there is.
func (d *delivery) land(f *flight) {
	over := func() {
		d.flightsMu.Lock()
		if d.flights[f.seq] == f { // else phones are told by now that the message was withdrawn
			delete(d.flights, f.seq)
		}
		d.flightsMu.Unlock()
		close(f.done)
	}
	if !f.fleeting() {
		over()
	} else if !f.reported.Swap(true) { // else the Pusher closes
		d.report(f.outcome(), over)
	}
}

// report makes an outcome durable, or has it be owed, and then calls over.
func (d *delivery) report(c store.Command, over func()) {
	done := func(_ any, err error) {
		if err != nil {
			d.owe(c)
		}
		over()
	}
	if err := d.store.Go(c, done); err != nil {
		done(nil, err)
	}
}

// owe remembers an outcome whose commit failed, unless it is in the log all the same; see retryUnsaved.
func (d *delivery) owe(c store.Command) {
	d.flightsMu.Lock()
	defer d.flightsMu.Unlock()
	if part, is := c.(*store.OnlinePart); is {
		if o, open := d.orphans[part.Seq]; !open || o.paid {
			return
		}
	}
	d.owed = append(d.owed, c)
	d.hasUnsaved.Store(true)
}

// retryOwed proposes the outcomes that are owed. In a cluster the first try may be in the log, or come late, and would count twice: so it is
// waited for something behind it to be applied, and for no more than one such thing at a time.
func (d *delivery) retryOwed() {
	d.flightsMu.Lock()
	owed := d.owed
	asks := d.cluster != nil && len(owed) > 0 && !d.asking
	if asks {
		d.asking, d.asked = true, owed
	}
	if asks || d.cluster == nil {
		d.owed = nil
	}
	d.flightsMu.Unlock()
	if d.cluster == nil {
		d.reportAll(owed)
	}
	if !asks {
		return
	}
	behind := func(_ any, err error) {
		d.flightsMu.Lock()
		asked := d.asked // but for what is in the log
		d.asking, d.asked = false, nil
		if err != nil {
			d.owed = append(d.owed, asked...)
		}
		left := len(d.owed) > 0
		d.flightsMu.Unlock()
		if left {
			d.hasUnsaved.Store(true)
		}
		if err == nil {
			d.reportAll(asked)
		}
	}
	if err := d.store.Go(new(store.Batch), behind); err != nil {
		behind(nil, err)
	}
}

func (d *delivery) reportAll(list []store.Command) {
	for _, c := range list {
		d.report(c, func() {})
	}
}

func (f *flight) outcome() store.Command {
	c := store.OnlineDone{Seq: f.seq, Delivered: uint64(f.delivered.Load()), Failed: uint64(f.failed.Load())}
	if f.foreign {
		return (*store.OnlinePart)(&c)
	}
	return &c
}

// fleeting returns the fan-outs of pushes without retention.
func (d *delivery) fleeting() (list []*flight) {
	d.flightsMu.Lock()
	defer d.flightsMu.Unlock()
	for _, f := range d.flights {
		if f.fleeting() {
			list = append(list, f)
		}
	}
	return list
}

func (d *delivery) flight(seq uint64) *flight {
	d.flightsMu.Lock()
	defer d.flightsMu.Unlock()
	return d.flights[seq]
}
