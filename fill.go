package fanfare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/fanfare-im/fanfare/transport"
)

// Fill says how placeholders in a message are filled: {{attr.city}} stands for the value that the user's attribute "city" has when the message is delivered, and
// {{attr.city|your city}} for "your city" where there is none. They are filled in the body, and in the title and body of the notification, those of its locales too.
type Fill byte

// The ways.
const (
	FillNothing Fill = 0 // there are no placeholders
	FillText    Fill = 1 // values are put into the body as they are
	FillJSON    Fill = 2 // the body is JSON, with placeholders within strings, and values are escaped for these
)

// UnresolvedError says that a placeholder without a default cannot be filled for some users of the audience. The push was not accepted.
type UnresolvedError struct {
	Name  string // of the attribute
	Users int64  // who do not have it
}

// Error names the placeholder, and says how many users lack a value.
func (e *UnresolvedError) Error() string {
	return fmt.Sprintf("fanfare: {{attr.%s}} has no default, and %d users of the audience have no value", e.Name, e.Users)
}

var placeholder = regexp.MustCompile(`\{\{\s*attr\.([^|{}]+?)\s*(?:\|([^{}]*))?\}\}`)

// template is a text with placeholders, taken apart.
type template []templatePart

// templatePart is a text, and the placeholder behind it, if its name is not empty.
type templatePart struct {
	text, name, otherwise string
	optional              bool
}

func parseTemplate(text string) (t template) {
	last := 0
	for _, at := range placeholder.FindAllStringSubmatchIndex(text, -1) {
		p := templatePart{text: text[last:at[0]], name: text[at[2]:at[3]], optional: at[4] >= 0}
		if p.optional {
			p.otherwise = text[at[4]:at[5]]
		}
		t, last = append(t, p), at[1]
	}
	return append(t, templatePart{text: text[last:]})
}

// with returns the text with its placeholders filled.
func (t template) with(values map[string]string, how Fill) string {
	var b strings.Builder
	for _, p := range t {
		b.WriteString(p.text)
		if p.name == "" {
			continue
		}
		value, has := values[p.name]
		if !has {
			if value = p.otherwise; how == FillJSON { // which stands in the JSON as it is
				b.WriteString(value)
				continue
			}
		}
		if how == FillJSON {
			value = withinString(value)
		}
		b.WriteString(value)
	}
	return b.String()
}

// withinString escapes a text for the inside of a string of JSON.
func withinString(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // to memory, and a string
	text := strings.TrimSuffix(b.String(), "\n")
	return text[1 : len(text)-1]
}

// filler fills a message for one user after the other.
type filler struct {
	how     Fill
	body    template
	texts   map[string]template // of the notification, by themselves
	content *transport.Content
}

func newFiller(how Fill, body []byte, content *transport.Content) *filler {
	f := &filler{how: how, body: parseTemplate(string(body)), texts: make(map[string]template), content: content}
	if content != nil {
		f.note(content.Title, content.Body)
		for _, text := range content.Locales {
			f.note(text.Title, text.Body)
		}
	}
	return f
}

func (f *filler) note(texts ...string) {
	for _, text := range texts {
		f.texts[text] = parseTemplate(text)
	}
}

// names are the attributes that are needed, and those that have a default.
func (f *filler) names() (needed, optional []string) {
	all := slices.Clone(f.body)
	for _, t := range f.texts {
		all = append(all, t...)
	}
	for _, p := range all {
		switch {
		case p.name == "":
		case p.optional:
			optional = append(optional, p.name)
		default:
			needed = append(needed, p.name)
		}
	}
	for _, list := range []*[]string{&needed, &optional} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return needed, optional
}

// message returns what one user receives.
func (f *filler) message(m *transport.Message, values map[string]string) *transport.Message {
	own := *m
	own.Body = []byte(f.body.with(values, f.how))
	return &own
}

// notification returns what one user's phone shows.
func (f *filler) notification(values map[string]string) *transport.Content {
	own := *f.content
	fill := func(text string) string { return f.texts[text].with(values, FillText) }
	own.Title, own.Body = fill(own.Title), fill(own.Body)
	own.Locales = make(map[string]transport.Text, len(f.content.Locales))
	for name, text := range f.content.Locales {
		own.Locales[name] = transport.Text{Title: fill(text.Title), Body: fill(text.Body)}
	}
	return &own
}

var errNoJSON = errors.New("fanfare: FillJSON and a body that is no JSON")

// checkFill reports the first placeholder that cannot be filled for somebody of an audience.
func (p *Pusher) checkFill(ctx context.Context, m *Message, to Audience) error {
	switch m.Fill {
	case FillNothing:
		return nil
	case FillText:
	case FillJSON:
		if !json.Valid(m.Body) {
			return errNoJSON
		}
	default:
		return &LimitError{What: "way to fill placeholders", Limit: int64(FillJSON), Got: int64(m.Fill)}
	}
	needed, optional := newFiller(m.Fill, m.Body, m.Notification).names()
	for _, name := range optional {
		if _, err := p.Count(ctx, HasAttr(name)); err != nil { // which has no name
			return err
		}
	}
	for _, name := range needed {
		n, err := p.Count(ctx, to.And(HasAttr(name).Not()))
		if err != nil {
			return err
		}
		if n > 0 {
			return &UnresolvedError{Name: name, Users: n}
		}
	}
	return nil
}

// values are a user's attributes by name; none of one who is not known any more. Anything else that goes wrong is an error, lest the user gets blanks.
func (d *delivery) values(id string) (map[string]string, error) {
	u, err := d.store.User(id)
	if errors.Is(err, ErrUnknownUser) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(u.Attrs))
	for _, a := range u.Attrs {
		if a.Name != "" {
			out[a.Name] = a.Value
		}
	}
	return out, nil
}

// filler returns what fills the message, nil if there is nothing to be filled.
func (m *message) filler() *filler {
	if m.fill == FillNothing {
		return nil
	}
	m.parsed.Do(func() {
		var content *transport.Content
		if len(m.note) > 0 {
			content = m.content()
		}
		m.filled = newFiller(m.fill, m.m.Body, content)
	})
	return m.filled
}

// of is what one user receives of a message.
func (m *message) of(d *delivery, id string) (*transport.Message, error) {
	f := m.filler()
	if f == nil {
		return m.m, nil
	}
	values, err := d.values(id)
	if err != nil {
		return nil, err
	}
	return f.message(m.m, values), nil
}
