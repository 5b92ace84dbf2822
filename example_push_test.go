package fanfare_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// With a key a push can be tried again when its outcome is not known.
func ExamplePusher_Push_key() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))

	offer := fanfare.Message{From: "shop", Body: []byte("Half price"), To: fanfare.All(), Lifetime: week, Key: "christmas"}
	first, err := p.Push(ctx, offer)
	check(err)
	again, err := p.Push(ctx, offer)
	check(err)
	fmt.Println(again.Duplicate, again.ID == first.ID)

	offer.Body = []byte("Quarter price")
	_, err = p.Push(ctx, offer)
	fmt.Println(errors.Is(err, fanfare.ErrKeyReused))
	// Output:
	// true true
	// true
}

// Without a lifetime a message is for those who are connected now. Nothing is
// kept for the others.
func ExamplePusher_Push_onlineOnly() {
	online := new(transporttest.Recorder)
	p, done := temporary(fanfare.Options{Online: online})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	session, err := p.Connect(ctx, "alice")
	check(err)
	defer session.Close()

	task, err := p.Push(ctx, fanfare.Message{Body: []byte("The stream starts."), To: fanfare.All()})
	check(err)
	check(task.Wait(ctx))
	progress, err := task.Progress()
	check(err)
	fmt.Println(progress.Total, "in the audience,", progress.Delivered, "reached,", progress.Expired, "not there")
	fmt.Println(online.Users())
	// Output:
	// 2 in the audience, 1 reached, 1 not there
	// [alice]
}

// The audience is frozen when the push is accepted.
func ExampleMessage() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))
	check(p.AddTags(ctx, "alice", "stock A"))
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("News of stock A"), To: fanfare.Tag("stock A"), Lifetime: week})
	check(err)

	check(p.ClearTags(ctx, "alice"))
	check(p.Register(ctx, "bob"))
	check(p.AddTags(ctx, "bob", "stock A"))
	progress, err := task.Progress()
	fmt.Println(progress.Total, progress.Pending, err)
	for m, err := range p.Pending(ctx, "alice") {
		fmt.Printf("alice waits for %q %v\n", m.Body, err)
	}
	for m, err := range p.Pending(ctx, "bob") {
		fmt.Printf("bob waits for %q %v\n", m.Body, err)
	}
	// Output:
	// 1 1 <nil>
	// alice waits for "News of stock A" <nil>
}

func ExamplePusher_Withdraw() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	task, err := p.Push(ctx, fanfare.Message{Body: []byte("Wrong price"), To: fanfare.All(), Lifetime: week})
	check(err)

	check(p.Withdraw(ctx, task.ID))
	progress, err := task.Progress()
	check(err)
	fmt.Println(progress.Withdrawn, "of", progress.Total, "withdrawn; ended:", !progress.Ended.IsZero())
	// Output:
	// 2 of 2 withdrawn; ended: true
}

// Tasks are listed newest first, until 30 days after their end.
func ExamplePusher_Tasks() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	check(p.AddTags(ctx, "alice", "vip"))
	for _, to := range []fanfare.Audience{fanfare.All(), fanfare.Tag("vip")} {
		_, err := p.Push(ctx, fanfare.Message{From: "shop", Body: []byte("Hello"), To: to, Lifetime: week})
		check(err)
	}

	for task, err := range p.Tasks(ctx) {
		check(err)
		progress, err := task.Progress()
		check(err)
		info := task.Info()
		fmt.Printf("%s to %s: %d of %d pending, until %v later\n",
			info.From, info.To, progress.Pending, progress.Total, info.Expires.Sub(info.Accepted))
	}
	// Output:
	// shop to tag:"vip": 1 of 1 pending, until 168h0m0s later
	// shop to all: 2 of 2 pending, until 168h0m0s later
}

// A backup is a tar archive, made while the Pusher goes on.
func ExampleRestore() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))

	var archive bytes.Buffer // or a file, or a connection
	check(p.Backup(ctx, &archive))

	parent, err := os.MkdirTemp("", "fanfare-example-")
	check(err)
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "restored")
	check(fanfare.Restore(ctx, dir, &archive))
	restored, err := fanfare.Open(dir, fanfare.Options{})
	check(err)
	defer restored.Close(ctx)
	n, err := restored.Count(ctx, fanfare.All())
	fmt.Println(n, err)
	// Output:
	// 2 <nil>
}

// Check reads everything and compares: records, bitmaps, indexes, counters.
func ExamplePusher_Check() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice", "bob"))
	check(p.AddTags(ctx, "alice", "vip"))

	fmt.Println(p.Check(ctx))
	check(p.Compact(ctx))
	stats, err := p.Stats(ctx)
	fmt.Println(stats.Users, err)
	// Output:
	// <nil>
	// 2 <nil>
}
