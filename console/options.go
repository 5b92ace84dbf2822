package console

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Options adjust a [Handler]. Identify is needed: without it every request is refused.
type Options struct {
	// Identify says who asks, from what the host's middleware or the request itself tells. An error refuses the request: a [*Refusal] says how, any
	// other is answered with 403, and its text goes to the Logger, not to the page. It is called for each request but those for assets.
	// Default: none, and every request is refused.
	Identify func(*http.Request) (Identity, error)
	// Base is the path that the handler is mounted under, such as "/console", if the host does not strip it. Default: the host strips it, with
	// [http.StripPrefix] say.
	Base string
	// Encode makes the body of a push from plain text. Default: the JSON object {"text": "…"}.
	Encode func(text string) []byte
	// From is the sender that the form proposes. Default: none.
	From string
	// FirstSteps is plain text that the overview shows as long as nobody is known: how the users of this program get to be known and connected, in commands say. Default: none, beside
	// what holds for every program.
	FirstSteps string
	// Audit keeps who did what. Default: a [MemoryAudit] of 1,000 entries.
	Audit Audit
	// TrustedOrigins are further origins, such as "https://ops.example.com", from which the page's forms may come: needed where a proxy changes the Host.
	// Default: the page's own alone.
	TrustedOrigins []string
	// SecureCookies marks the cookies as for TLS only, also where TLS ends in front of the server. Default: as the request came.
	SecureCookies bool
	// Location is the time zone of the times that are shown, of "today", and of a form that names none. A plan that repeats, or goes by the clock on each person's wall, needs one with an IANA name, which
	// time.Local does not have: its form asks for one. Default: time.Local.
	Location *time.Location
	// Streams is how many tasks may be watched live at a time, by all who watch; others look again every few seconds. Default: 64.
	Streams int
	// Timeout bounds a request, its body included; live streams aside. Default: 10 s.
	Timeout time.Duration
	// MaxBodyBytes is the most that the body of a request may have. Default: 1 MiB.
	MaxBodyBytes int64
	// Done is closed when the host is stopping: streams, which would hold a graceful stop up, end then. Default: they end with their task, their
	// viewer, or the Pusher.
	Done <-chan struct{}
	// Logger is told of what went wrong inside. Default: nothing is logged.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Base = strings.Trim(o.Base, "/"); o.Base != "" {
		o.Base = "/" + o.Base
	}
	if o.Encode == nil {
		o.Encode = encodeText
	}
	if o.Audit == nil {
		o.Audit = NewMemoryAudit(0)
	}
	if o.Location == nil {
		o.Location = time.Local
	}
	o.Streams = cmp.Or(max(o.Streams, 0), 64)
	o.Timeout = cmp.Or(max(o.Timeout, 0), 10*time.Second)
	o.MaxBodyBytes = cmp.Or(max(o.MaxBodyBytes, 0), 1<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// encodeText is the body of a plain text where the host does not say otherwise.
func encodeText(text string) []byte {
	b, _ := json.Marshal(struct { // of a string there is no error
		Text string `json:"text"`
	}{text})
	return b
}
