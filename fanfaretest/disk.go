package fanfaretest

import "github.com/fanfare-im/fanfare/internal/fault"

// Disk is what a Pusher's directory is on. It can be told to fail; [Pusher.Reopen], [Pusher.Crash] and the end of the test make it sound again.
type Disk struct{ under *fault.Disk }

// Fill lets the disk be full. Every change then fails with [fanfare.ErrNoRoom], nothing of it is made, and the Pusher goes on: what is delivered meanwhile is noted when there is room
// again, and delivered once more if the process dies before.
func (d *Disk) Fill() { d.under.Fill() }

// Free undoes Fill. It undoes Break too, but a Pusher that has met with it refuses changes still, until it is reopened.
func (d *Disk) Free() { d.under.Free() }

// Break lets writes fail so that nobody knows whether they were made, as after a failed sync. The next change fails with [fanfare.ErrOutcomeUnknown], and so do all later ones until
// [Pusher.Reopen]; reading and delivering go on. Kept says what is found then: that the change was made, or that it was not. A
// push with a key can be made again either way.
func (d *Disk) Break(kept bool) { d.under.Break(kept) }
