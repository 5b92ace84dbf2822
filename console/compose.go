package console

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// composeData is what the form shows.
type composeData struct {
	*draft
	Mistakes   mistakes
	Lifetimes  []choice
	Tolerances []choice
	Audience   *audienceData
	Preview    *previewData
	Users      int64    // all there are
	Tested     []string // the IDs of the tasks of a test that was just sent
	Partial    bool     // it was filled in with a plan that has more than the form
	// Focus is the ID of the element that the focus goes to: where something was just added, or taken away.
	Focus string
}

// Focuses is the attribute that has the focus go to an element, if it is to.
func (c *composeData) Focuses(id string) template.HTMLAttr {
	if c.Focus == id {
		return "autofocus"
	}
	return ""
}

func (h *handler) compose(v *view) error {
	query := v.r.URL.Query()
	if id := query.Get("plan"); id != "" {
		return h.composeAgain(v, id)
	}
	d := h.newDraft()
	d.To = query.Get("to")
	return h.renderForm(v, http.StatusOK, &composeData{draft: d})
}

// edit shows the form again as it was filled in: after the confirmation, in another language, or with a row more or less.
func (h *handler) edit(v *view) error {
	h.choose(v)
	data := &composeData{draft: h.draftOf(v.r.PostForm)}
	d := data.draft
	switch v.r.PostFormValue("add") {
	case "language":
		if len(d.Locales) < maxLocales {
			d.Notify = true
			data.Focus = "locale-" + strconv.Itoa(len(d.Locales))
			d.Locales = append(d.Locales, draftLocale{})
		}
	case "variant":
		d.addVariant()
		data.Focus = "variant-" + strconv.Itoa(len(d.Variants)-1)
	}
	if i, err := strconv.Atoi(v.r.PostFormValue("remove")); err == nil && i >= 0 && i < len(d.Variants) {
		d.Variants = slices.Delete(d.Variants, i, i+1)
		data.Focus = "add-variant"
		if i < len(d.Variants) { // that which has come to its place
			data.Focus = "variant-" + strconv.Itoa(i)
		}
	}
	return h.renderForm(v, http.StatusOK, data)
}

func (h *handler) renderForm(v *view, status int, data *composeData) error {
	d := data.draft
	data.Lifetimes, data.Tolerances, data.Preview = lifetimes, tolerances, h.previewOf(v, d)
	if l, ok := lifetimeOf(d.Lifetime); ok {
		data.Lifetimes = withValue(lifetimes, d.Lifetime, l)
	}
	if late, ok := toleranceOf(d.Late); ok {
		data.Tolerances = withValue(tolerances, d.Late, late)
	}
	stats, err := h.p.Stats(v.ctx)
	if err != nil {
		return err
	}
	data.Users = stats.Users
	if data.Audience, err = h.audienceOf(v, d.To); err != nil {
		return err
	}
	title := "Compose"
	if d.Changes != "" {
		title = "Change a plan"
	}
	return v.render(status, "compose", page{Title: title, Section: "compose", Switch: "compose", Data: data})
}

// refuse shows the form with what is wrong with it.
func (h *handler) refuse(v *view, d *draft, m mistakes) error {
	return h.renderForm(v, http.StatusUnprocessableEntity, &composeData{draft: d, Mistakes: m})
}

// previewData is a message as its receivers may see it, in each of its forms.
type previewData struct {
	From  string
	Forms []formPreview
}

// formPreview is a form of a message.
type formPreview struct {
	Plain    bool // the message as it is
	Nobody   bool // whom it does not go to, as there is a variant for everybody
	Name     string
	Language string
	Share    string
	Text     string
	Body     string // as it is sent
	Size     int64
	Problem  string
	Phones   []phonePreview
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

// previewOf shows a form as far as it is filled in.
func (h *handler) previewOf(v *view, d *draft) *previewData {
	var m mistakes
	plan := h.plan(v, d, &m)
	texts := []string{d.Text}
	for i := range plan.Variants {
		texts = append(texts, d.Variants[i].Text)
	}
	out := previewPlan(&plan, texts)
	for i := range out.Forms {
		switch {
		case i > 0:
			out.Forms[i].Problem = m.Of("varianttext-" + strconv.Itoa(i-1))
		case !isBlank(d.Text):
			out.Forms[i].Problem = m.Of("text")
		}
	}
	return out
}

// previewPlanned shows a plan.
func (h *handler) previewPlanned(v *view, plan *fanfare.Plan) *previewData {
	say := func(body []byte) string {
		if text, ok := h.textOf(body); ok {
			return text
		}
		if text := readable(body); text != "" || len(body) == 0 {
			return text
		}
		return v.T("%s that are no text", v.Bytes(int64(len(body))))
	}
	texts := []string{say(plan.Message.Body)}
	for i := range plan.Variants {
		texts = append(texts, say(plan.Variants[i].Body))
	}
	return previewPlan(plan, texts)
}

// previewPlan shows the message of a plan and its variants, with what they say as text; what is empty of a variant is as in the message.
func previewPlan(plan *fanfare.Plan, texts []string) *previewData {
	form := func(text string, body []byte, n *fanfare.Notification, language string) formPreview {
		one := formPreview{Text: clip(text, 300), Size: int64(len(body)), Body: readable(body), Language: language}
		if n != nil {
			one.Phones = phonesOf(n, language)
		}
		return one
	}
	base := &plan.Message
	plain := form(texts[0], base.Body, base.Notification, "")
	plain.Plain = true
	for i := range plan.Variants {
		plain.Nobody = plain.Nobody || plan.Variants[i].Language == ""
	}
	out := &previewData{From: base.From, Forms: []formPreview{plain}}
	for i, share := range shares(plan.Variants) {
		x := &plan.Variants[i]
		text, body := texts[i+1], x.Body
		if isBlank(text) {
			text = texts[0]
		}
		if len(body) == 0 {
			body = base.Body
		}
		one := form(text, body, cmp.Or(x.Notification, base.Notification), x.Language)
		one.Name, one.Share = x.Name, share
		out.Forms = append(out.Forms, one)
	}
	return out
}

// phonesOf are what phones show of a notification: those of a language, if one is given, or all.
func phonesOf(n *fanfare.Notification, language string) []phonePreview {
	show := func(of string, text transport.Text) phonePreview {
		return phonePreview{Language: of, Title: cmp.Or(text.Title, n.Title), Body: cmp.Or(text.Body, n.Body), Image: n.Image}
	}
	within := func(narrow, wide string) bool {
		return strings.HasPrefix(strings.ToLower(narrow)+"-", strings.ToLower(wide)+"-")
	}
	nearest, narrower := show(language, transport.Text{}), []phonePreview(nil)
	found := ""
	for _, of := range slices.Sorted(maps.Keys(n.Locales)) {
		switch {
		case within(language, of) && len(of) >= len(found): // the narrowest of those that have it
			nearest, found = show(language, n.Locales[of]), of
		case within(of, language) || language == "":
			narrower = append(narrower, show(of, n.Locales[of]))
		}
	}
	return append([]phonePreview{nearest}, narrower...)
}

// confirmData is what the confirmation shows.
type confirmData struct {
	*draft
	Audience *audienceData
	Preview  *previewData
	Online   int64    // who is connected, of all users
	Firing   []string // when a plan fires, in words
	Problem  string   // why it was not sent
	There    string   // the page of what the form has become before
	Over     bool     // the plan that it changes is not there to be changed
}

// asked is a form that was read, with all that it stands for.
type asked struct {
	*draft
	plan     fanfare.Plan // its Message is what is pushed at once, if it is not planned
	audience *audienceData
	mistakes mistakes
	next     []time.Time
	// What the same form has become that was sent before.
	sentPlan *fanfare.Planned
	sentTask *fanfare.Task
	over     bool // the plan that the form changes is not there to be changed
}

// there is the page of what the form has become before; empty: it was not sent.
func (a *asked) there() string {
	switch {
	case a.sentPlan != nil:
		return "plans/" + a.sentPlan.ID
	case a.sentTask != nil:
		return "tasks/" + a.sentTask.ID
	}
	return ""
}

// checked reads the form and all that is wrong with it, its audience included.
func (h *handler) checked(v *view) (*asked, error) {
	a := &asked{draft: h.draftOf(v.r.PostForm)}
	var err error
	m := &a.mistakes
	if a.audience, err = h.audienceOf(v, a.To); err != nil {
		return nil, err
	}
	switch {
	case a.audience.Empty:
		m.add("to", v.T("Say who gets the message."))
	case a.audience.Problem != nil:
		m.add("to", v.T("The audience has a mistake: %s", a.audience.Problem.Text))
	}
	a.plan = h.plan(v, a.draft, m)
	if a.Changes == "" {
		key := a.plan.Message.Key
		if a.sentPlan, err = h.p.PlannedOfKey(v.ctx, key); err != nil && !errors.Is(err, fanfare.ErrUnknownPlan) {
			return nil, err
		}
		if a.sentTask, err = h.p.TaskOfKey(v.ctx, a.plan.Message.From, key); err != nil && !errors.Is(err, fanfare.ErrUnknownTask) {
			return nil, err
		}
	}
	if a.sentPlan != nil { // its time may have come since
		for _, field := range []string{"at", "until"} {
			if m.Of(field) == v.T("This time is past.") {
				m.forgive(field)
			}
		}
	}
	if len(m.fields) > 0 {
		return a, nil
	}
	if a.plan.Message.To, err = fanfare.ParseAudience(a.To); err != nil {
		return nil, err
	}
	if a.Planned() && a.sentPlan == nil {
		if a.next, err = h.p.Times(a.plan, shownTimes); err != nil {
			text := h.refused(v, err)
			if text == "" {
				return nil, err
			}
			m.add("every", text)
		} else if len(a.next) == 0 {
			m.add("until", v.T("It would never be sent: it ends before its first time."))
		}
	}
	return a, nil
}

// confirm asks whether so many people shall be disturbed.
func (h *handler) confirm(v *view) error {
	h.choose(v)
	a, err := h.checked(v)
	if err != nil {
		return err
	}
	if len(a.mistakes.fields) > 0 {
		return h.refuse(v, a.draft, a.mistakes)
	}
	return h.renderConfirm(v, http.StatusOK, a, "")
}

func (h *handler) renderConfirm(v *view, status int, a *asked, problem string) error {
	data := &confirmData{draft: a.draft, Audience: a.audience, Preview: h.previewOf(v, a.draft), Problem: problem, There: a.there(), Over: a.over}
	stats, err := h.p.Stats(v.ctx)
	if err != nil {
		return err
	}
	data.Online = int64(stats.Online)
	title := "Send this?"
	if a.Planned() {
		title, data.Firing = "Plan this?", v.Firing(&a.plan, a.next)
	}
	if a.Changes != "" {
		title = "Change the plan to this?"
	}
	return v.render(status, "confirm", page{Title: title, Section: "compose", Switch: "compose/confirm", Data: data})
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

// unconfirmed says why what was sent from the confirmation is not what was confirmed; 0: it is.
func (a *asked) unconfirmed(v *view) (status int, problem string) {
	shown, _ := counted(v.r.PostFormValue("counted"))
	typed, ok := counted(v.r.PostFormValue("confirm"))
	switch {
	case a.audience.Count == 0:
		return http.StatusConflict, v.T("Nobody is in this audience now.")
	case !ok || typed != shown:
		return http.StatusUnprocessableEntity, v.T("The number that you typed is not the number of people. Nothing was sent.")
	case moved(shown, a.audience.Count):
		return http.StatusConflict, v.T("The audience has grown since: it was %s, and is %s now. Nothing was sent.", v.N(shown), v.N(a.audience.Count))
	}
	return 0, ""
}

// detail is what the audit log has of a form.
func (a *asked) detail() string {
	out := clip(a.Text, 200) + " → " + a.plan.Message.To.String()
	if len(a.Variants) > 0 {
		out += fmt.Sprintf(" (%d variants)", len(a.Variants))
	}
	return out
}

// send pushes what was confirmed, or plans it.
func (h *handler) send(v *view) error {
	a, err := h.checked(v)
	if err != nil {
		return err
	}
	if len(a.mistakes.fields) > 0 {
		return h.refuse(v, a.draft, a.mistakes)
	}
	if a.Changes != "" { // such a form goes elsewhere
		return &statusError{http.StatusBadRequest, "The form could not be read. Nothing was done."}
	}
	// A form that was sent before is not asked about again: a click that comes twice leads to what the first has made.
	if a.there() == "" {
		if status, problem := a.unconfirmed(v); status != 0 {
			return h.renderConfirm(v, status, a, problem)
		}
	}
	place, again := "", false
	err = h.act(v, "", a.detail(), func(ctx context.Context) (string, error) {
		switch {
		case a.Planned() && a.sentTask != nil, !a.Planned() && a.sentPlan != nil: // the keys of plans are others than those of pushes
			return "", fanfare.ErrKeyReused
		case a.Planned():
			planned, err := h.p.Plan(ctx, a.plan)
			if err != nil {
				return "", err
			}
			place, again = "plans/"+planned.ID+"?notice=", planned.Duplicate
			return planned.ID, nil
		}
		task, err := h.p.Push(ctx, a.plan.Message)
		if err != nil {
			return "", err
		}
		place, again = "tasks/"+task.ID+"?notice=", task.Duplicate
		return task.ID, nil
	})
	if err != nil {
		if text := h.refused(v, err); text != "" {
			return h.renderConfirm(v, http.StatusUnprocessableEntity, a, text)
		}
		return err
	}
	switch {
	case again:
		place += "again"
	case a.Planned():
		place += "planned"
	default:
		place += "pushed"
	}
	return v.redirect(place)
}

// test pushes the form to one user, each of its variants as a push of its own, and shows it again.
func (h *handler) test(v *view) error {
	d := h.draftOf(v.r.PostForm)
	var m mistakes
	message := h.message(v, d, &m)
	variants := h.variants(v, d, &message, &m)
	if d.TestTo == "" {
		m.add("testto", v.T("Say which user gets the test."))
	} else if _, err := h.p.User(v.ctx, d.TestTo); isUnknown(err) {
		m.add("testto", v.T("There is no such user."))
	} else if err != nil {
		return err
	}
	if len(m.fields) > 0 {
		return h.refuse(v, d, m)
	}
	message.To = fanfare.Users(d.TestTo)
	var forms []fanfare.Message
	if len(variants) == 0 {
		forms = append(forms, message)
	}
	for i := range variants {
		one, x := message, &variants[i]
		if len(x.Body) > 0 {
			one.Body = x.Body
		}
		if x.Notification != nil {
			one.Notification = x.Notification
		}
		forms = append(forms, one)
	}
	data := &composeData{draft: d}
	for i, one := range forms {
		one.Key = "console-test-" + d.TestKey + "-" + strconv.Itoa(i)
		err := h.act(v, "", clip(readable(one.Body), 200)+" → "+message.To.String(), func(ctx context.Context) (string, error) {
			task, err := h.p.Push(ctx, one)
			if err != nil {
				return "", err
			}
			data.Tested = append(data.Tested, task.ID)
			return task.ID, nil
		})
		if err != nil {
			text := h.refused(v, err)
			if text == "" {
				return err
			}
			m.add("testto", text)
			return h.refuse(v, d, m)
		}
	}
	d.TestKey = rand.Text() // the next test is another push
	return h.renderForm(v, http.StatusOK, data)
}

// refused says what the library found wrong with a push that can be helped in the form; empty: it is something else.
func (h *handler) refused(v *view, err error) string {
	if l, is := errors.AsType[*fanfare.LimitError](err); is {
		return beyond(v, l)
	}
	if n, is := errors.AsType[*fanfare.NotificationError](err); is {
		return v.T("The service of %s would not take this notification: %s", n.Platform, n.Err.Error())
	}
	if u, is := errors.AsType[*fanfare.UnresolvedError](err); is {
		return v.T("The placeholder of the attribute %s has no default, and this many have no such attribute: %s.", u.Name, v.People(u.Users))
	}
	switch {
	case errors.Is(err, fanfare.ErrPlanStarted):
		return v.T("The plan has fired, so it cannot be changed any more. Nothing was changed.")
	case errors.Is(err, fanfare.ErrPlanEnded):
		return v.T("The plan has ended, so it cannot be changed any more. Nothing was changed.")
	case errors.Is(err, fanfare.ErrPlanChanged):
		return v.T("The plan was changed since you opened this form. Nothing was changed by you: look at it as it is now.")
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
