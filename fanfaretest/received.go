package fanfaretest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// Received returns what the user has received since [New], in the order of receiving, and a message that came twice twice.
func (p *Pusher) Received(user string) []*transport.Message { return p.Recorder.Received(user) }

// RequireDelivered ends the test unless each of the users has received the message, which is named by its ID: that of the task. See [Pusher.WaitDelivered], which waits for it.
func (p *Pusher) RequireDelivered(t testing.TB, messageID string, users ...string) {
	t.Helper()
	p.some(t, messageID, users)
	if len(p.without(messageID, users)) > 0 {
		t.Fatalf("fanfaretest: %s", p.undelivered(messageID, users))
	}
}

// RequireNotDelivered ends the test if one of the users has received the message by now.
func (p *Pusher) RequireNotDelivered(t testing.TB, messageID string, users ...string) {
	t.Helper()
	p.some(t, messageID, users)
	var text string
	for _, user := range users {
		if p.has(user, messageID) {
			text += fmt.Sprintf("\n%s has been delivered to %s%s", p.name(messageID), user, p.received(user))
		}
	}
	if text != "" {
		t.Fatalf("fanfaretest: %s", text[1:])
	}
}

// RequireInOrder ends the test unless the users, or with none given all who have received anything, have received their messages in the order in which they were pushed. A message that
// came again is no mistake of the order; see [Pusher.RequireOnce].
func (p *Pusher) RequireInOrder(t testing.TB, users ...string) {
	t.Helper()
	p.require(t, users, func(got []*transport.Message) (wrong string) {
		var highest *transport.Message
		seen := make(map[string]bool)
		for _, m := range got {
			if highest != nil && m.Sequence < highest.Sequence && !seen[m.ID] {
				return fmt.Sprintf("received %s after %s", label(m), label(highest))
			}
			if highest == nil || m.Sequence > highest.Sequence {
				highest = m
			}
			seen[m.ID] = true
		}
		return ""
	})
}

// RequireOnce ends the test if one of the users, or with none given of all who have received anything, has received a message twice. After a fault, or a [Pusher.Crash], there may be
// duplicates; docs/guarantees.md says when.
func (p *Pusher) RequireOnce(t testing.TB, users ...string) {
	t.Helper()
	p.require(t, users, func(got []*transport.Message) (wrong string) {
		seen := make(map[string]bool)
		for _, m := range got {
			if seen[m.ID] {
				return fmt.Sprintf("received %s more than once", label(m))
			}
			seen[m.ID] = true
		}
		return ""
	})
}

func (p *Pusher) require(t testing.TB, users []string, look func([]*transport.Message) (wrong string)) {
	t.Helper()
	if len(users) == 0 {
		users = p.Recorder.Users()
	}
	var text string
	for _, user := range users {
		if wrong := look(p.Received(user)); wrong != "" {
			text += fmt.Sprintf("\n%s %s%s", user, wrong, p.received(user))
		}
	}
	if text != "" {
		t.Fatalf("fanfaretest: %s", text[1:])
	}
}

// some ends a test that asks about nobody, or about no message: that nobody has it would always be so.
func (p *Pusher) some(t testing.TB, messageID string, users []string) {
	t.Helper()
	if len(users) == 0 {
		t.Fatalf("fanfaretest: no users were named")
	}
	if _, err := p.Task(context.Background(), messageID); errors.Is(err, fanfare.ErrUnknownTask) {
		t.Fatalf("fanfaretest: there is no message %q: its name is the ID of the task, and known for 30 days after the task's end", messageID)
	}
}

func (p *Pusher) has(user, messageID string) bool {
	return slices.ContainsFunc(p.Received(user), func(m *transport.Message) bool { return m.ID == messageID })
}

// without returns those of the users who have not received a message.
func (p *Pusher) without(messageID string, users []string) (rest []string) {
	for _, user := range users {
		if !p.has(user, messageID) {
			rest = append(rest, user)
		}
	}
	return rest
}

func (p *Pusher) undelivered(messageID string, users []string) (text string) {
	for _, user := range p.without(messageID, users) {
		text += fmt.Sprintf("\n%s has not been delivered to %s%s", p.name(messageID, user), user, p.story(user))
	}
	return strings.TrimPrefix(text, "\n")
}

// received tells, in a further line, what a user has received.
func (p *Pusher) received(user string) string {
	return "\n\t" + user + " received " + labels(p.Received(user))
}

// story tells, in further lines, what there is to know of a user who has not received what was expected.
func (p *Pusher) story(user string) string {
	text := p.received(user)
	waits, err := p.pending(user)
	switch {
	case errors.Is(err, fanfare.ErrUnknownUser):
		return text + "\n\t" + user + " is not known to the Pusher"
	case err != nil:
		return text + "\n\t" + err.Error()
	case len(waits) > 0:
		text += "\n\t" + user + " waits for " + labels(waits)
	}
	if is, err := p.Connected(context.Background(), user); err == nil && !is {
		text += "\n\t" + user + " is not connected"
	}
	return text
}

func (p *Pusher) pending(user string) (list []*transport.Message, err error) {
	for m, err := range p.Pending(context.Background(), user) {
		if err != nil {
			return list, err
		}
		list = append(list, m)
	}
	return list, nil
}

// name is a message as people know it: by what has been received of it, or what the users wait for.
func (p *Pusher) name(messageID string, users ...string) string {
	for _, user := range p.Recorder.Users() {
		for _, m := range p.Received(user) {
			if m.ID == messageID {
				return label(m)
			}
		}
	}
	for _, user := range users {
		waits, _ := p.pending(user)
		for _, m := range waits {
			if m.ID == messageID {
				return label(m)
			}
		}
	}
	return "message " + messageID
}

func label(m *transport.Message) string { return fmt.Sprintf("#%d %s", m.Sequence, quoted(m.Body)) }

// labels lists messages, of many only the last ones.
func labels(messages []*transport.Message) string {
	if len(messages) == 0 {
		return "nothing"
	}
	const most = 10
	text := count(len(messages), "message") + ": "
	if n := len(messages) - most; n > 0 {
		text += fmt.Sprintf("%d more, ", n)
		messages = messages[n:]
	}
	for i, m := range messages {
		if i > 0 {
			text += ", "
		}
		text += label(m)
	}
	return text
}

// quoted is the beginning of a body.
func quoted(body []byte) string {
	const most = 40
	if utf8.RuneCount(body) > most {
		return fmt.Sprintf("%.*q…", most, body)
	}
	return fmt.Sprintf("%q", body)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func list(names []string) string { return strings.Join(names, ", ") }
