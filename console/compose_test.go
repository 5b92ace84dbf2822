package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
)

// TestAudience says of a text what it should.
func TestAudience(t *testing.T) {
	b := newBench(t)
	if err := b.p.SetAttributeTypes(t.Context(), map[int]fanfare.AttributeType{5: fanfare.Number(0)}); err != nil {
		t.Fatal(err)
	}
	for text, wants := range map[string][]string{
		"":                               {"Nobody yet."},
		"all":                            {"3 people", "100 %", ">alice</a>, "},
		"tag:vip and not all":            {"0 people"},
		"user:alice":                     {"1 person", "33.3 % of all"},
		"tag:vip and nott":               {"At character 13:", "<code>tag:vip and <mark>n</mark>ott</code>"},
		"tag:":                           {"At character 5:", "<code>tag:<mark>&nbsp;</mark></code>"},
		"标签 or":                          {"At character 1:", "<mark>标</mark>签 or"},
		"attr.nothing = x":               {"names an attribute that there is not"},
		"saved:nothing":                  {"saved audience that there is not"},
		"attr.tier < 3":                  {"cannot be compared"},
		"tag:" + strings.Repeat("x", 60): {"Too large: ", "60"},
		`tag:""`:                         {"Too small: tag in bytes must be at least 1, and this is 0."},
		strings.Repeat("(", 200) + "all": {"Too large"},
		"\xff":                           {"not valid UTF-8"},
		strings.Repeat(`user:"x" or `, 20) + "oops": {"<code>…"},
	} {
		w := b.post("oscar", "/compose/audience", url.Values{"to": {text}})
		for _, want := range wants {
			if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%q is answered without %q: %d %s", text, want, w.Code, w.Body)
			}
		}
	}
}

// TestShare: a part of the users is never all of them, nor none.
func TestShare(t *testing.T) {
	for want, part := range map[string]int64{"100 %": 10_000_000, "> 99.9 %": 9_999_999, "99.9 %": 9_989_999, "33.3 %": 3_333_333, "1.0 %": 100_000, "0.12 %": 12_345, "< 0.01 %": 1} {
		if got := share(part, 10_000_000); got != want {
			t.Errorf("%d are %s, not %s", part, got, want)
		}
	}
}

// TestBeyond: a limit is said as what it is, whichever side of it something is on.
func TestBeyond(t *testing.T) {
	v := &view{lang: languages[0]}
	for want, l := range map[string]fanfare.LimitError{
		"Too small: tag in bytes must be at least 1, and this is 0.":                           {What: "tag in bytes, at least", Limit: 1},
		"Too large: tag in bytes may be at most 50, and this is 1,051.":                        {What: "tag in bytes", Limit: 50, Got: 1051},
		"Too large: lifetime in milliseconds may be at most 3,600,000, and this is 3,600,001.": {What: "lifetime in milliseconds, from 0", Limit: 3_600_000, Got: 3_600_001},
		"Too small: pace in users a second must be at least 0, and this is -1.":                {What: "pace in users a second, from 0", Got: -1},
	} {
		if got := beyond(v, &l); got != want {
			t.Errorf("%+v is %q, not %q", l, got, want)
		}
	}
}

// TestCountIsCancelled: who has gone is not counted for, also when others are being counted for.
func TestCountIsCancelled(t *testing.T) {
	b := newBench(t)
	h := b.h.(*handler)
	for range cap(h.counting) {
		h.counting <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan *httptest.ResponseRecorder)
	r := b.form("oscar", "/compose/audience", url.Values{"to": {"all"}}).WithContext(ctx)
	go func() { answered <- b.call(r) }()
	select {
	case w := <-answered:
		t.Fatalf("it was counted though there was no place: %s", w.Body)
	case <-time.After(20 * time.Millisecond):
	}
	cancel()
	if w := <-answered; w.Code != http.StatusServiceUnavailable {
		t.Errorf("the answer is %d", w.Code)
	}
	if ids := h.sample(t.Context(), fanfare.All()); len(ids) > 0 { // waits for its turn, and not for ever
		t.Errorf("%v were looked for without a place", ids)
	}
	<-h.counting
	if ids := h.sample(t.Context(), fanfare.All()); len(ids) != 3 || len(h.counting) != cap(h.counting)-1 {
		t.Errorf("then %v are found, and %d places are taken", ids, len(h.counting))
	}
	if ids := h.sample(ctx, fanfare.All()); len(ids) > 0 {
		t.Errorf("%v were looked for though nobody waits", ids)
	}
	if n, err := h.count(t.Context(), fanfare.All()); n != 3 || err != nil {
		t.Errorf("then there are %d, %v", n, err)
	}
	if _, err := h.count(ctx, fanfare.All()); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled count is %v", err)
	}
}

// TestComplete offers what may come at the cursor.
func TestComplete(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	if err := errors.Join(
		b.p.SetAttributeNames(ctx, map[int]string{2: "age"}), b.p.SetAttributeTypes(ctx, map[int]fanfare.AttributeType{2: fanfare.Number(0)}),
		b.p.SaveAudience(ctx, "the best", fanfare.Tag("vip")), b.p.AddTags(ctx, "carol", `a "b"`),
	); err != nil {
		t.Fatal(err)
	}
	terms := "all tag: attr. user: platform: language: timezone: saved: seen within registered within registered since sample( not"
	for before, want := range map[string]string{
		"":                                      terms,
		"t":                                     "tag: timezone:",
		"not TA":                                "tag:",
		"(":                                     terms,
		"tag:":                                  `a "b"=1 stock A=1 vip=2`,
		"tag:v":                                 "vip=2",
		`tag:"st`:                               "stock A=1",
		`tag:"a \"`:                             `a "b"=1`,
		"tag:vip ":                              "and or",
		"tag:vip a":                             "and",
		`tag:"vip" `:                            "and or",
		"tag:vip and ":                          terms,
		"attr.":                                 "age home town tier",
		"attr.t":                                "tier",
		"ATTR.h":                                "home town",
		`attr."home`:                            "home town",
		"attr.tier ":                            "= != in ( exists",
		"attr.age ":                             "= != in ( exists < <= > >= between",
		"attr.tier = ":                          "gold=1",
		"attr.tier != g":                        "gold=1",
		`attr."home town" = "Wu`:                "Wuhan=1",
		"attr.tier in (":                        "gold=1",
		"attr.tier in (silver, ":                "gold=1",
		`attr.tier in (silver, "g`:              "gold=1",
		"attr.tier in (gold) ":                  "and or",
		"attr.tier exists ":                     "and or",
		"attr.age between ":                     "",
		"attr.age between 1 ":                   "and",
		"attr.age between 1 and ":               "",
		"attr.age between 1 and 2 ":             "and or",
		"attr.age > -2 ":                        "and or",
		"attr.nothing = ":                       "",
		"user:":                                 "",
		"user in (":                             "",
		"user in (alice, ":                      "",
		"platform:":                             "apns fcm",
		"language:":                             "zh=1 zh-CN=1",
		"timezone:":                             "",
		"saved:":                                "the best",
		"seen ":                                 "within",
		"registered ":                           "within since",
		"seen within ":                          "",
		"seen within 7 ":                        "days",
		"seen within 7 days ":                   "and or",
		"registered since 2026-01-01 ":          "and or",
		"sample(":                               "",
		`"all`:                                  "",
		"all and attr.tier = gold or tag:vip a": "and",
		"\xff":                                  terms,
		strings.Repeat("(", 20<<10):             terms,
	} {
		w := b.post("oscar", "/compose/complete", url.Values{"before": {before}})
		var got completion
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%q: %s: %v", before, w.Body, err)
		}
		var labels []string
		for _, s := range got.Suggestions {
			if s.Count != "" {
				s.Label += "=" + s.Count
			}
			labels = append(labels, s.Label)
		}
		if s := strings.Join(labels, " "); s != want {
			t.Errorf("%.40q offers %q, not %q", before, s, want)
		}
		if len(before) > 100 || before == "\xff" {
			continue
		}
		for _, s := range got.Suggestions { // what is taken is not wrong so far
			text := string([]rune(before)[:min(got.From, len([]rune(before)))]) + s.Insert
			_, err := fanfare.ParseAudience(text)
			if p, is := errors.AsType[*fanfare.ParseError](err); is && p.Offset < len(strings.TrimRight(text, " ")) {
				t.Errorf("%q makes %q: %v", before, text, err)
			}
		}
	}
}

// FuzzCursor: nothing that is typed breaks it.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", `attr."home town" in ("a", "b`, "tag:", "attr.", "seen within 7", "a.b", `"\`, "sample(1%, ", "ſ.", "attr.attr.attr = attr"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if c := cursorOf(text); c.from < 0 || c.from > len(text) {
			t.Errorf("%q: %+v", text, c)
		}
	})
}

// gone is the response of somebody who has gone.
type gone struct{ *httptest.ResponseRecorder }

func (gone) Write([]byte) (int, error) { return 0, errors.New("gone") }

// TestWhoHasGone: who types on leaves answers behind. That is no failure, and not for the log.
func TestWhoHasGone(t *testing.T) {
	var log bytes.Buffer
	b := newBenchWith(t, open(t, fanfare.Options{}), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, path := range []string{"/compose/complete", "/compose/audience", "/compose/preview"} {
		b.h.ServeHTTP(gone{httptest.NewRecorder()}, b.form("oscar", path, url.Values{"before": {"tag:"}, "to": {"all"}}))
	}
	if log.Len() > 0 {
		t.Errorf("the log has %s", &log)
	}
}

// TestSend goes from the form over the confirmation to the task.
func TestSend(t *testing.T) {
	b := newBench(t)
	fields := with(draftFields("tag:vip"), "notify", "yes", "title", "Good evening", "body", "Come by", "sound", "default", "always", "yes", "category", "offers", "from", "shop",
		"locale", "zh", "localetitle", "晚上好", "localebody", "")
	w := b.post("oscar", "/compose/confirm", fields)
	if w.Code != 200 || !strings.Contains(w.Body.String(), "2 people") || !strings.Contains(w.Body.String(), "晚上好") {
		t.Fatalf("the confirmation is %d: %s", w.Code, w.Body)
	}
	// The page's own fields, as a browser sends them.
	sent := url.Values{}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`).FindAllStringSubmatch(w.Body.String()[strings.Index(w.Body.String(), "compose/send"):], -1) {
		if m[1] != "token" {
			sent.Add(m[1], strings.NewReplacer("&#34;", `"`, "&#43;", "+", "&amp;", "&").Replace(m[2]))
		}
	}
	for text, code := range map[string]int{"": 422, "3": 422, "two": 422, "-2": 422} {
		if w := b.post("oscar", "/compose/send", with(sent, "confirm", text)); w.Code != code || !strings.Contains(w.Body.String(), "Nothing was sent.") {
			t.Errorf("with the number %q the answer is %d", text, w.Code)
		}
	}
	w = b.post("oscar", "/compose/send", with(sent, "confirm", " 2 "))
	if w.Code != http.StatusSeeOther || !strings.HasSuffix(w.Header().Get("Location"), "?notice=pushed") {
		t.Fatalf("the answer is %d: %s", w.Code, w.Body)
	}
	id := regexp.MustCompile(`[0-9a-f]{32}`).FindString(w.Header().Get("Location"))
	task, err := b.p.Task(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	info := task.Info()
	if info.To.String() != `tag:"vip"` || info.From != "shop" || info.Category != "offers" || info.Expires.Sub(info.Accepted) != time.Hour {
		t.Errorf("the task is %+v", info)
	}
	for m, err := range b.p.Pending(t.Context(), "bob") {
		if err != nil || string(m.Body) != `{"text":"hello"}` {
			t.Errorf("the body is %s, %v", m.Body, err)
		}
	}
	// Again: the same task, however the audience is now.
	if err := b.p.AddTags(t.Context(), "carol", "vip"); err != nil {
		t.Fatal(err)
	}
	w = b.post("oscar", "/compose/send", with(sent, "confirm", "2"))
	if got := w.Header().Get("Location"); w.Code != http.StatusSeeOther || got != "../tasks/"+id+"?notice=again" {
		t.Errorf("the second answer is %d to %s", w.Code, got)
	}
	// The same form with another content is not a push.
	w = b.post("oscar", "/compose/send", with(sent, "confirm", "2", "text", "other"))
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "with another content") {
		t.Errorf("another content is answered with %d: %s", w.Code, w.Body)
	}
	var actions []string
	entries, _ := b.audit.List(t.Context(), 0, 100)
	for _, e := range entries {
		actions = append(actions, e.Action+" "+string(e.Outcome))
		if e.Who != "oscar" || e.Role != Operator || e.Time.IsZero() || e.ID == "" {
			t.Errorf("an entry is %+v", e)
		}
	}
	if got := strings.Join(actions, ", "); got != "push failed, push begun, push done, push begun, push done, push begun" {
		t.Errorf("the audit log has %s", got)
	}
	if body := b.get("vera", "/audit").Body.String(); strings.Count(body, "<tr>") != 4 || strings.Contains(body, "begun") || !strings.Contains(body, "hello → tag:") {
		t.Errorf("the page of the audit log is %s", body)
	}
}

// TestAudienceGrows: what was confirmed is what is sent, or nearly.
func TestAudienceGrows(t *testing.T) {
	for _, test := range []struct {
		confirmed, now int64
		moved          bool
	}{{2, 2, false}, {2, 3, true}, {2, 1, false}, {1000, 1010, false}, {1000, 1011, true}, {0, 1, true}} {
		if got := moved(test.confirmed, test.now); got != test.moved {
			t.Errorf("from %d to %d is %v", test.confirmed, test.now, got)
		}
	}
	b := newBench(t)
	w := b.post("oscar", "/compose/send", with(draftFields("all"), "confirm", "2", "counted", "2"))
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "it was 2, and is 3 now") || !strings.Contains(w.Body.String(), `name="counted" value="3"`) {
		t.Errorf("an audience that has grown is answered with %d: %s", w.Code, w.Body)
	}
	w = b.post("oscar", "/compose/send", with(draftFields("user:nobody"), "confirm", "0", "counted", "0"))
	if w.Code != http.StatusConflict || strings.Contains(w.Body.String(), "Send to 0") {
		t.Errorf("nobody is answered with %d", w.Code)
	}
	for range b.p.Tasks(t.Context()) {
		t.Error("there is a task")
	}
}

// TestDoubleClick sends one form ten times at once.
func TestDoubleClick(t *testing.T) {
	b := newBench(t)
	var group sync.WaitGroup
	places := make([]string, 10)
	for i := range places {
		r := b.form("oscar", "/compose/send", with(draftFields("all"), "confirm", "3", "counted", "3"))
		group.Go(func() {
			w := httptest.NewRecorder()
			b.h.ServeHTTP(w, r)
			places[i] = regexp.MustCompile(`[0-9a-f]{32}`).FindString(w.Header().Get("Location"))
		})
	}
	group.Wait()
	for _, p := range places {
		if p == "" || p != places[0] {
			t.Errorf("the tasks are %v", places)
		}
	}
}

// TestFormMistakes: what is wrong is said at its field, and all of the form is still there.
func TestFormMistakes(t *testing.T) {
	b := newBench(t)
	for name, test := range map[string]struct {
		change []string
		field  string
		text   string
	}{
		"no audience":           {[]string{"to", " "}, "to", "Say who gets the message."},
		"a wrong audience":      {[]string{"to", "tag"}, "to", "The audience has a mistake"},
		"no text":               {[]string{"text", "\n"}, "text", "Write a message."},
		"no JSON":               {[]string{"format", "json", "text", "{\n \"a\": x}"}, "text", "This is not JSON: 2:7"},
		"another lifetime":      {[]string{"lifetime", "9999h"}, "lifetime", "Choose one of them."},
		"no notification":       {[]string{"notify", "yes"}, "title", "needs a title or a text"},
		"a language of no name": {[]string{"notify", "yes", "title", "x", "locale", "", "localetitle", "y", "localebody", ""}, "locale", "which one it is"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/compose/confirm", "/compose/send"} {
				w := b.post("oscar", path, with(draftFields("all"), append([]string{"category", "kept"}, test.change...)...))
				body := w.Body.String()
				if w.Code != http.StatusUnprocessableEntity || !strings.Contains(body, test.text) || !strings.Contains(body, `href="#`+test.field+`"`) || !strings.Contains(body, `value="kept"`) {
					t.Errorf("%s is answered with %d: %s", path, w.Code, body)
				}
			}
		})
	}
	twice := draftFields("all")
	twice["notify"], twice["title"] = []string{"yes"}, []string{"x"}
	twice["locale"], twice["localetitle"], twice["localebody"] = []string{"zh", "zh"}, []string{"a", "b"}, []string{"", ""}
	if w := b.post("oscar", "/compose/confirm", twice); !strings.Contains(w.Body.String(), "The language zh is there twice.") {
		t.Errorf("a language twice is answered with %d: %s", w.Code, w.Body)
	}
	// What only the library refuses.
	w := b.post("oscar", "/compose/send", with(draftFields("all"), "text", strings.Repeat("x", 13<<10), "confirm", "3", "counted", "3"))
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "Too large") {
		t.Errorf("a long body is answered with %d: %s", w.Code, w.Body)
	}
	w = b.post("oscar", "/compose/send", with(draftFields("all"), "text", "for {{attr.tier}}", "fill", "yes", "confirm", "3", "counted", "3"))
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "The placeholder of the attribute tier has no default, and this many have no such attribute: 2 people.") {
		t.Errorf("an open placeholder is answered with %d: %s", w.Code, w.Body)
	}
}

// TestEdit brings the form back as it was, with one more language if that was asked for.
func TestEdit(t *testing.T) {
	b := newBench(t)
	f := with(draftFields(`attr."home town" = Wuhan`), "add", "language", "text", "<hello>")
	body := b.post("oscar", "/compose", f).Body.String()
	for _, want := range []string{`name="locale"`, `&lt;hello&gt;</textarea>`, `attr.&#34;home town&#34; = Wuhan</textarea>`, `value="` + f.Get("key") + `"`, `id="notify" checked`, "1 person"} {
		if !strings.Contains(body, want) {
			t.Errorf("the form is without %s: %s", want, body)
		}
	}
	body = b.post("oscar", "/compose", with(f, "key", "short", "add", "")).Body.String()
	if strings.Contains(body, `value="short"`) {
		t.Error("a key is taken that is none")
	}
}

// TestTestSend pushes to one user, each time anew.
func TestTestSend(t *testing.T) {
	b := newBench(t)
	for who, text := range map[string]string{
		"": "Say which user gets the test.", "nobody": "There is no such user.", "\xff": "There is no such user.", strings.Repeat("a", 256): "There is no such user.",
	} {
		if w := b.post("oscar", "/compose/test", with(draftFields("all"), "testto", who)); w.Code != 422 || !strings.Contains(w.Body.String(), text) {
			t.Errorf("%q is answered with %d: %s", who, w.Code, w.Body)
		}
	}
	f := with(draftFields(""), "testto", "carol")
	w := b.post("oscar", "/compose/test", f)
	if w.Code != 200 || !strings.Contains(w.Body.String(), "The test was sent to carol.") {
		t.Fatalf("the answer is %d: %s", w.Code, w.Body)
	}
	b.post("oscar", "/compose/test", f) // a second click
	next := regexp.MustCompile(`name="testkey" value="([A-Z2-7]+)"`).FindStringSubmatch(w.Body.String())
	if next == nil || next[1] == f.Get("testkey") {
		t.Fatalf("the next test has the key %v", next)
	}
	b.post("oscar", "/compose/test", with(f, "testkey", next[1]))
	n := 0
	for task, err := range b.p.Tasks(t.Context()) {
		if g, _ := task.Progress(); err != nil || g.Total != 1 || task.Info().To.String() != `user:"carol"` {
			t.Errorf("a test is %+v", task.Info())
		}
		n++
	}
	if n != 2 {
		t.Errorf("there are %d tests", n)
	}
}

// TestEncode: the host says how a text becomes a body, and JSON is sent as it is.
func TestEncode(t *testing.T) {
	b := newBenchWith(t, open(t, fanfare.Options{}), Options{Encode: func(text string) []byte { return []byte("<" + text + ">") }})
	for format, want := range map[string]string{"text": "&lt;[1]&gt;", "json": "[1]"} {
		w := b.post("oscar", "/compose/preview", with(draftFields("all"), "text", "[1]", "format", format))
		if !strings.Contains(w.Body.String(), ">"+want+"</pre>") {
			t.Errorf("the body of %s is in %s", format, w.Body)
		}
	}
}
