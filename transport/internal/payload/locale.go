// Package payload holds what the senders make of a notification before they put it into their service's words.
package payload

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/text/language"

	"github.com/fanfare-im/fanfare/transport"
)

// Texts are the languages of a notification.
type Texts struct {
	base   transport.Text
	byName map[string]transport.Text // canonical names
	chosen sync.Map                  // what a device says -> name
	known  atomic.Int64              // how many of these
}

// NewTexts takes the languages out of a notification. It returns an error for a name that is none.
func NewTexts(c *transport.Content) (*Texts, error) {
	t := &Texts{base: transport.Text{Title: c.Title, Body: c.Body}, byName: make(map[string]transport.Text, len(c.Locales))}
	for _, name := range slices.Sorted(maps.Keys(c.Locales)) {
		tag, err := language.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("locale %q: %w", name, err)
		}
		if _, twice := t.byName[tag.String()]; twice {
			return nil, fmt.Errorf("locale %q is there twice", tag)
		}
		t.byName[tag.String()] = c.Locales[name]
	}
	return t, nil
}

// maxChosen bounds how many locales of devices are remembered: they come from outside.
const maxChosen = 1000

// Choose returns the name of the language for a device's locale, "" for the title and body that are for all others.
func (t *Texts) Choose(locale string) string {
	if len(t.byName) == 0 || locale == "" {
		return ""
	}
	if name, known := t.chosen.Load(locale); known {
		return name.(string)
	}
	name := ""
	for _, try := range fallbacks(locale) {
		if _, is := t.byName[try]; is {
			name = try
			break
		}
	}
	if t.known.Load() < maxChosen {
		t.known.Add(1)
		t.chosen.Store(locale, name)
	}
	return name
}

// Names returns the names of all languages, and "".
func (t *Texts) Names() []string {
	return append(slices.Sorted(maps.Keys(t.byName)), "")
}

// Text returns title and body in a language that Choose named.
func (t *Texts) Text(name string) transport.Text {
	text := t.base
	if of, is := t.byName[name]; is {
		if of.Title != "" {
			text.Title = of.Title
		}
		if of.Body != "" {
			text.Body = of.Body
		}
	}
	return text
}

// fallbacks are the names under which the text for a locale is looked for, the nearest first. The script is named where the
// locale does not: zh-TW is written in zh-Hant, and takes that before zh.
func fallbacks(locale string) []string {
	tag, err := language.Parse(locale)
	if err != nil {
		return nil
	}
	base, _ := tag.Base()
	script, _ := tag.Script()
	_, _, region := tag.Raw()
	list := []string{tag.String()}
	for _, parts := range [][]any{{base, script, region}, {base, region}, {base, script}, {base}} {
		if near, err := language.Compose(parts...); err == nil {
			list = append(list, near.String())
		}
	}
	return list
}
