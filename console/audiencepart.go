package console

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
)

const (
	// sampleUsers is how many users of an audience are shown.
	sampleUsers = 6
	// sampleWithin is how long they are looked for: the size matters more.
	sampleWithin = 500 * time.Millisecond
)

// audienceData is what is said of an audience while it is typed.
type audienceData struct {
	Empty   bool
	Text    string // in its canonical spelling
	Count   int64
	Share   string // of all users, in percent
	Members []string
	Problem *problem
}

// problem is what is wrong with an audience.
type problem struct {
	Text string // a key of the texts, or what the parser says
	// The text around the mistake, where it is known: in front of it, at it, behind it.
	Placed             bool
	Column             int
	Before, At, Behind string
}

// audience answers while somebody types, with the size of the audience and a few of its users.
func (h *handler) audience(v *view) error {
	data, err := h.audienceOf(v, v.r.PostFormValue("to"))
	if err != nil {
		return err
	}
	return v.fragment("compose", "audience", data)
}

// audienceOf counts an audience. A mistake in it is no error, but its Problem.
func (h *handler) audienceOf(v *view, text string) (*audienceData, error) {
	if isBlank(text) {
		return &audienceData{Empty: true}, nil
	}
	a, err := fanfare.ParseAudience(text)
	if err != nil {
		return &audienceData{Problem: problemOf(v, text, err)}, nil
	}
	data := &audienceData{Text: a.String()}
	if data.Count, err = h.count(v.ctx, a); err != nil {
		if p := problemOf(v, text, err); p != nil {
			return &audienceData{Problem: p}, nil
		}
		return nil, err
	}
	if data.Count == 0 {
		return data, nil
	}
	stats, err := h.p.Stats(v.ctx)
	if err != nil {
		return nil, err
	}
	if stats.Users > 0 {
		data.Share = share(data.Count, stats.Users)
	}
	ctx, cancel := context.WithTimeout(v.ctx, sampleWithin)
	defer cancel()
	for id, err := range h.p.Members(ctx, a) {
		if err != nil {
			break // it is a sample: there are fewer
		}
		if data.Members = append(data.Members, id); len(data.Members) == sampleUsers {
			break
		}
	}
	return data, nil
}

// share is a part in percent, in as many digits as tell something.
func share(part, whole int64) string {
	percent := min(float64(part)/float64(whole)*100, 100)
	switch {
	case part == 0:
		return "0 %"
	case part >= whole:
		return "100 %"
	case percent < 0.01:
		return "< 0.01 %"
	case percent < 1:
		return fmt.Sprintf("%.2f %%", percent)
	}
	return fmt.Sprintf("%.1f %%", percent)
}

// count counts an audience, a few at a time, and not for who has gone.
func (h *handler) count(ctx context.Context, a fanfare.Audience) (int64, error) {
	select {
	case h.counting <- struct{}{}:
		defer func() { <-h.counting }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return h.p.Count(ctx, a)
}

// around is how much of the text is shown on each side of a mistake, in characters.
const around = 40

// problemOf says what is wrong with an audience; nil for an error that is not the audience's.
func problemOf(v *view, text string, err error) *problem {
	if p, is := errors.AsType[*fanfare.ParseError](err); is {
		out := &problem{Text: p.Message, Placed: true, Column: p.Column}
		at := min(max(p.Offset, 0), len(text))
		for !utf8.ValidString(text[:at]) && at > 0 {
			at--
		}
		before, rest := []rune(text[:at]), []rune(text[at:])
		if len(before) > around {
			before = append([]rune("…"), before[len(before)-around:]...)
		}
		if len(rest) > around {
			rest = append(rest[:around:around], '…')
		}
		out.Before = string(before)
		if len(rest) > 0 {
			out.At, out.Behind = string(rest[:1]), string(rest[1:])
		}
		return out
	}
	if l, is := errors.AsType[*fanfare.LimitError](err); is {
		return &problem{Text: v.T("Too large: %s may be at most %s, and this is %s.", l.What, v.N(l.Limit), v.N(l.Got))}
	}
	if e, is := errors.AsType[*fanfare.ValueError](err); is {
		return &problem{Text: v.T("The attribute %s cannot be compared with %s.", e.Name, e.Value)}
	}
	switch {
	case errors.Is(err, fanfare.ErrUnknownAudience):
		return &problem{Text: v.T("It names a saved audience that there is not.")}
	case errors.Is(err, fanfare.ErrUnnamedAttribute):
		return &problem{Text: v.T("It names an attribute that there is not.")}
	case errors.Is(err, fanfare.ErrInvalidText):
		return &problem{Text: v.T("It is not valid text.")}
	case errors.Is(err, fanfare.ErrNoAudience):
		return &problem{Text: v.T("Say who gets the message.")}
	}
	return nil
}
