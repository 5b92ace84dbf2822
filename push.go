package fanfare

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
)

// Message is what is pushed, and to whom.
type Message struct {
	// From is the sender's name, for the receiver; at most 255 bytes. May be empty.
	From string
	// Body is what the user receives; opaque, at most 12 KiB, or what [Limits] says. May be empty.
	Body []byte
	// To is the audience. It is frozen when the push is accepted: later changes
	// of tags or attributes do not change who gets the message.
	To Audience
	// Lifetime is how long the message waits for users who are away, at most
	// 7 days, or what [Limits] says, to the millisecond. 0 means those who are online now, and nobody else.
	Lifetime time.Duration
	// Notification is for the phones of those who are not connected after the
	// grace; see [Options].Grace. Nil: none. With lifetime 0 it is not sent.
	Notification *Notification
	// Fill says whether placeholders such as {{attr.city}} are filled. Default: they are not.
	Fill Fill
	// Category is what kind of message it is, such as "offers": for the caps of [Options], and for operators. At most 50 bytes; empty: none.
	Category string
	// Key makes a retry harmless: a push with the key of an earlier one of the
	// same sender, accepted in the last 7 days, returns that one's task. With other
	// content it is [ErrKeyReused]. At most 255 bytes; empty: none.
	Key string
}

// Notification is what a phone shows.
type Notification = transport.Content

// Push accepts a message. When it returns without an error the push is durable
// and its audience frozen; delivery goes on by itself, and after a crash at the next Open. The cost for
// the caller is one small durable write and the evaluation of the audience.
//
// It returns [ErrNoAudience] for the zero Audience, [ErrUnnamedAttribute] for an attribute
// that has no name, a [*ValueError] for a comparison that its type does not have, [ErrUnknownAudience], an [*UnresolvedError] for a placeholder that cannot be filled, [ErrKeyReused], a [*LimitError] for what is too large, and a [*NotificationError] for a
// notification that a phone transport would never take. An audience of nobody
// is no error: the task has a Total of 0 and is over.
func (p *Pusher) Push(ctx context.Context, m Message) (*Task, error) {
	if err := p.writable(); err != nil {
		return nil, err
	}
	c, err := p.command(&m)
	if err != nil {
		return nil, err
	}
	if err := p.checkFill(ctx, &m, Audience{c.To}); err != nil {
		return nil, err
	}
	r, err := p.store.Propose(ctx, c)
	if err != nil {
		return nil, err
	}
	res := r.(store.PushResult)
	// Whatever else happens, from then on the task or its key may be there to be forgotten.
	if m.Key != "" {
		p.dueSoon(res.Accepted + store.KeyRetention.Milliseconds())
	} else {
		p.dueSoon(res.Accepted + store.TaskRetention.Milliseconds())
	}
	return &Task{
		ID: store.MessageID(res.Seq, res.Random), Duplicate: res.Duplicate, p: p, seq: res.Seq,
		info: TaskInfo{
			From: m.From, To: Audience{c.To}, Key: m.Key, Category: m.Category,
			Accepted: time.UnixMilli(res.Accepted), Expires: time.UnixMilli(res.Expires),
		},
	}, nil
}

// command checks a message and stamps it with everything that is random.
func (p *Pusher) command(m *Message) (*store.Push, error) {
	l := &p.o.Limits
	if err := m.To.validate(*l); err != nil {
		return nil, err
	}
	to, err := p.expand(m.To)
	if err != nil {
		return nil, err
	}
	if err := validateText("sender", m.From, 0, maxIDBytes); err != nil {
		return nil, err
	}
	if err := validateText("key", m.Key, 0, maxIDBytes); err != nil {
		return nil, err
	}
	if len(m.Body) > l.BodyBytes {
		return nil, &LimitError{What: "body in bytes", Limit: int64(l.BodyBytes), Got: int64(len(m.Body))}
	}
	lifetime := m.Lifetime.Milliseconds()
	if m.Lifetime < 0 || m.Lifetime > l.Lifetime {
		if part := m.Lifetime % time.Millisecond; part < 0 { // away from what is allowed, or the error would say that the limit was given
			lifetime--
		} else if part > 0 {
			lifetime++
		}
		return nil, &LimitError{What: "lifetime in milliseconds, from 0", Limit: l.Lifetime.Milliseconds(), Got: lifetime}
	}
	if m.Lifetime > 0 && lifetime == 0 {
		lifetime = 1
	}
	if err := validateText("category", m.Category, 0, maxCategoryBytes); err != nil {
		return nil, err
	}
	cap := p.o.Caps[m.Category]
	c := &store.Push{
		From: m.From, Key: m.Key, Body: m.Body, To: to.expr, Lifetime: lifetime,
		Keep: p.o.KeepAudiences, Fill: byte(m.Fill), Category: m.Category, PerDay: byte(cap.PerDay), PerWeek: byte(cap.PerWeek),
	}
	if m.Notification != nil && lifetime > 0 {
		note, err := p.note(m.Notification)
		if err != nil {
			return nil, err
		}
		c.Note, c.Platforms, c.Always = note, p.delivery.phones.platforms(), m.Notification.Always
	}
	c.Hash = m.hash(lifetime, c.Note)
	var random [8]byte
	rand.Read(random[:])
	c.Random = binary.BigEndian.Uint64(random[:])
	return c, nil
}

// note is a notification as it is kept, if the phone transports would take it.
func (p *Pusher) note(n *Notification) ([]byte, error) {
	note, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	if len(note) > maxNoteBytes {
		return nil, &LimitError{What: "notification in bytes, encoded", Limit: maxNoteBytes, Got: int64(len(note))}
	}
	return note, p.delivery.phones.check(n)
}

// readNote is a notification that was kept.
func readNote(note []byte) (*Notification, error) {
	n := new(Notification)
	if err := json.Unmarshal(note, n); err != nil {
		return nil, &store.FormatError{What: "notification", Detail: err.Error()}
	}
	return n, nil
}

// hash is what a key stands for: body, audience, lifetime, notification, category and how it is filled. The audience is the one that was given: what
// is saved under a name in it may have changed when the push is made again.
func (m *Message) hash(lifetime int64, note []byte) (sum [16]byte) {
	h := sha256.New()
	for _, part := range [][]byte{m.Body, []byte(m.To.String()), note, binary.BigEndian.AppendUint64(nil, uint64(lifetime)), []byte(m.Category), {byte(m.Fill)}} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	copy(sum[:], h.Sum(nil))
	return sum
}
