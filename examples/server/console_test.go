package main

import (
	"bufio"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

const testPassword = "a-password-of-the-tests"

// TestConsole signs in, pushes to who is connected, and stops while a task is watched.
func TestConsole(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "audit.jsonl")
	p := startWith(t, &config{listen: "127.0.0.1:0", data: filepath.Join(dir, "data"), sdkAppID: testAppID, keys: []transport.Secret{transport.Secret(testKey)},
		admins: []string{"administrator"}, patience: 15 * time.Second, consoleUser: "olga", consolePassword: transport.Secret(testPassword), consoleAudit: log})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	defer browser.CloseIdleConnections()
	do := func(method, path, password string, form url.Values) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.base+"/console/"+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if password != "" {
			r.SetBasicAuth("olga", password)
		}
		resp, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	read := func(resp *http.Response) string {
		t.Helper()
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, password := range []string{"", "another"} {
		resp := do(http.MethodGet, "", password, nil)
		if read(resp); resp.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("with the password %q the answer is %d", password, resp.StatusCode)
		}
	}

	alice := p.dial("alice")
	page := read(do(http.MethodGet, "compose", testPassword, nil))
	value := func(name string) string {
		t.Helper()
		m := regexp.MustCompile(`name="` + name + `" value="([^"]+)"`).FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("the form is without %s: %s", name, page)
		}
		return m[1]
	}
	form := url.Values{"token": {value("token")}, "key": {value("key")}, "to": {"user:alice"}, "text": {"from the page"}, "from": {"operator"}, "lifetime": {"1h"}, "counted": {"1"}, "confirm": {"1"}}
	resp := do(http.MethodPost, "compose/send", testPassword, form)
	if body := read(resp); resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Request.URL.Path, "/console/tasks/") || !strings.Contains(body, "The push was accepted.") {
		t.Fatalf("the form is answered with %d at %s: %s", resp.StatusCode, resp.Request.URL, body)
	}
	if m, err := alice.next(); err != nil || m.text() != "from the page" || m.From != "operator" {
		t.Errorf("Alice got %+v, %v", m, err)
	}
	stream := do(http.MethodGet, strings.TrimPrefix(resp.Request.URL.Path, "/console/")+"/events", testPassword, nil)
	if line, err := bufio.NewReader(stream.Body).ReadString('\n'); err != nil || line != "retry: 2000\n" {
		t.Errorf("the stream begins with %q, %v", line, err)
	}
	alice.leave()
	begun := time.Now()
	p.stop() // the task waits for Alice's ack, so its stream has not ended
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("the stop waited for the stream, %v", d)
	}
	_ = stream.Body.Close()
	if b, err := os.ReadFile(log); err != nil || strings.Count(string(b), "\n") != 2 || !strings.Contains(string(b), `"who":"olga"`) || strings.Contains(p.log.String(), testPassword) {
		t.Errorf("the audit log is %s, %v", b, err)
	}
}

// TestNoConsole: without a password there is no page.
func TestNoConsole(t *testing.T) {
	p := start(t, t.TempDir())
	resp, err := http.Get("http://" + p.base + "/console/")
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the answer is %d", resp.StatusCode)
	}
}
