package console

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// picky phones take no notification of one title.
type picky struct{ *transporttest.Phones }

func (picky) Check(c *transport.Content) error {
	if strings.HasPrefix(c.Title, "Refused") {
		return errors.New("no")
	}
	return nil
}

// phoneBench is a bench whose phones are notified at once; alice has one.
func phoneBench(t *testing.T) (*bench, *transporttest.Phones) {
	t.Helper()
	phones := transporttest.NewPhones("apns")
	return newBenchWith(t, open(t, fanfare.Options{Mobile: []transport.Mobile{picky{phones}}, Grace: -1}), Options{}), phones
}

func (b *bench) notify(n fanfare.Notification) *fanfare.Task {
	b.t.Helper()
	task, err := b.p.Push(b.t.Context(), fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour, Notification: &n})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := task.Wait(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return task
}

// showing is what alice's phone shows.
func showing(phones *transporttest.Phones) (out []string) {
	for _, n := range phones.Showing("a-long-token-of-alice") {
		out = append(out, n.Content.Title+"/"+n.Content.Body+"/"+n.Content.Sound)
	}
	return out
}

// logged is the newest entry of the audit log.
func (b *bench) logged() Entry {
	b.t.Helper()
	entries, err := b.audit.List(b.t.Context(), 0, 1)
	if err != nil || len(entries) == 0 {
		b.t.Fatal(entries, err)
	}
	return entries[0]
}

// TestRecall takes a notification away from phones, or has another one in its place, of a task and of what a plan released.
func TestRecall(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields url.Values
		want   string // on the phone
		detail string
	}{
		{"removed as long as nothing is said", nil, "[]", "withdrawn, on phones taken away"},
		{"removed, whatever was typed", url.Values{"phones": {"remove"}, "title": {"typed"}}, "[]", "withdrawn, on phones taken away"},
		{"replaced", url.Values{"phones": {"replace"}, "title": {" New "}, "body": {"a\r\nb"}}, "[New/a\nb/bell]", `withdrawn, on phones replaced by "New"`},
		{"replaced in silence", url.Values{"phones": {"replace"}, "body": {"words"}, "quiet": {"yes"}}, "[/words/]", `withdrawn, on phones replaced by "words"`},
	} {
		for _, planned := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, planned), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b, phones := phoneBench(t)
					old := fanfare.Notification{Title: "Old <b>", Sound: "bell"}
					page, end, notice, id := "", "", "withdrawn", ""
					fields := url.Values{}
					maps.Copy(fields, c.fields)
					if planned {
						plan, err := b.p.Plan(t.Context(), fanfare.Plan{Message: fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour, Notification: &old}})
						if err != nil {
							t.Fatal(err)
						}
						if err := plan.Wait(t.Context()); err != nil { // so that it is over, and what it released goes on
							t.Fatal(err)
						}
						page, end, notice, id = "/plans/"+plan.ID, "/plans/"+plan.ID+"/end", "recalled", plan.ID
						if w := b.get("oscar", page); !strings.Contains(w.Body.String(), `id="end"`) {
							t.Errorf("there is no way to withdraw what is not over: %s", w.Body)
						}
						fields.Set("withdraw", "yes")
					} else {
						task := b.notify(old)
						page, end, id = "/tasks/"+task.ID, "/tasks/"+task.ID+"/withdraw", task.ID
					}
					asked := b.get("oscar", end).Body.String()
					for _, want := range []string{"Old &lt;b&gt;", "Notified so far: 1 phone.", `value="remove" checked`, "without a sound"} {
						if !strings.Contains(asked, want) {
							t.Errorf("the question is without %q: %s", want, asked)
						}
					}
					w := b.post("oscar", end, fields)
					if w.Code != http.StatusSeeOther || !strings.HasSuffix(w.Header().Get("Location"), id+"?notice="+notice) {
						t.Fatalf("%d %s: %s", w.Code, w.Header().Get("Location"), w.Body)
					}
					synctest.Wait()
					if got := fmt.Sprint(showing(phones)); got != c.want {
						t.Errorf("the phone shows %s", got)
					}
					if e := b.logged(); e.Outcome != Done || e.Target != id || e.Detail != c.detail+" → all" {
						t.Errorf("the audit log has %+v", e)
					}
					told, said := b.get("vera", page+"?notice="+notice).Body.String(), notices["withdrawn"]
					if planned {
						said = planNotices["recalled"]
					}
					for _, want := range []string{said, "Phones told of the withdrawal", "No phone is left to be told."} {
						if !strings.Contains(told, want) {
							t.Errorf("the page is without %q: %s", want, told)
						}
					}
					again := b.post("oscar", end, fields)
					if code := map[bool]int{false: http.StatusSeeOther, true: http.StatusConflict}[planned]; again.Code != code {
						t.Errorf("again: %d", again.Code)
					}
				})
			})
		}
	}
}

// TestRecallMistakes: what was typed comes back with what is wrong with it, and nothing was done.
func TestRecallMistakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, phones := phoneBench(t)
		task := b.notify(fanfare.Notification{Title: "Old"})
		plan, err := b.p.Plan(t.Context(), fanfare.Plan{Message: fanfare.Message{Body: []byte("x"), To: fanfare.Users("alice", "bob", "carol"), Lifetime: time.Hour}, Pace: 1, Variants: []fanfare.Variant{
			{Name: "A"}, {Name: "B", Notification: &fanfare.Notification{Title: "Of B"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := plan.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, end := range []string{"/tasks/" + task.ID + "/withdraw", "/plans/" + plan.ID + "/end"} {
			for _, c := range []struct {
				title, body, quiet, want string
				logged                   Outcome // empty: nothing
			}{
				{" ", "\r\n", "yes", "A notification needs a title or a text.", ""},
				{"Refused & kept", "words <kept>", "yes", "The service of apns would not take this notification: no", Failed},
				{"Long & kept", strings.Repeat("x", 70<<10), "", "Too large: notification in bytes, encoded", Failed},
			} {
				w := b.post("oscar", end, url.Values{"withdraw": {"yes"}, "phones": {"replace"}, "title": {c.title}, "body": {c.body}, "quiet": {c.quiet}})
				text := w.Body.String()
				if w.Code != http.StatusUnprocessableEntity || !strings.Contains(text, c.want) || !strings.Contains(text, `value="replace" checked`) {
					t.Errorf("%s with %q: %d, without %q: %.3000s", end, c.title, w.Code, c.want, text)
				}
				if title := strings.TrimSpace(c.title); title != "" && !strings.Contains(text, `name="title" value="`+strings.ReplaceAll(title, "&", "&amp;")) {
					t.Errorf("%q has gone: %.3000s", title, text)
				}
				if e, err := b.audit.List(t.Context(), 0, 1); err != nil || c.logged == "" && len(e) > 0 && e[0].Outcome != Failed || c.logged != "" && e[0].Outcome != c.logged {
					t.Errorf("the audit log has %+v, %v", e, err)
				}
			}
		}
		if g, err := task.Progress(); err != nil || !g.Ended.IsZero() || fmt.Sprint(showing(phones)) != "[Old//]" {
			t.Errorf("%+v, %v, the phone shows %q", g, err, showing(phones))
		}
		if i, err := plan.Info(t.Context()); err != nil || !i.Ended.IsZero() {
			t.Errorf("%+v, %v", i, err)
		}
		if text := b.get("oscar", "/plans/"+plan.ID+"/end").Body.String(); !strings.Contains(text, "Of B") || !strings.Contains(text, "It comes without a sound") {
			t.Errorf("the question is %s", text)
		}
		w := b.post("oscar", "/recall/preview", url.Values{"title": {"To <come>"}, "body": {"soon"}})
		if text := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(text, "To &lt;come&gt;") || !strings.Contains(text, "soon") || strings.Contains(text, "<html") {
			t.Errorf("the preview is %d: %s", w.Code, text)
		}
	})
}

// TestNothingToRecall: of a message that no phone shows, nothing is asked about phones.
func TestNothingToRecall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := phoneBench(t)
		for _, task := range []*fanfare.Task{b.push(fanfare.All()), b.notify(fanfare.Notification{Silent: true})} {
			if text := b.get("oscar", "/tasks/"+task.ID+"/withdraw").Body.String(); strings.Contains(text, `name="phones"`) {
				t.Errorf("the question is %s", text)
			}
			if w := b.post("oscar", "/tasks/"+task.ID+"/withdraw", nil); w.Code != http.StatusSeeOther || b.logged().Detail != "withdrawn → all" {
				t.Errorf("%d, %+v", w.Code, b.logged())
			}
			if text := b.get("vera", "/tasks/"+task.ID).Body.String(); strings.Contains(text, "told") {
				t.Errorf("phones are told: %s", text)
			}
		}
	})
}

// TestStreamOfARecall goes on behind the end of the task, as long as phones are told.
func TestStreamOfARecall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, phones := phoneBench(t)
		task := b.notify(fanfare.Notification{Title: "Old"})
		f, done := b.stream(t.Context(), task.ID, "")
		synctest.Wait()
		phones.RetryNext("a-long-token-of-alice", 1, 20*time.Second)
		if err := b.p.Withdraw(t.Context(), task.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		last := func() progressEvent {
			t.Helper()
			events, _, _ := f.taken(t)
			return events[len(events)-1]
		}
		retried := regexp.MustCompile(`(?s)Phones told of the withdrawal.*Phones are still being told\..*<th scope="row">apns</th><td class="number">1</td><td class="number">0</td>.*<td class="number">1</td>`)
		if e := last(); !e.Ended || e.Over || !retried.MatchString(e.HTML) {
			t.Errorf("with a phone to be told the stream says %+v", e)
		}
		select {
		case <-done:
			t.Fatal("the stream has ended with the task")
		default:
		}
		time.Sleep(30 * time.Second)
		<-done
		if e := last(); !e.Ended || !e.Over || !strings.Contains(e.HTML, "No phone is left to be told.") || !strings.Contains(e.HTML, `<td class="number">2</td><td class="number">1</td>`) {
			t.Errorf("at the end the stream says %+v", e)
		}
		if len(phones.Showing("a-long-token-of-alice")) > 0 {
			t.Error("the phone was not told")
		}
	})
}

// TestPlanNotices: a link says nothing of a plan that is not so.
func TestPlanNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := planBench(t)
		plan, err := b.p.Plan(t.Context(), fanfare.Plan{Message: fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour}, At: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		said := func() (out string) {
			t.Helper()
			for _, notice := range []string{"planned", "again", "changed", "paused", "resumed", "paced", "cancelled", "withdrawn", "recalled", "more"} {
				if strings.Contains(b.get("vera", "/plans/"+plan.ID+"?notice="+notice).Body.String(), `<div class="banner good"`) {
					out += " " + notice
				}
			}
			return out
		}
		step := func(do func(context.Context) error, want string) {
			t.Helper()
			if err := do(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := said(); got != want {
				t.Errorf("it says%s, not%s", got, want)
			}
		}
		step(func(context.Context) error { return nil }, " planned again changed resumed paced")
		step(plan.Pause, " planned again changed paused paced")
		step(plan.Resume, " planned again changed resumed paced")
		step(func(context.Context) error { time.Sleep(2 * time.Hour); return nil }, " planned again resumed paced")
		other, err := b.p.Plan(t.Context(), fanfare.Plan{Message: fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour}, Pace: 1})
		if err != nil {
			t.Fatal(err)
		}
		plan = other
		synctest.Wait()
		step(plan.Cancel, " planned again cancelled")
		step(plan.Withdraw, " planned again cancelled withdrawn recalled")
	})
}
