package store

import (
	"bytes"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
)

// applyVersion is the version of apply: what a command means. A record has that of the newest of its commands, and one of a
// higher version is refused, because applying it by other rules would drift.
const applyVersion = 2

// MaxCommand is the most bytes of one encoded command, maxRecord about the
// most of a journal record, which is a group of commands.
const (
	MaxCommand = 512 << 10
	maxRecord  = 1 << 20
)

// Command is one change of the state. The state is what the commands make of it, in
// their order, and nothing else; so a command carries everything that is
// random or of the moment.
type Command interface {
	kind() commandKind
	encode(*writer)
	decode(*reader)
}

type commandKind byte

const (
	kindBatch      commandKind = 1
	kindSetNames   commandKind = 2
	kindSetLimits  commandKind = 3
	kindPush       commandKind = 4
	kindReceived   commandKind = 5
	kindCaughtUp   commandKind = 6
	kindOnlineDone commandKind = 7
	kindEnd        commandKind = 8
	kindForget     commandKind = 9
	kindCheckpoint commandKind = 10
	kindPlanStep   commandKind = 13
	kindDelivered  commandKind = 14
	kindAcked      commandKind = 15
	kindOnlinePart commandKind = 16
	kindSetTypes   commandKind = 12
	kindSave       commandKind = 20
	kindOpened     commandKind = 11
)

// version is the first version of apply that knows the kind.
func (k commandKind) version() byte {
	switch k {
	case kindDelivered, kindAcked, kindOnlinePart:
		return 2
	}
	return 1
}

// Versions returns the newest versions of apply, and of the files, that this library knows.
func Versions() (apply, format int) { return applyVersion, blocksVersion }

func newCommand(k commandKind) Command {
	switch k {
	case kindBatch:
		return new(Batch)
	case kindSetNames:
		return new(SetNames)
	case kindSetLimits:
		return new(SetLimits)
	case kindPush:
		return new(Push)
	case kindReceived:
		return new(Received)
	case kindCaughtUp:
		return new(CaughtUp)
	case kindDelivered:
		return new(Delivered)
	case kindAcked:
		return new(Acked)
	case kindOnlineDone:
		return new(OnlineDone)
	case kindOnlinePart:
		return new(OnlinePart)
	case kindEnd:
		return new(End)
	case kindForget:
		return new(Forget)
	case kindCheckpoint:
		return new(Checkpoint)
	case kindPlanStep:
		return new(PlanStep)
	case kindSetTypes:
		return new(SetTypes)
	case kindSave:
		return new(Save)
	case kindOpened:
		return new(Opened)
	}
	return nil
}

func encodeCommand(c Command) []byte {
	w := writer{b: make([]byte, 0, 128)}
	w.byte(byte(c.kind()))
	c.encode(&w)
	return w.b
}

func decodeCommand(b []byte) (Command, error) {
	r := reader{b: b}
	c := newCommand(commandKind(r.byte()))
	if c == nil {
		return nil, &FormatError{What: "command", Detail: "unknown kind"}
	}
	c.decode(&r)
	return c, r.done()
}

// MaxText is the most bytes of what becomes part of a key of blocks.db: a user ID, a tag, a value, a
// platform, a time zone, the name of an audience. bbolt takes keys of 32 KiB; one that it refused would end the fold for good.
const MaxText = 1 << 10

func keyText(r *reader) string {
	s := r.str()
	if len(s) > MaxText {
		r.fail("text too long for a key")
	}
	return s
}

// OpKind says what an [UserOp] does.
type OpKind byte

// The operations on one user.
const (
	OpRegister      OpKind = 1 // makes the user known
	OpUnregister    OpKind = 2 // removes every trace of the user
	OpPut           OpKind = 3 // registers if unknown, then adds Tags, sets Attrs, registers Devices
	OpAddTags       OpKind = 4
	OpRemoveTags    OpKind = 5
	OpClearTags     OpKind = 6
	OpSetAttrs      OpKind = 7
	OpRemoveAttrs   OpKind = 8 // the names in Attrs
	OpPutDevices    OpKind = 9
	OpRemoveDevices OpKind = 10 // platform and token of each in Devices
	// OpDropDevices removes dead tokens: each of Devices, unless it was registered
	// again at or after its Registered time, which here is a bound.
	OpDropDevices OpKind = 11
	OpOptOut      OpKind = 21 // of the categories in Tags
	OpOptIn       OpKind = 22
	OpSeen        OpKind = 20 // has connected today, by the command's stamp; nothing for a user who is not known
)

// AttrValue is a named value.
type AttrValue struct{ Name, Value string }

// Device is a device of a user.
type Device struct {
	Platform, Token, Topic, Locale, TimeZone string
	Registered                               int64 // milliseconds since 1970; set by apply
}

// UserOp is one operation on one user. Which fields count depends on Kind.
type UserOp struct {
	Kind    OpKind
	ID      string
	Tags    []string
	Attrs   []AttrValue
	Devices []Device
}

// Batch is operations on users, applied in order, all or none.
type Batch struct {
	Ops []UserOp
	// Import marks a step of a long import, of which a group takes only one,
	// so that other callers are not starved.
	Import bool
}

func (*Batch) kind() commandKind { return kindBatch }

func (c *Batch) encode(w *writer) {
	w.bool(c.Import)
	w.uvarint(uint64(len(c.Ops)))
	for i := range c.Ops {
		o := &c.Ops[i]
		w.byte(byte(o.Kind))
		w.str(o.ID)
		w.uvarint(uint64(len(o.Tags)))
		for _, t := range o.Tags {
			w.str(t)
		}
		w.uvarint(uint64(len(o.Attrs)))
		for _, a := range o.Attrs {
			w.str(a.Name)
			w.str(a.Value)
		}
		w.uvarint(uint64(len(o.Devices)))
		for i := range o.Devices {
			encodeDevice(w, &o.Devices[i])
		}
	}
}

// fitsKeys says whether all texts fit where decode takes them.
func (c *Batch) fitsKeys() bool {
	for i := range c.Ops {
		o := &c.Ops[i]
		if len(o.ID) > MaxText {
			return false
		}
		for _, t := range o.Tags {
			if len(t) > MaxText {
				return false
			}
		}
		for _, a := range o.Attrs {
			if len(a.Name) > MaxText || len(a.Value) > MaxText {
				return false
			}
		}
		for k := range o.Devices {
			if len(o.Devices[k].Platform) > MaxText || len(o.Devices[k].TimeZone) > MaxText {
				return false
			}
		}
	}
	return true
}

func (c *Batch) decode(r *reader) {
	c.Import = r.bool()
	c.Ops = make([]UserOp, r.count(5))
	for i := range c.Ops {
		o := &c.Ops[i]
		o.Kind = OpKind(r.byte())
		o.ID = keyText(r)
		if n := r.count(1); n > 0 {
			o.Tags = make([]string, n)
			for i := range o.Tags {
				o.Tags[i] = keyText(r)
			}
		}
		if n := r.count(2); n > 0 {
			o.Attrs = make([]AttrValue, n)
			for i := range o.Attrs {
				o.Attrs[i] = AttrValue{keyText(r), keyText(r)}
			}
		}
		if n := r.count(6); n > 0 {
			o.Devices = make([]Device, n)
			for i := range o.Devices {
				o.Devices[i] = decodeDevice(r)
			}
		}
		if r.err != nil {
			return
		}
	}
}

func encodeDevice(w *writer, d *Device) {
	w.str(d.Platform)
	w.str(d.Token)
	w.str(d.Topic)
	w.str(d.Locale)
	w.str(d.TimeZone)
	w.varint(d.Registered)
}

func decodeDevice(r *reader) Device {
	return Device{keyText(r), r.str(), r.str(), r.str(), keyText(r), r.varint()}
}

// SetNames gives attribute slots names; an empty name takes the slot's name
// away, and its values stay. Slots that are not listed keep theirs.
type SetNames struct{ Names []SlotName }

// SlotName is the name of a slot.
type SlotName struct {
	Slot uint8
	Name string
}

func (*SetNames) kind() commandKind { return kindSetNames }

func (c *SetNames) encode(w *writer) {
	w.uvarint(uint64(len(c.Names)))
	for _, n := range c.Names {
		w.byte(n.Slot)
		w.str(n.Name)
	}
}

func (c *SetNames) decode(r *reader) {
	c.Names = make([]SlotName, r.count(2))
	for i := range c.Names {
		c.Names[i] = SlotName{r.byte(), r.str()}
	}
}

// SetTypes says what the values of attribute slots are. Slots that are not listed keep their types. A slot of
// which anybody has a value takes no other type: the command is refused with a [TypeInUseError].
type SetTypes struct{ Types []SlotType }

// SlotType is the type of a slot.
type SlotType struct {
	Slot uint8
	Type AttrType
}

func (*SetTypes) kind() commandKind { return kindSetTypes }

func (c *SetTypes) encode(w *writer) {
	w.uvarint(uint64(len(c.Types)))
	for _, t := range c.Types {
		w.byte(t.Slot)
		w.byte(byte(t.Type))
	}
}

func (c *SetTypes) decode(r *reader) {
	c.Types = make([]SlotType, r.count(2))
	for i := range c.Types {
		if c.Types[i] = (SlotType{r.byte(), AttrType(r.byte())}); !c.Types[i].Type.Known() {
			r.fail("type of an attribute")
		}
	}
}

// Save keeps an audience under a name, in place of one that it had; nil takes the name away.
type Save struct {
	Name string
	To   *Expr
}

func (*Save) kind() commandKind { return kindSave }

func (c *Save) encode(w *writer) {
	w.str(c.Name)
	w.bool(c.To != nil)
	if c.To != nil {
		c.To.encode(w)
	}
}

func (c *Save) decode(r *reader) {
	if c.Name = keyText(r); c.Name == "" {
		r.fail("audience without a name")
	}
	if r.bool() {
		if c.To = decodeExpr(r); c.To == nil {
			r.fail("audience")
		}
	}
}

// Limits are the limits that apply consults; being state, they change by command only.
type Limits struct {
	TagsPerUser    int
	DevicesPerUser int
}

// SetLimits replaces the limits. What is already beyond a lowered one stays.
type SetLimits struct{ Limits Limits }

func (*SetLimits) kind() commandKind { return kindSetLimits }

func (c *SetLimits) encode(w *writer) {
	w.uvarint(uint64(c.Limits.TagsPerUser))
	w.uvarint(uint64(c.Limits.DevicesPerUser))
}

func (c *SetLimits) decode(r *reader) {
	c.Limits.TagsPerUser = int(r.uvarint())
	c.Limits.DevicesPerUser = int(r.uvarint())
}

// Push accepts a message for an audience. A Lifetime of 0 freezes nothing in
// the state: the audience goes to the observer alone.
type Push struct {
	Random    uint64 // the unguessable half of the message's ID
	From, Key string
	Hash      [16]byte // of the content, to tell a retry from a key used again
	Body      []byte
	To        *Expr
	Lifetime  int64    // milliseconds
	Note      []byte   // the phone notification, opaque here; empty for none
	Platforms []string // sorted; where the notification is to go
	Always    bool     // it goes to all of the audience, whoever has the message
	Keep      bool     // who is in the audience is kept as long as the task
	// Category is what kind of message it is, at most 255 bytes. PerDay and PerWeek are how many of the category a user may have in a day and
	// in a week; 0: any number.
	Category        string
	Fill            byte // how placeholders are filled, opaque here
	PerDay, PerWeek byte
}

func (*Push) kind() commandKind { return kindPush }

func (c *Push) encode(w *writer) {
	w.u64(c.Random)
	w.str(c.From)
	w.str(c.Key)
	w.b = append(w.b, c.Hash[:]...)
	w.bytes(c.Body)
	c.To.encode(w)
	w.uvarint(uint64(c.Lifetime))
	w.bytes(c.Note)
	w.uvarint(uint64(len(c.Platforms)))
	for _, p := range c.Platforms {
		w.str(p)
	}
	w.bool(c.Always)
	w.bool(c.Keep)
	w.byte(c.Fill)
	w.str(c.Category)
	w.byte(c.PerDay)
	w.byte(c.PerWeek)
}

func (c *Push) decode(r *reader) {
	c.Random = r.u64()
	c.From = r.str()
	c.Key = r.str()
	if len(r.b) < len(c.Hash) {
		r.fail("ends early")
		return
	}
	r.b = r.b[copy(c.Hash[:], r.b):]
	c.Body = r.bytes()
	if c.To = decodeExpr(r); c.To == nil {
		r.fail("audience")
		return
	}
	c.Lifetime = int64(r.uvarint())
	c.Note = r.bytes()
	c.Platforms = make([]string, r.count(1))
	for i := range c.Platforms {
		if c.Platforms[i] = r.str(); len(c.Platforms[i]) > 255 { // its length is a byte of a key
			r.fail("platform")
		}
	}
	c.Always = r.bool()
	c.Keep = r.bool()
	c.Fill = r.byte()
	if c.Category = r.str(); len(c.Category) > 255 { // its length is a byte of a key
		r.fail("category")
	}
	c.PerDay, c.PerWeek = r.byte(), r.byte()
}

// Received says that users of a block have acknowledged the message.
type Received struct {
	Seq   uint64
	Block uint16
	Bits  *roaring.Bitmap // low halves of ordinals
}

func (*Received) kind() commandKind { return kindReceived }

func (c *Received) encode(w *writer) {
	w.uvarint(c.Seq)
	w.uvarint(uint64(c.Block))
	w.bytes(bitmapBytes(c.Bits))
}

func (c *Received) decode(r *reader) {
	c.Seq = r.uvarint()
	c.Block = uint16(r.uvarint())
	c.Bits = decodeBits(r)
}

// Delivered says that the lane of a block has delivered the message to users: to those of their connections that are to the same node.
type Delivered struct {
	Seq   uint64
	Block uint16
	Bits  *roaring.Bitmap // low halves of ordinals
}

func (*Delivered) kind() commandKind { return kindDelivered }

// The set is packed where that is shorter: a push to a million connected users of ten makes some two of these for each user's block and node.
func (c *Delivered) encode(w *writer) {
	w.uvarint(c.Seq)
	w.uvarint(uint64(c.Block))
	w.bytes(packedBytes(bitmapBytes(c.Bits)))
}

func (c *Delivered) decode(r *reader) {
	c.Seq = r.uvarint()
	c.Block = uint16(r.uvarint())
	c.Bits = decodePacked(r)
}

// Opened says that users of a block have opened a message: each counts once, whether the task has
// ended or not.
type Opened struct {
	Seq   uint64
	Block uint16
	Bits  *roaring.Bitmap // low halves of ordinals
}

func (*Opened) kind() commandKind { return kindOpened }

func (c *Opened) encode(w *writer) { (*Received)(c).encode(w) }
func (c *Opened) decode(r *reader) { (*Received)(c).decode(r) }

// CaughtUp says that several messages were delivered to one user who had been away.
type CaughtUp struct {
	Ordinal uint32
	Seqs    []uint64 // ascending
}

func (*CaughtUp) kind() commandKind { return kindCaughtUp }

func (c *CaughtUp) encode(w *writer) {
	w.uvarint(uint64(c.Ordinal))
	w.uvarint(uint64(len(c.Seqs)))
	last := uint64(0)
	for _, s := range c.Seqs {
		w.uvarint(s - last)
		last = s
	}
}

func (c *CaughtUp) decode(r *reader) {
	c.Ordinal = uint32(r.uvarint())
	c.Seqs = make([]uint64, r.count(1))
	last := uint64(0)
	for i := range c.Seqs {
		last += r.uvarint()
		c.Seqs[i] = last
	}
}

// Acked says that one user has acknowledged several messages.
type Acked struct {
	Ordinal uint32
	Seqs    []uint64 // ascending
}

func (*Acked) kind() commandKind { return kindAcked }

func (c *Acked) encode(w *writer) { (*CaughtUp)(c).encode(w) }
func (c *Acked) decode(r *reader) { (*CaughtUp)(c).decode(r) }

// OnlinePart reports what came of a push with lifetime 0 on one of several nodes. The task goes on.
type OnlinePart struct{ Seq, Delivered, Failed uint64 }

func (*OnlinePart) kind() commandKind { return kindOnlinePart }

func (c *OnlinePart) encode(w *writer) { (*OnlineDone)(c).encode(w) }
func (c *OnlinePart) decode(r *reader) { (*OnlineDone)(c).decode(r) }

// OnlineDone reports the outcome of a push with lifetime 0, beside that of parts; it ends the task.
type OnlineDone struct{ Seq, Delivered, Failed uint64 }

func (*OnlineDone) kind() commandKind { return kindOnlineDone }

func (c *OnlineDone) encode(w *writer) {
	w.uvarint(c.Seq)
	w.uvarint(c.Delivered)
	w.uvarint(c.Failed)
}

func (c *OnlineDone) decode(r *reader) {
	c.Seq, c.Delivered, c.Failed = r.uvarint(), r.uvarint(), r.uvarint()
}

// Reason is why a task ended.
type Reason byte

// The reasons. Zero is a task that has not ended.
const (
	Completed Reason = 1 // everyone has it, or is gone
	Expired   Reason = 2
	Withdrawn Reason = 3
)

// End ends a task before everyone has the message: what is pending is dropped. With
// reason Expired it does nothing before the message's expiry.
type End struct {
	Seq    uint64
	Reason Reason
	// Note, with reason Withdrawn, is what phones are told that were notified: all of those on the platforms Notifying, where a batch may be under way, and else
	// those that a checkpoint knows of. Empty: they are told nothing.
	Note      []byte
	Notifying []string
}

func (*End) kind() commandKind { return kindEnd }

func (c *End) encode(w *writer) {
	w.uvarint(c.Seq)
	w.byte(byte(c.Reason))
	w.bytes(c.Note)
	encodeTexts(w, c.Notifying)
}

func (c *End) decode(r *reader) {
	c.Seq = r.uvarint()
	c.Reason = Reason(r.byte())
	c.Note = r.bytes()
	c.Notifying = decodeTexts(r)
}

// Forget drops what is due to be dropped: the records of tasks that ended long
// ago, and idempotency keys past their time. Due are keys of the due bucket.
type Forget struct{ Due [][]byte }

func (*Forget) kind() commandKind { return kindForget }

func (c *Forget) encode(w *writer) {
	w.uvarint(uint64(len(c.Due)))
	for _, d := range c.Due {
		w.bytes(d)
	}
}

func (c *Forget) decode(r *reader) {
	c.Due = make([][]byte, r.count(1))
	for i := range c.Due {
		c.Due[i] = r.bytes()
	}
}

// PhoneRetry is a notification that waits for another try.
type PhoneRetry struct {
	Ordinal uint32
	Token   [16]byte // as hashed by [HashToken]
	Attempt uint32   // tries so far
	Due     int64    // milliseconds since 1970
	Asleep  bool     // it waits for the end of quiet hours, not for the service
}

// Checkpoint records how far a task has come on a platform, after each batch.
type Checkpoint struct {
	Seq      uint64
	Platform string
	Next     uint64 // every ordinal below has been dealt with, but for the retries
	Done     bool
	Stats    PhoneStats // what the batch adds
	Retry    []PhoneRetry
	Settled  []PhoneRetry // retries that are over; only Ordinal and Token are looked at
	Recall   bool         // of telling phones that the message was withdrawn
	// Asleep are users below Next who are passed over because of quiet hours, as was found at a time, in milliseconds since 1970. They are passed over until
	// they are in Awake of another checkpoint.
	Asleep, Awake []BlockSet
	At            int64
}

func (*Checkpoint) kind() commandKind { return kindCheckpoint }

func (c *Checkpoint) encode(w *writer) {
	w.uvarint(c.Seq)
	w.str(c.Platform)
	w.uvarint(c.Next)
	w.bool(c.Done)
	w.bool(c.Recall)
	c.Stats.encode(w)
	for _, rs := range [][]PhoneRetry{c.Retry, c.Settled} {
		w.uvarint(uint64(len(rs)))
		for _, p := range rs {
			w.uvarint(uint64(p.Ordinal))
			w.b = append(w.b, p.Token[:]...)
			w.uvarint(uint64(p.Attempt))
			w.varint(p.Due)
			w.bool(p.Asleep)
		}
	}
	for _, sets := range [][]BlockSet{c.Asleep, c.Awake} {
		w.uvarint(uint64(len(sets)))
		for _, s := range sets {
			w.uvarint(uint64(s.Block))
			w.bytes(bitmapBytes(s.Low))
		}
	}
	w.varint(c.At)
}

func encodeTexts(w *writer, list []string) {
	w.uvarint(uint64(len(list)))
	for _, s := range list {
		w.str(s)
	}
}

func decodeTexts(r *reader) (list []string) {
	for range r.count(1) {
		list = append(list, r.str())
	}
	return list
}

func (c *Checkpoint) decode(r *reader) {
	c.Seq = r.uvarint()
	c.Platform = r.str()
	c.Next = r.uvarint()
	c.Done = r.bool()
	c.Recall = r.bool()
	c.Stats.decode(r)
	for _, rs := range []*[]PhoneRetry{&c.Retry, &c.Settled} {
		*rs = make([]PhoneRetry, r.count(20))
		for i := range *rs {
			p := &(*rs)[i]
			p.Ordinal = uint32(r.uvarint())
			if len(r.b) < len(p.Token) {
				r.fail("ends early")
				return
			}
			r.b = r.b[copy(p.Token[:], r.b):]
			p.Attempt = uint32(r.uvarint())
			p.Due = r.varint()
			p.Asleep = r.bool()
		}
	}
	for _, sets := range []*[]BlockSet{&c.Asleep, &c.Awake} {
		for range r.count(2) {
			*sets = append(*sets, BlockSet{uint16(r.uvarint()), decodeBits(r)})
		}
	}
	c.At = r.varint()
}

func bitmapBytes(b *roaring.Bitmap) []byte {
	p := bytes.NewBuffer(make([]byte, 0, b.GetSerializedSizeInBytes()))
	if _, err := b.WriteTo(p); err != nil {
		panic(err) // writing to memory does not fail
	}
	return p.Bytes()
}

// decodeBits reads a bitmap of low halves, checked before anything uses it.
func decodeBits(r *reader) *roaring.Bitmap {
	p := r.bytes()
	b := roaring.New()
	if r.err != nil {
		return b
	}
	if err := readBitmap(b, p); err != nil {
		r.fail("bitmap")
		return roaring.New()
	}
	return b
}

// decodePacked is decodeBits of a set that is packed where that is shorter: it has no other form.
func decodePacked(r *reader) (b *roaring.Bitmap) {
	p := r.bytes()
	b = roaring.New()
	if r.err != nil {
		return b
	}
	if readPending(b, p) != nil || !isPacked(p) && pack(b, packedMost(p)) != nil {
		r.fail("packed set")
		return roaring.New()
	}
	return b
}

// readBitmap reads b from a copy of p, which is all one set of the format, and validates it.
func readBitmap(b *roaring.Bitmap, p []byte) (err error) {
	if err := validateForm(p); err != nil {
		return err
	}
	defer func() { // the format's reader trusts some of what it reads
		if v := recover(); v != nil {
			err = &FormatError{What: "bitmap", Detail: fmt.Sprint(v)}
		}
	}()
	n, err := b.ReadFrom(bytes.NewReader(p))
	if err != nil {
		return err
	}
	if n != int64(len(p)) {
		return &FormatError{What: "bitmap", Detail: "bytes left over"}
	}
	if b.HasRunCompression() {
		return nil // its form says it all, and Validate takes the square of its runs
	}
	return b.Validate()
}
