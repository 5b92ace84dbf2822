package store

import (
	"bytes"
	"errors"
	"fmt"
	mathbits "math/bits"
	"slices"
)

// errUnknownOp is the result of an operation that apply does not know.
var errUnknownOp = errors.New("fanfare: unknown operation")

// DuplicateNameError says that a name would stand for two attribute slots.
type DuplicateNameError struct {
	Name  string // that was given twice
	Slots [2]int // the lower one first
}

// Error says which name it is, and which slots.
func (e *DuplicateNameError) Error() string {
	return fmt.Sprintf("fanfare: attribute name %q in slots %d and %d", e.Name, e.Slots[0], e.Slots[1])
}

// OpError says which operation of a batch was refused; nothing of the batch was applied.
type OpError struct {
	Index int    // of the operation in the batch
	ID    string // the user
	Err   error  // why
}

// Error says which user it was about, and the cause.
func (e *OpError) Error() string { return fmt.Sprintf("user %q: %v", e.ID, e.Err) }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// BatchResult is what a batch did.
type BatchResult struct {
	Registered int // users that were unknown before
	Known      int // OpPut and OpRegister of users that were known
}

// userTx is a batch in the making: users are changed here, and reach the delta
// only when every operation was good.
type userTx struct {
	a        *applier
	byID     map[string]*editing // the current bearer of an ID, nil when there is none
	byOrd    map[uint32]*editing // but of those who are new
	order    []*editing          // behind its end are those of an earlier batch, to be used again
	added    []*editing          // those who are new, by their ordinals
	owners   map[[16]byte]uint32 // tokens that changed hands in this batch
	facts    map[string]uint32   // facts that were looked up, or are new; 0: there is none
	factKeys []string            // of those that are new, in order of their numbers
	ordinals uint64
	result   BatchResult
	key, raw []byte // for a while

	// What becomes true or untrue of users, and by how much the facts' counts change; see changes.
	given, taken []uint64 // block, fact and low half of the ordinal; ascending
	counts       map[uint32]int64
}

// editing is a user before and after the batch.
type editing struct {
	ordinal   uint32
	hash      idHash // of one who is new
	old, now  userRecord
	existed   bool
	gone      bool
	changed   bool
	oldDevs   []Device
	devs      []Device
	devsRead  bool
	devsDirty bool
}

func (a *applier) batch(c *Batch) (any, error) {
	tx := a.newUserTx(len(c.Ops))
	for i := range c.Ops {
		if err := tx.op(&c.Ops[i]); err != nil {
			return nil, &OpError{Index: i, ID: c.Ops[i].ID, Err: err}
		}
	}
	tx.changes()
	if uint64(a.st.nextFact)+uint64(len(tx.factKeys)) > 1<<32-1 {
		return nil, &LimitError{What: "facts ever true of anyone", Limit: 1<<32 - 1, Got: 1 << 32}
	}
	tx.install()
	return tx.result, nil
}

// keptUsers bounds what a batch leaves for the next one: a step of an import has 1,000 users.
const keptUsers = 2048

func (a *applier) newUserTx(ops int) *userTx {
	tx := a.s.users
	if tx == nil || cap(tx.order) > keptUsers {
		tx = &userTx{
			byID: make(map[string]*editing, ops), byOrd: make(map[uint32]*editing),
			owners: make(map[[16]byte]uint32), facts: make(map[string]uint32), counts: make(map[uint32]int64),
		}
		a.s.users = tx
	}
	clear(tx.byID)
	clear(tx.byOrd)
	clear(tx.owners)
	clear(tx.facts)
	clear(tx.counts)
	tx.a, tx.order, tx.added, tx.factKeys = a, tx.order[:0], tx.added[:0], tx.factKeys[:0]
	tx.given, tx.taken = tx.given[:0], tx.taken[:0]
	tx.ordinals, tx.result = a.st.nextOrdinal, BatchResult{}
	return tx
}

func (tx *userTx) op(o *UserOp) error {
	u, hash, known := tx.user(o.ID)
	switch o.Kind {
	case OpRegister, OpPut:
		if known {
			tx.result.Known++
		} else {
			if tx.ordinals > 1<<32-1 || tx.a.s.geo.blocks(tx.ordinals+1) > 1<<16 {
				return &LimitError{What: "users ever registered", Limit: int64(tx.ordinals), Got: int64(tx.ordinals) + 1}
			}
			if o.ID == "" {
				return &LimitError{What: "user ID in bytes, at least", Limit: 1}
			}
			u = tx.edit(uint32(tx.ordinals))
			u.hash, u.changed, u.devsRead = hash, true, true
			u.now.id, u.now.registered = o.ID, tx.a.st.now/1000
			tx.byID[o.ID] = u
			tx.added = append(tx.added, u)
			tx.ordinals++
			tx.result.Registered++
		}
		if o.Kind == OpRegister {
			return nil
		}
		if err := tx.setAttrs(u, o.Attrs); err != nil {
			return err
		}
		if err := tx.addTags(u, o.Tags); err != nil {
			return err
		}
		return tx.putDevices(u, o.Devices)
	case OpDropDevices:
		if known {
			tx.dropDevices(u, o.Devices)
		}
		return nil
	case OpSeen:
		if day := Day(tx.a.st.now) + 1; known && u.now.seen < day {
			u.now.seen, u.changed = day, true
		}
		return nil
	}
	if !known {
		return ErrUnknownUser
	}
	switch o.Kind {
	case OpUnregister:
		tx.devices(u)
		u.gone, u.changed = true, true
		tx.byID[o.ID] = nil
		return nil
	case OpAddTags:
		return tx.addTags(u, o.Tags)
	case OpRemoveTags:
		for _, t := range o.Tags {
			if fact, ok := tx.fact(appendTagFact(tx.key[:0], t)); ok {
				if i, has := slices.BinarySearch(u.now.tags, fact); has {
					u.now.tags = slices.Delete(u.now.tags, i, i+1)
					u.changed = true
				}
			}
		}
		return nil
	case OpOptOut:
		for _, category := range o.Tags {
			fact := tx.ensureFact(appendOutFact(tx.key[:0], category))
			i, has := slices.BinarySearch(u.now.outs, fact)
			if has {
				continue
			}
			if len(u.now.outs) >= MaxOptOuts {
				return &LimitError{What: "categories that a user has opted out of", Limit: MaxOptOuts, Got: MaxOptOuts + 1}
			}
			u.now.outs = slices.Insert(u.now.outs, i, fact)
			u.changed = true
		}
		return nil
	case OpOptIn:
		for _, category := range o.Tags {
			if fact, ok := tx.fact(appendOutFact(tx.key[:0], category)); ok {
				if i, has := slices.BinarySearch(u.now.outs, fact); has {
					u.now.outs = slices.Delete(u.now.outs, i, i+1)
					u.changed = true
				}
			}
		}
		return nil
	case OpClearTags:
		u.changed = u.changed || len(u.now.tags) > 0
		u.now.tags = u.now.tags[:0]
		return nil
	case OpSetAttrs:
		return tx.setAttrs(u, o.Attrs)
	case OpRemoveAttrs:
		for _, at := range o.Attrs {
			slot, ok := tx.a.st.slot(at.Name)
			if !ok {
				return fmt.Errorf("%w: %q", ErrUnnamedAttribute, at.Name)
			}
			if i, has := u.now.attr(slot); has {
				u.now.attrs = slices.Delete(u.now.attrs, i, i+1)
				u.changed = true
			}
		}
		return nil
	case OpPutDevices:
		return tx.putDevices(u, o.Devices)
	case OpRemoveDevices:
		for i := range o.Devices {
			tx.removeDevice(u, HashToken(o.Devices[i].Platform, o.Devices[i].Token))
		}
		return nil
	}
	return errUnknownOp
}

// edit returns a user to be filled in, with room for attributes and tags that an earlier batch has left.
func (tx *userTx) edit(ordinal uint32) *editing {
	n := len(tx.order)
	if n < cap(tx.order) {
		if u := tx.order[:n+1][n]; u != nil {
			*u = editing{ordinal: ordinal, old: u.old.emptied(), now: u.now.emptied()}
			tx.order = tx.order[:n+1]
			return u
		}
	}
	u := &editing{ordinal: ordinal}
	tx.order = append(tx.order, u)
	return u
}

func (u *userRecord) emptied() userRecord {
	return userRecord{attrs: u.attrs[:0], tags: u.tags[:0], outs: u.outs[:0]}
}

// user returns who has an ID, or its hash if nobody has.
func (tx *userTx) user(id string) (u *editing, hash idHash, known bool) {
	u, seen := tx.byID[id]
	switch {
	case u != nil:
		return u, 0, true
	case seen: // and gone
		return nil, hashID(id), false
	}
	b, known := tx.a.v.lookUp(id)
	if known {
		u = tx.byOrdinal(b.ordinal)
	}
	return u, b.hash, known
}

func (tx *userTx) byOrdinal(ord uint32) *editing {
	if first := tx.a.st.nextOrdinal; uint64(ord) >= first {
		return tx.added[uint64(ord)-first]
	}
	if u := tx.byOrd[ord]; u != nil {
		return u
	}
	g := tx.a.s.geo
	u := tx.edit(ord)
	must(u.old.decode(tx.a.v.blockRecord(kindUser, g.block(ord), g.low(ord))))
	u.existed = true
	u.now.id, u.now.registered, u.now.seen = u.old.id, u.old.registered, u.old.seen
	u.now.attrs, u.now.tags, u.now.outs = append(u.now.attrs, u.old.attrs...), append(u.now.tags, u.old.tags...), append(u.now.outs, u.old.outs...)
	tx.byID[u.old.id] = u
	tx.byOrd[ord] = u
	return u
}

// fact finds a fact's number, in the batch or before it. The key may lie in what the batch has for a while.
func (tx *userTx) fact(key []byte) (uint32, bool) {
	tx.key = key
	n, seen := tx.facts[string(key)]
	if !seen {
		n, _ = tx.a.v.factNumber(key)
		tx.facts[string(key)] = n
	}
	return n, n != 0
}

func (tx *userTx) ensureFact(key []byte) uint32 {
	n, ok := tx.fact(key)
	if !ok {
		n = tx.a.st.nextFact + uint32(len(tx.factKeys))
		own := string(key)
		tx.facts[own] = n
		tx.factKeys = append(tx.factKeys, own)
	}
	return n
}

func (tx *userTx) addTags(u *editing, tags []string) error {
	for _, t := range tags {
		fact := tx.ensureFact(appendTagFact(tx.key[:0], t))
		i, has := slices.BinarySearch(u.now.tags, fact)
		if has {
			continue
		}
		if limit := tx.a.st.limits.TagsPerUser; len(u.now.tags) >= limit {
			return &LimitError{What: "tags of a user", Limit: int64(limit), Got: int64(len(u.now.tags)) + 1}
		}
		u.now.tags = slices.Insert(u.now.tags, i, fact)
		u.changed = true
	}
	return nil
}

func (tx *userTx) setAttrs(u *editing, attrs []AttrValue) error {
	for _, at := range attrs {
		slot, ok := tx.a.st.slot(at.Name)
		if !ok {
			return fmt.Errorf("%w: %q", ErrUnnamedAttribute, at.Name)
		}
		want := slotFact{slot: slot, typ: tx.a.st.types[slot]}
		if want.typ == TextType {
			want.fact = tx.ensureFact(appendAttrFact(tx.key[:0], slot, at.Value))
		} else if want.number, ok = want.typ.parse(at.Value); !ok {
			return &ValueError{Name: at.Name, Value: at.Value, Type: want.typ}
		}
		i, has := u.now.attr(slot)
		switch {
		case !has:
			u.now.attrs = slices.Insert(u.now.attrs, i, want)
		case u.now.attrs[i] == want:
			continue
		default:
			u.now.attrs[i] = want
		}
		u.changed = true
	}
	return nil
}

func (tx *userTx) devices(u *editing) {
	if u.devsRead {
		return
	}
	g := tx.a.s.geo
	d, err := decodeDevices(tx.a.v.blockRecord(kindDevice, g.block(u.ordinal), g.low(u.ordinal)))
	must(err)
	u.oldDevs, u.devs, u.devsRead = d, slices.Clone(d), true
}

func (tx *userTx) owner(h [16]byte) (uint32, bool) {
	if ord, ok := tx.owners[h]; ok {
		u := tx.byOrdinal(ord)
		return ord, !u.gone && slices.ContainsFunc(u.devs, func(d Device) bool { return HashToken(d.Platform, d.Token) == h })
	}
	b := tx.a.v.token(h)
	if b == nil {
		return 0, false
	}
	return be32(b), true
}

// putDevices registers devices; a token leaves the user who had it before.
func (tx *userTx) putDevices(u *editing, devices []Device) error {
	for _, d := range devices {
		tx.devices(u)
		h := HashToken(d.Platform, d.Token)
		if ord, has := tx.owner(h); has && ord != u.ordinal {
			tx.removeDevice(tx.byOrdinal(ord), h)
		}
		d.Registered = tx.a.st.now
		tx.owners[h] = u.ordinal
		if i := indexDevice(u.devs, h); i >= 0 {
			u.devs[i] = d
		} else {
			if limit := tx.a.st.limits.DevicesPerUser; len(u.devs) >= limit {
				return &LimitError{What: "devices of a user", Limit: int64(limit), Got: int64(len(u.devs)) + 1}
			}
			u.devs = append(u.devs, d)
		}
		u.devsDirty = true
	}
	return nil
}

func indexDevice(devices []Device, h [16]byte) int {
	return slices.IndexFunc(devices, func(d Device) bool { return HashToken(d.Platform, d.Token) == h })
}

func (tx *userTx) removeDevice(u *editing, h [16]byte) {
	tx.devices(u)
	if i := indexDevice(u.devs, h); i >= 0 {
		u.devs = slices.Delete(u.devs, i, i+1)
		u.devsDirty = true
	}
}

func (tx *userTx) dropDevices(u *editing, devices []Device) {
	tx.devices(u)
	for _, d := range devices {
		h := HashToken(d.Platform, d.Token)
		if i := indexDevice(u.devs, h); i >= 0 && u.devs[i].Registered < d.Registered {
			tx.removeDevice(u, h)
		}
	}
}

// deviceFacts returns the keys of the facts that devices make true of their user: platforms, languages, time zones; ascending.
func deviceFacts(devices []Device) (keys []string) {
	for i := range devices {
		d := &devices[i]
		keys = append(keys, platformFactKey(d.Platform))
		for _, tag := range Languages(d.Locale) {
			keys = append(keys, languageFactKey(tag))
		}
		if d.TimeZone != "" {
			keys = append(keys, timeZoneFactKey(d.TimeZone))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// install writes the batch into the delta. What is taken away comes before what is given: a token or an ID that
// moves within the batch ends with its last owner. The names of facts that nobody has any more go last: who reads
// a user meanwhile and misses one finds another record, or none.
func (tx *userTx) install() {
	a := tx.a
	first := a.st.nextFact
	a.st.nextFact += uint32(len(tx.factKeys))
	a.st.nextOrdinal = tx.ordinals
	for i, key := range tx.factKeys {
		// One that the batch named and then took away again was never true of anyone.
		if fact := first + uint32(i); tx.counts[fact] > 0 {
			a.put(bucketFacts, []byte(key), key32(fact))
			a.put(bucketNames, key32(fact), []byte(key))
		}
	}
	a.d.setAll(tx.given, true)
	a.d.setAll(tx.taken, false)
	for _, u := range tx.order {
		tx.releaseTokens(u)
		if u.gone && u.existed {
			tx.erase(u)
		}
	}
	tx.writeAdded()
	for _, u := range tx.order {
		if !u.gone {
			tx.write(u)
		}
	}
	for _, fact := range sortedKeys(tx.counts) {
		if by := tx.counts[fact]; by != 0 {
			a.addCount(fact, by)
		}
	}
}

// factChange packs a change of a fact in the order in which the delta takes them.
func factChange(block uint16, fact uint32, low uint16) uint64 {
	return uint64(block)<<48 | uint64(fact)<<16 | uint64(low)
}

// changes collects what the batch makes true and untrue. Facts that are new get their numbers, those that follow from
// a user's record and devices among them; nothing is changed but what the batch has for itself.
func (tx *userTx) changes() {
	g := tx.a.s.geo
	for _, u := range tx.order {
		block, low := g.block(u.ordinal), g.low(u.ordinal)
		if !u.gone {
			tx.each(u, true, func(fact uint32) { tx.given = append(tx.given, factChange(block, fact, low)) })
			if !u.existed {
				tx.given = append(tx.given, factChange(block, existsFact, low))
			}
		}
		if u.existed {
			tx.each(u, false, func(fact uint32) { tx.taken = append(tx.taken, factChange(block, fact, low)) })
			if u.gone {
				tx.taken = append(tx.taken, factChange(block, existsFact, low))
			}
		}
	}
	tx.count(tx.given, 1)
	tx.count(tx.taken, -1)
}

// count puts changes in order and adds up what they do to the counts of facts.
func (tx *userTx) count(changes []uint64, by int64) {
	slices.Sort(changes)
	for n := 0; len(changes) > 0; changes = changes[n:] {
		of := changes[0] >> 16
		for n = 1; n < len(changes) && changes[n]>>16 == of; n++ {
		}
		if fact := uint32(of); fact != existsFact {
			tx.counts[fact] += by * int64(n)
		}
	}
}

// each calls f for the facts that the batch added to the user, or took away.
func (tx *userTx) each(u *editing, added bool, f func(fact uint32)) {
	from, to := &u.old, &u.now
	var fromDevices, toDevices []string
	if u.devsDirty || u.gone {
		fromDevices, toDevices = deviceFacts(u.oldDevs), deviceFacts(u.devs)
	}
	was, is := u.existed, !u.gone
	if u.gone {
		to, toDevices = new(userRecord), nil
	}
	fact := func(key []byte) { f(tx.ensureFact(key)) }
	if !added {
		from, to, fromDevices, toDevices, was, is = to, from, toDevices, fromDevices, is, was
		fact = func(key []byte) {
			n, known := tx.fact(key)
			if !known {
				must(&FormatError{What: "user", Detail: fmt.Sprintf("a fact %q that is not there", key)})
			}
			f(n)
		}
	}
	if is && !was {
		fact(appendDayFact(tx.key[:0], factRegistered, to.registeredDay()))
	}
	if to.seen != 0 && to.seen != from.seen {
		fact(appendDayFact(tx.key[:0], factSeen, to.seen-1))
	}
	for _, at := range to.attrs {
		var before slotFact
		i, had := from.attr(at.slot)
		if had {
			before = from.attrs[i]
		} else {
			fact(appendHasFact(tx.key[:0], at.slot))
		}
		switch {
		case at == before:
		case at.typ == TextType:
			f(at.fact)
		default: // a slot that has values keeps its type
			for bits := numberBits(at.number) &^ numberBits(before.number); bits != 0; bits &= bits - 1 {
				fact(appendBitFact(tx.key[:0], at.slot, uint8(mathbits.TrailingZeros64(bits))))
			}
		}
	}
	for _, of := range [][2][]uint32{{to.tags, from.tags}, {to.outs, from.outs}} {
		for _, t := range of[0] {
			if _, has := slices.BinarySearch(of[1], t); !has {
				f(t)
			}
		}
	}
	for _, key := range toDevices {
		if _, has := slices.BinarySearch(fromDevices, key); !has {
			fact([]byte(key))
		}
	}
}

// releaseTokens gives back the tokens that the user had and has no more.
func (tx *userTx) releaseTokens(u *editing) {
	for _, d := range u.oldDevs {
		h := HashToken(d.Platform, d.Token)
		if u.gone || indexDevice(u.devs, h) < 0 {
			if b := tx.a.v.token(h); b != nil && be32(b) == u.ordinal {
				tx.a.remove(bucketTokens, h[:])
			}
		}
	}
}

// erase removes what is left of a user who is gone.
func (tx *userTx) erase(u *editing) {
	a, g := tx.a, tx.a.s.geo
	block, low := g.block(u.ordinal), g.low(u.ordinal)
	a.d.putUser(block, low, nil)
	if len(u.oldDevs) > 0 {
		a.d.putDevices(block, low, nil)
	}
	a.d.putID(hashID(u.old.id), u.ordinal, true)
	a.st.users--
	var all []uint64
	ordinal := u.ordinal
	a.tell(func(o Observer) { o.Unregistered(ordinal, all) }) // in front of the ends that it brings about
	for {
		waiting, _ := a.v.pendingOf(block, low, 0, 1000)
		for _, seq := range waiting {
			a.d.updatePending(block, seq, func(b *bits) { b.remove(low) })
			a.lessPending(seq, 1, func(p *Progress) *int64 { return &p.Gone })
		}
		all = append(all, waiting...)
		if len(waiting) < 1000 {
			break
		}
	}
	for _, kind := range [...]byte{kindOpener, kindAsleep} { // who has opened a message is not known any more; how many have is
		for {
			sets, _ := a.v.messagesOf(kind, block, low, 0, 1000)
			for _, of := range sets {
				a.d.update(kind, block, of, func(b *bits) { b.remove(low) })
			}
			if len(sets) < 1000 {
				break
			}
		}
	}
}

// writeAdded writes those who are new. Their records lie together in memory, for they are seldom changed before
// the delta is folded.
func (tx *userTx) writeAdded() {
	g := tx.a.s.geo
	var ends []int
	tx.raw = tx.raw[:0]
	added := tx.added[:0] // but for those who are gone again; nobody asks for them by ordinal any more
	for _, u := range tx.added {
		if !u.gone {
			tx.raw = u.now.append(tx.raw)
			ends, added = append(ends, len(tx.raw)), append(added, u)
		}
	}
	raw, from := bytes.Clone(tx.raw), 0
	for len(added) > 0 {
		block := g.block(added[0].ordinal)
		n := 1
		for n < len(added) && g.block(added[n].ordinal) == block {
			n++
		}
		tx.a.d.addUsers(block, n, func(i int) (low uint16, record []byte, id idNote) {
			u, first := added[i], from
			from = ends[i]
			return g.low(u.ordinal), raw[first:from:from], idNote{hash: u.hash, ordinal: u.ordinal}
		})
		tx.a.st.users += uint64(n)
		added, ends = added[n:], ends[n:]
	}
}

func (tx *userTx) write(u *editing) {
	a, g := tx.a, tx.a.s.geo
	block, low := g.block(u.ordinal), g.low(u.ordinal)
	if u.existed && u.changed {
		tx.raw = u.now.append(tx.raw[:0])
		a.d.putUser(block, low, bytes.Clone(tx.raw))
	}
	if !u.devsDirty {
		return
	}
	a.d.putDevices(block, low, encodeDevices(u.devs))
	for i := range u.devs {
		h := HashToken(u.devs[i].Platform, u.devs[i].Token)
		a.put(bucketTokens, h[:], key32(u.ordinal))
	}
}
