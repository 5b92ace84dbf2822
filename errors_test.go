package fanfare

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestUnknownUser: each method that wants a known user says so of one who was never known, one who is gone, and
// changes nothing for them; methods that make a user known, or remove what is not there, do not complain.
func TestUnknownUser(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{})
	refusalScene(t, p)
	mustTask(t, p, Message{To: All(), Lifetime: time.Hour}) // to be acknowledged
	must(t, p.Register(ctx, "gone"))
	must(t, p.Unregister(ctx, "gone"))
	for _, id := range []string{"never", "gone"} {
		inTurn(askUser, func(name string, call func(*Pusher, string) error) {
			r := refusal{name: name + " of " + id, is: ErrUnknownUser, late: true, alone: func(p *Pusher) error { return call(p, id) }}
			r.check(t, p)
		})
		for name, change := range map[string]func(b *Batch){
			"Unregister":       func(b *Batch) { b.Unregister(id) },
			"AddTags":          func(b *Batch) { b.AddTags(id, "t") },
			"RemoveTags":       func(b *Batch) { b.RemoveTags(id, "t") },
			"ClearTags":        func(b *Batch) { b.ClearTags(id) },
			"SetAttributes":    func(b *Batch) { b.SetAttributes(id, map[string]string{"tier": "x"}) },
			"RemoveAttributes": func(b *Batch) { b.RemoveAttributes(id, "tier") },
			"RegisterDevice":   func(b *Batch) { b.RegisterDevice(id, Device{Platform: "apns", Token: "old"}) },
			"RemoveDevice":     func(b *Batch) { b.RemoveDevice(id, "apns", "old") },
		} {
			r := refusal{name: name, is: ErrUnknownUser, late: true, batch: change}
			r.check(t, p)
		}
	}
	// Of several users one unknown spoils the call.
	r := refusal{name: "Unregister", is: ErrUnknownUser, late: true, alone: func(p *Pusher) error { return p.Unregister(ctx, "alice", "never") }}
	r.check(t, p)
	// In an audience an unknown user is nobody.
	if n, err := p.Count(ctx, Users("never", "alice")); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	// What is not there can be removed, and what is there added.
	must(t, p.RemoveTags(ctx, "alice", "none"))
	must(t, p.AddTags(ctx, "alice", "old"))
	must(t, p.RemoveAttributes(ctx, "alice", "city"))
	must(t, p.RemoveDevice(ctx, "alice", "apns", "none"))
	must(t, p.Register(ctx, "alice"))
}

// TestUnnamedAttribute: a name that no slot has, or has no more, is refused wherever it is used.
func TestUnnamedAttribute(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{})
	refusalScene(t, p)
	must(t, p.SetAttributeNames(ctx, map[int]string{2: "former"}))
	must(t, p.SetAttributes(ctx, "alice", map[string]string{"former": "x"}))
	must(t, p.SetAttributeNames(ctx, map[int]string{2: ""}))
	for _, name := range []string{"never", "former", "Tier"} {
		list := []refusal{
			{
				name:  "SetAttributes",
				alone: func(p *Pusher) error { return p.SetAttributes(ctx, "alice", map[string]string{"city": "x", name: "x"}) },
				batch: func(b *Batch) { b.SetAttributes("alice", map[string]string{"city": "x", name: "x"}) },
				user:  &User{ID: "alice", Tags: []string{"new"}, Attributes: map[string]string{"city": "x", name: "x"}},
			}, {
				name:  "RemoveAttributes",
				alone: func(p *Pusher) error { return p.RemoveAttributes(ctx, "alice", "tier", name) },
				batch: func(b *Batch) { b.RemoveAttributes("alice", "tier", name) },
			},
		}
		inTurn(askAudience, func(method string, ask func(*Pusher, Audience) error) {
			for _, a := range []Audience{Attr(name, "x"), AttrLess(name, "1"), AttrBetween(name, "1", "2"), HasAttr(name)} {
				list = append(list, refusal{name: method, alone: func(p *Pusher) error { return ask(p, All().Or(a.Not())) }})
			}
		})
		list = append(list, refusal{name: "AttributeValues", alone: func(p *Pusher) error { return onlyError(p.AttributeValues(ctx, name, "")) }})
		for _, r := range list {
			r.name, r.is, r.late = r.name+" of "+name, ErrUnnamedAttribute, true
			r.check(t, p)
		}
	}
}

// TestNoAudience: the zero Audience, and what it has become part of, is nobody's, in every method that takes one.
func TestNoAudience(t *testing.T) {
	t.Parallel()
	p := testPusher(t, t.TempDir(), Options{})
	refusalScene(t, p)
	var zero Audience
	for _, a := range []Audience{zero, zero.Not(), All().And(zero), All().Or(Tag("x"), zero), zero.Or(All())} {
		inTurn(askAudience, func(method string, ask func(*Pusher, Audience) error) {
			r := refusal{name: method, is: ErrNoAudience, alone: func(p *Pusher) error { return ask(p, a) }}
			r.check(t, p)
		})
	}
}

// TestInvalidText: text that is not UTF-8 is refused in every field, and nothing of the call is applied.
func TestInvalidText(t *testing.T) {
	t.Parallel()
	p := testPusher(t, t.TempDir(), Options{})
	refusalScene(t, p)
	var l Limits
	l.fill()
	for _, bad := range []string{"\xff", "half of \xe4\xb8", "\xed\xa0\x80"} { // a byte, a part, a surrogate
		for _, f := range limitTexts(l) {
			r := f.refusal("not UTF-8", bad, LimitError{}, ErrInvalidText)
			r.check(t, p)
		}
		for _, a := range []Audience{Tag(bad), Attr(bad, "x"), Attr("tier", bad), Platform(bad), Users("alice", bad), Sample(1, bad), AttrMore(bad, "1"), AttrMore("tier", bad),
			AttrBetween("tier", "1", bad), HasAttr(bad), Language(bad), TimeZone(bad), Saved(bad)} {
			inTurn(askAudience, func(method string, ask func(*Pusher, Audience) error) {
				r := refusal{name: "audience of " + method, is: ErrInvalidText, alone: func(p *Pusher) error { return ask(p, a.Or(All())) }}
				r.check(t, p)
			})
		}
	}
}

// TestUnknownTask: an ID that is none, or almost one, or is of no task.
func TestUnknownTask(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{})
	refusalScene(t, p)
	id := mustTask(t, p, Message{To: All(), Lifetime: time.Hour}).ID
	other := []byte(id)
	if other[31]++; other[31] > '9' {
		other[31] = '0'
	}
	for _, id := range []string{"", "x", id[:31], id + "0", "\xff", "0000000000000002" + id[16:], string(other), "zz" + id[2:]} {
		for name, call := range map[string]func(p *Pusher) error{
			"Task":       func(p *Pusher) error { _, err := p.Task(ctx, id); return err },
			"Withdraw":   func(p *Pusher) error { return p.Withdraw(ctx, id) },
			"Ack":        func(p *Pusher) error { return p.Ack(ctx, "alice", id) },
			"AckThrough": func(p *Pusher) error { return p.AckThrough(ctx, "alice", id) },
			"Opened":     func(p *Pusher) error { return p.Opened(ctx, "alice", id) },
		} {
			r := refusal{name: fmt.Sprintf("%s of %q", name, id), is: ErrUnknownTask, alone: call}
			r.check(t, p)
		}
	}
	task, err := p.Task(ctx, id)
	must(t, err)
	if g := progress(t, task); g.Total != 1 || g.Pending != 1 {
		t.Fatalf("%+v", g)
	}
}

// TestDuplicateName: a name of two slots is refused, and no name of the call is taken.
func TestDuplicateName(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{})
	refusalScene(t, p)
	before := visible(t, p)
	for _, names := range []map[int]string{{2: "tier"}, {2: "x", 3: "x"}, {1: "tier", 4: "good"}} {
		var twice *DuplicateNameError
		if err := p.SetAttributeNames(ctx, names); !errors.As(err, &twice) {
			t.Fatal(names, err)
		}
		if after := visible(t, p); after != before {
			t.Fatal(after)
		}
	}
	must(t, p.SetAttributeNames(ctx, map[int]string{0: "city", 1: "tier"})) // swapped
	a, err := p.Attributes(ctx, "alice")
	if err != nil || len(a) != 1 || a["city"] != "gold" {
		t.Fatal(a, err)
	}
}

// TestContextEnded: a call whose context has ended changes nothing, and says why.
func TestContextEnded(t *testing.T) {
	t.Parallel()
	p := testPusher(t, t.TempDir(), Options{})
	refusalScene(t, p)
	id := mustTask(t, p, Message{To: All(), Lifetime: time.Hour}).ID
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, call := range map[string]func(p *Pusher) error{
		"Push":              func(p *Pusher) error { _, err := p.Push(ctx, Message{To: All(), Lifetime: time.Hour}); return err },
		"Register":          func(p *Pusher) error { return p.Register(ctx, "new") },
		"Count":             func(p *Pusher) error { _, err := p.Count(ctx, All()); return err },
		"Replace":           func(p *Pusher) error { return p.Replace(ctx, id, Notification{Title: "new"}) },
		"AddTags":           func(p *Pusher) error { return p.AddTags(ctx, "alice", "new") },
		"SetAttributeNames": func(p *Pusher) error { return p.SetAttributeNames(ctx, map[int]string{0: "new"}) },
		"SetAttributeTypes": func(p *Pusher) error { return p.SetAttributeTypes(ctx, map[int]AttributeType{5: Date}) },
		"SaveAudience":      func(p *Pusher) error { return p.SaveAudience(ctx, "new", All()) },
		"Withdraw":          func(p *Pusher) error { return p.Withdraw(ctx, id) },
		"Ack":               func(p *Pusher) error { return p.Ack(ctx, "alice", id) },
		"AckThrough":        func(p *Pusher) error { return p.AckThrough(ctx, "alice", id) },
		"Opened":            func(p *Pusher) error { return p.Opened(ctx, "alice", id) },
		"Connect":           func(p *Pusher) error { _, err := p.Connect(ctx, "new"); return err },
		"Import": func(p *Pusher) error {
			_, err := p.Import(ctx, func(yield func(User, error) bool) { yield(User{ID: "new"}, nil) }, nil)
			return err
		},
	} {
		r := refusal{name: name, is: context.Canceled, alone: call}
		r.check(t, p)
	}
}
