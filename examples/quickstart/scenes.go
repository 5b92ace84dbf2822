package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
)

const week = 7 * 24 * time.Hour

// share is how many percent of the users to take for about one in every so
// many of them, though at least a few, and not more than memory should hold.
func (s *show) share(every, atLeast, atMost float64) float64 {
	users := float64(s.users)
	return 100 * min(max(1/every, atLeast/users), atMost/users, 1)
}

// connectedUsers are the users who sit in front of the application throughout the show.
func (s *show) connectedUsers() fanfare.Audience {
	return fanfare.Sample(s.share(100, 20, 50_000), "connected")
}

// christmas is an offer to everyone, kept for a week for those who are away.
func (s *show) christmas(ctx context.Context) error {
	s.title("1. Christmas: an offer to all users, kept for 7 days")
	connected, err := s.connect(ctx, s.connectedUsers())
	if err != nil {
		return err
	}
	s.say("%s users are connected.", count(len(connected)))
	offer, err := s.push(ctx, fanfare.Message{
		From: "shop", Body: []byte("Merry Christmas! Everything at half price."),
		To: fanfare.All(), Lifetime: week, Key: "christmas-2026",
	}, len(connected))
	if err != nil {
		return err
	}

	later := fanfare.Sample(s.share(200, 10, 25_000), "later").And(s.connectedUsers().Not())
	back, err := s.connect(ctx, later)
	if err != nil {
		return err
	}
	s.say("In the next days %s users come back.", count(len(back)))
	want := int64(len(connected) + len(back))
	if err := s.follow(ctx, offer, "catching up", func(p fanfare.Progress) bool { return p.Delivered >= want }); err != nil {
		return err
	}

	// They go and come again. The greeting is delivered after everything that
	// waits for them, so once they have it there is nothing more to come.
	s.hub.disconnect(back...)
	if _, err := s.connect(ctx, later); err != nil {
		return err
	}
	greeting, err := s.p.Push(ctx, fanfare.Message{From: "shop", Body: []byte("Nice to see you again."), To: later})
	if err != nil {
		return err
	}
	if err := greeting.Wait(ctx); err != nil {
		return err
	}
	offers, greetings := 0, 0
	for _, user := range back {
		offers += s.hub.times(user, offer.ID)
		greetings += s.hub.times(user, greeting.ID)
	}
	s.say("They go and come back once more: %s get a greeting, %s get the offer again.", count(greetings), count(offers))
	return nil
}

// livestream is announced a week ahead, and called when it starts: that call is
// for those who are there, and worth nothing an hour later.
func (s *show) livestream(ctx context.Context) error {
	s.title("2. A livestream: announced 7 days before, called at its start to those who are online")
	if _, err := s.push(ctx, fanfare.Message{
		From: "live", Body: []byte("Livestream on Saturday, 20:00."),
		To: fanfare.All(), Lifetime: week, Key: "livestream-announcement",
	}, s.p.Online()); err != nil {
		return err
	}
	start, err := s.push(ctx, fanfare.Message{
		From: "live", Body: []byte("The livestream starts now!"),
		To: fanfare.All(), // no lifetime: online now, or not at all
	}, s.p.Online())
	if err != nil {
		return err
	}
	late, err := s.away(ctx, fanfare.All(), 1)
	if err != nil || len(late) == 0 {
		return err
	}
	if _, err := s.connect(ctx, fanfare.Users(late...)); err != nil {
		return err
	}
	if err := s.settled(ctx, late[0]); err != nil {
		return err
	}
	var got []string
	for _, m := range s.hub.received(late[0]) {
		got = append(got, fmt.Sprintf("%q", m.Body))
	}
	s.say("%s comes an hour late and gets %s; the call: %s.", late[0], strings.Join(got, ", then "), yes(s.hub.times(late[0], start.ID) > 0))
	return nil
}

// stocks is a push by tags: to those who follow one stock or the other.
func (s *show) stocks(ctx context.Context) error {
	s.title("3. Tags: a plan for those who follow stock A or stock B")
	followers := fanfare.Tag("stock A").Or(fanfare.Tag("stock B"))
	if err := s.count(ctx, followers); err != nil {
		return err
	}
	newcomer, err := s.away(ctx, followers.Not(), 1)
	if err != nil {
		return err
	}
	leaver, err := s.away(ctx, followers, 1)
	if err != nil {
		return err
	}
	for _, user := range newcomer {
		if err := s.p.AddTags(ctx, user, "stock A"); err != nil {
			return err
		}
		s.say("%s follows stock A.", user)
		if err := s.count(ctx, followers); err != nil {
			return err
		}
	}
	for _, user := range leaver {
		if err := s.p.RemoveTags(ctx, user, "stock A", "stock B"); err != nil {
			return err
		}
		s.say("%s follows neither any more.", user)
		if err := s.count(ctx, followers); err != nil {
			return err
		}
	}
	plan, err := s.push(ctx, fanfare.Message{
		From: "bank", Body: []byte("Your plan for stock A and stock B."), To: followers, Lifetime: week,
	}, 0)
	if err != nil {
		return err
	}
	for _, user := range append(newcomer, leaver...) {
		if _, err := s.connect(ctx, fanfare.Users(user)); err != nil {
			return err
		}
		if err := s.settled(ctx, user); err != nil {
			return err
		}
		s.say("%s connects; the plan: %s.", user, yes(s.hub.times(user, plan.ID) > 0))
	}
	return nil
}

// platinum is a push by attributes. A change of city is one call, where tags
// would need two.
func (s *show) platinum(ctx context.Context) error {
	s.title("4. Attributes: an event for platinum members in Shenzhen")
	guests := fanfare.Attr("tier", "platinum").And(fanfare.Attr("city", "Shenzhen"))
	names, err := s.p.AttributeNames(ctx)
	if err != nil {
		return err
	}
	named := make(map[string]bool)
	for _, name := range names {
		named[name] = true
	}
	if !named["tier"] || !named["city"] {
		s.say("Left out: the users have no attributes named tier and city, and no slot is free for them.")
		return nil
	}
	if err := s.count(ctx, guests); err != nil {
		return err
	}
	members, err := s.away(ctx, guests.Not(), 3)
	if err != nil || len(members) == 0 {
		return err
	}
	for _, user := range members {
		if err := s.p.SetAttributes(ctx, user, map[string]string{"tier": "platinum", "city": "Shenzhen"}); err != nil {
			return err
		}
	}
	s.say("%s in Shenzhen: platinum members from today.", strings.Join(members, ", "))
	if err := s.count(ctx, guests); err != nil {
		return err
	}
	first, err := s.push(ctx, fanfare.Message{From: "game", Body: []byte("Platinum night in Shenzhen."), To: guests, Lifetime: week}, 0)
	if err != nil {
		return err
	}

	mover := members[0]
	if err := s.p.SetAttributes(ctx, mover, map[string]string{"city": "Guangzhou"}); err != nil {
		return err
	}
	s.say("%s moves to Guangzhou: one call.", mover)
	if err := s.count(ctx, guests); err != nil {
		return err
	}
	second, err := s.push(ctx, fanfare.Message{From: "game", Body: []byte("Platinum night: bring a friend."), To: guests, Lifetime: week}, 0)
	if err != nil {
		return err
	}
	if _, err := s.connect(ctx, fanfare.Users(mover)); err != nil {
		return err
	}
	if err := s.settled(ctx, mover); err != nil {
		return err
	}
	s.say("%s connects; the first message, sent before the move: %s; the second: %s.", mover,
		yes(s.hub.times(mover, first.ID) > 0), yes(s.hub.times(mover, second.ID) > 0))
	return nil
}

// push pushes a message and shows it going out to those who are connected, so
// many at least: some may have come just now and be catching up, which Wait does
// not wait for.
func (s *show) push(ctx context.Context, m fanfare.Message, connected int) (*fanfare.Task, error) {
	began := time.Now()
	task, err := s.p.Push(ctx, m)
	if err != nil {
		return nil, err
	}
	s.say("%q to %s: accepted and durable in %s.", m.Body, m.To, took(began))
	done := make(chan error, 1)
	go func() { done <- task.Wait(ctx) }()
	out := func(p fanfare.Progress) bool { return len(done) > 0 && p.Delivered >= int64(connected) }
	if err := s.follow(ctx, task, "delivering", out); err != nil {
		return nil, err
	}
	return task, <-done
}

// follow shows how many of a task's audience have its message, until over says so.
func (s *show) follow(ctx context.Context, task *fanfare.Task, label string, over func(fanfare.Progress) bool) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	progress, err := task.Progress()
	if err != nil {
		return err
	}
	bar := s.bar(label, progress.Total)
	for {
		ended := over(progress)
		if progress, err = task.Progress(); err != nil {
			return err
		}
		if ended {
			break
		}
		bar.set(progress.Delivered)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	bar.end(progress.Delivered, "%s of %s have it, %s wait,", count(progress.Delivered), count(progress.Total), count(progress.Pending))
	return nil
}

// count asks how many users an audience has, before anything is sent.
func (s *show) count(ctx context.Context, a fanfare.Audience) error {
	began := time.Now()
	n, err := s.p.Count(ctx, a)
	if err != nil {
		return err
	}
	s.say("%s: %s users, counted in %s.", a, count(n), took(began))
	return nil
}

// connect connects the members of an audience and returns who they are.
func (s *show) connect(ctx context.Context, a fanfare.Audience) (users []string, err error) {
	for user, err := range s.p.Members(ctx, a) {
		if err != nil {
			return nil, err
		}
		users = append(users, user)
	}
	return users, s.hub.connect(ctx, s.p, users...)
}

// away returns the first n users of an audience who are not connected.
func (s *show) away(ctx context.Context, a fanfare.Audience, n int) (users []string, err error) {
	for user, err := range s.p.Members(ctx, a) {
		if err != nil {
			return nil, err
		}
		if s.hub.connected(user) {
			continue
		}
		if users = append(users, user); len(users) == n {
			break
		}
	}
	return users, nil
}

// settled waits until nothing is pending for a user any more.
func (s *show) settled(ctx context.Context, user string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		waiting := 0
		for _, err := range s.p.Pending(ctx, user) {
			if err != nil {
				return err
			}
			waiting++
		}
		if waiting == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
