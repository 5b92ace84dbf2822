package console

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/fanfare-im/fanfare"
)

// recall is what becomes, on phones, of the notification of a message that is to be withdrawn, as the form has it.
type recall struct {
	Shown    *fanfare.Notification // what phones show; nil: nothing that they could be told of
	Notified int64                 // notifications that the services took so far
	Instead  bool                  // another one is shown in its place, and not none
	Title    string
	Body     string
	Quiet    bool // without the sound that the first one had
	Mistakes mistakes
	Problem  string // what the library says
}

// recallOf is the form before anything is filled in, or as it was.
func recallOf(shown *fanfare.Notification, g *fanfare.Progress, f url.Values) *recall {
	return &recall{
		Shown: shown, Notified: notified(g), Instead: shown != nil && f.Get("phones") == "replace",
		Title: strings.TrimSpace(f.Get("title")), Body: strings.ReplaceAll(f.Get("body"), "\r\n", "\n"), Quiet: f.Get("quiet") != "",
	}
}

// Now is what phones show.
func (r *recall) Now() phonePreview { return phonesOf(r.Shown, "")[0] }

// Then is what they show in its place.
func (r *recall) Then() phonePreview { return phonePreview{Title: r.Title, Body: r.Body} }

// check says what is wrong with the form; the library has the last word.
func (r *recall) check(v *view) bool {
	if r.Instead && isBlank(r.Title) && isBlank(r.Body) {
		r.Mistakes.add("title", v.T("A notification needs a title or a text."))
	}
	return len(r.Mistakes.fields) == 0
}

// notification is what is shown instead; nil: nothing.
func (r *recall) notification() *fanfare.Notification {
	if !r.Instead {
		return nil
	}
	n := &fanfare.Notification{Title: r.Title, Body: r.Body}
	if !r.Quiet {
		n.Sound = r.Shown.Sound
	}
	return n
}

// detail is what the audit log has of it.
func (r *recall) detail() string {
	switch {
	case r.Instead:
		title := r.Title
		if title == "" {
			title = r.Body
		}
		return "withdrawn, on phones replaced by " + strconv.Quote(clip(title, 200))
	case r.Shown != nil:
		return "withdrawn, on phones taken away"
	}
	return "withdrawn"
}

// recall withdraws, with what is asked for. Refused says that the form has to say why not; then nothing was done.
func (h *handler) recall(v *view, target, detail string, r *recall, withdraw func(context.Context) error, replace func(context.Context, fanfare.Notification) error) (refused bool, err error) {
	err = h.act(v, target, detail, func(ctx context.Context) (string, error) {
		if n := r.notification(); n != nil {
			return "", replace(ctx, *n)
		}
		return "", withdraw(ctx)
	})
	if err == nil || !r.Instead {
		return false, err
	}
	r.Problem = h.refused(v, err)
	return r.Problem != "", err
}

// previewRecall shows what phones will show in the place of a notification, as it is typed.
func (h *handler) previewRecall(v *view) error {
	return v.fragment("withdraw", "notification", recallOf(nil, new(fanfare.Progress), v.r.PostForm).Then())
}

// PhoneCount is a number of phones.
func (v *view) PhoneCount(n int64) string {
	if n == 1 {
		return v.T("1 phone")
	}
	return v.T("%s phones", v.N(n))
}
