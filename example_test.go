package fanfare_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

const week = 7 * 24 * time.Hour

// temporary opens a Pusher in a directory of its own, which done removes.
func temporary(o fanfare.Options) (p *fanfare.Pusher, done func()) {
	dir, err := os.MkdirTemp("", "fanfare-example-")
	check(err)
	p, err = fanfare.Open(dir, o)
	check(err)
	return p, func() {
		check(p.Close(context.Background()))
		check(os.RemoveAll(dir))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// The whole of it: a directory, a transport, a user, a push.
func Example() {
	dir, err := os.MkdirTemp("", "fanfare-example-")
	check(err)
	defer os.RemoveAll(dir)

	// The host hands a message to the user's connections; here that is a channel.
	connection := make(chan string, 1)
	p, err := fanfare.Open(filepath.Join(dir, "fanfare"), fanfare.Options{
		Online: transport.OnlineFunc(func(_ context.Context, user string, m *transport.Message) error {
			connection <- fmt.Sprintf("%s: %s", user, m.Body)
			return nil
		}),
	})
	check(err)
	ctx := context.Background()
	defer p.Close(ctx)

	check(p.Register(ctx, "alice", "bob"))
	check(p.AddTags(ctx, "alice", "stock A"))
	_, err = p.Push(ctx, fanfare.Message{
		From:     "advisor",
		Body:     []byte("A new plan for holders of stock A."),
		To:       fanfare.Tag("stock A").Or(fanfare.Tag("stock B")),
		Lifetime: 7 * 24 * time.Hour,
	})
	check(err)

	// Alice was away. She comes back within the lifetime.
	session, err := p.Connect(ctx, "alice")
	check(err)
	defer session.Close()
	fmt.Println(<-connection)
	// Output:
	// alice: A new plan for holders of stock A.
}

// What is too large is refused with what, how much, and the limit; nothing of the
// call is applied.
func ExampleLimitError() {
	p, done := temporary(fanfare.Options{})
	defer done()
	ctx := context.Background()
	check(p.Register(ctx, "alice"))

	err := p.AddTags(ctx, "alice", "short", strings.Repeat("long", 20))
	fmt.Println(err)
	var limit *fanfare.LimitError
	if errors.As(err, &limit) {
		fmt.Println(limit.What, limit.Limit, limit.Got)
	}
	tags, err := p.Tags(ctx, "alice")
	fmt.Println(tags, err)
	// Output:
	// fanfare: tag in bytes: limit 50, got 80
	// tag in bytes 50 80
	// [] <nil>
}

// The limits are options.
func ExampleLimits() {
	p, done := temporary(fanfare.Options{Limits: fanfare.Limits{BodyBytes: 10}})
	defer done()

	_, err := p.Push(context.Background(), fanfare.Message{To: fanfare.All(), Body: []byte("Merry Christmas")})
	fmt.Println(err)
	// Output:
	// fanfare: body in bytes: limit 10, got 15
}

// Each mistake has an error of its own.
func Example_errors() {
	p, done := temporary(fanfare.Options{})
	ctx := context.Background()
	check(p.Register(ctx, "alice"))

	_, err := p.User(ctx, "bob")
	fmt.Println(errors.Is(err, fanfare.ErrUnknownUser))
	err = p.SetAttributes(ctx, "alice", map[string]string{"city": "Bern"})
	fmt.Println(errors.Is(err, fanfare.ErrUnnamedAttribute))
	_, err = p.Push(ctx, fanfare.Message{Body: []byte("to whom?")})
	fmt.Println(errors.Is(err, fanfare.ErrNoAudience))
	_, err = p.Task(ctx, "no such task")
	fmt.Println(errors.Is(err, fanfare.ErrUnknownTask))
	done()
	fmt.Println(errors.Is(p.Register(ctx, "bob"), fanfare.ErrClosed))
	// Output:
	// true
	// true
	// true
	// true
	// true
}
