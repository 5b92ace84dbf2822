package fanfare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

func TestMain(m *testing.M) {
	if child := children[os.Getenv("FANFARE_CHILD")]; child != nil {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// testPusher opens a Pusher in a directory of the test; at the end of the test
// every invariant is checked and it is closed.
func testPusher(t testing.TB, dir string, o Options) *Pusher {
	t.Helper()
	// A child that a parallel test starts holds all descriptors until it execs, and with them a lock of a file just
	// closed. In a bubble, where time is not real, Open would not wait for it.
	syscall.ForkLock.RLock()
	p, err := Open(dir, o)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.closed.Load() {
			return
		}
		if p.store.Refused() == nil {
			if err := p.Check(context.Background()); err != nil {
				t.Error(err)
			}
		}
		must(t, p.Close(context.Background()))
	})
	return p
}

func sameStats(a, b PhoneStats) bool { return reflect.DeepEqual(a, b) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustTask(t testing.TB, p *Pusher, m Message) *Task {
	t.Helper()
	task, err := p.Push(context.Background(), m)
	must(t, err)
	return task
}

func progress(t testing.TB, task *Task) Progress {
	t.Helper()
	g, err := task.Progress()
	must(t, err)
	return g
}

// connect makes a user online in the recorder and in the Pusher.
func connect(t testing.TB, p *Pusher, r *transporttest.Recorder, user string) *Session {
	t.Helper()
	r.Connect(user)
	s, err := p.Connect(context.Background(), user)
	must(t, err)
	return s
}

func bodies(list []*transport.Message) []string {
	out := []string{}
	for _, m := range list {
		out = append(out, string(m.Body))
	}
	return out
}

func wantBodies(t testing.TB, r *transporttest.Recorder, user string, want ...string) {
	t.Helper()
	if got := bodies(r.Received(user)); !slices.Equal(got, want) {
		t.Fatalf("%s received %q, not %q", user, got, want)
	}
}

const week = 7 * 24 * time.Hour

// TestPushReachesThoseOnlineAndThoseWhoComeBack is the whole promise in one test.
func TestPushReachesThoseOnlineAndThoseWhoComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.Recorder)
		dir := t.TempDir()
		p := testPusher(t, dir, Options{Online: rec, blockBits: 2})
		must(t, p.Register(ctx, "a", "b", "c", "d", "e", "f", "g"))
		must(t, p.AddTags(ctx, "g", "muted"))
		connect(t, p, rec, "a")
		connect(t, p, rec, "f")
		connect(t, p, rec, "g")
		synctest.Wait()
		task := mustTask(t, p, Message{Body: []byte("one"), To: All().And(Tag("muted").Not()), Lifetime: week})
		must(t, task.Wait(ctx))
		synctest.Wait()
		if g := progress(t, task); g.Total != 6 || g.Delivered != 2 || g.Pending != 4 {
			t.Fatalf("%+v", g)
		}
		must(t, mustTask(t, p, Message{Body: []byte("two"), To: All(), Lifetime: week}).Wait(ctx))
		must(t, p.Close(ctx))

		wantBodies(t, rec, "a", "one", "two")
		wantBodies(t, rec, "g", "two")

		rec = new(transporttest.Recorder)
		p = testPusher(t, dir, Options{Online: rec})
		s := connect(t, p, rec, "c")
		synctest.Wait()
		wantBodies(t, rec, "c", "one", "two")
		mustTask(t, p, Message{Body: []byte("now"), To: All()})
		synctest.Wait() // between two sessions c would miss it
		must(t, s.Close())
		connect(t, p, rec, "c")
		synctest.Wait()
		wantBodies(t, rec, "c", "one", "two", "now")

		again, err := p.Task(ctx, task.ID)
		must(t, err)
		if g := progress(t, again); g.Delivered != 3 || g.Pending != 3 {
			t.Fatalf("%+v", g)
		}
		time.Sleep(week)
		time.Sleep(2 * sweepEvery)
		if g := progress(t, again); g.Pending != 0 || g.Expired != 3 || g.Ended.IsZero() {
			t.Fatalf("%+v", g)
		}
		connect(t, p, rec, "d")
		synctest.Wait()
		wantBodies(t, rec, "d")
		if v := rec.Violations(); len(v) > 0 {
			t.Fatal(v)
		}
	})
}

func TestKeyMakesRetriesHarmless(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{})
	must(t, p.Register(ctx, "a"))
	m := Message{From: "operator", Body: []byte("x"), To: All(), Lifetime: time.Hour, Key: "k"}
	first := mustTask(t, p, m)
	second := mustTask(t, p, m)
	if first.ID != second.ID || first.Duplicate || !second.Duplicate {
		t.Fatal(first, second)
	}
	other := m
	other.Body = []byte("y")
	if _, err := p.Push(ctx, other); !errors.Is(err, ErrKeyReused) {
		t.Fatal(err)
	}
	other.From = "somebody else"
	if third := mustTask(t, p, other); third.ID == first.ID {
		t.Fatal("a key is of its sender")
	}
}

func TestWithdraw(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.Recorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec})
		must(t, p.Register(ctx, "a", "b"))
		connect(t, p, rec, "a")
		synctest.Wait()
		task := mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour})
		must(t, task.Wait(ctx))
		synctest.Wait()
		must(t, p.Withdraw(ctx, task.ID))
		must(t, p.Withdraw(ctx, task.ID))
		if g := progress(t, task); g.Delivered != 1 || g.Withdrawn != 1 || g.Pending != 0 {
			t.Fatalf("%+v", g)
		}
		connect(t, p, rec, "b")
		synctest.Wait()
		wantBodies(t, rec, "b")
		if err := p.Withdraw(ctx, "0123456789abcdef0123456789abcdef"); !errors.Is(err, ErrUnknownTask) {
			t.Fatal(err)
		}
	})
}

func TestPhonesAfterTheGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.Recorder)
		apns := transporttest.NewPhones("apns")
		apns.SetBatchSize(2)
		p := testPusher(t, t.TempDir(), Options{Online: rec, Mobile: []transport.Mobile{apns}, blockBits: 1})
		for i := range 7 {
			id := fmt.Sprintf("u%d", i)
			must(t, p.Register(ctx, id))
			must(t, p.RegisterDevice(ctx, id, Device{Platform: "apns", Token: "t" + id}))
		}
		must(t, p.RegisterDevice(ctx, "u0", Device{Platform: "fcm", Token: "other"}))
		connect(t, p, rec, "u0")
		synctest.Wait()
		apns.Kill(time.Time{}, "tu1")
		apns.RetryNext("tu2", 2, 0)
		task := mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour, Notification: &Notification{Title: "hi"}})
		synctest.Wait()
		if apns.Total() != 0 {
			t.Fatal("before the grace")
		}
		time.Sleep(5 * time.Second)
		connect(t, p, rec, "u3")
		must(t, task.Wait(ctx))
		synctest.Wait()
		for user, want := range map[string]int{"tu0": 0, "tu1": 0, "tu2": 1, "tu3": 0, "tu4": 1, "tu5": 1, "tu6": 1} {
			if got := len(apns.Shown(user)); got != want {
				t.Errorf("%s shown %d times, not %d", user, got, want)
			}
		}
		if d, err := p.Devices(ctx, "u1"); err != nil || len(d) != 0 {
			t.Error("a dead token stays", d, err)
		}
		want := PhoneStats{Sent: 7, Accepted: 4, Unregistered: 1, Retried: 2}
		if g := progress(t, task); !sameStats(g.Phones["apns"], want) || g.Pending != 5 {
			t.Fatalf("%+v", g)
		}
		if v := apns.Violations(); len(v) > 0 {
			t.Fatal(v)
		}
	})
}

func TestStuckClientHarmsOnlyItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.Recorder)
		var stuck []string
		p := testPusher(t, t.TempDir(), Options{Online: rec, Workers: 1, Hooks: Hooks{Stuck: func(user, _ string) { stuck = append(stuck, user) }}})
		must(t, p.Register(ctx, "a", "b", "c"))
		for _, u := range []string{"a", "b", "c"} {
			connect(t, p, rec, u)
		}
		synctest.Wait()
		release := rec.Hang("a")
		rec.PanicNext("b", 1, "boom")
		task := mustTask(t, p, Message{Body: []byte("one"), To: All(), Lifetime: time.Hour})
		mustTask(t, p, Message{Body: []byte("two"), To: All(), Lifetime: time.Hour})
		time.Sleep(time.Minute)
		wantBodies(t, rec, "b", "one", "two")
		wantBodies(t, rec, "c", "one", "two")
		wantBodies(t, rec, "a")
		if !slices.Equal(stuck, []string{"a"}) {
			t.Fatal(stuck)
		}
		must(t, task.Wait(ctx))
		release()
		synctest.Wait()
		wantBodies(t, rec, "a", "one", "two")
		if g := progress(t, task); g.Delivered != 3 {
			t.Fatalf("%+v", g)
		}
		if v := rec.Violations(); len(v) > 0 {
			t.Fatal(v)
		}
	})
}

func TestClientAcks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		rec := new(transporttest.AckRecorder)
		p := testPusher(t, t.TempDir(), Options{Online: rec})
		must(t, p.Register(ctx, "a"))
		s := connect(t, p, &rec.Recorder, "a")
		synctest.Wait()
		var tasks []*Task
		for i := range 70 {
			tasks = append(tasks, mustTask(t, p, Message{Body: []byte(fmt.Sprint(i)), To: All(), Lifetime: time.Hour}))
		}
		synctest.Wait()
		if n := len(rec.Received("a")); n != maxUnacked {
			t.Fatal("on the way:", n)
		}
		for i, task := range tasks[:64] {
			if i < 10 {
				must(t, p.Ack(ctx, "a", task.ID))
			}
		}
		var ids []string
		for _, task := range tasks[11:64] {
			ids = append(ids, task.ID)
		}
		if err := p.Ack(ctx, "a", ids[0], append(ids[1:], "none")...); !errors.Is(err, ErrUnknownTask) {
			t.Fatal(err)
		}
		if g := progress(t, tasks[11]); g.Delivered != 0 {
			t.Fatalf("one that is none, and the others count: %+v", g)
		}
		must(t, p.Ack(ctx, "a", ids[0], append(ids[1:], ids[0])...))
		synctest.Wait()
		if n := len(rec.Received("a")); n != 70 {
			t.Fatal("after acks:", n)
		}
		must(t, p.AckThrough(ctx, "a", tasks[9].ID))
		for _, task := range tasks[64:] {
			must(t, p.Ack(ctx, "a", task.ID))
		}
		time.Sleep(40 * time.Second)
		got := bodies(rec.Received("a"))
		if len(got) != 71 || got[70] != "10" {
			t.Fatal("the one without an ack is sent again after the time-out:", got[64:])
		}
		must(t, s.Close())
		connect(t, p, &rec.Recorder, "a")
		synctest.Wait()
		if got := bodies(rec.Received("a")); len(got) != 72 || got[71] != "10" {
			t.Fatal("and at the next connection:", got[70:])
		}
		must(t, p.Ack(ctx, "a", tasks[10].ID))
		if g := progress(t, tasks[10]); g.Delivered != 1 || g.Ended.IsZero() {
			t.Fatalf("%+v", g)
		}
	})
}

func TestBackupRestoreCompact(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{blockBits: 4, DeltaEntries: 50})
	users := func(yield func(User, error) bool) {
		for i := range 2000 {
			if !yield(User{ID: fmt.Sprintf("user-%04d", rand.IntN(1<<30)), Tags: []string{fmt.Sprint(i % 7)}}, nil) {
				return
			}
		}
	}
	stats, err := p.Import(ctx, users, nil)
	must(t, err)
	mustTask(t, p, Message{Body: []byte("x"), To: Tag("3"), Lifetime: time.Hour})
	want, err := p.store.Digest(ctx)
	must(t, err)
	must(t, p.Unregister(ctx, firstMember(t, p, Tag("5"))))
	var copy bytes.Buffer
	must(t, p.Backup(ctx, &copy))
	must(t, p.Compact(ctx))
	must(t, p.Check(ctx))
	later, err := p.store.Digest(ctx)
	must(t, err)
	if later == want {
		t.Fatal("a change does not change the digest")
	}
	dir := t.TempDir() + "/restored"
	must(t, Restore(ctx, dir, &copy))
	q := testPusher(t, dir, Options{})
	got, err := q.store.Digest(ctx)
	must(t, err)
	if got != later {
		t.Fatal("the restored store differs")
	}
	if n, err := q.Count(ctx, All()); err != nil || n != stats.Registered-1 {
		t.Fatal(n, err)
	}
	if err := Restore(ctx, dir, bytes.NewReader(nil)); err == nil {
		t.Fatal("restored over a store")
	}
	if err := Restore(ctx, t.TempDir()+"/x", io.LimitReader(&copy, 10)); err == nil {
		t.Fatal("restored nothing")
	}
}

func firstMember(t *testing.T, p *Pusher, a Audience) string {
	t.Helper()
	for id, err := range p.Members(context.Background(), a) {
		must(t, err)
		return id
	}
	t.Fatal("nobody")
	return ""
}
