package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fanfare-im/fanfare"
)

// A node that was shut down may sleep for up to a second before it unsubscribes from the last channel: that is its own matter.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/centrifugal/centrifuge.(*Node).unsubscribeFromBrokerWhenEmpty.func1"))
}

// running is a server that is being served.
type running struct {
	*testing.T
	*server
	address string
	log     *bytes.Buffer
	stop    func() error
}

// start serves a directory until the test ends, or stop is called.
func start(t *testing.T, data string) *running {
	t.Helper()
	log := new(bytes.Buffer)
	s, err := newServer("127.0.0.1:0", data, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx) }()
	var outcome error
	stopped := false
	r := &running{T: t, server: s, address: "http://" + s.listener.Addr().String() + "/", log: log}
	r.stop = func() error {
		if !stopped {
			cancel()
			outcome, stopped = <-ended, true
		}
		return outcome
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if log.Len() > 0 {
			t.Errorf("the log:\n%s", log)
		}
	})
	return r
}

func (r *running) announce(to fanfare.Audience, texts ...string) (ids []string) {
	r.Helper()
	for _, text := range texts {
		task, err := r.p.Push(r.Context(), fanfare.Message{From: "operator", Body: fmt.Appendf(nil, `{"text":%q}`, text), To: to, Lifetime: time.Hour})
		if err != nil {
			r.Fatal(err)
		}
		ids = append(ids, task.ID)
	}
	return ids
}

// waiting is how many announcements a user waits for.
func (r *running) waiting(user string) (n int) {
	r.Helper()
	for _, err := range r.p.Pending(r.Context(), user) {
		if err != nil {
			r.Fatal(err)
		}
		n++
	}
	return n
}

// acknowledged waits until a user waits for nothing.
func (r *running) acknowledged(users ...string) {
	r.Helper()
	for _, user := range users {
		for end := time.Now().Add(30 * time.Second); r.waiting(user) > 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				r.Fatalf("%s has not acknowledged %d announcements", user, r.waiting(user))
			}
		}
	}
}

// gone waits until a user is not connected.
func (r *running) gone(user string) {
	r.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		is, err := r.p.Connected(r.Context(), user)
		if err != nil {
			r.Fatal(err)
		}
		if !is {
			return
		}
		if time.Now().After(end) {
			r.Fatalf("%s is still connected", user)
		}
	}
}

// opened waits until so many have opened an announcement.
func (r *running) opened(id string, want int64) {
	r.Helper()
	task, err := r.p.Task(r.Context(), id)
	if err != nil {
		r.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		is, err := task.Progress()
		if err != nil {
			r.Fatal(err)
		}
		if is.Opened == want {
			return
		}
		if time.Now().After(end) {
			r.Fatalf("%d have opened it, want %d", is.Opened, want)
		}
	}
}

// TestPush: what is posted is pushed, and what is wrong with it is said.
func TestPush(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	if err := r.p.Register(t.Context(), "alice", "bob"); err != nil {
		t.Fatal(err)
	}
	for _, of := range []struct {
		body, says string
		status     int
	}{
		{`{"text":"one"}`, `{"id":"`, 200},
		{`{"text":"two","from":"news","to":"user in (\"bob\")","lifetime":60,"key":"k"}`, `{"id":"`, 200},
		{`{"text":"two","from":"news","to":"user in (\"bob\")","lifetime":60,"key":"k"}`, `{"id":"`, 200},
		{`{"text":"another","from":"news","key":"k"}`, "key", 400},
		{`{"text":"now","lifetime":0}`, `{"id":"`, 200},
		{`{}`, "text is needed", 400},
		{`{"text":" \n"}`, "text is needed", 400},
		{`{"text":"x","too":"user:\"bob\""}`, "too", 400},
		{`{"text":"x","lifetime":-1}`, "lifetime", 400},
		{`{"text":"x","lifetime":604801}`, "lifetime", 400},
		{`{"text":"x","lifetime":null}`, "lifetime", 400},
		{`{"text":"x","to":"everybody"}`, "to: ", 400},
		{`{"text":"x","to":"attr.shoe = \"44\""}`, "shoe", 400},
		{`{"text":"x","to":"saved:\"none\""}`, "none", 400},
		{`{"text":"` + strings.Repeat("x", 13<<10) + `"}`, "body", 400},
		{`{"text":"` + strings.Repeat("x", maxPush) + `"}`, "large", 400},
		{`no JSON`, "invalid", 400},
	} {
		status, said := r.ask("POST", "push", of.body, nil)
		if status != of.status || !strings.Contains(said, of.says) {
			t.Errorf("%.60s is answered with %d %s", of.body, status, said)
		}
	}
	if alice, bob := r.waiting("alice"), r.waiting("bob"); alice != 1 || bob != 2 {
		t.Errorf("Alice waits for %d announcements, Bob for %d", alice, bob)
	}
}

func (r *running) ask(method, path, body string, change func(*http.Request)) (status int, said string) {
	r.Helper()
	q, err := http.NewRequestWithContext(r.Context(), method, r.address+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	q.Close = true
	if change != nil {
		change(q)
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		r.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		r.Fatal(err)
	}
	return a.StatusCode, string(text)
}

// TestFromElsewhere: a page of another site has no business here, neither by its origin nor by a name that leads to this machine.
func TestFromElsewhere(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	for what, change := range map[string]func(*http.Request){
		"another name":   func(q *http.Request) { q.Host = "example.com" },
		"another origin": func(q *http.Request) { q.Header.Set("Origin", "http://example.com") },
	} {
		if status, said := r.ask("POST", "push", `{"text":"x"}`, change); status != http.StatusForbidden {
			t.Errorf("%s: a push is answered with %d %s", what, status, said)
		}
		status, said := r.ask("GET", "connection/websocket", "", func(q *http.Request) {
			for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
				q.Header.Set(name, value)
			}
			change(q)
		})
		if status != http.StatusForbidden {
			t.Errorf("%s: a connection is answered with %d %s", what, status, said)
		}
	}
	for _, name := range []string{"", "im.js", "centrifuge.js", "console/"} {
		if status, _ := r.ask("GET", name, "", nil); status != http.StatusOK {
			t.Errorf("/%s is answered with %d", name, status)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"alice": true, "王 小明": true, strings.Repeat("x", maxName): true,
		"": false, " alice": false, "alice\n": false, "a\x00b": false, "\xff": false, strings.Repeat("x", maxName+1): false,
	} {
		if isName(name) != want {
			t.Errorf("%q is a name: %v", name, !want)
		}
	}
}

// TestRun: without arguments everything is in a directory that is gone afterwards, and the address is said.
func TestRun(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, said := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-listen", "127.0.0.1:0"}, said, io.Discard)
		_ = said.Close()
	}()
	address := ""
	lines := bufio.NewScanner(out)
	for address == "" && lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); strings.HasPrefix(line, "http://") {
			address = line
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	a, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Body.Close()
	if left, err := os.ReadDir(temporary); err != nil || len(left) != 1 {
		t.Errorf("while it runs there is %v (%v)", left, err)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) != 0 {
		t.Errorf("it leaves %v (%v)", left, err)
	}
	for _, args := range [][]string{{"-listen", ":0"}, {"-listen", "0.0.0.0:0"}, {"-listen", "example.com:0"}, {"-listen", "7"}, {"-unknown"}, {"more"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}

// TestStartedAgain: what was announced is there on the next start with the same directory, and the page is told that it is the same server.
func TestStartedAgain(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "new")
	r := start(t, data)
	id := r.id
	if err := r.p.Register(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	r.announce(fanfare.All(), "kept")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, data)
	if r.id != id || id == "" {
		t.Errorf("the server was %q and is %q", id, r.id)
	}
	if n := r.waiting("alice"); n != 1 {
		t.Errorf("Alice waits for %d announcements", n)
	}
}

// TestIdentity: a file that a full disk has left empty is none.
func TestIdentity(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "im.id")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := identity(file)
	if err != nil || first == "" {
		t.Fatalf("it is %q (%v)", first, err)
	}
	if second, err := identity(file); second != first || err != nil {
		t.Errorf("it was %q and is %q (%v)", first, second, err)
	}
}

// TestChats: the last lines of the last few pairs are kept, and no more than so many.
func TestChats(t *testing.T) {
	t.Parallel()
	var c chats
	for i := range maxLines + 5 {
		c.add(line{From: "alice", To: "bob", Text: fmt.Sprint(i)})
	}
	lines := c.lines("bob")
	if len(lines) != maxLines || lines[0].Text != "5" || !slices.Equal(lines, c.lines("alice")) {
		t.Errorf("Bob has %d lines, the first is %q", len(lines), lines[0].Text)
	}
	for i := range maxPartners {
		c.add(line{From: fmt.Sprint(i), To: "alice"})
	}
	if lines := c.lines("alice"); len(lines) != maxPartners || lines[0].From != "0" {
		t.Errorf("Alice has %d lines, the first is from %q", len(lines), lines[0].From)
	}
	for i := range maxPairs {
		c.add(line{From: fmt.Sprint(i), To: "carol"})
	}
	if len(c.pairs) != maxPairs || len(c.lines("bob")) != 0 || len(c.of["bob"]) != 0 || len(c.lines("7")) != 1 {
		t.Errorf("of %d pairs Bob has %d lines", len(c.pairs), len(c.lines("bob")))
	}
}
