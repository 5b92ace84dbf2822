package store

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
)

// TaskRetention is how long a task and its statistics are kept after its end,
// KeyRetention how long an idempotency key is remembered.
const (
	TaskRetention = 30 * 24 * time.Hour
	KeyRetention  = 7 * 24 * time.Hour
)

// Task is what stays of a push until it is forgotten.
type Task struct {
	Seq       uint64
	Random    uint64
	From, Key string
	To        *Expr
	Accepted  int64 // milliseconds since 1970
	Expires   int64
	Platforms []string
	Plan      uint64 // of which it is a part; 0: of none
	Part      string // which part
	Category  string
	Always    bool            // phones are notified of who has the message, too
	Kept      bool            // the audience is, as long as the task
	blocks    *roaring.Bitmap // the blocks that have pending users at the start
}

// MessageID returns the ID of a message: 16 hexadecimal digits of its sequence and 16 of its random number.
func MessageID(seq, random uint64) string {
	b := binary.BigEndian.AppendUint64(key64(seq), random)
	return hex.EncodeToString(b)
}

// ParseMessageID takes an ID apart.
func ParseMessageID(id string) (seq, random uint64, ok bool) {
	if len(id) != 32 {
		return 0, 0, false
	}
	b, err := hex.DecodeString(id)
	if err != nil {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), true
}

// retained says whether the message waits for those who are away.
func (t *Task) retained() bool { return t.Expires > t.Accepted }

func (t *Task) encode() []byte {
	var w writer
	w.u64(t.Random)
	w.str(t.From)
	w.str(t.Key)
	t.To.encode(&w)
	w.varint(t.Accepted)
	w.varint(t.Expires)
	w.uvarint(uint64(len(t.Platforms)))
	for _, p := range t.Platforms {
		w.str(p)
	}
	w.uvarint(t.Plan)
	w.str(t.Part)
	w.str(t.Category)
	w.bool(t.Always)
	w.bool(t.Kept)
	w.bytes(bitmapBytes(t.blocks))
	return w.b
}

func decodeTask(seq uint64, b []byte) (*Task, error) {
	r := reader{b: b}
	t := &Task{Seq: seq, Random: r.u64(), From: r.str(), Key: r.str(), To: decodeExpr(&r)}
	t.Accepted = r.varint()
	t.Expires = r.varint()
	for range r.count(1) {
		t.Platforms = append(t.Platforms, r.str())
	}
	t.Plan, t.Part, t.Category = r.uvarint(), r.str(), r.str()
	t.Always = r.bool()
	t.Kept = r.bool()
	t.blocks = decodeBits(&r)
	return t, r.done()
}

// Progress is how far a task has come. Total is always the sum of Delivered,
// Failed, Pending, Expired, Withdrawn and Gone.
type Progress struct {
	Total     int64 // users of the frozen audience
	Delivered int64 // have it: the transport said so, or the client acknowledged it
	Failed    int64 // lifetime 0: the transport failed
	Pending   int64 // still wait
	Expired   int64 // did not come in time
	Withdrawn int64 // waited when it was withdrawn
	Gone      int64 // unregistered while waiting
	OptedOut  int64 // not of Total: left out, because they want no messages of the category
	Capped    int64 // not of Total: left out, because they have had as many of the category as they may have
	Opened    int64 // have opened it; not part of the sum
	Ended     int64 // milliseconds since 1970; 0 before the end
	Reason    Reason
	sampleAt  int64 // before which no sample is taken
}

func (p *Progress) fields() []*int64 {
	return []*int64{&p.Total, &p.Delivered, &p.Failed, &p.Pending, &p.Expired, &p.Withdrawn, &p.Gone, &p.OptedOut, &p.Capped, &p.Opened, &p.Ended, &p.sampleAt}
}

func (p *Progress) encode() []byte {
	w := writer{b: make([]byte, 0, 40)}
	for _, f := range p.fields() {
		w.uvarint(uint64(*f))
	}
	w.byte(byte(p.Reason))
	return w.b
}

func decodeProgress(b []byte) (p Progress, err error) {
	r := reader{b: b}
	for _, f := range p.fields() {
		*f = int64(r.uvarint())
	}
	p.Reason = Reason(r.byte())
	return p, r.done()
}

// Message is what is delivered, and what a phone shows; kept until the task ends.
type Message struct {
	Seq      uint64
	Random   uint64
	From     string
	Body     []byte
	Note     []byte
	Fill     byte
	Accepted int64
	Expires  int64
}

func (m *Message) encode() []byte {
	w := writer{b: make([]byte, 0, 64+len(m.From)+len(m.Body)+len(m.Note))}
	w.u64(m.Random)
	w.str(m.From)
	w.varint(m.Accepted)
	w.varint(m.Expires)
	w.bytes(m.Body)
	w.bytes(m.Note)
	w.byte(m.Fill)
	return w.b
}

// decodeMessage copies: what it returns outlives the transaction.
func decodeMessage(seq uint64, b []byte) (*Message, error) {
	r := reader{b: append([]byte(nil), b...)}
	m := &Message{Seq: seq, Random: r.u64(), From: r.str(), Accepted: r.varint(), Expires: r.varint(), Body: r.bytes(), Note: r.bytes(), Fill: r.byte()}
	return m, r.done()
}

// keyRecord is what a key remembers.
type keyRecord struct {
	seq  uint64
	at   int64
	hash [16]byte
}

func (k *keyRecord) encode() []byte {
	var w writer
	w.uvarint(k.seq)
	w.varint(k.at)
	w.b = append(w.b, k.hash[:]...)
	return w.b
}

func decodeKey(b []byte) (k keyRecord, err error) {
	r := reader{b: b}
	k.seq = r.uvarint()
	k.at = r.varint()
	if len(r.b) != len(k.hash) {
		r.fail("key hash")
	} else {
		copy(k.hash[:], r.b)
		r.b = nil
	}
	return k, r.done()
}
