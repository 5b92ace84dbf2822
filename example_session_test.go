package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// Who comes back gets what was missed, in order, and then what comes.
func ExamplePusher_Connect() {
	online := new(transporttest.Recorder) // stands for the host's connections
	p, done := temporary(fanfare.Options{Online: online})
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	push := func(text string) {
		_, err := p.Push(ctx, fanfare.Message{Body: []byte(text), To: fanfare.All(), Lifetime: week})
		check(err)
	}
	check(p.Register(ctx, "alice"))
	push("one")
	push("two")

	session, err := p.Connect(ctx, "alice")
	check(err)
	push("three")
	check(online.Wait(ctx, "alice", 3))
	check(session.Close())
	for _, m := range online.Received("alice") {
		fmt.Printf("%s ", m.Body)
	}
	// Output:
	// one two three
}

// Where clients acknowledge, a message stays pending until they do.
func ExamplePusher_Ack() {
	online := new(transporttest.AckRecorder) // a transport.ClientAcker
	p, done := temporary(fanfare.Options{Online: online})
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	check(p.Register(ctx, "alice"))
	session, err := p.Connect(ctx, "alice")
	check(err)
	defer session.Close()
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("Hello"), To: fanfare.All(), Lifetime: week})
	check(err)
	check(online.Wait(ctx, "alice", 1))

	show := func(when string) {
		progress, err := task.Progress()
		check(err)
		fmt.Println(when, progress.Delivered, "delivered,", progress.Pending, "pending")
	}
	show("before:")
	check(p.Ack(ctx, "alice", online.Received("alice")[0].ID))
	show("after:")
	// Output:
	// before: 0 delivered, 1 pending
	// after: 1 delivered, 0 pending
}

// A host that handed over what was pending, in order, may acknowledge all up to one message.
func ExamplePusher_AckThrough() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	var tasks []*fanfare.Task
	for _, text := range []string{"one", "two", "three"} {
		task, err := p.Push(ctx, fanfare.Message{Body: []byte(text), To: fanfare.All(), Lifetime: week})
		check(err)
		tasks = append(tasks, task)
	}

	check(p.AckThrough(ctx, "alice", tasks[1].ID)) // a message has the ID of its task
	for m, err := range p.Pending(ctx, "alice") {
		check(err)
		fmt.Printf("%s\n", m.Body)
	}
	// Output:
	// three
}

// Without a transport the host may fetch what waits, at a login say, and
// acknowledge what it has handed over.
func ExamplePusher_Pending() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	for _, text := range []string{"one", "two"} {
		_, err := p.Push(ctx, fanfare.Message{From: "shop", Body: []byte(text), To: fanfare.Users("alice"), Lifetime: week})
		check(err)
	}

	for range 2 {
		n := 0
		for m, err := range p.Pending(ctx, "alice") {
			check(err)
			fmt.Printf("%s: %s\n", m.From, m.Body)
			check(p.Ack(ctx, "alice", m.ID))
			n++
		}
		fmt.Println(n, "messages")
	}
	// Output:
	// shop: one
	// shop: two
	// 2 messages
	// 0 messages
}

// A delivery that fails is tried again, in order.
func ExampleHooks() {
	online := new(transporttest.Recorder)
	online.FailNext("alice", 1, fmt.Errorf("connection reset"))
	p, done := temporary(fanfare.Options{
		Online: online,
		Hooks: fanfare.Hooks{Failed: func(user, messageID string, err error) {
			fmt.Println("failed for", user+":", err)
		}},
	})
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	check(p.Register(ctx, "alice"))
	session, err := p.Connect(ctx, "alice")
	check(err)
	defer session.Close()
	_, err = p.Push(ctx, fanfare.Message{Body: []byte("Hello"), To: fanfare.All(), Lifetime: week})
	check(err)

	check(online.Wait(ctx, "alice", 1))
	fmt.Printf("received: %s\n", online.Received("alice")[0].Body)
	// Output:
	// failed for alice: connection reset
	// received: Hello
}

// Delivered says of many users in one call that they have a message, and who they are if asked to.
func ExampleHooks_delivered() {
	online, over := new(transporttest.Recorder), make(chan struct{})
	p, done := temporary(fanfare.Options{
		Online: online,
		Hooks: fanfare.Hooks{
			Delivered: func(e fanfare.DeliveredEvent) {
				for user, err := range e.Users() {
					check(err)
					fmt.Println(user, "has it")
				}
			},
			Finished: func(e fanfare.TaskEvent) {
				fmt.Println(e.Progress.Delivered, "of", e.Progress.Total, "have it, for", e.Task.Info().To)
				close(over)
			},
		},
	})
	defer done()
	ctx := context.Background()
	session, err := p.Connect(ctx, "alice")
	check(err)
	defer session.Close()
	_, err = p.Push(ctx, fanfare.Message{Body: []byte("Hello"), To: fanfare.Users("alice"), Lifetime: week})
	check(err)
	<-over
	// Output:
	// alice has it
	// 1 of 1 have it, for user:"alice"
}

// Who needs to know that a push is over is told.
func ExampleTaskEvent() {
	over := make(chan struct{})
	p, done := temporary(fanfare.Options{Hooks: fanfare.Hooks{Finished: func(e fanfare.TaskEvent) {
		fmt.Println("over, for", e.Task.Info().To, "with", e.Progress.Withdrawn, "of", e.Progress.Total, "withdrawn")
		close(over)
	}}})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("Wrong price"), To: fanfare.All(), Lifetime: week})
	check(err)
	check(p.Withdraw(ctx, task.ID))
	<-over
	// Output:
	// over, for all with 2 of 2 withdrawn
}

// Another system is told who has what.
func ExampleDeliveredEvent() {
	told := make(chan struct{})
	p, done := temporary(fanfare.Options{Hooks: fanfare.Hooks{Delivered: func(e fanfare.DeliveredEvent) {
		fmt.Println(e.Count, "more:")
		for user, err := range e.Users() {
			check(err)
			fmt.Println(user)
		}
		close(told)
	}}})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("Hello"), To: fanfare.All(), Lifetime: week})
	check(err)
	check(p.Ack(ctx, "bob", task.ID))
	<-told
	// Output:
	// 1 more:
	// bob
}

// A function is a transport.
func ExampleOptions() {
	p, done := temporary(fanfare.Options{
		Online: transport.OnlineFunc(func(ctx context.Context, user string, m *transport.Message) error {
			return nil // write m.Body to the user's connections here
		}),
		Workers:        64,
		DeliverTimeout: 2 * time.Second,
		Limits:         fanfare.Limits{TagsPerUser: 200},
	})
	defer done()
	fmt.Println(p.Online(), "users connected")
	// Output:
	// 0 users connected
}

// What is in a directory is looked at without changing a byte of it: on another day, by another program.
func ExampleOptions_readOnly() {
	dir, err := os.MkdirTemp("", "fanfare-example-")
	check(err)
	defer os.RemoveAll(dir)
	ctx := context.Background()
	p, err := fanfare.Open(dir, fanfare.Options{})
	check(err)
	check(p.Register(ctx, "alice", "bob"))
	check(p.Close(ctx))

	p, err = fanfare.Open(dir, fanfare.Options{ReadOnly: true})
	check(err)
	n, err := p.Count(ctx, fanfare.All())
	fmt.Println(n, "users", err)
	fmt.Println(errors.Is(p.Register(ctx, "carol"), fanfare.ErrReadOnly))
	check(p.Close(ctx))
	// Output:
	// 2 users <nil>
	// true
}
