package console

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
)

// Verdicts of the question why a message did or did not reach somebody. Each is a key of the texts.
const (
	verdictWaiting  = "It has not arrived yet: it is waiting for this user."
	verdictNo       = "It did not reach this user."
	verdictNever    = "It was never meant for this user."
	verdictYes      = "It reached this user."
	verdictLikely   = "It probably reached this user."
	verdictUnlikely = "It was probably not meant for this user."
	verdictUnknown  = "It cannot be known whether it reached this user."
)

// evidence is all that an answer is derived from.
type evidence struct {
	info       fanfare.TaskInfo
	progress   fanfare.Progress
	known      bool // the user
	registered time.Time
	standing   fanfare.Standing // of the user, if known
	fits       bool             // the audience, now
	fitsKnown  bool
	tooLong    bool // the audience, for that to be known
	connected  bool
	platforms  []string // of the user's devices
	optedOut   bool     // of the message's category, now
}

// fact is a sentence, a key of the texts, with what is put into it.
type fact struct {
	Text string
	Args []any
}

// answer is what is said of a message and a user.
type answer struct {
	Task    taskRow
	Verdict string
	Facts   []fact
	// Limit says what cannot be known here, where that matters. Empty: nothing.
	Limit string
}

// why answers the question of the look-up.
func (h *handler) why(v *view, data *userData) error {
	task, err := h.p.Task(v.ctx, data.Message)
	if errors.Is(err, fanfare.ErrUnknownTask) {
		data.NoTask = true
		return nil
	}
	if err != nil {
		return err
	}
	e := evidence{info: task.Info(), known: !data.Unknown, registered: data.User.Registered, connected: data.Connected}
	// The standing comes before the progress: who gets the message between the two is then waiting, as was true, and not somebody who has it of a task that nobody does.
	if e.known {
		if e.standing, err = task.Standing(v.ctx, data.Asked); err != nil {
			return err
		}
		n, err := h.p.Count(v.ctx, e.info.To.And(fanfare.Users(data.Asked)))
		_, mistyped := errors.AsType[*fanfare.ValueError](err)
		_, e.tooLong = errors.AsType[*fanfare.LimitError](err) // with the user in it
		if err != nil && !mistyped && !e.tooLong && !errors.Is(err, fanfare.ErrUnnamedAttribute) && !errors.Is(err, fanfare.ErrUnknownAudience) {
			return err
		}
		e.fits, e.fitsKnown = n > 0, err == nil
		e.optedOut = e.info.Category != "" && slices.Contains(data.User.OptOuts, e.info.Category)
		for _, d := range data.User.Devices {
			if !slices.Contains(e.platforms, d.Platform) {
				e.platforms = append(e.platforms, d.Platform)
			}
		}
	}
	if e.progress, err = task.Progress(); err != nil {
		return err
	}
	data.Answer = explain(v, &e)
	data.Answer.Task = rowOf(task, e.progress)
	return nil
}

// explain derives the answer. It claims nothing that does not follow.
func explain(v *view, e *evidence) *answer {
	a := new(answer)
	say := func(text string, args ...any) { a.Facts = append(a.Facts, fact{text, args}) }
	g := &e.progress
	fleeting := e.info.Expires.Equal(e.info.Accepted)

	if !e.known {
		a.Verdict = verdictUnknown
		say("There is no user of this ID now.")
		a.Limit = "A user who was unregistered leaves no trace, so nothing can be said of one who was."
		if g.Delivered == 0 && !g.Ended.IsZero() {
			a.Verdict, a.Limit = verdictNo, ""
			say("Nobody has the message: it reached none of its audience.")
		}
		return a
	}
	if e.standing == fanfare.StandingWaiting {
		a.Verdict = verdictWaiting
		say("The user was in the audience when it was frozen, at %s.", v.Time(e.info.Accepted))
		if e.connected {
			say("The user is connected, so it should come in a moment, behind older messages. If it does not, the client does not take or acknowledge it.")
		} else {
			say("The user is not connected. It comes first thing when the user connects, if that is before %s.", v.Time(e.info.Expires))
		}
		explainPhones(e, say)
		return a
	}
	switch e.standing {
	case fanfare.StandingReceived:
		a.Verdict = verdictYes
		say("The user was in the audience when it was frozen, at %s.", v.Time(e.info.Accepted))
		say("It was delivered to the user: the app has it, and has acknowledged it where apps do.")
		explainPhones(e, say)
		return a
	case fanfare.StandingMissed:
		a.Verdict = verdictNo
		say("The user was in the audience when it was frozen, at %s.", v.Time(e.info.Accepted))
		explainEnd(v, e, say)
		say("The user was among those who still waited.")
		explainPhones(e, say)
		return a
	case fanfare.StandingOutside:
		a.Verdict = verdictNever
		say("The user was not in the audience when it was frozen, at %s.", v.Time(e.info.Accepted))
		explainOutside(v, e, say)
		return a
	}
	// The registration is known to the second, the acceptance to the millisecond.
	if e.registered.After(e.info.Accepted) {
		a.Verdict = verdictNever
		say("The user was registered at %s, after the push was accepted, at %s. An audience is frozen then.", v.Time(e.registered), v.Time(e.info.Accepted))
		return a
	}
	sameSecond := !e.registered.Before(e.info.Accepted.Truncate(time.Second))
	say("The message is not waiting for this user now.")
	if sameSecond {
		say("The user was registered in the second in which the push was accepted, so it is not known which came first.")
	}

	// Who was in the audience, as far as that follows: all of the users are, always.
	surely := e.info.To.String() == "all" && e.info.Plan == "" && g.Capped == 0 && g.OptedOut == 0 && !sameSecond
	switch {
	case e.info.Plan != "":
		say("A plan released it, to a part of its audience at a time or a part for each variant. This task is one of the parts, and the user may be in another.")
	case surely:
		say("The push was to all users, and this one was registered before it, so the user was in the audience.")
	case e.tooLong:
		say("The audience is as long as one may be, so it cannot be looked up whether it fits the user.")
	case !e.fitsKnown:
		say("The audience names something that is not there any more, so it cannot be said whether it fits the user.")
	case e.fits:
		say("The audience fits the user now: %s", clip(e.info.To.String(), 2000))
	default:
		say("The audience does not fit the user now: %s", clip(e.info.To.String(), 2000))
	}
	explainLeftOut(v, e, say)
	switch {
	case g.Total == 0:
		a.Verdict = verdictNo
		say("The audience was empty, so nobody got it.")
		return a
	case fleeting && g.Ended.IsZero():
		a.Verdict = verdictUnknown
		say("It is for those who are connected, and is going out now.")
		a.Limit = "Ask again when the task has ended."
		return a
	case g.Delivered == 0 && g.Ended.IsZero():
		if a.Verdict = verdictNever; e.info.Plan != "" {
			a.Verdict = verdictNo // of this part; it may yet come with another
		}
		say("Nobody has the message yet: everyone of the audience is still waiting for it. This user is not, so the user is not of the audience.")
		return a
	case g.Delivered == 0:
		a.Verdict = verdictNo
		say("Nobody has the message: it reached none of its audience.")
		explainEnd(v, e, say)
		return a
	}
	explainEnd(v, e, say)
	all := g.Delivered == g.Total
	lost := g.Expired + g.Withdrawn + g.Failed // users of whom one may be this one
	switch {
	case surely && (all || lost == 0 && g.Gone == 0):
		a.Verdict = verdictYes
		say("It was delivered to %s, and each of the others is waiting. This one is not, so the user has it.", v.People(g.Delivered))
		if all {
			a.Facts[len(a.Facts)-1] = fact{"The whole audience has it: %s.", []any{v.People(g.Total)}}
		}
	case e.info.Plan != "":
		a.Verdict = verdictUnknown
		a.Limit = "It is not kept who has a message, only who is waiting, nor in which part of a plan somebody was."
	case e.fitsKnown && !e.fits, e.optedOut && g.OptedOut > 0:
		a.Verdict = verdictUnlikely
		a.Limit = "The audience is looked at as it is now. Whether it fitted the user when the push was accepted is not kept for those who are not waiting."
	case lost > 0:
		a.Verdict = verdictUnknown
		a.Limit = "Once a task has ended for somebody, only the numbers are kept, not who had it in time and who did not."
	default:
		a.Verdict = verdictLikely
		a.Limit = "It is not kept who has a message, only who is waiting. The user has it, if the audience fitted the user when the push was accepted."
	}
	if a.Verdict != verdictYes {
		explainPhones(e, say)
	}
	return a
}

// explainOutside says why somebody may have been outside of the audience.
func explainOutside(v *view, e *evidence, say func(string, ...any)) {
	switch {
	case e.registered.After(e.info.Accepted):
		say("The user was registered at %s, after the push was accepted, at %s. An audience is frozen then.", v.Time(e.registered), v.Time(e.info.Accepted))
		return
	case e.info.Plan != "":
		say("A plan released it, to a part of its audience at a time or a part for each variant. This task is one of the parts, and the user may be in another.")
	case e.fitsKnown && e.fits:
		say("The audience fits the user now: %s", clip(e.info.To.String(), 2000))
	case e.fitsKnown:
		say("The audience does not fit the user now: %s", clip(e.info.To.String(), 2000))
	}
	explainLeftOut(v, e, say)
}

// explainLeftOut says who was left out of the audience, whoever fitted it.
func explainLeftOut(v *view, e *evidence, say func(string, ...any)) {
	g := &e.progress
	if g.Capped > 0 {
		say("Left out of the push, for having had as many of the category %q as one may: %s.", e.info.Category, v.People(g.Capped))
	}
	if e.optedOut {
		say("The user wants no messages of the category %q now, and who does not want them is left out.", e.info.Category)
	} else if g.OptedOut > 0 {
		say("Left out of the push, for wanting no messages of the category %q: %s.", e.info.Category, v.People(g.OptedOut))
	}
}

// explainEnd says how a task ended, where that left somebody without the message.
func explainEnd(v *view, e *evidence, say func(string, ...any)) {
	g := &e.progress
	switch {
	case g.Withdrawn > 0:
		say("It was withdrawn at %s. Still waiting then: %s.", v.Time(g.Ended), v.People(g.Withdrawn))
	case e.info.Expires.Equal(e.info.Accepted) && g.Failed+g.Expired > 0:
		say("It was only for those who were connected at %s. Not connected, or not reached: %s.", v.Time(e.info.Accepted), v.People(g.Failed+g.Expired))
	case g.Expired > 0:
		say("It expired at %s. Still waiting then: %s.", v.Time(e.info.Expires), v.People(g.Expired))
	}
}

// explainPhones says what a phone may have shown.
func explainPhones(e *evidence, say func(string, ...any)) {
	if len(e.progress.Phones) == 0 {
		say("No phone was notified of it.")
		return
	}
	var reached, stopped []string
	for _, platform := range e.platforms {
		if n, ok := e.progress.Phones[platform]; ok {
			reached = append(reached, platform)
			if n.Stopped != "" {
				stopped = append(stopped, platform+": "+n.Stopped)
			}
		}
	}
	switch {
	case len(e.platforms) == 0:
		say("The user has no phone registered, so no notification went out for this user.")
	case len(reached) == 0:
		say("The user's phones are on platforms that were not notified: %s", strings.Join(e.platforms, ", "))
	default:
		say("The user has a phone on %s, where notifications of this task went out; whether one reached this phone is counted, but not kept by user.", strings.Join(reached, ", "))
	}
	for _, s := range stopped {
		say("Notifications have stopped on %s", s)
	}
}
