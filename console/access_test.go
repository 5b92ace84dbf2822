package console

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
)

// TestRoles tries every route with every role, and with nobody.
func TestRoles(t *testing.T) {
	b := newBench(t)
	for i := range routes {
		route := &routes[i]
		path := strings.ReplaceAll(route.path, "{task}", "nothing")
		for who, role := range map[string]Role{"": 0, "zoe": 0, "vera": Viewer, "oscar": Operator} {
			t.Run(fmt.Sprintf("%s %s by %q", route.method, path, who), func(t *testing.T) {
				var w *httptest.ResponseRecorder
				switch {
				case route.method == http.MethodGet:
					w = b.get(who, path)
				case role == 0: // has no page to take a token from
					r := b.form("vera", path, nil)
					r.Header.Set("X-Name", who)
					if who == "" {
						r.Header.Del("X-Name")
					}
					w = b.call(r)
				default:
					w = b.post(who, path, nil)
				}
				if refused := w.Code == http.StatusForbidden; refused != (role < route.role) {
					t.Errorf("the answer is %d: %s", w.Code, w.Body)
				}
				headers(t, w)
			})
		}
	}
	entries, _ := b.audit.List(t.Context(), 0, 100)
	refused := map[string]int{}
	for _, e := range entries {
		if e.Outcome == Refused && e.Who == "vera" {
			refused[e.Action]++
		}
	}
	for _, action := range []string{"push", "test", "withdraw"} {
		if refused[action] != 1 {
			t.Errorf("the audit log has %d refusals of %s to the viewer", refused[action], action)
		}
	}
}

// headers looks at what every answer has.
func headers(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	policy := w.Header().Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("the policy %q is without %s", policy, part)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
		t.Errorf("the policy is %q", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	if w.Header().Get("Cache-Control") != "no-store" && !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
		t.Errorf("an answer may be kept: %q", w.Header().Get("Cache-Control"))
	}
}

// TestMethods: what a route does not take is refused with what it takes.
func TestMethods(t *testing.T) {
	b := newBench(t)
	for method, wants := range map[string]int{http.MethodPut: 405, http.MethodDelete: 405, http.MethodGet: 405, http.MethodHead: 405, http.MethodOptions: 405} {
		w := b.call(b.request("oscar", method, "/compose/send", nil))
		if w.Code != wants || w.Header().Get("Allow") != "POST" {
			t.Errorf("%s is answered with %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
	if w := b.call(b.request("oscar", http.MethodHead, "/", nil)); w.Code != 200 || w.Body.Len() > 0 {
		t.Errorf("HEAD is answered with %d and %d bytes", w.Code, w.Body.Len())
	}
}

// TestWithoutIdentify: a page without one is closed, to everything.
func TestWithoutIdentify(t *testing.T) {
	h := Handler(open(t, fanfare.Options{}), Options{})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, path := range []string{"/", "/tasks", "/compose/send"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "console.Options") {
				t.Errorf("%s %s is answered with %d: %s", method, path, w.Code, w.Body)
			}
		}
	}
}

// TestRefusals: how an Identify refuses is what is answered, and no error of it is shown.
func TestRefusals(t *testing.T) {
	p := open(t, fanfare.Options{})
	tests := map[string]struct {
		who    Identity
		err    error
		status int
		header map[string]string
	}{
		"an error":           {err: errors.New("a secret"), status: 403},
		"no name":            {who: Identity{Role: Operator}, status: 403},
		"a refusal":          {err: &Refusal{}, status: 403},
		"a challenge":        {err: &Refusal{Status: 401, Challenge: "Basic"}, status: 401, header: map[string]string{"WWW-Authenticate": "Basic"}},
		"a wrapped refusal":  {err: fmt.Errorf("a secret: %w", &Refusal{Status: 401}), status: 401},
		"a place to sign in": {err: &Refusal{Location: "/login"}, status: 303, header: map[string]string{"Location": "/login"}},
		"no role":            {who: Identity{Name: "zoe"}, status: 403},
		"no such role":       {who: Identity{Name: "zoe", Role: Operator + 1}, status: 403},
		"a role below":       {who: Identity{Name: "zoe", Role: -1}, status: 403},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := Handler(p, Options{Identify: func(*http.Request) (Identity, error) { return test.who, test.err }})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			if w.Code != test.status || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("the answer is %d: %s", w.Code, w.Body)
			}
			for name, want := range test.header {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s is %q", name, got)
				}
			}
		})
	}
}

// TestSignedOut: who is signed out while a page looks again is taken to where one signs in, whole, and not shown that in the place of the figures.
func TestSignedOut(t *testing.T) {
	h := Handler(open(t, fanfare.Options{}), Options{Identify: func(*http.Request) (Identity, error) { return Identity{}, &Refusal{Location: "/login"} }})
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		for _, part := range []bool{false, true} {
			r := httptest.NewRequest(method, "/figures", nil)
			if part {
				r.Header.Set("HX-Request", "true")
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			status, location, htmx := http.StatusForbidden, "", ""
			switch {
			case method == http.MethodPost:
			case part:
				htmx = "/login"
			default:
				status, location = http.StatusSeeOther, "/login"
			}
			if w.Code != status || w.Header().Get("Location") != location || w.Header().Get("HX-Redirect") != htmx {
				t.Errorf("%s of a part (%v) is answered with %d, %v", method, part, w.Code, w.Header())
			}
		}
	}
}

func TestBasicAuth(t *testing.T) {
	identify := BasicAuth("the page", func(name, password string) (Identity, bool) {
		return Identity{Name: name, Role: Viewer}, name == "vera" && password == "open"
	})
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	_, err := identify(r)
	if refusal, is := errors.AsType[*Refusal](err); !is || refusal.Status != 401 || refusal.Challenge != `Basic realm="the page", charset="UTF-8"` {
		t.Errorf("nobody is refused with %+v", err)
	}
	r.SetBasicAuth("vera", "shut")
	if _, err := identify(r); err == nil {
		t.Error("a wrong password is let in")
	}
	r.SetBasicAuth("vera", "open")
	if who, err := identify(r); err != nil || who.Name != "vera" || who.Role != Viewer {
		t.Errorf("Vera is %+v, %v", who, err)
	}
}

// TestForgery: a form of another page changes nothing, whatever is wrong with it.
func TestForgery(t *testing.T) {
	b := newBench(t)
	task := b.push(fanfare.All())
	path := "/tasks/" + task.ID + "/withdraw"
	tests := map[string]func(r *http.Request){
		"from another site":   func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"from a sibling site": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"from another origin": func(r *http.Request) {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set("Origin", "https://elsewhere.example")
		},
		"without a session": func(r *http.Request) { r.Header.Del("Cookie") },
		"with another session": func(r *http.Request) {
			r.Header.Set("Cookie", sessionCookie+"="+strings.Repeat("A", 26))
		},
		"as another person": func(r *http.Request) { r.Header.Set("X-Name", "olga") },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			r := b.form("oscar", path, nil)
			change(r)
			if w := b.call(r); w.Code != http.StatusForbidden {
				t.Errorf("the answer is %d", w.Code)
			}
		})
	}
	for name, token := range map[string]string{"without a token": "", "with another token": strings.Repeat("0", 64)} {
		t.Run(name, func(t *testing.T) {
			if w := b.post("oscar", path, url.Values{"token": {token}}); w.Code != http.StatusForbidden {
				t.Errorf("the answer is %d", w.Code)
			}
		})
	}
	for name, kind := range map[string]string{"as JSON": "application/json", "as plain text": "text/plain", "in parts": "multipart/form-data; boundary=x"} {
		t.Run(name, func(t *testing.T) {
			r := b.form("oscar", path, nil)
			r.Header.Set("Content-Type", kind)
			if w := b.call(r); w.Code != http.StatusUnsupportedMediaType {
				t.Errorf("the answer is %d", w.Code)
			}
		})
	}
	if g, err := task.Progress(); err != nil || !g.Ended.IsZero() {
		t.Errorf("the task is %+v, %v", g, err)
	}
	if w := b.post("oscar", path, nil); w.Code != http.StatusSeeOther {
		t.Errorf("the genuine form is answered with %d: %s", w.Code, w.Body)
	}
}

// TestTrustedOrigins: a proxy that changes the Host is told of.
func TestTrustedOrigins(t *testing.T) {
	b := newBenchWith(t, open(t, fanfare.Options{}), Options{TrustedOrigins: []string{"https://ops.example"}})
	r := b.form("oscar", "/compose/confirm", draftFields("all"))
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.Header.Set("Origin", "https://ops.example")
	if w := b.call(r); w.Code != http.StatusOK {
		t.Errorf("the answer is %d", w.Code)
	}
	panics(t, func() { Handler(b.p, Options{TrustedOrigins: []string{"ops"}}) })
}

func panics(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("there is no panic")
		}
	}()
	f()
}

// TestNoPusher: that there is none is found when the page is made, not when somebody looks at it.
func TestNoPusher(t *testing.T) {
	panics(t, func() { Handler(nil, Options{Identify: byHeader}) })
}

func TestCookies(t *testing.T) {
	p := open(t, fanfare.Options{})
	for name, test := range map[string]struct {
		o      Options
		url    string
		secure bool
		path   string
	}{
		"plain":         {url: "http://a.example/tasks", path: "/"},
		"TLS":           {url: "https://a.example/tasks", secure: true, path: "/"},
		"TLS elsewhere": {o: Options{SecureCookies: true, Base: "/ops/console/"}, url: "http://a.example/ops/console/tasks", secure: true, path: "/ops/console/"},
	} {
		t.Run(name, func(t *testing.T) {
			test.o.Identify = byHeader
			r := httptest.NewRequest(http.MethodGet, test.url, nil)
			r.Header.Set("X-Name", "vera")
			w := httptest.NewRecorder()
			Handler(p, test.o).ServeHTTP(w, r)
			cookies := w.Result().Cookies()
			if w.Code != 200 || len(cookies) != 1 {
				t.Fatalf("the answer is %d with %v", w.Code, cookies)
			}
			c := cookies[0]
			if c.Secure != test.secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != test.path || len(c.Value) < 26 {
				t.Errorf("the cookie is %+v", c)
			}
		})
	}
}

// TestBounds: what is too large, or too slow, is refused.
func TestBounds(t *testing.T) {
	b := newBenchWith(t, open(t, fanfare.Options{}), Options{MaxBodyBytes: 4 << 10})
	if w := b.post("oscar", "/compose/confirm", with(draftFields("all"), "text", strings.Repeat("x", 8<<10))); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a large form is answered with %d", w.Code)
	}
	if w := b.call(func() *http.Request {
		r := b.form("oscar", "/compose/confirm", nil)
		r.Body = http.NoBody
		r.URL.RawQuery = "token=x;y"
		return r
	}()); w.Code != http.StatusBadRequest && w.Code != http.StatusForbidden {
		t.Errorf("a form that is none is answered with %d", w.Code)
	}
	late := newBenchWith(t, b.p, Options{Timeout: time.Nanosecond})
	if w := late.get("vera", "/"); w.Code != http.StatusServiceUnavailable && w.Code != http.StatusOK {
		t.Errorf("what is late is answered with %d", w.Code)
	}
}

// TestSlowBody: a form that does not come is not waited for.
func TestSlowBody(t *testing.T) {
	b := newBenchWith(t, open(t, fanfare.Options{}), Options{Timeout: 200 * time.Millisecond})
	server := httptest.NewServer(b.h)
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = fmt.Fprintf(c, "POST /compose/confirm HTTP/1.1\r\nHost: x\r\nX-Name: oscar\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nto=")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("the answer is %d", resp.StatusCode)
	}
}

// TestAssets: what the pages load is there for who has not signed in, may be kept for ever, and nothing else of the directory is.
func TestAssets(t *testing.T) {
	b := newBench(t)
	for name, a := range assets {
		w := b.get("", "/assets/"+a.hash+"/"+name)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != a.kind || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Body.Len() != len(a.data) {
			t.Errorf("%s is %d, %v", name, w.Code, w.Header())
		}
		headers(t, w)
		for _, path := range []string{"/assets/0/" + name, "/assets/" + name, "/assets/" + a.hash + "/README.md", "/assets/" + a.hash + "/../" + name} {
			if w := b.get("", path); w.Code != http.StatusNotFound {
				t.Errorf("%s is %d", path, w.Code)
			}
		}
		if w := b.call(b.request("", http.MethodPost, "/assets/"+a.hash+"/"+name, nil)); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("a POST of %s is %d", name, w.Code)
		}
	}
	licences, err := assetFiles.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := assetFiles.ReadFile("assets/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range licences {
		if !strings.Contains(string(readme), "`"+f.Name()+"`") && f.Name() != "README.md" {
			t.Errorf("the README says nothing of %s", f.Name())
		}
	}
}
