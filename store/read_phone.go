package store

import "github.com/RoaringBitmap/roaring/v2"

// Unfinished returns the sequences of lifetime 0 pushes without an outcome, and the
// phone work that is not done, oldest first.
func (s *Store) Unfinished() (online []uint64, phones []PhoneWork, err error) {
	err = s.withView(func(v *view) error {
		for _, e := range v.scan(bucketDue, []byte{dueOnline}, []byte{dueOnline + 1}, 1<<20, false) {
			online = append(online, be64(e.key[9:]))
		}
		for _, e := range v.scan(bucketDue, []byte{duePhone}, []byte{duePhone + 1}, 1<<20, false) {
			seq, platform := be64(e.key[9:]), string(e.key[17:])
			b := v.get(bucketPhones, phoneKey(seq, platform))
			if b == nil {
				return &FormatError{What: "phone checkpoint", Detail: "missing"}
			}
			rec, err := decodePhone(b)
			if err != nil {
				return err
			}
			w := PhoneWork{Seq: seq, Platform: platform, Next: rec.next, Recall: rec.recall, Awake: rec.awake, Asleep: rec.asleep}
			from := append(append(key64(seq), byte(len(platform))), platform...)
			for _, e := range v.scan(bucketRetries, from, after(from), 1<<20, false) {
				r := reader{b: e.value}
				p := PhoneRetry{Ordinal: be32(e.key[len(from):])}
				copy(p.Token[:], e.key[len(from)+4:])
				p.Attempt, p.Due = uint32(r.uvarint()), r.varint()
				if err := r.done(); err != nil {
					return err
				}
				w.Retries = append(w.Retries, p)
			}
			phones = append(phones, w)
		}
		return nil
	})
	return online, phones, err
}

// PhoneWork is where a task stands on a platform.
type PhoneWork struct {
	Seq      uint64
	Platform string
	Next     uint64
	Retries  []PhoneRetry
	Recall   bool
	// Of its pass, as in [Checkpoint].
	Awake, Asleep []string
}

// PhoneTarget is a device to notify.
type PhoneTarget struct {
	Ordinal uint32
	ID      string
	Device  Device
}

// PhoneTargets collects the devices on a platform of users who still wait for
// a message, or always of all of its audience, and who are among others, if there are any to be among, from the ordinal next on, until there are at least max. It returns the ordinal to
// go on from; more is false when there are no further users.
func (s *Store) PhoneTargets(seq uint64, platform string, always bool, among *Expr, next uint64, max int) (targets []PhoneTarget, from uint64, more bool, err error) {
	st := s.published.Load()
	end := uint64(s.geo.blocks(st.nextOrdinal)) << s.geo.bits
	var prog *program
	if among != nil {
		if prog, err = s.compile(among, st); err != nil {
			return nil, next, false, err
		}
	}
	for next < end && len(targets) < max && err == nil {
		err = s.withView(func(v *view) error {
			if b := v.get(bucketPhones, phoneKey(seq, platform)); b != nil {
				rec, err := decodePhone(b)
				if err != nil {
					return err
				}
				if rec.recall {
					end = min(end, rec.until)
				}
			}
			if next >= end {
				return nil
			}
			fact, ok := v.factNumber([]byte(platformFactKey(platform)))
			if !ok {
				next = end
				return nil
			}
			block := uint16(next >> s.geo.bits)
			low := uint32(s.geo.low(uint32(next)))
			next = uint64(block)<<s.geo.bits + 1<<s.geo.bits
			waiting, have := v.notified(block, seq, always), v.fact(block, fact).set
			if waiting == nil || have == nil {
				return nil
			}
			who := roaring.And(waiting, have)
			if prog != nil {
				of := prog.eval(v, s.geo, block).set
				if of == nil {
					return nil
				}
				who.And(of)
			}
			it := who.Iterator()
			for it.AdvanceIfNeeded(low); it.HasNext(); {
				ord := s.geo.ordinal(block, uint16(it.Next()))
				if uint64(ord) >= end {
					return nil
				}
				if len(targets) >= max {
					next = uint64(ord)
					return nil
				}
				some, err := v.devicesOn(s, ord, platform)
				if err != nil {
					return err
				}
				targets = append(targets, some...)
			}
			return nil
		})
	}
	return targets, next, next < end, err
}

// notified returns who is to be notified of a message in a block.
func (v *view) notified(block uint16, seq uint64, always bool) *roaring.Bitmap {
	if !always {
		return v.pending(block, seq)
	}
	if raw := v.get(bucketAudiences, audienceKey(seq, block)); raw != nil {
		return v.parse(raw)
	}
	return nil
}

// devicesOn returns the devices of a user on a platform whose tokens are still this user's.
func (v *view) devicesOn(s *Store, ord uint32, platform string) ([]PhoneTarget, error) {
	block, low := s.geo.block(ord), s.geo.low(ord)
	devices, err := decodeDevices(v.blockRecord(kindDevice, block, low))
	if err != nil {
		return nil, err
	}
	var targets []PhoneTarget
	id := recordID(v.blockRecord(kindUser, block, low))
	for _, d := range devices {
		if d.Platform != platform {
			continue
		}
		h := HashToken(d.Platform, d.Token)
		if owner := v.get(bucketTokens, h[:]); owner != nil && be32(owner) == ord {
			targets = append(targets, PhoneTarget{ord, id, d})
		}
	}
	return targets, nil
}

// PhoneTarget returns the device of a retry, if its user still waits for the
// message, or is notified always, and still has the token.
func (s *Store) PhoneTarget(seq uint64, platform string, always bool, r *PhoneRetry) (t PhoneTarget, ok bool, err error) {
	err = s.withView(func(v *view) error {
		if !always && !v.waits(s.geo.block(r.Ordinal), s.geo.low(r.Ordinal), seq) {
			return nil
		}
		some, err := v.devicesOn(s, r.Ordinal, platform)
		for _, x := range some {
			if HashToken(x.Device.Platform, x.Device.Token) == r.Token {
				t, ok = x, true
			}
		}
		return err
	})
	return t, ok, err
}
