package rest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

const hi = `"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]`

// TestSched: a planned push goes out at its time, to those whom it is for then, with that time in it; until then it can be changed and taken back, and after it not.
func TestSched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := new(transporttest.Recorder)
		dir := t.TempDir()
		s := newScene(t, dir, Options{}, fanfare.Options{Online: rec})
		s.want("im_open_login_svc/multiaccount_import", `{"Accounts":["u1","u2","u3"]}`, 0, `{"FailAccounts":[]}`)
		s.connect("u1", "u2", "u3")
		at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(schedTime) }
		add := func(kind, content, when string) string {
			t.Helper()
			out := s.call("timpush/add_sched_task", fmt.Sprintf(`{"Type":%q,"SchedAt":%q,"Content":{%s}}`, kind, when, content))
			id, _ := out["TaskId"].(string)
			if id == "" {
				t.Fatal(out)
			}
			return id
		}
		status := func(id string) string {
			t.Helper()
			return fmt.Sprint(s.call("timpush/get_sched_task", `{"TaskId":"`+id+`"}`)["Task"].(map[string]any)["Status"])
		}
		got := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var have []string
			for _, id := range []string{"u1", "u2", "u3"} {
				for range rec.Received(id) {
					have = append(have, id)
				}
			}
			if !slices.Equal(have, want) {
				t.Errorf("%v have it, want %v", have, want)
			}
		}
		due := time.Now().Add(time.Hour)
		all := add("All", hi+`,"MsgRandom":7`, at(time.Hour))
		if again := add("All", hi+`,"MsgRandom":7`, at(time.Hour)); again != all {
			t.Errorf("a retry is %s, not %s", again, all)
		}
		tag := add("Tag", hi+`,"Condition":{"TagsOr":["a"]}`, at(2*time.Hour))
		user := add("User", hi+`,"To_Account":["u3","nobody"]`, at(3*time.Hour))
		gone := add("All", hi, at(time.Hour))
		s.want("timpush/delete_sched_task", `{"TaskId":"`+gone+`"}`, 0, "")
		s.want("timpush/delete_sched_task", `{"TaskId":"`+gone+`"}`, 90050, "")
		s.want("timpush/modify_sched_task", `{"TaskId":"`+gone+`","SchedAt":"`+at(time.Hour)+`"}`, 90050, "")
		s.want(pushes+"add_tag", `{"To_Account":"u2","Tags":["a"]}`, 0, "")
		if status(all) != "Waiting" || status(gone) != "Deleted" {
			t.Error(status(all), status(gone))
		}
		s.close() // over the end of the process
		rec = new(transporttest.Recorder)
		s = newScene(t, dir, Options{}, fanfare.Options{Online: rec})
		s.connect("u1", "u2", "u3")
		got()
		time.Sleep(time.Hour + time.Second)
		got("u1", "u2", "u3")
		var body struct{ MsgTime, MsgRandom int64 }
		if err := json.Unmarshal(rec.Received("u1")[0].Body, &body); err != nil || body.MsgTime != due.Unix() || body.MsgRandom != 7 {
			t.Errorf("%+v, %v", body, err)
		}
		if status(all) != "Finished" {
			t.Error(status(all))
		}
		for _, c := range []string{"modify", "delete"} {
			s.want("timpush/"+c+"_sched_task", `{"TaskId":"`+all+`","SchedAt":"`+at(time.Hour)+`"}`, 90052, "")
		}
		s.want("timpush/modify_sched_task", `{"TaskId":"`+tag+`","SchedAt":"`+at(10*time.Hour)+`"}`, 0, "")
		s.want("timpush/modify_sched_task", `{"TaskId":"`+user+`","Type":"User","Content":{`+hi+`,"To_Account":"u1"}}`, 0, "")
		time.Sleep(2*time.Hour + time.Second)
		got("u1", "u1", "u2", "u3")
		time.Sleep(8 * time.Hour)
		got("u1", "u1", "u2", "u2", "u3")
		task := s.call("timpush/get_sched_task", `{"TaskId":"`+tag+`"}`)["Task"].(map[string]any)
		made := task["PushTaskIds"].([]any)
		if len(made) != 1 || task["Condition"] != `tag:"a"` {
			t.Fatal(task)
		}
		if out := s.call("timpush/all_member_push_statistics", fmt.Sprintf(`{"TaskID":[%q]}`, made[0])); !strings.Contains(fmt.Sprint(out), "DeliveredCount:1") {
			t.Error(out)
		}
		var listed []string
		for next := ""; ; {
			out := s.call("timpush/list_sched_task", `{"Limit":3,"Next":"`+next+`"}`)
			for _, x := range out["Tasks"].([]any) {
				listed = append(listed, fmt.Sprint(x.(map[string]any)["TaskId"]))
			}
			if next, _ = out["Next"].(string); next == "" {
				break
			}
		}
		if !slices.Equal(listed, []string{gone, user, tag, all}) {
			t.Error(listed)
		}
	})
}

// TestSchedReasons: what is refused, and why.
func TestSchedReasons(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	const later = `"SchedAt":"2100-01-01 00:00:00"`
	s.call("timpush/add_sched_task", `{"Type":"All",`+later+`,"Content":{`+hi+`,"MsgRandom":7}}`)
	for _, c := range []struct {
		command, body string
		code          int
		says          string
	}{
		{"add", `{"Type":"All","Content":{` + hi + `}}`, 90001, "SchedAt is nothing"},
		{"add", `{"Type":"All","SchedAt":"soon","Content":{` + hi + `}}`, 90001, `"soon"`},
		{"add", `{"Type":"All","SchedAt":1,"Content":{` + hi + `}}`, 90001, "SchedAt is 1"},
		{"add", `{"Type":"All","SchedAt":"2020-01-01 00:00:00","Content":{` + hi + `}}`, 90001, "past"},
		{"add", `{"Type":"All",` + later + `}`, 90001, "Content is nothing"},
		{"add", `{` + later + `,"Content":{` + hi + `}}`, 90001, "Type is nothing"},
		{"add", `{"Type":"Some",` + later + `,"Content":{` + hi + `}}`, 90001, "Some"},
		{"add", `{"Type":"Tag",` + later + `,"Content":{` + hi + `}}`, 90001, "no Condition"},
		{"add", `{"Type":"All",` + later + `,"Content":{` + hi + `,"Condition":{"TagsOr":["a"]}}}`, 90001, "Type is All"},
		{"add", `{"Type":"User",` + later + `,"Content":{` + hi + `}}`, 90001, "To_Account"},
		{"add", `{"Type":"User",` + later + `,"Content":{` + hi + `,"To_Account":[` + strings.Repeat(`"u",`, 500) + `"u"]}}`, 90018, "501"},
		{"add", `{"Type":"All",` + later + `,"Content":{"MsgBody":{}}}`, 90007, "MsgBody"},
		{"add", `{"Type":"All",` + later + `,"Content":{` + hi + `,"MsgRandom":"x"}}`, 90005, "MsgRandom"},
		{"add", `{"Type":"All",` + later + `,"Content":{` + hi + `,"MsgLifeTime":-1}}`, 90026, "MsgLifeTime"},
		{"add", `{"Type":"Tag",` + later + `,"Content":{` + hi + `,"Condition":{"AttrsOr":{"none":"1"}}}}`, 90033, "none"},
		{"add", `{"Type":"All","SchedAt":"2100-01-02 00:00:00","Content":{` + hi + `,"MsgRandom":7}}`, 90001, "another content"},
		{"modify", `{"TaskId":"x",` + later + `}`, 90049, "TaskId"},
		{"modify", `{` + later + `}`, 90001, "TaskId"},
		{"modify", `{"TaskId":"plan-0000000000000001"}`, 90001, "neither"},
		{"modify", `{"TaskId":"plan-0000000000000001","SchedAt":"2020-01-01 00:00:00"}`, 90001, "past"},
		{"modify", `{"TaskId":"plan-0000000000000001","Content":{` + hi + `}}`, 90001, "Type is nothing"},
		{"delete", `{"TaskId":"plan-0000000000000002"}`, 90049, "TaskId"},
		{"get", `{"TaskId":7}`, 90001, "7"},
		{"get", `{"TaskId":"00000000000000010123456789abcdef"}`, 90049, "TaskId"},
		{"list", `{"Limit":0}`, 90001, "Limit"},
		{"list", `{"Limit":101}`, 90001, "101"},
		{"list", `{"Next":7}`, 90001, "Next"},
	} {
		out := s.call("timpush/"+c.command+"_sched_task", c.body)
		if out["ErrorCode"] != float64(c.code) || !strings.Contains(out["ErrorInfo"].(string), c.says) {
			t.Errorf("%s %.100s: %v, want %d and %s", c.command, c.body, out, c.code, c.says)
		}
	}
}

// TestSchedOfTheProgram: a plan that the program made is shown and can be deleted, but not changed if it has what the API has no words for.
func TestSchedOfTheProgram(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{Cron: func(string) (fanfare.Recurrence, error) { return yearly{}, nil }})
	const element = `{` + hi + `,"From_Account":"news","MsgRandom":7,"MsgTime":1}`
	at := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		body string
		plan fanfare.Plan
		code int
	}{
		{`{"title":"Sale","price":5}`, fanfare.Plan{}, 90049},
		{`hello`, fanfare.Plan{}, 90049},
		{`7`, fanfare.Plan{}, 90049},
		{`null`, fanfare.Plan{}, 90049},
		{`{"MsgBody":null}`, fanfare.Plan{}, 90049},
		{`{"MsgBody":[],"price":5}`, fanfare.Plan{}, 90049},
		{element + ` {}`, fanfare.Plan{}, 90049},
		{element + `]`, fanfare.Plan{}, 90049},
		{element, fanfare.Plan{Every: "@yearly"}, 90049},
		{element, fanfare.Plan{Local: true}, 90049},
		{element, fanfare.Plan{Local: true, Every: "@yearly"}, 90049},
		{element, fanfare.Plan{Variants: []fanfare.Variant{{Name: "A"}}}, 90049},
		{element, fanfare.Plan{}, 0},
	} {
		c.plan.At = at
		c.plan.Message = fanfare.Message{From: "news", Body: []byte(c.body), To: fanfare.All(), Lifetime: time.Hour}
		planned, err := s.p.Plan(t.Context(), c.plan)
		if err != nil {
			t.Fatal(err)
		}
		before, err := planned.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range []string{`"SchedAt":"2101-01-01 00:00:00"`, `"Type":"All","Content":{` + hi + `}`} {
			s.want("timpush/modify_sched_task", `{"TaskId":"`+planned.ID+`",`+change+`}`, c.code, "")
		}
		after, err := planned.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c.code != 0 && (string(after.Message.Body) != c.body || !after.At.Equal(before.At)) {
			t.Errorf("%s at %v became %s at %v", c.body, before.At, after.Message.Body, after.At)
		}
		s.want("timpush/delete_sched_task", `{"TaskId":"`+planned.ID+`"}`, 0, "")
	}
}

// TestSchedAtOfTheProgram: a plan without a time of its own, or by the clock on each wall, is shown with when it fires next.
func TestSchedAtOfTheProgram(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{Cron: func(string) (fanfare.Recurrence, error) { return yearly{}, nil }})
	at := time.Date(2100, 1, 2, 0, 0, 0, 0, time.FixedZone("", 3600))
	for _, c := range []struct {
		plan fanfare.Plan
		want string
	}{
		{fanfare.Plan{At: at}, "2100-01-01 23:00:00"},
		{fanfare.Plan{At: at, Local: true}, "2100-01-01 10:00:00"},
		{fanfare.Plan{At: at, Local: true, Every: "@yearly"}, "2101-01-01 09:59:59"},
	} {
		c.plan.Message = fanfare.Message{From: "news", Body: []byte("{}"), To: fanfare.All(), Lifetime: time.Hour}
		planned, err := s.p.Plan(t.Context(), c.plan)
		if err != nil {
			t.Fatal(err)
		}
		task, _ := s.call("timpush/get_sched_task", `{"TaskId":"`+planned.ID+`"}`)["Task"].(map[string]any)
		if task["SchedAt"] != c.want || task["Status"] != "Waiting" {
			t.Errorf("%+v: %v, want %s", c.plan, task, c.want)
		}
	}
}

// yearly is a recurrence.
type yearly struct{}

func (yearly) Next(after time.Time) time.Time { return after.AddDate(1, 0, 0) }
