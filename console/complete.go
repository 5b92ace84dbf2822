package console

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
)

const (
	// suggestions is how many are offered.
	suggestions = 8
	// completeWithin is how long they are looked for.
	completeWithin = 300 * time.Millisecond
)

// suggestion is something that may stand at the cursor.
type suggestion struct {
	Label  string `json:"label"`
	Insert string `json:"insert"`
	Count  string `json:"count,omitempty"` // of users, as the page writes numbers
}

// completion is what is offered, and from where on it replaces the text before the cursor, in UTF-16 units, as scripts count.
type completion struct {
	From        int          `json:"from"`
	Suggestions []suggestion `json:"suggestions"`
}

// complete offers what may come at the cursor, which is at the end of the text.
func (h *handler) complete(v *view) error {
	text := v.r.PostFormValue("before")
	if len(text) > 16<<10 || !utf8.ValidString(text) {
		text = ""
	}
	ctx, cancel := context.WithTimeout(v.ctx, completeWithin)
	defer cancel()
	at := cursorOf(text)
	out := completion{From: len(utf16.Encode([]rune(text[:at.from]))), Suggestions: h.suggest(ctx, v, &at)}
	if out.Suggestions == nil {
		out.Suggestions = []suggestion{}
	}
	answer, err := json.Marshal(out)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/json")
	_, _ = v.w.Write(answer) // to who has typed on
	return nil
}

// wanted is what comes at a cursor.
type wanted int

const (
	nothing  wanted = iota
	term            // the beginning of one
	operator        // between two terms
	comparison
	tagName
	attributeName
	attributeValue
	platformName
	languageName
	timeZoneName
	savedName
	betweenAnd // between the two values of a range
	dayWord    // behind a number of days
	wordBehind // behind seen and registered
)

// cursor is where somebody types in the text of an audience.
type cursor struct {
	wanted    wanted
	from      int    // where what is typed begins, in bytes
	prefix    string // what is typed of it
	attribute string // whose value is wanted
}

// token is a symbol of the text of an audience: a word, a string without its quotes, or a sign.
type token struct {
	text  string
	kind  byte // 'w' a word, '"' a string, else the sign itself
	begin int
	open  bool // it reaches to the end of the text, so it may go on
}

// tokensOf takes the text apart, leniently, as it is being typed.
func tokensOf(text string) []token {
	var out []token
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case unicode.IsSpace(r):
			i += size
		case r == '"':
			var b strings.Builder
			j := i + 1
			for j < len(text) && text[j] != '"' {
				if text[j] == '\\' && j+1 < len(text) {
					j++
				}
				b.WriteByte(text[j])
				j++
			}
			out = append(out, token{b.String(), '"', i, j >= len(text)})
			i = j + 1
		case r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			j := i
			for j < len(text) {
				r, size := utf8.DecodeRuneInString(text[j:])
				if r == '.' && strings.EqualFold(text[i:j], "attr") && !valueBefore(out) {
					break
				}
				if r != '_' && r != '-' && r != '.' && !unicode.In(r, unicode.L, unicode.Nd, unicode.M) {
					break
				}
				j += size
			}
			out = append(out, token{text[i:j], 'w', i, j == len(text)})
			i = j
		case strings.ContainsRune("=!<>", r):
			j := i + 1
			if r != '=' && j < len(text) && text[j] == '=' {
				j++
			}
			out = append(out, token{text[i:j], '=', i, false})
			i = j
		default:
			out = append(out, token{text[i : i+size], text[i], i, false})
			i += size
		}
	}
	return out
}

// valueBefore says whether a value comes next, so that "attr" is no keyword.
func valueBefore(before []token) bool {
	return len(before) > 0 && strings.IndexByte(":=.,", before[len(before)-1].kind) >= 0
}

func (t token) is(words ...string) bool {
	return t.kind == 'w' && slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, t.text) })
}

// cursorOf says what is wanted at the end of the text.
func cursorOf(text string) cursor {
	tokens := tokensOf(text)
	c := cursor{from: len(text)}
	if n := len(tokens); n > 0 && tokens[n-1].open {
		c.from, c.prefix = tokens[n-1].begin, tokens[n-1].text
		tokens = tokens[:n-1]
	}
	last := func(i int) token { // from the end
		if i >= len(tokens) {
			return token{}
		}
		return tokens[len(tokens)-1-i]
	}
	one, two, three := last(0), last(1), last(2)
	isAttribute := func(i int) bool { // the token is the name of an attribute
		name, dot, attr := last(i), last(i+1), last(i+2)
		return (name.kind == 'w' || name.kind == '"') && dot.kind == '.' && attr.is("attr")
	}
	switch {
	case one.kind == ':' && two.is("tag"):
		c.wanted = tagName
	case one.kind == ':' && two.is("platform"):
		c.wanted = platformName
	case one.kind == ':' && two.is("language"):
		c.wanted = languageName
	case one.kind == ':' && two.is("timezone"):
		c.wanted = timeZoneName
	case one.kind == ':' && two.is("saved"):
		c.wanted = savedName
	case one.is("seen", "registered") && two.kind != ':' && two.kind != '.' && two.kind != '=':
		c.wanted, c.attribute = wordBehind, strings.ToLower(one.text)
	case one.is("within", "since", "between"): // a number or a date
	case two.is("within"):
		c.wanted = dayWord
	case two.is("between"):
		c.wanted = betweenAnd
	case one.is("and") && three.is("between"):
	case one.is("day", "days", "exists"), two.is("since"), two.is("and") && last(3).is("between"), two.kind == '-':
		c.wanted = operator
	case one.kind == ':':
	case one.kind == '.' && two.is("attr"):
		c.wanted = attributeName
	case one.kind == '=' && isAttribute(1):
		c.wanted, c.attribute = attributeValue, two.text
	case isAttribute(0):
		c.wanted, c.attribute = comparison, one.text
	case one.kind == '(' && two.is("in") && isAttribute(2):
		c.wanted, c.attribute = attributeValue, three.text
	case one.kind == ',' || one.kind == '(' && two.is("in"):
		for i := range tokens { // the list that the comma is in
			if last(i).kind == '(' {
				if last(i+1).is("in") && isAttribute(i+2) {
					c.wanted, c.attribute = attributeValue, last(i+2).text
				}
				break
			}
		}
	case one.kind == 0 || one.kind == '(' && !two.is("sample") || one.is("and", "or", "not") && two.kind != ':':
		c.wanted = term
	case one.kind == ')' || one.kind == '"' || one.is("all") || one.kind == 'w' && strings.IndexByte(":=,", two.kind) >= 0 && two.kind != 0:
		c.wanted = operator
	}
	if c.from < len(text) && text[c.from] == '"' {
		switch c.wanted {
		case term, operator, comparison, betweenAnd, dayWord, wordBehind:
			c.wanted = nothing // a string is none of these
		}
	}
	return c
}

// suggest returns what fits at a cursor.
func (h *handler) suggest(ctx context.Context, v *view, c *cursor) []suggestion {
	var out []suggestion
	words := func(list ...string) {
		for _, w := range list {
			if strings.HasPrefix(w, strings.ToLower(c.prefix)) && w != c.prefix {
				out = append(out, suggestion{Label: strings.TrimSpace(w), Insert: w})
			}
		}
	}
	counted := func(all iter.Seq2[fanfare.NameCount, error]) {
		for one, err := range all {
			if err != nil || ctx.Err() != nil || len(out) == suggestions {
				return // what there is so far
			}
			if strings.HasPrefix(one.Name, c.prefix) {
				out = append(out, suggestion{Label: one.Name, Insert: written(one.Name) + " ", Count: v.N(one.Users)})
			}
		}
	}
	switch c.wanted {
	case term:
		words("all ", "tag:", "attr.", "user:", "platform:", "language:", "timezone:", "saved:", "seen within ", "registered within ", "registered since ", "sample(", "not ")
	case operator:
		words("and ", "or ")
	case betweenAnd:
		words("and ")
	case dayWord:
		words("days ")
	case wordBehind:
		if words("within "); c.attribute == "registered" {
			words("since ")
		}
	case comparison:
		if words("= ", "!= ", "in (", "exists "); h.ordered(ctx, c.attribute) {
			words("< ", "<= ", "> ", ">= ", "between ")
		}
	case platformName:
		words("apns ", "fcm ")
	case tagName:
		counted(h.p.TagNames(ctx, c.prefix))
	case languageName:
		counted(h.p.Languages(ctx))
	case timeZoneName:
		counted(h.p.TimeZones(ctx))
	case savedName:
		for one, err := range h.p.SavedAudiences(ctx) {
			if err != nil || ctx.Err() != nil || len(out) == suggestions {
				break
			}
			if strings.HasPrefix(one.Name, c.prefix) {
				out = append(out, suggestion{Label: one.Name, Insert: written(one.Name) + " "})
			}
		}
	case attributeName:
		all, err := h.p.AttributeNames(ctx)
		if err != nil {
			return nil
		}
		for _, name := range slices.Sorted(maps.Values(all)) {
			if name != "" && strings.HasPrefix(name, c.prefix) {
				out = append(out, suggestion{Label: name, Insert: writtenAttribute(name) + " "})
			}
		}
	case attributeValue:
		counted(h.p.AttributeValues(ctx, c.attribute, c.prefix))
	}
	return out
}

// ordered says whether the values of an attribute can be compared.
func (h *handler) ordered(ctx context.Context, name string) bool {
	names, err := h.p.AttributeNames(ctx)
	if err != nil {
		return false
	}
	types, err := h.p.AttributeTypes(ctx)
	if err != nil {
		return false
	}
	for slot, other := range names {
		if other == name {
			return types[slot] != fanfare.Text
		}
	}
	return false
}

// written is a name or a value as the text of an audience has it.
func written(name string) string { return strings.TrimPrefix(fanfare.Tag(name).String(), "tag:") }

// writtenAttribute is an attribute's name as the text of an audience has it.
func writtenAttribute(name string) string {
	text := strings.TrimPrefix(fanfare.Attr(name, "x").String(), "attr.")
	return strings.TrimSuffix(text, ` = "x"`)
}
