package console

import (
	"crypto/rand"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// maxLocales is how many languages a notification has in the form.
const maxLocales = 20

// draft is the form as it was filled in.
type draft struct {
	To       string
	Format   string // "text" or "json"
	Text     string
	From     string
	Category string
	Lifetime string // one of lifetimes
	When     string // see when.go
	At       string
	Zone     string
	Every    string
	// EveryLocal says that it repeats by the clock on each person's wall.
	EveryLocal bool
	Pace       string

	Notify   bool
	Title    string
	Body     string
	Locales  []draftLocale
	Sound    string
	Link     string
	Image    string
	Collapse string
	Always   bool
	Urgent   bool
	Fill     bool // placeholders

	Key     string // makes sending the form twice one push
	TestKey string // the same for its test
	TestTo  string
}

// draftLocale is the notification in one more language.
type draftLocale struct{ Language, Title, Body string }

// lifetime is one that can be chosen.
type lifetime struct {
	Value string
	Text  string // a key of the texts
	d     time.Duration
}

// lifetimes are those that can be chosen; the library's limit may refuse the longest.
var lifetimes = []lifetime{
	{"0", "Only those connected now", 0},
	{"1h", "1 hour", time.Hour},
	{"6h", "6 hours", 6 * time.Hour},
	{"24h", "1 day", 24 * time.Hour},
	{"72h", "3 days", 72 * time.Hour},
	{"168h", "7 days", 168 * time.Hour},
}

// newDraft is the form before anything is filled in.
func (h *handler) newDraft() *draft {
	return &draft{Format: "text", From: h.o.From, Lifetime: "24h", When: whenNow, Key: rand.Text(), TestKey: rand.Text()}
}

// draftOf reads the form.
func (h *handler) draftOf(f url.Values) *draft {
	line := func(name string) string { return strings.TrimSpace(f.Get(name)) }
	lines := func(name string) string { return strings.ReplaceAll(f.Get(name), "\r\n", "\n") } // as browsers send them
	d := &draft{
		To: lines("to"), Format: f.Get("format"), Text: lines("text"), From: line("from"), Category: line("category"), Lifetime: f.Get("lifetime"),
		When: f.Get("when"), At: line("at"), Zone: line("zone"), Every: line("every"), EveryLocal: f.Get("everylocal") != "", Pace: line("pace"),
		Notify: f.Get("notify") != "", Title: line("title"), Body: lines("body"),
		Sound: line("sound"), Link: line("link"), Image: line("image"), Collapse: line("collapse"), Always: f.Get("always") != "", Urgent: f.Get("urgent") != "", Fill: f.Get("fill") != "",
		Key: f.Get("key"), TestKey: f.Get("testkey"), TestTo: line("testto"),
	}
	languages, titles, bodies := f["locale"], f["localetitle"], f["localebody"]
	for i := range languages[:min(len(languages), maxLocales)] {
		l := draftLocale{Language: strings.TrimSpace(languages[i])}
		if i < len(titles) && i < len(bodies) {
			l.Title, l.Body = strings.TrimSpace(titles[i]), strings.ReplaceAll(bodies[i], "\r\n", "\n")
		}
		d.Locales = append(d.Locales, l)
	}
	switch d.When {
	case whenAt, whenLocal, whenEvery:
	default:
		d.When = whenNow
	}
	if d.Format != "json" {
		d.Format = "text"
	}
	if !isKey(d.Key) {
		d.Key = rand.Text()
	}
	if !isKey(d.TestKey) {
		d.TestKey = rand.Text()
	}
	return d
}

// isKey says whether a key is one that newDraft may have made.
func isKey(s string) bool {
	return len(s) >= 20 && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// field is a field of the form, as a page that holds it hidden has it.
type field struct{ Name, Value string }

// Fields are what is filled in, to be carried through the confirmation.
func (d *draft) Fields() []field {
	out := []field{{"to", d.To}, {"format", d.Format}, {"text", d.Text}, {"from", d.From}, {"category", d.Category}, {"lifetime", d.Lifetime},
		{"when", d.When}, {"at", d.At}, {"zone", d.Zone}, {"every", d.Every}, {"pace", d.Pace}}
	if d.Notify {
		out = append(out, field{"notify", "yes"})
	}
	if d.EveryLocal {
		out = append(out, field{"everylocal", "yes"})
	}
	out = append(out, field{"title", d.Title}, field{"body", d.Body}, field{"sound", d.Sound}, field{"link", d.Link}, field{"image", d.Image}, field{"collapse", d.Collapse})
	if d.Always {
		out = append(out, field{"always", "yes"})
	}
	if d.Urgent {
		out = append(out, field{"urgent", "yes"})
	}
	if d.Fill {
		out = append(out, field{"fill", "yes"})
	}
	for _, l := range d.Locales {
		out = append(out, field{"locale", l.Language}, field{"localetitle", l.Title}, field{"localebody", l.Body})
	}
	return append(out, field{"key", d.Key}, field{"testkey", d.TestKey}, field{"testto", d.TestTo})
}

// More says that one of the fields is filled in that are rarely needed.
func (d *draft) More() bool {
	return d.From != "" || d.Category != ""
}

// MoreOfNotification is More for those of the notification.
func (d *draft) MoreOfNotification() bool {
	return d.Sound != "" || d.Link != "" || d.Image != "" || d.Collapse != "" || d.Always || d.Urgent
}

// LifetimeText is the lifetime as the form words it.
func (d *draft) LifetimeText() string {
	for _, l := range lifetimes {
		if l.Value == d.Lifetime {
			return l.Text
		}
	}
	return d.Lifetime
}

// encoded is the body that users receive.
func (h *handler) encoded(d *draft) []byte {
	if d.Format == "json" {
		return []byte(d.Text)
	}
	return h.o.Encode(d.Text)
}

// mistakes are what is wrong with a form, by the field's name, in the order in which they were found.
type mistakes struct {
	fields []string
	texts  map[string]string
}

func (m *mistakes) add(field, text string) {
	if m.texts == nil {
		m.texts = make(map[string]string)
	}
	if _, ok := m.texts[field]; !ok {
		m.fields = append(m.fields, field)
		m.texts[field] = text
	}
}

// Fields are those with a mistake.
func (m *mistakes) Fields() []string { return m.fields }

// Of is what is wrong with a field; empty: nothing.
func (m *mistakes) Of(field string) string { return m.texts[field] }

// message makes what is pushed of a form, but for its audience, which is told apart. What is wrong is added to the mistakes; the library has the last word.
func (h *handler) message(v *view, d *draft, m *mistakes) fanfare.Message {
	out := fanfare.Message{From: d.From, Category: d.Category, Key: "console-" + d.Key}
	switch {
	case isBlank(d.Text):
		m.add("text", v.T("Write a message."))
	case d.Format == "json" && !json.Valid([]byte(d.Text)):
		m.add("text", v.T("This is not JSON: %s", jsonMistake(d.Text)))
	default:
		out.Body = h.encoded(d)
	}
	if d.Fill {
		if out.Fill = fanfare.FillText; json.Valid(out.Body) {
			out.Fill = fanfare.FillJSON
		}
	}
	known := false
	for _, l := range lifetimes {
		if l.Value == d.Lifetime {
			out.Lifetime, known = l.d, true
		}
	}
	if !known {
		m.add("lifetime", v.T("Choose one of them."))
	}
	if !d.Notify {
		return out
	}
	n := &fanfare.Notification{Title: d.Title, Body: d.Body, Sound: d.Sound, Link: d.Link, Image: d.Image, Collapse: d.Collapse, Always: d.Always, Urgent: d.Urgent}
	if isBlank(d.Title) && isBlank(d.Body) {
		m.add("title", v.T("A notification needs a title or a text."))
	}
	for _, l := range d.Locales {
		switch {
		case l == draftLocale{}:
			continue // a row that was not filled in
		case l.Language == "":
			m.add("locale", v.T("Say of each language which one it is, such as zh-Hant or pt-BR."))
			continue
		}
		if n.Locales == nil {
			n.Locales = make(map[string]transport.Text)
		}
		if _, twice := n.Locales[l.Language]; twice {
			m.add("locale", v.T("The language %s is there twice.", l.Language))
		}
		n.Locales[l.Language] = transport.Text{Title: l.Title, Body: l.Body}
	}
	out.Notification = n
	return out
}

// jsonMistake says where a text is not JSON.
func jsonMistake(text string) string {
	var x any
	err := json.Unmarshal([]byte(text), &x)
	if err == nil {
		return ""
	}
	if s, is := err.(*json.SyntaxError); is {
		before := text[:min(max(int(s.Offset), 0), len(text))]
		line := strings.Count(before, "\n") + 1
		column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
		return strconv.Itoa(line) + ":" + strconv.Itoa(column) + ": " + s.Error()
	}
	return err.Error()
}

func isBlank(s string) bool { return strings.TrimSpace(s) == "" }
