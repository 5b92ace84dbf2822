// Package fanfaretest is for the tests of programs that embed fanfare. [New] opens a Pusher in a temporary directory with transports that
// record, and closes and checks it at the test's end:
//
//	func TestOffer(t *testing.T) {
//		p := fanfaretest.New(t)
//		p.Login(t, "alice")
//		offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: time.Hour})
//		p.WaitDelivered(t, offer.ID, "alice")
//		p.RequireInOrder(t, "alice")
//	}
//
// What is tested is the host's own code, which is given p.Pusher, a [fanfare.Pusher] like any other.
//
// # What came
//
// [Pusher.Received] is what a user has received, [Pusher.Phone] what is on a user's phones. The Require methods look at that as it is now, and the Wait methods wait until it
// is so: by signals, so that they return at once when it is. Both fail the test with what came instead:
//
//	#2 "Half price" has not been delivered to bob
//		bob received 1 message: #1 "Welcome"
//		bob waits for 1 message: #2 "Half price"
//		bob is not connected
//
// A wait ends shortly before the test's deadline, or after [Options].Patience, and at once if the Pusher is closed. A Wait method ends the goroutine of the test, and is to be called there.
//
// # Faults
//
// The transports are those of package transporttest, and can be told to misbehave: [Pusher].Recorder fails the next two deliveries to bob after
// Recorder.FailNext("bob", 2, nil), panics after PanicNext, and holds them back between Block and the release (others wait behind who is held back, for [fanfare.Options].DeliverTimeout at most). [Pusher.Service] gives the phones of a platform, with
// Kill for a dead token, RetryNext for "not before", Overload for one that has too much to do; [Phone] does the same for a user, and [Pusher.Outage] takes a
// service down. [Pusher].Disk is full, or broken, when it is told to. [Pusher.Crash] is a SIGKILL, [Pusher.Reopen] a restart.
//
// # Time
//
// In a bubble of package testing/synctest a week passes at once, and everything that fanfare does at a time is done at that time: expiry, grace, quiet hours, plans, the time-out of
// acknowledgements, another try.
//
//	func TestExpiry(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			p := fanfaretest.New(t)
//			p.MustRegister(t, "alice")
//			offer := p.MustPush(t, fanfare.Message{Body: []byte("Half price"), To: fanfare.All(), Lifetime: 7 * 24 * time.Hour})
//			time.Sleep(7*24*time.Hour + time.Second)
//			p.WaitEnded(t, offer.ID)
//			p.Login(t, "alice")
//			synctest.Wait()
//			p.RequireNotDelivered(t, offer.ID, "alice")
//		})
//	}
//
// New is called in the bubble, with the bubble's own t: what is registered with that one's Cleanup runs in the bubble, and so the Pusher is closed before the bubble ends. The clock begins
// at midnight of 2000-01-01, UTC. synctest.Wait returns when everything that can be done now is done, after which the RequireNot methods say something; outside
// of a bubble they can only say what has not come yet. A Wait method lets time pass, up to 8 days of it. Not in a bubble: network connections, such as those of real senders; t.Run and t.Parallel, which are called around it.
//
// Outside of a bubble phones are notified after the grace of 10 seconds, as always: a test that wants it sooner sets [fanfare.Options].Grace.
package fanfaretest
