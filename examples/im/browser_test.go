package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var screens = flag.String("screens", "", "`directory` that pictures of the page are written to")

// browser is a Chromium. Each person in it has a context of her own: cookies and storage are not shared.
type browser struct {
	*testing.T
	ctx context.Context
}

// openBrowser starts a browser, or skips the test where there is none.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("there is no chromium on this machine")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("lang", "en"), chromedp.Flag("hide-scrollbars", true), chromedp.Flag("font-render-hinting", "none"),
	)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	return &browser{t, ctx}
}

// tab is a page in the browser, and what went wrong in it.
type tab struct {
	*testing.T
	ctx  context.Context
	site string // what the page may ask for begins so, after the scheme

	mu    sync.Mutex
	wrong []string
}

// tab opens a page: of somebody new, or a further one of somebody's. A request to another host, a violation of the page's security policy, and an error of
// a script fail the test; that a connection was cut does not.
func (b *browser) tab(address string, width int64, beside *tab) *tab {
	b.Helper()
	parent, option := b.ctx, chromedp.WithNewBrowserContext()
	if beside != nil {
		parent, option = beside.ctx, nil
	}
	var options []chromedp.ContextOption
	if option != nil {
		options = append(options, option)
	}
	ctx, cancel := chromedp.NewContext(parent, options...)
	b.Cleanup(cancel)
	t := &tab{T: b.T, ctx: ctx, site: strings.TrimPrefix(address, "http")}
	if err := chromedp.Listen(ctx, t.hear); err != nil {
		b.Fatal(err)
	}
	call(t, network.Enable, network.EnableParams{})
	call(t, log.Enable, cdp.Empty{})
	call(t, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}) // several tabs are looked at
	t.size(width)
	t.do(chromedp.Navigate(address))
	b.Cleanup(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, what := range t.wrong {
			b.Error(what)
		}
	})
	return t
}

func (t *tab) size(width int64) {
	t.Helper()
	call(t, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1, Mobile: width < 600})
}

func (t *tab) hear(event any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if _, rest, _ := strings.Cut(e.Request.URL, ":"); !strings.HasPrefix(":"+rest, t.site) && e.Request.URL != "about:blank" {
			t.wrong = append(t.wrong, "a request to "+e.Request.URL)
		}
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			t.wrong = append(t.wrong, fmt.Sprintf("%d of %s", e.Response.Status, e.Response.URL))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && !strings.Contains(e.Entry.Text, "WebSocket connection to") {
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

func call[P, R any](t *tab, command cdp.Command[P, R], params P) {
	t.Helper()
	if _, err := chromedp.Call(t.ctx, command, params); err != nil {
		t.Fatal(err)
	}
}

// value is what a script says.
func value[T any](t *tab, script string) T {
	t.Helper()
	out, err := chromedp.Run(t.ctx, chromedp.Evaluate[T](script))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// until waits for something to be so.
func (t *tab) until(what, script string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !value[bool](t, "Boolean("+script+")"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it does not come to be; the page says: %.800s", what, value[string](t, "document.body.innerText"))
		}
	}
}

func quote(s string) string {
	b, _ := json.Marshal(s) // of a string there is no error
	return string(b)
}

// shows waits until an element shows a text.
func (t *tab) shows(selector, text string) {
	t.Helper()
	t.until(fmt.Sprintf("%q in %s", text, selector), fmt.Sprintf("(document.querySelector(%s)?.innerText ?? '').includes(%s)", quote(selector), quote(text)))
}

func (t *tab) fill(selector, text string) {
	t.Helper()
	value[bool](t, fmt.Sprintf("{ const e = document.querySelector(%s); e.focus(); e.select(); true }", quote(selector)))
	t.do(chromedp.KeyEvent(text))
}

func (t *tab) click(selector string) {
	t.Helper()
	t.do(chromedp.ScrollIntoView(selector), chromedp.Click(selector))
}

// choose takes an option of a select, as the keyboard does.
func (t *tab) choose(selector, option string) {
	t.Helper()
	value[bool](t, fmt.Sprintf("{ const e = document.querySelector(%s); e.value = %s; e.dispatchEvent(new Event('change', {bubbles: true})) }", quote(selector), quote(option)))
}

func (t *tab) login(name string) {
	t.Helper()
	t.do(chromedp.WaitVisible("#name"))
	t.fill("#name", name)
	t.click("#login button")
	t.shows("#state", "Connected")
}

// shown is an announcement on the page.
type shown struct {
	From, Text string
	Unread     bool
}

// feed are the announcements, as they stand on the page.
func (t *tab) feed() []shown {
	t.Helper()
	return value[[]shown](t, `[...document.querySelectorAll('#feed li')].map(li => ({
		from: li.querySelector('.from').firstChild.textContent.trim(), text: li.querySelector('.text').textContent, unread: li.classList.contains('unread') && li.querySelector('.tools button') !== null }))`)
}

func (t *tab) has(n int) {
	t.Helper()
	t.until(fmt.Sprint(n, " announcements"), fmt.Sprintf("document.querySelectorAll('#feed li').length === %d", n))
}

func (t *tab) say(to, text string) {
	t.Helper()
	t.openChat(to)
	t.fill("#line", text)
	t.click("#line-form button")
	t.shows("#lines", text)
}

func (t *tab) openChat(name string) {
	t.Helper()
	if value[string](t, "document.querySelector('#with').textContent") == name && value[bool](t, "!document.querySelector('#conversation').hidden") {
		return
	}
	selector := fmt.Sprintf("#people-list button[data-name=%s]", quote(name))
	t.until(name+" in the list", fmt.Sprintf("document.querySelector(%s)", quote(selector)))
	value[bool](t, fmt.Sprintf("document.querySelector(%s).click(), true", quote(selector))) // the list is drawn anew now and then
	t.shows("#with", name)
}

// shot takes a picture, in light and dark, and checks that nothing is wider than the page, and that axe finds nothing serious in it.
func (t *tab) shot(name string) {
	t.Helper()
	axe, err := os.ReadFile(filepath.Join("..", "..", "console", "browsertest", "axe", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	value[bool](t, string(axe)+"; true")
	for _, scheme := range []string{"dark", "light"} {
		call(t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		t.look(name + "-" + scheme)
	}
}

func (t *tab) look(name string) {
	t.Helper()
	found, err := chromedp.Run(t.ctx, chromedp.Evaluate[[]string](`axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.filter(v => v.impact === 'serious' || v.impact === 'critical')
		.map(v => v.id + ': ' + v.help + ' at ' + v.nodes.map(n => n.target.join(' ') + ' (' + (n.any[0]?.message ?? n.all[0]?.message ?? '') + ')').join(', ')))`, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	for _, violation := range found {
		t.Errorf("%s: %s", name, violation)
	}
	if wide := value[int](t, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
		t.Errorf("%s: the page is %d px wider than the window", name, wide)
	}
	if *screens == "" {
		return
	}
	png, err := chromedp.Run(t.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screens, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// leave closes the page, as who closes the tab does.
func (t *tab) leave() {
	t.Helper()
	value[bool](t, "sessionStorage.clear(), setTimeout(() => location = 'about:blank'), true")
}
