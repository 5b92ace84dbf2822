package fanfaretest_test

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/fanfaretest"
	"github.com/fanfare-im/fanfare/transport"
)

func hello(to fanfare.Audience, body string) fanfare.Message {
	return fanfare.Message{Body: []byte(body), To: to, Lifetime: time.Hour, Notification: &fanfare.Notification{Title: "To all", Body: body}}
}

func registerPhone(t testing.TB, p *fanfaretest.Pusher, user, platform, token string) {
	t.Helper()
	if err := p.RegisterDevice(context.Background(), user, fanfare.Device{Platform: platform, Token: token}); err != nil {
		t.Fatal(err)
	}
}

// TestReports: each helper says what came instead. Alice has both messages, Bob the first, and a phone; Carol is not known.
func TestReports(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		call func(t testing.TB, p *fanfaretest.Pusher, one, two string)
		want []string // the lines of the report, IDs as ID; none: it passes
	}{
		{"delivered", func(t testing.TB, p *fanfaretest.Pusher, one, two string) {
			p.RequireDelivered(t, one, "alice", "bob")
			p.RequireDelivered(t, two, "alice")
			p.WaitDelivered(t, two, "alice")
			p.RequireInOrder(t)
			p.RequireInOrder(t, "carol")
			p.RequireOnce(t)
			p.RequireNotDelivered(t, two, "bob", "carol")
			p.RequireNotNotified(t, two, "alice")
			p.WaitReceived(t, "alice", 2)
		}, nil},
		{"not delivered", func(t testing.TB, p *fanfaretest.Pusher, one, two string) {
			p.RequireDelivered(t, two, "alice", "bob", "carol")
			t.Error("it goes on")
		}, []string{
			`fanfaretest: #2 "Two" has not been delivered to bob`,
			`	bob received 1 message: #1 "One"`,
			`	bob waits for 1 message: #2 "Two"`,
			`	bob is not connected`,
			`#2 "Two" has not been delivered to carol`,
			`	carol received nothing`,
			`	carol is not known to the Pusher`,
		}},
		{"not delivered to anybody", func(t testing.TB, p *fanfaretest.Pusher, one, two string) {
			p.RequireDelivered(t, p.MustPush(t, hello(fanfare.Users("bob"), "Three")).ID, "bob")
		}, []string{
			`fanfaretest: #3 "Three" has not been delivered to bob`,
			`	bob received 1 message: #1 "One"`,
			`	bob waits for 2 messages: #2 "Two", #3 "Three"`,
			`	bob is not connected`,
		}},
		{"no such message", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.RequireDelivered(t, "nothing", "alice") }, []string{
			`fanfaretest: there is no message "nothing": its name is the ID of the task, and known for 30 days after the task's end`,
		}},
		{"user and message in the wrong order", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.RequireNotDelivered(t, "bob", two) }, []string{
			`fanfaretest: there is no message "bob": its name is the ID of the task, and known for 30 days after the task's end`,
		}},
		{"no such notification", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.RequireNotNotified(t, "bob", two) }, []string{
			`fanfaretest: there is no message "bob": its name is the ID of the task, and known for 30 days after the task's end`,
		}},
		{"closed", func(t testing.TB, p *fanfaretest.Pusher, one, two string) {
			go func() {
				time.Sleep(time.Second)
				if err := p.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			began := time.Now()
			defer func() {
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("after %v", took)
				}
			}()
			p.WaitReceived(t, "bob", 2)
		}, []string{
			`fanfaretest: waited in vain, the Pusher is closed: bob has not received 2 messages`,
			`	bob received 1 message: #1 "One"`,
			`	fanfare: closed`,
		}},
		{"delivered after all", func(t testing.TB, p *fanfaretest.Pusher, one, two string) {
			p.RequireNotDelivered(t, two, "bob", "alice")
		}, []string{
			`fanfaretest: #2 "Two" has been delivered to alice`,
			`	alice received 2 messages: #1 "One", #2 "Two"`,
		}},
		{"nobody is asked about", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.RequireNotDelivered(t, two) }, []string{
			`fanfaretest: no users were named`,
		}},
		{"out of order", func(t testing.TB, p *fanfaretest.Pusher, one, two string) {
			again(t, p, "bob", p.Received("alice")[1], p.Received("alice")[0])
			p.RequireInOrder(t) // the first came before
			again(t, p, "carol", p.Received("alice")[1], p.Received("alice")[0])
			p.RequireInOrder(t)
		}, []string{
			`fanfaretest: carol received #1 "One" after #2 "Two"`,
			`	carol received 2 messages: #2 "Two", #1 "One"`,
		}},
		{"twice", func(t testing.TB, p *fanfaretest.Pusher, one, two string) {
			again(t, p, "alice", p.Received("alice")[0])
			p.RequireOnce(t, "bob")
			p.RequireOnce(t)
		}, []string{
			`fanfaretest: alice received #1 "One" more than once`,
			`	alice received 3 messages: #1 "One", #2 "Two", #1 "One"`,
		}},
		{"not so many", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.WaitReceived(t, "alice", 3) }, []string{
			`fanfaretest: waited in vain, for 20s: alice has not received 3 messages`,
			`	alice received 2 messages: #1 "One", #2 "Two"`,
		}},
		{"not in time", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.WaitDelivered(t, two, "alice", "bob") }, []string{
			`fanfaretest: waited in vain, for 20s: #2 "Two" has not been delivered to bob`,
			`	bob received 1 message: #1 "One"`,
			`	bob waits for 1 message: #2 "Two"`,
			`	bob is not connected`,
		}},
		{"not ended", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.WaitEnded(t, two) }, []string{
			`fanfaretest: waited in vain, for 20s: #2 "Two" has not ended`,
			`	of 2 users: 1 delivered, 1 pending`,
			`	apns: 1 accepted of 1 sent`,
			`	fcm: 0 accepted of 0 sent`,
		}},
		{"fan-out not finished", func(t testing.TB, p *fanfaretest.Pusher, one, two string) {
			p.Outage("apns")
			p.WaitTask(t, p.MustPush(t, hello(fanfare.Users("bob"), "Three")).ID)
		}, []string{
			`fanfaretest: waited in vain, for 20s: the fan-out of message ID is not finished`,
			`	of 1 user: 1 pending`,
			`	apns: 0 accepted of 0 sent`,
			`	fcm: 0 accepted of 0 sent`,
		}},
		{"no such task", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.WaitEnded(t, "nothing") }, []string{
			`fanfaretest: task nothing: fanfare: unknown task`,
		}},
		{"not notified", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.RequireNotified(t, one, "bob") }, []string{
			`fanfaretest: no phone of bob has shown the notification of #1 "One"`,
			`	shown: apns b: To all: Two`,
			`	apns b: 1 notification sent, 1 shown`,
		}},
		{"no phone", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.RequireNotified(t, two, "bob", "alice") }, []string{
			`fanfaretest: no phone of alice has shown the notification of #2 "Two"`,
			`	alice has no phone of apns, fcm`,
		}},
		{"notified after all", func(t testing.TB, p *fanfaretest.Pusher, one, two string) {
			p.RequireNotNotified(t, two, "alice", "bob")
		}, []string{
			`fanfaretest: a phone of bob has shown the notification of #2 "Two"`,
			`	shown: apns b: To all: Two`,
			`	apns b: 1 notification sent, 1 shown`,
		}},
		{"not notified in time", func(t testing.TB, p *fanfaretest.Pusher, one, two string) {
			p.Phone("bob").Die()
			p.MustPush(t, hello(fanfare.Users("bob"), "Three"))
			p.WaitNotified(t, "bob", 2)
		}, []string{
			`fanfaretest: waited in vain, for 20s: the phones of bob have not shown 2 notifications`,
			`	shown: apns b: To all: Two`,
			`	apns b: 2 notifications sent, 1 shown`,
		}},
		{"refused", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.MustPush(t, fanfare.Message{}) }, []string{
			`fanfaretest: push "": fanfare: the audience is empty of terms`,
		}},
		{"a name that is none", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.MustRegister(t, "dora", "") }, []string{
			`fanfaretest: register dora, : user "": fanfare: user ID in bytes, at least: limit 1, got 0`,
		}},
		{"cannot connect", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.Login(t, "") }, []string{
			`fanfaretest: connect : fanfare: user ID in bytes, at least: limit 1, got 0`,
		}},
		{"was not connected", func(t testing.TB, p *fanfaretest.Pusher, one, two string) { p.Logout(t, "alice", "bob") }, []string{
			`fanfaretest: bob has no connection by Login`,
		}},
		{"closed", func(t testing.TB, p *fanfaretest.Pusher, one, two string) {
			if err := p.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			p.RequireDelivered(t, two, "bob")
		}, []string{
			`fanfaretest: #2 "Two" has not been delivered to bob`,
			`	bob received 1 message: #1 "One"`,
			`	fanfare: closed`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var ids []string
				got := run(func(t testing.TB) {
					p := fanfaretest.New(t, fanfaretest.Options{Patience: 20 * time.Second, Fanfare: fanfare.Options{Grace: time.Second}})
					p.Login(t, "alice", "bob")
					one := p.MustPush(t, hello(fanfare.Users("alice", "bob"), "One"))
					p.WaitEnded(t, one.ID)
					p.Logout(t, "bob")
					registerPhone(t, p, "bob", "apns", "b")
					two := p.MustPush(t, hello(fanfare.Users("alice", "bob"), "Two"))
					p.WaitTask(t, two.ID)
					ids = []string{one.ID, two.ID}
					c.call(t, p, one.ID, two.ID)
				})
				want := []string{"PASS"}
				if c.want != nil {
					want = []string{strings.Join(c.want, "\n"), "FAIL"}
				}
				for i := range got {
					got[i] = regexp.MustCompile(`\b[0-9a-f]{32}\b`).ReplaceAllString(got[i], "ID")
				}
				if !slices.Equal(got, want) {
					t.Errorf("it reports\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				if len(ids) != 2 {
					t.Error("the scene was not set")
				}
			})
		})
	}
}

// again has a user receive messages that the Pusher did not deliver.
func again(t testing.TB, p *fanfaretest.Pusher, user string, messages ...*transport.Message) {
	t.Helper()
	for _, m := range messages {
		if err := p.Recorder.Deliver(context.Background(), user, m); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyAndLong: of many messages the last are listed, and of a long one the beginning.
func TestManyAndLong(t *testing.T) {
	t.Parallel()
	got := run(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Login(t, "alice")
		var last string
		for range 12 {
			last = p.MustPush(t, hello(fanfare.All(), strings.Repeat("很长", 30))).ID
		}
		p.WaitDelivered(t, last, "alice")
		p.RequireNotDelivered(t, last, "alice")
	})
	if len(got) != 2 || !strings.Contains(got[0], "alice received 12 messages: 2 more, #3 \""+strings.Repeat("很长", 20)+"\"…, #4 ") || strings.Contains(got[0], "#2 ") {
		t.Errorf("%q", got)
	}
}

// TestDamage: the check at the end finds what is wrong, whoever closed the Pusher.
func TestDamage(t *testing.T) {
	t.Parallel()
	got := run(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.MustRegister(t, "alice", "bob")
		if err := p.AddTags(context.Background(), "alice", "vip"); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(filepath.Join(p.Dir(), "blocks.db"), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Update(func(tx *bbolt.Tx) error {
			blocks := tx.Bucket([]byte("blocks"))
			key, _ := blocks.Cursor().First()
			return blocks.Delete(key)
		}); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if len(got) != 2 || !strings.HasPrefix(got[0], "fanfaretest: the directory is not as it should be: ") {
		t.Errorf("%q", got)
	}
	got = run(func(t testing.TB) {
		p := fanfaretest.New(t)
		if err := p.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(p.Dir(), "journal.db")); err != nil {
			t.Fatal(err)
		}
	})
	if len(got) != 2 || !strings.Contains(got[0], "a file of the directory is missing") {
		t.Errorf("%q", got)
	}
}

// TestLeftBehind: what a transport still has in its hands at the end is named.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		hold func(t testing.TB, p *fanfaretest.Pusher) (release func())
		want []string
	}{
		{"nothing", func(t testing.TB, p *fanfaretest.Pusher) func() {
			release := p.Recorder.Block("alice") // which the end of the context frees
			p.MustPush(t, hello(fanfare.Users("alice"), "One"))
			synctest.Wait()
			return release
		}, []string{"PASS"}},
		{"a Deliver", func(t testing.TB, p *fanfaretest.Pusher) func() {
			release := p.Recorder.Hang("alice")
			p.MustPush(t, hello(fanfare.Users("alice"), "One"))
			synctest.Wait()
			return release
		}, []string{
			"fanfaretest: a transport has not returned, although the context of its call has ended\n\tunder way: Deliver of #1 \"One\" to alice\n\ta Hang must be released before the test ends",
			"FAIL",
		}},
		{"a Deliver for long", func(t testing.TB, p *fanfaretest.Pusher) func() {
			release := p.Recorder.Hang("alice")
			p.MustPush(t, hello(fanfare.Users("alice"), "One"))
			time.Sleep(time.Minute)
			return release
		}, []string{
			"fanfaretest: at the test's end 1 Deliver left behind, past the DeliverTimeout, and not returned\n\tunder way: Deliver of #1 \"One\" to alice",
			"fanfaretest: a transport has not returned, although the context of its call has ended\n\tunder way: Deliver of #1 \"One\" to alice\n\ta Hang must be released before the test ends",
			"FAIL",
		}},
		{"a Deliver of before a crash", func(t testing.TB, p *fanfaretest.Pusher) func() {
			release := p.Recorder.Hang("alice")
			p.MustPush(t, hello(fanfare.Users("alice"), "One"))
			synctest.Wait()
			p.Crash(t)
			return release
		}, []string{
			"fanfaretest: a transport has not returned, although the context of its call has ended\n\tunder way: Deliver of #1 \"One\" to alice\n\ta Hang must be released before the test ends",
			"FAIL",
		}},
		{"a Send", func(t testing.TB, p *fanfaretest.Pusher) func() {
			release := p.Service("apns").Hang()
			registerPhone(t, p, "bob", "apns", "b")
			p.MustPush(t, hello(fanfare.Users("bob"), "One"))
			time.Sleep(20 * time.Second)
			return release
		}, []string{
			"fanfaretest: a transport has not returned, although the context of its call has ended\n\tunder way: Send of 1 notification to apns\n\ta Hang must be released before the test ends",
			"FAIL",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var release func()
				got := run(func(t testing.TB) {
					p := fanfaretest.New(t)
					p.Login(t, "alice")
					p.MustRegister(t, "bob")
					release = c.hold(t, p)
				})
				release()
				if !slices.Equal(got, c.want) {
					t.Errorf("it reports\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
				}
			})
		})
	}
}

// TestDeadline: a wait ends before the test's time is over, to say what is missing.
func TestDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) {
		began := time.Now()
		var took time.Duration
		got := run(func(t testing.TB) {
			p := fanfaretest.New(t)
			defer func() { took = time.Since(began) }()
			p.WaitReceived(withDeadline{t, began.Add(10 * time.Minute)}, "alice", 1)
		})
		if len(got) != 2 || took != 10*time.Minute-10*time.Second || !strings.HasPrefix(got[0], "fanfaretest: waited in vain, until the test's deadline: ") {
			t.Errorf("after %v %q", took, got)
		}
	})
}

// TestPatienceInABubble: a test in a bubble cannot be asked for its deadline, and a wait ends all the same, in the bubble's time.
func TestPatienceInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(bubble *testing.T) {
		began := time.Now()
		var took time.Duration
		got := run(func(t testing.TB) {
			p := fanfaretest.New(t)
			defer func() { took = time.Since(began) }()
			p.WaitReceived(deadlineOf{t, bubble}, "alice", 1)
		})
		if len(got) != 2 || took != 8*24*time.Hour || !strings.HasPrefix(got[0], "fanfaretest: waited in vain, for 8 days of the bubble's time: ") {
			t.Errorf("after %v %q", took, got)
		}
	})
}

type deadlineOf struct {
	testing.TB
	of *testing.T
}

func (t deadlineOf) Deadline() (time.Time, bool) { return t.of.Deadline() }

type withDeadline struct {
	testing.TB
	at time.Time
}

func (t withDeadline) Deadline() (time.Time, bool) { return t.at, true }

// TestNothingIsHidden: what the Pusher of a test adds hides nothing of the Pusher that is tested.
func TestNothingIsHidden(t *testing.T) {
	t.Parallel()
	own, tested := reflect.TypeFor[*fanfaretest.Pusher](), reflect.TypeFor[*fanfare.Pusher]()
	for m := range tested.Methods() {
		if of, is := own.MethodByName(m.Name); !is || of.Type.NumIn() != m.Type.NumIn() || of.Type.NumOut() != m.Type.NumOut() {
			t.Errorf("%s is hidden", m.Name)
		}
	}
}

// TestWaitEndsWithItsTest: it ends with the context of the test that waits.
func TestWaitEndsWithItsTest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	got := run(func(t testing.TB) {
		p := fanfaretest.New(t)
		time.AfterFunc(time.Millisecond, cancel)
		p.WaitReceived(withContext{t, ctx}, "alice", 1)
	})
	if len(got) != 2 || !strings.Contains(got[0], "waited in vain, context canceled: alice has not received 1 message") {
		t.Errorf("%q", got)
	}
}

type withContext struct {
	testing.TB
	ctx context.Context
}

func (t withContext) Context() context.Context { return t.ctx }
