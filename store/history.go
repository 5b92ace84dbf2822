package store

// Sample is how far a task was at a moment.
type Sample struct {
	At                                 int64 // milliseconds since 1970
	Delivered, Failed, Pending, Opened int64
	Notified                           []int64 // accepted by the services, in the order of the task's platforms
}

// A sample is taken with a change, once a second and a 32nd of the task's age have passed since the last. So there are
// some 32 of the first half minute, and 22 of each doubling of the age from there on: a few hundred at most, in which the beginning is as fine as the end.
const (
	sampleEvery = 1000
	sampleShare = 32
)

// NextSample is when a task takes its next sample, if it changes then or later: what changes before is in no sample. All are in milliseconds since 1970, and the last
// sample is the acceptance where there is none.
func NextSample(accepted, last int64) int64 {
	return last + max(sampleEvery, (last-accepted)/sampleShare)
}

func (s *Sample) encode(w *writer) {
	w.uvarint(uint64(s.At))
	for _, n := range []int64{s.Delivered, s.Failed, s.Pending, s.Opened} {
		w.uvarint(uint64(n))
	}
	w.uvarint(uint64(len(s.Notified)))
	for _, n := range s.Notified {
		w.uvarint(uint64(n))
	}
}

func decodeHistory(b []byte) (samples []Sample, err error) {
	r := reader{b: b}
	for len(r.b) > 0 {
		s := Sample{At: int64(r.uvarint())}
		for _, n := range []*int64{&s.Delivered, &s.Failed, &s.Pending, &s.Opened} {
			*n = int64(r.uvarint())
		}
		s.Notified = make([]int64, r.count(1))
		for i := range s.Notified {
			s.Notified[i] = int64(r.uvarint())
		}
		samples = append(samples, s)
	}
	return samples, r.done()
}

// sample adds to the history of a task that has changed, if it is time to.
func (a *applier) sample(seq uint64, p *Progress) {
	now := a.st.now
	if now < p.sampleAt || p.Total == 0 {
		return
	}
	t := a.task(seq)
	if t == nil {
		return
	}
	p.sampleAt = NextSample(t.Accepted, now)
	s := Sample{At: now, Delivered: p.Delivered, Failed: p.Failed, Pending: p.Pending, Opened: p.Opened, Notified: make([]int64, len(t.Platforms))}
	for i, platform := range t.Platforms {
		if rec, known := a.v.phone(seq, platform); known {
			s.Notified[i] = rec.stats.Accepted
		}
	}
	var w writer
	w.b = append(w.b, a.v.get(bucketHistory, key64(seq))...)
	s.encode(&w)
	a.put(bucketHistory, key64(seq), w.b)
}

// History returns a task, and how far it was from time to time, oldest first; or [ErrUnknownTask].
func (s *Store) History(seq uint64) (t *TaskState, samples []Sample, err error) {
	err = s.withView(func(v *view) error {
		if t, err = v.taskState(seq); err == nil {
			samples, err = decodeHistory(v.get(bucketHistory, key64(seq)))
		}
		return err
	})
	return t, samples, err
}
