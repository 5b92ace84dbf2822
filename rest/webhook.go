package rest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"crypto/tls"

	"github.com/cenkalti/backoff/v5"
)

const (
	// maxEvents is how many events a request of a webhook has at most.
	maxEvents       = 100
	callbackCommand = "Push.AllMemberPush"
)

// WebhookOptions say where events go. URL and SDKAppID are needed.
type WebhookOptions struct {
	// URL is where events are posted, by http or https; parameters are added to its query.
	URL string
	// SDKAppID is the number of the application, which the receiver is told.
	SDKAppID int64
	// AllowPrivate lets the URL lead to this machine and to addresses of private networks. By default it does not, so that whoever sets it
	// cannot reach what only this machine can.
	AllowPrivate bool
	// Queue is how many events wait at most; further ones are dropped, and counted. Default: 10,000.
	Queue int
	// Wait is for how long events are collected for one request. Default: 1 s.
	Wait time.Duration
	// Timeout is for one request. Default: 5 s.
	Timeout time.Duration
	// Tries is how often a request is made that is not answered with a status of 200 to 299; then its events are dropped, and
	// counted. Default: 8, which is with growing pauses some minute and a half.
	Tries int
	// RootCAs are whom the receiver's certificate is to be from. Default: the system's.
	RootCAs *x509.CertPool
	// Logger is told of events that were dropped. Default: nothing is logged.
	Logger *slog.Logger
}

// Webhook tells another server what becomes of pushes, user by user: it stands between a Pusher and its transports, see [Webhook.Online] and
// [Webhook.Mobile]. It never holds up a delivery: events wait in a queue of its own, and are dropped when that is full. Events of one
// user may come out of order, and after a failure more than once. Make one with [NewWebhook]. It is safe for concurrent use.
type Webhook struct {
	o       WebhookOptions
	url     string
	client  *http.Client
	events  chan event
	dropped atomic.Int64

	mu     sync.RWMutex // over closing events
	closed bool
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
}

// event is what became of a push for one user.
type event struct {
	CallbackCommand string
	EventType       int // 1 on a phone, 2 connected
	TaskId          string
	TaskTime        int64
	EventTime       int64
	To_Account      string
	PushPlatform    string
	PushStage       int
	ErrCode         int
	ErrInfo         string
}

const (
	eventOffline = 1
	eventOnline  = 2
	// stageSent is the only stage that is told: that it was handed to the client's connection, or to the phone's service.
	stageSent = 1
	errFailed = 1
)

// NewWebhook starts a Webhook. It returns an error for a URL that is none.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New("rest: the webhook's URL is not one of http or https, without a password in it")
	}
	if o.SDKAppID <= 0 {
		return nil, errors.New("rest: a webhook needs an SDKAppID")
	}
	q := u.Query()
	q.Set("SdkAppid", strconv.FormatInt(o.SDKAppID, 10))
	q.Set("CallbackCommand", callbackCommand)
	q.Set("contenttype", "json")
	u.RawQuery = q.Encode()
	o.Queue = cmp.Or(max(o.Queue, 0), 10_000)
	o.Wait = cmp.Or(max(o.Wait, 0), time.Second)
	o.Timeout = cmp.Or(max(o.Timeout, 0), 5*time.Second)
	o.Tries = cmp.Or(max(o.Tries, 0), 8)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Webhook{o: o, url: u.String(), events: make(chan event, o.Queue), done: make(chan struct{})}
	dialer := &net.Dialer{Timeout: o.Timeout}
	if !o.AllowPrivate {
		dialer.Control = refusePrivate // which sees the address that a name was resolved to
	}
	w.client = &http.Client{
		Timeout: o.Timeout,
		// No proxy, which would connect to addresses that are not looked at here.
		Transport:     &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	go w.run()
	return w, nil
}

// errPrivate is why a connection is refused.
var errPrivate = errors.New("the webhook's URL leads to a private address")

// refusePrivate lets connections be made to public addresses only.
func refusePrivate(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !isPublic(at.Addr()) {
		return errPrivate
	}
	return nil
}

// private are networks that netip has no word for: those of providers (RFC 6598), of this network (RFC 791), of tests and documentation (RFC 2544,
// 5737, 3849, 9637), of relays (RFC 7526), and IPv4 within IPv6 (RFC 3056, RFC 4380). What of IPv6 is outside of 2000::/3 is not public either, and
// the networks that are IPv4 in another way (RFC 4291, 6052, 8215) are among that.
var private = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("3fff::/20"),
}

var global6 = netip.MustParsePrefix("2000::/3")

func isPublic(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Is6() && !global6.Contains(a) {
		return false
	}
	for _, p := range private {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// add puts an event into the queue, or drops it.
func (w *Webhook) add(e event) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		w.dropped.Add(1)
		return
	}
	e.CallbackCommand, e.EventTime, e.PushStage = callbackCommand, time.Now().Unix(), stageSent
	select {
	case w.events <- e:
	default:
		w.dropped.Add(1)
	}
}

// Dropped returns how many events were dropped, because the queue was full, or the receiver did not take them.
func (w *Webhook) Dropped() int64 { return w.dropped.Load() }

// run sends what is in the queue, until that is closed.
func (w *Webhook) run() {
	defer close(w.done)
	for e := range w.events {
		batch := append(make([]event, 0, maxEvents), e)
		timer := time.NewTimer(w.o.Wait)
	collect:
		for len(batch) < maxEvents {
			select {
			case e, more := <-w.events:
				if !more {
					break collect
				}
				batch = append(batch, e)
			case <-timer.C:
				break collect
			}
		}
		timer.Stop()
		if err := w.send(batch); err != nil {
			w.dropped.Add(int64(len(batch)))
			w.o.Logger.Warn("rest: events of pushes were dropped", "events", len(batch), "dropped", w.dropped.Load(), "error", err)
		}
	}
}

// send posts events, several times if need be.
func (w *Webhook) send(batch []event) error {
	body, err := json.Marshal(struct{ Events []event }{batch})
	if err != nil {
		return err
	}
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.Multiplier, pauses.MaxInterval = time.Second, 2, 30*time.Second
	_, err = backoff.Retry(w.ctx, func() (struct{}, error) { return struct{}{}, w.post(body) },
		backoff.WithBackOff(pauses), backoff.WithMaxTries(uint(w.o.Tries)), backoff.WithMaxElapsedTime(0))
	return err
}

// post posts events once. What is wrong for good is not tried again.
func (w *Webhook) post(body []byte) error {
	req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return backoff.Permanent(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if errors.Is(err, errPrivate) {
		return backoff.Permanent(errPrivate)
	}
	if err != nil {
		var of *url.Error // names the URL, in which there may be a secret
		if errors.As(err, &of) {
			err = of.Err
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return backoff.Permanent(fmt.Errorf("status %d: redirects are not followed", resp.StatusCode))
	}
	return fmt.Errorf("status %d", resp.StatusCode)
}

// Close sends what is in the queue, and returns when that is done, or with the context's error when it ends first; what is left is dropped then. Close
// it behind the Pusher, whose last deliveries it is told of.
func (w *Webhook) Close(ctx context.Context) (err error) {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.events)
	}
	w.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		err = ctx.Err()
		w.cancel()
		<-w.done
	}
	w.cancel()
	w.client.CloseIdleConnections()
	return err
}
