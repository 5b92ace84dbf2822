package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// language is one in which the page speaks.
type language struct {
	Tag   string // BCP 47
	Name  string // in itself
	texts map[string]string
	// moment is a day and a time in words.
	moment func(time.Time) string
}

// languages are all there are; the first is for who says nothing of theirs. The English texts are the keys, but for words of one meaning that are told apart by
// what they are said of.
var languages = []*language{
	{Tag: "en", Name: "English", texts: english, moment: englishMoment},
	{Tag: "zh-CN", Name: "中文", texts: chinese, moment: chineseMoment},
}

var english = map[string]string{
	"role viewer": "viewer", "role operator": "operator", "role nobody": "without a role",
	"action push": "push", "action test": "test", "action withdraw": "withdraw",
	"action change": "change a plan",
	"action pause":  "pause", "action resume": "resume", "action pace": "set the pace", "action end": "end a plan",
	"outcome begun": "begun", "outcome done": "done", "outcome failed": "failed", "outcome refused": "refused",
}

// T is a text in the language of who looks, with what is put into it.
func (v *view) T(text string, args ...any) string {
	if other, ok := v.lang.texts[text]; ok {
		text = other
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// Lang is the language's tag.
func (v *view) Lang() string { return v.lang.Tag }

// Languages are those to choose from.
func (v *view) Languages() []*language { return languages }

// Here is the page itself, as the choice of a language returns to it.
func (v *view) Here() string {
	here := strings.TrimPrefix(v.below, "/")
	if v.r.Method != http.MethodGet {
		return "" // the answer to a form is not a page to come back to
	}
	if v.r.URL.RawQuery != "" {
		here += "?" + v.r.URL.RawQuery
	}
	return here
}

// languageOf is the language of who asks: the one chosen, else what the browser says.
func languageOf(r *http.Request) *language {
	if c, err := r.Cookie(languageCookie); err == nil {
		for _, l := range languages {
			if l.Tag == c.Value {
				return l
			}
		}
	}
	best, weight := languages[0], 0.0
	for part := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, parameters, _ := strings.Cut(part, ";")
		q := 1.0
		if value, has := strings.CutPrefix(strings.TrimSpace(parameters), "q="); has {
			var err error
			if q, err = strconv.ParseFloat(value, 64); err != nil {
				continue
			}
		}
		primary, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		for _, l := range languages {
			if own, _, _ := strings.Cut(l.Tag, "-"); own == primary && q > weight {
				best, weight = l, q
			}
		}
	}
	return best
}

// clockOf is the time of day of a moment.
func clockOf(t time.Time) string {
	if t.Second() != 0 {
		return t.Format("15:04:05")
	}
	return t.Format("15:04")
}

func englishMoment(t time.Time) string { return t.Format("Monday, 2 January 2006, ") + clockOf(t) }

func chineseMoment(t time.Time) string {
	day := []string{"日", "一", "二", "三", "四", "五", "六"}[t.Weekday()]
	return t.Format("2006年1月2日") + "（星期" + day + "）" + clockOf(t)
}

// choose keeps a language that a form asks for in a cookie, and has the answer be in it.
func (h *handler) choose(v *view) {
	for _, l := range languages {
		if l.Tag == v.r.PostFormValue("language") {
			h.setCookie(v.w, v.r, v.mount, &http.Cookie{Name: languageCookie, Value: l.Tag, MaxAge: 365 * 24 * 60 * 60})
			v.lang = l
		}
	}
}

// setLanguage keeps a choice, and goes back.
func (h *handler) setLanguage(v *view) error {
	h.choose(v)
	to := v.r.PostFormValue("back")
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || strings.HasPrefix(u.Path, "/") || strings.Contains(to, `\`) {
		return v.redirect("")
	}
	if t, _, _ := find(http.MethodGet, "/"+u.Path); t == nil || t.stream {
		return v.redirect("") // it comes from the form, so it may be anything
	}
	return v.redirect(u.String())
}
