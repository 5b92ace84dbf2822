package console

import (
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fanfare-im/fanfare"
)

// withVariants adds variants to a form, each as name, language, weight, text, title and body.
func withVariants(f url.Values, variants ...[6]string) url.Values {
	for i, field := range variantFields {
		f[field.name] = nil
		for _, x := range variants {
			f[field.name] = append(f[field.name], x[i])
		}
	}
	return f
}

// hidden are the fields that a page carries, as a browser sends them back.
func hidden(t *testing.T, page string) url.Values {
	t.Helper()
	begin := strings.Index(page, ` id="compose"`)
	if begin < 0 {
		t.Fatalf("there is no form in %s", page)
	}
	out := url.Values{}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`).FindAllStringSubmatch(page[begin:], -1) {
		if m[1] != "token" {
			out.Add(m[1], strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&#43;", "+", "&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(m[2]))
		}
	}
	return out
}

// planAt is the plan that an answer leads to.
func planAt(t *testing.T, b *bench, place string) (*fanfare.Planned, fanfare.PlanInfo) {
	t.Helper()
	planned, err := b.p.Planned(t.Context(), regexp.MustCompile(`plan-[0-9a-f]{16}`).FindString(place))
	if err != nil {
		t.Fatal(place, err)
	}
	info, err := planned.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return planned, info
}

// TestVariants goes from the form over the confirmation to a plan whose variants are compared, on its page and on those of its tasks.
func TestVariants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := planBench(t)
		fields := withVariants(with(draftFields("all"), "notify", "yes", "title", "Good evening", "body", "Come by", "locale", "fr", "localetitle", "Bonsoir", "localebody", ""),
			[6]string{"A <1>", "", "3", "", "", ""}, [6]string{"B", "", "", "only\r\ntoday", "Now!", ""}, [6]string{"中", "zh", "", "今天", "", "来吧"})
		w := b.post("oscar", "/compose/confirm", fields)
		for _, want := range []string{"As of now, this will reach", "3 people", "At once.", "75 % of those without a variant of their language", "25 % of", "100 % of those of this language", "Nobody gets it as it is"} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("the confirmation does not say %q: %d %s", want, w.Code, w.Body)
			}
		}
		w = b.post("oscar", "/compose/send", with(hidden(t, w.Body.String()), "confirm", "3"))
		planned, info := planAt(t, b, w.Header().Get("Location"))
		base := info.Message.Notification
		want := []fanfare.Variant{{Name: "A <1>", Weight: 3}, {Name: "B", Body: []byte(`{"text":"only\ntoday"}`)}, {Name: "中", Language: "zh", Body: []byte(`{"text":"今天"}`)}}
		if len(info.Variants) != 3 || base.Locales["fr"].Title != "Bonsoir" {
			t.Fatalf("%+v", info.Plan)
		}
		for i, got := range info.Variants {
			if got.Name != want[i].Name || got.Language != want[i].Language || got.Weight != want[i].Weight || string(got.Body) != string(want[i].Body) {
				t.Errorf("%+v, not %+v", got, want[i])
			}
		}
		if n := info.Variants[0].Notification; n != nil {
			t.Errorf("a variant that says nothing of it has the notification %+v", n)
		}
		if n := info.Variants[1].Notification; n == nil || n.Title != "Now!" || n.Body != "Come by" || n.Locales != nil {
			t.Errorf("%+v", n)
		}
		if n := info.Variants[2].Notification; n == nil || n.Title != "Good evening" || n.Body != "来吧" {
			t.Errorf("%+v", n)
		}
		synctest.Wait()
		for _, user := range []string{"alice", "bob", "carol"} {
			if _, err := b.p.Connect(t.Context(), user); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		var opened *fanfare.Task
		for task, err := range planned.Tasks(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if task.Info().Variant == "中" {
				opened = task
			}
		}
		if err := b.p.Opened(t.Context(), "alice", opened.ID); err != nil {
			t.Fatal(err)
		}
		row := regexp.MustCompile(`(?s)<tr[^>]*>\s*<td data-label="Variant">.*?</tr>`)
		tags := regexp.MustCompile(`<[^>]*>|\s+`)
		read := func(path string) []string {
			var out []string
			for _, r := range row.FindAllString(b.get("vera", path).Body.String(), -1) {
				out = append(out, strings.Join(strings.Fields(tags.ReplaceAllString(r, " ")), " "))
			}
			return out
		}
		rows := read("/plans/" + planned.ID)
		if len(rows) != 3 || rows[2] != "中 zh 100 % 1 1 0 1 100 %" {
			t.Errorf("the plan shows %q", rows)
		}
		total := 0
		for _, r := range rows[:2] {
			of := strings.Fields(strings.TrimSuffix(r, " %"))
			n, _ := strconv.Atoi(of[len(of)-5])
			total += n
			if share := of[len(of)-1]; n > 0 && share != "0" || n == 0 && share != "–" {
				t.Errorf("of %d the share is in %q", n, r)
			}
		}
		if total != 2 {
			t.Errorf("the others are %q", rows)
		}
		if rows := read("/tasks/" + opened.ID); len(rows) != 3 || rows[2] != "中 this one zh 100 % 1 1 0 1 100 %" {
			t.Errorf("the task shows %q", rows)
		}
	})
}

// TestVariantRows are added and taken away without a script, all of them with what is in them, and the focus goes where something was done.
func TestVariantRows(t *testing.T) {
	b := newBench(t)
	f := withVariants(draftFields("all"), [6]string{"B", "zh-Hant", "2", "<one>", "two", "three"}, [6]string{"A", "", "", "four", "", ""}, [6]string{"", "", "", "", "", "five"})
	names := func(page string) []string {
		var out []string
		for _, m := range regexp.MustCompile(`name="variant" value="([^"]*)"`).FindAllStringSubmatch(page, -1) {
			out = append(out, m[1])
		}
		return out
	}
	focus := func(page string) string {
		var out []string
		for _, m := range regexp.MustCompile(`id="([^"]+)"[^>]* autofocus`).FindAllStringSubmatch(page, -1) {
			out = append(out, m[1])
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		field, value string
		names        []string
		focus        string
	}{
		{"add", "", []string{"B", "A", ""}, ""},
		{"add", "variant", []string{"B", "A", "", "C"}, "variant-3"},
		{"remove", "0", []string{"A", ""}, "variant-0"},
		{"remove", "2", []string{"B", "A"}, "add-variant"},
		{"remove", "3", []string{"B", "A", ""}, ""},
		{"remove", "-1", []string{"B", "A", ""}, ""},
		{"add", "language", []string{"B", "A", ""}, "locale-0"},
	} {
		all := url.Values{c.field: {c.value}}
		for name, values := range f {
			all[name] = values
		}
		page := b.post("oscar", "/compose", all).Body.String()
		if got := names(page); !slices.Equal(got, c.names) || focus(page) != c.focus {
			t.Errorf("%s %s has %q with the focus on %q, not %q with %q", c.field, c.value, got, focus(page), c.names, c.focus)
		}
		for _, text := range []string{`value="zh-Hant"`, "&lt;one&gt;</textarea>", `value="two"`, ">three</textarea>"} {
			if strings.Contains(page, text) != (c.names[0] == "B") {
				t.Errorf("%s %s is without or with %s", c.field, c.value, text)
			}
		}
	}
	var many [][6]string
	for i := range maxVariants + 1 {
		many = append(many, [6]string{strconv.Itoa(i), "", "", "", "", ""})
	}
	if page := b.post("oscar", "/compose", with(withVariants(draftFields("all"), many[1:]...), "add", "variant")).Body.String(); len(names(page)) != maxVariants || !strings.Contains(page, "at most 20 variants") {
		t.Errorf("there are %d", len(names(page)))
	}
	for _, path := range []string{"/compose/confirm", "/compose/send", "/compose/test"} {
		w := b.post("oscar", path, with(withVariants(draftFields("all"), many...), "counted", "3", "confirm", "3", "testto", "carol"))
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "at most 20 variants") {
			t.Errorf("too many are answered with %d by %s", w.Code, path)
		}
	}
	for range b.p.Plans(t.Context()) {
		t.Error("there is a plan")
	}
}

// TestVariantMistakes are said at their fields, and all of the form is still there.
func TestVariantMistakes(t *testing.T) {
	b := newBench(t)
	good := [6]string{"A", "", "", "kept", "", ""}
	for _, c := range []struct {
		variant     [6]string
		field, text string
	}{
		{[6]string{" ", "", "", "", "", ""}, "variant-1", "Give each variant a name"},
		{good, "variant-1", "There are two variants of the name A."},
		{[6]string{strings.Repeat("漢", 17), "", "", "", "", ""}, "variant-1", "at most 50 bytes"},
		{[6]string{"B", "Chinese, of course", "", "", "", ""}, "variantlanguage-1", "such as zh-Hant"},
		{[6]string{"B", "", "0", "", "", ""}, "variantweight-1", "from 1 to 1,000,000"},
		{[6]string{"B", "", "1000001", "", "", ""}, "variantweight-1", "from 1 to 1,000,000"},
		{[6]string{"B", "", "half", "", "", ""}, "variantweight-1", "from 1 to 1,000,000"},
	} {
		w := b.post("oscar", "/compose/confirm", withVariants(draftFields("all"), good, c.variant))
		body := w.Body.String()
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(body, c.text) || !strings.Contains(body, `href="#`+c.field+`"`) || !strings.Contains(body, `aria-describedby="`+c.field+`-mistake"`) || !strings.Contains(body, ">kept</textarea>") {
			t.Errorf("%q is answered with %d: %s", c.variant, w.Code, body)
		}
	}
	f := with(withVariants(draftFields("all"), [6]string{"A", "", "", `{"a":1}`, "", ""}, [6]string{"B", "", "", "{", "", ""}), "format", "json", "text", "{}")
	if w := b.post("oscar", "/compose/confirm", f); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), `href="#varianttext-1"`) || strings.Contains(w.Body.String(), `href="#varianttext-0"`) {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

// TestVariantPreview shows each variant as an item of a list and as the notification of each language.
func TestVariantPreview(t *testing.T) {
	b := newBench(t)
	f := with(draftFields("all"), "text", "one", "notify", "yes", "title", "Title", "body", "Body")
	f["locale"], f["localetitle"], f["localebody"] = []string{"zh", "zh-Hant", "fr"}, []string{"标题", "標題", "Titre"}, []string{"", "", "Corps"}
	f = withVariants(f, [6]string{"A", "", "", "two", "", ""}, [6]string{"B", "", "", "", "Now", ""}, [6]string{"C", "zh", "", "", "", ""}, [6]string{"D", "zh-Hant-TW", "", "", "", ""})
	page := b.post("oscar", "/compose/preview", f).Body.String()
	forms := strings.Split(page, `<section class="form-preview">`)[1:]
	texts := func(s, class string) string {
		var out []string
		for _, m := range regexp.MustCompile(`class="`+class+`">([^<]*)<`).FindAllStringSubmatch(s, -1) {
			out = append(out, m[1])
		}
		return strings.Join(out, " ")
	}
	want := [][3]string{ // text, titles, bodies
		{"", "", ""}, // as it is nobody gets it
		{"two", "Title Titre 标题 標題", "Body Corps Body Body"},
		{"one", "Now", "Body"},
		{"one", "标题 標題", "Body Body"},
		{"one", "標題", "Body"},
	}
	if len(forms) != len(want) {
		t.Fatalf("there are %d forms: %s", len(forms), page)
	}
	for i, w := range want {
		if got := [3]string{texts(forms[i], "list-text"), texts(forms[i], "note-title"), texts(forms[i], "note-body")}; got != w {
			t.Errorf("form %d is %q, not %q", i, got, w)
		}
	}
	f["variantlanguage"] = []string{"fr", "fr", "zh", "zh-Hant-TW"}
	if forms := strings.Split(b.post("oscar", "/compose/preview", f).Body.String(), `<section class="form-preview">`); texts(forms[1], "list-text") != "one" {
		t.Errorf("those without a variant get %q", forms[1])
	}
	if !strings.Contains(b.post("oscar", "/compose/preview", with(f, "notify", "")).Body.String(), "phones stay silent") {
		t.Error("phones are shown that are not notified")
	}
}

// TestVariantsTested: a user who gets a test gets each variant.
func TestVariantsTested(t *testing.T) {
	b := newBench(t)
	f := with(withVariants(draftFields(""), [6]string{"A", "", "", "", "", ""}, [6]string{"B", "zh", "", "other", "", ""}), "testto", "bob")
	w := b.post("oscar", "/compose/test", f)
	if w.Code != 200 || !strings.Contains(w.Body.String(), "See how it goes (A)") || !strings.Contains(w.Body.String(), "See how it goes (B)") {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	b.post("oscar", "/compose/test", f) // a second click
	var got []string
	for m, err := range b.p.Pending(t.Context(), "bob") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(m.Body))
	}
	if !slices.Equal(got, []string{`{"text":"hello"}`, `{"text":"other"}`}) {
		t.Errorf("bob gets %q", got)
	}
}

// TestShares are told in percent of those of the same language.
func TestShares(t *testing.T) {
	got := shares([]fanfare.Variant{{Weight: 2}, {Language: "zh"}, {}, {Language: "ZH", Weight: 3}, {Weight: 3}})
	if want := []string{"33.3 %", "25 %", "16.7 %", "75 %", "50 %"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	if got := shares([]fanfare.Variant{{Weight: math.MaxInt}, {Weight: math.MaxInt}}); !slices.Equal(got, []string{"50 %", "50 %"}) {
		t.Errorf("of the largest weights that there are: %q", got)
	}
	if r := (&variantRow{Progress: fanfare.Progress{Delivered: 8, Opened: 1}}); r.OpenedShare() != "12.5 %" {
		t.Error(r.OpenedShare())
	}
}
