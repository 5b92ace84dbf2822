package browsertest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/fanfare-im/fanfare"
)

func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

// shot writes a picture of the page, if the flag says so.
func (t *tab) shot(name string) {
	t.Helper()
	if *screens == "" {
		return
	}
	value[bool](t, "scrollTo(0, 0), true") // where what sticks is in its place
	png := get(t, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(*screens, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// push pushes a message without the page.
func (w *world) push(t *testing.T, to fanfare.Audience, text string, n *fanfare.Notification) *fanfare.Task {
	t.Helper()
	task, err := w.p.Push(context.Background(), fanfare.Message{From: "news", Body: []byte(text), To: to, Lifetime: 24 * time.Hour, Notification: n})
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// TestComposeToFinish pushes to everybody, and watches it arrive.
func TestComposeToFinish(t *testing.T) {
	b := open(t, desktop)
	b.visit("")
	b.click(".head .button")
	b.do(chromedp.WaitVisible("#to"))
	b.fill("#to", "all and not user:nobody")
	b.shows("#audience-size", grouped(*people)+" people")
	b.fill("#text", "The lounge is open tonight.")
	b.click("#notify")
	b.fill("#title", "Good evening")
	b.fill("#body", "The lounge is open tonight. Come by.")
	b.shows("#preview .notification", "Good evening")
	b.shows("#preview .list-item", "The lounge is open tonight.")
	b.click("#preview summary")
	b.fill("#text", "The lounge is open all night.")
	b.shows("#preview .list-item", "open all night.")
	b.shows("#preview .sent pre", `{"text":"The lounge is open all night."}`) // stays open
	b.fill("#text", "The lounge is open tonight.")
	b.shows("#preview .list-item", "open tonight.")

	b.click(".actions .primary")
	b.do(chromedp.WaitVisible("#confirm"))
	b.shows("main", "You are about to disturb")
	b.shows("main .huge", grouped(*people)+" people")
	b.fill("#confirm", "12")
	b.click("form .primary")
	b.shows(".banner.bad", "is not the number of people")
	b.fill("#confirm", grouped(*people))
	b.w.slow.Store(int64(time.Millisecond))
	b.click("form .primary")
	b.do(chromedp.WaitVisible("#progress"))
	b.until("the first live figures", "document.querySelector('#progress').dataset.live")
	b.shows("#progress", grouped(*people))
	away := *people/10 - 1
	b.shows("#progress", grouped(*people-away)+" of "+grouped(*people)+" have it")
	b.until("a chart", "document.querySelector('#chart canvas')")
	b.shows("#progress", "DeviceTokenNotForTopic")

	// It is over when those who were away have come.
	come := func(from, to int) {
		t.Helper()
		leave, err := b.w.connect(b.ctx, func(i int) bool { return i%10 == 0 && i > from && i <= to })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(leave)
	}
	come(0, *people/2)
	b.shows("#progress", "Running")
	come(*people/2, *people)
	b.shows("#progress .state", "Finished")
	b.until("the end of the stream", "document.querySelector('#progress').dataset.live === 'over'")
	b.shows("#spoken", "The task has ended.")
	b.shot("finished")
	if value[bool](b, "Boolean(document.querySelector('#withdraw'))") {
		t.Error("a task that has ended can be withdrawn")
	}
	b.visit("audit")
	b.shows("main", "The lounge is open tonight.")
}

// TestWithdrawMidway takes back a push that half of the people have, and finds the chart as it was after a reload.
func TestWithdrawMidway(t *testing.T) {
	b := open(t, desktop)
	b.w.slow.Store(int64(20 * time.Millisecond))
	task := b.w.push(t, fanfare.All(), "We close at six.", nil)
	b.visit("tasks/" + task.ID)
	b.until("the first live figures", "document.querySelector('#progress').dataset.live === 'yes'")
	b.until("a chart", "document.querySelector('#chart canvas')")
	b.visit("tasks/" + task.ID)
	b.until("a chart again", "document.querySelector('#chart canvas')")
	b.click("#withdraw")
	b.shows("main", "will not get it any more")
	b.click("form button.danger")
	b.shows(".banner.good", "The task was withdrawn")
	b.shows("#progress .state", "Withdrawn")
	b.until("the end of the stream", "document.querySelector('#progress').dataset.live === 'over'")
	g, err := task.Progress()
	if err != nil || g.Withdrawn == 0 || g.Delivered == 0 || g.Ended.IsZero() {
		t.Errorf("the task is %+v, %v", g, err)
	}
	b.shows("#progress", grouped(int(g.Withdrawn)))
}

// TestHiddenTab: a tab that nobody sees holds no connection of the few that a browser has for a host, and is up to date when somebody looks again.
func TestHiddenTab(t *testing.T) {
	b := open(t, desktop)
	task := b.w.push(t, fanfare.Users("user-000010"), "while nobody looks", nil)
	b.visit("tasks/" + task.ID)
	hide := func(hidden bool) {
		value[bool](b, fmt.Sprintf("Object.defineProperty(document, 'hidden', {value: %v, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))", hidden))
	}
	streams := func(want int64) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); b.w.open.Load() != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d streams are open, not %d", b.w.open.Load(), want)
			}
		}
	}
	b.until("the first live figures", "document.querySelector('#progress').dataset.live === 'yes'")
	streams(1)
	hide(true)
	streams(0)
	hide(true)
	hide(false)
	hide(false)
	b.until("live figures again", "document.querySelector('#progress').dataset.live === 'yes'")
	streams(1)
	hide(true)
	streams(0)
	if err := b.w.p.Withdraw(context.Background(), task.ID); err != nil {
		t.Fatal(err)
	}
	hide(false)
	b.shows("#progress .state", "Withdrawn")
	b.shows("#spoken", "The task has ended.")
	streams(0)
	hide(true)
	hide(false)
	b.until("the end, still", "document.querySelector('#progress').dataset.live === 'over'")
}

// TestWhyNot asks why a message did not reach somebody, of three people.
func TestWhyNot(t *testing.T) {
	b := open(t, desktop)
	ctx := context.Background()
	task := b.w.push(t, fanfare.Users("alice", "dave", "bob"), "to a few", nil)
	if err := b.w.p.Register(ctx, "erin"); err != nil { // too late
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.w.p.Unregister(ctx, "erin") })
	if err := task.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	ask := func(who string) {
		b.visit("users")
		b.fill("#id", who)
		b.fill("#message", task.ID)
		b.press(kb.Enter)
	}
	time.Sleep(1100 * time.Millisecond) // registrations are known to the second
	if err := b.w.p.Register(ctx, "frank"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.w.p.Unregister(ctx, "frank") })
	ask("frank")
	b.shows("#verdict", "It was never meant for this user.")
	b.shows(".verdict", "after the push was accepted")
	ask("alice")
	b.shows("#verdict", "It probably reached this user.")
	ask("user-000005")
	b.shows("#verdict", "It was probably not meant for this user.")
	b.shows(".verdict", "The audience does not fit the user now")
}

// tabTo presses Tab until the focus is there, and sees that it shows.
func (t *tab) tabTo(selector string) {
	t.Helper()
	for range 60 {
		t.press(kb.Tab)
		if value[bool](t, fmt.Sprintf("document.activeElement.matches(%q)", selector)) {
			if !value[bool](t, "(s => s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2)(getComputedStyle(document.activeElement))") {
				t.Errorf("the focus does not show on %s", selector)
			}
			return
		}
	}
	t.Fatalf("the Tab key does not come to %s", selector)
}

// TestKeyboard composes, sends and withdraws with keys alone.
func TestKeyboard(t *testing.T) {
	b := open(t, desktop)
	b.visit("")
	b.press(kb.Tab)
	if skip := value[string](b, "document.activeElement.className"); skip != "skip" {
		t.Errorf("the first stop is %q, not the link to the content", skip)
	}
	b.tabTo("nav a[href$='compose']")
	b.press(kb.Enter)
	b.do(chromedp.WaitVisible("#to"))
	b.tabTo("#to")
	b.press("attr.t")
	b.until("suggestions", "!document.querySelector('#suggestions').hidden")
	b.press(kb.ArrowDown)
	if got := value[string](b, "document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).innerText"); got != "tier" {
		t.Errorf("the chosen suggestion is %q", got)
	}
	b.press(kb.Enter)
	b.press("= gold and user in (alice, user-000004, user-000008)")
	b.press(kb.Escape)
	b.shows("#audience-size", "3 people")
	b.tabTo("#text")
	b.press("by keys")
	b.tabTo(".actions button.primary")
	b.press(kb.Enter)
	b.do(chromedp.WaitVisible("#confirm"))
	b.until("the field for the number has the focus", "document.activeElement.id === 'confirm'")
	b.press("3", kb.Enter)
	b.do(chromedp.WaitVisible("#progress"))
	b.shows("main", "user in (")
	b.shows("#progress", "of 3 have it")
}

// TestVariantsByKeys composes a plan with variants with keys alone: the focus goes to what was added, and to what comes after what was taken away.
func TestVariantsByKeys(t *testing.T) {
	b := open(t, desktop)
	b.visit("compose")
	b.tabTo("#to")
	b.press("user in (alice, user-000004, user-000008)", kb.Escape)
	b.shows("#audience-size", "3 people")
	b.tabTo("#text")
	b.press("as it is")
	focus := func(selector string) {
		t.Helper()
		b.until("the focus on "+selector, fmt.Sprintf("document.activeElement.matches(%q)", selector))
	}
	b.tabTo("#add-variant")
	for i, text := range []string{"first words", "other words", "too much"} {
		if i > 0 {
			b.tabTo("#add-variant")
		}
		b.press(kb.Enter)
		name := fmt.Sprintf("#variant-%d", i)
		focus(name)
		if got, want := value[string](b, "document.activeElement.value + ' of ' + document.activeElement.closest('fieldset').querySelector('legend').innerText"), fmt.Sprintf("%c of Variant %d", 'A'+i, i+1); got != want {
			t.Errorf("the focus is on %q, not on %q", got, want)
		}
		b.tabTo(fmt.Sprintf("#varianttext-%d", i))
		b.press(text)
		b.shows("#preview", text)
	}
	b.shows("#preview", "33.3 % of those")
	value[bool](b, "document.querySelector('#variant-0').focus(); true")
	b.tabTo("button[name=remove][value='1']")
	b.press(kb.Enter)
	focus("#variant-1")
	if got := value[string](b, "document.activeElement.value + document.querySelector('#varianttext-0').value + document.querySelector('#varianttext-1').value"); got != "Cfirst wordstoo much" {
		t.Errorf("what is left is %q", got)
	}
	b.shows("#preview", "50 % of those")
	b.tabTo("button[name=remove][value='1']")
	b.press(kb.Enter)
	focus("#add-variant")
	b.press(kb.Enter)
	focus("#variant-1")
	b.tabTo("#varianttext-1")
	b.press("other words")
	b.tabTo(".actions button.primary")
	b.press(kb.Enter)
	b.do(chromedp.WaitVisible("#confirm"))
	b.shows("main", "As of now, this will reach")
	b.shows("main .huge", "3 people")
	focus("#confirm")
	b.press("3", kb.Enter)
	b.do(chromedp.WaitVisible("#by-variant"))
	b.shows(".banner.good", "The plan was accepted")
	b.until("all of it", "[...document.querySelectorAll('#by-variant tbody td[data-label=People]')].reduce((n, td) => n + Number(td.innerText), 0) === 3")
	b.click(".says summary")
	b.shows(".says", "first words")
	b.shows(".says", "other words")
	b.until("figures that come anew", "document.querySelector('.tiles').innerText.includes('Finished')")
	if !value[bool](b, "document.querySelector('.says').open") {
		t.Error("what it says does not stay open")
	}
}

// TestChangePlan plans, changes the plan, and finds it changed; the form of the second one who changes it is not lost.
func TestChangePlan(t *testing.T) {
	b := open(t, desktop)
	plan, err := b.w.p.Plan(context.Background(), fanfare.Plan{
		Message: fanfare.Message{From: "news", Body: []byte(`{"text":"Before"}`), Lifetime: time.Hour, To: fanfare.Users("alice", "bob")}, At: time.Now().AddDate(0, 0, 2).Truncate(time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plan.Cancel(context.Background()) })
	b.visit("plans/" + plan.ID)
	b.click("#change")
	b.do(chromedp.WaitVisible("#to"))
	b.shows("h1", "Change a plan")
	if got := value[string](b, "document.querySelector('#text').value + document.querySelector('#to').value"); got != `Beforeuser in ("alice", "bob")` {
		t.Errorf("the form has %q", got)
	}
	b.fill("#text", "After")
	b.click("input[name=when][value=local]")
	b.click(".actions .primary")
	b.do(chromedp.WaitVisible("#confirm"))
	b.shows("h1", "Change the plan to this?")
	b.shows("#firing", "on each person's wall")
	address := value[string](b, "document.querySelector('form#compose').outerHTML")
	b.fill("#confirm", "2")
	b.click("form .primary")
	b.shows(".banner.good", "The plan is changed.")
	b.shows("main", "on each person's wall")
	i, err := plan.Info(context.Background())
	if err != nil || !i.Local || string(i.Message.Body) != `{"text":"After"}` {
		t.Errorf("%+v, %v", i, err)
	}
	if !strings.Contains(address, plan.ID+"/change") {
		t.Errorf("the form goes to %s", address)
	}
	b.click("#change")
	b.do(chromedp.WaitVisible("#to"))
	b.fill("#text", "Too late")
	b.click(".actions .primary")
	b.do(chromedp.WaitVisible("#confirm"))
	if err := plan.SetPace(context.Background(), 7); err != nil { // somebody else's change
		t.Fatal(err)
	}
	b.fill("#confirm", "2")
	b.click("form .primary")
	b.shows(".banner.bad", "was changed since you opened this form")
	b.click("form button.plain")
	b.do(chromedp.WaitVisible("#to"))
	b.shows("h1", "Compose")
	if got := value[string](b, "document.querySelector('#text').value"); got != "Too late" {
		t.Errorf("the form has %q", got)
	}
}

// places are the screens that there are.
func (w *world) places(t *testing.T) map[string]string {
	t.Helper()
	ctx := context.Background()
	var task *fanfare.Task
	for one, err := range w.p.Tasks(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if one.Info().Category == "offers" && one.Info().Plan == "" {
			task = one
			break
		}
	}
	if task == nil {
		var err error
		task, err = w.p.Push(ctx, fanfare.Message{
			From: "news", Category: "offers", Body: []byte(`{"text":"Two for one, until Sunday."}`), Lifetime: 72 * time.Hour,
			To:           fanfare.Tag("news").And(fanfare.Attr("city", "Shenzhen").Or(fanfare.Attr("city", "Wuhan"))),
			Notification: &fanfare.Notification{Title: "Two for one", Body: "Until Sunday, in all shops."},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := task.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if w.later == "" {
		later, err := w.p.Plan(ctx, fanfare.Plan{
			Message: fanfare.Message{
				From: "news", Body: []byte(`{"text":"Good morning."}`), Lifetime: 6 * time.Hour, To: fanfare.Tag("news"),
				Notification: &fanfare.Notification{Title: "Good morning", Body: "The day in five lines."},
			},
			Every: "0 9 * * 1-5", Zone: "Asia/Shanghai", Until: time.Now().AddDate(1, 0, 0).Truncate(24 * time.Hour), Tolerance: 10 * time.Minute,
			Variants: []fanfare.Variant{{Name: "English"}, {Name: "中文", Language: "zh", Body: []byte(`{"text":"早上好。"}`), Notification: &fanfare.Notification{Title: "早上好", Body: "五行看一天。"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.later = later.ID
		plan, err := w.p.Plan(ctx, fanfare.Plan{
			Message: fanfare.Message{
				From: "news", Category: "offers", Body: []byte(`{"text":"Until Sunday."}`), Lifetime: time.Hour, To: fanfare.Tag("vip"),
				Notification: &fanfare.Notification{Title: "Until Sunday", Body: "Two for one, in all shops.", Sound: "default"},
			},
			Pace: 20, Variants: []fanfare.Variant{{Name: "A"}, {Name: "B", Body: []byte(`{"text":"Only until Sunday!"}`)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for {
			i, err := plan.Info(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if i.Running {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := plan.Pause(ctx); err != nil {
			t.Fatal(err)
		}
		w.paused = plan.ID
		w.compare(t)
		w.recall(t)
	}
	plan, err := w.p.Planned(ctx, w.paused)
	if err != nil {
		t.Fatal(err)
	}
	var part *fanfare.Task // of a variant
	for one, err := range plan.Tasks(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		part = one
	}
	away := "user-000210" // with a phone, not connected
	return map[string]string{
		"overview": "", "compose": "compose", "tasks": "tasks", "task": "tasks/" + task.ID, "withdraw": "tasks/" + task.ID + "/withdraw",
		"users": "users?id=" + away + "&message=" + task.ID, "audit": "audit", "missing": "nowhere",
		"plans": "plans", "plan": "plans/" + plan.ID, "planend": "plans/" + plan.ID + "/end", "part": "tasks/" + part.ID,
		"later": "plans/" + w.later, "change": "plans/" + w.later + "/change", "again": "compose?plan=" + plan.ID,
		"compared": "plans/" + w.compared, "recalled": "tasks/" + w.recalled, "first": "../empty/", "firstform": "../empty/compose",
	}
}

// compare releases a plan with two variants, one of which more people open.
func (w *world) compare(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	plan, err := w.p.Plan(ctx, fanfare.Plan{
		Message:  fanfare.Message{From: "news", Body: []byte(`{"text":"A letter for you."}`), Lifetime: time.Hour, To: fanfare.Attr("tier", "gold").And(fanfare.Sample(4, "letters"))},
		Pace:     max(*people/400, 1), // so that it takes a few seconds
		Variants: []fanfare.Variant{{Name: "calm"}, {Name: "loud", Body: []byte(`{"text":"Your letter is HERE!"}`)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.compared = plan.ID
	looked, read := make(map[string]int), make(map[string]int) // letters, by message and by variant
	for over := false; !over; time.Sleep(200 * time.Millisecond) {
		info, err := plan.Info(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if over = !info.Ended.IsZero(); over {
			if err := plan.Wait(ctx); err != nil {
				t.Fatal(err)
			}
		}
		for task, err := range plan.Tasks(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			variant, every := task.Info().Variant, 3
			if variant == "loud" {
				every = 5
			}
			w.mu.Lock()
			letters := w.letters[task.ID][looked[task.ID]:]
			w.mu.Unlock()
			looked[task.ID] += len(letters)
			for _, user := range letters {
				if read[variant]++; read[variant]%every != 0 {
					continue
				}
				if err := w.p.Opened(ctx, user, task.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// recall withdraws a task, and has something else shown on the phones.
func (w *world) recall(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	task := w.push(t, fanfare.Tag("vip"), `{"text":"We open at noon."}`, &fanfare.Notification{Title: "We open at noon"})
	for _, step := range []func() error{
		func() error { return task.Wait(ctx) },
		func() error { return w.p.Replace(ctx, task.ID, fanfare.Notification{Title: "We open at ten"}) },
		func() error { return task.Wait(ctx) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	w.recalled = task.ID
}

// replace chooses, on a page that withdraws, that another notification is shown.
func (t *tab) replace() {
	t.Helper()
	t.click("input[name=phones][value=replace]")
	t.fill("#title", "Not until Monday")
	t.fill("#body", "We are sorry: the offer begins on Monday.")
	t.shows("#then", "begins on Monday")
}

// TestReplace takes a push back and has another notification in its place, typed with a mistake first, and sees phones being told.
func TestReplace(t *testing.T) {
	b := open(t, desktop)
	task := b.w.push(t, fanfare.Tag("vip"), "Two for one.", &fanfare.Notification{Title: "Two for one", Sound: "default"})
	if err := task.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.visit("tasks/" + task.ID)
	b.click("#withdraw")
	b.shows(".phone", "Two for one")
	b.shows("main", "Notified so far:")
	if value[bool](b, "document.querySelector('#title').checkVisibility()") {
		t.Error("what is shown instead is asked for where nothing is")
	}
	b.click("input[name=phones][value=replace]")
	b.click("form button.danger")
	b.shows("#title-mistake", "A notification needs a title or a text.")
	b.until("the field has the focus", "document.activeElement.id === 'title'")
	b.replace()
	b.click("form button.danger")
	b.shows(".banner.good", "The task was withdrawn")
	b.shows("#progress .state", "Withdrawn")
	b.shows("#progress", "Phones told of the withdrawal")
	b.shows("#progress", "No phone is left to be told.")
	b.until("the end of the stream", "document.querySelector('#progress').dataset.live === 'over'")
	g, err := task.Progress()
	if err != nil || g.Recalls["apns"].Accepted == 0 || g.Recalling {
		t.Errorf("the task is %+v, %v", g, err)
	}
	b.visit("audit")
	b.shows("main", `withdrawn, on phones replaced by "Not until Monday"`)
}

// TestPlanChart: the chart of a plan is drawn, with the lines of its variants, and comes anew with the figures.
func TestPlanChart(t *testing.T) {
	b := open(t, desktop)
	ctx := context.Background()
	plan, err := b.w.p.Plan(ctx, fanfare.Plan{
		Message: fanfare.Message{Body: []byte(`{"text":"a letter"}`), Lifetime: time.Hour, To: fanfare.Users("bob", "user-000003", "user-000004", "user-000005")}, Pace: 1, Variants: []fanfare.Variant{{Name: "first"}, {Name: "second"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.visit("plans/" + plan.ID)
	b.until("a chart", "document.querySelector('#chart canvas') && document.querySelector('#variants-chart canvas')")
	b.shows("#variants-chart-title", "Delivered, by variant")
	b.shows("#variants-chart .u-legend", "first")
	b.shows("#chart .u-legend", "Pending")
	b.until("the tasks of later seconds", "document.querySelectorAll('#plan-tasks tbody tr').length === 4")
	if err := plan.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	for task, err := range plan.Tasks(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"bob", "user-000003", "user-000004", "user-000005"} {
			_ = b.w.p.Opened(ctx, user, task.ID) // of each of them one has it
		}
	}
	b.shows("#variants-chart-title", "Opened, of delivered, by variant")
	if n := value[int](b, "document.querySelectorAll('#variants-chart canvas').length"); n != 1 {
		t.Errorf("there are %d charts of the variants", n)
	}
}

// fillIn fills in the form so that all of it is there to be looked at.
func (t *tab) fillIn() {
	t.Helper()
	t.fill("#to", `tag:news and attr.city in ("Shenzhen", "Wuhan")`)
	t.fill("#text", "Two for one, until Sunday.")
	t.click("#notify")
	t.fill("#title", "Two for one")
	t.fill("#body", "Until Sunday, in all shops.")
	t.click("button[name=add]")
	t.do(chromedp.WaitVisible("#locale-0"))
	t.fill("#locale-0", "zh-Hans")
	t.fill("#localetitle-0", "买一送一")
	t.fill("#localebody-0", "周日前，所有门店。")
	for i, x := range [][4]string{{"A", "", "", ""}, {"B", "", "Two for one!", "Two for one!"}, {"中文", "zh", "买一送一，到周日为止。", "到周日为止"}} {
		t.click("#add-variant")
		name := fmt.Sprintf("#variant-%d", i)
		t.until("the new variant has the focus", fmt.Sprintf("document.activeElement.matches('%s')", name))
		t.fill(name, x[0])
		t.fill(fmt.Sprintf("#variantlanguage-%d", i), x[1])
		t.fill(fmt.Sprintf("#varianttext-%d", i), x[2])
		t.fill(fmt.Sprintf("#varianttitle-%d", i), x[3])
	}
	t.click("input[name=when][value=every]")
	t.fill("#every", "0 9 * * 1-5")
	value[bool](t, "{ const e = document.querySelector('#until'); e.value = '2030-12-24T18:00'; e.dispatchEvent(new Event('input', {bubbles: true})); true }")
	t.fill("#zone", "Asia/Shanghai")
	t.fill("#pace", "5000")
	t.until("all previews", "document.querySelectorAll('#preview .form-preview').length === 4 && document.querySelectorAll('#preview .phone').length === 4 && document.querySelector('#preview').innerText.includes('周日前')")
	t.until("the size", "/\\d/.test(document.querySelector('#audience-size .count')?.innerText ?? '')")
}

// each goes through all screens, the form also filled in, refused, and at its confirmation.
func (t *tab) each(look func(name string)) {
	t.Helper()
	for name, path := range t.w.places(t.T) {
		t.visit(path)
		switch name {
		case "task", "part", "plan", "recalled":
			t.until("a chart", "document.querySelector('#chart canvas')")
		case "compared":
			t.until("the chart of the variants", "document.querySelector('#variants-chart canvas')")
		case "withdraw", "planend":
			look(name)
			t.replace()
			name += "-replace"
		}
		if name == "later" {
			t.click(".says summary")
		}
		look(name)
	}
	t.visit("compose")
	t.click(".actions .primary")
	t.do(chromedp.WaitVisible(".banner.bad"))
	look("refused")
	t.visit("compose?to=" + "tag%3Anews+and+nott")
	look("mistake")
	t.visit("compose")
	t.fillIn()
	look("form")
	t.fill("#to", "attr.")
	t.until("suggestions", "!document.querySelector('#suggestions').hidden")
	look("suggestions")
	t.press(kb.Escape)
	t.fill("#to", `tag:news and attr.city in ("Shenzhen", "Wuhan")`)
	t.click(".actions .primary")
	t.do(chromedp.WaitVisible("#confirm"))
	look("confirm")
}

var looks = map[string]look{
	"en-light": desktop,
	"en-dark":  {width: 1280, height: 900, dark: true, language: "en"},
	"zh-light": {width: 1280, height: 900, language: "zh-CN"},
	"zh-dark":  {width: 1280, height: 900, dark: true, language: "zh-CN"},
	"en-phone": {width: 390, height: 844, language: "en"},
	"zh-phone": {width: 390, height: 844, dark: true, language: "zh-CN"},
}

// TestAccessible has axe look at every screen, in both languages and modes, and on a phone's width, where nothing may be wider than the screen.
func TestAccessible(t *testing.T) {
	axe, err := os.ReadFile("axe/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range looks {
		t.Run(name, func(t *testing.T) {
			b := open(t, l)
			b.each(func(screen string) {
				b.shot(screen + "-" + name)
				if got := value[string](b, "document.documentElement.lang"); got != map[string]string{"en": "en", "zh-CN": "zh-CN"}[l.language] {
					t.Errorf("%s is in %s", screen, got)
				}
				if wide := value[int64](b, "document.documentElement.scrollWidth"); wide > l.width {
					t.Errorf("%s is %d pixels wide on a screen of %d", screen, wide, l.width)
				}
				value[bool](b, string(axe)+"; true")
				found := get(b, chromedp.Evaluate[string](`axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.filter(v => v.impact === 'serious' || v.impact === 'critical')
					.map(v => v.id + ': ' + v.help + ' at ' + v.nodes.map(n => n.target.join(' ') + ' (' + (n.any[0]?.message ?? n.all[0]?.message ?? '') + ')').join(', ')).join('\n'))`, chromedp.EvalAwaitPromise))
				for _, violation := range strings.Split(found, "\n") {
					if violation != "" {
						t.Errorf("%s: %s", screen, violation)
					}
				}
			})
		})
	}
}

// TestDarkMode: the page is dark for who likes it so, and light for others.
func TestDarkMode(t *testing.T) {
	for _, dark := range []bool{false, true} {
		b := open(t, look{width: 1280, height: 900, dark: dark, language: "en"})
		b.visit("")
		paper := value[string](b, "getComputedStyle(document.documentElement).backgroundColor")
		var r, g, bl int
		if _, err := fmt.Sscanf(paper, "rgb(%d, %d, %d)", &r, &g, &bl); err != nil || (r+g+bl < 3*128) != dark {
			t.Errorf("dark is %v, and the paper %s", dark, paper)
		}
	}
}

// TestFocusStays: figures that come by themselves do not take the focus from where somebody is.
func TestFocusStays(t *testing.T) {
	b := open(t, desktop)
	b.w.slow.Store(int64(5 * time.Millisecond))
	task := b.w.push(t, fanfare.All(), "slowly", &fanfare.Notification{Title: "slowly"})
	b.visit("tasks/" + task.ID)
	b.until("figures of phones", "document.querySelector('#progress [role=region]')")
	value[bool](b, "document.querySelector('#progress [role=region]').focus(); true")
	first := b.text("#progress .big")
	b.until("other figures", fmt.Sprintf("document.querySelector('#progress .big').innerText.replace(/\\s+/g, ' ').trim() !== %q", first))
	if !value[bool](b, "document.activeElement.matches('#progress [role=region]')") {
		t.Error("the figures of a task take the focus away")
	}
	b.visit("")
	value[bool](b, "document.querySelector('#figures tbody a').focus(); true")
	value[bool](b, "new MutationObserver(() => window.refreshed = true).observe(document.querySelector('main'), {subtree: true, childList: true, characterData: true, attributes: true}); true")
	b.until("other figures of the overview", "window.refreshed")
	if !value[bool](b, "document.activeElement.matches('#figures tbody a')") {
		t.Error("the figures of the overview take the focus away")
	}
	if err := b.w.p.Withdraw(context.Background(), task.ID); err != nil {
		t.Fatal(err)
	}
}

// TestLanguageSwitch: the switch changes the language, keeps it, and comes back to the page.
func TestLanguageSwitch(t *testing.T) {
	b := open(t, desktop)
	b.visit("users?id=alice")
	b.click("button[name=language]")
	b.until("Chinese", "document.documentElement.lang === 'zh-CN'")
	if at := value[string](b, "location.href"); at != b.w.url+"users?id=alice" {
		t.Errorf("the switch goes to %s", at)
	}
	b.visit("")
	b.shows("h1", "概览")
}

// TestSwitchKeepsDraft: the form and its confirmation are shown in another language with what was typed, and Enter in a field does not switch.
func TestSwitchKeepsDraft(t *testing.T) {
	b := open(t, desktop)
	b.visit("compose")
	b.fill("#to", "user:alice")
	b.fill("#text", "kept")
	b.click("#add-variant")
	b.do(chromedp.WaitVisible("#varianttext-0"))
	b.fill("#varianttext-0", "kept too")
	typed := "document.querySelector('#to').value + document.querySelector('#text').value + document.querySelector('#varianttext-0').value"
	b.click("button[name=language]")
	b.until("Chinese", "document.documentElement.lang === 'zh-CN'")
	if got := value[string](b, typed); got != "user:alicekeptkept too" {
		t.Errorf("what was typed is %q", got)
	}
	b.fill("#from", "news")
	b.press(kb.Enter)
	b.do(chromedp.WaitVisible("#confirm"))
	b.shows("h1", "安排这条消息？")
	b.click("button[name=language]")
	b.shows("h1", "Plan this?")
	b.fill("#confirm", "1")
	b.press(kb.Enter)
	b.shows(".banner.good", "The plan was accepted")
	b.visit("")
	b.shows("h1", "Overview")
}

// TestWithoutScript composes variants, switches the language and plans, where scripts do not run.
func TestWithoutScript(t *testing.T) {
	b := open(t, desktop)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.visit("compose")
	b.fill("#to", "user:alice")
	b.fill("#text", "as it is")
	for i := range 2 {
		b.click("#add-variant")
		b.until("the new variant has the focus", fmt.Sprintf("document.activeElement.matches('#variant-%d')", i))
		b.fill(fmt.Sprintf("#varianttext-%d", i), fmt.Sprintf("words %d", i))
	}
	b.click("button[name=remove][value='0']")
	b.until("the next variant has the focus", "document.activeElement.value === 'B' && !document.querySelector('#variant-1')")
	b.click("button[name=language]")
	b.until("Chinese", "document.documentElement.lang === 'zh-CN'")
	b.click("button[name=language]")
	b.until("English", "document.documentElement.lang === 'en'")
	b.shows("#preview", "words 1")
	b.click(".actions .primary")
	b.do(chromedp.WaitVisible("#confirm"))
	b.fill("#confirm", "1")
	b.click("form .primary")
	b.shows(".banner.good", "The plan was accepted")
	b.shows("#by-variant", "B")
}

// TestViewer sees no way to change anything, and has none.
func TestViewer(t *testing.T) {
	b := open(t, desktop)
	b.visit("")
	call(b, network.SetCookie, network.SetCookieParams{Name: "role", Value: "viewer", URL: b.w.url})
	for _, path := range b.w.places(t) {
		b.visit(path)
		if n := value[int64](b, "document.querySelectorAll('main form[method=post], main a[href*=compose], main a[href$=withdraw]').length"); n > 0 {
			t.Errorf("%s offers an action to a viewer", path)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if got := b.status[b.w.url+"compose"]; got != http.StatusForbidden {
		t.Errorf("the form answers a viewer with %d", got)
	}
}
