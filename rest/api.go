package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/fanfare-im/fanfare"
)

// API is an [http.Handler] for the commands, below /v4/, and their description at /openapi.json. Make one with [Handler]. It is safe for
// concurrent use.
type API struct {
	p        *fanfare.Pusher
	o        Options
	keys     [][]byte
	verified verified
	inFlight chan struct{}
	rates    map[string]*rate.Limiter

	pushing sync.Mutex // where pushes are counted
}

// Handler makes the API over a Pusher, which the caller closes after the server has stopped. It panics without an SDKAppID above 0 or a
// key, as those are the program's to give.
func Handler(p *fanfare.Pusher, o Options) *API {
	if o.SDKAppID <= 0 || len(o.Keys) == 0 {
		panic("rest: Options.SDKAppID and Options.Keys are needed")
	}
	a := &API{p: p, o: o.withDefaults()}
	for _, key := range o.Keys {
		if len(key) == 0 {
			panic("rest: an empty key")
		}
		a.keys = append(a.keys, key)
	}
	a.inFlight = make(chan struct{}, a.o.MaxInFlight)
	if n := a.o.Limits.PerSecond; n > 0 {
		a.rates = make(map[string]*rate.Limiter, len(commands))
		for name := range commands {
			a.rates[name] = rate.NewLimiter(rate.Limit(n), max(int(n), 1))
		}
	}
	return a
}

// command is what a path stands for.
type command struct {
	run func(*API, *request) (answer, error)
	// The codes for what is wrong with any of the service's commands, where they are not those of the gateway.
	badJSON, notAdmin, inside int
	noFields                  bool // it reads none, so that an empty list, which is an empty map of PHP's, is as good as none
}

// request is a call of a command.
type request struct {
	ctx  context.Context
	from string // who calls
	body object
	raw  []byte
}

// commands are the paths below /v4/.
var commands = map[string]*command{}

// serve adds a command.
func serve(path string, run func(*API, *request) (answer, error)) *command {
	c := &command{run: run, inside: codeAccountInside, badJSON: codeBadJSON, notAdmin: codeNotAdmin}
	if strings.HasPrefix(path, "all_member_push/") || strings.HasPrefix(path, "timpush/") {
		c.badJSON, c.notAdmin, c.inside = codePushBadJSON, codePushNotAdmin, codeInside
	}
	commands[path] = c
	return c
}

// restOfBody is how long the body of a request may still take to come that was refused before it was read: the server takes in what is left
// of it before it sends the answer, or else ends the connection.
const restOfBody = 250 * time.Millisecond

// ServeHTTP answers a request. Whatever comes, the answer is JSON with ActionStatus, ErrorCode and ErrorInfo, and the status of HTTP 200.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := &readBody{ReadCloser: r.Body}
	r.Body = body
	defer func() {
		if !body.begun {
			setReadDeadline(w, restOfBody)
		}
	}()
	if r.URL.Path == "/openapi.json" {
		a.describe(w, r)
		return
	}
	out, err := a.answer(w, r)
	if err != nil {
		out = new(envelope)
	}
	out.set(err)
	write(w, out)
}

// readBody notes whether any of a body was asked for.
type readBody struct {
	io.ReadCloser
	begun bool
}

func (b *readBody) Read(p []byte) (int, error) {
	b.begun = true
	return b.ReadCloser.Read(p)
}

func setReadDeadline(w http.ResponseWriter, after time.Duration) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(after)) // a recorder in a test has none
}

// answer is what is answered, or why it is refused.
func (a *API) answer(w http.ResponseWriter, r *http.Request) (out answer, err *Error) {
	c, name := (*command)(nil), ""
	defer func() {
		if x := recover(); x != nil {
			a.o.Logger.Error("rest: a command panicked", "command", name, "panic", x, "stack", string(debug.Stack()))
			code := codeInside
			if c != nil {
				code = c.inside
			}
			out, err = nil, refuse(code, "internal error: try again")
		}
	}()
	name, below := strings.CutPrefix(r.URL.Path, "/v4/")
	if !below {
		return nil, refuse(codeBadURL, "the path %.64q does not begin with /v4/", r.URL.Path)
	}
	if c = commands[name]; c == nil {
		return nil, refuse(codeNoCommand, "there is no command %.64q", name)
	}
	if r.Method != http.MethodPost {
		return nil, refuse(codeBadHTTP, "the method is %.16s, not POST", r.Method)
	}
	select {
	case a.inFlight <- struct{}{}:
		defer func() { <-a.inFlight }()
	default:
		return nil, refuse(codeTooFrequent, "too many requests at a time: try again")
	}
	from, err := a.authorize(r.URL.Query())
	if err == nil {
		err = a.allowed(from, c)
	}
	if err != nil {
		return nil, err
	}
	if l := a.rates[name]; l != nil && !l.Allow() {
		return nil, refuse(codeTooFrequent, "more than %g requests of %s in a second: try again", a.o.Limits.PerSecond, name)
	}
	body, err := a.read(w, r)
	if err != nil {
		return nil, err
	}
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\ufeff"))) // what is looked at by its first byte has none before it
	if n := bytes.Count(body, []byte{','}); n > maxCommas {
		return nil, refuse(codeTooLarge, "the body has %d commas: %d are the most", n, maxCommas)
	}
	if c.noFields && (isEmptyList(body) || isNull(body)) {
		body = nil
	}
	o, e := parseObject(body)
	if e != nil {
		return nil, refuse(c.badJSON, "the body is not a JSON object: %v", e)
	}
	out, e = c.run(a, &request{ctx: r.Context(), from: from, body: o, raw: body})
	if e != nil {
		return nil, a.refusal(c, name, e)
	}
	return out, nil
}

// maxCommas bounds the values in a body, each of which takes many times its length when it is read. A request of 100 users with all that they
// can have in it has a quarter of it.
const maxCommas = 8192

// read reads the body, of which there may be so much, and which may take so long.
func (a *API) read(w http.ResponseWriter, r *http.Request) ([]byte, *Error) {
	setReadDeadline(w, a.o.BodyTimeout)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.o.MaxBodyBytes))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, refuse(codeTooLarge, "the body is over %d bytes", a.o.MaxBodyBytes)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refuse(codeBadHTTP, "the body did not come within %v", a.o.BodyTimeout)
	case err != nil:
		return nil, refuse(codeBadHTTP, "the body could not be read")
	}
	return body, nil
}

// refusal is the answer for an error: the command's own, or one from inside, of which only the log is told.
func (a *API) refusal(c *command, name string, err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	a.o.Logger.Error("rest: a command failed", "command", name, "error", err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, fanfare.ErrClosed):
		return refuse(c.inside, "the server is stopping, or the client has gone: try again")
	case errors.Is(err, fanfare.ErrOutcomeUnknown):
		return refuse(c.inside, "it is not known whether it was done: try again")
	}
	return refuse(c.inside, "internal error: try again")
}
