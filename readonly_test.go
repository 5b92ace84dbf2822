package fanfare

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// readers are the methods that work on a directory that is open for reading only. All others of closedCalls are refused.
var readers = map[string]bool{
	"AttributeNames": true, "AttributeTypes": true, "AttributeValues": true, "Attributes": true, "Backup": true, "Check": true, "Count": true,
	"Connected": true, "Devices": true, "Files": true, "Languages": true, "Members": true, "Pending": true, "PlannedOfKey": true, "Times": true, "Planned": true,
	"Plans": true, "Postings": true, "SavedAudience": true, "SavedAudiences": true, "Stats": true, "TagNames": true, "Tags": true, "Task": true, "TaskOfKey": true,
	"Tasks": true, "TasksBefore": true, "TimeZones": true, "User": true,
}

// TestReadOnly: each method either reads or is refused, and what was under way stays as it is.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	p := testPusher(t, dir, Options{Online: new(transporttest.Recorder)})
	must(t, p.SetAttributeNames(ctx, map[int]string{0: "tier"}))
	must(t, p.Register(ctx, "a"))
	must(t, p.SaveAudience(ctx, "saved", All()))
	task := mustTask(t, p, Message{To: All(), Lifetime: time.Hour, Key: "k"})
	plan, err := p.Plan(ctx, Plan{Message: Message{To: All(), Lifetime: time.Hour}, At: time.Now().Add(time.Hour)})
	must(t, err)
	past, cancel := context.WithCancel(ctx)
	cancel()
	if err := p.Close(past); !errors.Is(err, context.Canceled) { // the journal is not folded
		t.Fatal(err)
	}

	p = testPusher(t, dir, Options{ReadOnly: true, Hooks: Hooks{Error: func(error) {}}})
	calls := closedCalls(p, task.ID)
	coversMethods(t, p, calls)
	for name := range readers {
		if calls[name] == nil {
			t.Errorf("%s is no method with an error", name)
		}
	}
	inTurn(calls, func(name string, call func() error) {
		if call == nil || name == "Close" {
			return
		}
		switch err := call(); {
		case readers[name] && err != nil && !strings.HasPrefix(err.Error(), "yield 1 is "): // as onlyError says of what there is
			t.Errorf("%s: %v", name, err)
		case !readers[name] && !errors.Is(err, ErrReadOnly):
			t.Errorf("%s is not refused: %v", name, err)
		}
	})
	task, err = p.Task(ctx, task.ID)
	must(t, err)
	if g := progress(t, task); g.Pending != 1 || g.Total != 1 {
		t.Errorf("%+v", g)
	}
	if _, err := task.Standing(ctx, "a"); err != nil {
		t.Error(err)
	}
	if err := task.Wait(ctx); !errors.Is(err, ErrReadOnly) {
		t.Error("Task.Wait:", err)
	}
	plan, err = p.Planned(ctx, plan.ID)
	must(t, err)
	for name, call := range map[string]func() error{
		"Cancel":   func() error { return plan.Cancel(ctx) },
		"Change":   func() error { return plan.Change(ctx, Plan{Message: Message{To: All()}}) },
		"Pause":    func() error { return plan.Pause(ctx) },
		"Replace":  func() error { return plan.Replace(ctx, Notification{Title: "x"}) },
		"Resume":   func() error { return plan.Resume(ctx) },
		"SetPace":  func() error { return plan.SetPace(ctx, 1) },
		"Wait":     func() error { return plan.Wait(ctx) },
		"Withdraw": func() error { return plan.Withdraw(ctx) },
	} {
		if err := call(); !errors.Is(err, ErrReadOnly) {
			t.Errorf("Planned.%s: %v", name, err)
		}
	}
	must(t, p.Close(ctx))
	inTurn(calls, func(name string, call func() error) {
		if call == nil {
			return
		}
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	})

	rec := new(transporttest.Recorder)
	p = testPusher(t, dir, Options{Online: rec})
	connect(t, p, rec, "a")
	must(t, rec.Wait(ctx, "a", 1))
	for _, o := range []Options{{ReadOnly: true, Online: rec}, {ReadOnly: true, Mobile: []transport.Mobile{transporttest.NewPhones("apns")}}} {
		if _, err := Open(t.TempDir(), o); err == nil || errors.Is(err, ErrMissingFile) {
			t.Error("transports of a directory that is only read:", err)
		}
	}
}
