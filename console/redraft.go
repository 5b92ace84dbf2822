package console

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
)

// redraft fills in a form with a plan. Whole says that the form has all of the plan: what was made elsewhere may have what the form does not.
func (h *handler) redraft(v *view, plan *fanfare.Plan) (d *draft, whole bool) {
	m := &plan.Message
	d = &draft{
		To: m.To.String(), From: m.From, Category: m.Category, Lifetime: plainDuration(m.Lifetime), Fill: m.Fill != fanfare.FillNothing,
		When: whenNow, Every: plan.Every, Late: lateOf(plan.Tolerance), Key: rand.Text(), TestKey: rand.Text(),
	}
	for _, l := range lifetimes {
		if l.d == m.Lifetime {
			d.Lifetime = l.Value
		}
	}
	if plan.Pace > 0 {
		d.Pace = strconv.Itoa(plan.Pace)
	}
	h.redraftTime(d, plan)
	h.redraftBodies(d, plan)
	if n := m.Notification; n != nil {
		d.Notify, d.Title, d.Body, d.Sound, d.Link, d.Image, d.Collapse, d.Always, d.Urgent = true, n.Title, n.Body, n.Sound, n.Link, n.Image, n.Collapse, n.Always, n.Urgent
		for _, language := range slices.Sorted(maps.Keys(n.Locales)) {
			d.Locales = append(d.Locales, draftLocale{language, n.Locales[language].Title, n.Locales[language].Body})
		}
	}
	if len(d.Locales) > maxLocales || len(d.Variants) > maxVariants {
		d.Locales, d.Variants = d.Locales[:min(len(d.Locales), maxLocales)], d.Variants[:min(len(d.Variants), maxVariants)]
		return d, false
	}
	var wrong mistakes
	again := h.plan(v, d, &wrong) // that a time is past is no matter here: the time is compared
	again.Message.To, again.Message.Key = m.To, m.Key
	return d, fingerprint(again) == fingerprint(*plan)
}

// redraftTime says when, on the clocks of the plan's zone.
func (h *handler) redraftTime(d *draft, plan *fanfare.Plan) {
	zone := h.o.Location
	if plan.Zone != zone.String() || plan.Every == "" && !plan.Local {
		d.Zone = plan.Zone
	}
	if plan.Zone == "" && (plan.Every != "" || plan.Local) { // the library's default, and not the page's
		d.Zone = "UTC"
	}
	if d.Zone != "" {
		if z, err := time.LoadLocation(d.Zone); err == nil {
			zone = z
		}
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		if t.Second() != 0 {
			return t.Format(clockSeconds)
		}
		return t.Format(clock)
	}
	switch {
	case plan.Every != "" && plan.Local:
		d.When, d.EveryLocal, d.Begin, d.Until = whenEvery, true, at(plan.At), at(plan.Until)
	case plan.Every != "":
		d.When, d.Begin, d.Until = whenEvery, at(plan.At.In(zone)), at(plan.Until.In(zone))
	case plan.Local:
		d.When, d.At = whenLocal, at(plan.At)
	case !plan.At.IsZero():
		d.When, d.At = whenAt, at(plan.At.In(zone))
	}
}

// redraftBodies fills in what the message and its variants say: as text, if all of them are what a text was made into, and as JSON otherwise.
func (h *handler) redraftBodies(d *draft, plan *fanfare.Plan) {
	read := func(body []byte) (string, bool) { return h.textOf(body) }
	d.Format = "text"
	bodies := [][]byte{plan.Message.Body}
	for i := range plan.Variants {
		bodies = append(bodies, plan.Variants[i].Body)
	}
	for _, body := range bodies {
		if _, ok := h.textOf(body); !ok && len(body) > 0 {
			d.Format, read = "json", func(body []byte) (string, bool) { return string(body), json.Valid(body) }
		}
	}
	d.Text, _ = read(plan.Message.Body)
	for i := range plan.Variants {
		x := &plan.Variants[i]
		one := draftVariant{Name: x.Name, Language: x.Language}
		if x.Weight > 0 {
			one.Weight = strconv.Itoa(x.Weight)
		}
		if len(x.Body) > 0 {
			one.Text, _ = read(x.Body)
		}
		if x.Notification != nil {
			one.Title, one.Body = x.Notification.Title, x.Notification.Body
		}
		d.Variants = append(d.Variants, one)
	}
}

// textOf is the text that a body was made of: of what the body is, or has in it, the one that makes this body.
func (h *handler) textOf(body []byte) (string, bool) {
	texts := []string{string(body)}
	var x any
	if json.Unmarshal(body, &x) == nil {
		texts = appendStrings(texts, x)
	}
	for _, text := range texts {
		if !strings.Contains(text, "\r") && bytes.Equal(h.o.Encode(text), body) {
			return text, true
		}
	}
	return "", false
}

func appendStrings(to []string, x any) []string {
	switch x := x.(type) {
	case string:
		return append(to, x)
	case []any:
		for _, y := range x {
			to = appendStrings(to, y)
		}
	case map[string]any:
		for _, y := range x {
			to = appendStrings(to, y)
		}
	}
	return to
}

// fingerprint tells plans apart that differ in what they do.
func fingerprint(plan fanfare.Plan) string {
	for _, t := range []*time.Time{&plan.At, &plan.Until} {
		switch {
		case t.IsZero():
			*t = time.Time{}
		case plan.Local: // what a clock shows, whatever the zone
			*t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
		default:
			*t = t.UTC()
		}
	}
	switch {
	case plan.Every == "" && !plan.Local:
		plan.Zone = ""
	case plan.Zone == "":
		plan.Zone = "UTC"
	}
	switch {
	case plan.Tolerance == 0:
		plan.Tolerance = usualLate
	case plan.Tolerance < 0:
		plan.Tolerance = -1
	}
	plan.Variants = slices.Clone(plan.Variants)
	for i := range plan.Variants {
		x := &plan.Variants[i]
		x.Weight = max(x.Weight, 1)
		if len(x.Body) == 0 {
			x.Body = nil
		}
	}
	if len(plan.Variants) == 0 {
		plan.Variants = nil
	}
	b, err := json.Marshal(plan)
	if err != nil { // such as of the zero audience, which is no plan's: it is like no other
		return rand.Text()
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// plainDuration is a duration without the zeros at its end.
func plainDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
