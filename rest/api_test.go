package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/rest/usersig"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

const appID = 1400000000

var secret = []byte("test-key-0123456789")

// scene is an API over a Pusher of the test's own.
type scene struct {
	t   *testing.T
	p   *fanfare.Pusher
	api *API
	sig string
}

func newScene(t *testing.T, dir string, o Options, po fanfare.Options) *scene {
	t.Helper()
	p, err := fanfare.Open(dir, po)
	if err != nil {
		t.Fatal(err)
	}
	o.SDKAppID = appID
	if o.Keys == nil {
		o.Keys = []transport.Secret{secret}
	}
	s := &scene{t: t, p: p, api: Handler(p, o), sig: usersig.Sign(usersig.Sig{Identifier: "administrator", SDKAppID: appID, Expire: 30 * 24 * time.Hour}, secret)}
	t.Cleanup(func() {
		if err := p.Check(context.Background()); err != nil && err != fanfare.ErrClosed {
			t.Error(err)
		}
		s.close()
	})
	return s
}

func (s *scene) close() { _ = s.p.Close(context.Background()) }

// query is that of a request by the administrator, with changes.
func (s *scene) query(changes ...string) string {
	q := url.Values{"sdkappid": {fmt.Sprint(appID)}, "identifier": {"administrator"}, "usersig": {s.sig}, "random": {"123456789012345678901"}, "contenttype": {"json"}}
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "" {
			q.Del(changes[i])
		} else {
			q.Set(changes[i], changes[i+1])
		}
	}
	return "?" + q.Encode()
}

// send sends a request and returns the answer, whose form it looks at.
func (s *scene) send(method, target, body string) map[string]any {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	var out map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusOK {
		s.t.Fatalf("%s %s: status %d, %s", target, body, w.Code, w.Body)
	}
	code, isCode := out["ErrorCode"].(float64)
	info, isInfo := out["ErrorInfo"].(string)
	if ok := out["ActionStatus"] == "OK"; !isCode || !isInfo || ok != (code == 0) || ok != (info == "") || !ok && out["ActionStatus"] != "FAIL" {
		s.t.Fatalf("%s: the envelope of %s", target, w.Body)
	}
	return out
}

func (s *scene) call(command, body string) map[string]any {
	s.t.Helper()
	return s.send(http.MethodPost, "/v4/"+command+s.query(), body)
}

// want calls a command and compares what is answered beyond the envelope, or the code of an error.
func (s *scene) want(command, body string, code int, rest string) {
	s.t.Helper()
	out := s.call(command, body)
	if out["ErrorCode"] != float64(code) {
		s.t.Errorf("%s %s: %v, want code %d", command, body, out, code)
		return
	}
	if code != 0 {
		return
	}
	delete(out, "ActionStatus")
	delete(out, "ErrorCode")
	delete(out, "ErrorInfo")
	var want map[string]any
	if rest == "" {
		rest = "{}"
	}
	if err := json.Unmarshal([]byte(rest), &want); err != nil {
		s.t.Fatal(err, rest)
	}
	if !reflect.DeepEqual(out, want) {
		got, _ := json.Marshal(out)
		s.t.Errorf("%s %s:\n got %s\nwant %s", command, body, got, rest)
	}
}

// text makes the body of a push.
func text(more string) string {
	return `{"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hi"}}]` + more + `}`
}

// TestCommands goes through the commands as a backend does: what is documented in, what is documented out.
func TestCommands(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	const unknown = `{"To_Account":"nobody","ErrorCode":70107}`
	s.want("im_open_login_svc/account_import", `{"UserID":"u1","Nick":"One","FaceUrl":"http://x"}`, 0, "")
	s.want("im_open_login_svc/account_import", `{"Identifier":"u1"}`, 0, "")
	s.want("im_open_login_svc/multiaccount_import", `{"Accounts":["u2","u3",""]}`, 0, `{"FailAccounts":[""]}`)
	s.want("im_open_login_svc/multiaccount_import", `{"AccountList":[{"UserID":"u4"},{"UserID":"u5"}]}`, 0, `{"FailAccounts":[]}`)
	s.want("im_open_login_svc/account_check", `{"CheckItem":[{"UserID":"u1"},{"UserID":"nobody"}]}`, 0,
		`{"ResultItem":[{"UserID":"u1","ResultCode":0,"ResultInfo":"","AccountStatus":"Imported"},{"UserID":"nobody","ResultCode":0,"ResultInfo":"","AccountStatus":"NotImported"}]}`)
	s.want("im_open_login_svc/account_delete", `{"DeleteItem":[{"UserID":"u5"},{"UserID":"nobody"}]}`, 0,
		`{"ResultItem":[{"UserID":"u5","ResultCode":0,"ResultInfo":""},{"UserID":"nobody","ResultCode":70107,"ResultInfo":"the account is not imported"}]}`)
	for _, service := range []string{"all_member_push/im_", "timpush/"} {
		s.want(service+"set_attr_name", `{"AttrNames":{"0":"sex","1":"city"}}`, 0, "")
		s.want(service+"get_attr_name", `{}`, 0, `{"AttrNames":{"0":"sex","1":"city"}}`)
		s.want(service+"get_attr_name", ``, 0, `{"AttrNames":{"0":"sex","1":"city"}}`)
		s.want(service+"set_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":{"sex":"f","city":"x"}},{"To_Account":"nobody","Attrs":{"sex":"m"}},{"To_Account":"u2","Attrs":{"sex":"m"}}]}`, 0, `{"ErrorList":[`+unknown+`]}`)
		list := `[{"To_Account":"u1","Attrs":{"sex":"f","city":"x"}},{"To_Account":"u2","Attrs":{"sex":"m"}},{"To_Account":"u3","Attrs":{}}]`
		s.want(service+"get_attr", `{"To_Account":["u1","u2","u3","nobody"]}`, 0, `{"UserAttrs":`+list+`,"Attrs":`+list+`,"ErrorList":[`+unknown+`]}`)
		s.want(service+"remove_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":["sex","city"]}]}`, 0, "")
		s.want(service+"get_attr", `{"To_Account":["u1"]}`, 0, `{"UserAttrs":[{"To_Account":"u1","Attrs":{}}],"Attrs":[{"To_Account":"u1","Attrs":{}}]}`)
		s.want(service+"add_tag", `{"UserTags":[{"To_Account":"u1","Tags":["b","a"]},{"To_Account":"nobody","Tags":["a"]}]}`, 0, `{"ErrorList":[`+unknown+`]}`)
		s.want(service+"get_tag", `{"To_Account":["u1","u3"]}`, 0,
			`{"UserTags":[{"To_Account":"u1","Tags":["a","b"]},{"To_Account":"u3","Tags":[]}],"Tags":[{"To_Account":"u1","Tags":["a","b"]},{"To_Account":"u3","Tags":[]}]}`)
		s.want(service+"remove_tag", `{"UserTags":[{"To_Account":"u1","Tags":["a"]}]}`, 0, "")
		s.want(service+"get_tag", `{"To_Account":["u1"]}`, 0, `{"UserTags":[{"To_Account":"u1","Tags":["b"]}],"Tags":[{"To_Account":"u1","Tags":["b"]}]}`)
	}
	s.want("timpush/add_tag", `{"Replace":1,"UserTags":[{"To_Account":"u1","Tags":["c"]}]}`, 0, "")
	s.want("timpush/get_tag", `{"To_Account":["u1"]}`, 0, `{"UserTags":[{"To_Account":"u1","Tags":["c"]}],"Tags":[{"To_Account":"u1","Tags":["c"]}]}`)
	s.want("all_member_push/im_remove_all_tags", `{"To_Account":["u1","nobody"]}`, 0, `{"ErrorList":[`+unknown+`]}`)
	s.want("timpush/clear_all_tags", `{"To_Account":["u1"]}`, 0, "")
	s.want("openim/query_online_status", `{"To_Account":["u1","nobody"]}`, 0, `{"QueryResult":[{"To_Account":"u1","Status":"Offline"}],"ErrorList":[`+unknown+`]}`)
	id := s.call("all_member_push/im_push", text(`,"MsgRandom":1,"MsgLifeTime":60`))["TaskId"].(string)
	s.want("timpush/all_member_push_statistics", `{"TaskID":["`+id+`","0123456789abcdef0123456789abcdef"]}`, 0,
		`{"Results":[{"TaskID":"`+id+`","TotalCount":4,"SentCount":0,"DeliveredCount":0,"ClickCount":0,"PlatformStatistics":[]}]}`)
	s.want("timpush/all_member_push_statistics", `{"TaskID":["`+id+`"],"StartTime":1,"EndTime":2}`, 0, `{"Results":[]}`)
	s.want("timpush/revoke", `{"TaskId":"`+id+`"}`, 0, "")
	s.want("timpush/revoke", `{"TaskId":"`+id+`"}`, codeRevokedAlready, "")
	s.want("timpush/revoke", `{"TaskId":"0123456789abcdef0123456789abcdef"}`, codeUnknownTask, "")
}

// TestLiberal: what published clients send that is documented otherwise, or nowhere.
func TestLiberal(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	s.want("im_open_login_svc/multiaccount_import", `{"Accounts":["u1","u2"]}`, 0, `{"FailAccounts":[]}`)
	s.want("all_member_push/im_set_attr_name", `{"AttrNames":{"0":"sex","1":"age","2":"vip"}}`, 0, "")
	for _, body := range []string{
		`{"Attrs":[{"To_Account":"u1","Attrs":{"age":7,"vip":true}}]}`, `{"To_Account":"u1","Attrs":{"age":7,"vip":true}}`, `{"UserAttrs":[{"To_Account":"u1","Attrs":{"age":"7","vip":"true"}}]}`,
	} {
		s.want("all_member_push/im_set_attr", body, 0, "")
		list := `[{"To_Account":"u1","Attrs":{"age":"7","vip":"true"}}]`
		s.want("all_member_push/im_get_attr", `{"To_Account":["u1"]}`, 0, `{"UserAttrs":`+list+`,"Attrs":`+list+`}`)
		s.want("all_member_push/im_remove_attr", `{"Attrs":[{"To_Account":"u1","Attrs":{"age":"","vip":null}}]}`, 0, "")
		s.want("all_member_push/im_get_attr", `{"To_Account":"u1"}`, 0, `{"UserAttrs":[{"To_Account":"u1","Attrs":{}}],"Attrs":[{"To_Account":"u1","Attrs":{}}]}`)
	}
	for _, body := range []string{
		`{"Tags":[{"To_Account":"u1","Tags":["a","b"]}]}`, `{"To_Account":"u1","Tags":["a","b"]}`, `{"UserTags":[{"To_Account":"u1","Tags":{"0":"a","1":"b"}}]}`,
	} {
		s.want("all_member_push/im_add_tag", body, 0, "")
		list := `[{"To_Account":"u1","Tags":["a","b"]}]`
		s.want("all_member_push/im_get_tag", `{"To_Account":["u1"]}`, 0, `{"UserTags":`+list+`,"Tags":`+list+`}`)
		s.want("all_member_push/im_remove_tag", body, 0, "")
	}
	// White space may stand around a body.
	s.want("all_member_push/im_add_tag", "\n {\"To_Account\":\"u2\",\"Tags\":[\"b\"]}\r\n", 0, "")
	// The old command knows no Replace.
	s.want("all_member_push/im_add_tag", `{"Replace":1,"UserTags":[{"To_Account":"u2","Tags":["c"]}]}`, 0, "")
	list := `[{"To_Account":"u2","Tags":["b","c"]}]`
	s.want("all_member_push/im_get_tag", `{"To_Account":["u2"]}`, 0, `{"UserTags":`+list+`,"Tags":`+list+`}`)
	for i, condition := range []string{
		``, `,"Condition":null`, `,"Condition":{}`, `,"Condition":[]`, `,"Condition":[{}]`, `,"Condition":{"TagsOr":null,"AttrsAnd":null}`, `,"Condition":[{"TagsOr":[],"TagsAnd":[],"AttrsOr":{}}]`,
		`,"From_Account":"","OfflinePushInfo":null,"CloudCustomData":null`, `,"MsgLifeTime":null`,
	} {
		id := s.call("all_member_push/im_push", text(fmt.Sprintf(`,"MsgRandom":%d`, i)+condition))["TaskId"]
		task, err := s.p.Task(context.Background(), fmt.Sprint(id))
		if err != nil {
			t.Fatal(condition, err)
		}
		if got := task.Info(); got.To.String() != "all" || got.From != "administrator" {
			t.Errorf("%s is for %s, from %s", condition, got.To, got.From)
		}
	}
	for i, c := range [][2]string{
		{`{"TagsOr":["a","b"],"TagsAnd":["c"]}`, `(tag:a or tag:b) and tag:c`}, {`{"TagsOr":{"0":"a","1":"b"}}`, `tag:a or tag:b`},
		{`[{"AttrsOr":{"age":7,"vip":true},"AttrsAnd":{"sex":"f"}}]`, `(attr.age = "7" or attr.vip = "true") and attr.sex = "f"`},
		{`{"TagsNot":["a","b"]}`, `not (tag:a or tag:b)`}, {`{"TagsAnd":["x"],"TagsNot":["a"]}`, `tag:x and not tag:a`},
	} {
		id := s.call("timpush/push", text(fmt.Sprintf(`,"MsgRandom":%d,"Condition":%s`, 100+i, c[0])))["TaskId"]
		task, err := s.p.Task(context.Background(), fmt.Sprint(id))
		if err != nil {
			t.Fatal(c, err)
		}
		want, err := fanfare.ParseAudience(c[1])
		if err != nil {
			t.Fatal(err)
		}
		if got := task.Info().To.String(); got != want.String() {
			t.Errorf("%s is for %s, want %s", c[0], got, want)
		}
	}
}

// TestCodes: what is wrong is said by the code that is documented, and names the field.
func TestCodes(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{MaxBodyBytes: 64 << 10}, fanfare.Options{})
	s.want("im_open_login_svc/multiaccount_import", `{"Accounts":["u1","u2"]}`, 0, `{"FailAccounts":[]}`)
	s.want("all_member_push/im_set_attr_name", `{"AttrNames":{"0":"sex"}}`, 0, "")
	long, many := strings.Repeat("x", 51), strings.Repeat(`"u1",`, 101)+`"u1"`
	eleven := `["1","2","3","4","5","6","7","8","9","10","11"]`
	element := func(kind, content string) string {
		return `{"MsgRandom":1,"MsgBody":[{"MsgType":"` + kind + `","MsgContent":` + content + `}]}`
	}
	custom := `{"MsgType":"TIMCustomElem","MsgContent":{"Data":"x"}}`
	for _, c := range []struct {
		command, body string
		code          int
		says          string
	}{
		{"all_member_push/im_push", `{`, 90001, "JSON"},
		{"all_member_push/im_push", `[]`, 90001, "JSON"},
		{"all_member_push/im_push", `null`, 90001, "null"},
		{"all_member_push/im_push", "{\"From_Account\":\"\xff\"}", 90001, "UTF-8"},
		{"openim/querystate", `{`, 60003, "JSON"},
		{"all_member_push/im_push", `{"MsgRandom":1}`, 90002, "MsgBody"},
		{"all_member_push/im_push", `{"MsgRandom":1,"MsgBody":[]}`, 90002, "MsgBody"},
		{"all_member_push/im_push", `{"MsgRandom":1,"MsgBody":{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}}`, 90007, "MsgBody"},
		{"all_member_push/im_push", text(``), 90005, "MsgRandom"},
		{"all_member_push/im_push", text(`,"MsgRandom":"7"`), 90005, `"7"`},
		{"all_member_push/im_push", text(`,"MsgRandom":1.5`), 90005, "1.5"},
		{"all_member_push/im_push", text(`,"MsgRandom":4294967296`), 90005, "4294967296"},
		{"all_member_push/im_push", element("Other", `{}`), 90010, "Other"},
		{"all_member_push/im_push", element("TIMTextElem", `{}`), 90010, "Text"},
		{"all_member_push/im_push", element("TIMTextElem", `{"Text":7}`), 90010, "7"},
		{"all_member_push/im_push", element("TIMFaceElem", `{"Index":true}`), 90010, "Index"},
		{"all_member_push/im_push", element("TIMImageElem", `{"UUID":"x","ImageInfoArray":[{}]}`), 90010, "Type"},
		{"all_member_push/im_push", element("TIMTextElem", `"x"`), 90010, "MsgContent"},
		{"all_member_push/im_push", `{"MsgRandom":1,"MsgBody":["x"]}`, 90010, "MsgBody[0]"},
		{"all_member_push/im_push", `{"MsgRandom":1,"MsgBody":[` + custom + `,` + custom + `]}`, 90010, "second"},
		{"all_member_push/im_push", text(`,"MsgRandom":1,"MsgLifeTime":604801`), 90026, "604801"},
		{"all_member_push/im_push", text(`,"MsgRandom":1,"MsgLifeTime":-1`), 90026, "-1"},
		{"all_member_push/im_push", text(`,"MsgRandom":1,"Condition":{"TagsOr":` + eleven + `}`), 90032, "11"},
		{"all_member_push/im_push", text(`,"MsgRandom":1,"Condition":{"TagsOr":["a"],"TagsAnd":["a"]}`), 90022, `"a"`},
		{"all_member_push/im_push", text(`,"MsgRandom":1,"Condition":{"TagsOr":[""]}`), 90040, "TagsOr"},
		{"all_member_push/im_push", text(`,"MsgRandom":1,"Condition":{"TagsOr":["` + long + `"]}`), 90020, "51"},
		{"all_member_push/im_push", text(`,"MsgRandom":1,"Condition":{"TagsOr":["a"],"AttrsOr":{"sex":"f"}}`), 90039, "Condition"},
		{"all_member_push/im_push", text(`,"MsgRandom":1,"Condition":{"AttrsOr":{"size":"f"}}`), 90033, `"size"`},
		{"timpush/add_tag", `{"Replace":7,"UserTags":[{"To_Account":"u1","Tags":["a"]}]}`, 90001, "Replace is 7"},
		{"all_member_push/im_push", text(`,"MsgRandom":1,"Condition":7`), 90001, "Condition"},
		{"all_member_push/im_push", text(`,"MsgRandom":1,"CloudCustomData":"` + strings.Repeat("x", 13<<10) + `"`), 90056, "body"},
		{"all_member_push/im_push", text(`,"MsgRandom":1,"CloudCustomData":"` + strings.Repeat("x", 65<<10) + `"`), 90056, "65536"},
		{"all_member_push/im_set_attr_name", `{"AttrNames":{"1":"sex"}}`, 90033, "sex"},
		{"all_member_push/im_set_attr_name", `{"AttrNames":{"10":"a"}}`, 90033, `"10"`},
		{"all_member_push/im_set_attr_name", `{"AttrNames":{"1":"` + long + `"}}`, 90033, "50"},
		{"all_member_push/im_set_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":{"size":"x"}}]}`, 90033, "u1"},
		{"all_member_push/im_set_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":{"sex":"` + long + `"}}]}`, 90033, "sex"},
		{"all_member_push/im_get_attr", `{"To_Account":[` + many + `]}`, 90018, "102"},
		{"all_member_push/im_add_tag", `{"UserTags":[{"To_Account":"u1","Tags":` + eleven + `}]}`, 90032, "11"},
		{"all_member_push/im_add_tag", `{"UserTags":[{"To_Account":"u1","Tags":["` + long + `"]}]}`, 90020, "51"},
		{"all_member_push/im_add_tag", `{"UserTags":[{"To_Account":"u1","Tags":[""]}]}`, 90040, "Tags"},
		{"all_member_push/im_add_tag", `{"UserTags":[` + strings.Repeat(`{"To_Account":"u1","Tags":["a"]},`, 100) + `{"To_Account":"u1","Tags":["a"]}]}`, 90018, "101"},
		{"im_open_login_svc/account_import", `{"UserID":7}`, 60015, "7"},
		{"im_open_login_svc/account_import", `{}`, 70402, "UserID"},
		{"im_open_login_svc/account_import", `{"UserID":"` + long + `"}`, 70402, "32"},
		{"im_open_login_svc/kick", `{"UserID":"u1"}`, 90045, "sessions"},
	} {
		out := s.call(c.command, c.body)
		if out["ErrorCode"] != float64(c.code) || !strings.Contains(out["ErrorInfo"].(string), c.says) {
			t.Errorf("%s %.200s: %v, want %d naming %s", c.command, c.body, out, c.code, c.says)
		}
	}
	// One whose step would be too large is told so, not to try again.
	names := strings.Repeat(`"sex",`, 150_000) + `"sex"`
	s.api.o.MaxBodyBytes = 1 << 20
	if out := s.call("all_member_push/im_remove_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":[`+names+`]}]}`); out["ErrorCode"] != float64(codeTooLarge) {
		t.Error(out)
	}
	for i := range 11 { // up to 100 tags
		code := map[bool]int{false: 0, true: 90032}[i == 10]
		tags := make([]string, 10)
		for k := range tags {
			tags[k] = fmt.Sprintf("t%d", 10*i+k)
		}
		list, _ := json.Marshal(tags)
		s.want("all_member_push/im_add_tag", `{"UserTags":[{"To_Account":"u2","Tags":`+string(list)+`}]}`, code, "")
	}
}

// TestGateway: who may call, and how.
func TestGateway(t *testing.T) {
	t.Parallel()
	held, release := make(chan struct{}), make(chan struct{})
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	other := []byte("another")
	s := newScene(t, t.TempDir(), Options{Now: clock, MaxInFlight: 1, Keys: []transport.Secret{other, secret}, Kick: func(context.Context, string) error {
		close(held)
		<-release
		return nil
	}}, fanfare.Options{})
	sign := func(identifier string, app int64, key []byte) string {
		return usersig.Sign(usersig.Sig{Identifier: identifier, SDKAppID: app, Time: now, Expire: time.Minute}, key)
	}
	s.sig = sign("administrator", appID, secret)
	const path = "/v4/im_open_login_svc/account_import"
	for _, c := range []struct {
		method, target string
		code           int
	}{
		{"POST", path + s.query(), 0},
		{"POST", path + s.query("usersig", sign("administrator", appID, other)), 0},
		{"POST", path + strings.ReplaceAll(s.query(), "*", "%2A"), 0},
		{"GET", path + s.query(), 60008},
		{"POST", "/v3/im_open_login_svc/account_import" + s.query(), 60002},
		{"POST", "/v4/im_open_login_svc/Account_import" + s.query(), 60009},
		{"POST", path + s.query("sdkappid", ""), 60012},
		{"POST", path + s.query("sdkappid", "x"), 60006},
		{"POST", path + s.query("sdkappid", "7"), 70020},
		{"POST", path + s.query("identifier", ""), 60004},
		{"POST", path + s.query("usersig", ""), 60005},
		{"POST", path + s.query("usersig", "x"), 70003},
		{"POST", path + s.query("usersig", sign("administrator", 7, secret)), 70014},
		{"POST", path + s.query("usersig", sign("somebody", appID, secret)), 70013},
		{"POST", path + s.query("usersig", sign("administrator", appID, []byte("x"))), 70009},
		{"POST", path + s.query("identifier", "somebody", "usersig", sign("somebody", appID, secret)), 60010},
		{"POST", "/v4/all_member_push/im_push" + s.query("identifier", "somebody", "usersig", sign("somebody", appID, secret)), 90009},
	} {
		if out := s.send(c.method, c.target, `{"UserID":"u1"}`); out["ErrorCode"] != float64(c.code) {
			t.Errorf("%s: %v, want %d", c.target, out, c.code)
		}
	}
	done := make(chan map[string]any)
	go func() { done <- s.call("im_open_login_svc/kick", `{"UserID":"u1"}`) }()
	<-held
	s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 60011, "")
	close(release)
	if out := <-done; out["ErrorCode"] != 0.0 {
		t.Error(out)
	}
	now = now.Add(61 * time.Second) // the signature was remembered as good
	s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 70001, "")
}

// TestPush: those who are meant receive what was sent, as it was sent, and the same MsgRandom is the same push.
func TestPush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		dir := t.TempDir()
		rec, apns, fcm := new(transporttest.Recorder), transporttest.NewPhones("apns"), transporttest.NewPhones("fcm")
		po := fanfare.Options{Online: rec, Mobile: []transport.Mobile{apns, fcm}, Grace: -1}
		s := newScene(t, dir, Options{}, po)
		s.want("im_open_login_svc/multiaccount_import", `{"Accounts":["u1","u2","u3"]}`, 0, `{"FailAccounts":[]}`)
		s.want("all_member_push/im_add_tag", `{"UserTags":[{"To_Account":"u1","Tags":["a"]},{"To_Account":"u2","Tags":["a"]}]}`, 0, "")
		for _, d := range []fanfare.Device{{Platform: "apns", Token: "t2"}, {Platform: "fcm", Token: "f2"}} {
			if err := s.p.RegisterDevice(ctx, "u2", d); err != nil {
				t.Fatal(err)
			}
		}
		session, err := s.p.Connect(ctx, "u1")
		if err != nil {
			t.Fatal(err)
		}
		s.want("openim/query_online_status", `{"To_Account":["u1","u2","u3"]}`, 0,
			`{"QueryResult":[{"To_Account":"u1","Status":"Online"},{"To_Account":"u2","Status":"PushOnline"},{"To_Account":"u3","Status":"Offline"}]}`)
		push := `{"MsgRandom":-1,"MsgLifeTime":3600,"From_Account":"news","CloudCustomData":"c","Condition":{"TagsOr":["a"]},
			"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"a < b","More":[1]},"Other":1},{"MsgType":"TIMFaceElem","MsgContent":{"Index":1}},{"MsgType":"TIMVideoFileElem","MsgContent":{"VideoUUID":"v","ThumbUUID":"t"}}],
			"OfflinePushInfo":{"Title":"T","Ext":"{\"x\":1}","ApnsInfo":{"Sound":"bell","SubTitle":"S","InterruptionLevel":"active","MutableContent":1},"AndroidInfo":{"GoogleChannelID":"news","XiaoMiChannelID":7}}}`
		id := s.call("all_member_push/im_push", push)["TaskId"].(string)
		task, err := s.p.Task(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if err := task.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		got := rec.Received("u1")
		want := fmt.Sprintf(`{"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"a < b","More":[1]},"Other":1},{"MsgType":"TIMFaceElem","MsgContent":{"Index":1}},`+
			`{"MsgType":"TIMVideoFileElem","MsgContent":{"VideoUUID":"v","ThumbUUID":"t"}}],"From_Account":"news","MsgRandom":4294967295,"MsgTime":%d,"CloudCustomData":"c"}`, time.Now().Unix())
		if len(got) != 1 || string(got[0].Body) != want || got[0].From != "news" {
			t.Fatalf("got  %s\nwant %s", got[0].Body, want)
		}
		if len(rec.Received("u3")) != 0 || len(apns.Shown("t2")) != 1 || len(fcm.Shown("f2")) != 1 {
			t.Error("somebody has too much, or too little")
		}
		note := apns.Shown("t2")[0].Content
		if note.Title != "T" || note.Body != "a < b[Face][Video]" || note.Data["ext"] != `{"x":1}` ||
			string(note.Overrides["apns"]) != `{"payload":{"aps":{"alert":{"subtitle":"S"},"interruption-level":"active","mutable-content":1,"sound":"bell"}}}` ||
			string(note.Overrides["fcm"]) != `{"android":{"notification":{"channel_id":"news"}}}` || string(note.Overrides["xiaomi"]) != `{"XiaoMiChannelID":"7"}` {
			t.Errorf("%+v", note)
		}
		time.Sleep(5 * time.Second) // the message would have another time now
		again := func(body string) {
			t.Helper()
			if other := s.call("all_member_push/im_push", body)["TaskId"]; other != id {
				t.Errorf("another push: %v", other)
			}
		}
		again(push)
		again(strings.Replace(push, `"MsgRandom":-1`, `"MsgRandom":4294967295`, 1))
		again(`{"MsgRandom":-1,"From_Account":"news","MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"other"}}]}`)
		_ = session.Close()
		s.close()
		rec = new(transporttest.Recorder)
		po.Online, po.Mobile = rec, nil
		s = newScene(t, dir, Options{}, po)
		again(push)
		if session, err = s.p.Connect(ctx, "u2"); err != nil { // who was away
			t.Fatal(err)
		}
		defer session.Close()
		if err := rec.Wait(ctx, "u2", 1); err != nil || string(rec.Received("u2")[0].Body) != want {
			t.Error(err)
		}
	})
}

// TestNoNotification: a push that says so notifies no phone, nor does one that has nothing to show.
func TestNoNotification(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}],"OfflinePushInfo":{"PushFlag":1,"Title":"T"}}`:                             "",
		`{"MsgBody":[{"MsgType":"TIMCustomElem","MsgContent":{"Data":"x"}}]}`:                                                                        "",
		`{"MsgBody":[{"MsgType":"TIMCustomElem","MsgContent":{"Data":"x","Desc":"D"}}]}`:                                                             "D",
		`{"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}],"OfflinePushInfo":{"PushFlag":0,"Desc":"D"}}`:                              "D",
		`{"MsgBody":[{"MsgType":"TIMLocationElem","MsgContent":{"Latitude":1,"Longitude":2}},{"MsgType":"TIMSoundElem","MsgContent":{"UUID":"s"}}]}`: "[Location][Sound]",
		`{"MsgBody":[{"MsgType":"TIMFileElem","MsgContent":{"UUID":"f"}},{"MsgType":"TIMImageElem","MsgContent":{"UUID":"i","ImageInfoArray":[]}}]}`: "[File][Image]",
	} {
		o, err := parseObject([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		list, err := msgBody(o["MsgBody"])
		if err != nil {
			t.Fatal(err)
		}
		n, err := notification(o["OfflinePushInfo"], shownText(list))
		if err != nil || (n == nil) != (want == "") || n != nil && n.Body != want {
			t.Errorf("%s: %+v, %v", body, n, err)
		}
	}
}

// TestCloudLimits: pace and quota hold, over a restart too; a retry is no further push.
func TestCloudLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		limits := CloudLimits()
		limits.PerDay = 3
		s := newScene(t, dir, Options{Limits: limits}, fanfare.Options{})
		s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
		push := func(random, code int) {
			t.Helper()
			if out := s.call("all_member_push/im_push", text(fmt.Sprintf(`,"MsgRandom":%d,"MsgLifeTime":60`, random))); out["ErrorCode"] != float64(code) {
				t.Errorf("%d: %v, want %d", random, out, code)
			}
		}
		push(1, 0)
		push(2, codePace)
		push(1, 0)
		time.Sleep(time.Second)
		push(2, 0)
		time.Sleep(time.Second)
		push(3, 0)
		time.Sleep(time.Second)
		s.close()
		s = newScene(t, dir, Options{Limits: limits}, fanfare.Options{})
		push(4, codeQuota)
		push(3, 0)
		time.Sleep(time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)))
		push(4, 0)
		if out := s.call("all_member_push/im_push", text(`,"MsgRandom":9,"CloudCustomData":"`+strings.Repeat("x", 10<<10)+`"`)); out["ErrorCode"] != float64(codeTooLarge) {
			t.Error(out)
		}
	})
}
