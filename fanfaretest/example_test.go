package fanfaretest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/fanfaretest"
	"github.com/fanfare-im/fanfare/transport"
)

// In these examples example runs a test function with a t that prints what is reported, and at the end PASS or FAIL. In a test file it is a test, with the *testing.T that it is given.
func Example() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Login(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})
		p.WaitDelivered(t, offer.ID, "alice")
		p.RequireInOrder(t, "alice")
		p.RequireOnce(t, "alice")
	})
	// Output:
	// PASS
}

// shop is what a host would have written: it tells its customers of offers.
type shop struct{ push *fanfare.Pusher }

func (s *shop) offer(ctx context.Context, text string) (id string, err error) {
	task, err := s.push.Push(ctx, fanfare.Message{
		From: "shop", Body: []byte(text), To: fanfare.Tag("customer"), Lifetime: 24 * time.Hour, Key: text,
		Notification: &fanfare.Notification{Title: "Shop", Body: text},
	})
	if err != nil {
		return "", err
	}
	return task.ID, nil
}

// The host's code is given p.Pusher, and its options are passed through.
func ExampleNew() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t, fanfaretest.Options{
			Fanfare: fanfare.Options{Grace: -1}, // phones at once
		})
		s := &shop{push: p.Pusher}
		p.MustRegister(t, "alice", "bob")
		if err := p.AddTags(t.Context(), "alice", "customer"); err != nil {
			t.Fatal(err)
		}

		id, err := s.offer(t.Context(), "Half price")
		if err != nil {
			t.Fatal(err)
		}
		p.Login(t, "alice", "bob")
		p.WaitDelivered(t, id, "alice")
		p.RequireNotDelivered(t, id, "bob")
	})
	// Output:
	// PASS
}

// The host's own transport is behind the Recorder, which can spoil a delivery before it comes there.
func ExampleOptions() {
	example(func(t testing.TB) {
		gateway := transport.OnlineFunc(func(_ context.Context, user string, m *transport.Message) error {
			fmt.Printf("to the connections of %s: %s\n", user, m.Body)
			return nil
		})
		p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Online: gateway}})
		p.Recorder.FailNext("alice", 1, nil)
		p.Login(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})
		p.WaitEnded(t, offer.ID)
		fmt.Println(p.Recorder.Attempts("alice"), "tries")
	})
	// Output:
	// to the connections of alice: Half price
	// 2 tries
	// PASS
}

// With client acks a message is pending until the client has acknowledged it.
func ExampleOptions_clientAcks() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t, fanfaretest.Options{ClientAcks: true})
		p.Login(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})
		p.WaitDelivered(t, offer.ID, "alice")
		if err := p.Ack(t.Context(), "alice", p.Received("alice")[0].ID); err != nil {
			t.Fatal(err)
		}
		p.WaitEnded(t, offer.ID)
	})
	// Output:
	// PASS
}

// Deliveries to bob fail twice, one to alice is held back, and both come in the end.
func ExamplePusher() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Login(t, "bob")
		p.MustRegister(t, "alice")
		p.Recorder.FailNext("bob", 2, errors.New("connection reset"))
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})
		p.WaitDelivered(t, offer.ID, "bob")
		fmt.Println(p.Recorder.Attempts("bob"), "tries for bob")

		release := p.Recorder.Block("alice")
		p.Login(t, "alice")
		if err := p.Recorder.WaitAttempts(t.Context(), "alice", 1); err != nil {
			t.Fatal(err)
		}
		p.RequireNotDelivered(t, offer.ID, "alice")
		release()
		p.WaitDelivered(t, offer.ID, "alice")
	})
	// Output:
	// 3 tries for bob
	// PASS
}

func ExamplePusher_MustRegister() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.MustRegister(t, "alice", "bob")
		fmt.Println(p.Count(t.Context(), fanfare.All()))
		p.MustRegister(t, "")
	})
	// Output:
	// 2 <nil>
	// fanfaretest: register : fanfare: user ID in bytes, at least: limit 1, got 0
	// FAIL
}

// What the Pusher refuses ends the test.
func ExamplePusher_MustPush() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.MustPush(t, fanfare.Message{Body: []byte("to whom?")})
	})
	// Output:
	// fanfaretest: push "to whom?": fanfare: the audience is empty of terms
	// FAIL
}

// Who is away gets nothing, and everything on the next connection.
func ExamplePusher_Login() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.MustRegister(t, "alice")
		for _, text := range []string{"One", "Two"} {
			p.MustPush(t, fanfare.Message{Body: []byte(text), To: fanfare.All(), Lifetime: time.Hour})
		}
		p.Login(t, "alice")
		p.WaitReceived(t, "alice", 2)
		p.RequireInOrder(t, "alice")
	})
	// Output:
	// PASS
}

func ExamplePusher_Logout() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Login(t, "alice", "bob")
		p.Logout(t, "bob")
		news := p.MustPush(t, fanfare.Message{Body: []byte("The stream starts"), To: fanfare.All()}) // to those who are there
		p.WaitEnded(t, news.ID)
		p.RequireDelivered(t, news.ID, "alice")
		p.RequireNotDelivered(t, news.ID, "bob")
	})
	// Output:
	// PASS
}

func ExamplePusher_Received() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Login(t, "alice")
		offer := p.MustPush(t, fanfare.Message{From: "shop", Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})
		p.WaitDelivered(t, offer.ID, "alice")
		for _, m := range p.Received("alice") {
			fmt.Printf("%s: %s\n", m.From, m.Body)
		}
	})
	// Output:
	// shop: Half price
	// PASS
}

// A failure says what came instead, and why.
func ExamplePusher_RequireDelivered() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Login(t, "alice", "bob")
		welcome := p.MustPush(t, fanfare.Message{Body: []byte("Welcome"), To: fanfare.All(), Lifetime: time.Hour})
		p.WaitEnded(t, welcome.ID)
		p.Logout(t, "bob")

		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})
		p.WaitDelivered(t, offer.ID, "alice")
		p.RequireDelivered(t, offer.ID, "alice", "bob")
	})
	// Output:
	// fanfaretest: #2 "Half price" has not been delivered to bob
	// 	bob received 1 message: #1 "Welcome"
	// 	bob waits for 1 message: #2 "Half price"
	// 	bob is not connected
	// FAIL
}

func ExamplePusher_RequireNotDelivered() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Login(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})
		p.WaitDelivered(t, offer.ID, "alice")
		p.RequireNotDelivered(t, offer.ID, "alice")
	})
	// Output:
	// fanfaretest: #1 "Half price" has been delivered to alice
	// 	alice received 1 message: #1 "Half price"
	// FAIL
}

// Here it is the test that puts the order wrong, for the Pusher does not.
func ExamplePusher_RequireInOrder() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Login(t, "alice")
		for _, sequence := range []uint64{2, 1} {
			m := &transport.Message{ID: fmt.Sprint(sequence), Sequence: sequence, Body: []byte("News")}
			if err := p.Recorder.Deliver(t.Context(), "alice", m); err != nil {
				t.Fatal(err)
			}
		}
		p.RequireInOrder(t)
	})
	// Output:
	// fanfaretest: alice received #1 "News" after #2 "News"
	// 	alice received 2 messages: #2 "News", #1 "News"
	// FAIL
}

// What a client does not acknowledge comes again when it connects anew.
func ExamplePusher_RequireOnce() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t, fanfaretest.Options{ClientAcks: true})
		p.Login(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})
		p.WaitDelivered(t, offer.ID, "alice")
		p.RequireOnce(t)
		p.Logout(t, "alice")
		p.Login(t, "alice")
		p.WaitReceived(t, "alice", 2)
		p.RequireOnce(t)
	})
	// Output:
	// fanfaretest: alice received #1 "Half price" more than once
	// 	alice received 2 messages: #1 "Half price", #1 "Half price"
	// FAIL
}

// What does not come in time is told with what came.
func ExamplePusher_WaitReceived() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t, fanfaretest.Options{Patience: 100 * time.Millisecond})
		p.Login(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})
		p.WaitEnded(t, offer.ID)
		p.WaitReceived(t, "alice", 2)
	})
	// Output:
	// fanfaretest: waited in vain, for 100ms: alice has not received 2 messages
	// 	alice received 1 message: #1 "Half price"
	// FAIL
}

func ExamplePusher_WaitDelivered() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Login(t, "alice", "bob")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})
		p.WaitDelivered(t, offer.ID, "alice", "bob")
	})
	// Output:
	// PASS
}

func ExamplePusher_WaitEnded() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.MustRegister(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: 10 * time.Millisecond})
		p.WaitEnded(t, offer.ID)
		progress, err := offer.Progress()
		fmt.Println(progress.Expired, "expired", err)
	})
	// Output:
	// 1 expired <nil>
	// PASS
}

// A restart, which changes an option.
func ExamplePusher_Reopen() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.MustRegister(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})

		p.Reopen(t, fanfare.Options{Limits: fanfare.Limits{BodyBytes: 10}})
		_, err := p.Push(t.Context(), fanfare.Message{Body: []byte("Merry Christmas"), To: fanfare.All()})
		fmt.Println(err)
		p.Login(t, "alice")
		p.WaitDelivered(t, offer.ID, "alice")
	})
	// Output:
	// fanfare: body in bytes: limit 10, got 15
	// PASS
}

// What Push has accepted survives the process.
func ExamplePusher_Crash() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Login(t, "alice")
		release := p.Recorder.Block("alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})

		p.Crash(t)
		release()
		p.Login(t, "alice")
		p.WaitDelivered(t, offer.ID, "alice")
		p.RequireOnce(t, "alice")
	})
	// Output:
	// PASS
}

// A crash leaves the directory to be looked at, and goes on in another.
func ExamplePusher_Dir() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		before := p.Dir()
		p.Crash(t)
		fmt.Println(p.Dir() == before)
	})
	// Output:
	// false
	// PASS
}

// While the disk is full changes fail, and what is there already is delivered.
func ExampleDisk_Fill() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.MustRegister(t, "alice")
		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})

		p.Disk.Fill()
		_, err := p.Push(t.Context(), fanfare.Message{Body: []byte("Quarter price"), To: fanfare.All()})
		fmt.Println(errors.Is(err, fanfare.ErrNoRoom), err)
		p.Login(t, "alice")
		p.WaitDelivered(t, offer.ID, "alice")

		p.Disk.Free()
		p.MustPush(t, fanfare.Message{Body: []byte("Quarter price"), To: fanfare.All()})
		p.WaitEnded(t, offer.ID)
	})
	// Output:
	// true fanfare: no room to write: journal.db: write journal.db: no space left on device
	// PASS
}

// After a failed sync nobody knows what is on the disk. A push with a key can be made again.
func ExampleDisk_Break() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.MustRegister(t, "alice")
		offer := fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour, Key: "christmas"}

		p.Disk.Break(true)
		_, err := p.Push(t.Context(), offer)
		fmt.Println(errors.Is(err, fanfare.ErrOutcomeUnknown))
		err = p.Register(t.Context(), "bob")
		fmt.Println(errors.Is(err, fanfare.ErrOutcomeUnknown))

		p.Reopen(t)
		fmt.Println("it was made:", p.MustPush(t, offer).Duplicate)
	})
	// Output:
	// true
	// true
	// it was made: true
	// PASS
}

func ExampleDisk_Free() {
	example(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Disk.Fill()
		fmt.Println(errors.Is(p.Register(t.Context(), "alice"), fanfare.ErrNoRoom))
		p.Disk.Free()
		fmt.Println(p.Register(t.Context(), "alice"))
	})
	// Output:
	// true
	// <nil>
	// PASS
}
