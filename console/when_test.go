package console

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/schedule"
)

// TestFiring: the confirmation and the plan's page say in words when it fires, in its zone and in that of the page.
func TestFiring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shanghai, err := time.LoadLocation("Asia/Shanghai")
		if err != nil {
			t.Fatal(err)
		}
		b := newBenchWith(t, open(t, fanfare.Options{Cron: schedule.Cron}), Options{Location: shanghai})
		usual := " At most 1 hour late, if the server was down or the plan paused."
		for i, c := range []struct{ english, chinese, fields string }{
			{"On Monday, 3 January 2000, 10:30, in the zone CST, UTC+08:00." + usual, "2000年1月3日（星期一）10:30，时区 CST, UTC+08:00。 若服务器停机或计划暂停，最多晚 1 小时发送。", "when=at at=2000-01-03T10:30"},
			{"On Tuesday, 4 July 2000, 10:30, in the zone Europe/Lisbon. Here that is Tuesday, 4 July 2000, 17:30, CST, UTC+08:00. At most 10 minutes late, if the server was down or the plan paused.",
				"时区 Europe/Lisbon。 即此处的 2000年7月4日（星期二）17:30", "when=at at=2000-07-04T10:30 zone=Europe/Lisbon late=10m"},
			{"When the clock on each person's wall shows Monday, 3 January 2000, 10:30. Who is in no zone that is known goes by Asia/Tokyo." + usual, "当每个人当地的时钟显示 2000年1月3日（星期一）10:30 时", "when=local at=2000-01-03T10:30 zone=Asia/Tokyo"},
			{"Again and again, by @daily, in the zone Asia/Shanghai. Next: Sunday, 2 January 2000, 00:00; Monday, 3 January 2000, 00:00; Tuesday, 4 January 2000, 00:00. Without an end, until it is cancelled. However late",
				"按 @daily 重复", "when=every every=@daily late=any"},
			{"Again and again, by @hourly, in the zone UTC. From Monday, 3 January 2000, 10:30 on. Next: Monday, 3 January 2000, 11:00; Monday, 3 January 2000, 12:00. Until Monday, 3 January 2000, 12:30. At most 1 day late",
				"至 2000年1月3日（星期一）12:30 为止。", "when=every every=@hourly begin=2000-01-03T10:30 until=2000-01-03T12:30 zone=UTC late=24h"},
			{"Again and again, by 0 9 * * 1-5 on the clock on each person's wall. Who is in no zone that is known goes by Asia/Tokyo. From Monday, 3 January 2000, 10:30 on. " +
				"Next: Tuesday, 4 January 2000, 09:00; Wednesday, 5 January 2000, 09:00. Until Wednesday, 5 January 2000, 12:30." + usual,
				"按每个人当地的时钟，依 0 9 * * 1-5 重复。", "when=every every=0+9+*+*+1-5 everylocal=yes begin=2000-01-03T10:30 until=2000-01-05T12:30 zone=Asia/Tokyo"},
			{"At once.", "立即。", "when=now pace=1"},
		} {
			f := with(draftFields("all"), "key", strings.Repeat("A", 25)+string(rune('A'+i)), "counted", "3", "confirm", "3")
			for pair := range strings.FieldsSeq(c.fields) {
				name, value, _ := strings.Cut(pair, "=")
				f.Set(name, strings.ReplaceAll(value, "+", " "))
			}
			words := func(page string) string {
				return strings.Join(strings.Fields(strings.NewReplacer("<p>", " ", "</p>", " ", "&#39;", "'", "&#43;", "+").Replace(page)), " ")
			}
			w := b.post("oscar", "/compose/confirm", f)
			if w.Code != http.StatusOK || !strings.Contains(words(w.Body.String()), c.english) {
				t.Errorf("%s is %d without %q: %s", c.fields, w.Code, c.english, words(w.Body.String()))
			}
			if w := b.post("oscar", "/compose/confirm", with(f, "language", "zh-CN")); !strings.Contains(words(w.Body.String()), c.chinese) {
				t.Errorf("%s is without %q: %s", c.fields, c.chinese, words(w.Body.String()))
			}
			_, info := planAt(t, b, b.post("oscar", "/compose/send", f).Header().Get("Location"))
			said := c.english
			if before, behind, found := strings.Cut(said, "Next: "); found { // that is told apart there
				_, behind, _ = strings.Cut(behind, ". ")
				said = before + behind
			}
			if page := words(b.get("vera", "/plans/"+info.ID).Body.String()); !strings.Contains(page, said) {
				t.Errorf("the plan of %s is without %q: %s", c.fields, said, page)
			}
		}
	})
}

// TestTimeMistakes are said at their fields before anything is asked to be confirmed.
func TestTimeMistakes(t *testing.T) {
	b := planBench(t)
	for _, c := range [][]string{
		{"every", "The plan has a mistake", "when", "every", "every", "now and then"},
		{"begin", "Say on which day", "when", "every", "every", "@daily", "begin", "soon"},
		{"until", "Say on which day", "when", "every", "every", "@daily", "until", "later"},
		{"until", "This time is past", "when", "every", "every", "@daily", "until", "2020-01-01T10:00"},
		{"until", "It would never be sent", "when", "every", "every", "@daily", "begin", "2100-01-01T10:00", "until", "2100-01-01T12:00"},
		{"until", "This time is past", "when", "every", "every", "@daily", "everylocal", "yes", "until", "2020-01-01T10:00"},
		{"every", "The plan has a mistake", "when", "every", "every", "* * * * *", "everylocal", "yes"},
		{"late", "Choose one of them", "when", "every", "every", "@daily", "late", "0s"},
		{"late", "Choose one of them", "when", "every", "every", "@daily", "late", "a while"},
	} {
		w := b.post("oscar", "/compose/confirm", with(draftFields("all"), c[2:]...))
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), c[1]) || !strings.Contains(w.Body.String(), `href="#`+c[0]+`"`) {
			t.Errorf("%q: %d: %s", c, w.Code, w.Body)
		}
	}
	early := with(draftFields("all"), "when", "local", "at", time.Now().UTC().Add(-11*time.Hour).Format(clock)) // which it is not yet in the west
	if w := b.post("oscar", "/compose/confirm", early); w.Code != http.StatusOK {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	without := newBenchWith(t, open(t, fanfare.Options{}), Options{})
	if w := without.post("oscar", "/compose/confirm", with(draftFields("all"), "when", "every", "every", "@daily")); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "repeats nothing") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	for _, name := range []string{"", "Asia/Tokyo"} { // a name that is another zone's
		wrong := newBenchWith(t, open(t, fanfare.Options{Cron: schedule.Cron}), Options{Location: time.FixedZone(name, 3600)})
		if w := wrong.post("oscar", "/compose/confirm", with(draftFields("all"), "when", "every", "every", "@daily")); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "has no name") {
			t.Errorf("%q: %d", name, w.Code)
		}
	}
	here := newBenchWith(t, open(t, fanfare.Options{Cron: schedule.Cron}), Options{Location: time.Local}) // whose name is another zone's elsewhere
	for when, code := range map[string]int{"every": http.StatusUnprocessableEntity, "local": http.StatusUnprocessableEntity, "at": http.StatusOK} {
		w := here.post("oscar", "/compose/confirm", with(draftFields("all"), "when", when, "every", "@daily", "at", "2100-01-01T10:00"))
		if w.Code != code || strings.Contains(w.Body.String(), "has no name") != (code != http.StatusOK) {
			t.Errorf("%s in the zone of the machine: %d: %s", when, w.Code, w.Body)
		}
	}
	nameless := newBenchWith(t, open(t, fanfare.Options{Cron: schedule.Cron}), Options{Location: time.FixedZone("here", 3600)})
	for when, code := range map[string]int{"every": http.StatusUnprocessableEntity, "at": http.StatusOK} {
		if w := nameless.post("oscar", "/compose/confirm", with(draftFields("all"), "when", when, "every", "@daily", "at", "2100-01-01T10:00")); w.Code != code {
			t.Errorf("%s in a zone without a name: %d: %s", when, w.Code, w.Body)
		}
	}
}
