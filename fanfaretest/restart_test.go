package fanfaretest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/fanfaretest"
	"github.com/fanfare-im/fanfare/transport"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Grace: -1}})
	p.Login(t, "alice", "bob")
	p.Logout(t, "bob")
	registerPhone(t, p, "bob", "apns", "b")
	one := p.MustPush(t, hello(fanfare.All(), "One"))
	p.WaitDelivered(t, one.ID, "alice")
	p.WaitNotified(t, "bob", 1)
	before, dir := p.Pusher, p.Dir()

	p.Reopen(t, fanfare.Options{Grace: -1, Limits: fanfare.Limits{BodyBytes: 3}})
	if err := before.Register(t.Context(), "carol"); !errors.Is(err, fanfare.ErrClosed) {
		t.Errorf("the old one: %v", err)
	}
	if p.Dir() != dir {
		t.Errorf("in %s", p.Dir())
	}
	var limit *fanfare.LimitError
	if _, err := p.Push(t.Context(), hello(fanfare.All(), "four")); !errors.As(err, &limit) {
		t.Errorf("the new options do not count: %v", err)
	}
	if is, err := p.Connected(t.Context(), "alice"); is || err != nil {
		t.Error("alice is connected still", err)
	}
	two := p.MustPush(t, hello(fanfare.All(), "Two"))
	p.Login(t, "bob", "alice")
	p.WaitDelivered(t, one.ID, "alice", "bob")
	p.WaitEnded(t, two.ID)
	p.RequireInOrder(t)
	p.RequireOnce(t)
	p.RequireNotified(t, one.ID, "bob") // what was before the restart is remembered
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Reopen(t) // closed by the host
	p.WaitEnded(t, one.ID)
}

// TestDirStays: a directory of the test's own is opened as it is, and left as it is after the last close.
func TestDirStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, crash := range []bool{false, true, false} {
		for _, r := range run(func(t testing.TB) {
			p := fanfaretest.New(t, fanfaretest.Options{Dir: dir})
			p.MustRegister(t, "alice")
			if crash {
				p.Crash(t)
				p.MustRegister(t, "bob")
			}
			n, err := p.Count(context.Background(), fanfare.All())
			if (n == 2) != crash {
				t.Errorf("%d users, %v", n, err)
			}
		}) {
			if r != "PASS" {
				t.Error(r)
			}
		}
	}
	p, err := fanfare.Open(dir, fanfare.Options{})
	must(t, err)
	if n, err := p.Count(t.Context(), fanfare.All()); n != 1 || err != nil {
		t.Errorf("%d users in the end, %v", n, err)
	}
	must(t, p.Close(t.Context()))
}

// TestCrash: what was answered is there, what is under way is answered with an error, and nothing of it is heard later.
func TestCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int64
		hooks := fanfare.Hooks{Failed: func(string, string, error) { told.Add(1) }, Error: func(error) { told.Add(1) }, Stuck: func(string, string) { told.Add(1) }}
		p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Hooks: hooks}})
		p.Login(t, "alice", "bob")
		one := p.MustPush(t, hello(fanfare.All(), "One"))
		p.WaitEnded(t, one.ID)
		release := p.Recorder.Block("bob")
		defer release()
		two := p.MustPush(t, hello(fanfare.All(), "Two"))
		p.WaitDelivered(t, two.ID, "alice")
		synctest.Wait()
		before, dir := p.Pusher, p.Dir()
		told.Store(0)

		p.Crash(t)
		synctest.Wait()
		if told.Load() != 0 {
			t.Errorf("the hooks of the dead process were called %d times", told.Load())
		}
		if err := before.Register(t.Context(), "carol"); err == nil {
			t.Error("the dead process made a change")
		}
		if p.Dir() == dir {
			t.Error("it goes on in what the crash left to others")
		}
		release()
		p.Login(t, "bob", "alice")
		p.WaitEnded(t, two.ID)
		p.RequireInOrder(t)
		p.RequireOnce(t, "bob")
	})
}

// TestCrashBetweenDeliveryAndCommit: the one case of which the guarantees say that it makes a duplicate.
func TestCrashBetweenDeliveryAndCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fanfaretest.New(t)
		p.Login(t, "alice")
		synctest.Wait() // she is live
		p.Recorder.OnDeliver(func(context.Context, string, *transport.Message) error {
			p.Disk.Fill() // under which the commit of the delivery will not be made
			return nil
		})
		offer := p.MustPush(t, hello(fanfare.All(), "Half price"))
		p.WaitDelivered(t, offer.ID, "alice")
		synctest.Wait()
		p.Crash(t)
		p.Recorder.OnDeliver(nil)
		p.Login(t, "alice")
		p.WaitEnded(t, offer.ID)
		p.RequireInOrder(t)
		if n := len(p.Received("alice")); n != 2 {
			t.Errorf("received %d times", n)
		}
	})
}

// TestCrashAtWork crashes a Pusher again and again while several goroutines change it, and it folds: what was answered is there.
func TestCrashAtWork(t *testing.T) {
	t.Parallel()
	p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{DeltaEntries: 50}})
	var mu sync.Mutex
	made := make(map[string]bool)
	for life := range 8 {
		var working sync.WaitGroup
		enough := make(chan struct{})
		var once sync.Once
		now := p.Pusher
		for w := range 4 {
			working.Go(func() {
				for i := 0; ; i++ {
					user := fmt.Sprintf("%d-%d-%d", life, w, i)
					if err := now.Register(context.Background(), user); err != nil {
						if !errors.Is(err, fanfare.ErrOutcomeUnknown) && !errors.Is(err, fanfare.ErrClosed) {
							t.Error(err)
						}
						return
					}
					mu.Lock()
					made[user] = true
					mu.Unlock()
					if w == 0 && i == 30+7*life {
						once.Do(func() { close(enough) })
					}
				}
			})
		}
		<-enough
		p.Crash(t)
		working.Wait()
		there := make(map[string]bool)
		for user, err := range p.Members(t.Context(), fanfare.All()) {
			must(t, err)
			there[user] = true
		}
		for user := range made {
			if !there[user] {
				t.Fatalf("life %d: %s was registered, and is not known after the crash", life, user)
			}
		}
		if more := len(there) - len(made); more > 4*(life+1) {
			t.Fatalf("life %d: %d users are there whose registering nobody was told", life, more)
		}
		must(t, p.Check(t.Context()))
	}
}

// TestCrashLeavesTheDirectory: the crash writes nothing more to what it leaves, and takes all of it.
func TestCrashLeavesTheDirectory(t *testing.T) {
	t.Parallel()
	p := fanfaretest.New(t)
	p.MustRegister(t, "alice")
	dir := p.Dir()
	before, err := os.ReadFile(filepath.Join(dir, "journal.db"))
	must(t, err)
	p.Crash(t)
	after, err := os.ReadFile(filepath.Join(dir, "journal.db"))
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the journal was written after the crash")
	}
	p.Reopen(t)
	if _, err := p.User(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{DeltaEntries: 20}})
		p.Login(t, "alice")
		synctest.Wait()
		one := p.MustPush(t, hello(fanfare.All(), "One"))
		p.WaitEnded(t, one.ID)

		p.Disk.Fill()
		if _, err := p.Push(t.Context(), hello(fanfare.All(), "Two")); !errors.Is(err, fanfare.ErrNoRoom) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space left on device") {
			t.Fatal(err)
		}
		if err := p.Check(t.Context()); !errors.Is(err, fanfare.ErrNoRoom) { // it folds
			t.Fatal(err)
		}
		if s, err := p.Stats(t.Context()); err != nil || s.Refused != nil || s.Counters.NoRoom == 0 || s.Counters.FoldErrors == 0 {
			t.Fatalf("%+v %v", s, err)
		}
		p.Disk.Free()
		two := p.MustPush(t, hello(fanfare.All(), "Two"))
		p.WaitEnded(t, two.ID)
		must(t, p.Check(t.Context()))
		p.Disk.Fill() // the end of the test makes room
	})
}

func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{false, true} {
		p := fanfaretest.New(t)
		p.Login(t, "alice")
		first := p.MustPush(t, hello(fanfare.All(), "First"))
		p.WaitEnded(t, first.ID)
		m := hello(fanfare.All(), "Half price")
		m.Key = "christmas"

		p.Disk.Break(kept)
		if _, err := p.Push(t.Context(), m); !errors.Is(err, fanfare.ErrOutcomeUnknown) || !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		p.Disk.Free() // changes nothing for this process
		if err := p.Register(t.Context(), "bob"); !errors.Is(err, fanfare.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		if _, err := p.Task(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}

		p.Reopen(t)
		p.Login(t, "alice")
		task, err := p.Push(t.Context(), m)
		if err != nil || task.Duplicate != kept {
			t.Fatalf("kept %v: %+v %v", kept, task, err)
		}
		p.WaitEnded(t, task.ID)
		p.RequireOnce(t)
	}
	// At the end of a test the directory is looked at, though the Pusher cannot.
	if got := run(func(t testing.TB) {
		p := fanfaretest.New(t)
		p.Disk.Break(true)
		if err := p.Register(context.Background(), "alice"); !errors.Is(err, fanfare.ErrOutcomeUnknown) {
			t.Fatal(err)
		}
	}); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// TestBrokenFold: the fold meets with the broken disk before any change does.
func TestBrokenFold(t *testing.T) {
	t.Parallel()
	p := fanfaretest.New(t)
	p.MustRegister(t, "alice")
	p.Disk.Break(false)
	if err := p.Check(t.Context()); !errors.Is(err, fanfare.ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	p.Reopen(t)
	if _, err := p.User(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
}

func TestUsersTransport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fanfaretest.New(t)
		p.Login(t, "alice", "bob")
		synctest.Wait()
		p.Recorder.FailNext("alice", 2, nil)
		p.Recorder.PanicNext("bob", 1, "on purpose")
		release := p.Recorder.Block("alice")
		offer := p.MustPush(t, hello(fanfare.All(), "Half price"))
		p.WaitDelivered(t, offer.ID, "bob")
		synctest.Wait()
		p.RequireNotDelivered(t, offer.ID, "alice")
		release()
		p.WaitEnded(t, offer.ID)
		if a, b := p.Recorder.Attempts("alice"), p.Recorder.Attempts("bob"); a != 3 || b != 2 {
			t.Errorf("%d and %d tries", a, b)
		}
		p.RequireOnce(t)
	})
}

func TestOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Grace: -1}})
		p.MustRegister(t, "alice")
		registerPhone(t, p, "alice", "apns", "a")
		registerPhone(t, p, "alice", "fcm", "b")
		first, second := p.Outage("apns"), p.Outage("apns")
		offer := p.MustPush(t, hello(fanfare.All(), "Half price"))
		p.WaitNotified(t, "alice", 1)
		first()
		first()
		time.Sleep(30 * time.Minute) // in which far more than the tries there are would be used up
		if n := len(p.Phone("alice").Shown()); n != 1 {
			t.Fatalf("%d notifications, although the service is down", n)
		}
		second()
		p.WaitTask(t, offer.ID)
		if got := p.Phone("alice").String(); got != "apns a: To all: Half price\nfcm b: To all: Half price" {
			t.Errorf("showing %s", got)
		}
	})
}
