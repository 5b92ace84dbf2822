package fanfaretest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
)

// news wakes who waits for something to happen.
type news struct {
	mu sync.Mutex
	ch chan struct{}
}

// next returns a channel that the next tell closes.
func (n *news) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
	}
	return n.ch
}

func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != nil {
		close(n.ch)
		n.ch = nil
	}
}

// bubblePatience bounds a wait in a bubble: there the Pusher's own ticks never let time end. It is a little more than the longest lifetime.
const bubblePatience = 8 * 24 * time.Hour

// patience returns the context of a wait. The cause of its end says how long that was.
func (p *Pusher) patience(t testing.TB) (context.Context, context.CancelFunc) {
	if d := p.o.Patience; d > 0 {
		return context.WithTimeoutCause(t.Context(), d, fmt.Errorf("for %v", d))
	}
	d, is := t.(interface{ Deadline() (time.Time, bool) })
	if !is {
		return context.WithCancel(t.Context())
	}
	at, some, bubble := deadline(d)
	switch {
	case bubble:
		return context.WithTimeoutCause(t.Context(), bubblePatience, errors.New("for 8 days of the bubble's time"))
	case !some:
		return context.WithCancel(t.Context())
	}
	left := time.Until(at)
	return context.WithTimeoutCause(t.Context(), left-min(left/10, 10*time.Second), errors.New("until the test's deadline"))
}

// deadline is that of a test. In a bubble a test must not ask for it, and panics.
func deadline(t interface{ Deadline() (time.Time, bool) }) (at time.Time, some, bubble bool) {
	defer func() { bubble = recover() != nil }()
	at, some = t.Deadline()
	return at, some, false
}

// await returns when something is done, which news tell of, or ends the test with what missing says. The news of a task's end comes by a hook, behind those of the host's:
// where one of these waits for the test there is none, so it also looks now and then, less and less often because a week may pass in a bubble.
func (p *Pusher) await(t testing.TB, done func() bool, missing func() string) {
	t.Helper()
	ctx, cancel := p.patience(t)
	defer cancel()
	pause := time.Second
	look := time.NewTimer(pause)
	defer look.Stop()
	for {
		next := p.news.next()
		if done() {
			return
		}
		if _, err := p.Stats(ctx); errors.Is(err, fanfare.ErrClosed) {
			t.Fatalf("fanfaretest: waited in vain, the Pusher is closed: %s", missing())
		}
		select {
		case <-next:
		case <-look.C:
			pause = min(2*pause, time.Minute)
			look.Reset(pause)
		case <-ctx.Done():
			t.Fatalf("fanfaretest: waited in vain, %v: %s", context.Cause(ctx), missing())
		}
	}
}

// WaitReceived returns when the user has received n messages since [New], one that came twice counted twice.
func (p *Pusher) WaitReceived(t testing.TB, user string, n int) {
	t.Helper()
	p.await(t, func() bool { return len(p.Received(user)) >= n }, func() string {
		return fmt.Sprintf("%s has not received %s%s", user, count(n, "message"), p.story(user))
	})
}

// WaitDelivered returns when each of the users has received the message, which is named by its ID: that of the task. With client acks it is then on its way to them.
func (p *Pusher) WaitDelivered(t testing.TB, messageID string, users ...string) {
	t.Helper()
	p.some(t, messageID, users)
	p.await(t, func() bool { return len(p.without(messageID, users)) == 0 }, func() string { return p.undelivered(messageID, users) })
}

// WaitNotified returns when the phones of the user have shown n notifications since [New], all together; see [Phone.Shown].
func (p *Pusher) WaitNotified(t testing.TB, user string, n int) {
	t.Helper()
	phone := p.Phone(user)
	p.await(t, func() bool { return len(phone.Shown()) >= n }, func() string {
		return fmt.Sprintf("the phones of %s have not shown %s%s", user, count(n, "notification"), phone.story())
	})
}

// WaitTask returns when the fan-out of a task is finished, as [fanfare.Task.Wait] says: who is connected has been tried, and phones have been notified. Who comes later is not waited for, nor is who has just connected and is still catching up: see [Pusher.WaitDelivered].
func (p *Pusher) WaitTask(t testing.TB, taskID string) {
	t.Helper()
	ctx, cancel := p.patience(t)
	defer cancel()
	err := p.task(t, taskID).Wait(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		t.Fatalf("fanfaretest: waited in vain, %v: the fan-out of %s is not finished%s", err, p.name(taskID), p.progress(taskID))
	}
}

// WaitEnded returns when a task has ended: everyone of its audience has the message, and has acknowledged it where clients do, or it has expired or been withdrawn.
func (p *Pusher) WaitEnded(t testing.TB, taskID string) {
	t.Helper()
	task := p.task(t, taskID)
	var failed error
	p.await(t, func() bool {
		var g fanfare.Progress
		g, failed = task.Progress()
		return failed != nil || !g.Ended.IsZero()
	}, func() string { return fmt.Sprintf("%s has not ended%s", p.name(taskID), p.progress(taskID)) })
	if failed != nil {
		t.Fatalf("fanfaretest: task %s: %v", taskID, failed)
	}
}

func (p *Pusher) task(t testing.TB, id string) *fanfare.Task {
	t.Helper()
	task, err := p.Task(context.Background(), id)
	if err != nil {
		t.Fatalf("fanfaretest: task %s: %v", id, err)
	}
	return task
}

// progress tells, in a further line, how far a task has come.
func (p *Pusher) progress(id string) string {
	task, err := p.Task(context.Background(), id)
	var g fanfare.Progress
	if err == nil {
		g, err = task.Progress()
	}
	if err != nil {
		return "\n\t" + err.Error()
	}
	var of []string
	for _, c := range []struct {
		n    int64
		what string
	}{{g.Delivered, "delivered"}, {g.Failed, "failed"}, {g.Pending, "pending"}, {g.Expired, "expired"}, {g.Withdrawn, "withdrawn"}, {g.Gone, "gone"}} {
		if c.n > 0 {
			of = append(of, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	text := fmt.Sprintf("\n\tof %s: %s", count(int(g.Total), "user"), strings.Join(of, ", "))
	for _, platform := range p.o.Platforms {
		if n, is := g.Phones[platform]; is {
			text += fmt.Sprintf("\n\t%s: %d accepted of %d sent", platform, n.Accepted, n.Sent)
		}
	}
	return text
}
