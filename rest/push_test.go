package rest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// connect connects users until the test ends.
func (s *scene) connect(ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		session, err := s.p.Connect(s.t.Context(), id)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = session.Close() })
	}
}

// TestAudienceAndLifetime: by everyone, tags and attributes, those who are meant get a message, those who are away only if it has a lifetime that has not ended.
func TestAudienceAndLifetime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		condition string
		want      string // of u1 (tags a, b; sex f) and u2 (tag a; sex m, city x), connected, and u3 and u4, their like, away
	}{
		{`null`, "u1 u2 u3 u4"},
		{`{"TagsOr":["a","never"]}`, "u1 u2 u3 u4"},
		{`{"TagsOr":["b"]}`, "u1 u3"},
		{`{"TagsAnd":["a","b"]}`, "u1 u3"},
		{`{"TagsOr":["a"],"TagsAnd":["b"]}`, "u1 u3"},
		{`{"TagsOr":["never"],"TagsAnd":["a"]}`, ""},
		{`{"AttrsOr":{"sex":"f","city":"x"}}`, "u1 u2 u3 u4"},
		{`{"AttrsAnd":{"sex":"m","city":"x"}}`, "u2 u4"},
		{`{"AttrsOr":{"sex":"f"},"AttrsAnd":{"city":"x"}}`, ""},
		{`[{"AttrsOr":{"sex":"f"}}]`, "u1 u3"},
		{`{"TagsNot":["b"]}`, "u2 u4"},
		{`{"TagsOr":["a"],"TagsNot":["b","never"]}`, "u2 u4"},
	} {
		for _, lifetime := range []int{0, 60} {
			synctest.Test(t, func(t *testing.T) {
				rec := new(transporttest.Recorder)
				s := newScene(t, t.TempDir(), Options{}, fanfare.Options{Online: rec})
				s.want("im_open_login_svc/multiaccount_import", `{"Accounts":["u1","u2","u3","u4","late"]}`, 0, `{"FailAccounts":[]}`)
				s.want(pushes+"set_attr_name", `{"AttrNames":{"0":"sex","1":"city"}}`, 0, "")
				s.want(pushes+"set_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":{"sex":"f"}},{"To_Account":"u2","Attrs":{"sex":"m","city":"x"}},
					{"To_Account":"u3","Attrs":{"sex":"f"}},{"To_Account":"u4","Attrs":{"sex":"m","city":"x"}}]}`, 0, "")
				s.want(pushes+"add_tag", `{"UserTags":[{"To_Account":"u1","Tags":["a","b"]},{"To_Account":"u2","Tags":["a"]},{"To_Account":"u3","Tags":["a","b"]},{"To_Account":"u4","Tags":["a"]}]}`, 0, "")
				s.connect("u1", "u2")
				s.want("im_open_login_svc/account_delete", `{"DeleteItem":[{"UserID":"late"}]}`, 0, `{"ResultItem":[{"UserID":"late","ResultCode":0,"ResultInfo":""}]}`)
				s.task(1, fmt.Sprintf(`,"MsgLifeTime":%d,"Condition":%s`, lifetime, c.condition))
				time.Sleep(30 * time.Second)
				s.connect("u3", "late")
				time.Sleep(31 * time.Second)
				s.connect("u4") // after its end
				synctest.Wait()
				for _, id := range []string{"u1", "u2", "u3", "u4", "late"} {
					want := 0
					if strings.Contains(c.want, id) && (id == "u1" || id == "u2" || id == "u3" && lifetime > 0) {
						want = 1
					}
					if got := len(rec.Received(id)); got != want {
						t.Errorf("%s for %d s: %s has %d messages, want %d", c.condition, lifetime, id, got, want)
					}
				}
				if v := rec.Violations(); len(v) > 0 {
					t.Error(v)
				}
			})
		}
	}
}

// TestReceived: what a client gets are the elements as they were sent, to the last digit and member, and the fields beside them.
func TestReceived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := new(transporttest.Recorder)
		now := time.Now().Add(time.Hour)
		s := newScene(t, t.TempDir(), Options{Now: func() time.Time { return now }}, fanfare.Options{Online: rec})
		s.connect("u1")
		const elements = `[{"Z":1e400,"MsgType":"TIMTextElem","MsgContent":{"Text":"<b>&\u2028é\u00e9","Big":12345678901234567890.10,"X":{"Y":[null]}}},{"MsgType":"TIMCustomElem","MsgContent":{"Data":"d","data":"e"}}]`
		for i, c := range [][2]string{
			{``, `"From_Account":"administrator","MsgRandom":0,"MsgTime":%d`},
			{`,"From_Account":"a<b","CloudCustomData":"{\"x\":\"<&>\"}"`, `"From_Account":"a<b","MsgRandom":1,"MsgTime":%d,"CloudCustomData":"{\"x\":\"<&>\"}"`},
			{`,"From_Account":"","CloudCustomData":""`, `"From_Account":"administrator","MsgRandom":2,"MsgTime":%d`},
			{`,"DataId":"d1"`, `"From_Account":"administrator","MsgRandom":3,"MsgTime":%d,"DataId":"d1"`},
		} {
			s.call(pushes+"push", fmt.Sprintf(`{"MsgRandom":%d,"MsgBody":%s%s}`, i, elements, c[0]))
			synctest.Wait()
			got := rec.Received("u1")
			want := `{"MsgBody":` + elements + `,` + fmt.Sprintf(c[1], now.Unix()) + `}`
			if len(got) != i+1 || string(got[i].Body) != want {
				t.Fatalf("%d messages, the last %s\nwant %s", len(got), got[len(got)-1].Body, want)
			}
		}
	})
}

// TestSamePush: a MsgRandom is one push for seven days, however it is written, whatever else it says, on whatever side of a restart, and from many at a time; then it is another.
func TestSamePush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newScene(t, dir, Options{}, fanfare.Options{})
		send := func(random, more string) string {
			out := s.call(pushes+"push", text(`,"MsgRandom":`+random+more))
			return fmt.Sprint(out["TaskId"])
		}
		first := send("4294967295", `,"MsgLifeTime":60`)
		same := func() {
			t.Helper()
			for _, again := range [][2]string{
				{"4294967295", `,"MsgLifeTime":60`}, {"-1", `,"MsgLifeTime":60`}, {"-1", ``}, {"4294967295.0", `,"CloudCustomData":"other"`}, {"-1", `,"Condition":{"AttrsOr":{"never":"x"}}`},
			} {
				if id := send(again[0], again[1]); id != first {
					t.Errorf("%s%s is %s, not %s", again[0], again[1], id, first)
				}
			}
		}
		same()
		if send("4294967294", "") == first || send("1", "") == first {
			t.Error("another MsgRandom is the same push")
		}
		s.close()
		s = newScene(t, dir, Options{}, fanfare.Options{})
		same()
		time.Sleep(7*24*time.Hour - time.Minute)
		same()
		time.Sleep(2 * time.Minute)
		if send("-1", `,"MsgLifeTime":60`) == first {
			t.Error("the same push after seven days")
		}
	})
}

// TestSamePushAtOnce: of many requests with one MsgRandom at a time, with other content each, one is the push, and all answer with it.
func TestSamePushAtOnce(t *testing.T) {
	t.Parallel()
	for _, limits := range []Limits{{}, {Pace: time.Second, PerDay: 1}} {
		s := newScene(t, t.TempDir(), Options{Limits: limits}, fanfare.Options{})
		ids := make([]string, 16)
		var all sync.WaitGroup
		for i := range ids {
			all.Go(func() {
				ids[i] = fmt.Sprint(s.call(pushes+"push", text(fmt.Sprintf(`,"MsgRandom":7,"CloudCustomData":"%d"`, i)))["TaskId"])
			})
		}
		all.Wait()
		for _, id := range ids {
			if id != ids[0] || id == "<nil>" {
				t.Errorf("%v", ids)
			}
		}
		if stats, err := s.p.Stats(t.Context()); err != nil || stats.Pushes != 1 {
			t.Error(stats.Pushes, err)
		}
	}
}

// TestPaceAndQuota: with the service's limits 100 pushes a day get through, a second apart, counted over a restart; pushes of the program's own do not count.
func TestPaceAndQuota(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newScene(t, dir, Options{Limits: CloudLimits()}, fanfare.Options{})
		push := func(random, code int) {
			t.Helper()
			if out := s.call(pushes+"push", text(fmt.Sprintf(`,"MsgRandom":%d`, random))); out["ErrorCode"] != float64(code) {
				t.Errorf("%d: %v, want %d", random, out, code)
			}
		}
		for i := range 100 {
			push(i, 0)
			push(1000, 90024)
			push(i, 0)
			if _, err := s.p.Push(t.Context(), fanfare.Message{Body: []byte("x"), To: fanfare.All()}); err != nil {
				t.Fatal(err)
			}
			if i == 50 {
				s.close()
				s = newScene(t, dir, Options{Limits: CloudLimits()}, fanfare.Options{})
				push(1000, 90024)
			}
			time.Sleep(time.Second)
		}
		push(1000, 90047)
		s.close()
		s = newScene(t, dir, Options{Limits: CloudLimits()}, fanfare.Options{})
		push(1000, 90047)
		push(99, 0)
		time.Sleep(time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(24*time.Hour - time.Second)))
		push(1000, 90047)
		time.Sleep(time.Second)
		push(1000, 0)
		large := `,"X":"` + strings.Repeat("x", 10<<10) + `"`
		if out := s.call(pushes+"push", text(`,"MsgRandom":2000`+large)); out["ErrorCode"] != 90056.0 {
			t.Error(out)
		}
		if out := s.call(pushes+"push", text(`,"MsgRandom":1000`+large)); out["ErrorCode"] != 0.0 { // which is one that was accepted
			t.Error(out)
		}
	})
}

// TestPhones: what the phones of those who are away show, by platform, for each form of OfflinePushInfo and each type of element; nothing without a lifetime.
func TestPhones(t *testing.T) {
	t.Parallel()
	const hi = `{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}`
	const info = `,"OfflinePushInfo":`
	element := func(kind, content string) string { return `{"MsgType":"` + kind + `","MsgContent":` + content + `}` }
	video := element("TIMVideoFileElem", `{"VideoUUID":"v","ThumbUUID":"t"}`)
	for _, c := range []struct {
		body, more  string
		title, text string // both empty: nothing is shown
		ext         string
		apns, fcm   string // overrides
	}{
		{hi, ``, "", "hi", "", "", ""},
		{hi, info + `null`, "", "hi", "", "", ""},
		{hi, info + `{"PushFlag":0}`, "", "hi", "", "", ""},
		{hi, info + `{"PushFlag":1,"Title":"T","Desc":"D"}`, "", "", "", "", ""},
		{hi, info + `{"PushFlag":"1"}`, "", "", "", "", ""},
		{hi, info + `{"Title":"T"}`, "T", "hi", "", "", ""},
		{hi, info + `{"Title":"T","Desc":"D","Ext":"{\"a\":\"<b>\"}"}`, "T", "D", `{"a":"<b>"}`, "", ""},
		{hi + `,` + element("TIMLocationElem", `{"Latitude":1,"Longitude":2}`) + `,` + element("TIMFaceElem", `{"Index":1}`) + `,` + element("TIMCustomElem", `{"Desc":"d"}`), ``, "", "hi[Location][Face]d", "", "", ""},
		{hi + `,` + element("TIMCustomElem", `{"Data":"x"}`), ``, "", "hi", "", "", ""},
		{video, info + `{"Desc":"D"}`, "", "D", "", "", ""},
		{element("TIMCustomElem", `{"Data":"x"}`), ``, "", "", "", "", ""},
		{element("TIMCustomElem", `{"Data":"x","Desc":""}`), info + `{"Ext":"e"}`, "", "", "", "", ""},
		{element("TIMCustomElem", `{"Data":"x","Desc":"d"}`), ``, "", "d", "", "", ""},
		{element("TIMCustomElem", `{"Data":"x"}`), info + `{"Desc":"D"}`, "", "D", "", "", ""},
		{hi, info + `{"ApnsInfo":{"Sound":"a.mp3","Title":"AT","SubTitle":"AS","Image":"https://i","InterruptionLevel":"time-sensitive","ContentAvailable":1}}`, "", "hi", "",
			`{"payload":{"aps":{"alert":{"subtitle":"AS","title":"AT"},"content-available":1,"interruption-level":"time-sensitive","mutable-content":1,"sound":"a.mp3"},"image":"https://i"}}`, ""},
		{hi, info + `{"ApnsInfo":{"MutableContent":"1"}}`, "", "hi", "", `{"payload":{"aps":{"mutable-content":1}}}`, ""},
		{hi, info + `{"ApnsInfo":{"MutableContent":0,"Sound":""},"AndroidInfo":{}}`, "", "hi", "", "", ""},
		{hi, info + `{"AndroidInfo":{"Sound":"b","GoogleChannelID":7,"OPPOChannelID":"o","HuaWeiCategory":"IM"}}`, "", "hi", "", "", `{"android":{"notification":{"channel_id":"7","sound":"b"}}}`},
	} {
		for _, lifetime := range []int{0, 60} {
			synctest.Test(t, func(t *testing.T) {
				apns, fcm := transporttest.NewPhones("apns"), transporttest.NewPhones("fcm")
				s := newScene(t, t.TempDir(), Options{}, fanfare.Options{Online: new(transporttest.Recorder), Mobile: []transport.Mobile{apns, fcm}})
				s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
				for _, platform := range []string{"apns", "fcm"} {
					if err := s.p.RegisterDevice(t.Context(), "u1", fanfare.Device{Platform: platform, Token: "t"}); err != nil {
						t.Fatal(err)
					}
				}
				out := s.call(pushes+"push", fmt.Sprintf(`{"MsgRandom":1,"MsgLifeTime":%d,"MsgBody":[%s]%s}`, lifetime, c.body, c.more))
				if out["ErrorCode"] != 0.0 {
					t.Fatal(out)
				}
				time.Sleep(59 * time.Second)
				synctest.Wait()
				for _, phones := range []*transporttest.Phones{apns, fcm} {
					shown := phones.Shown("t")
					if c.title == "" && c.text == "" || lifetime == 0 {
						if len(shown) > 0 {
							t.Errorf("%s %s for %d s: %+v is shown", c.body, c.more, lifetime, shown[0].Content)
						}
						continue
					}
					if len(shown) != 1 {
						t.Fatalf("%s %s: %d are shown", c.body, c.more, len(shown))
					}
					got := shown[0].Content
					if got.Title != c.title || got.Body != c.text || got.Data["ext"] != c.ext || string(got.Overrides["apns"]) != c.apns || string(got.Overrides["fcm"]) != c.fcm {
						t.Errorf("%s %s: %+v", c.body, c.more, got)
					}
				}
			})
		}
	}
}

// TestLimitsAtOnce: of many pushes at a time as many get through as the limits say.
func TestLimitsAtOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limits Limits
		want   int64
	}{{Limits{Pace: time.Hour}, 1}, {Limits{PerDay: 3}, 3}} {
		s := newScene(t, t.TempDir(), Options{Limits: c.limits}, fanfare.Options{})
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() { s.call(pushes+"push", text(fmt.Sprintf(`,"MsgRandom":%d`, i))) })
		}
		all.Wait()
		if stats, err := s.p.Stats(t.Context()); err != nil || stats.Pushes != c.want {
			t.Errorf("%+v: %d, %v", c.limits, stats.Pushes, err)
		}
	}
}
