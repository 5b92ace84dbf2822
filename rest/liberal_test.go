package rest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
)

// task pushes and returns the task.
func (s *scene) task(random int, more string) *fanfare.Task {
	s.t.Helper()
	out := s.call(pushes+"push", text(fmt.Sprintf(`,"MsgRandom":%d%s`, random, more)))
	task, err := s.p.Task(s.t.Context(), fmt.Sprint(out["TaskId"]))
	if err != nil {
		s.t.Fatalf("%s: %v, %v", more, out, err)
	}
	return task
}

// TestConditions: each form in which a condition comes means the audience that it is to mean.
func TestConditions(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	s.want(pushes+"set_attr_name", `{"AttrNames":{"0":"sex","1":"age","2":"vip"}}`, 0, "")
	for i, c := range [][2]string{
		{`null`, `all`},
		{`{}`, `all`},
		{`[]`, `all`},
		{`[{}]`, `all`},
		{`[null]`, `all`},
		{`{"TagsOr":null,"TagsAnd":null,"AttrsOr":null,"AttrsAnd":null}`, `all`},
		{`{"TagsOr":[],"TagsAnd":{},"AttrsOr":{},"AttrsAnd":{}}`, `all`},
		{`{"TagsOr":["a"],"AttrsOr":{}}`, `tag:a`},
		{`{"TagsOr":["a"],"AttrsOr":[],"AttrsAnd":[ ]}`, `tag:a`},
		{`[[]]`, `all`},
		{`{"TagsOr":["a"],"AttrsOr":null}`, `tag:a`},
		{`{"TagsOr":[],"AttrsOr":{"sex":"f"}}`, `attr.sex = "f"`},
		{`[{"TagsOr":["a","b"]}]`, `tag:a or tag:b`},
		{`{"TagsAnd":["a","b"]}`, `tag:a and tag:b`},
		{`{"TagsAnd":{"0":"a","2":"c","10":"d","1":"b"}}`, `tag:a and tag:b and tag:c and tag:d`},
		{`{"TagsOr":["a","b"],"TagsAnd":["c","d"]}`, `(tag:a or tag:b) and tag:c and tag:d`},
		{`{"AttrsOr":{"sex":"f","age":7,"vip":true},"AttrsAnd":null}`, `attr.age = "7" or attr.sex = "f" or attr.vip = "true"`},
		{`{"AttrsAnd":{"age":7.5,"vip":false}}`, `attr.age = "7.5" and attr.vip = "false"`},
		{`{"AttrsOr":{"sex":"f"},"AttrsAnd":{"age":"7"}}`, `attr.sex = "f" and attr.age = "7"`},
		{`{"TagsOr":["a","a"]}`, `tag:a or tag:a`},
		{`{"TagsNot":["a"]}`, `not tag:a`},
		{`{"TagsOr":["a"],"TagsNot":["b","c"]}`, `tag:a and not (tag:b or tag:c)`},
		{`{"Tags":null,"Other":[]}`, `all`},
		{`{"Other":1,"TagsOr":["a"]}`, `tag:a`},
	} {
		want, err := fanfare.ParseAudience(c[1])
		if err != nil {
			t.Fatal(err)
		}
		if got := s.task(i, `,"Condition":`+c[0]).Info().To.String(); got != want.String() {
			t.Errorf("%s is %s, want %s", c[0], got, want)
		}
	}
}

// TestPushFields: fields that are absent, null, empty or of a kindred type.
func TestPushFields(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	for i, c := range []struct {
		more     string
		from     string
		lifetime time.Duration
	}{
		{``, "administrator", 0},
		{`,"From_Account":""`, "administrator", 0},
		{`,"From_Account":null`, "administrator", 0},
		{`,"From_Account":"news"`, "news", 0},
		{`,"OfflinePushInfo":null`, "administrator", 0},
		{`,"OfflinePushInfo":{}`, "administrator", 0},
		{`,"OfflinePushInfo":[]`, "administrator", 0},
		{`,"OfflinePushInfo":{"PushFlag":"","ApnsInfo":[],"AndroidInfo":[]}`, "administrator", 0},
		{`,"OfflinePushInfo":{"AndroidInfo":null,"ApnsInfo":{},"Title":null,"PushFlag":null}`, "administrator", 0},
		{`,"MsgLifeTime":null`, "administrator", 0},
		{`,"MsgLifeTime":0`, "administrator", 0},
		{`,"MsgLifeTime":604800`, "administrator", 7 * 24 * time.Hour},
		{`,"MsgLifeTime":"60"`, "administrator", time.Minute},
		{`,"CloudCustomData":null`, "administrator", 0},
		{`,"Unknown":[1]`, "administrator", 0},
	} {
		info := s.task(i, c.more).Info()
		if info.From != c.from || info.Expires.Sub(info.Accepted) != c.lifetime {
			t.Errorf("%s: from %s, for %v", c.more, info.From, info.Expires.Sub(info.Accepted))
		}
	}
}

// TestEntries: the forms in which users with tags or attributes come are one.
func TestEntries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		remove bool
		body   string
	}{
		{false, `{"UserTags":[{"To_Account":"u1","Tags":["a","b"]}]}`},
		{false, `{"Tags":[{"To_Account":"u1","Tags":["a","b"]}]}`},
		{false, `{"To_Account":"u1","Tags":["a","b"]}`},
		{false, `{"UserTags":null,"Tags":[{"To_Account":"u1","Tags":["a","b"]}]}`},
		{false, `{"UserTags":[{"To_Account":"u1","Tags":{"0":"a","1":"b"}}]}`},
		{false, `{"To_Account":"u1","Tags":{"0":"a","1":"b"}}`},
		{true, `{"UserTags":[{"To_Account":"u1","Tags":["a","b"]}]}`},
		{true, `{"Tags":[{"To_Account":"u1","Tags":["a","b"]}]}`},
		{true, `{"To_Account":"u1","Tags":["a","b"]}`},
		{true, `{"To_Account":"u1","Tags":{"x":"a","y":"b"}}`},
	} {
		s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
		s.want("im_open_login_svc/account_import", `{"Identifier":"u1"}`, 0, "")
		command, list := "add_tag", `[{"To_Account":"u1","Tags":["a","b"]}]`
		if c.remove {
			s.want(pushes+command, `{"To_Account":"u1","Tags":["a","b"]}`, 0, "")
			command, list = "remove_tag", `[{"To_Account":"u1","Tags":[]}]`
		}
		s.want(pushes+command, c.body, 0, "")
		s.want(pushes+"get_tag", `{"To_Account":["u1"]}`, 0, `{"UserTags":`+list+`,"Tags":`+list+`}`)
	}
	for _, c := range []struct {
		remove bool
		body   string
	}{
		{false, `{"UserAttrs":[{"To_Account":"u1","Attrs":{"sex":"1","vip":"true"}}]}`},
		{false, `{"UserAttrs":[{"To_Account":"u1","Attrs":{"sex":1,"vip":true}}]}`},
		{false, `{"Attrs":[{"To_Account":"u1","Attrs":{"sex":1,"vip":true}}]}`},
		{false, `{"To_Account":"u1","Attrs":{"sex":1,"vip":true}}`},
		{true, `{"UserAttrs":[{"To_Account":"u1","Attrs":["sex","vip"]}]}`},
		{true, `{"Attrs":[{"To_Account":"u1","Attrs":["sex","vip"]}]}`},
		{true, `{"To_Account":"u1","Attrs":["sex","vip"]}`},
		{true, `{"UserAttrs":[{"To_Account":"u1","Attrs":{"sex":"","vip":null}}]}`},
		{true, `{"Attrs":[{"To_Account":"u1","Attrs":{"sex":1,"vip":{}}}]}`},
		{true, `{"To_Account":"u1","Attrs":{"sex":"x","vip":"y"}}`},
	} {
		s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
		s.want("im_open_login_svc/multiaccount_import", `{"AccountList":[{"Identifier":"u1"}]}`, 0, `{"FailAccounts":[]}`)
		s.want(pushes+"set_attr_name", `{"AttrNames":{"0":"sex","1":"vip"}}`, 0, "")
		command, list := "set_attr", `[{"To_Account":"u1","Attrs":{"sex":"1","vip":"true"}}]`
		if c.remove {
			s.want(pushes+command, `{"To_Account":"u1","Attrs":{"sex":1,"vip":true}}`, 0, "")
			command, list = "remove_attr", `[{"To_Account":"u1","Attrs":{}}]`
		}
		s.want(pushes+command, c.body, 0, "")
		s.want(pushes+"get_attr", `{"To_Account":["u1"]}`, 0, `{"UserAttrs":`+list+`,"Attrs":`+list+`}`)
	}
}

// TestSpaceAround: white space around a body changes nothing.
func TestSpaceAround(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	s.want("im_open_login_svc/account_import", "\r\n {\"UserID\":\"u1\"}\n", 0, "")
	s.want(pushes+"add_tag", "\n\t{ \"UserTags\" : [ { \"To_Account\" : \"u1\" , \"Tags\" : [ \"a\" ] } ] }\n", 0, "")
	s.want(pushes+"get_attr_name", "\n", 0, `{"AttrNames":{}}`)
	s.want(pushes+"get_attr_name", "[ ]", 0, `{"AttrNames":{}}`)
}

// TestElements: each type of element is taken as it is documented, with its optional members and without, and refused without what it needs. Some
// clients know no UUIDs, and older ones no addresses.
func TestElements(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, all, least, lacks string }{
		{"TIMTextElem", `{"Text":"x"}`, `{"Text":""}`, `{"text":"x"}`},
		{"TIMLocationElem", `{"Desc":"x","Latitude":29.34,"Longitude":-116}`, `{"Latitude":0,"Longitude":0}`, `{"Desc":"x","Latitude":1}`},
		{"TIMFaceElem", `{"Index":"1","Data":"x"}`, `{"Index":0}`, `{"Data":"x"}`},
		{"TIMFaceElem", `{"Index":1}`, `{"Index":-1}`, `{"Index":"one"}`},
		{"TIMCustomElem", `{"Data":"m","Desc":"d","Ext":"e","Sound":"s.aiff"}`, `{}`, `{"Data":{}}`},
		{"TIMSoundElem", `{"Url":"https://x","UUID":"u","Size":62351,"Second":1,"Download_Flag":2}`, `{"UUID":"u"}`, `{"Size":1}`},
		{"TIMSoundElem", `{"Url":"https://x","Size":1,"Second":1,"Download_Flag":2}`, `{"Url":"https://x","UUID":null}`, `{"Url":null,"UUID":null}`},
		{"TIMImageElem", `{"UUID":"u","ImageFormat":1,"ImageInfoArray":[{"Type":1,"Size":1,"Width":2,"Height":3,"URL":"https://x"},{"Type":2,"URL":"https://y"}]}`,
			`{"UUID":"u","ImageInfoArray":[]}`, `{"UUID":"u","ImageInfoArray":[{"Type":1}]}`},
		{"TIMFileElem", `{"Url":"https://x","UUID":"u","FileSize":1773552,"FileName":"f.txt","Download_Flag":2}`, `{"UUID":"u"}`, `{"FileName":"f"}`},
		{"TIMFileElem", `{"Url":"https://x","FileSize":1,"FileName":"f","Download_Flag":2}`, `{"Url":"https://x"}`, `{"Url":"https://x","UUID":7}`},
		{"TIMVideoFileElem", `{"VideoUrl":"https://x","VideoUUID":"v","VideoSize":1,"VideoSecond":1,"VideoFormat":"mp4","VideoDownloadFlag":2,
			"ThumbUrl":"https://y","ThumbUUID":"t","ThumbSize":1,"ThumbWidth":2,"ThumbHeight":3,"ThumbFormat":"JPG","ThumbDownloadFlag":2}`,
			`{"VideoUUID":"v","ThumbUUID":"t"}`, `{"VideoUUID":"v"}`},
		{"TIMVideoFileElem", `{"VideoUrl":"https://x","VideoSize":1,"VideoSecond":1,"VideoFormat":"mp4","VideoDownloadFlag":2,
			"ThumbUrl":"https://y","ThumbSize":1,"ThumbWidth":2,"ThumbHeight":3,"ThumbFormat":"JPG","ThumbDownloadFlag":2}`,
			`{"VideoUrl":"https://x","ThumbUrl":"https://y"}`, `{"ThumbUrl":"https://y"}`},
	} {
		for i, content := range []string{c.all, c.least, c.lacks, `null`, `[]`} {
			_, err := msgBody(json.RawMessage(`[{"MsgType":"` + c.kind + `","MsgContent":` + content + `}]`))
			if refused, is := err.(*Error); (err != nil) != (i >= 2) || is && refused.Code != 90010 {
				t.Errorf("%s %s: %v", c.kind, content, err)
			}
		}
	}
}
