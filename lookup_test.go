package fanfare

import (
	"context"
	"errors"
	"slices"
	"strings"
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

// TestTasksBefore goes on behind any task, one that is forgotten too.
func TestTasksBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p := testPusher(t, t.TempDir(), Options{})
		must(t, p.Register(ctx, "ann"))
		const n = 250 // of which a read of the store has no more than a part
		ids := make([]string, n)
		for i := range ids {
			m := hello(All())
			if i == 0 {
				m.Lifetime = week
			}
			ids[n-1-i] = mustTask(t, p, m).ID
		}
		before := func(id string) (out []string) {
			t.Helper()
			for task, err := range p.TasksBefore(ctx, id) {
				must(t, err)
				out = append(out, task.ID)
			}
			return out
		}
		for _, i := range []int{0, 1, 99, 100, n - 1} {
			if got := before(ids[i]); !slices.Equal(got, ids[i+1:]) {
				t.Errorf("before the %d. there are %d", i, len(got))
			}
		}
		if got := before(strings.Repeat("f", 32)); !slices.Equal(got, ids) {
			t.Errorf("before what is to come there are %d", len(got))
		}
		for _, id := range []string{"", "0", strings.Repeat("x", 32)} {
			for task, err := range p.TasksBefore(ctx, id) {
				if !errors.Is(err, ErrUnknownTask) {
					t.Errorf("%q: %v, %v", id, task, err)
				}
			}
		}
		time.Sleep(31 * 24 * time.Hour)
		synctest.Wait()
		if _, err := p.Task(ctx, ids[3]); !errors.Is(err, ErrUnknownTask) {
			t.Errorf("a task of a month ago: %v", err)
		}
		if got := before(ids[3]); !slices.Equal(got, ids[n-1:]) {
			t.Errorf("before one that is forgotten there are %d", len(got))
		}
	})
}
