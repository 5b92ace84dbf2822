package console

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/schedule"
)

// TestRedraft: a plan that was made on the page fills in the form as it was, and the form makes the same plan again.
func TestRedraft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, location := range []string{"UTC", "America/St_Johns"} {
			zone, err := time.LoadLocation(location)
			if err != nil {
				t.Fatal(err)
			}
			b := newBenchWith(t, open(t, fanfare.Options{Cron: schedule.Cron}), Options{Location: zone})
			h := b.h.(*handler)
			v := &view{h: h, lang: languages[0], ctx: t.Context()}
			for name, fields := range map[string]url.Values{
				"at a time":        with(draftFields("all"), "when", "at", "at", "2000-01-03T10:30"),
				"to the second":    with(draftFields("all"), "when", "at", "at", "2000-01-03T10:30:20", "late", "any"),
				"in a zone":        with(draftFields("tag:vip and not user:bob"), "when", "at", "at", "2000-07-03T10:30", "zone", "Asia/Tokyo", "late", "10m"),
				"local":            with(draftFields("all"), "when", "local", "at", "2000-01-03T10:30"),
				"local, in a zone": with(draftFields("all"), "when", "local", "at", "2000-01-03T10:30", "zone", "Asia/Tokyo"),
				"paced":            with(draftFields("all"), "pace", "3", "category", "offers", "from", "shop", "fill", "yes", "lifetime", "0"),
				"repeated":         with(draftFields("all"), "when", "every", "every", "0 9 * * 1-5"),
				"with ends":        with(draftFields("all"), "when", "every", "every", "0 9 * * 1-5", "begin", "2000-02-01T00:00", "until", "2000-03-01T18:00", "zone", "Europe/Lisbon", "late", "6h"),
				"on each clock":    with(draftFields("all"), "when", "every", "every", "0 9 * * 1-5", "everylocal", "yes", "begin", "2000-02-01T00:00", "until", "2000-03-01T18:00"),
				"JSON":             with(draftFields("all"), "format", "json", "text", "{\"a\":\n[1]}", "pace", "1"),
				"notified": with(draftFields("all"), "pace", "1", "notify", "yes", "title", "T", "body", "B\nC", "sound", "s", "link", "l", "image", "i", "collapse", "c", "always", "yes", "urgent", "yes",
					"locale", "zh", "localetitle", "晚上好", "localebody", ""),
				"variants":      withVariants(with(draftFields("all"), "notify", "yes", "title", "T", "body", ""), [6]string{"A", "", "", "", "", ""}, [6]string{"B", "zh-Hant", "3", "other\ntext", "x", "y"}),
				"JSON variants": withVariants(with(draftFields("all"), "format", "json", "text", "{}"), [6]string{"A", "", "", "[1, 2]", "", ""}, [6]string{"B", "", "", "", "", ""}),
			} {
				w := b.post("oscar", "/compose/confirm", fields)
				if w.Code != http.StatusOK {
					t.Fatalf("%s in %s: %d %s", name, location, w.Code, w.Body)
				}
				all := hidden(t, w.Body.String())
				_, info := planAt(t, b, b.post("oscar", "/compose/send", with(maps.Clone(all), "confirm", all.Get("counted"), "key", strings.Repeat("A", 20)+hashed(name))).Header().Get("Location"))
				d, whole := h.redraft(v, &info.Plan)
				got := url.Values{}
				for _, f := range d.Fields() {
					got.Add(f.Name, f.Value)
				}
				for _, other := range []string{"key", "testkey", "counted"} {
					all.Del(other)
					got.Del(other)
				}
				if name != "in a zone" && name != "local, in a zone" && name != "with ends" {
					all.Set("zone", "")
				}
				all.Set("to", info.Message.To.String())
				if !whole || !maps.EqualFunc(all, got, slices.Equal[[]string]) {
					t.Errorf("%s in %s (whole: %v)\nbecomes %v\nnot     %v", name, location, whole, got, all)
				}
			}
		}
	})
}

// hashed makes a part of a key of a name.
func hashed(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r &^ 0x20
		}
		return 'Z'
	}, name)
}

// TestForeignPlan: what the form does not have is not lost by a change on the page: it is refused; and used again, the page says that not all is there.
func TestForeignPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := planBench(t)
		text := []byte(`{"text":"x"}`)
		badge := 1
		for name, plan := range map[string]fanfare.Plan{
			"a body of bytes":   {Message: fanfare.Message{Body: []byte{0xff, 0xfe}}},
			"a badge":           {Message: fanfare.Message{Body: text, Notification: &fanfare.Notification{Title: "x", Badge: &badge}}},
			"a sound of one":    {Message: fanfare.Message{Body: text, Notification: &fanfare.Notification{Title: "x"}}, Variants: []fanfare.Variant{{Name: "A", Notification: &fanfare.Notification{Title: "x", Sound: "s"}}}},
			"milliseconds":      {Message: fanfare.Message{Body: text}, At: time.Now().Add(time.Hour + time.Millisecond)},
			"a carriage return": {Message: fanfare.Message{Body: []byte("{\"text\":\"a\\rb\"}"), Fill: fanfare.FillText}},
		} {
			plan.Message.To, plan.Message.Lifetime = fanfare.All(), 2*time.Hour
			if plan.At.IsZero() {
				plan.At = time.Now().Add(time.Hour)
			}
			planned, err := b.p.Plan(t.Context(), plan)
			if err != nil {
				t.Fatal(name, err)
			}
			if w := b.get("oscar", "/plans/"+planned.ID+"/change"); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "was not made on this page") {
				t.Errorf("%s: %d", name, w.Code)
			}
			if w := b.get("oscar", "/compose?plan="+planned.ID); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Look at each field") {
				t.Errorf("%s: %d", name, w.Code)
			}
			w := b.get("vera", "/plans/"+planned.ID)
			if binary := name == "a body of bytes"; w.Code != http.StatusOK || strings.Contains(w.Body.String(), "2 B that are no text") != binary || strings.Contains(w.Body.String(), "Your message") {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
		// What the form has, though it was made elsewhere, and in other words.
		planned, err := b.p.Plan(t.Context(), fanfare.Plan{Message: fanfare.Message{Body: []byte(`{"text": "x"}`), To: fanfare.All(), Lifetime: 90 * time.Minute}, Every: "@every 90m", Tolerance: 20 * time.Minute, At: time.Now().Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		w := b.get("oscar", "/plans/"+planned.ID+"/change")
		for _, want := range []string{`<option value="1h30m" selected>1h30m</option>`, `<option value="20m" selected>20m</option>`, `value="@every 90m"`, `value="2000-01-01T00:01"`, `value="json" checked`, `value="UTC"`} {
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%d, without %s: %s", w.Code, want, w.Body)
			}
		}
	})
}

// TestChangePlan replaces a plan, with the number of people confirmed, once; and not one that somebody else has changed, or that has fired or ended.
func TestChangePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := planBench(t)
		fields := with(draftFields("tag:vip"), "when", "at", "at", "2000-01-01T02:00", "confirm", "2", "counted", "2")
		_, before := planAt(t, b, b.post("oscar", "/compose/send", fields).Header().Get("Location"))
		path := "/plans/" + before.ID
		if page := b.get("oscar", path).Body.String(); !strings.Contains(page, "Change…") || strings.Contains(page, "Use again…") {
			t.Error(page)
		}
		if page := b.get("vera", path).Body.String(); strings.Contains(page, "Change…") || strings.Contains(page, "Use again…") {
			t.Error("a viewer is offered a change")
		}
		for _, w := range []int{b.get("vera", path+"/change").Code, b.post("vera", path+"/change", fields).Code, b.get("vera", "/compose?plan="+before.ID).Code} {
			if w != http.StatusForbidden {
				t.Errorf("a viewer is answered with %d", w)
			}
		}
		form := b.get("oscar", path+"/change").Body.String()
		for _, want := range []string{"Change a plan", `tag:&#34;vip&#34;</textarea>`, `>hello</textarea>`, `value="2000-01-01T02:00"`, `name="plan" value="` + before.ID + `"`} {
			if !strings.Contains(form, want) {
				t.Errorf("the form is without %s: %s", want, form)
			}
		}
		carried := hidden(t, form)
		changed := with(draftFields("all"), "when", "at", "at", "2000-01-01T03:00", "text", "bye", "key", carried.Get("key"), "plan", carried.Get("plan"), "was", carried.Get("was"))
		w := b.post("oscar", "/compose/confirm", changed)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Change the plan to this?") || !strings.Contains(w.Body.String(), `action="../plans/`+before.ID+`/change"`) || !strings.Contains(w.Body.String(), "03:00") {
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
		sent := hidden(t, w.Body.String())
		change := func(f url.Values, pairs ...string) (int, string) {
			t.Helper()
			w := b.post("oscar", path+"/change", with(maps.Clone(f), pairs...))
			return w.Code, w.Header().Get("Location") + w.Body.String()
		}
		for _, c := range []struct {
			pairs []string
			code  int
			text  string
		}{
			{[]string{"confirm", "2"}, http.StatusUnprocessableEntity, "is not the number"},
			{[]string{"confirm", "2", "counted", "2"}, http.StatusConflict, "it was 2, and is 3 now"},
			{[]string{"confirm", "3", "text", ""}, http.StatusUnprocessableEntity, "Write a message."},
			{[]string{"confirm", "3", "was", "another"}, http.StatusConflict, "was changed since you opened"},
			{[]string{"confirm", "3", "plan", "plan-00000000000000ff"}, http.StatusBadRequest, "could not be read"},
			{[]string{"confirm", "3", "plan", "../x"}, http.StatusBadRequest, "could not be read"},
			{[]string{"confirm", "3"}, http.StatusSeeOther, path[1:] + "?notice=changed"},
			{[]string{"confirm", "3"}, http.StatusSeeOther, path[1:] + "?notice=changed"}, // a second click
		} {
			if code, text := change(sent, c.pairs...); code != c.code || !strings.Contains(text, c.text) {
				t.Errorf("%q: %d, without %q: %s", c.pairs, code, c.text, text)
			}
		}
		_, after := planAt(t, b, before.ID)
		if string(after.Message.Body) != `{"text":"bye"}` || after.Message.To.String() != "all" || after.Message.Key != before.Message.Key || after.At.Sub(before.At) != time.Hour || !after.Next.Equal(after.At) {
			t.Errorf("%+v", after)
		}
		if page := b.get("oscar", path+"?notice=changed").Body.String(); !strings.Contains(page, "The plan is changed.") || !strings.Contains(page, "1 January 2000, 03:00") {
			t.Error(page)
		}
		// Somebody who has opened the form before, and says something else.
		over := func(status string) string {
			t.Helper()
			code, text := change(sent, "confirm", "3", "text", "mine")
			if code != http.StatusConflict || !strings.Contains(text, status) || !strings.Contains(text, `id="there" href="../../`+path[1:]+`"`) || strings.Contains(text, `id="confirm"`) || !strings.Contains(text, "Make a new plan of it") || strings.Contains(text, `name="plan"`) || !strings.Contains(text, `value="mine"`) {
				t.Errorf("%d: %s", code, text)
			}
			return text
		}
		over("The plan was changed since")
		time.Sleep(3*time.Hour - time.Minute)
		if code := b.get("oscar", path+"/change").Code; code != http.StatusOK {
			t.Error(code)
		}
		again := hidden(t, over("The plan was changed since"))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		sent.Set("at", "2000-01-01T05:00")
		over("The plan has ended")
		if w := b.get("oscar", path+"/change"); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "has ended already") {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
		if page := b.get("oscar", path).Body.String(); strings.Contains(page, "Change…") || !strings.Contains(page, "Use again…") {
			t.Error(page)
		}
		if page := b.get("oscar", "/compose?plan="+before.ID).Body.String(); !strings.Contains(page, ">bye</textarea>") || strings.Contains(page, `name="plan"`) || strings.Contains(page, carried.Get("key")) {
			t.Error(page)
		}
		_, another := planAt(t, b, b.post("oscar", "/compose/send", with(again, "at", "2000-01-01T05:00", "confirm", "3", "counted", "3")).Header().Get("Location"))
		if another.ID == before.ID || string(another.Message.Body) != `{"text":"mine"}` {
			t.Errorf("%+v", another)
		}

		// One that has fired, and goes on.
		repeated, err := b.p.Plan(t.Context(), fanfare.Plan{Message: fanfare.Message{Body: []byte(`{"text":"x"}`), To: fanfare.All(), Lifetime: time.Hour}, At: time.Now().Add(time.Minute), Every: "@every 1h"})
		if err != nil {
			t.Fatal(err)
		}
		path = "/plans/" + repeated.ID
		form = b.get("oscar", path+"/change").Body.String()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		sent = with(draftFields("all"), "plan", repeated.ID, "was", hidden(t, form).Get("was"), "counted", "3", "when", "every", "every", "@every 2h")
		if w := b.get("oscar", path+"/change"); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "has fired already") {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
		over("The plan has fired")

		entries, err := b.audit.List(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var done []string
		for _, e := range entries {
			if e.Action == "change" && e.Outcome != Begun {
				done = append(done, e.Who+" "+string(e.Outcome)+" "+strings.TrimPrefix(e.Target, "plan-"))
			}
		}
		slices.Reverse(done)
		id, second := strings.TrimPrefix(before.ID, "plan-"), strings.TrimPrefix(repeated.ID, "plan-")
		want := []string{"vera refused " + id, "oscar failed " + id, "oscar done " + id, "oscar failed " + id, "oscar failed " + id, "oscar failed " + id, "oscar failed " + second}
		if !slices.Equal(done, want) {
			t.Errorf("the audit log has\n%q, not\n%q", done, want)
		}
	})
}

// TestPlanSentTwice: a form that was sent before leads to its plan, also when its audience has grown or its time has come; with another content it says where it is.
func TestPlanSentTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := planBench(t)
		fields := with(draftFields("all"), "when", "at", "at", "2000-01-01T02:00", "confirm", "3", "counted", "3")
		place := b.post("oscar", "/compose/send", fields).Header().Get("Location")
		_, info := planAt(t, b, place)
		again := func() {
			t.Helper()
			if w := b.post("oscar", "/compose/send", fields); w.Code != http.StatusSeeOther || !strings.HasSuffix(w.Header().Get("Location"), info.ID+"?notice=again") {
				t.Errorf("the same form is answered with %d: %s%s", w.Code, w.Header().Get("Location"), w.Body)
			}
		}
		again()
		if err := b.p.Register(t.Context(), "dave", "erin"); err != nil {
			t.Fatal(err)
		}
		again()
		if w := b.post("oscar", "/compose/confirm", fields); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `id="there" href="../plans/`+info.ID) {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
		for _, other := range [][]string{{"text", "other"}, {"when", "now"}} {
			w := b.post("oscar", "/compose/send", with(maps.Clone(fields), other...))
			if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "with another content") || !strings.Contains(w.Body.String(), `id="there" href="../plans/`+info.ID) {
				t.Errorf("%q is answered with %d: %s", other, w.Code, w.Body)
			}
		}
		time.Sleep(3 * time.Hour)
		again()

		// The other way round.
		now := with(draftFields("all"), "key", strings.Repeat("C", 26), "confirm", "5", "counted", "5")
		task := regexp.MustCompile(`[0-9a-f]{32}`).FindString(b.post("oscar", "/compose/send", now).Header().Get("Location"))
		w := b.post("oscar", "/compose/send", with(now, "pace", "1"))
		if w.Code != http.StatusUnprocessableEntity || task == "" || !strings.Contains(w.Body.String(), `id="there" href="../tasks/`+task) {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
		n := 0
		for range b.p.Plans(t.Context()) {
			n++
		}
		if n != 1 {
			t.Errorf("there are %d plans", n)
		}
	})
}

// TestSwitchKeepsDraft: the form and its confirmation come in another language with all that was filled in.
func TestSwitchKeepsDraft(t *testing.T) {
	b := newBench(t)
	f := with(withVariants(draftFields("tag:vip"), [6]string{"A", "", "", "kept too", "", ""}), "text", "kept", "language", "zh-CN")
	for path, want := range map[string][]string{
		"/compose":         {`lang="zh-CN"`, "tag:vip</textarea>", ">kept</textarea>", ">kept too</textarea>", `formaction="./compose"`, `value="en"`},
		"/compose/confirm": {`lang="zh-CN"`, `name="text" value="kept"`, `name="varianttext" value="kept too"`, `formaction="../compose/confirm"`, `value="en"`},
	} {
		w := b.post("oscar", path, f)
		for _, text := range want {
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), text) {
				t.Errorf("%s is %d without %s: %s", path, w.Code, text, w.Body)
			}
		}
		kept := false
		for _, c := range w.Result().Cookies() {
			kept = kept || c.Name == languageCookie && c.Value == "zh-CN"
		}
		if !kept {
			t.Errorf("%s does not keep the language", path)
		}
	}
	if w := b.post("oscar", "/compose", with(f, "language", "tlh")); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `<html lang="en">`) || !strings.Contains(w.Body.String(), ">kept</textarea>") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	// The key Enter presses the first button of a form, wherever on the page it is: not that of the language.
	for _, page := range []string{b.get("oscar", "/compose").Body.String(), b.post("oscar", "/compose/confirm", draftFields("all")).Body.String()} {
		first := regexp.MustCompile(`<button[^>]*form="compose"[^>]*>`).FindString(page)
		if !strings.Contains(first, "hidden-submit") || strings.Contains(first, "formaction") {
			t.Errorf("the first button is %s", first)
		}
	}
	for range b.p.Tasks(t.Context()) {
		t.Error("there is a task")
	}
}
