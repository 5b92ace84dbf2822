package console

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	data.Members = h.sample(v.ctx, a)
	return data, nil
}

// share is a part in percent, in as many digits as tell something.
func share(part, whole int64) string {
	percent := float64(part) / float64(whole) * 100
	switch {
	case part == 0:
		return "0 %"
	case part >= whole:
		return "100 %"
	case percent > 99.9:
		return "> 99.9 %" // and not as if it were all
	case percent < 0.01:
		return "< 0.01 %"
	case percent < 1:
		return fmt.Sprintf("%.2f %%", percent)
	}
	return fmt.Sprintf("%.1f %%", percent)
}

// count counts an audience.
func (h *handler) count(ctx context.Context, a fanfare.Audience) (n int64, err error) {
	err = h.turn(ctx, func() error {
		n, err = h.p.Count(ctx, a)
		return err
	})
	return n, err
}

// sample returns a few users of an audience. To find them may cost as much as to count all.
func (h *handler) sample(ctx context.Context, a fanfare.Audience) (ids []string) {
	ctx, cancel := context.WithTimeout(ctx, sampleWithin)
	defer cancel()
	_ = h.turn(ctx, func() error { // without its turn there are none
		for id, err := range h.p.Members(ctx, a) {
			if err != nil {
				return err // there are fewer
			}
			if ids = append(ids, id); len(ids) == sampleUsers {
				break
			}
		}
		return nil
	})
	return ids
}

// turn does what counts, a few at a time, and not for who has gone.
func (h *handler) turn(ctx context.Context, do func() error) error {
	select {
	case h.counting <- struct{}{}:
		defer func() { <-h.counting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return do()
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
		return &problem{Text: beyond(v, l)}
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

// beyond says which limit is not kept.
func beyond(v *view, l *fanfare.LimitError) string {
	if what, least := strings.CutSuffix(l.What, ", at least"); least {
		return v.T("Too small: %s must be at least %s, and this is %s.", what, v.N(l.Limit), v.N(l.Got))
	}
	what, fromNothing := strings.CutSuffix(l.What, ", from 0")
	if fromNothing && l.Got < 0 {
		return v.T("Too small: %s must be at least %s, and this is %s.", what, v.N(0), v.N(l.Got))
	}
	return v.T("Too large: %s may be at most %s, and this is %s.", what, v.N(l.Limit), v.N(l.Got))
}
