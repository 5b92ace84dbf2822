package console

import (
	"crypto/rand"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
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
	Begin      string // of what repeats
	Until      string
	Late       string // one of tolerances
	Pace       string

	Variants []draftVariant

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

	// Of a form that changes a plan: the plan's ID, and its fingerprint when the form was filled in.
	Changes string
	Was     string
}

// draftLocale is the notification in one more language.
type draftLocale struct{ Language, Title, Body string }

// choice is a duration that can be chosen.
type choice struct {
	Value string
	Text  string // a key of the texts
	d     time.Duration
}

// lifetimes are those that can be chosen; the library's limit may refuse the longest.
var lifetimes = []choice{
	{"0", "Only those connected now", 0},
	{"1h", "1 hour", time.Hour},
	{"6h", "6 hours", 6 * time.Hour},
	{"24h", "1 day", 24 * time.Hour},
	{"72h", "3 days", 72 * time.Hour},
	{"168h", "7 days", 168 * time.Hour},
}

// lifetimeOf reads one, also one of a plan that was made elsewhere.
func lifetimeOf(value string) (time.Duration, bool) {
	for _, l := range lifetimes {
		if l.Value == value {
			return l.d, true
		}
	}
	d, err := time.ParseDuration(value)
	return d, err == nil && d > 0 && d <= 7*24*time.Hour
}

// newDraft is the form before anything is filled in.
func (h *handler) newDraft() *draft {
	return &draft{Format: "text", From: h.o.From, Lifetime: "24h", When: whenNow, Late: lateOf(0), Key: rand.Text(), TestKey: rand.Text()}
}

// draftOf reads the form.
func (h *handler) draftOf(f url.Values) *draft {
	line := func(name string) string { return strings.TrimSpace(f.Get(name)) }
	lines := func(name string) string { return strings.ReplaceAll(f.Get(name), "\r\n", "\n") } // as browsers send them
	d := &draft{
		To: lines("to"), Format: f.Get("format"), Text: lines("text"), From: line("from"), Category: line("category"), Lifetime: f.Get("lifetime"),
		When: f.Get("when"), At: line("at"), Zone: line("zone"), Every: line("every"), EveryLocal: f.Get("everylocal") != "", Begin: line("begin"), Until: line("until"), Late: f.Get("late"), Pace: line("pace"),
		Notify: f.Get("notify") != "", Title: line("title"), Body: lines("body"),
		Sound: line("sound"), Link: line("link"), Image: line("image"), Collapse: line("collapse"), Always: f.Get("always") != "", Urgent: f.Get("urgent") != "", Fill: f.Get("fill") != "",
		Key: f.Get("key"), TestKey: f.Get("testkey"), TestTo: line("testto"),
		Changes: f.Get("plan"), Was: f.Get("was"), Variants: variantsOf(f),
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
	if d.Late == "" {
		d.Late = lateOf(0)
	}
	if d.Format != "json" {
		d.Format = "text"
	}
	if !isPlanID(d.Changes) {
		d.Changes = ""
	}
	if !isKey(d.Key) {
		d.Key = rand.Text()
	}
	if !isKey(d.TestKey) {
		d.TestKey = rand.Text()
	}
	return d
}

// isPlanID knows the IDs of plans.
var isPlanID = regexp.MustCompile(`^plan-[0-9a-f]{16}$`).MatchString

// isKey says whether a key is one that newDraft may have made.
func isKey(s string) bool {
	return len(s) >= 20 && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// field is a field of the form, as a page that holds it hidden has it.
type field struct{ Name, Value string }

// Fields are what is filled in, to be carried through the confirmation.
func (d *draft) Fields() []field {
	out := []field{{"to", d.To}, {"format", d.Format}, {"text", d.Text}, {"from", d.From}, {"category", d.Category}, {"lifetime", d.Lifetime},
		{"when", d.When}, {"at", d.At}, {"zone", d.Zone}, {"every", d.Every}, {"begin", d.Begin}, {"until", d.Until}, {"late", d.Late}, {"pace", d.Pace}}
	if d.EveryLocal {
		out = append(out, field{"everylocal", "yes"})
	}
	if d.Notify {
		out = append(out, field{"notify", "yes"})
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
	for i := range d.Variants {
		for _, f := range variantFields {
			out = append(out, field{f.name, *f.of(&d.Variants[i])})
		}
	}
	if d.Changes != "" {
		out = append(out, field{"plan", d.Changes}, field{"was", d.Was})
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

// body is what users receive of a text. What is wrong with it is said at the field.
func (h *handler) body(v *view, format, text, field string, m *mistakes) []byte {
	switch {
	case format != "json":
		return h.o.Encode(text)
	case !json.Valid([]byte(text)):
		m.add(field, v.T("This is not JSON: %s", jsonMistake(text)))
		return nil
	}
	return []byte(text)
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

// forgive takes back what is wrong with a field.
func (m *mistakes) forgive(field string) {
	delete(m.texts, field)
	m.fields = slices.DeleteFunc(m.fields, func(f string) bool { return f == field })
}

// Fields are those with a mistake.
func (m *mistakes) Fields() []string { return m.fields }

// Of is what is wrong with a field; empty: nothing.
func (m *mistakes) Of(field string) string { return m.texts[field] }

// message makes what is pushed of a form, but for its audience, which is told apart. What is wrong is added to the mistakes; the library has the last word.
func (h *handler) message(v *view, d *draft, m *mistakes) fanfare.Message {
	out := fanfare.Message{From: d.From, Category: d.Category, Key: "console-" + d.Key}
	if isBlank(d.Text) {
		m.add("text", v.T("Write a message."))
	} else {
		out.Body = h.body(v, d.Format, d.Text, "text", m)
	}
	if d.Fill {
		if out.Fill = fanfare.FillText; json.Valid(out.Body) {
			out.Fill = fanfare.FillJSON
		}
	}
	var known bool
	if out.Lifetime, known = lifetimeOf(d.Lifetime); !known {
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
