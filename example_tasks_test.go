package fanfare_test

import (
	"context"
	"fmt"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// Wait returns when everyone who is online has been tried, or with the error of its context if that ends first.
func ExampleTask_Wait() {
	online := new(transporttest.Recorder)
	p, done := temporary(fanfare.Options{Online: online})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob", "carol"))
	for _, user := range []string{"alice", "bob"} {
		session, err := p.Connect(ctx, user)
		check(err)
		defer session.Close()
	}
	online.FailNext("bob", 1, nil)

	task, err := p.Push(ctx, fanfare.Message{Body: []byte("The stream starts."), To: fanfare.All()})
	check(err)
	soon, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	check(task.Wait(soon))
	progress, err := task.Progress()
	check(err)
	fmt.Println(progress.Delivered, "delivered,", progress.Failed, "failed,", progress.Expired, "not there")
	// Output:
	// 1 delivered, 1 failed, 1 not there
}

// Who opens a message, on the phone say, counts once, and has not acknowledged it by that.
func ExamplePusher_Opened() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("An offer"), To: fanfare.All(), Lifetime: week})
	check(err)
	for range 2 {
		check(p.Opened(ctx, "alice", task.ID))
	}
	progress, err := task.Progress()
	check(err)
	fmt.Println(progress.Opened, "opened it,", progress.Pending, "wait for it")
	// Output:
	// 1 opened it, 2 wait for it
}

// Each user of the audience counts in exactly one of the figures.
func ExampleTask_Progress() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob", "carol"))
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("Hello"), To: fanfare.All(), Lifetime: week})
	check(err)

	show := func() {
		progress, err := task.Progress()
		check(err)
		fmt.Println(progress.Total, "=", progress.Delivered, "delivered +", progress.Pending, "pending +", progress.Gone, "gone +", progress.Withdrawn, "withdrawn")
	}
	show()
	check(p.Ack(ctx, "alice", task.ID))
	check(p.Unregister(ctx, "bob"))
	show()
	check(p.Withdraw(ctx, task.ID))
	show()
	// Output:
	// 3 = 0 delivered + 3 pending + 0 gone + 0 withdrawn
	// 3 = 1 delivered + 1 pending + 1 gone + 0 withdrawn
	// 3 = 1 delivered + 0 pending + 1 gone + 1 withdrawn
}

// How a task went, for a chart, say: it is kept with the task.
func ExampleTask_History() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("Hello"), To: fanfare.All(), Lifetime: week})
	check(err)
	check(p.Ack(ctx, "alice", task.ID))
	check(p.Withdraw(ctx, task.ID))

	moments, err := task.History(ctx)
	check(err)
	for _, m := range []fanfare.Moment{moments[0], moments[len(moments)-1]} {
		fmt.Println(m.Delivered, "delivered,", m.Pending, "pending")
	}
	// Output:
	// 0 delivered, 2 pending
	// 1 delivered, 0 pending
}

// How long it took until half of them had it.
func ExampleMoment() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("Hello"), To: fanfare.All(), Lifetime: week})
	check(err)
	check(p.Ack(ctx, "alice", task.ID))

	moments, err := task.History(ctx)
	check(err)
	for _, m := range moments {
		if 2*m.Delivered >= m.Delivered+m.Pending {
			fmt.Println("within an hour:", m.At.Sub(task.Info().Accepted) < time.Hour)
			break
		}
	}
	// Output:
	// within an hour: true
}

// Why did she not get it? Support asks for one user.
func ExampleStanding() {
	p, done := temporary(fanfare.Options{KeepAudiences: true})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob", "carol"))
	check(p.AddTags(ctx, "alice", "vip"))
	check(p.AddTags(ctx, "bob", "vip"))
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("Hello"), To: fanfare.Tag("vip"), Lifetime: week})
	check(err)
	check(p.Ack(ctx, "alice", task.ID))

	show := func(users ...string) {
		for _, user := range users {
			standing, err := task.Standing(ctx, user)
			fmt.Println(user, standing, err)
		}
	}
	show("alice", "bob", "carol")
	check(p.Withdraw(ctx, task.ID))
	show("bob")
	// Output:
	// alice received <nil>
	// bob waiting <nil>
	// carol outside <nil>
	// bob missed <nil>
}

// A report: how many have it, and how many of these have looked at it.
func ExampleProgress() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob", "carol", "dave"))
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("An offer"), To: fanfare.All(), Lifetime: week})
	check(err)
	for _, user := range []string{"alice", "bob"} {
		check(p.Ack(ctx, user, task.ID))
	}
	check(p.Opened(ctx, "alice", task.ID))

	progress, err := task.Progress()
	check(err)
	fmt.Printf("%d%% have it, %d of %d opened it, over: %v\n",
		100*progress.Delivered/progress.Total, progress.Opened, progress.Delivered, !progress.Ended.IsZero())
	// Output:
	// 50% have it, 1 of 2 opened it, over: false
}

// What became of the notifications, and why some were refused.
func ExamplePhoneStats() {
	apns := transporttest.NewPhones("apns") // stands for a real service
	apns.Kill(time.Time{}, "phone of bob")
	apns.Reject("BadTopic", "phone of carol")
	p, done := temporary(fanfare.Options{Mobile: []transport.Mobile{apns}, Grace: -1})
	defer done()
	ctx := context.Background()
	for _, user := range []string{"alice", "bob", "carol"} {
		check(p.Register(ctx, user))
		check(p.RegisterDevice(ctx, user, fanfare.Device{Platform: "apns", Token: "phone of " + user}))
	}
	task, err := p.Push(ctx, fanfare.Message{To: fanfare.All(), Lifetime: week, Notification: &fanfare.Notification{Title: "Hello"}})
	check(err)
	check(task.Wait(ctx))

	progress, err := task.Progress()
	check(err)
	stats := progress.Phones["apns"]
	fmt.Println(stats.Sent, "sent,", stats.Accepted, "accepted,", stats.Unregistered, "dead, refused:", stats.Reasons)
	// Output:
	// 3 sent, 1 accepted, 1 dead, refused: map[BadTopic:1]
}

// A list of pushes leads from a task to the plan that it is of.
func ExampleTaskInfo() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	planned, err := p.Plan(ctx, fanfare.Plan{Message: fanfare.Message{From: "news", Body: []byte("The week"), To: fanfare.All(), Category: "letters", Lifetime: week}})
	check(err)
	check(planned.Wait(ctx))

	for task, err := range p.Tasks(ctx) {
		check(err)
		info := task.Info()
		fmt.Println(info.From, "to", info.To, "in", info.Category, "by the plan:", info.Plan == planned.ID)
	}
	// Output:
	// news to all in letters by the plan: true
}

// A task is found by its ID, which the host may keep anywhere, in any later process.
func ExamplePusher_Task() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	pushed, err := p.Push(ctx, fanfare.Message{From: "shop", Body: []byte("Hello"), To: fanfare.Users("alice"), Lifetime: time.Hour})
	check(err)

	task, err := p.Task(ctx, pushed.ID)
	check(err)
	info := task.Info()
	fmt.Println(info.From, info.To, info.Expires.Sub(info.Accepted))
	// Output:
	// shop user:"alice" 1h0m0s
}

// Whether the process is to get requests, for a load balancer's question.
func ExampleStats() {
	p, done := temporary(fanfare.Options{})
	defer done()
	healthy := func() bool {
		stats, err := p.Stats(context.Background())
		return err == nil && stats.Refused == nil && stats.Stuck == 0
	}
	fmt.Println("healthy:", healthy())
	// Output:
	// healthy: true
}

// What has happened since the process began; package metrics tells it to Prometheus.
func ExampleCounters() {
	p, done := temporary(fanfare.Options{Online: new(transporttest.Recorder)})
	defer done()
	ctx := context.Background()
	session, err := p.Connect(ctx, "alice")
	check(err)
	defer session.Close()
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("Hello"), To: fanfare.All()})
	check(err)
	check(task.Wait(ctx))

	stats, err := p.Stats(ctx)
	check(err)
	fmt.Println(stats.Counters.Accepted, "accepted,", stats.Counters.Delivered, "delivered,", stats.Counters.Failed, "failed")
	// Output:
	// 1 accepted, 1 delivered, 0 failed
}

// How many tokens were found dead: where that is most of them, something is wrong with the app.
func ExamplePhoneCounters() {
	apns := transporttest.NewPhones("apns") // stands for a real service
	apns.Kill(time.Time{}, "old phone")
	p, done := temporary(fanfare.Options{Mobile: []transport.Mobile{apns}, Grace: -1})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	for _, token := range []string{"old phone", "new phone"} {
		check(p.RegisterDevice(ctx, "alice", fanfare.Device{Platform: "apns", Token: token}))
	}
	task, err := p.Push(ctx, fanfare.Message{To: fanfare.All(), Lifetime: week, Notification: &fanfare.Notification{Title: "Hello"}})
	check(err)
	check(task.Wait(ctx))

	stats, err := p.Stats(ctx)
	check(err)
	fmt.Println(stats.Phones["apns"].Accepted, "accepted,", stats.Phones["apns"].Unregistered, "dead")
	// Output:
	// 1 accepted, 1 dead
}

// Stats are for a host's own monitoring.
func ExamplePusher_Stats() {
	p, done := temporary(fanfare.Options{Online: new(transporttest.Recorder)})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	session, err := p.Connect(ctx, "bob")
	check(err)
	defer session.Close()
	_, err = p.Push(ctx, fanfare.Message{To: fanfare.All(), Lifetime: week})
	check(err)

	stats, err := p.Stats(ctx)
	check(err)
	fmt.Println(stats.Users, "users,", stats.Online, "online,", stats.Pushes, "push, refused:", stats.Refused)
	// Output:
	// 2 users, 1 online, 1 push, refused: <nil>
}
