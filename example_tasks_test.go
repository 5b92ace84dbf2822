package fanfare_test

import (
	"context"
	"fmt"
	"time"

	"github.com/fanfare-im/fanfare"
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
	for _, m := range moments {
		fmt.Println(m.Delivered, "delivered,", m.Pending, "pending")
	}
	// Output:
	// 0 delivered, 2 pending
	// 1 delivered, 0 pending
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
