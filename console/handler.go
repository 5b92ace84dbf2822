package console

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare"
)

// handler answers the requests of the page.
type handler struct {
	p       *fanfare.Pusher
	o       Options
	origins *http.CrossOriginProtection
	key     []byte // of the forms' tokens; another in each process, so a form does not outlive it
	// counting bounds the audiences that are counted, or looked into, at a time: who types fast queues for a place, and gives it up with the request.
	counting chan struct{}
	streams  chan struct{}
	charting time.Duration // how long the tasks of a plan are read for its chart
	refusals refusals

	recentMu sync.Mutex
	recent   recent
}

// Handler makes the page over a Pusher, which the caller closes after the server has stopped. It panics without one, and if one of TrustedOrigins is no origin, as
// those are the program's to give.
func Handler(p *fanfare.Pusher, o Options) http.Handler {
	if p == nil {
		panic("console: Handler without a Pusher")
	}
	o = o.withDefaults()
	h := &handler{
		p: p, o: o, origins: http.NewCrossOriginProtection(), key: make([]byte, 32),
		counting: make(chan struct{}, 4), streams: make(chan struct{}, o.Streams),
		charting: historyWithin,
	}
	_, _ = rand.Read(h.key) // does not fail
	for _, origin := range o.TrustedOrigins {
		if err := h.origins.AddTrustedOrigin(origin); err != nil {
			panic("console: " + err.Error())
		}
	}
	return h
}

// route is something that can be asked for.
type route struct {
	method string
	path   string // a part in braces is anything
	role   Role   // at least
	action string // what the audit log calls it; empty: it changes nothing
	stream bool   // it answers for longer than a request may take
	serve  func(*handler, *view) error
}

// routes are all there are.
var routes []route

func init() { // what they serve looks for routes itself
	routes = []route{
		{method: http.MethodGet, path: "/", role: Viewer, serve: (*handler).overview},
		{method: http.MethodGet, path: "/figures", role: Viewer, serve: (*handler).figures},
		{method: http.MethodGet, path: "/compose", role: Operator, serve: (*handler).compose},
		{method: http.MethodPost, path: "/compose", role: Operator, serve: (*handler).edit},
		{method: http.MethodPost, path: "/compose/audience", role: Operator, serve: (*handler).audience},
		{method: http.MethodPost, path: "/compose/complete", role: Operator, serve: (*handler).complete},
		{method: http.MethodPost, path: "/compose/preview", role: Operator, serve: (*handler).preview},
		{method: http.MethodPost, path: "/compose/confirm", role: Operator, serve: (*handler).confirm},
		{method: http.MethodPost, path: "/compose/test", role: Operator, action: "test", serve: (*handler).test},
		{method: http.MethodPost, path: "/compose/send", role: Operator, action: "push", serve: (*handler).send},
		{method: http.MethodGet, path: "/tasks", role: Viewer, serve: (*handler).tasks},
		{method: http.MethodGet, path: "/tasks/{task}", role: Viewer, serve: (*handler).task},
		{method: http.MethodGet, path: "/tasks/{task}/events", role: Viewer, stream: true, serve: (*handler).events},
		{method: http.MethodGet, path: "/tasks/{task}/withdraw", role: Operator, serve: (*handler).askWithdraw},
		{method: http.MethodPost, path: "/tasks/{task}/withdraw", role: Operator, action: "withdraw", serve: (*handler).withdraw},
		{method: http.MethodPost, path: "/recall/preview", role: Operator, serve: (*handler).previewRecall},
		{method: http.MethodGet, path: "/plans", role: Viewer, serve: (*handler).plans},
		{method: http.MethodGet, path: "/plans/{plan}", role: Viewer, serve: (*handler).planPage},
		{method: http.MethodGet, path: "/plans/{plan}/figures", role: Viewer, serve: (*handler).planFigures},
		{method: http.MethodGet, path: "/plans/{plan}/history", role: Viewer, serve: (*handler).planHistory},
		{method: http.MethodGet, path: "/plans/{plan}/change", role: Operator, serve: (*handler).askChangePlan},
		{method: http.MethodPost, path: "/plans/{plan}/change", role: Operator, action: "change", serve: (*handler).changePlan},
		{method: http.MethodPost, path: "/plans/{plan}/pause", role: Operator, action: "pause", serve: (*handler).pausePlan},
		{method: http.MethodPost, path: "/plans/{plan}/resume", role: Operator, action: "resume", serve: (*handler).resumePlan},
		{method: http.MethodPost, path: "/plans/{plan}/pace", role: Operator, action: "pace", serve: (*handler).pacePlan},
		{method: http.MethodGet, path: "/plans/{plan}/end", role: Operator, serve: (*handler).askCancelPlan},
		{method: http.MethodPost, path: "/plans/{plan}/end", role: Operator, action: "end", serve: (*handler).cancelPlan},
		{method: http.MethodGet, path: "/users", role: Viewer, serve: (*handler).users},
		{method: http.MethodGet, path: "/audit", role: Viewer, serve: (*handler).audit},
		{method: http.MethodPost, path: "/language", role: Viewer, serve: (*handler).setLanguage},
	}
}

// match says whether a path is the route's, and what is in the place of the braces.
func (t *route) match(path string) (arg string, ok bool) {
	pattern, given := strings.Split(t.path, "/"), strings.Split(path, "/")
	if len(pattern) != len(given) {
		return "", false
	}
	for i, part := range pattern {
		switch {
		case strings.HasPrefix(part, "{"):
			if arg = given[i]; arg == "" {
				return "", false
			}
		case part != given[i]:
			return "", false
		}
	}
	return arg, true
}

// find returns the route of a request, and the methods that there are for its path.
func find(method, path string) (found *route, arg string, methods []string) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for i := range routes {
		t := &routes[i]
		if a, ok := t.match(path); ok {
			if methods = append(methods, t.method); t.method == method {
				found, arg = t, a
			}
		}
	}
	return found, arg, methods
}

// statusError is what is wrong with a request: told on the page in a whole sentence, which is a key of the texts.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// secure sets the headers that every answer has.
func secure(header http.Header) {
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	header.Set("Cache-Control", "no-store")
}

// place is where a request is, below where the page is mounted, and where that is.
func (h *handler) place(r *http.Request) (below, mount string) {
	below, mount = r.URL.Path, "/"
	switch rest, has := strings.CutPrefix(below, h.o.Base); {
	case h.o.Base != "":
		mount = (&url.URL{Path: h.o.Base + "/"}).EscapedPath()
		if has && (rest == "" || rest[0] == '/') {
			below = rest
		}
	default:
		if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
			if prefix, ok := strings.CutSuffix(u.Path, below); ok {
				mount = (&url.URL{Path: strings.TrimSuffix(prefix, "/") + "/"}).EscapedPath()
			}
			if below == "" && (u.Path == "" || strings.HasSuffix(u.Path, "/")) {
				below = "/"
			}
		}
	}
	if below != "" && below[0] != '/' {
		below = "/" + below // what StripPrefix leaves of "/console/"
	}
	return below, mount
}

// ServeHTTP answers a request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	below, mount := h.place(r)
	if below == "" { // the mount without its slash, against which nothing relative would be right
		last := path.Base(strings.TrimSuffix(mount, "/"))
		w.Header().Set("Location", "./"+last+"/")
		w.WriteHeader(http.StatusPermanentRedirect)
		return
	}
	v := &view{h: h, w: w, r: r, lang: languageOf(r), Base: relative(below), below: below, mount: mount}
	defer func() {
		x := recover()
		if x == http.ErrAbortHandler {
			panic(x)
		}
		if x != nil {
			h.o.Logger.Error("console: a page panicked", "path", below, "panic", x, "stack", string(debug.Stack()))
			v.fail(errors.New("panic"))
		}
	}()
	if name, is := strings.CutPrefix(below, "/assets/"); is {
		serveAsset(w, r, name)
		return
	}
	if err := h.answer(v); err != nil {
		v.fail(err)
	}
}

// relative is how the top of the page is said from a path: links that are relative are right wherever the page is mounted, behind a proxy that strips a
// prefix too.
func relative(below string) string {
	depth := strings.Count(below[1:], "/")
	if depth == 0 {
		return "./"
	}
	return strings.Repeat("../", depth)
}

func (h *handler) answer(v *view) error {
	if err := v.identify(); err != nil {
		return err
	}
	if path.Clean(v.below) != v.below {
		return &statusError{http.StatusNotFound, "There is no such page."}
	}
	t, arg, methods := find(v.r.Method, v.below)
	switch {
	case len(methods) == 0:
		return &statusError{http.StatusNotFound, "There is no such page."}
	case t == nil:
		v.w.Header().Set("Allow", strings.Join(methods, ", "))
		return &statusError{http.StatusMethodNotAllowed, "This page does not take such a request."}
	}
	v.route, v.arg = t, arg
	ctx := v.r.Context()
	if !t.stream {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, h.o.Timeout)
		defer cancel()
	}
	v.ctx = ctx
	if t.method == http.MethodPost {
		if err := h.readForm(v); err != nil {
			return err
		}
	}
	if v.Who.Role < t.role {
		if t.action != "" && h.refusals.take(v.Who.Name, time.Now()) {
			if err := h.o.Audit.Record(ctx, v.entry(t.action, v.arg, "", Refused)); err != nil {
				h.o.Logger.Error("console: the audit log failed", "error", err)
			}
		}
		return &statusError{http.StatusForbidden, "Your role does not allow this. Nothing was done."}
	}
	return t.serve(h, v)
}

// readForm reads the form of a POST, within bounds, and refuses one that is not of this page.
func (h *handler) readForm(v *view) error {
	_ = http.NewResponseController(v.w).SetReadDeadline(time.Now().Add(h.o.Timeout)) // a recorder in a test has none
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, h.o.MaxBodyBytes)
	if kind, _, _ := strings.Cut(v.r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/x-www-form-urlencoded" {
		return &statusError{http.StatusUnsupportedMediaType, "This page does not take such a request."}
	}
	if err := v.r.ParseForm(); err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return &statusError{http.StatusRequestEntityTooLarge, "The form is too large. Nothing was done."}
		}
		return &statusError{http.StatusBadRequest, "The form could not be read. Nothing was done."}
	}
	if err := h.genuine(v.r, v.Who); err != nil {
		h.o.Logger.Warn("console: a form was refused", "who", v.Who.Name, "path", v.below, "error", err)
		return &statusError{http.StatusForbidden, "The form is not one of this page's, or is too old. Nothing was done: go back, load the page anew, and send it again."}
	}
	return nil
}

// act does what the audit log is told of, before and after. It goes on when the one who asked has gone: what was begun should not be left half known.
func (h *handler) act(v *view, target, detail string, do func(context.Context) (string, error)) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), h.o.Timeout)
	defer cancel()
	e := v.entry(v.route.action, target, detail, Begun)
	if err := h.o.Audit.Record(ctx, e); err != nil {
		h.o.Logger.Error("console: the audit log failed", "error", err)
		return &statusError{http.StatusServiceUnavailable, "The audit log takes no entry, so nothing was done."}
	}
	target, err := do(ctx)
	e.Time, e.Outcome = time.Now(), Done
	if target != "" {
		e.Target = target
	}
	if err != nil {
		e.Outcome, e.Error = Failed, clip(err.Error(), 2000) // it may quote what was sent
	}
	if err := h.o.Audit.Record(ctx, e); err != nil {
		h.o.Logger.Error("console: the audit log failed", "entry", e, "error", err) // it has what began
	}
	return err
}

func (v *view) entry(action, target, detail string, outcome Outcome) Entry {
	return Entry{ID: rand.Text(), Time: time.Now(), Who: v.Who.Name, Role: v.Who.Role, Action: action, Target: clip(target, 255), Detail: clip(detail, 2000), Outcome: outcome}
}

// number reads a number of a query, such as that of a page: 0 for what is none.
func number(text string, most int) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0
	}
	return n
}
