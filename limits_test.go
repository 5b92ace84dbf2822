package fanfare

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// The limits that reopening plays with: everything wider than the default, and everything narrower.
var (
	wideLimits = Limits{
		Lifetime: 30 * 24 * time.Hour, Attributes: 64, TagsPerUser: 150, DevicesPerUser: 24,
		TagBytes: 60, ValueBytes: 70, NameBytes: 80, BodyBytes: 20 << 10, TokenBytes: 3 << 10,
	}
	narrowLimits = Limits{
		Lifetime: time.Minute, Attributes: 2, TagsPerUser: 3, DevicesPerUser: 2,
		TagBytes: 8, ValueBytes: 7, NameBytes: 6, BodyBytes: 100, TokenBytes: 9,
	}
)

func beyond(what string, limit, got int) LimitError {
	return LimitError{What: what, Limit: int64(limit), Got: int64(got)}
}

func letters(n int) string { return strings.Repeat("x", n) }

// limitText is a text with bounds, and the calls that take it.
type limitText struct {
	what        string
	least, most int
	alone       func(p *Pusher, s string) error
	batch       func(b *Batch, s string)
	user        func(s string) *User
}

func limitTexts(l Limits) []limitText {
	ctx := context.Background()
	device := func(field func(d *Device, s string)) (alone func(*Pusher, string) error, batch func(*Batch, string), user func(string) *User) {
		of := func(s string) Device {
			d := Device{Platform: "apns", Token: "new"}
			field(&d, s)
			return d
		}
		return func(p *Pusher, s string) error { return p.RegisterDevice(ctx, "alice", of(s)) },
			func(b *Batch, s string) { b.RegisterDevice("alice", of(s)) },
			func(s string) *User { return &User{ID: "alice", Devices: []Device{of(s)}} }
	}
	list := []limitText{
		{
			"user ID", 1, 255,
			func(p *Pusher, s string) error { return p.Register(ctx, "good", s) },
			func(b *Batch, s string) { b.Register(s) },
			func(s string) *User { return &User{ID: s} },
		}, {
			"tag", 1, l.TagBytes,
			func(p *Pusher, s string) error { return p.AddTags(ctx, "alice", "good", s) },
			func(b *Batch, s string) { b.AddTags("alice", "good", s) },
			func(s string) *User { return &User{ID: "alice", Tags: []string{"good", s}} },
		}, {
			"tag", 1, l.TagBytes,
			func(p *Pusher, s string) error { return p.RemoveTags(ctx, "alice", "old", s) },
			func(b *Batch, s string) { b.RemoveTags("alice", "old", s) },
			nil,
		}, {
			"attribute name", 1, l.NameBytes,
			func(p *Pusher, s string) error {
				return p.SetAttributes(ctx, "alice", map[string]string{"tier": "new", s: "v"})
			},
			func(b *Batch, s string) { b.SetAttributes("alice", map[string]string{"tier": "new", s: "v"}) },
			func(s string) *User {
				return &User{ID: "alice", Attributes: map[string]string{"tier": "new", s: "v"}}
			},
		}, {
			"attribute name", 1, l.NameBytes,
			func(p *Pusher, s string) error { return p.RemoveAttributes(ctx, "alice", "tier", s) },
			func(b *Batch, s string) { b.RemoveAttributes("alice", "tier", s) },
			nil,
		}, {
			"attribute name", 0, l.NameBytes,
			func(p *Pusher, s string) error { return p.SetAttributeNames(ctx, map[int]string{0: "new", 1: s}) },
			nil, nil,
		}, {
			"attribute value", 1, l.ValueBytes,
			func(p *Pusher, s string) error {
				return p.SetAttributes(ctx, "alice", map[string]string{"city": "new", "tier": s})
			},
			func(b *Batch, s string) { b.SetAttributes("alice", map[string]string{"city": "new", "tier": s}) },
			func(s string) *User {
				return &User{ID: "alice", Attributes: map[string]string{"city": "new", "tier": s}}
			},
		}, {
			"platform", 1, 50,
			func(p *Pusher, s string) error { return p.RemoveDevice(ctx, "alice", s, "old") },
			func(b *Batch, s string) { b.RemoveDevice("alice", s, "old") },
			nil,
		}, {
			"device token", 1, l.TokenBytes,
			func(p *Pusher, s string) error { return p.RemoveDevice(ctx, "alice", "apns", s) },
			func(b *Batch, s string) { b.RemoveDevice("alice", "apns", s) },
			nil,
		}, {
			"sender", 0, 255,
			func(p *Pusher, s string) error {
				_, err := p.Push(ctx, Message{From: s, To: All(), Lifetime: time.Minute})
				return err
			},
			nil, nil,
		}, {
			"key", 0, 255,
			func(p *Pusher, s string) error {
				_, err := p.Push(ctx, Message{Key: s, To: All(), Lifetime: time.Minute})
				return err
			},
			nil, nil,
		},
	}
	for _, f := range []struct {
		what        string
		least, most int
		set         func(d *Device, s string)
	}{
		{"platform", 1, 50, func(d *Device, s string) { d.Platform = s }},
		{"device token", 1, l.TokenBytes, func(d *Device, s string) { d.Token = s }},
		{"device topic", 0, 255, func(d *Device, s string) { d.Topic = s }},
		{"device locale", 0, 255, func(d *Device, s string) { d.Locale = s }},
		{"device time zone", 0, 255, func(d *Device, s string) { d.TimeZone = s }},
	} {
		alone, batch, user := device(f.set)
		list = append(list, limitText{f.what, f.least, f.most, alone, batch, user})
	}
	inTurn(askUser, func(name string, call func(*Pusher, string) error) {
		list = append(list, limitText{what: "user ID", least: 1, most: 255, alone: call})
	})
	return append(list, limitText{what: "user ID", least: 1, most: 255, alone: func(p *Pusher, s string) error {
		_, err := p.Connect(ctx, s)
		return err
	}})
}

// refusal makes the calls with one text.
func (f *limitText) refusal(name, s string, limit LimitError, is error) refusal {
	r := refusal{name: f.what + " " + name, limit: limit, is: is, alone: func(p *Pusher) error { return f.alone(p, s) }}
	if f.batch != nil {
		r.batch = func(b *Batch) { f.batch(b, s) }
	}
	if f.user != nil {
		r.user = f.user(s)
	}
	return r
}

// limitRefusals is everything that is beyond a limit.
func limitRefusals(l Limits) []refusal {
	var list []refusal
	for _, f := range limitTexts(l) {
		list = append(list, f.refusal("too long", letters(f.most+1), beyond(f.what+" in bytes", f.most, f.most+1), nil))
		if f.least > 0 {
			list = append(list, f.refusal("empty", "", beyond(f.what+" in bytes, at least", 1, 0), nil))
		}
	}
	tags := make([]string, l.TagsPerUser) // alice has one more
	for i := range tags {
		tags[i] = fmt.Sprint(i)
	}
	devices := make([]Device, l.DevicesPerUser)
	for i := range devices {
		devices[i] = Device{Platform: "fcm", Token: fmt.Sprint(i)}
	}
	list = append(list, refusal{
		name: "tags", limit: beyond("tags of a user", l.TagsPerUser, l.TagsPerUser+1), late: true,
		alone: func(p *Pusher) error { return p.AddTags(context.Background(), "alice", tags...) },
		batch: func(b *Batch) { b.AddTags("alice", tags...) },
		user:  &User{ID: "alice", Tags: tags},
	})
	list = append(list, refusal{
		name: "devices", limit: beyond("devices of a user", l.DevicesPerUser, l.DevicesPerUser+1), late: true,
		batch: func(b *Batch) { b.RegisterDevice("alice", devices...) },
		user:  &User{ID: "alice", Devices: devices},
	})
	for _, slot := range []int{-1, l.Attributes, l.Attributes + 1, 1 << 40} {
		list = append(list, refusal{
			name: "slot", limit: beyond("attribute slot, from 0", l.Attributes-1, slot),
			alone: func(p *Pusher) error {
				return p.SetAttributeNames(context.Background(), map[int]string{0: "new", slot: "beyond"})
			},
		})
	}
	return append(list, append(messageRefusals(l), audienceRefusals(l)...)...)
}

func messageRefusals(l Limits) []refusal {
	push := func(name string, limit LimitError, m Message) refusal {
		m.To = All()
		return refusal{name: name, limit: limit, alone: func(p *Pusher) error {
			_, err := p.Push(context.Background(), m)
			return err
		}}
	}
	life := int(l.Lifetime.Milliseconds())
	note := &Notification{Body: letters(maxNoteBytes)}
	return []refusal{
		push("body", beyond("body in bytes", l.BodyBytes, l.BodyBytes+1), Message{Body: make([]byte, l.BodyBytes+1)}),
		push("lifetime", beyond("lifetime in milliseconds, from 0", life, life+1000), Message{Lifetime: l.Lifetime + time.Second}),
		push("lifetime a little long", beyond("lifetime in milliseconds, from 0", life, life+1), Message{Lifetime: l.Lifetime + 1}),
		push("lifetime below 0", beyond("lifetime in milliseconds, from 0", life, -1000), Message{Lifetime: -time.Second}),
		push("lifetime a little below 0", beyond("lifetime in milliseconds, from 0", life, -1), Message{Lifetime: -1}),
		push("notification", beyond("notification in bytes, encoded", 16<<10, 16<<10+len(`{"body":""}`)), Message{Lifetime: time.Second, Notification: note}),
	}
}

// audienceRefusals is a choice: the bounds themselves are TestAudienceValidate's.
func audienceRefusals(l Limits) (list []refusal) {
	ids := make([]string, store.MaxExprUsers+1)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	deep := All()
	for range store.MaxExprDepth / 2 {
		deep = deep.And(Tag("a")).Or(Tag("b"))
	}
	for _, c := range []struct {
		limit LimitError
		a     Audience
	}{
		{beyond("tag in bytes", l.TagBytes, l.TagBytes+1), Tag(letters(l.TagBytes + 1))},
		{beyond("tag in bytes, at least", 1, 0), All().And(Tag("").Not())},
		{beyond("attribute name in bytes", l.NameBytes, l.NameBytes+1), Attr(letters(l.NameBytes+1), "x")},
		{beyond("attribute value in bytes", l.ValueBytes, l.ValueBytes+1), Attr("tier", letters(l.ValueBytes+1))},
		{beyond("platform in bytes", 50, 51), Platform(letters(51))},
		{beyond("user ID in bytes", 255, 256), Users("alice", letters(256))},
		{beyond("salt of a sample in bytes", 255, 256), Sample(1, letters(256))},
		{beyond("parts per million of a sample, from 0", 1_000_000, 2_000_000), Sample(200, "")},
		{beyond("explicit users in an audience", store.MaxExprUsers, store.MaxExprUsers+1), Users(ids...)},
		{beyond("terms of an audience", store.MaxExprNodes, store.MaxExprNodes+1), All().Or(slices.Repeat([]Audience{All()}, store.MaxExprNodes)...)},
		{beyond("nesting of an audience", store.MaxExprDepth, store.MaxExprDepth+1), deep},
	} {
		inTurn(askAudience, func(name string, ask func(*Pusher, Audience) error) {
			list = append(list, refusal{name: "audience of " + name, limit: c.limit, alone: func(p *Pusher) error { return ask(p, c.a) }})
		})
	}
	return list
}

// fill gives a user everything that the limits allow, and pushes the largest message to that user.
func fill(t testing.TB, p *Pusher, l Limits) {
	t.Helper()
	ctx := context.Background()
	id := letters(255)
	must(t, p.Register(ctx, id))
	numbered := func(i, size int) string { return fmt.Sprintf("%0*d", size, i) }
	tags := make([]string, l.TagsPerUser)
	for i := range tags {
		tags[i] = numbered(i, l.TagBytes)
	}
	must(t, p.AddTags(ctx, id, tags...))
	names, values := map[int]string{}, map[string]string{}
	for slot := range l.Attributes {
		if slot > 1 {
			names[slot] = numbered(slot, l.NameBytes)
			values[names[slot]] = letters(l.ValueBytes)
		}
	}
	must(t, p.SetAttributeNames(ctx, names))
	must(t, p.SetAttributes(ctx, id, values))
	for i := range l.DevicesPerUser {
		must(t, p.RegisterDevice(ctx, id, Device{
			Platform: letters(50), Token: numbered(i, l.TokenBytes), Topic: letters(255), Locale: letters(255), TimeZone: letters(255),
		}))
	}
	note := &Notification{Body: letters(maxNoteBytes - len(`{"body":""}`))}
	task := mustTask(t, p, Message{
		From: letters(255), Key: letters(255), Body: make([]byte, l.BodyBytes), Lifetime: l.Lifetime, Notification: note,
		To: Tag(tags[0]).And(Platform(letters(50)), Users(id), Sample(100, letters(255))),
	})
	if g := progress(t, task); g.Total != 1 {
		t.Fatalf("%+v", g)
	}
}

// TestLimits: what is at a limit is accepted, and what is beyond it is refused and says so, with the default
// limits, wider ones, and narrower ones.
func TestLimits(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]Limits{"default": {}, "wide": wideLimits, "narrow": narrowLimits} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := testPusher(t, t.TempDir(), Options{Limits: l})
			l.fill()
			refusalScene(t, p)
			fill(t, p, l)
			for _, r := range limitRefusals(l) {
				r.check(t, p)
			}
		})
	}
}

// TestLimitsAcrossReopening: what a limit once allowed stays when it is lowered, after a crash as well: replaying
// what was acknowledged under the old limits refuses nothing of it.
func TestLimitsAcrossReopening(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	p := testPusher(t, dir, Options{Limits: wideLimits})
	refusalScene(t, p)
	fill(t, p, wideLimits)
	before := visible(t, p)
	killed := filepath.Join(t.TempDir(), "killed")
	must(t, copyAsKilled(dir, killed))

	for _, reopened := range []struct{ given, inForce Limits }{{narrowLimits, narrowLimits}, {Limits{}, Limits{}}, {wideLimits, wideLimits}, {narrowLimits, narrowLimits}} {
		l := reopened.inForce
		l.fill()
		p := testPusher(t, killed, Options{Limits: reopened.given})
		if after := visible(t, p); after != before {
			t.Fatalf("with %+v:\n%s\nnot\n%s", l, after, before)
		}
		for _, r := range limitRefusals(l) {
			r.check(t, p)
		}
		// Of what is beyond a lowered limit nothing can be added, but what is there may be named again and removed.
		for _, tag := range []string{"more", "old"} {
			err := p.AddTags(ctx, "alice", tag)
			must(t, err)
		}
		must(t, p.RemoveTags(ctx, "alice", "more"))
		must(t, p.Close(ctx))
	}
}

// TestLimitsOfOneStep: a batch, a push and a user of an import are at most 512 KiB as encoded.
func TestLimitsOfOneStep(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := testPusher(t, t.TempDir(), Options{Limits: Limits{BodyBytes: 1 << 20, TagsPerUser: 20_000}})
	refusalScene(t, p)
	tags := make([]string, 12_000) // of 50 bytes
	for i := range tags {
		tags[i] = fmt.Sprintf("%050d", i)
	}
	ids := make([]string, store.MaxExprUsers)
	for i := range ids {
		ids[i] = fmt.Sprintf("%060d", i)
	}
	limit := beyond("bytes of one step", store.MaxCommand, more)
	for _, r := range []refusal{
		{name: "batch", limit: limit, alone: func(p *Pusher) error {
			var b Batch
			b.Register("batch")
			for i := range 40 {
				b.AddTags("batch", tags[300*i:300*(i+1)]...)
			}
			return p.Apply(ctx, &b)
		}},
		{name: "many IDs", limit: limit, alone: func(p *Pusher) error { return p.Register(ctx, ids...) }},
		{name: "audience", limit: limit, alone: func(p *Pusher) error {
			_, err := p.Push(ctx, Message{To: Users(ids...), Lifetime: week})
			return err
		}},
		{name: "a user of many tags", limit: limit, user: &User{ID: "large", Tags: tags}},
	} {
		r.check(t, p)
	}
	// Just below it goes through.
	must(t, p.AddTags(ctx, "alice", tags[:9_900]...))
	_, err := p.Push(ctx, Message{Body: make([]byte, 256<<10), To: All(), Lifetime: week})
	must(t, err)
}
