package payload

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/fanfare-im/fanfare/transport"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	for locales, cases := range map[string]map[string]string{
		"zh-Hant-TW zh-Hant zh en": {"zh-Hant-TW": "zh-Hant-TW", "zh-Hant-HK": "zh-Hant", "zh-TW": "zh-Hant-TW", "zh-HK": "zh-Hant", "zh-Hans-CN": "zh", "zh": "zh", "en-GB": "en", "de": ""},
		"zh-Hant zh":               {"zh-Hant-TW": "zh-Hant", "zh_TW": "zh-Hant", "zh-CN": "zh", "ZH-hant-tw": "zh-Hant"},
		"zh":                       {"zh-Hant-TW": "zh", "zh-TW": "zh"},
		"zh-TW":                    {"zh-Hant-TW": "zh-TW", "zh-TW": "zh-TW", "zh-Hant-HK": ""},
		"pt-BR pt":                 {"pt-BR": "pt-BR", "pt-PT": "pt", "pt": "pt", "": "", "not a locale": "", "x": ""},
		"sr-Latn":                  {"sr": "", "sr-Latn-RS": "sr-Latn"},
		"iw":                       {"he-IL": "he", "iw": "he"},
	} {
		c := &transport.Content{Title: "title", Locales: make(map[string]transport.Text)}
		var name string
		for rest := locales; rest != ""; {
			n, _ := fmt.Sscan(rest, &name)
			if n == 0 {
				break
			}
			rest = rest[min(len(rest), len(name)+1):]
			c.Locales[name] = transport.Text{Body: name}
		}
		texts, err := NewTexts(c)
		if err != nil {
			t.Fatal(err)
		}
		for locale, want := range cases {
			for range 2 { // the second time it is remembered
				if got := texts.Choose(locale); got != want {
					t.Errorf("of %q %q takes %q, want %q", locales, locale, got, want)
				}
			}
		}
	}
}

func TestChooseRemembersNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	texts, err := NewTexts(&transport.Content{Locales: map[string]transport.Text{"en": {}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * maxChosen {
		if got := texts.Choose(fmt.Sprintf("en-x-a%d", i)); got != "en" {
			t.Fatalf("%q", got)
		}
	}
	n := 0
	texts.chosen.Range(func(any, any) bool { n++; return true })
	if n != maxChosen {
		t.Fatal(n)
	}
}

func TestTextOfALanguage(t *testing.T) {
	t.Parallel()
	texts, err := NewTexts(&transport.Content{Title: "t", Body: "b", Locales: map[string]transport.Text{"de": {Title: "T"}, "fr": {Body: "B"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]transport.Text{"": {Title: "t", Body: "b"}, "de": {Title: "T", Body: "b"}, "fr": {Title: "t", Body: "B"}} {
		if got := texts.Text(name); got != want {
			t.Errorf("%q: %+v", name, got)
		}
	}
	if got := texts.Names(); !slices.Equal(got, []string{"de", "fr", ""}) {
		t.Error(got)
	}
	for _, bad := range []map[string]transport.Text{{"": {}}, {"not a language": {}}, {"he": {}, "iw": {}}} {
		if _, err := NewTexts(&transport.Content{Locales: bad}); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

// TestOverride has the examples of RFC 7396, appendix A, that patch an object.
func TestOverride(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`{"n":12345678901234567890}`, `{"m":1.50}`, `{"m":1.50,"n":12345678901234567890}`},
		{`{"a":1}`, ``, `{"a":1}`},
	} {
		got, err := Override(json.RawMessage(c[0]), json.RawMessage(c[1]))
		if err != nil {
			t.Fatal(c, err)
		}
		if b, _ := json.Marshal(got); string(b) != c[2] {
			t.Errorf("%s with %s is %s", c[0], c[1], b)
		}
	}
	for _, bad := range []string{`1`, `[]`, `null`, `{`, `{} {}`, `"a"`} {
		if got, err := Override(map[string]any{}, json.RawMessage(bad)); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	have, err := Override(json.RawMessage(`{"a":{"b":1,"c":[1]},"d":"x"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for patch, want := range map[string]string{
		`{"a":{"b":2}}`: "", `{"a":{"x":2}}`: "a.x", `{"y":true}`: "y", `{"y":false,"z":0,"w":"","v":[],"u":{},"t":null}`: "", `{"a":{"c":[2]},"d":"y"}`: "", `{"q":{"r":1}}`: "q",
	} {
		if got := Unknown(have, json.RawMessage(patch)); got != want {
			t.Errorf("%s: %q", patch, got)
		}
	}
}

func TestPick(t *testing.T) {
	t.Parallel()
	fields := [][]string{{"a", "b"}, {"a", "c"}, {"d"}}
	for patch, want := range map[string]string{
		`{"a":{"b":1,"x":2},"d":{"e":[3]},"f":4}`: `{"a":{"b":1},"d":{"e":[3]}}`, `{"A":{"B":1,"C":null}}`: `{"A":{"B":1}}`, `{"a":5,"x":1}`: "", `{}`: "", `[1]`: "", ``: "",
	} {
		if got := string(Pick(json.RawMessage(patch), fields...)); got != want {
			t.Errorf("%s: %s, not %s", patch, got, want)
		}
	}
}

// TestCacheMakesOnce: however many ask at a time, a payload is made once for a task and a language.
func TestCacheMakesOnce(t *testing.T) {
	t.Parallel()
	made := make(map[string]int)
	var mu sync.Mutex
	c := Cache[string]{Make: func(m *transport.Message, _ *transport.Content, text transport.Text) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		made[m.ID+text.Title]++
		return m.ID + text.Title, nil
	}}
	content := &transport.Content{Title: "t", Locales: map[string]transport.Text{"de": {Title: "T"}}}
	var all sync.WaitGroup
	for i := range 2000 {
		all.Go(func() {
			n := &transport.Notification{Message: &transport.Message{ID: fmt.Sprint(i % 20)}, Content: content, Device: transport.Device{Locale: []string{"de-AT", "fr", ""}[i%3]}}
			want := n.Message.ID + map[bool]string{true: "T", false: "t"}[i%3 == 0]
			if got, err := c.Get(n); err != nil || got != want {
				t.Error(got, err)
			}
		})
	}
	all.Wait()
	if len(made) != 40 {
		t.Error(len(made))
	}
	for k, n := range made {
		if n != 1 {
			t.Error(k, n)
		}
	}
	for i := range 3 * maxCached {
		if _, err := c.Get(&transport.Notification{Message: &transport.Message{ID: fmt.Sprint("m", i)}, Content: content}); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.tasks) != maxCached || len(c.order) != maxCached {
		t.Error(len(c.tasks), len(c.order))
	}
}

func TestDataKeysThatAreTaken(t *testing.T) {
	t.Parallel()
	for _, key := range []string{MessageKey, LinkKey, ImageKey, "aps", ""} {
		if err := AddData(map[string]any{}, &transport.Content{Data: map[string]string{key: "x"}}, "aps"); err == nil {
			t.Errorf("%q is taken", key)
		}
	}
	to := map[string]any{}
	if err := AddData(to, &transport.Content{Link: "l", Data: map[string]string{"room": "7"}}); err != nil || fmt.Sprint(to) != "map[link:l room:7]" {
		t.Error(to, err)
	}
}
