package fanfaretest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

type device struct{ platform, token string }

// Phone is the phones of a user: one or several, registered by [fanfare.Pusher.RegisterDevice] with a platform of Options.Platforms.
type Phone struct {
	p    *Pusher
	user string
}

// Phone returns the phones of a user.
func (p *Pusher) Phone(user string) *Phone { return &Phone{p, user} }

// devices are those that are registered and those that were notified, sorted.
func (ph *Phone) devices() (of []device) {
	p := ph.p
	registered, _ := p.Devices(context.Background(), ph.user) // of who is not known, none
	p.mu.Lock()
	for d := range p.tokens[ph.user] {
		of = append(of, d)
	}
	p.mu.Unlock()
	for _, d := range registered {
		if p.services[d.Platform] != nil {
			of = append(of, device{d.Platform, d.Token})
		}
	}
	slices.SortFunc(of, func(a, b device) int {
		return cmp.Or(cmp.Compare(a.platform, b.platform), cmp.Compare(a.token, b.token))
	})
	return slices.Compact(of)
}

// noteTokens notes whose phones a batch goes to.
func (p *Pusher) noteTokens(batch []transport.Notification) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range batch {
		of := p.tokens[n.UserID]
		if of == nil {
			of = make(map[device]bool)
			p.tokens[n.UserID] = of
		}
		of[device{n.Device.Platform, n.Device.Token}] = true
	}
}

// Showing returns what is on the screens now, phone by phone: of notifications with one collapse ID the last, and nothing that was withdrawn. The app does what it is told.
func (ph *Phone) Showing() []transport.Notification { return ph.each((*transporttest.Phones).Showing) }

// Shown returns what the phones have shown since [New], phone by phone, and in the order in which it came.
func (ph *Phone) Shown() []transport.Notification { return ph.each((*transporttest.Phones).Shown) }

func (ph *Phone) each(of func(*transporttest.Phones, string) []transport.Notification) (list []transport.Notification) {
	for _, d := range ph.devices() {
		for _, n := range of(ph.p.services[d.platform], d.token) {
			if n.UserID == ph.user { // not what a former or later owner of the phone was sent
				list = append(list, n)
			}
		}
	}
	return list
}

// Die makes the tokens dead that the user has now: the app was removed. The Pusher forgets each when it next notifies it.
func (ph *Phone) Die() {
	for _, d := range ph.devices() {
		ph.p.services[d.platform].Kill(time.Time{}, d.token)
	}
}

// Throttle lets the service answer the next n notifications for each phone that the user has now with "not before", as with an HTTP status of 429 and Retry-After.
func (ph *Phone) Throttle(n int, after time.Duration) {
	for _, d := range ph.devices() {
		ph.p.services[d.platform].RetryNext(d.token, n, after)
	}
}

// String tells what is on the screens now, a line for each notification.
func (ph *Phone) String() string {
	showing := ph.Showing()
	if len(showing) == 0 {
		return "nothing"
	}
	lines := make([]string, len(showing))
	for i, n := range showing {
		lines[i] = shown(n)
	}
	return strings.Join(lines, "\n")
}

func shown(n transport.Notification) string {
	text := n.Device.Platform + " " + n.Device.Token + ": "
	switch c := n.Content; {
	case c.Withdrawn:
		return text + "#" + fmt.Sprint(n.Message.Sequence) + " was withdrawn"
	case c.Silent:
		return text + "silent"
	case c.Body != "":
		return text + c.Title + ": " + c.Body
	default:
		return text + c.Title
	}
}

// story tells, in further lines, what there is to know of phones that were not notified as expected.
func (ph *Phone) story() (text string) {
	devices := ph.devices()
	for _, n := range ph.Shown() {
		text += "\n\tshown: " + shown(n)
	}
	for _, d := range devices {
		text += fmt.Sprintf("\n\t%s %s: %s sent, %d shown", d.platform, d.token,
			count(ph.p.services[d.platform].Attempts(d.token), "notification"), len(ph.p.services[d.platform].Shown(d.token)))
	}
	if len(devices) == 0 {
		text = fmt.Sprintf("\n\t%s has no phone of %s", ph.user, list(ph.p.o.Platforms))
	}
	return text
}

// notified says whether the phones of a user have shown a message's notification, whatever became of it.
func (p *Pusher) notified(user, messageID string) bool {
	return slices.ContainsFunc(p.Phone(user).Shown(), func(n transport.Notification) bool { return n.Message.ID == messageID && !n.Content.Withdrawn })
}

// RequireNotified ends the test unless each of the users has a phone that has shown the notification of the message. See [Pusher.WaitNotified], which waits for it.
func (p *Pusher) RequireNotified(t testing.TB, messageID string, users ...string) {
	t.Helper()
	p.requireNotified(t, messageID, users, true, "no phone of %s has shown the notification of %s")
}

// RequireNotNotified ends the test if one of the users has a phone that has shown the notification of the message by now.
func (p *Pusher) RequireNotNotified(t testing.TB, messageID string, users ...string) {
	t.Helper()
	p.requireNotified(t, messageID, users, false, "a phone of %s has shown the notification of %s")
}

func (p *Pusher) requireNotified(t testing.TB, messageID string, users []string, want bool, format string) {
	t.Helper()
	p.some(t, messageID, users)
	var text string
	for _, user := range users {
		if p.notified(user, messageID) != want {
			text += "\n" + fmt.Sprintf(format, user, p.name(messageID, user)) + p.Phone(user).story()
		}
	}
	if text != "" {
		t.Fatalf("fanfaretest: %s", text[1:])
	}
}

// Outage takes the service of a platform down until over is called, which may be more than once: notifications are [transport.Unsent], as by a sender that leaves the service alone, and come again each second.
func (p *Pusher) Outage(platform string) (over func()) {
	p.Service(platform)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down[platform]++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.down[platform]--
	})
}

func (p *Pusher) isDown(platform string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down[platform] > 0
}
