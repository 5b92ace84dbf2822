package console

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// bench is a Pusher with some people in it, and the page over it.
type bench struct {
	t      *testing.T
	p      *fanfare.Pusher
	h      http.Handler
	audit  *MemoryAudit
	prefix string // that the requests have in front of their paths
}

// byHeader identifies as the tests say.
func byHeader(r *http.Request) (Identity, error) {
	switch name := r.Header.Get("X-Name"); name {
	case "":
		return Identity{}, errors.New("nobody")
	case "vera":
		return Identity{Name: name, Role: Viewer}, nil
	case "oscar", "olga":
		return Identity{Name: name, Role: Operator}, nil
	default:
		return Identity{Name: name}, nil
	}
}

// open makes a Pusher with alice, bob and carol.
func open(t *testing.T, o fanfare.Options) *fanfare.Pusher {
	t.Helper()
	p, err := fanfare.Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	ctx := context.Background()
	var b fanfare.Batch
	b.Register("alice", "bob", "carol")
	b.AddTags("alice", "vip", "stock A")
	b.AddTags("bob", "vip")
	if err := errors.Join(p.SetAttributeNames(ctx, map[int]string{0: "tier", 1: "home town"}), p.Apply(ctx, &b)); err != nil {
		t.Fatal(err)
	}
	if err := p.SetAttributes(ctx, "alice", map[string]string{"tier": "gold", "home town": "Wuhan"}); err != nil {
		t.Fatal(err)
	}
	if err := p.RegisterDevice(ctx, "alice", fanfare.Device{Platform: "apns", Token: "a-long-token-of-alice", Locale: "zh-CN"}); err != nil {
		t.Fatal(err)
	}
	return p
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchWith(t, open(t, fanfare.Options{Online: transport.OnlineFunc(func(context.Context, string, *transport.Message) error { return nil })}), Options{})
}

func newBenchWith(t *testing.T, p *fanfare.Pusher, o Options) *bench {
	t.Helper()
	b := &bench{t: t, p: p, audit: NewMemoryAudit(0)}
	if o.Audit == nil {
		o.Audit = b.audit
	}
	if o.Identify == nil {
		o.Identify = byHeader
	}
	if o.Location == nil {
		o.Location = time.UTC
	}
	done := make(chan struct{})
	if o.Done == nil {
		o.Done = done
		t.Cleanup(func() { close(done) })
	}
	b.h = Handler(p, o)
	return b
}

// call asks for a page.
func (b *bench) call(r *http.Request) *httptest.ResponseRecorder {
	b.t.Helper()
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, r)
	return w
}

func (b *bench) request(who, method, path string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, b.prefix+path, body)
	if who != "" {
		r.Header.Set("X-Name", who)
	}
	return r
}

func (b *bench) get(who, path string) *httptest.ResponseRecorder {
	b.t.Helper()
	return b.call(b.request(who, http.MethodGet, path, nil))
}

var tokenOf = regexp.MustCompile(`name="token" value="([^"]+)"`)

// form is a POST as the page sends it, with a session and its token.
func (b *bench) form(who, path string, fields url.Values) *http.Request {
	b.t.Helper()
	w := b.get(who, "/tasks")
	found := tokenOf.FindStringSubmatch(w.Body.String())
	if found == nil {
		b.t.Fatalf("there is no token in the page for %s: %s", who, w.Body)
	}
	all := url.Values{"token": {found[1]}}
	for name, values := range fields {
		all[name] = values
	}
	r := b.request(who, http.MethodPost, path, strings.NewReader(all.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
	return r
}

func (b *bench) post(who, path string, fields url.Values) *httptest.ResponseRecorder {
	b.t.Helper()
	return b.call(b.form(who, path, fields))
}

// push pushes a message that waits.
func (b *bench) push(to fanfare.Audience) *fanfare.Task {
	b.t.Helper()
	task, err := b.p.Push(context.Background(), fanfare.Message{From: "news", Body: []byte("hello there"), To: to, Lifetime: time.Hour})
	if err != nil {
		b.t.Fatal(err)
	}
	return task
}

// draftFields is the form filled in for an audience.
func draftFields(to string) url.Values {
	return url.Values{"to": {to}, "format": {"text"}, "text": {"hello"}, "lifetime": {"1h"}, "key": {strings.Repeat("A", 26)}, "testkey": {strings.Repeat("B", 26)}}
}

func with(f url.Values, pairs ...string) url.Values {
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return f
}
