package console

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// pendingShown is how many of a user's pending messages are shown.
const pendingShown = 50

// pastShown is how many of the newest tasks a user is looked for in.
const pastShown = 25

// pastRow is a task, and where a user stands with it.
type pastRow struct {
	taskRow
	Standing string // a key of the texts
}

// standings are what is said of a standing.
var standings = map[fanfare.Standing]string{
	fanfare.StandingUnknown: "not kept", fanfare.StandingWaiting: "waiting", fanfare.StandingReceived: "has it", fanfare.StandingMissed: "missed it",
}

// attributeRow is an attribute of a user.
type attributeRow struct{ Name, Value string }

// userData is what the look-up shows.
type userData struct {
	Asked      string // the ID
	Message    string // the ID of the message that is asked about
	Unknown    bool
	User       fanfare.User
	Attributes []attributeRow
	Connected  bool
	Pending    []*transport.Message
	More       bool // there are more pending ones than shown
	Past       []pastRow
	Answer     *answer
	NoTask     bool // there is no task of Message
}

func (h *handler) users(v *view) error {
	q := v.r.URL.Query()
	data := &userData{Asked: q.Get("id"), Message: strings.TrimSpace(q.Get("message"))}
	p := page{Title: "Users", Section: "users", Data: data}
	if data.Asked == "" {
		return v.render(http.StatusOK, "users", p)
	}
	var err error
	if data.User, err = h.p.User(v.ctx, data.Asked); isUnknown(err) {
		data.Unknown = true
	} else if err != nil {
		return err
	}
	if !data.Unknown {
		if err := h.describe(v, data); err != nil {
			return err
		}
	}
	if data.Message != "" {
		if err := h.why(v, data); err != nil {
			return err
		}
	}
	return v.render(http.StatusOK, "users", p)
}

// isUnknown says whether nobody has the ID that was asked for, which is so too of one that nobody can have.
func isUnknown(err error) bool {
	_, long := errors.AsType[*fanfare.LimitError](err)
	return long || errors.Is(err, fanfare.ErrUnknownUser) || errors.Is(err, fanfare.ErrInvalidText)
}

// describe adds what is known of a user.
func (h *handler) describe(v *view, data *userData) error {
	for name, value := range data.User.Attributes {
		data.Attributes = append(data.Attributes, attributeRow{name, value})
	}
	slices.SortFunc(data.Attributes, func(a, b attributeRow) int { return cmp.Compare(a.Name, b.Name) })
	var err error
	if data.Connected, err = h.p.Connected(v.ctx, data.Asked); err != nil {
		return err
	}
	for m, err := range h.p.Pending(v.ctx, data.Asked) {
		if err != nil {
			return err
		}
		if len(data.Pending) == pendingShown {
			data.More = true
			break
		}
		data.Pending = append(data.Pending, m)
	}
	return h.past(v, data)
}

// past adds where the user stands with the newest tasks, but for those that were not for the user.
func (h *handler) past(v *view, data *userData) error {
	n := 0
	for task, err := range h.p.Tasks(v.ctx) {
		if err != nil {
			return err
		}
		if n++; n > pastShown {
			return nil
		}
		of, err := task.Standing(v.ctx, data.Asked)
		var g fanfare.Progress
		if err == nil && of != fanfare.StandingOutside {
			g, err = task.Progress()
		}
		switch {
		case errors.Is(err, fanfare.ErrUnknownTask), of == fanfare.StandingOutside: // forgotten meanwhile, or not meant
			continue
		case errors.Is(err, fanfare.ErrUnknownUser): // gone meanwhile
			return nil
		case err != nil:
			return err
		}
		data.Past = append(data.Past, pastRow{rowOf(task, g), standings[of]})
	}
	return nil
}

// PastShown is how many tasks were looked at.
func (*userData) PastShown() int { return pastShown }

// Text is a message's body as far as it can be shown.
func (d *userData) Text(m *transport.Message) string { return readable(m.Body) }

// readable is a body as a person may read it.
func readable(body []byte) string {
	if !utf8.Valid(body) {
		return ""
	}
	return clip(strings.TrimSpace(string(body)), 300)
}

// Short is a device's token, as much of it as tells it from the others.
func (d *userData) Short(token string) string {
	if len(token) <= 12 {
		return token
	}
	return strings.ToValidUTF8(token[:6], "") + "…" + strings.ToValidUTF8(token[len(token)-4:], "")
}
