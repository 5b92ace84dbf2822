package fanfare

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestTaskOfKey: a key leads to its task as long as a push with it would be that one, and to nothing else.
func TestTaskOfKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		dir := t.TempDir()
		p := testPusher(t, dir, Options{})
		must(t, p.Register(ctx, "ann"))
		m := Message{From: "operator", Key: "k", To: All(), Lifetime: time.Hour}
		task := mustTask(t, p, m)
		want := func(from, key, id string) {
			t.Helper()
			got, err := p.TaskOfKey(ctx, from, key)
			if id == "" && !errors.Is(err, ErrUnknownTask) || id != "" && (err != nil || got.ID != id) {
				t.Errorf("%q of %q: %+v, %v", key, from, got, err)
			}
		}
		want("operator", "k", task.ID)
		want("", "k", "")
		want("operator", "", "")
		want("operator", "other", "")
		must(t, p.Withdraw(ctx, task.ID))
		want("operator", "k", task.ID)
		must(t, p.Close(ctx))
		p = testPusher(t, dir, Options{})
		want("operator", "k", task.ID)
		time.Sleep(7*24*time.Hour - time.Second)
		want("operator", "k", task.ID)
		if again := mustTask(t, p, m); again.ID != task.ID {
			t.Error("a push with the key is another")
		}
		time.Sleep(time.Second)
		want("operator", "k", "")
		other := mustTask(t, p, m)
		if other.ID == task.ID {
			t.Error("a push with the key is the same still")
		}
		want("operator", "k", other.ID)
	})
}

func TestConnected(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	rec := new(transporttest.Recorder)
	p := testPusher(t, t.TempDir(), Options{Online: rec})
	want := func(user string, want bool, wantErr error) {
		t.Helper()
		if got, err := p.Connected(ctx, user); got != want || !errors.Is(err, wantErr) {
			t.Errorf("%s: %v, %v", user, got, err)
		}
	}
	must(t, p.Register(ctx, "ann"))
	want("ann", false, nil)
	want("ben", false, ErrUnknownUser)
	one, err := p.Connect(ctx, "ann")
	must(t, err)
	two, err := p.Connect(ctx, "ann")
	must(t, err)
	want("ann", true, nil)
	must(t, one.Close())
	want("ann", true, nil)
	must(t, two.Close())
	want("ann", false, nil)
}
