package console

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/schedule"
	"github.com/fanfare-im/fanfare/transport"
)

func planBench(t *testing.T) *bench {
	return newBenchWith(t, open(t, fanfare.Options{Cron: schedule.Cron, Online: transport.OnlineFunc(func(context.Context, string, *transport.Message) error { return nil })}), Options{})
}

// TestPlan composes a plan, watches it, steers it and ends it.
func TestPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := planBench(t)
		at := time.Now().Add(2 * time.Hour).UTC()
		fields := func() []string {
			return []string{"when", "at", "at", at.Format(clock), "pace", "1", "confirm", "3", "counted", "3"}
		}
		if text := b.post("oscar", "/compose/confirm", with(draftFields("all"), "when", "now", "pace", "1,000")).Body.String(); !strings.Contains(text, "at most 1,000 people a second") {
			t.Error(text)
		}
		w := b.post("oscar", "/compose/confirm", with(draftFields("all"), fields()...))
		if text := w.Body.String(); w.Code != 200 || !strings.Contains(text, "On Saturday, 1 January 2000, 02:00, in the zone UTC.") || !strings.Contains(text, "at most 1 person a second") {
			t.Fatalf("%d: %s", w.Code, text)
		}
		w = b.post("oscar", "/compose/send", with(draftFields("all"), fields()...))
		place := w.Header().Get("Location")
		id := regexp.MustCompile(`plan-[0-9a-f]{16}`).FindString(place)
		if w.Code != http.StatusSeeOther || id == "" {
			t.Fatalf("%d %s: %s", w.Code, place, w.Body)
		}
		if again := b.post("oscar", "/compose/send", with(draftFields("all"), fields()...)).Header().Get("Location"); !strings.Contains(again, id) || !strings.Contains(again, "again") {
			t.Errorf("the same form again leads to %s", again)
		}
		shows := func(path string, words ...string) {
			t.Helper()
			for who, code := range map[string]int{"vera": 200, "oscar": 200} {
				w := b.get(who, path)
				if w.Code != code {
					t.Fatalf("%s for %s: %d", path, who, w.Code)
				}
				for _, word := range words {
					if !strings.Contains(w.Body.String(), word) {
						t.Errorf("%s for %s does not show %q", path, who, word)
					}
				}
			}
		}
		shows("/plans", id, "Waiting", at.Format("2006-01-02 15:04"))
		shows("/plans/"+id+"?notice=planned", "The plan was accepted", "Waiting")
		steer := func(action, notice string, more ...string) {
			t.Helper()
			w := b.post("oscar", "/plans/"+id+"/"+action, with(draftFields("all"), more...))
			if w.Code != http.StatusSeeOther || !strings.HasSuffix(w.Header().Get("Location"), notice) {
				t.Errorf("%s: %d %s", action, w.Code, w.Body)
			}
		}
		steer("pause", "paused")
		shows("/plans/"+id, "Paused")
		time.Sleep(2*time.Hour + time.Second)
		shows("/plans/"+id, "Paused")
		steer("resume", "resumed")
		synctest.Wait()
		shows("/plans/"+id+"/figures", "Running", "Still to be released")
		if strings.Contains(b.get("vera", "/plans/"+id+"/figures").Body.String(), "<html") {
			t.Error("a fragment is a whole page")
		}
		steer("pace", "paced", "pace", "2")
		if w := b.post("oscar", "/plans/"+id+"/pace", with(draftFields("all"), "pace", "fast")); w.Code != http.StatusUnprocessableEntity {
			t.Error(w.Code)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		shows("/plans/"+id, "Finished", "Ended at")
		if w := b.post("oscar", "/plans/"+id+"/pause", nil); w.Code != http.StatusConflict {
			t.Error(w.Code)
		}
		tasks := 0
		for task, err := range b.p.Tasks(t.Context()) {
			if err != nil || task.Info().Plan != id {
				t.Fatal(task, err)
			}
			tasks++
		}
		if tasks != 2 {
			t.Errorf("%d tasks", tasks)
		}
		entries, err := b.audit.List(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		done := ""
		for _, e := range entries {
			if e.Outcome == Done && e.Target == id {
				done = e.Action + " " + done
			}
		}
		if done != "push push pause resume pace " {
			t.Errorf("the audit log has %q", done)
		}
	})
}

// TestPlanEnds: a plan is cancelled, or withdrawn with what it released.
func TestPlanEnds(t *testing.T) {
	for _, withdraw := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := planBench(t)
			planned, err := b.p.Plan(t.Context(), fanfare.Plan{Message: fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour}, Pace: 1})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if text := b.get("oscar", "/plans/"+planned.ID+"/end").Body.String(); !strings.Contains(text, "Cancel and withdraw") {
				t.Error(text)
			}
			fields := draftFields("all")
			if withdraw {
				fields.Set("withdraw", "yes")
			}
			b.post("oscar", "/plans/"+planned.ID+"/end", fields)
			g, err := planned.Progress(t.Context())
			if err != nil || g.Gone != 2 || (g.Withdrawn == 1) != withdraw || (g.Pending == 1) == withdraw {
				t.Errorf("%+v, %v", g, err)
			}
			if text := b.get("vera", "/plans/"+planned.ID).Body.String(); !strings.Contains(text, "Cancelled") {
				t.Error(text)
			}
			want := map[bool]string{true: "ended already", false: "Withdraw what this plan released?"}[withdraw]
			if text := b.get("oscar", "/plans/"+planned.ID+"/end").Body.String(); !strings.Contains(text, want) {
				t.Error(text)
			}
		})
	}
}

// TestPlanForm: what is wrong with the time is told at its field.
func TestPlanForm(t *testing.T) {
	b := planBench(t)
	for _, c := range [][]string{
		{"Say on which day", "when", "at"},
		{"Say on which day", "when", "local", "at", "tomorrow"},
		{"This time is past", "when", "at", "at", "2020-01-01T10:00"},
		{"This time is past", "when", "local", "at", time.Now().UTC().Add(-13 * time.Hour).Format(clock)},
		{"Say when it repeats", "when", "every"},
		{"time zone is not known", "when", "at", "at", "2100-01-01T10:00", "zone", "Mars/Olympus"},
		{"time zone is not known", "when", "at", "at", "2100-01-01T10:00", "zone", "Local"},
		{"a number from 1 on", "pace", "0"},
		{"a number from 1 on", "pace", "many"},
	} {
		w := b.post("oscar", "/compose/confirm", with(draftFields("all"), c[1:]...))
		if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), c[0]) {
			t.Errorf("%q: %d, without %q", c[1:], w.Code, c[0])
		}
	}
	w := b.post("oscar", "/compose/send", with(draftFields("all"), "when", "every", "every", "now and then", "confirm", "3", "counted", "3"))
	if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), "The plan has a mistake") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	w = b.post("oscar", "/compose/send", with(draftFields("all"), "when", "local", "at", "2100-01-01T09:30", "zone", "Asia/Tokyo", "confirm", "3", "counted", "3"))
	id := regexp.MustCompile(`plan-[0-9a-f]{16}`).FindString(w.Header().Get("Location"))
	planned, err := b.p.Planned(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	info, err := planned.Info(t.Context())
	if err != nil || !info.Local || info.At.Format(clock) != "2100-01-01T09:30" || info.Zone != "Asia/Tokyo" {
		t.Errorf("%+v, %v", info, err)
	}
	w = b.post("oscar", "/compose/send", with(draftFields("all"), "key", rand.Text(), "when", "every", "every", "0 9 * * 1-5", "everylocal", "yes", "zone", "Asia/Tokyo", "confirm", "3", "counted", "3"))
	again := regexp.MustCompile(`plan-[0-9a-f]{16}`).FindString(w.Header().Get("Location"))
	if planned, err = b.p.Planned(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if info, err = planned.Info(t.Context()); err != nil || !info.Local || info.Every != "0 9 * * 1-5" {
		t.Errorf("%+v, %v", info, err)
	}
	if text := b.get("vera", "/plans/"+again).Body.String(); !strings.Contains(text, "0 9 * * 1-5 on the clock on each person") {
		t.Error(text)
	}
	w = b.post("oscar", "/compose/confirm", with(draftFields("all"), "when", "every", "every", "0 9 * * 1-5", "everylocal", "yes"))
	if text := w.Body.String(); !strings.Contains(text, "0 9 * * 1-5 on the clock on each person") || !strings.Contains(text, `name="everylocal" value="yes"`) {
		t.Error(text)
	}
	for i := range plansPerPage + 1 {
		if _, err := b.p.Plan(t.Context(), fanfare.Plan{Message: fanfare.Message{Body: []byte(fmt.Sprint(i)), To: fanfare.All()}, At: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	first := b.get("vera", "/plans").Body.String()
	next := regexp.MustCompile(`plans\?before=(plan-[0-9a-f]+)`).FindStringSubmatch(first)
	if strings.Contains(first, id) || next == nil || !strings.Contains(b.get("vera", "/plans?before="+next[1]).Body.String(), id) {
		t.Error("the list does not go on to the oldest plan")
	}
	for _, path := range []string{"/plans/plan-0000000000000999", "/plans/x", "/plans/x/figures", "/plans/x/end"} {
		if w := b.get("oscar", path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
