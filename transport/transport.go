// Package transport holds the interfaces through which fanfare reaches people:
// [Online] for those who are connected to the host, [Mobile] for the phones of
// those who are not. The interfaces are small; what a transport can do beyond
// them it says by implementing a further one, found by type assertion.
//
// Package transporttest has the suite that every transport passes.
package transport

import (
	"context"
	"encoding/json"
	"time"
)

// Message is what a user receives. One Message is shared by all deliveries of
// a push and must not be changed, its Body neither.
type Message struct {
	// ID names the message. A duplicate carries the same ID. IDs are 32
	// characters, and sort in the order in which the pushes were accepted.
	ID string
	// Sequence is the order of acceptance: of two messages the later has the
	// higher one.
	Sequence uint64
	// From is the sender as given at the push; it may be empty.
	From string
	// Body is opaque to fanfare.
	Body []byte
	// Accepted is when the push was accepted, to the millisecond.
	Accepted time.Time
	// Expires is when the lifetime ends. For a message to users online now it
	// equals Accepted.
	Expires time.Time
}

// Online delivers messages to connected users.
//
// Deliver hands m to the user on all of the user's connections. It returns nil
// when at least one of them has it, and an error when none has; then the
// message stays pending and is tried again after a pause.
//
// Deliver is called from several goroutines at once, never twice at the same
// time for one user, and for one user in ascending order of m.Sequence, except for what
// is sent again. A call that was decided on for a session may begin after the session was closed, and so reach a connection of the user's next one,
// ahead of what that one is sent first. Who is registered again after Unregister is another user of the same ID: a call
// for the former one may still be under way. A call that was decided on just before an ack, a withdrawal
// or the like was applied may begin just after. It
// should only hand over (to a socket's buffer, say) and return: a call that
// takes longer than Options.DeliverTimeout is left behind, and until it returns that
// user gets nothing more. ctx ends when the Pusher closes, and Deliver should return
// then; it has no deadline. A panic counts as an error of that delivery. Deliver may call the
// Pusher, except what waits for deliveries.
type Online interface {
	Deliver(ctx context.Context, userID string, m *Message) error
}

// OnlineFunc makes a function an [Online] transport.
type OnlineFunc func(ctx context.Context, userID string, m *Message) error

// Deliver calls f.
func (f OnlineFunc) Deliver(ctx context.Context, userID string, m *Message) error {
	return f(ctx, userID, m)
}

// Batcher is an extra power of an [Online] transport: one message to many users
// in one call, for hosts whose users are connected to other machines.
//
// DeliverBatch returns one error for each user, in the order of userIDs, or nil
// for "all have it". A slice of another length counts as failed for all.
// It keeps the promises of Deliver for each of the users, and a panic or a time-out
// is one of all of them. It may not keep the slice userIDs after it returns. Every delivery goes
// through it, that to a single user as a batch of one; Deliver is not called. With
// client acks, nil means "on its way" here too. MaxBatch is asked once, at Open, for the most
// users in a call; below 1 means 256.
type Batcher interface {
	DeliverBatch(ctx context.Context, userIDs []string, m *Message) []error
	MaxBatch() int
}

// ClientAcker is an extra power of an [Online] transport: the client
// acknowledges each message. Where ClientAcks returns true, a Deliver that
// returns nil means only "on its way": the message stays pending until
// Pusher.Ack is called for it. After Options.AckTimeout on the same connection, or at
// the next one, everything that the user has not acknowledged is sent again, in order.
// ClientAcks is asked once, at Open.
type ClientAcker interface {
	ClientAcks() bool
}

// Platform names a phone notification service, such as "apns" or "fcm".
type Platform = string

// Device is where a notification goes.
type Device struct {
	Platform Platform // that of the transport
	Token    string   // given by the service to the app on this phone
	Topic    string   // the app, for services that want to know; APNs calls it so
	Locale   string   // BCP 47, such as "zh-Hant-TW"; may be empty
	TimeZone string   // IANA name, such as "Asia/Shanghai"; may be empty
}

// Content is what a phone shows. It says nothing of a service's own format, Overrides aside.
type Content struct {
	Title string `json:"title,omitempty"`
	Body  string `json:"body,omitempty"`
	// Locales are further titles and bodies by language, a BCP 47 tag such as "zh-Hant" or "pt-BR". A device is shown
	// the one that is nearest to its locale: zh-Hant-TW takes "zh-Hant-TW", else "zh-Hant", else "zh", else Title and Body.
	Locales map[string]Text `json:"locales,omitempty"`
	Sound   string          `json:"sound,omitempty"` // the name of one in the app, or "default"; none: silence, where the service lets one say so
	Badge   *int            `json:"badge,omitempty"` // the number at the app's icon; nil leaves it alone, 0 removes it where the service can
	Image   string          `json:"image,omitempty"` // URL of a picture
	Link    string          `json:"link,omitempty"`  // what the app opens when it is tapped
	// Collapse names what the notification is about: on a phone, a later one with the same name replaces an earlier. At most
	// 64 bytes. Default: the message's ID, so that what is sent twice is shown once.
	Collapse string            `json:"collapse,omitempty"`
	Data     map[string]string `json:"data,omitempty"` // for the app
	// Silent shows nothing and wakes the app in the background; services deliver few of these.
	Silent bool `json:"silent,omitempty"`
	// Deferrable lets the phone wait for a better moment, to save power.
	Deferrable bool `json:"deferrable,omitempty"`
	// Urgent notifies in quiet hours, too.
	Urgent bool `json:"urgent,omitempty"`
	// Always notifies all of the audience, at once: those who are connected or have the message, too.
	Always bool `json:"always,omitempty"`
	// Withdrawn says that the message was withdrawn, and that the app is to take away what the phone shows under this collapse ID. Such a content
	// is Silent, and its Data has [WithdrawnKey]; of Overrides no more than what says where it goes, and under which name, is meant for it. The library sets it
	// when a message is withdrawn.
	Withdrawn bool `json:"withdrawn,omitempty"`
	// Overrides are laid over what is made of all this for a platform's service, in the service's own format, as a JSON merge
	// patch (RFC 7396).
	Overrides map[Platform]json.RawMessage `json:"overrides,omitempty"`
}

// WithdrawnKey is the key in Data that tells the app that a message was withdrawn. Its value is the message's ID.
const WithdrawnKey = "fanfare_withdrawn"

// Text is what is shown in one language. Where Title or Body is empty, that of the [Content] is shown.
type Text struct {
	Title string `json:"title,omitempty"`
	Body  string `json:"body,omitempty"`
}

// Notification is one phone notification to one device.
type Notification struct {
	UserID  string   // whose device it is
	Device  Device   // one of the transport's platform
	Message *Message // shared; its Body is the in-app message, not the notification
	Content *Content // shared by the task; must not be changed
	Attempt int      // 1 for the first try
}

// Outcome is what became of a notification.
type Outcome int

const (
	// Accepted: the service took it.
	Accepted Outcome = iota + 1
	// Unregistered: the token is dead. It is removed, unless it was registered
	// again after the notification was sent.
	Unregistered
	// Rejected: the service will never take this notification; the token stays.
	Rejected
	// Retry: worth another try after Result.RetryAfter, or after a growing
	// pause where that is zero.
	Retry
	// Unsent: it was not tried, because the service is left alone for now or the transport is closing. It comes again
	// after Result.RetryAfter, at least a second, and does not count as a try.
	Unsent
	// Denied: the service does not take this sender: its credentials are wrong, say. The task goes no further on this platform
	// until the directory is opened again, with better ones; nothing of it is lost before the message ends, and the token stays.
	Denied
)

// String returns the outcome's name in lower case.
func (o Outcome) String() string {
	switch o {
	case Accepted:
		return "accepted"
	case Unregistered:
		return "unregistered"
	case Rejected:
		return "rejected"
	case Retry:
		return "retry"
	case Unsent:
		return "unsent"
	case Denied:
		return "denied"
	}
	return "unknown"
}

// Result is the outcome of one notification.
type Result struct {
	Outcome    Outcome       // anything else than the six counts as Retry
	Reason     string        // the service's own word, for statistics and logs; without tokens and secrets
	Detail     string        // for people: what to look at; may be empty
	RetryAfter time.Duration // with Retry and Unsent: not before; 0 means the library chooses
	// Since, with Unregistered and where the service says it, is when the token
	// died: one registered after it stays.
	Since time.Time
}

// Mobile sends phone notifications on one platform.
//
// Send sends the batch, which is never empty and all of the transport's platform, and
// returns one result for each notification, in order. Missing results, and a panic, count as
// Retry for those without one; more results than notifications count as none. It is called by one
// goroutine at a time. ctx ends when the Pusher closes or the send time-out is over, and Send
// should return then, with Retry for what it did not send. The batch may not be kept or changed.
//
// Platform is asked once, at Open; two transports of one platform are an error there.
type Mobile interface {
	Platform() Platform
	Send(ctx context.Context, batch []Notification) []Result
}

// Sizer is an extra power of a [Mobile] transport: BatchSize returns the most notifications it
// wants in one batch. It is asked once, at Open; below 1 means 500.
type Sizer interface {
	BatchSize() int
}

// Checker is an extra power of a [Mobile] transport: it says at the push what the service would never take, such as
// what is too large for it, before anything is sent.
//
// Check returns nil, or an error that says what is wrong with c for this platform. It looks at c and nothing else, neither keeps nor changes it,
// and asks no service. It is called from several goroutines at once, by the callers of Push.
type Checker interface {
	Check(c *Content) error
}

// Closer is an extra power of any transport: Close is called when the Pusher has
// closed, once for each place in Options where the transport stands. A call that was left behind
// may still be under way.
type Closer interface {
	Close() error
}
