package browsertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// look is how somebody looks at the page.
type look struct {
	width, height int64
	dark          bool
	language      string // of Accept-Language
}

var desktop = look{width: 1280, height: 900, language: "en"}

// tab is a page in the browser, and what went wrong in it.
type tab struct {
	*testing.T
	w    *world
	site string // what the page may ask for begins so
	url  string // of the page, with a slash at its end
	ctx  context.Context

	mu     sync.Mutex
	wrong  []string
	status map[string]int64 // of documents, by address
}

// leftPage is the code of "Inspected target navigated or closed", and of the like.
const leftPage = -32000

// executable is the browser, or why there is none.
func executable() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// open starts a browser. A request to another host, a violation of the page's security policy, and an error of a script fail the test.
func open(t *testing.T, l look) *tab {
	t.Helper()
	path, err := executable()
	if err != nil {
		t.Skip("there is no chromium on this machine")
	}
	w, err := theWorld()
	if err != nil {
		t.Fatal(err)
	}
	w.slow.Store(0)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("lang", l.language), chromedp.Flag("accept-lang", l.language), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("font-render-hinting", "none"),
	)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	tab := &tab{T: t, w: w, site: w.host + "/deep/", url: w.url, ctx: ctx, status: make(map[string]int64)}
	if err := chromedp.Listen(ctx, tab.hear); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	call(tab, network.Enable, network.EnableParams{})
	call(tab, log.Enable, cdp.Empty{})
	call(tab, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": l.language}})
	call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	call(tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.width < 600})
	t.Cleanup(func() {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		for _, what := range tab.wrong {
			t.Error(what)
		}
	})
	return tab
}

func (t *tab) hear(event any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err == nil && !strings.HasPrefix(e.Request.URL, t.site) && u.Scheme != "about" && u.Scheme != "data" {
			t.wrong = append(t.wrong, "a request to "+e.Request.URL)
		}
	case *network.EventResponseReceived:
		t.status[e.Response.URL] = e.Response.Status
		if e.Response.Status >= 500 {
			t.wrong = append(t.wrong, fmt.Sprintf("%d of %s", e.Response.Status, e.Response.URL))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && !strings.Contains(e.Entry.Text, "status of 4") {
			t.wrong = append(t.wrong, fmt.Sprintf("the browser says: %s (%s)", e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventExceptionThrown:
		t.wrong = append(t.wrong, "a script failed: "+e.ExceptionDetails.Text)
	}
}

func (t *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(t.ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// get is what an action returns.
func get[T any](t *tab, a chromedp.Action[T]) T {
	t.Helper()
	out, err := chromedp.Run(t.ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func call[P, R any](t *tab, command cdp.Command[P, R], params P) {
	t.Helper()
	if _, err := chromedp.Call(t.ctx, command, params); err != nil {
		t.Fatal(err)
	}
}

// visit opens a page of the console.
func (t *tab) visit(path string) {
	t.Helper()
	t.do(chromedp.Navigate(t.url+path), chromedp.WaitReady("main"))
}

// value is what a script says, that may be run twice: a page that gives way to the next one meanwhile answers with an error.
func value[T any](t *tab, script string) T {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(30 * time.Millisecond) {
		out, err := chromedp.Run(t.ctx, chromedp.Evaluate[T](script))
		if gone := new(cdproto.Error); errors.As(err, &gone) && gone.Code == leftPage && time.Now().Before(end) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// text is what an element shows.
func (t *tab) text(selector string) string {
	t.Helper()
	quoted, _ := json.Marshal(selector)
	return strings.Join(strings.Fields(value[string](t, fmt.Sprintf("document.querySelector(%s)?.innerText ?? ''", quoted))), " ")
}

// until waits for something to be so.
func (t *tab) until(what, script string) {
	t.Helper()
	end := time.Now().Add(30 * time.Second)
	for !value[bool](t, "(() => { try { return Boolean("+script+") } catch { return false } })()") { // between two pages there is no document
		if time.Now().After(end) {
			t.Fatalf("%s did not come to be; the page is %s: %.600s", what, value[string](t, "location.href"), t.text("main"))
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// shows waits until an element shows a text.
func (t *tab) shows(selector, text string) {
	t.Helper()
	s, _ := json.Marshal(selector)
	x, _ := json.Marshal(text)
	t.until(fmt.Sprintf("%s in %s", text, selector), fmt.Sprintf("(document.querySelector(%s)?.innerText ?? '').includes(%s)", s, x))
}

// fill types into a field.
func (t *tab) fill(selector, text string) {
	t.Helper()
	quoted, _ := json.Marshal(selector)
	value[bool](t, fmt.Sprintf("{ const e = document.querySelector(%s); e.focus(); e.select(); true }", quoted))
	t.do(chromedp.KeyEvent(text))
}

func (t *tab) click(selector string) {
	t.Helper()
	t.do(chromedp.ScrollIntoView(selector), chromedp.Click(selector))
}

// press types keys wherever the focus is.
func (t *tab) press(keys ...string) {
	t.Helper()
	for _, k := range keys {
		t.do(chromedp.KeyEvent(k))
	}
}
