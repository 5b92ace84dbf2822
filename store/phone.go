package store

import (
	"maps"
	"slices"
)

const (
	// maxPhoneReasons bounds the reasons that are counted one by one, of a task on a platform: they are a service's own
	// words, and come from outside.
	maxPhoneReasons = 32
	// OtherReasons is what the further ones are counted as.
	OtherReasons = "other"
)

// PhoneStats counts the outcomes of one task on one platform.
type PhoneStats struct {
	Sent         int64 // tries
	Accepted     int64
	Unregistered int64
	Rejected     int64
	Retried      int64 // answers "retry"
	GaveUp       int64 // retried too often
	// Reasons are those of Rejected, at most 32 and [OtherReasons].
	Reasons map[string]int64
}

func (s *PhoneStats) fields() []*int64 {
	return []*int64{&s.Sent, &s.Accepted, &s.Unregistered, &s.Rejected, &s.Retried, &s.GaveUp}
}

func (s *PhoneStats) add(o PhoneStats) {
	of := o.fields()
	for i, f := range s.fields() {
		*f += *of[i]
	}
	for _, reason := range slices.Sorted(maps.Keys(o.Reasons)) { // in order: which are the others is the same everywhere
		s.Reject(reason, o.Reasons[reason])
	}
}

// Reject counts n more rejections for a reason, in Reasons and nowhere else.
func (s *PhoneStats) Reject(reason string, n int64) {
	if s.Reasons == nil {
		s.Reasons = make(map[string]int64)
	}
	named := len(s.Reasons)
	if s.Reasons[OtherReasons] > 0 {
		named--
	}
	if s.Reasons[reason] == 0 && named >= maxPhoneReasons {
		reason = OtherReasons
	}
	s.Reasons[reason] += n
}

func (s *PhoneStats) encode(w *writer) {
	for _, f := range s.fields() {
		w.uvarint(uint64(*f))
	}
	w.uvarint(uint64(len(s.Reasons)))
	for _, reason := range slices.Sorted(maps.Keys(s.Reasons)) {
		w.str(reason)
		w.uvarint(uint64(s.Reasons[reason]))
	}
}

func (s *PhoneStats) decode(r *reader) {
	for _, f := range s.fields() {
		*f = int64(r.uvarint())
	}
	n := r.count(2)
	if n > 0 {
		s.Reasons = make(map[string]int64, n)
	}
	for range n {
		reason := r.str()
		s.Reasons[reason] = int64(r.uvarint())
	}
}

// phoneRecord is the checkpoint of a task on a platform.
type phoneRecord struct {
	next    uint64
	number  byte // of the platform, among those of the task
	done    bool
	retried bool // a retry was noted at some time: there may be some to remove at the end
	stats   PhoneStats
	slept   int64 // when users were last found asleep; 0: none ever were
	// The message was withdrawn, and those are told who were notified, of whom there are none from the ordinal until on, nor among those asleep.
	recall   bool
	all      bool // of the audience were notified, whoever has the message
	until    uint64
	recalled PhoneStats
}

// walked is the ordinal from which on nobody has been notified.
func (p *phoneRecord) walked() uint64 {
	if p.recall {
		return p.until
	}
	return p.next
}

// The bits of its flags.
const (
	phoneDone = 1 << iota
	phoneRetried
	phoneRecall
	phoneAll
)

func (p *phoneRecord) encode() []byte {
	var w writer
	w.uvarint(p.next)
	w.byte(p.number)
	flags := byte(0)
	if p.done {
		flags |= phoneDone
	}
	if p.retried {
		flags |= phoneRetried
	}
	if p.recall {
		flags |= phoneRecall
	}
	if p.all {
		flags |= phoneAll
	}
	w.byte(flags)
	p.stats.encode(&w)
	if p.recall {
		w.uvarint(p.until)
		p.recalled.encode(&w)
	}
	w.varint(p.slept)
	return w.b
}

func decodePhone(b []byte) (p phoneRecord, err error) {
	r := reader{b: b}
	p.next, p.number = r.uvarint(), r.byte()
	flags := r.byte()
	p.done, p.retried = flags&phoneDone != 0, flags&phoneRetried != 0
	p.stats.decode(&r)
	p.all = flags&phoneAll != 0
	if p.recall = flags&phoneRecall != 0; p.recall {
		p.until = r.uvarint()
		p.recalled.decode(&r)
	}
	p.slept = r.varint()
	return p, r.done()
}
