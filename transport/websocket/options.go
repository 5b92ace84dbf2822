package websocket

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// Options adjust a Hub. The zero value works.
type Options struct {
	// Logger gets who was refused and why, connections that were too slow, what failed, and at the level of debugging who comes and goes. Default:
	// nothing is logged.
	Logger *slog.Logger
	// Queue is how many messages may wait to be written on a connection; one that has more is too slow, and closed. Its client gets them when it
	// connects again. Default: 256.
	Queue int
	// MaxConnections is how many connections a user has at most; the oldest goes for a new one. Default: 16.
	MaxConnections int
	// ReadLimit is how many bytes a frame from a client has at most. Default: 4,096.
	ReadLimit int64
	// PingEvery is how often a client is pinged. Default: 30 s.
	PingEvery time.Duration
	// PongTimeout is how long it has to answer. Default: 10 s.
	PongTimeout time.Duration
	// Origins are whose pages may connect, beside those of the host that they connect to: hosts, with their port, or origins with their scheme, with wildcards as of
	// [path.Match]: "*.example.com", "https://app.example.com". "*" is for any; that is safe where a login needs something that a browser does not
	// add by itself, as it does a cookie. What is no page, an app say, has no origin, and may always connect. Default: none.
	Origins []string
	// Subprotocols are the WebSocket subprotocols that a client may ask for, the preferred first. A browser that asks for one, which is a way to
	// hand a token to a login, wants one of them agreed to. Default: none.
	Subprotocols []string
	// Encode makes the frame of a message, for clients that know another form than that of the package's comment; what they send is as it says there. It
	// is called once for many receivers, from several goroutines, and may neither change the message nor keep it. After an error the message waits, and is tried again. Default: JSON.
	Encode func(m *transport.Message) ([]byte, error)
	// Binary makes binary frames of what Encode returns. Default: they are text, which must be UTF-8.
	Binary bool
}

func (o *Options) fill() {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	positive(&o.Queue, 256)
	positive(&o.MaxConnections, 16)
	positive(&o.ReadLimit, 4<<10)
	positive(&o.PingEvery, 30*time.Second)
	positive(&o.PongTimeout, 10*time.Second)
	if o.Encode == nil {
		o.Encode, o.Binary = encode, false
	}
}

// positive puts the default in the place of what would be no bound.
func positive[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
