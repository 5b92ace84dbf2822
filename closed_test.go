package fanfare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// closedCalls has a call for each exported method of a Pusher. Those without one (nil) have no error to return.
func closedCalls(p *Pusher, taskID string) map[string]func() error {
	ctx := context.Background()
	return map[string]func() error{
		"Ack":               func() error { return p.Ack(ctx, "a", taskID) },
		"AckThrough":        func() error { return p.AckThrough(ctx, "a", taskID) },
		"AddTags":           func() error { return p.AddTags(ctx, "a", "t") },
		"Apply":             func() error { var b Batch; b.AddTags("a", "t"); return p.Apply(ctx, &b) },
		"AttributeNames":    func() error { _, err := p.AttributeNames(ctx); return err },
		"AttributeTypes":    func() error { _, err := p.AttributeTypes(ctx); return err },
		"AttributeValues":   func() error { return onlyError(p.AttributeValues(ctx, "tier", "")) },
		"Attributes":        func() error { _, err := p.Attributes(ctx, "a"); return err },
		"Backup":            func() error { return p.Backup(ctx, io.Discard) },
		"Check":             func() error { return p.Check(ctx) },
		"ClearTags":         func() error { return p.ClearTags(ctx, "a") },
		"Close":             func() error { return p.Close(ctx) },
		"Compact":           func() error { return p.Compact(ctx) },
		"Connect":           func() error { _, err := p.Connect(ctx, "a"); return err },
		"Count":             func() error { _, err := p.Count(ctx, All()); return err },
		"Connected":         func() error { _, err := p.Connected(ctx, "a"); return err },
		"DeleteAudience":    func() error { return p.DeleteAudience(ctx, "saved") },
		"Drain":             func() error { return p.Drain(ctx) },
		"Devices":           func() error { _, err := p.Devices(ctx, "a"); return err },
		"Files":             func() error { _, err := p.Files(ctx); return err },
		"Import":            func() error { _, err := p.Import(ctx, oneUser, nil); return err },
		"Languages":         func() error { return onlyError(p.Languages(ctx)) },
		"Members":           func() error { return onlyError(p.Members(ctx, All())) },
		"OptIn":             func() error { return p.OptIn(ctx, "a", "c") },
		"OptOut":            func() error { return p.OptOut(ctx, "a", "c") },
		"Online":            nil,
		"Opened":            func() error { return p.Opened(ctx, "a", taskID) },
		"Pending":           func() error { return onlyError(p.Pending(ctx, "a")) },
		"Plan":              func() error { _, err := p.Plan(ctx, Plan{Message: Message{To: All()}}); return err },
		"PlannedOfKey":      func() error { _, err := p.PlannedOfKey(ctx, "k"); return ignoreUnknownPlan(err) },
		"Times":             func() error { _, err := p.Times(Plan{}, 1); return err },
		"Planned":           func() error { _, err := p.Planned(ctx, "plan-0000000000000001"); return ignoreUnknownPlan(err) },
		"Plans":             func() error { return onlyError(p.Plans(ctx)) },
		"Postings":          func() error { return onlyError(p.Postings(ctx)) },
		"Push":              func() error { _, err := p.Push(ctx, Message{To: All()}); return err },
		"Register":          func() error { return p.Register(ctx, "a") },
		"RegisterDevice":    func() error { return p.RegisterDevice(ctx, "a", Device{Platform: "apns", Token: "t"}) },
		"RemoveAttributes":  func() error { return p.RemoveAttributes(ctx, "a", "tier") },
		"RemoveDevice":      func() error { return p.RemoveDevice(ctx, "a", "apns", "t") },
		"RemoveTags":        func() error { return p.RemoveTags(ctx, "a", "t") },
		"SaveAudience":      func() error { return p.SaveAudience(ctx, "saved", All()) },
		"SavedAudience":     func() error { _, err := p.SavedAudience(ctx, "saved"); return err },
		"SavedAudiences":    func() error { return onlyError(p.SavedAudiences(ctx)) },
		"SetAttributeTypes": func() error { return p.SetAttributeTypes(ctx, map[int]AttributeType{1: Number(2)}) },
		"SetAttributeNames": func() error { return p.SetAttributeNames(ctx, map[int]string{0: "tier"}) },
		"SetAttributes":     func() error { return p.SetAttributes(ctx, "a", map[string]string{"tier": "x"}) },
		"Stats":             func() error { _, err := p.Stats(ctx); return err },
		"TagNames":          func() error { return onlyError(p.TagNames(ctx, "")) },
		"Tags":              func() error { _, err := p.Tags(ctx, "a"); return err },
		"Task":              func() error { _, err := p.Task(ctx, taskID); return err },
		"TaskOfKey":         func() error { _, err := p.TaskOfKey(ctx, "", "k"); return err },
		"Tasks":             func() error { return onlyError(p.Tasks(ctx)) },
		"TasksBefore":       func() error { return onlyError(p.TasksBefore(ctx, taskID)) },
		"TimeZones":         func() error { return onlyError(p.TimeZones(ctx)) },
		"Unregister":        func() error { return p.Unregister(ctx, "a") },
		"User":              func() error { _, err := p.User(ctx, "a"); return err },
		"Withdraw":          func() error { return p.Withdraw(ctx, taskID) },
		"Replace":           func() error { return p.Replace(ctx, taskID, Notification{Title: "x"}) },
	}
}

func ignoreUnknownPlan(err error) error {
	if errors.Is(err, ErrUnknownPlan) {
		return nil
	}
	return err
}

func oneUser(yield func(User, error) bool) { yield(User{ID: "one"}, nil) }

// onlyError runs through an iterator that must yield an error and nothing else.
func onlyError[V any](seq func(func(V, error) bool)) (err error) {
	n := 0
	for v, e := range seq {
		if n++; n > 1 || !reflect.ValueOf(&v).Elem().IsZero() {
			return fmt.Errorf("yield %d is %v, %v", n, v, e)
		}
		err = e
	}
	return err
}

// coversMethods wants an entry for each exported method of a type, so that a new one is not forgotten here.
func coversMethods[V any](t *testing.T, of any, table map[string]V) {
	t.Helper()
	typ := reflect.TypeOf(of)
	for i := range typ.NumMethod() {
		if name := typ.Method(i).Name; !hasKey(table, name) {
			t.Errorf("%v.%s is missing in this test", typ, name)
		}
	}
	if n := typ.NumMethod(); n != len(table) {
		t.Errorf("%v has %d methods, the table %d", typ, n, len(table))
	}
}

func hasKey[V any](m map[string]V, key string) bool {
	_, ok := m[key]
	return ok
}

// wantClosed makes all calls and wants each to return ErrClosed at once.
func wantClosed(t *testing.T, p *Pusher, task *Task, session *Session) {
	t.Helper()
	calls := closedCalls(p, task.ID)
	coversMethods(t, p, calls)
	ofTask := map[string]func() error{
		"Info":         nil, // is what it was
		"Progress":     func() error { _, err := task.Progress(); return err },
		"Standing":     func() error { _, err := task.Standing(context.Background(), "alice"); return err },
		"History":      func() error { _, err := task.History(context.Background()); return err },
		"Wait":         func() error { return task.Wait(context.Background()) },
		"Notification": func() error { _, err := task.Notification(context.Background()); return err },
	}
	coversMethods(t, task, ofTask)
	for _, table := range []map[string]func() error{calls, ofTask} {
		inTurn(table, func(name string, call func() error) {
			if call == nil {
				return
			}
			if err := call(); !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		})
	}
	coversMethods(t, session, map[string]bool{"Close": true})
	must(t, session.Close())
	must(t, session.Close())
	p.Online()
}

// TestAfterClose: after a complete Close, after one whose context ended, and while one is under way.
func TestAfterClose(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"complete", "without time", "under way"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { afterClose(t, how) })
		})
	}
}

func afterClose(t *testing.T, how string) {
	ctx := context.Background()
	rec, phones := new(transporttest.Recorder), transporttest.NewPhones("apns")
	dir := t.TempDir()
	p := testPusher(t, dir, Options{Online: rec, Mobile: []transport.Mobile{phones}, Grace: -1})
	must(t, p.SetAttributeNames(ctx, map[int]string{0: "tier"}))
	must(t, p.Register(ctx, "a", "b"))
	must(t, p.RegisterDevice(ctx, "b", Device{Platform: "apns", Token: "b"}))
	session := connect(t, p, rec, "a")
	release := phones.Hang()
	task := mustTask(t, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour, Notification: &Notification{Title: "t"}})
	waited := make(chan error, 1)
	go func() { waited <- task.Wait(ctx) }()
	synctest.Wait()

	switch how {
	case "complete":
		release()
		synctest.Wait()
		must(t, <-waited)
		must(t, p.Close(ctx))
		wantClosed(t, p, task, session)
	case "without time":
		soon, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		from := time.Now()
		if err := p.Close(soon); !errors.Is(err, context.DeadlineExceeded) || time.Since(from) != time.Second {
			t.Fatal(err, time.Since(from))
		}
		if err := <-waited; !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		wantClosed(t, p, task, session)
		release()
	case "under way":
		closed := make(chan error, 1)
		go func() { closed <- p.Close(ctx) }()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Fatal("Close did not wait for the phones:", err)
		default:
		}
		if err := <-waited; !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		wantClosed(t, p, task, session)
		release()
		must(t, <-closed)
		wantClosed(t, p, task, session)
	}
	synctest.Wait()
	if rec.Closes() != 1 || phones.Closes() != 1 {
		t.Fatalf("transports were closed %d and %d times", rec.Closes(), phones.Closes())
	}
	// Nothing is locked, nothing is lost.
	q := testPusher(t, dir, Options{})
	again, err := q.Task(ctx, task.ID)
	must(t, err)
	if g := progress(t, again); g.Total != 2 || g.Delivered != 1 || g.Pending != 1 {
		t.Fatalf("%+v", g)
	}
}

// TestIteratorsAndClose: an iterator that is at work when the Pusher closes ends with ErrClosed.
func TestIteratorsAndClose(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, of := range []string{"Members", "Pending", "Tasks", "Import", "TagNames", "SavedAudiences"} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			p := testPusher(t, t.TempDir(), Options{blockBits: 4})
			var b Batch
			for i := range 40 {
				b.Register(fmt.Sprint(i))
				for k := range 10 {
					b.AddTags(fmt.Sprint(i), fmt.Sprint(10*i+k))
				}
			}
			must(t, p.Apply(ctx, &b))
			if of == "SavedAudiences" {
				for i := range 200 {
					must(t, p.SaveAudience(ctx, fmt.Sprint(i), All()))
				}
			}
			for range maxUnacked + 40 {
				mustTask(t, p, Message{To: Users("0"), Lifetime: time.Hour})
			}
			closeOnce := sync.OnceFunc(func() { must(t, p.Close(ctx)) })
			var err error
			switch of {
			case "Members":
				err = closeWithin(p.Members(ctx, All()), closeOnce)
			case "Pending":
				err = closeWithin(p.Pending(ctx, "0"), closeOnce)
			case "Tasks":
				err = closeWithin(p.Tasks(ctx), closeOnce)
			case "TagNames":
				err = closeWithin(p.TagNames(ctx, ""), closeOnce)
			case "SavedAudiences":
				err = closeWithin(p.SavedAudiences(ctx), closeOnce)
			case "Import":
				stats, e := p.Import(ctx, func(yield func(User, error) bool) {
					for i := 0; ; i++ { // without an end
						if !yield(User{ID: fmt.Sprintf("new %d", i)}, nil) {
							return
						}
					}
				}, &ImportOptions{Progress: func(ImportStats) { closeOnce() }}) // when the first step is durable
				if err = e; stats.Users == 0 || stats.Users%importUsers != 0 {
					t.Fatal(stats)
				}
			}
			if !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
		})
	}
}

func closeWithin[V any](seq func(func(V, error) bool), closeNow func()) (err error) {
	for _, e := range seq {
		closeNow()
		if err = e; err != nil {
			break
		}
	}
	return err
}

// TestCloseTwice: of many calls at the same time one closes, and the others are late.
func TestCloseTwice(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	rec := new(transporttest.Recorder)
	dir := t.TempDir()
	p := testPusher(t, dir, Options{Online: rec})
	connect(t, p, rec, "a")
	mustTask(t, p, Message{To: All(), Lifetime: time.Hour})
	var wg sync.WaitGroup
	results := make(chan error, 20)
	for range cap(results) {
		wg.Go(func() { results <- p.Close(ctx) })
	}
	wg.Wait()
	closed := 0
	for range cap(results) {
		switch err := <-results; {
		case err == nil:
			closed++
		case !errors.Is(err, ErrClosed):
			t.Fatal(err)
		}
	}
	if closed != 1 || rec.Closes() != 1 {
		t.Fatalf("closed %d times, the transport %d times", closed, rec.Closes())
	}
	testPusher(t, dir, Options{})
}
