package store

// Standing is where a user stands with a message.
type Standing byte

// The standings.
const (
	StandingNotKept  Standing = iota // it is not known: the audience of the task is not kept, and the user does not wait
	StandingWaiting                  // for the message
	StandingReceived                 // has the message
	StandingMissed                   // still waited when the task ended
	StandingOutside                  // was not in the audience, or is another user of the same ID
)

// Standing returns where a user stands with the message of a task, or [ErrUnknownTask].
func (s *Store) Standing(seq uint64, ordinal uint32) (of Standing, err error) {
	err = s.withView(func(v *view) error {
		raw := v.get(bucketTasks, key64(seq))
		if raw == nil {
			return ErrUnknownTask
		}
		t, err := decodeTask(seq, raw)
		if err != nil {
			return err
		}
		block, low := s.geo.block(ordinal), s.geo.low(ordinal)
		is := func(b bucket) bool {
			raw := v.get(b, audienceKey(seq, block))
			return raw != nil && containerHas(raw, low)
		}
		switch {
		case v.waits(block, low, seq):
			of = StandingWaiting
		case !t.Kept:
			of = StandingNotKept
		case !is(bucketAudiences):
			of = StandingOutside
		case is(bucketMissed):
			of = StandingMissed
		default:
			of = StandingReceived
		}
		return nil
	})
	return of, err
}
