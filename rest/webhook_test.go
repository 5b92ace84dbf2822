package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/fanfaretest"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// receiver is the server that a webhook tells.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	statuses []int // of its next answers; then 200
	queries  []string
	batches  [][]event
	got      chan struct{} // for each batch
}

func newReceiver(t *testing.T, statuses ...int) *receiver {
	r := &receiver{statuses: statuses, got: make(chan struct{}, 1000)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		var of struct{ Events []event }
		if err != nil || json.Unmarshal(b, &of) != nil {
			t.Errorf("%s: %v", b, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		status := 200
		if len(r.statuses) > 0 {
			status, r.statuses = r.statuses[0], r.statuses[1:]
		}
		if status/100 == 3 {
			w.Header().Set("Location", r.URL+"/elsewhere")
		}
		w.WriteHeader(status)
		r.queries = append(r.queries, req.URL.String())
		r.batches = append(r.batches, of.Events)
		r.got <- struct{}{}
	}))
	t.Cleanup(r.Close)
	return r
}

func newWebhook(t *testing.T, o WebhookOptions) *Webhook {
	t.Helper()
	o.SDKAppID = 1400000000
	w, err := NewWebhook(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = w.Close(ctx)
	})
	return w
}

// TestWebhook: what became of a push is told for each user, connected or not, in few requests.
func TestWebhook(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newReceiver(t)
	w := newWebhook(t, WebhookOptions{URL: r.URL + "/hook?own=1", AllowPrivate: true, Wait: 50 * time.Millisecond})
	rec, phones := new(transporttest.Recorder), transporttest.NewPhones("apns")
	p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Online: w.Online(rec), Mobile: []transport.Mobile{w.Mobile(phones)}, Grace: -1}})
	p.MustRegister(t, "ann", "ben", "cat")
	for user, token := range map[string]string{"ben": "b", "cat": "c"} {
		if err := p.RegisterDevice(ctx, user, fanfare.Device{Platform: "apns", Token: token}); err != nil {
			t.Fatal(err)
		}
	}
	phones.Kill(time.Time{}, "c")
	p.Login(t, "ann")
	task := p.MustPush(t, fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour, Notification: &fanfare.Notification{Title: "hi"}})
	p.WaitTask(t, task.ID)
	p.WaitDelivered(t, task.ID, "ann")
	if err := errors.Join(p.Close(ctx), w.Close(ctx)); err != nil {
		t.Fatal(err)
	}
	if phones.Closes() != 1 || rec.Closes() != 1 {
		t.Error("closed", phones.Closes(), rec.Closes())
	}
	got := make(map[string]event)
	for _, batch := range r.batches {
		for _, e := range batch {
			got[e.To_Account] = e
			if e.CallbackCommand != callbackCommand || e.TaskId != task.ID || e.TaskTime != task.Info().Accepted.Unix() || e.EventTime < e.TaskTime {
				t.Errorf("%+v", e)
			}
		}
	}
	if len(got) != 3 || got["ann"].EventType != eventOnline || got["ben"].EventType != eventOffline || got["ben"].PushPlatform != "apns" || got["ben"].ErrCode != 0 ||
		got["cat"].ErrCode == 0 || got["cat"].ErrInfo != "unregistered" {
		t.Errorf("%+v", got)
	}
	for _, part := range []string{"/hook?", "own=1", "SdkAppid=1400000000", "CallbackCommand=Push.AllMemberPush", "contenttype=json"} {
		if !strings.Contains(r.queries[0], part) {
			t.Errorf("%s lacks %s", r.queries[0], part)
		}
	}
	if w.Dropped() != 0 {
		t.Error(w.Dropped(), "dropped")
	}
}

// TestWebhookRevoked: that a notification was taken away again is no event of the push.
func TestWebhookRevoked(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newReceiver(t)
	w := newWebhook(t, WebhookOptions{URL: r.URL, AllowPrivate: true, Wait: time.Millisecond})
	phones := transporttest.NewPhones("apns")
	p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Mobile: []transport.Mobile{w.Mobile(phones)}, Grace: -1}})
	p.MustRegister(t, "ben")
	if err := p.RegisterDevice(ctx, "ben", fanfare.Device{Platform: "apns", Token: "b"}); err != nil {
		t.Fatal(err)
	}
	task := p.MustPush(t, fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour, Notification: &fanfare.Notification{Title: "hi"}})
	p.WaitTask(t, task.ID)
	if err := p.Withdraw(ctx, task.ID); err != nil {
		t.Fatal(err)
	}
	p.WaitTask(t, task.ID)
	if g, err := task.Progress(); err != nil || g.Recalls["apns"].Accepted != 1 {
		t.Fatalf("%+v, %v", g, err)
	}
	if err := errors.Join(p.Close(ctx), w.Close(ctx)); err != nil {
		t.Fatal(err)
	}
	events := slices.Concat(r.batches...)
	if len(events) != 1 || events[0].ErrCode != 0 || w.Dropped() != 0 {
		t.Errorf("%+v", events)
	}
}

// TestWebhookTriesAgain: an answer other than 2xx is asked again, in the same words.
func TestWebhookTriesAgain(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 500, 429)
	w := newWebhook(t, WebhookOptions{URL: r.URL, AllowPrivate: true, Wait: time.Millisecond})
	w.add(event{To_Account: "ann"})
	if err := w.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(r.batches) != 3 || r.batches[2][0].To_Account != "ann" || w.Dropped() != 0 {
		t.Fatalf("%+v, dropped %d", r.batches, w.Dropped())
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestWebhookPatience: a receiver may be away for a minute before its events are dropped.
func TestWebhookPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWebhook(t, WebhookOptions{URL: "https://example.com"})
		var last time.Time
		w.client.Transport = roundTripper(func(*http.Request) (*http.Response, error) {
			last = time.Now()
			return &http.Response{StatusCode: 503, Body: http.NoBody}, nil
		})
		began := time.Now()
		w.add(event{To_Account: "ann"})
		if err := w.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if took := last.Sub(began); took < 45*time.Second || took > 3*time.Minute || w.Dropped() != 1 { // the pauses are jittered
			t.Errorf("%d dropped after %v", w.Dropped(), took)
		}
	})
}

// TestWebhookBatches: events that come together go together, up to 100 in a request, in order and each once.
func TestWebhookBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWebhook(t, WebhookOptions{URL: "https://example.com"})
		var sizes []int
		var last int64
		w.client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			var of struct{ Events []event }
			if err := json.NewDecoder(r.Body).Decode(&of); err != nil {
				t.Error(err)
			}
			for _, e := range of.Events {
				if e.TaskTime != last+1 {
					t.Errorf("event %d comes after %d", e.TaskTime, last)
				}
				last = e.TaskTime
			}
			sizes = append(sizes, len(of.Events))
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		})
		for i := range 250 {
			w.add(event{TaskTime: int64(i + 1)})
		}
		if err := w.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(sizes, []int{100, 100, 50}) || w.Dropped() != 0 {
			t.Errorf("requests of %v events, %d dropped", sizes, w.Dropped())
		}
	})
}

// TestWebhookDrops: what the receiver never takes is dropped and counted; a redirect is not followed, and a private address not asked.
func TestWebhookDrops(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		statuses []int
		o        WebhookOptions
		requests int
	}{
		"gives up": {[]int{500, 500, 500}, WebhookOptions{AllowPrivate: true, Tries: 2}, 2},
		"redirect": {[]int{302}, WebhookOptions{AllowPrivate: true}, 1},
		"private":  {nil, WebhookOptions{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, c.statuses...)
			c.o.URL, c.o.Wait = r.URL, time.Millisecond
			w := newWebhook(t, c.o)
			w.add(event{To_Account: "ann"})
			if err := w.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			if w.Dropped() != 1 || len(r.batches) != c.requests {
				t.Errorf("dropped %d in %d requests", w.Dropped(), len(r.batches))
			}
		})
	}
}

// TestWebhookHoldsNothingUp: with a receiver that does not answer, events beyond the queue are dropped and no delivery waits; a Close without
// time drops the rest.
func TestWebhookHoldsNothingUp(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	began := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		began <- struct{}{}
		<-stop
	}))
	defer s.Close()
	defer close(stop)
	w := newWebhook(t, WebhookOptions{URL: s.URL, AllowPrivate: true, Queue: 10, Wait: time.Millisecond, Timeout: time.Hour})
	o := w.Online(transport.OnlineFunc(func(context.Context, string, *transport.Message) error { return nil }))
	deliver := func() {
		if err := o.Deliver(context.Background(), "ann", &transport.Message{}); err != nil {
			t.Error(err)
		}
	}
	deliver()
	<-began
	for range 25 {
		deliver()
	}
	if n := w.Dropped(); n != 15 {
		t.Error(n, "dropped")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	deliver()
	if n := w.Dropped(); n != 27 {
		t.Error(n, "dropped")
	}
}

func TestWebhookURL(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "example.com", "ftp://example.com", "https://user:password@example.com", "https://", ":"} {
		if _, err := NewWebhook(WebhookOptions{URL: bad, SDKAppID: 1}); err == nil || strings.Contains(err.Error(), "password@") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := NewWebhook(WebhookOptions{URL: "https://example.com"}); err == nil {
		t.Error("without an SDKAppID")
	}
}

func TestIsPublic(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"1.1.1.1": true, "2606:4700::1111": true, "127.0.0.1": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"0.0.0.0": false, "100.64.0.1": false, "224.0.0.1": false, "255.255.255.255": false, "::1": false, "::": false, "fe80::1": false, "fd00::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "::ffff:1.1.1.1": true, "fe80::1%eth0": false,
		"::127.0.0.1": false, "::ffff:0:127.0.0.1": false, "fec0::1": false, "100::1": false, "2001:db8::1": false, "3fff::1": false, "192.88.99.1": false, "64:ff9b:1::1": false,
	} {
		if got := isPublic(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// TestWebhookKeepsPowers: a transport behind a webhook has the powers that it had.
func TestWebhookKeepsPowers(t *testing.T) {
	t.Parallel()
	w := newWebhook(t, WebhookOptions{URL: "https://example.com"})
	if _, is := w.Online(new(transporttest.Recorder)).(transport.Batcher); is {
		t.Error("a transport that takes no batches takes them")
	}
	b, is := w.Online(batches{}).(transport.Batcher)
	if !is || b.MaxBatch() != 7 || !b.(transport.ClientAcker).ClientAcks() {
		t.Error("its powers are gone")
	}
	errs := b.DeliverBatch(context.Background(), []string{"ann", "ben"}, &transport.Message{})
	if len(errs) != 2 || errs[0] != nil || errs[1] == nil {
		t.Error(errs)
	}
	m := w.Mobile(picky{transporttest.NewPhones("apns")})
	if m.Platform() != "apns" || m.(transport.Sizer).BatchSize() != 0 || m.(transport.Checker).Check(&transport.Content{}) == nil {
		t.Error("its powers are gone")
	}
}

type batches struct{}

func (batches) Deliver(context.Context, string, *transport.Message) error { return nil }
func (batches) MaxBatch() int                                             { return 7 }
func (batches) ClientAcks() bool                                          { return true }
func (batches) DeliverBatch(context.Context, []string, *transport.Message) []error {
	return []error{nil, errors.New("not here")}
}

type picky struct{ *transporttest.Phones }

func (picky) Check(*transport.Content) error { return errors.New("no") }
