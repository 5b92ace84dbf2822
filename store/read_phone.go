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
			w := PhoneWork{Seq: seq, Platform: platform, Next: rec.next, Recall: rec.recall, Slept: rec.slept}
			from := append(append(key64(seq), byte(len(platform))), platform...)
			for _, e := range v.scan(bucketRetries, from, after(from), 1<<20, false) {
				r := reader{b: e.value}
				p := PhoneRetry{Ordinal: be32(e.key[len(from):])}
				copy(p.Token[:], e.key[len(from)+4:])
				p.Attempt, p.Due, p.Asleep = uint32(r.uvarint()), r.varint(), r.bool()
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
	Recall   bool  // of telling phones that the message was withdrawn
	Slept    int64 // when users were last found asleep, in milliseconds since 1970; 0: none ever were
}

// PhoneTarget is a device to notify.
type PhoneTarget struct {
	Ordinal uint32
	ID      string
	Device  Device
}

// PhoneWalk is a way through the users of a message, to find whose phones are to be notified on a platform.
type PhoneWalk struct {
	Seq      uint64
	Platform string
	Always   bool   // all of the audience are; else who still waits for the message
	From     uint64 // the ordinal to go on from
	Targets  int    // so many end a step, or more: all of a user's devices are in it
	Asleep   *Expr  // who is passed over; nil: nobody
	Recall   bool   // they are told that the message was withdrawn: who was notified, and nobody else
	// Again is a way through those alone who were passed over and recorded so by a [Checkpoint].
	Again bool
}

// PhoneStep is a part of such a way.
type PhoneStep struct {
	Targets []PhoneTarget
	Asleep  []BlockSet // who was passed over, and is not recorded yet
	Awake   []BlockSet // Again: who was before and is not now, or is not notified any more
	Staying bool       // Again: somebody is passed over again
	Sets    int        // about how many bytes the sets take in a command
	Next    uint64     // the ordinal behind the step
	More    bool       // there are further users
}

// MaxStepSets is how many bytes of sets end a step: a checkpoint is to have room for them.
const MaxStepSets = 128 << 10

// PhoneStep goes on along a way.
func (s *Store) PhoneStep(w *PhoneWalk) (step PhoneStep, err error) {
	st := s.published.Load()
	end := uint64(s.geo.blocks(st.nextOrdinal)) << s.geo.bits
	step.Next = w.From
	var prog *program
	if w.Asleep != nil {
		if prog, err = s.compile(w.Asleep, st); err != nil {
			return step, err
		}
	}
	for step.Next < end && len(step.Targets) < w.Targets && step.Sets < MaxStepSets && err == nil {
		err = s.withView(func(v *view) error { return s.stepBlock(v, w, prog, &step, end) })
	}
	step.More = step.Next < end
	return step, err
}

// stepBlock does so in one block.
func (s *Store) stepBlock(v *view, w *PhoneWalk, prog *program, step *PhoneStep, end uint64) error {
	if _, has := v.factNumber([]byte(platformFactKey(w.Platform))); !has && !w.Again {
		step.Next = end
		return nil
	}
	block, low := uint16(step.Next>>s.geo.bits), uint64(s.geo.low(uint32(step.Next)))
	first := uint64(block) << s.geo.bits
	step.Next = first + 1<<s.geo.bits
	who, asleep := v.toNotify(block, w.Seq, w.Platform, w.Always), roaring.New()
	if w.Recall {
		v.notNotified(who, block, w.Seq, w.Platform)
	}
	of := who // of whom it is asked
	var before *roaring.Bitmap
	if w.Again {
		if before = v.asleep(block, w.Seq, w.Platform); before == nil {
			return nil
		}
		who.And(before)
		of = before // who has no device for a while keeps the place
	}
	if prog != nil && !of.IsEmpty() {
		if r := prog.eval(v, s.geo, block); r.set != nil {
			asleep = roaring.And(of, r.set)
			who.AndNot(asleep)
		}
	}
	it := who.Iterator()
	for it.AdvanceIfNeeded(uint32(low)); it.HasNext(); {
		ord := s.geo.ordinal(block, uint16(it.Next()))
		if len(step.Targets) >= w.Targets {
			step.Next = uint64(ord)
			break
		}
		some, err := v.devicesOn(s, ord, w.Platform)
		if err != nil {
			return err
		}
		step.Targets = append(step.Targets, some...)
	}
	// What is said of users is said of those whom this step has passed.
	awake := roaring.New()
	if w.Again {
		awake = roaring.AndNot(before, asleep)
	}
	for _, set := range [...]*roaring.Bitmap{asleep, awake} {
		set.RemoveRange(0, low)
		set.RemoveRange(step.Next-first, 1<<16)
	}
	if w.Again {
		step.Staying = step.Staying || !asleep.IsEmpty()
		step.add(&step.Awake, block, awake)
	} else {
		step.add(&step.Asleep, block, asleep)
	}
	return nil
}

// add adds users of a block.
func (step *PhoneStep) add(to *[]BlockSet, block uint16, set *roaring.Bitmap) {
	if set.IsEmpty() {
		return
	}
	set.RunOptimize()
	set.CloneCopyOnWriteContainers() // it may have containers of the file
	*to = append(*to, BlockSet{block, set})
	step.Sets += int(set.GetSerializedSizeInBytes()) + 8
}

// notNotified takes those of a block out of a set whom a task has not come to, or has passed over.
func (v *view) notNotified(who *roaring.Bitmap, block uint16, seq uint64, platform string) {
	rec, known := v.phone(seq, platform)
	first := uint64(v.geo.ordinal(block, 0))
	if !known || rec.walked() <= first {
		who.Clear()
		return
	}
	if rec.slept != 0 {
		if asleep := v.asleep(block, seq, platform); asleep != nil {
			who.AndNot(asleep)
		}
	}
	who.RemoveRange(rec.walked()-first, 1<<16)
}

// phone returns the checkpoint of a task on a platform.
func (v *view) phone(seq uint64, platform string) (rec phoneRecord, known bool) {
	b := v.get(bucketPhones, phoneKey(seq, platform))
	if b == nil {
		return rec, false
	}
	rec, err := decodePhone(b)
	must(err)
	return rec, true
}

// asleep returns who of a block is passed over because of quiet hours, nil for nobody.
func (v *view) asleep(block uint16, seq uint64, platform string) *roaring.Bitmap {
	if rec, known := v.phone(seq, platform); known {
		return v.ofMessage(kindAsleep, block, asleepOf(seq, rec.number))
	}
	return nil
}

// toNotify returns who of a block is to be notified of a message and has a device on a platform.
func (v *view) toNotify(block uint16, seq uint64, platform string, always bool) *roaring.Bitmap {
	fact, has := v.factNumber([]byte(platformFactKey(platform)))
	rec, known := v.phone(seq, platform)
	if !has || !known {
		return roaring.New()
	}
	waiting, have := v.notified(block, seq, rec.whom(always)), v.fact(block, fact).set
	if waiting == nil || have == nil {
		return roaring.New()
	}
	return roaring.And(waiting, have)
}

// whom is which users of a message are notified of it.
type whom byte

const (
	theWaiting  whom = iota // who still waits for it
	theAudience             // all of it
	theMissed               // who still waited at its end
)

// whom returns which users a task notifies on a platform.
func (p *phoneRecord) whom(always bool) whom {
	switch {
	case p.recall && !p.all:
		return theMissed
	case p.recall || always:
		return theAudience
	}
	return theWaiting
}

// notified returns who is to be notified of a message in a block.
func (v *view) notified(block uint16, seq uint64, of whom) *roaring.Bitmap {
	b := bucketAudiences
	switch of {
	case theWaiting:
		return v.pending(block, seq)
	case theMissed:
		b = bucketMissed
	}
	if raw := v.get(b, audienceKey(seq, block)); raw != nil {
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
