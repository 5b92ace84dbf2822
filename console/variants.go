package console

import (
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/fanfare-im/fanfare"
)

const (
	// maxVariants is how many forms a message has on the page.
	maxVariants = 20
	// maxWeight is the library's bound of a weight.
	maxWeight = 1_000_000
	// maxVariantName is the library's bound of a name, in bytes.
	maxVariantName = 50
)

// draftVariant is a form of the message as it was filled in. What is empty is as in the message.
type draftVariant struct{ Name, Language, Weight, Text, Title, Body string }

// variantFields are the fields of a variant, each there once for each of them.
var variantFields = []struct {
	name string
	of   func(*draftVariant) *string
}{
	{"variant", func(x *draftVariant) *string { return &x.Name }},
	{"variantlanguage", func(x *draftVariant) *string { return &x.Language }},
	{"variantweight", func(x *draftVariant) *string { return &x.Weight }},
	{"varianttext", func(x *draftVariant) *string { return &x.Text }},
	{"varianttitle", func(x *draftVariant) *string { return &x.Title }},
	{"variantbody", func(x *draftVariant) *string { return &x.Body }},
}

// variantsOf reads them, one more than there may be at most, so that too many are refused and not cut off.
func variantsOf(f map[string][]string) []draftVariant {
	out := make([]draftVariant, min(len(f["variant"]), maxVariants+1))
	for i := range out {
		for _, field := range variantFields {
			values := f[field.name]
			if i >= len(values) {
				continue
			}
			value := strings.ReplaceAll(values[i], "\r\n", "\n")
			if field.name != "varianttext" && field.name != "variantbody" {
				value = strings.TrimSpace(value)
			}
			*field.of(&out[i]) = value
		}
	}
	return out
}

// addVariant adds a form, with a name that the others do not have.
func (d *draft) addVariant() {
	if len(d.Variants) >= maxVariants {
		return
	}
	for letter := 'A'; ; letter++ { // there are fewer forms than letters
		taken := false
		for _, x := range d.Variants {
			taken = taken || x.Name == string(letter)
		}
		if !taken {
			d.Variants = append(d.Variants, draftVariant{Name: string(letter)})
			return
		}
	}
}

// MoreVariants says whether there may be one more.
func (d *draft) MoreVariants() bool { return len(d.Variants) < maxVariants }

// MaxVariants is how many there may be.
func (d *draft) MaxVariants() int { return maxVariants }

// isLanguage knows what may be a BCP 47 tag.
var isLanguage = regexp.MustCompile(`^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$`).MatchString

// variants makes the forms of a message. What is wrong is added to the mistakes, at the field's place in the form; the library has the last word.
func (h *handler) variants(v *view, d *draft, message *fanfare.Message, m *mistakes) []fanfare.Variant {
	if len(d.Variants) > maxVariants {
		m.add("variants", v.T("A message has at most %d variants.", maxVariants))
		return nil
	}
	var out []fanfare.Variant
	names := make(map[string]bool)
	for i := range d.Variants {
		x := &d.Variants[i]
		at := func(field string) string { return field + "-" + strconv.Itoa(i) }
		switch {
		case x.Name == "":
			m.add(at("variant"), v.T("Give each variant a name: the statistics tell it by that."))
		case len(x.Name) > maxVariantName:
			m.add(at("variant"), v.T("The name of a variant has at most %d bytes.", maxVariantName))
		case names[x.Name]:
			m.add(at("variant"), v.T("There are two variants of the name %s.", x.Name))
		}
		names[x.Name] = true
		if x.Language != "" && !isLanguage(x.Language) {
			m.add(at("variantlanguage"), v.T("A language is said such as zh-Hant or pt-BR."))
		}
		one := fanfare.Variant{Name: x.Name, Language: x.Language}
		if x.Weight != "" {
			n, ok := counted(x.Weight)
			if !ok || n < 1 || n > maxWeight {
				m.add(at("variantweight"), v.T("The weight is a number from 1 to %s.", v.N(maxWeight)))
			}
			one.Weight = int(min(n, maxWeight))
		}
		if !isBlank(x.Text) {
			one.Body = h.body(v, d.Format, x.Text, at("varianttext"), m)
		}
		one.Notification = x.notification(message.Notification)
		out = append(out, one)
	}
	return out
}

// notification is that of the variant, nil where it is that of the message. What it says itself it says in all languages: translations are of another text.
func (x *draftVariant) notification(of *fanfare.Notification) *fanfare.Notification {
	if of == nil || isBlank(x.Title) && isBlank(x.Body) {
		return nil
	}
	n := *of
	n.Locales = nil
	if !isBlank(x.Title) {
		n.Title = x.Title
	}
	if !isBlank(x.Body) {
		n.Body = x.Body
	}
	return &n
}

// shares is how much each of the variants has of the users of its language.
func shares(of []fanfare.Variant) []string {
	total := make(map[string]float64) // a plan that a program made has any number of them
	weight := func(x *fanfare.Variant) float64 { return float64(max(x.Weight, 1)) }
	language := func(x *fanfare.Variant) string { return strings.ToLower(strings.ReplaceAll(x.Language, "_", "-")) }
	for i := range of {
		total[language(&of[i])] += weight(&of[i])
	}
	out := make([]string, len(of))
	for i := range of {
		percent := weight(&of[i]) / total[language(&of[i])] * 100
		if percent == math.Trunc(percent) {
			out[i] = strconv.Itoa(int(percent)) + " %"
		} else {
			out[i] = strconv.FormatFloat(percent, 'f', 1, 64) + " %"
		}
	}
	return out
}

// variantRow is what became of a form of a plan's message.
type variantRow struct {
	Name     string // empty: the message as it is
	Language string
	Share    string
	fanfare.Progress
}

// Notified is how many notifications the services took.
func (r *variantRow) Notified() int64 { return notified(&r.Progress) }

// OpenedShare is how many of those who have it have opened it.
func (r *variantRow) OpenedShare() string {
	if r.Delivered == 0 {
		return "–"
	}
	return share(r.Opened, r.Delivered)
}

// variantRows compares the forms of a plan's message; nil where there is one form only.
func variantRows(plan *fanfare.Plan, of map[string]fanfare.Progress) []variantRow {
	if len(plan.Variants) == 0 {
		return nil
	}
	var out []variantRow
	for i, share := range shares(plan.Variants) {
		x := &plan.Variants[i]
		out = append(out, variantRow{Name: x.Name, Language: x.Language, Share: share, Progress: of[x.Name]})
	}
	if plain, some := of[""]; some {
		out = append(out, variantRow{Progress: plain})
	}
	return out
}

// variantsData is the comparison that a page shows.
type variantsData struct {
	Rows []variantRow
	Here bool   // the page is of one of them
	Of   string // of which
}
