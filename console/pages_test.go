package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// TestScreens looks at each screen in both languages.
func TestScreens(t *testing.T) {
	b := newBench(t)
	task := b.push(fanfare.All())
	screens := map[string][2]string{
		"/":                                  {"Tasks running", "进行中的任务"},
		"/figures":                           {"Journal", "预写日志"},
		"/compose":                           {"Review…", "核对…"},
		"/tasks":                             {"Tasks, newest first", "任务，最新的在前"},
		"/tasks?before=0":                    {"There are no older tasks.", "没有更早的任务。"},
		"/tasks/" + task.ID:                  {"0 of 3 have it", "0 / 3 人已收到"},
		"/tasks/" + task.ID + "/withdraw":    {"This cannot be undone.", "此操作不可撤销。"},
		"/users":                             {"Look up", "查询"},
		"/users?id=alice":                    {"Pending messages", "待送达的消息"},
		"/users?id=nobody":                   {"There is no such user.", "没有这个用户。"},
		"/users?id=alice&message=x":          {"There is no such message", "没有这条消息"},
		"/users?id=alice&message=" + task.ID: {"It has not arrived yet", "尚未送达"},
		"/audit":                             {"Nobody has done anything yet.", "还没有人执行过操作。"},
	}
	for path, texts := range screens {
		for i, language := range []string{"en-GB,en;q=0.8", "fr, zh-TW;q=0.7, en;q=0.2"} {
			r := b.request("oscar", http.MethodGet, path, nil)
			r.Header.Set("Accept-Language", language)
			w := b.call(r)
			if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), texts[i]) {
				t.Errorf("%s in %s is %d, without %q: %s", path, language, w.Code, texts[i], w.Body)
			}
			headers(t, w)
		}
	}
	for _, path := range []string{"/nowhere", "/tasks/", "/tasks/none", "/tasks//withdraw", "/../tasks", "//tasks", "/assets/x/console.css", "/assets/", "/compose/"} {
		if w := b.get("oscar", path); w.Code != http.StatusNotFound {
			t.Errorf("%s is answered with %d", path, w.Code)
		}
	}
}

// TestTexts: all that the page says is there in Chinese, and no translation is of nothing.
func TestTexts(t *testing.T) {
	said := map[string]bool{}
	find := func(glob, pattern string) {
		files, err := filepath.Glob(glob)
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(file, "_test.go") || file == "chinese.go" {
				continue
			}
			for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
				var s string
				if err := json.Unmarshal([]byte(`"`+string(m[1])+`"`), &s); err != nil {
					t.Fatalf("%s: %s: %v", file, m[1], err)
				}
				said[s] = true
			}
		}
	}
	const str = `"((?:[^"\\]|\\.)+)"`
	find("templates/*.html", `\.T `+str)
	find("*.go", `\bT\(`+str)
	find("*.go", `say\(`+str)
	find("*.go", `fact\{`+str)
	find("*.go", `statusError\{[^,]+, `+str)
	find("*.go", `status, text = [^,]+, `+str)
	find("*.go", `status, text := [^,]+, `+str)
	find("*.go", `Title: `+str)
	find("*.go", `\btitle(?:, data\.Firing)? :?= `+str)
	find("*.go", `(?:Limit|Limit, "") = `+str)
	find("*.go", `verdict[A-Z]\w* += `+str)
	for _, l := range append(lifetimes, tolerances...) {
		said[l.Text] = true
	}
	for _, text := range notices {
		said[text] = true
	}
	for _, text := range planNotices {
		said[text] = true
	}
	for key := range english {
		said[key] = true
	}
	for _, state := range []string{"Running", "Finished", "Withdrawn", "Expired", "Cancelled", "Missed", "Failed", "Paused", "Waiting"} {
		said[state] = true
	}
	for _, text := range standings {
		said[text] = true
	}
	for text := range said {
		other, ok := chinese[text]
		if !ok {
			t.Errorf("not in Chinese: %q", text)
			continue
		}
		verbs := regexp.MustCompile(`%[sdq]`)
		if a, b := verbs.FindAllString(text, -1), verbs.FindAllString(other, -1); fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%q has %v, and %q has %v", text, a, other, b)
		}
	}
	for text := range chinese {
		if !said[text] {
			t.Errorf("in Chinese, but never said: %q", text)
		}
	}
}

// TestFirstSteps: as long as nobody is known the page says what to do, and where nobody is connected, what that means.
func TestFirstSteps(t *testing.T) {
	p, err := fanfare.Open(t.TempDir(), fanfare.Options{Online: transport.OnlineFunc(func(context.Context, string, *transport.Message) error { return nil })})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	b := newBenchWith(t, p, Options{FirstSteps: "connect <alice>"})
	shows := func(page string, is bool, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if strings.Contains(page, text) != is {
				t.Errorf("%q is there: %v, in %s", text, !is, page)
			}
		}
	}
	for _, path := range []string{"/", "/figures"} {
		shows(b.get("vera", path).Body.String(), true, "Nobody is known yet", "connect &lt;alice&gt;</pre>")
	}
	shows(b.get("oscar", "/").Body.String(), false, "Compose the first push")
	shows(b.get("oscar", "/compose").Body.String(), true, "Nobody is known yet", "Everybody is called:")
	shows(b.post("oscar", "/compose/audience", url.Values{"to": {"all"}}).Body.String(), true, "Nobody fits now. Everybody is called:", "0 people")
	if err := p.Register(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	shows(b.get("oscar", "/").Body.String(), false, "Nobody is known yet")
	shows(b.get("oscar", "/").Body.String(), true, "Compose the first push")
	shows(b.get("oscar", "/compose").Body.String(), false, "Nobody is known yet")
	shows(b.post("oscar", "/compose/confirm", draftFields("all")).Body.String(), true, "It waits for them until they connect")
	shows(b.post("oscar", "/compose/confirm", with(draftFields("all"), "lifetime", "0")).Body.String(), true, "so nobody will get it")
	task := b.push(fanfare.All())
	shows(b.get("vera", "/tasks/"+task.ID).Body.String(), true, "Who is pending is not connected")
	s, err := p.Connect(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	shows(b.post("oscar", "/compose/confirm", draftFields("all")).Body.String(), false, "Nobody is connected now")
}

// TestMounts: wherever the page is mounted, and however, its links and redirects stay within.
func TestMounts(t *testing.T) {
	p := open(t, fanfare.Options{})
	mounts := map[string]struct {
		prefix string
		wrap   func(Options) http.Handler
	}{
		"at the root": {"", func(o Options) http.Handler { return Handler(p, o) }},
		"stripped":    {"/console", func(o Options) http.Handler { return http.StripPrefix("/console", Handler(p, o)) }},
		"stripped deep, with the slash": {"/ä/c/d", func(o Options) http.Handler {
			return http.StripPrefix("/ä/c/d/", Handler(p, o))
		}},
		"by Base": {"/ops/console", func(o Options) http.Handler { o.Base = "/ops/console"; return Handler(p, o) }},
	}
	for name, mount := range mounts {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			done := make(chan struct{})
			defer close(done)
			mux.Handle(mount.prefix+"/", mount.wrap(Options{Identify: byHeader, Done: done}))
			server := httptest.NewServer(mux)
			defer server.Close()
			top := server.URL + (&url.URL{Path: mount.prefix + "/"}).EscapedPath()
			task, err := p.Push(t.Context(), fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			seen, left := map[string]bool{}, []string{top, top + "tasks/" + task.ID + "/withdraw", top + "users?id=alice&message=" + task.ID}
			link := regexp.MustCompile(`(?:href|src|action|hx-get|hx-post|formaction|data-stream|data-complete)="([^"#][^"]*)"`)
			for len(left) > 0 {
				at := left[0]
				left = left[1:]
				if seen[at] {
					continue
				}
				seen[at] = true
				r, _ := http.NewRequest(http.MethodGet, at, nil)
				r.Header.Set("X-Name", "oscar")
				if strings.HasSuffix(at, "/events") {
					continue
				}
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body := readAll(resp)
				if resp.StatusCode != 200 && resp.StatusCode != 405 || !strings.HasPrefix(resp.Request.URL.String(), top) {
					t.Errorf("%s is answered with %d", at, resp.StatusCode)
				}
				if resp.StatusCode == 405 || strings.Contains(at, "assets") {
					continue
				}
				for _, m := range link.FindAllStringSubmatch(body, -1) {
					u, err := resp.Request.URL.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
					if err != nil {
						t.Fatal(err)
					}
					if !strings.HasPrefix(u.String(), top) {
						t.Errorf("%s links to %s", at, u)
						continue
					}
					left = append(left, u.String())
				}
			}
			if len(seen) < 18 {
				t.Errorf("only %d addresses were found: %v", len(seen), seen)
			}
		})
	}

	// A proxy's way to ask for the top of a host.
	r := httptest.NewRequest(http.MethodGet, "http://a.example", nil)
	r.URL.Path = ""
	r.Header.Set("X-Name", "vera")
	w := httptest.NewRecorder()
	Handler(p, Options{Identify: byHeader}).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("the top is answered with %d to %s", w.Code, w.Header().Get("Location"))
	}

	// The mount without its slash leads to it.
	w = httptest.NewRecorder()
	r = httptest.NewRequest(http.MethodGet, "/deep/console", nil)
	http.StripPrefix("/deep/console", Handler(p, Options{Identify: byHeader})).ServeHTTP(w, r)
	if to, _ := r.URL.Parse(w.Header().Get("Location")); w.Code != http.StatusPermanentRedirect || to.Path != "/deep/console/" {
		t.Errorf("the mount is answered with %d to %s", w.Code, to)
	}
}

func readAll(resp *http.Response) string {
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// TestInjection: what people are called, tagged and sent is text on every screen, and nothing else.
func TestInjection(t *testing.T) {
	p := open(t, fanfare.Options{})
	evil := `"><script>alert(1)</script><img src=x onerror=alert(1)>'`
	ctx := t.Context()
	short := `"><b onload=alert(1)>'` // tags are short
	var batch fanfare.Batch
	batch.Register(evil)
	batch.AddTags(evil, short)
	batch.SetAttributes(evil, map[string]string{"tier": short})
	batch.RegisterDevice(evil, fanfare.Device{Platform: "<i>", Token: evil, Topic: evil, Locale: evil, TimeZone: evil})
	if err := errors.Join(p.Apply(ctx, &batch), p.SetAttributeNames(ctx, map[int]string{2: short}), p.SaveAudience(ctx, short, fanfare.All())); err != nil {
		t.Fatal(err)
	}
	b := newBenchWith(t, p, Options{From: evil})
	task, err := p.Push(ctx, fanfare.Message{From: evil, Body: []byte(evil), To: fanfare.Users(evil).Or(fanfare.Tag(short)), Lifetime: time.Hour, Category: short})
	if err != nil {
		t.Fatal(err)
	}
	look := func(what string, w *httptest.ResponseRecorder) {
		t.Helper()
		body := w.Body.String()
		if strings.Contains(w.Header().Get("Content-Type"), "html") {
			for _, raw := range []string{"<script>alert", "<img src=x", "<b onload", "<i>"} {
				if strings.Contains(body, raw) {
					t.Errorf("%s has %s as it came: %s", what, raw, body)
				}
			}
		}
		headers(t, w)
	}
	q := url.QueryEscape(evil)
	for _, path := range []string{"/", "/tasks", "/tasks/" + task.ID, "/tasks/" + task.ID + "/withdraw", "/users?id=" + q + "&message=" + q, "/users?id=" + q + "&message=" + task.ID, "/compose?to=" + q, "/compose?to=" + url.QueryEscape("tag:"+q), "/tasks?before=" + q, "/audit?page=" + q, "/" + q} {
		look(path, b.get("oscar", path))
	}
	fields := func() url.Values {
		f := draftFields(fanfare.Users(evil).String())
		for _, name := range []string{"text", "from", "title", "body", "sound", "link", "image", "collapse", "testto", "locale", "localetitle", "localebody"} {
			f.Set(name, evil)
		}
		return with(f, "notify", "yes", "category", short)
	}
	for _, path := range []string{"/compose", "/compose/audience", "/compose/preview", "/compose/confirm", "/compose/test"} {
		look(path, b.post("oscar", path, fields()))
		look(path, b.post("oscar", path, with(fields(), "to", evil)))
	}
	for _, before := range []string{"tag:", "attr.", "saved:", `attr.tier = `} {
		w := b.post("oscar", "/compose/complete", url.Values{"before": {before}})
		if got := w.Header().Get("Content-Type"); got != "application/json" || !json.Valid(w.Body.Bytes()) || strings.Contains(w.Body.String(), "<") {
			t.Errorf("the completion of %s is %s: %s", before, got, w.Body)
		}
	}
	look("the audit log", b.get("oscar", "/audit"))
}

// TestLanguage: the switch sets the cookie and goes back to where it was, and nowhere else.
func TestLanguage(t *testing.T) {
	b := newBench(t)
	for back, want := range map[string]string{
		"tasks": "./tasks", "users?id=a%2Fb": "./users?id=a%2Fb", "": "./", "tasks/x": "./tasks/x",
		"https://elsewhere.example/": "./", "//elsewhere.example": "./", "/elsewhere": "./", `\\elsewhere.example`: "./", "javascript:alert(1)": "./", "nowhere": "./", "../elsewhere": "./", "tasks/x/events": "./",
	} {
		w := b.post("vera", "/language", url.Values{"language": {"zh-CN"}, "back": {back}})
		if got := w.Header().Get("Location"); w.Code != http.StatusSeeOther || got != want {
			t.Errorf("%q goes to %q with %d", back, got, w.Code)
		}
		if c := w.Result().Cookies(); len(c) != 1 || c[0].Value != "zh-CN" {
			t.Errorf("the cookies are %v", c)
		}
	}
	for header, want := range map[string]string{"": "en", "zh": "zh-CN", "en;q=0.5, zh-Hant-TW": "zh-CN", "de, en-US;q=0.1": "en", "zh;q=0, en": "en", "x;q=y": "en", "ZH-hans": "zh-CN"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Language", header)
		if got := languageOf(r).Tag; got != want {
			t.Errorf("%q is %s", header, got)
		}
	}
}

// TestOverview counts what there is.
func TestOverview(t *testing.T) {
	b := newBench(t)
	s, err := b.p.Connect(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	b.push(fanfare.Users("bob"))
	b.push(fanfare.Users("nobody"))
	body := b.get("vera", "/figures").Body.String()
	for _, want := range []string{"<dt>Users</dt><dd>3</dd>", "<dt>Online now</dt><dd>1</dd>", "<dt>Pushes today</dt><dd>2</dd>", "<dt>Tasks running</dt><dd>1</dd>", "accepted"} {
		if !strings.Contains(body, want) {
			t.Errorf("the overview is without %q: %s", want, body)
		}
	}
	if strings.Contains(b.get("vera", "/").Body.String(), `href="./compose"`) {
		t.Error("a viewer is offered the form")
	}
}

// TestClocks: zones that are not whole hours away, and days that do not begin at midnight.
func TestClocks(t *testing.T) {
	for zone, want := range map[string]string{"UTC": "UTC", "Asia/Shanghai": "CST, UTC+08:00", "America/St_Johns": "NST, UTC-03:30", "Pacific/Marquesas": "-0930, UTC-09:30", "Asia/Kolkata": "IST, UTC+05:30"} {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := zoneText(time.Date(2026, 1, 15, 12, 0, 0, 0, location)); got != want {
			t.Errorf("%s is %q", zone, got)
		}
	}
	if got := zoneText(time.Now().In(time.FixedZone("half", -1800))); got != "half, UTC-00:30" {
		t.Errorf("half an hour is %q", got)
	}
	havana, err := time.LoadLocation("America/Havana")
	if err != nil {
		t.Fatal(err)
	}
	// In Havana, 10 March 2024 began at 1:00, and [time.Date] says of its midnight that it was 23:00 of the day before.
	first := time.Date(2024, 3, 10, 5, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		at   time.Time
		want bool
	}{{first, true}, {first.Add(-time.Second), false}, {first.Add(-30 * time.Minute), false}, {first.Add(22 * time.Hour), true}, {first.Add(23 * time.Hour), false}, {first.AddDate(-1, 0, 0), false}} {
		if got := sameDay(test.at.In(havana), first.Add(9*time.Hour).In(havana)); got != test.want {
			t.Errorf("%s of the same day: %v", test.at.In(havana), got)
		}
	}
}

// TestLongAudience: an audience may be half a megabyte of text, which is too much for a page.
func TestLongAudience(t *testing.T) {
	b := newBench(t)
	ids := make([]string, 2000)
	for i := range ids {
		ids[i] = fmt.Sprintf("%0255d", i)
	}
	task := b.push(fanfare.Tag("vip").Or(fanfare.Users(ids...)))
	for _, path := range []string{"/", "/tasks", "/tasks/" + task.ID, "/tasks/" + task.ID + "/withdraw", "/users?id=carol&message=" + task.ID} {
		w := b.get("oscar", path)
		if n := w.Body.Len(); w.Code != http.StatusOK || n > 50_000 || !strings.Contains(w.Body.String(), "tag:&#34;vip&#34; or user in (&#34;00000") {
			t.Errorf("%s is answered with %d, %d bytes: %.3000s", path, w.Code, n, w.Body)
		}
	}
	plan, err := b.p.Plan(t.Context(), fanfare.Plan{Message: fanfare.Message{Body: []byte("x"), To: task.Info().To, Lifetime: time.Hour}, At: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/plans", "/plans/" + plan.ID, "/plans/" + plan.ID + "/end"} {
		if w := b.get("oscar", path); w.Code != http.StatusOK || w.Body.Len() > 50_000 {
			t.Errorf("%s is answered with %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
	if w := b.post("oscar", "/tasks/"+task.ID+"/withdraw", nil); w.Code != http.StatusSeeOther {
		t.Error(w.Code)
	}
	if n := b.get("vera", "/audit").Body.Len(); n > 50_000 {
		t.Errorf("the audit log has %d bytes", n)
	}
}

// TestTasksPaged goes through the pages of the list.
func TestTasksPaged(t *testing.T) {
	b := newBench(t)
	const n = 2*tasksPerPage + 3
	for range n {
		b.push(fanfare.Users("bob"))
	}
	seen := map[string]bool{}
	path, pages := "/tasks", 0
	for path != "" {
		body := b.get("vera", path).Body.String()
		for _, m := range regexp.MustCompile(`href="\./tasks/([0-9a-f]{32})"`).FindAllStringSubmatch(body, -1) {
			if seen[m[1]] {
				t.Errorf("%s is there twice", m[1])
			}
			seen[m[1]] = true
		}
		pages++
		path = ""
		if m := regexp.MustCompile(`href="\.(/tasks\?before=[0-9a-f]+)"`).FindStringSubmatch(body); m != nil {
			path = m[1]
		}
	}
	if len(seen) != n || pages != 3 {
		t.Errorf("there are %d tasks on %d pages", len(seen), pages)
	}
}

// TestClosed: after the Pusher's end the page says that the server is stopping.
func TestClosed(t *testing.T) {
	b := newBench(t)
	task := b.push(fanfare.All())
	if err := b.p.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/tasks", "/tasks/" + task.ID, "/tasks/" + task.ID + "/events", "/users?id=alice", "/compose?to=all"} {
		if w := b.get("oscar", path); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s is answered with %d", path, w.Code)
		}
	}
}

// TestWhileItCloses asks for everything, many at a time, before, during and after the Pusher's end: each answer is what it was, or that the server is stopping.
func TestWhileItCloses(t *testing.T) {
	var log bytes.Buffer
	b := newBenchWith(t, open(t, fanfare.Options{}), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	task := b.push(fanfare.All())
	plan, err := b.p.Plan(t.Context(), fanfare.Plan{Message: fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour}, At: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	fields := with(draftFields("all"), "testto", "alice", "before", "tag:", "counted", "3", "confirm", "3", "pace", "5", "language", "zh-CN")
	form := b.form("oscar", "/tasks", fields) // its session and token are good for all
	body, err := io.ReadAll(form.Body)
	if err != nil {
		t.Fatal(err)
	}
	// These ask the Pusher for nothing, or for nothing that is needed.
	without := []string{"POST /compose/complete", "POST /compose/preview", "POST /recall/preview", "GET /users", "GET /audit", "POST /language"}
	round := func(ended bool) (refused int) {
		for i := range routes {
			path := strings.NewReplacer("{task}", task.ID, "{plan}", plan.ID).Replace(routes[i].path)
			sent := body
			if strings.HasSuffix(path, "/change") {
				sent = append(slices.Clone(body), "&plan="+plan.ID+"&was=other"...)
			}
			r := b.request("oscar", routes[i].method, path, bytes.NewReader(sent))
			r.Header = form.Header.Clone()
			ctx, cancel := context.WithCancel(t.Context())
			if routes[i].stream {
				ctx, cancel = context.WithTimeout(t.Context(), 5*time.Millisecond)
			}
			w := b.call(r.WithContext(ctx))
			cancel()
			if name := routes[i].method + " " + routes[i].path; ended && (w.Code == http.StatusServiceUnavailable) == slices.Contains(without, name) {
				t.Errorf("after the end %s is answered with %d", name, w.Code)
			}
			switch w.Code {
			case http.StatusOK, http.StatusSeeOther, http.StatusConflict, http.StatusUnprocessableEntity:
			case http.StatusServiceUnavailable:
				refused++
			default:
				t.Errorf("%s %s is answered with %d: %s", routes[i].method, path, w.Code, w.Body)
			}
		}
		return refused
	}
	var asking sync.WaitGroup
	begun, closed := make(chan struct{}, 4), make(chan struct{})
	for range 4 {
		asking.Go(func() {
			if n := round(false); n > 0 {
				t.Errorf("%d are refused before the end", n)
			}
			begun <- struct{}{}
			for {
				round(false)
				select {
				case <-closed:
					round(true)
					return
				default:
				}
			}
		})
	}
	for range 4 {
		<-begun
	}
	if err := b.p.Close(context.Background()); err != nil {
		t.Error(err)
	}
	close(closed)
	asking.Wait()
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the log has %s", &log)
	}
}

// TestPhonesOfATask shows failures by platform and reason.
func TestPhonesOfATask(t *testing.T) {
	p := open(t, fanfare.Options{Mobile: []transport.Mobile{rejecting{}}, Grace: -1})
	b := newBenchWith(t, p, Options{})
	task, err := p.Push(t.Context(), fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour, Notification: &fanfare.Notification{Title: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	body := b.get("vera", "/tasks/"+task.ID).Body.String()
	for _, want := range []string{"Why apns rejected", "BadTopic", `<th scope="row">apns</th>`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page is without %q: %s", want, body)
		}
	}
}

type rejecting struct{}

func (rejecting) Platform() string { return "apns" }

func (rejecting) Send(_ context.Context, batch []transport.Notification) []transport.Result {
	out := make([]transport.Result, len(batch))
	for i := range out {
		out[i] = transport.Result{Outcome: transport.Rejected, Reason: "BadTopic"}
	}
	return out
}

// TestImpossibleIDs: nobody and nothing has an ID that is too long, or no text; that is not a failure of the server.
func TestImpossibleIDs(t *testing.T) {
	b := newBench(t)
	task := b.push(fanfare.All())
	for _, id := range []string{"%FF", "%00", strings.Repeat("a", 300), "..%2F..", "%0D%0Aa", "%E2%80%AE"} {
		for path, want := range map[string]int{
			"/users?id=" + id: http.StatusOK, "/users?id=" + id + "&message=" + task.ID: http.StatusOK, "/users?id=alice&message=" + id: http.StatusOK,
			"/tasks/" + id: http.StatusNotFound, "/tasks/" + id + "/events": http.StatusNotFound, "/plans/" + id: http.StatusNotFound,
			"/tasks?before=" + id: http.StatusOK, "/plans?before=" + id: http.StatusOK, "/audit?page=" + id: http.StatusOK, "/compose?to=" + id: http.StatusOK,
		} {
			w := b.get("oscar", path)
			if w.Code != want {
				t.Errorf("%s is answered with %d", path, w.Code)
			}
			if strings.HasPrefix(path, "/users?id="+id) && !strings.Contains(w.Body.String(), "There is no such user.") {
				t.Errorf("%s says nothing of an unknown user", path)
			}
		}
		for _, path := range []string{"/tasks/" + id + "/withdraw", "/plans/" + id + "/pause", "/plans/" + id + "/end"} {
			if w := b.post("oscar", path, nil); w.Code != http.StatusNotFound {
				t.Errorf("the form for %s is answered with %d", path, w.Code)
			}
		}
	}
}
