package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestTrial: without arguments there is a page with users, some of whom are connected, for this machine alone, and nothing is left of it.
func TestTrial(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	log := new(lines)
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-listen", "127.0.0.1:0"}, env{}.get, w, log)
		_ = w.Close()
	}()
	at := ""
	for said := bufio.NewScanner(r); at == "" && said.Scan(); {
		if line := strings.TrimSpace(said.Text()); strings.HasPrefix(line, "http://") {
			at = line
		}
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	ask := func(host string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		if req.Host = host; host == "" {
			req.Host = req.URL.Host
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for _, host := range []string{"", "localhost", "localhost:8080", "127.0.0.1", "[::1]:80"} {
		if code, body := ask(host); code != http.StatusOK || !strings.Contains(body, "1,000") || !strings.Contains(body, "Compose") {
			t.Errorf("asked as %q: %d, %.300s", host, code, body)
		}
	}
	for _, host := range []string{"example.com", "localhost.example.com:8080", "10.0.0.1"} {
		if code, _ := ask(host); code != http.StatusForbidden {
			t.Errorf("asked as %s: %d", host, code)
		}
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, body := ask(""); strings.Contains(body, ">200<") { // online
			break
		} else if time.Now().After(end) {
			t.Fatalf("they do not connect: %s\n%s", body, log)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	if out := log.String(); strings.Contains(out, "usersig=") {
		t.Error("there is a secret in the log")
	}
}

// TestTrialIsLocal: what others can reach is no trial, nor is a server of which something is said.
func TestTrialIsLocal(t *testing.T) {
	for _, args := range []string{"-listen 0.0.0.0:0", "-listen :0", "-listen 127.0.0.1", "-data x", "-sdkappid 7", "-key k", "-console-password p"} {
		var out, log bytes.Buffer
		if err := run(t.Context(), strings.Fields(args), env{}.get, &out, &log); err == nil || out.Len() > 0 {
			t.Errorf("%s: %v, %s", args, err, &out)
		}
	}
}
