package store

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Plan is a push that is made later, again, or bit by bit. What is to happen when is its owner's to know: Spec and State are
// opaque here. A plan moves by steps, each of which is one command: whatever a step does, it does with the plan's new state or not at all.
type Plan struct {
	ID      uint64
	Version uint64 // how many steps it has made
	Key     string
	Spec    []byte
	State   []byte
	Due     int64 // when its next step is to be made, in milliseconds since 1970; 0: not by itself
	Held    int64 // users who are frozen and whose push is still to come
	Gone    int64 // users who were frozen and let go: they are unregistered, or the plan ended before
	Created int64
	Ended   int64 // 0 before the end

	hash [16]byte
}

// PlanID returns the ID of a plan as callers know it: a word and 16 hexadecimal digits.
func PlanID(id uint64) string { return fmt.Sprintf("%s%016x", planPrefix, id) }

// planPrefix tells the IDs of plans from those of tasks.
const planPrefix = "plan-"

// ParsePlanID takes an ID apart.
func ParsePlanID(id string) (n uint64, ok bool) {
	digits, is := strings.CutPrefix(id, planPrefix)
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, is && err == nil && PlanID(n) == id
}

func (p *Plan) encode() []byte {
	var w writer
	w.uvarint(p.Version)
	w.str(p.Key)
	w.b = append(w.b, p.hash[:]...)
	w.bytes(p.Spec)
	w.bytes(p.State)
	for _, n := range []int64{p.Due, p.Held, p.Gone, p.Created, p.Ended} {
		w.uvarint(uint64(n))
	}
	return w.b
}

// decodePlan copies: what it returns outlives the transaction.
func decodePlan(id uint64, b []byte) (*Plan, error) {
	r := reader{b: append([]byte(nil), b...)}
	p := &Plan{ID: id, Version: r.uvarint(), Key: r.str()}
	if len(r.b) < len(p.hash) {
		r.fail("ends early")
		return nil, r.err
	}
	r.b = r.b[copy(p.hash[:], r.b):]
	p.Spec, p.State = r.bytes(), r.bytes()
	for _, n := range []*int64{&p.Due, &p.Held, &p.Gone, &p.Created, &p.Ended} {
		*n = int64(r.uvarint())
	}
	return p, r.done()
}

// runKey begins the keys of who is frozen for a run of a plan.
func runKey(plan uint64, run uint32) []byte { return binary.BigEndian.AppendUint32(key64(plan), run) }

func frozenKey(plan uint64, run uint32, block uint16) []byte {
	return binary.BigEndian.AppendUint16(runKey(plan, run), block)
}

// parseFrozenKey takes such a key apart.
func parseFrozenKey(key []byte) (plan uint64, run uint32, block uint16, ok bool) {
	if len(key) != 14 {
		return 0, 0, 0, false
	}
	return be64(key), be32(key[8:]), be16(key[12:]), true
}

func planTaskKey(plan, seq uint64) []byte { return binary.BigEndian.AppendUint64(key64(plan), seq) }

// PlanStep makes a plan, or moves it on. It holds at most one of Freeze and Push, so that one that is refused has changed nothing.
type PlanStep struct {
	ID      uint64   // 0: a new plan
	Key     string   // of a new plan; one that is known stands for the plan that has it
	Hash    [16]byte // of a new plan's content, to tell a retry from a key used again
	Version uint64   // of the plan as the caller knows it; another one is [ErrPlanChanged]
	Spec    []byte   // nil: as it was
	State   []byte
	Due     int64
	End     bool // the plan is over, and who is still frozen gets nothing

	Run    uint32 // of Thaw, Freeze and Take: who is frozen for which run; a plan may have several
	Thaw   bool   // who is still frozen is let go
	Freeze *Expr  // freezes who the run is for; who was frozen for it before is let go
	Push   *Push
	Part   string // names the push among those of the plan
	Take   bool   // the push is for those of its audience who are frozen, and takes them out
	Limit  uint64 // at most so many of them, from the lowest ordinal on; 0: all
	Among  *Expr  // only those who are in this, too; the task knows nothing of it. nil: all
}

// PlanResult is the result of a [PlanStep].
type PlanResult struct {
	ID, Version uint64
	Held        int64 // of all runs
	Push        PushResult
	Duplicate   bool // the key was known: this is the earlier plan
}

func (*PlanStep) kind() commandKind { return kindPlanStep }

// The bits of its flags, in the order in which encode has them.
const (
	planEnd = 1 << iota
	planSpec
	planFreeze
	planPush
	planTake
	planThaw
	planAmong
)

func (c *PlanStep) encode(w *writer) {
	w.uvarint(c.ID)
	w.str(c.Key)
	w.b = append(w.b, c.Hash[:]...)
	w.uvarint(c.Version)
	flags := byte(0)
	for bit, is := range []bool{c.End, c.Spec != nil, c.Freeze != nil, c.Push != nil, c.Take, c.Thaw, c.Among != nil} {
		if is {
			flags |= 1 << bit
		}
	}
	w.byte(flags)
	if c.Spec != nil {
		w.bytes(c.Spec)
	}
	w.bytes(c.State)
	w.uvarint(uint64(c.Due))
	w.uvarint(uint64(c.Run))
	if c.Freeze != nil {
		c.Freeze.encode(w)
	}
	if c.Push != nil {
		c.Push.encode(w)
		w.str(c.Part)
		w.uvarint(c.Limit)
	}
	if c.Among != nil {
		c.Among.encode(w)
	}
}

func (c *PlanStep) decode(r *reader) {
	c.ID, c.Key = r.uvarint(), r.str()
	if len(r.b) < len(c.Hash) {
		r.fail("ends early")
		return
	}
	r.b = r.b[copy(c.Hash[:], r.b):]
	c.Version = r.uvarint()
	flags := r.byte()
	c.End, c.Take, c.Thaw = flags&planEnd != 0, flags&planTake != 0, flags&planThaw != 0
	if flags&planSpec != 0 {
		if c.Spec = r.bytes(); c.Spec == nil {
			c.Spec = []byte{}
		}
	}
	c.State = r.bytes()
	c.Due = int64(r.uvarint())
	run := r.uvarint()
	if c.Run = uint32(run); uint64(c.Run) != run {
		r.fail("run of a plan")
	}
	if flags&planFreeze != 0 {
		if c.Freeze = decodeExpr(r); c.Freeze == nil {
			r.fail("audience")
			return
		}
	}
	if flags&planPush != 0 {
		c.Push = new(Push)
		c.Push.decode(r)
		c.Part, c.Limit = r.str(), r.uvarint()
	}
	if flags&planAmong != 0 {
		if c.Among = decodeExpr(r); c.Among == nil {
			r.fail("audience")
			return
		}
	}
	if c.Freeze != nil && c.Push != nil || c.Take && c.Push == nil || c.Among != nil && !c.Take || c.Due < 0 {
		r.fail("plan step")
	}
}

// planKeyRecord is what the key of a plan remembers: which one it is.
func planKeyRecord(id uint64) []byte { return key64(id) }
