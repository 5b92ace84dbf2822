package fanfare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

func TestTemplate(t *testing.T) {
	t.Parallel()
	values := map[string]string{"city": `"Wu\han"`, "first name": "Ann", "empty": ""}
	for _, c := range []struct{ text, plain, within string }{
		{"", "", ""},
		{"no placeholders, {{not}} {{ one }} {{attr.}}", "no placeholders, {{not}} {{ one }} {{attr.}}", "no placeholders, {{not}} {{ one }} {{attr.}}"},
		{"{{attr.city}}", `"Wu\han"`, `\"Wu\\han\"`},
		{"a{{attr.city}}b{{ attr.first name }}c", `a"Wu\han"bAnnc`, `a\"Wu\\han\"bAnnc`},
		{"{{attr.none}}.", ".", "."},
		{"{{attr.none|x y}}{{attr.none|}}{{attr.city|x}}", `x y"Wu\han"`, `x y\"Wu\\han\"`},
		{"{{attr.empty|x}}", "", ""},
		{"{{attr.city", "{{attr.city", "{{attr.city"},
		{"{{{attr.first name}}}", "{Ann}", "{Ann}"},
	} {
		tmpl := parseTemplate(c.text)
		if got := tmpl.with(values, FillText); got != c.plain {
			t.Errorf("%s: %s, want %s", c.text, got, c.plain)
		}
		if got := tmpl.with(values, FillJSON); got != c.within {
			t.Errorf("%s in JSON: %s, want %s", c.text, got, c.within)
		}
	}
}

// TestFill: each user gets the message with the user's own values, as they are when it is delivered, online, on login, in a batch, by the host, and on the phone.
func TestFill(t *testing.T) {
	t.Parallel()
	for _, batch := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			b := new(transporttest.BatchRecorder)
			rec := &b.Recorder
			var online transport.Online = rec
			if batch {
				online = b
			}
			phones := transporttest.NewPhones("apns")
			p := testPusher(t, t.TempDir(), Options{Online: online, Mobile: []transport.Mobile{phones}, Grace: time.Hour, blockBits: 2})
			must(t, p.SetAttributeNames(ctx, map[int]string{0: "city", 1: "name"}))
			for i, id := range []string{"ann", "ben", "cat"} {
				must(t, p.Register(ctx, id))
				must(t, p.SetAttributes(ctx, id, map[string]string{"city": fmt.Sprintf(`C"%d`, i)}))
				must(t, p.RegisterDevice(ctx, id, Device{Platform: "apns", Token: id}))
			}
			must(t, p.SetAttributes(ctx, "ann", map[string]string{"name": "Ann"}))
			connect(t, p, rec, "ann")
			connect(t, p, rec, "ben")
			synctest.Wait()
			m := Message{
				Body: []byte(`{"text":"{{attr.name|friend}} in {{attr.city}}"}`), To: All(), Lifetime: week, Fill: FillJSON,
				Notification: &Notification{Title: "{{attr.name|You}}", Body: "{{attr.city}}", Locales: map[string]transport.Text{"de": {Title: "Hallo {{attr.name|du}}"}}},
			}
			mustTask(t, p, m)
			synctest.Wait()
			text := func(b []byte) string {
				t.Helper()
				var v struct{ Text string }
				must(t, json.Unmarshal(b, &v))
				return v.Text
			}
			for id, want := range map[string]string{"ann": `Ann in C"0`, "ben": `friend in C"1`} {
				got := rec.Received(id)
				if len(got) != 1 || text(got[0].Body) != want {
					t.Errorf("%s: %s", id, bodies(got))
				}
			}
			must(t, p.SetAttributes(ctx, "cat", map[string]string{"city": "moved", "name": "Cat"}))
			for m, err := range p.Pending(ctx, "cat") {
				must(t, err)
				if text(m.Body) != "Cat in moved" {
					t.Errorf("%s", m.Body)
				}
			}
			time.Sleep(time.Hour + time.Second)
			synctest.Wait()
			if got := phones.Shown("cat"); len(got) != 1 || got[0].Content.Title != "Cat" || got[0].Content.Body != "moved" || got[0].Content.Locales["de"].Title != "Hallo Cat" {
				t.Errorf("%+v", got)
			}
			must(t, p.RemoveAttributes(ctx, "cat", "city"))
			connect(t, p, rec, "cat")
			synctest.Wait()
			if got := rec.Received("cat"); len(got) != 1 || text(got[0].Body) != "Cat in " { // it was there when the push was accepted
				t.Errorf("%s", bodies(got))
			}
		})
	}
}

// TestUnresolved: a placeholder that cannot be filled for somebody refuses the push, and a plan that finds one when it fires.
func TestUnresolved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := testPusher(t, t.TempDir(), Options{})
		ctx := context.Background()
		must(t, p.SetAttributeNames(ctx, map[int]string{0: "city"}))
		must(t, p.Register(ctx, "ann", "ben", "cat"))
		must(t, p.SetAttributes(ctx, "ann", map[string]string{"city": "x"}))
		m := Message{Body: []byte("{{attr.city}}"), To: All(), Lifetime: time.Hour, Fill: FillText}
		var unresolved *UnresolvedError
		if _, err := p.Push(ctx, m); !errors.As(err, &unresolved) || unresolved.Name != "city" || unresolved.Users != 2 {
			t.Error(err)
		}
		if _, err := p.Plan(ctx, Plan{Message: m}); !errors.As(err, &unresolved) {
			t.Error(err)
		}
		for _, bad := range []Message{
			{Body: []byte("{{attr.other|x}}"), To: All(), Fill: FillText}, {Body: []byte("{{attr.other}}"), To: All(), Fill: FillText},
			{Body: []byte("no JSON"), To: All(), Fill: FillJSON}, {Body: []byte("x"), To: All(), Fill: 9},
		} {
			if _, err := p.Push(ctx, bad); err == nil {
				t.Errorf("%s was accepted", bad.Body)
			}
		}
		for range p.Tasks(ctx) {
			t.Error("a push that was refused is there")
		}
		m.To = Users("ann")
		mustTask(t, p, m)
		for m, err := range p.Pending(ctx, "ann") {
			must(t, err)
			if string(m.Body) != "x" {
				t.Errorf("%s", m.Body)
			}
		}
		m.To = HasAttr("city").Or(Tag("late"))
		planned, err := p.Plan(ctx, Plan{Message: m, At: time.Now().Add(time.Hour)})
		must(t, err)
		must(t, p.AddTags(ctx, "ben", "late"))
		must(t, planned.Wait(ctx))
		if i := info(t, planned); i.Outcome != PlanFailed || !strings.Contains(i.Error, "{{attr.city}}") {
			t.Errorf("%+v", i)
		}
		m.To, m.Fill = All(), FillNothing
		mustTask(t, p, m)
		var got []string
		for m, err := range p.Pending(ctx, "ann") {
			must(t, err)
			got = append(got, string(m.Body))
		}
		if !slices.Equal(got, []string{"{{attr.city}}"}) {
			t.Error(got)
		}
	})
}

// slowBatch is a transport whose batches take their time.
type slowBatch struct {
	mu    sync.Mutex
	begun int
	most  int // users in a batch
}

func (s *slowBatch) Deliver(context.Context, string, *transport.Message) error {
	panic("there are batches")
}
func (s *slowBatch) MaxBatch() int { return 0 }

func (s *slowBatch) DeliverBatch(_ context.Context, users []string, _ *transport.Message) []error {
	s.mu.Lock()
	s.begun++
	s.most = max(s.most, len(users))
	s.mu.Unlock()
	time.Sleep(30 * time.Millisecond)
	return nil
}

// TestFillInBatches: with a transport of batches each call for a message with placeholders is for one user, none begins after Withdraw or Close, and the time that a
// call may take is that of one.
func TestFillInBatches(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"withdraw", "close"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, s := t.Context(), new(slowBatch)
				stuck := func(user, _ string) { t.Errorf("%s is stuck", user) }
				p := testPusher(t, t.TempDir(), Options{Online: s, Grace: -1, DeliverTimeout: time.Second, Hooks: Hooks{Stuck: stuck}})
				must(t, p.SetAttributeNames(ctx, map[int]string{0: "n"}))
				for i := range 100 {
					_, err := p.Connect(ctx, fmt.Sprint("u", i))
					must(t, err)
				}
				synctest.Wait()
				task := mustTask(t, p, Message{Body: []byte("{{attr.n|x}}"), Fill: FillText, To: All(), Lifetime: time.Hour})
				time.Sleep(1500*time.Millisecond + time.Millisecond)
				if end == "close" {
					must(t, p.Close(ctx))
				} else {
					must(t, p.Withdraw(ctx, task.ID))
				}
				s.mu.Lock()
				begun := s.begun
				s.mu.Unlock()
				time.Sleep(10 * time.Second)
				if s.begun != begun || begun < 50 || begun > 52 || s.most != 1 {
					t.Errorf("%d calls, %d after the end, of %d users at most", begun, s.begun-begun, s.most)
				}
			})
		})
	}
}

// TestFillUnread: a user whose attributes cannot be read is not sent blanks but nothing, and has it later; one who is not known has no values.
func TestFillUnread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		batches, phones := new(transporttest.BatchRecorder), transporttest.NewPhones("apns")
		p := testPusher(t, t.TempDir(), Options{Online: batches, Mobile: []transport.Mobile{phones}, Grace: time.Hour})
		must(t, p.SetAttributeNames(ctx, map[int]string{0: "n"}))
		must(t, p.Register(ctx, "ann"))
		must(t, p.SetAttributes(ctx, "ann", map[string]string{"n": "Ann"}))
		m := newMessage(&store.Message{Seq: 1, Body: []byte("Dear {{attr.n}}"), Note: []byte(`{"title":"{{attr.n|you}}"}`), Fill: byte(FillText)})
		for user, want := range map[string]string{"ann": "Dear Ann", "nobody": "Dear "} {
			if own, err := m.of(p.delivery, user); err != nil || string(own.Body) != want {
				t.Errorf("%s: %v %v", user, own, err)
			}
		}
		must(t, p.Close(ctx)) // nothing can be read any more
		for name, err := range map[string]error{
			"one": callOne(p.delivery, "ann", m), "a batch of one": callBatch(p.delivery, batches, []string{"ann"}, m)(0),
		} {
			if !errors.Is(err, ErrClosed) || len(batches.Received("ann")) > 0 {
				t.Errorf("%s: %v %v", name, err, batches.Received("ann"))
			}
		}
		o := new(phoneOutcome)
		target := store.PhoneTarget{ID: "ann", Device: store.Device{Platform: "apns", Token: "x"}}
		p.delivery.phones.runners["apns"].send(m, []sending{{target: target}}, o)
		if len(o.cp.Retry) != 1 || o.unsent != 1 || o.cp.Stats.Sent != 0 || len(phones.Shown("x")) > 0 {
			t.Errorf("%+v", o)
		}
	})
}
