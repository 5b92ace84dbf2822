package console

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
)

// composeData is what the form shows.
type composeData struct {
	*draft
	Mistakes  mistakes
	Lifetimes []lifetime
	Audience  *audienceData
	Preview   *previewData
	Tested    string // the ID of the task of a test that was just sent
}

func (h *handler) compose(v *view) error {
	d := h.newDraft()
	d.To = v.r.URL.Query().Get("to")
	return h.renderForm(v, http.StatusOK, d, mistakes{}, "")
}

// edit shows the form again as it was filled in: after the confirmation, or with a row for one more language.
func (h *handler) edit(v *view) error {
	d := h.draftOf(v.r.PostForm)
	if v.r.PostFormValue("add") == "language" && len(d.Locales) < maxLocales {
		d.Notify = true
		d.Locales = append(d.Locales, draftLocale{})
	}
	return h.renderForm(v, http.StatusOK, d, mistakes{}, "")
}

func (h *handler) renderForm(v *view, status int, d *draft, m mistakes, tested string) error {
	data := &composeData{draft: d, Mistakes: m, Lifetimes: lifetimes, Preview: h.previewOf(v, d), Tested: tested}
	var err error
	if data.Audience, err = h.audienceOf(v, d.To); err != nil {
		return err
	}
	return v.render(status, "compose", page{Title: "Compose", Section: "compose", Data: data})
}

// previewData is a message as its receivers may see it.
type previewData struct {
	From    string
	Text    string
	Body    string // as it is sent
	Size    int64
	Problem string
	Notify  bool
	Phones  []phonePreview
	Now     time.Time
}

// phonePreview is a notification in a language.
type phonePreview struct {
	Language string // empty: for all others
	Title    string
	Body     string
	Image    string
}

func (h *handler) preview(v *view) error {
	return v.fragment("compose", "preview", h.previewOf(v, h.draftOf(v.r.PostForm)))
}

func (h *handler) previewOf(v *view, d *draft) *previewData {
	out := &previewData{From: d.From, Text: clip(d.Text, 300), Notify: d.Notify, Now: time.Now()}
	if !isBlank(d.Text) {
		var m mistakes
		body := h.message(v, d, &m).Body
		out.Problem = m.Of("text")
		out.Size, out.Body = int64(len(body)), readable(body)
	}
	if !d.Notify {
		return out
	}
	out.Phones = append(out.Phones, phonePreview{Title: d.Title, Body: d.Body, Image: d.Image})
	for _, l := range d.Locales {
		if l != (draftLocale{}) {
			p := phonePreview{Language: l.Language, Title: l.Title, Body: l.Body, Image: d.Image}
			if p.Title == "" {
				p.Title = d.Title
			}
			if p.Body == "" {
				p.Body = d.Body
			}
			out.Phones = append(out.Phones, p)
		}
	}
	return out
}

// confirmData is what the confirmation shows.
type confirmData struct {
	*draft
	Audience *audienceData
	Preview  *previewData
	Problem  string // why it was not sent
}

// checked reads the form and all that is wrong with it, its audience included.
func (h *handler) checked(v *view) (*draft, fanfare.Message, *audienceData, mistakes, error) {
	d := h.draftOf(v.r.PostForm)
	var m mistakes
	var out fanfare.Message
	audience, err := h.audienceOf(v, d.To)
	switch {
	case err != nil:
		return nil, out, nil, m, err
	case audience.Empty:
		m.add("to", v.T("Say who gets the message."))
	case audience.Problem != nil:
		m.add("to", v.T("The audience has a mistake: %s", audience.Problem.Text))
	}
	out = h.message(v, d, &m)
	_ = h.plan(v, d, &m)
	if len(m.fields) == 0 {
		out.To, err = fanfare.ParseAudience(d.To)
	}
	return d, out, audience, m, err
}

// confirm asks whether so many people shall be disturbed.
func (h *handler) confirm(v *view) error {
	d, _, audience, m, err := h.checked(v)
	if err != nil {
		return err
	}
	if len(m.fields) > 0 {
		return h.renderForm(v, http.StatusUnprocessableEntity, d, m, "")
	}
	return h.renderConfirm(v, http.StatusOK, d, audience, "")
}

func (h *handler) renderConfirm(v *view, status int, d *draft, audience *audienceData, problem string) error {
	title := "Send this?"
	if d.planned() {
		title = "Plan this?"
	}
	return v.render(status, "confirm", page{Title: title, Section: "compose", Data: &confirmData{draft: d, Audience: audience, Preview: h.previewOf(v, d), Problem: problem}})
}

// counted reads a number as people type it.
func counted(text string) (int64, bool) {
	digits := strings.NewReplacer(",", "", " ", "", "\u00a0", "", "\u202f", "", "，", "", "'", "", "_", "").Replace(text)
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil && n >= 0
}

// moved says whether an audience has become so much larger, by more than a hundredth, that who confirmed its size did not confirm this. It may become smaller: nobody is
// disturbed by that.
func moved(confirmed, now int64) bool {
	return now > confirmed+confirmed/100
}

// send pushes what was confirmed.
func (h *handler) send(v *view) error {
	d, message, audience, m, err := h.checked(v)
	if err != nil {
		return err
	}
	if len(m.fields) > 0 {
		return h.renderForm(v, http.StatusUnprocessableEntity, d, m, "")
	}
	_, before := h.p.TaskOfKey(v.ctx, message.From, message.Key)
	if before != nil { // the form was not sent before: a click that comes twice is not asked about again
		shown, _ := counted(v.r.PostFormValue("counted"))
		typed, ok := counted(v.r.PostFormValue("confirm"))
		switch {
		case audience.Count == 0:
			return h.renderConfirm(v, http.StatusConflict, d, audience, v.T("Nobody is in this audience now."))
		case !ok || typed != shown:
			return h.renderConfirm(v, http.StatusUnprocessableEntity, d, audience, v.T("The number that you typed is not the number of people. Nothing was sent."))
		case moved(shown, audience.Count):
			return h.renderConfirm(v, http.StatusConflict, d, audience, v.T("The audience has grown since: it was %s, and is %s now. Nothing was sent.", v.N(shown), v.N(audience.Count)))
		}
	}
	var task *fanfare.Task
	detail := clip(d.Text, 200) + " → " + message.To.String()
	if d.planned() {
		plan := h.plan(v, d, &m)
		plan.Message = message
		planned, err := h.sendPlan(v, plan, detail)
		if err != nil {
			if text := h.refused(v, err); text != "" {
				return h.renderConfirm(v, http.StatusUnprocessableEntity, d, audience, text)
			}
			return err
		}
		notice := "planned"
		if planned.Duplicate {
			notice = "again"
		}
		return v.redirect("plans/" + planned.ID + "?notice=" + notice)
	}
	err = h.act(v, "", detail, func(ctx context.Context) (string, error) {
		var err error
		if task, err = h.p.Push(ctx, message); err != nil {
			return "", err
		}
		return task.ID, nil
	})
	if err != nil {
		if text := h.refused(v, err); text != "" {
			return h.renderConfirm(v, http.StatusUnprocessableEntity, d, audience, text)
		}
		return err
	}
	notice := "pushed"
	if task.Duplicate {
		notice = "again"
	}
	return v.redirect("tasks/" + task.ID + "?notice=" + notice)
}

// test pushes the form to one user, and shows it again.
func (h *handler) test(v *view) error {
	d := h.draftOf(v.r.PostForm)
	var m mistakes
	message := h.message(v, d, &m)
	if d.TestTo == "" {
		m.add("testto", v.T("Say which user gets the test."))
	} else if _, err := h.p.User(v.ctx, d.TestTo); errors.Is(err, fanfare.ErrUnknownUser) {
		m.add("testto", v.T("There is no such user."))
	} else if err != nil {
		return err
	}
	if len(m.fields) > 0 {
		return h.renderForm(v, http.StatusUnprocessableEntity, d, m, "")
	}
	message.To, message.Key = fanfare.Users(d.TestTo), "console-test-"+d.TestKey
	var task *fanfare.Task
	err := h.act(v, "", clip(d.Text, 200)+" → "+message.To.String(), func(ctx context.Context) (string, error) {
		var err error
		if task, err = h.p.Push(ctx, message); err != nil {
			return "", err
		}
		return task.ID, nil
	})
	if err != nil {
		text := h.refused(v, err)
		if text == "" {
			return err
		}
		m.add("testto", text)
		return h.renderForm(v, http.StatusUnprocessableEntity, d, m, "")
	}
	d.TestKey = rand.Text() // the next test is another push
	return h.renderForm(v, http.StatusOK, d, mistakes{}, task.ID)
}

// refused says what the library found wrong with a push that can be helped in the form; empty: it is something else.
func (h *handler) refused(v *view, err error) string {
	if l, is := errors.AsType[*fanfare.LimitError](err); is {
		return v.T("Too large: %s may be at most %s, and this is %s.", l.What, v.N(l.Limit), v.N(l.Got))
	}
	if n, is := errors.AsType[*fanfare.NotificationError](err); is {
		return v.T("The service of %s would not take this notification: %s", n.Platform, n.Err.Error())
	}
	if u, is := errors.AsType[*fanfare.UnresolvedError](err); is {
		return v.T("%s have no attribute %s for the placeholder, and it has no default.", v.People(u.Users), u.Name)
	}
	if errors.Is(err, fanfare.ErrNoCron) {
		return v.T("This server repeats nothing.")
	}
	if text, is := strings.CutPrefix(err.Error(), "fanfare: plan: "); is {
		return v.T("The plan has a mistake: %s", text)
	}
	if errors.Is(err, fanfare.ErrKeyReused) {
		return v.T("This form was sent before, with another content. To push again, begin a new one.")
	}
	if errors.Is(err, fanfare.ErrInvalidText) {
		return v.T("It is not valid text.")
	}
	return ""
}
