package console

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
)

//go:embed templates
var templateFiles embed.FS

// pages are the templates by file, each with the layout and what several share.
var pages = parsePages()

func parsePages() map[string]*template.Template {
	files, err := templateFiles.ReadDir("templates")
	if err != nil {
		panic(err) // it is compiled in
	}
	shared := template.Must(template.New("").Funcs(template.FuncMap{"len64": func(b []byte) int64 { return int64(len(b)) }}).ParseFS(templateFiles, "templates/layout.html", "templates/shared.html"))
	out := make(map[string]*template.Template)
	for _, f := range files {
		name := strings.TrimSuffix(f.Name(), ".html")
		if name == "layout" || name == "shared" {
			continue
		}
		out[name] = template.Must(template.Must(shared.Clone()).ParseFS(templateFiles, "templates/"+f.Name()))
	}
	return out
}

// view is a request and what its answer needs. What is exported is for the templates.
type view struct {
	h     *handler
	w     http.ResponseWriter
	r     *http.Request
	ctx   context.Context
	lang  *language
	route *route
	arg   string // of the route's path
	below string
	mount string

	Base  string // the top of the page, relative to this one, with a slash at its end
	Who   Identity
	Token string
}

// page is what a template is given.
type page struct {
	*view
	Title   string // a key of the texts
	Section string // that the navigation marks
	// Switch is where the page's form goes to be shown in another language, with all that is filled in. Empty: the page is asked for again.
	Switch string
	Data   any
}

// With is the same page with other data, for a template within.
func (p page) With(data any) page {
	p.Data = data
	return p
}

// render answers with a whole page.
func (v *view) render(status int, name string, p page) error {
	return v.write(status, name, "layout", p)
}

// fragment answers with a part of a page, for htmx.
func (v *view) fragment(name, part string, data any) error {
	return v.write(http.StatusOK, name, part, page{Data: data})
}

func (v *view) write(status int, name, part string, p page) error {
	p.view = v
	var b bytes.Buffer // so that what fails is not half sent
	if err := pages[name].ExecuteTemplate(&b, part, p); err != nil {
		return err
	}
	header := v.w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Language", v.lang.Tag)
	header.Add("Vary", "Accept-Language, Cookie")
	v.w.WriteHeader(status)
	if v.r.Method != http.MethodHead {
		_, _ = b.WriteTo(v.w) // to who has gone
	}
	return nil
}

// redirect answers a form that was done with the page to look at. The address is relative: [http.Redirect] would take it to be one of the host's root.
func (v *view) redirect(to string) error {
	v.w.Header().Set("Location", v.Base+to)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// identify finds out who asks.
func (v *view) identify() error {
	if v.h.o.Identify == nil {
		return &statusError{http.StatusForbidden, "This page is closed: the program that runs it has not said who may see it. Its console.Options need an Identify."}
	}
	who, err := v.h.o.Identify(v.r)
	if refusal, is := errors.AsType[*Refusal](err); is {
		if refusal.Challenge != "" {
			v.w.Header().Set("WWW-Authenticate", refusal.Challenge)
		}
		switch get := v.r.Method == http.MethodGet || v.r.Method == http.MethodHead; {
		case refusal.Location == "" || !get:
		case v.r.Header.Get("HX-Request") != "": // what it follows it would show as a part of the page
			v.w.Header().Set("HX-Redirect", refusal.Location)
		default:
			v.w.Header().Set("Location", refusal.Location)
			return &statusError{http.StatusSeeOther, "Sign in to see this page."}
		}
		return &statusError{refusal.status(), "Sign in to see this page."}
	}
	if err == nil && who.Name == "" {
		err = errors.New("an Identity without a name")
	}
	if err != nil {
		v.h.o.Logger.Warn("console: a request was refused", "path", v.below, "error", err)
		return &statusError{http.StatusForbidden, "You may not see this page."}
	}
	if v.Who = who; who.Role != Viewer && who.Role != Operator {
		v.Who.Role = 0
	}
	v.Token = v.h.token(v.h.session(v.w, v.r, v.mount), who)
	return nil
}

// fail answers with what is wrong.
func (v *view) fail(err error) {
	status, text := http.StatusInternalServerError, "Something went wrong inside. The log of the server says what."
	var known *statusError
	switch {
	case errors.As(err, &known):
		status, text = known.status, known.text
	case errors.Is(err, fanfare.ErrUnknownTask):
		status, text = http.StatusNotFound, "There is no such task, or it was forgotten, 30 days after its end."
	case errors.Is(err, fanfare.ErrUnknownPlan):
		status, text = http.StatusNotFound, "There is no such plan, or it was forgotten, 30 days after its end."
	case errors.Is(err, fanfare.ErrUnknownUser):
		status, text = http.StatusNotFound, "There is no such user."
	case errors.Is(err, fanfare.ErrOutcomeUnknown):
		status, text = http.StatusServiceUnavailable, "It is not known whether this was done. Sending the same form again is safe."
	case errors.Is(err, fanfare.ErrNoRoom):
		status, text = http.StatusServiceUnavailable, "The disk is full. Nothing was done."
	case errors.Is(err, fanfare.ErrClosed), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		status, text = http.StatusServiceUnavailable, "The server is stopping, or too slow just now. Try again."
	default:
		v.h.o.Logger.Error("console: a page failed", "path", v.below, "error", err)
	}
	if v.r.Header.Get("HX-Request") != "" {
		v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
		v.w.WriteHeader(status)
		_, _ = v.w.Write([]byte(`<p class="problem" role="alert">` + template.HTMLEscapeString(v.T(text)) + `</p>`))
		return
	}
	if err := v.render(status, "error", page{Title: text, Data: status}); err != nil {
		v.h.o.Logger.Error("console: a page failed", "path", v.below, "error", err)
		http.Error(v.w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

// N is a number, in groups of three.
func (v *view) N(n any) string {
	digits := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return sign + b.String()
}

// People is a number of people.
func (v *view) People(n int64) string {
	if n == 1 {
		return v.T("1 person")
	}
	return v.T("%s people", v.N(n))
}

// People64 is People of another kind of number.
func (v *view) People64(n int) string { return v.People(int64(n)) }

// After is the number of the i-th thing, as people count.
func (v *view) After(i int) int { return i + 1 }

// Bytes is a size.
func (v *view) Bytes(n int64) string {
	size := float64(n)
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if size < 1024 {
			return strconv.FormatFloat(size, 'f', min(len(unit)/3, 1), 64) + " " + unit
		}
		size /= 1024
	}
	return strconv.FormatFloat(size, 'f', 1, 64) + " TiB"
}

// Time is a moment, in the zone of the page.
func (v *view) Time(t time.Time) string { return t.In(v.h.o.Location).Format("2006-01-02 15:04:05") }

// Machine is a moment for machines.
func (v *view) Machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Zone is the zone of the times that are shown.
func (v *view) Zone() string { return zoneText(time.Now().In(v.h.o.Location)) }

// Say is a fact in the language of who looks.
func (v *view) Say(f fact) string { return v.T(f.Text, f.Args...) }

// Operator says whether who looks may push and withdraw.
func (v *view) Operator() bool { return v.Who.Role >= Operator }

// Clip is a text of at most so many characters.
func (v *view) Clip(most int, text string) string { return clip(text, most) }

// clip cuts a text to so many characters, and shows that it did.
func clip(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}
