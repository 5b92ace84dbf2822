package browsertest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/console"
	"github.com/fanfare-im/fanfare/schedule"
	"github.com/fanfare-im/fanfare/transport"
)

var (
	people  = flag.Int("people", 20_000, "how many users there are, at least 1,000")
	screens = flag.String("screens", "", "`directory` to write a picture of each screen to")
	finish  = flag.Bool("finish", false, "wait until the push of TestTrial is finished, which takes some minutes")
)

// world is a server with the page, and people who are connected or have phones.
type world struct {
	p    *fanfare.Pusher
	host string       // of the server, as an origin
	url  string       // of the page, with a slash at its end
	slow atomic.Int64 // every sixteenth delivery takes so long
	n    atomic.Int64
	open atomic.Int64 // live streams
	// The IDs of a plan that has not fired, and of one that is being released and has been paused.
	later, paused string
	// recalled is a task that was withdrawn, with another notification in the place of the first.
	recalled string
	// compared is that of one with two variants that is over, and letters are those who got it, by message.
	compared string
	mu       sync.Mutex
	letters  map[string][]string
}

// count counts the streams that are open.
func (w *world) count(h http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/events") {
			w.open.Add(1)
			defer w.open.Add(-1)
		}
		h.ServeHTTP(out, r)
	})
}

// Deliver takes as long as the test says, so that there is something to watch.
func (w *world) Deliver(ctx context.Context, user string, m *transport.Message) error {
	if bytes.Contains(m.Body, []byte("letter")) {
		w.mu.Lock()
		w.letters[m.ID] = append(w.letters[m.ID], user)
		w.mu.Unlock()
	}
	d := time.Duration(w.slow.Load())
	if d == 0 || w.n.Add(1)%16 != 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// phones is a service that rejects some of what it is sent.
type phones string

func (f phones) Platform() string { return string(f) }

func (f phones) Send(_ context.Context, batch []transport.Notification) []transport.Result {
	out := make([]transport.Result, len(batch))
	for i := range batch {
		switch n := len(batch[i].Device.Token); {
		case batch[i].Device.Token[n-1] == '7':
			out[i] = transport.Result{Outcome: transport.Rejected, Reason: "DeviceTokenNotForTopic"}
		case batch[i].Device.Token[n-2:] == "13":
			out[i] = transport.Result{Outcome: transport.Unregistered, Reason: "Unregistered"}
		default:
			out[i] = transport.Result{Outcome: transport.Accepted}
		}
	}
	return out
}

var (
	tiers  = []string{"gold", "silver", "platinum", "basic"}
	cities = []string{"Shenzhen", "Wuhan", "Lisbon", "Nairobi", "Toronto"}
)

// user is the i-th one. Each tenth has a phone, and is away.
func user(i int) fanfare.User {
	u := fanfare.User{
		ID:         fmt.Sprintf("user-%06d", i),
		Attributes: map[string]string{"tier": tiers[i%len(tiers)], "city": cities[i/7%len(cities)]},
	}
	switch i {
	case 0:
		u.ID = "alice"
	case 1:
		u.ID = "bob"
	}
	if i%3 == 0 {
		u.Tags = append(u.Tags, "news")
	}
	if i%50 == 0 {
		u.Tags = append(u.Tags, "vip", "stock A")
	}
	if i%10 == 0 {
		u.Devices = []fanfare.Device{{Platform: []string{"apns", "fcm"}[i/10%2], Token: fmt.Sprintf("token-%06d", i/10), Topic: "im.example", Locale: "zh-Hans-CN", TimeZone: "Asia/Shanghai"}}
	}
	return u
}

// theWorld is made for the first test that asks for it, and is there for all.
var theWorld = sync.OnceValues(makeWorld)

var ended func() // ends it

func makeWorld() (*world, error) {
	dir, err := os.MkdirTemp("", "console-browsertest")
	if err != nil {
		return nil, err
	}
	w := &world{letters: make(map[string][]string)}
	w.p, err = fanfare.Open(filepath.Join(dir, "data"), fanfare.Options{Online: w, Mobile: []transport.Mobile{phones("apns"), phones("fcm")}, Grace: -1, Cron: schedule.Cron})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx := context.Background()
	if err := w.p.SetAttributeNames(ctx, map[int]string{0: "tier", 1: "city"}); err != nil {
		return nil, err
	}
	all := func(yield func(fanfare.User, error) bool) {
		for i := range *people {
			if !yield(user(i), nil) {
				return
			}
		}
	}
	if _, err := w.p.Import(ctx, all, nil); err != nil {
		return nil, err
	}
	if _, err := w.connect(ctx, func(i int) bool { return i%10 != 0 || i == 0 }); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	empty, err := fanfare.Open(filepath.Join(dir, "empty"), fanfare.Options{})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/deep/empty/", http.StripPrefix("/deep/empty", console.Handler(empty, console.Options{Identify: identify, Done: done, FirstSteps: "serve --and listen --as alice\n" + strings.Repeat("and so on ", 20)})))
	mux.Handle("/deep/console/", http.StripPrefix("/deep/console", console.Handler(w.p, console.Options{Identify: identify, From: "news", Location: time.UTC, Done: done})))
	server := httptest.NewServer(w.count(mux))
	w.host, w.url = server.URL, server.URL+"/deep/console/"
	ended = func() {
		close(done)
		server.CloseClientConnections()
		server.Close()
		_ = w.p.Close(ctx)
		_ = empty.Close(ctx)
		_ = os.RemoveAll(dir)
	}
	return w, nil
}

// connect connects the users that are asked for, many at a time, as the first connection of a day is a durable step. The function that it returns has them go again.
func (w *world) connect(ctx context.Context, which func(i int) bool) (leave func(), err error) {
	var group sync.WaitGroup
	const workers = 256
	errs, sessions := make([]error, workers), make([][]*fanfare.Session, workers)
	for g := range workers {
		group.Go(func() {
			for i := g; i < *people && errs[g] == nil; i += workers {
				if !which(i) {
					continue
				}
				s, err := w.p.Connect(ctx, user(i).ID)
				if err == nil {
					sessions[g] = append(sessions[g], s)
				}
				errs[g] = err
			}
		})
	}
	group.Wait()
	return func() {
		for _, some := range sessions {
			for _, s := range some {
				_ = s.Close()
			}
		}
	}, errors.Join(errs...)
}

// identify has who looks be whoever the test's cookie says.
func identify(r *http.Request) (console.Identity, error) {
	if c, err := r.Cookie("role"); err == nil && c.Value == "viewer" {
		return console.Identity{Name: "vera", Role: console.Viewer}, nil
	}
	return console.Identity{Name: "oscar", Role: console.Operator}, nil
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if ended != nil {
		ended()
	}
	os.Exit(code)
}
