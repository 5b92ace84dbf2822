package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

const pushes = "all_member_push/im_"

// sendAs sends a request with a Content-Type.
func (s *scene) sendAs(contentType, target, body string) map[string]any {
	s.t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequest("POST", target, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	s.api.ServeHTTP(w, r)
	var out map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		s.t.Fatal(w.Body, err)
	}
	return out
}

// missing is the ErrorList of accounts that are not imported.
func missing(ids ...string) string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = fmt.Sprintf(`{"To_Account":%q,"ErrorCode":70107}`, id)
	}
	return `"ErrorList":[` + strings.Join(list, ",") + `]`
}

// TestChangesLeaveOutUnknown: of each change those who are not imported are told, however many and wherever they stand, and the others are done.
func TestChangesLeaveOutUnknown(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	s.want("im_open_login_svc/multiaccount_import", `{"AccountList":[{"UserID":"u1"},{"UserID":"u2"}]}`, 0, `{"FailAccounts":[]}`)
	s.want(pushes+"set_attr_name", `{"AttrNames":{"0":"sex","1":"city"}}`, 0, "")
	rows := func(format string) string {
		var list []string
		for _, id := range []string{"n1", "u1", strings.Repeat("é", 200), "u2", "n1"} {
			list = append(list, fmt.Sprintf(format, id))
		}
		return strings.Join(list, ",")
	}
	both := func(name, u string) string {
		list := fmt.Sprintf(`[{"To_Account":"u1",%s},{"To_Account":"u2",%s}]`, u, u)
		short := strings.TrimPrefix(name, "User")
		return fmt.Sprintf(`{%q:%s,%q:%s}`, name, list, short, list)
	}
	long := strings.Repeat("é", 200) // nobody can be called so
	for _, c := range []struct{ command, body, read, want string }{
		{"set_attr", `{"UserAttrs":[` + rows(`{"To_Account":%q,"Attrs":{"sex":"f","city":"x"}}`) + `]}`, "get_attr", both("UserAttrs", `"Attrs":{"sex":"f","city":"x"}`)},
		{"remove_attr", `{"UserAttrs":[` + rows(`{"To_Account":%q,"Attrs":["sex"]}`) + `]}`, "get_attr", both("UserAttrs", `"Attrs":{"city":"x"}`)},
		{"add_tag", `{"UserTags":[` + rows(`{"To_Account":%q,"Tags":["b","a","c"]}`) + `]}`, "get_tag", both("UserTags", `"Tags":["a","b","c"]`)},
		{"remove_tag", `{"UserTags":[` + rows(`{"To_Account":%q,"Tags":["a","never"]}`) + `]}`, "get_tag", both("UserTags", `"Tags":["b","c"]`)},
		{"remove_all_tags", `{"To_Account":[` + rows(`%q`) + `]}`, "get_tag", both("UserTags", `"Tags":[]`)},
	} {
		s.want(pushes+c.command, c.body, 0, `{`+missing("n1", long)+`}`)
		s.want(pushes+c.read, `{"To_Account":["u1","u2"]}`, 0, c.want)
	}
	unknown := fmt.Sprintf(`{"To_Account":["n1",%q]}`, long)
	s.want(pushes+"get_tag", unknown, 0, `{"UserTags":[],"Tags":[],`+missing("n1", long)+`}`)
	s.want(pushes+"get_attr", unknown, 0, `{"UserAttrs":[],"Attrs":[],`+missing("n1", long)+`}`)
	s.want("openim/querystate", unknown, 0, `{"QueryResult":[],`+missing("n1", long)+`}`)
}

// TestNothingHalf: where the last of a request's users is wrong, nothing of it is done for the first.
func TestNothingHalf(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	s.want("im_open_login_svc/multiaccount_import", `{"Accounts":["u1","u2"]}`, 0, `{"FailAccounts":[]}`)
	s.want(pushes+"set_attr_name", `{"AttrNames":{"0":"sex"}}`, 0, "")
	for _, c := range []struct {
		command, body string
		code          int
	}{
		{"set_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":{"sex":"f"}},{"To_Account":"u2","Attrs":{"size":"f"}}]}`, 90033},
		{"set_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":{"sex":"f"}},{"To_Account":"u2","Attrs":{"sex":[]}}]}`, 90033},
		{"set_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":{"sex":"f"}},{"To_Account":7,"Attrs":{"sex":"f"}}]}`, 60015},
		{"add_tag", `{"UserTags":[{"To_Account":"u1","Tags":["a"]},{"To_Account":"u2","Tags":[""]}]}`, 90040},
		{"add_tag", `{"UserTags":[{"To_Account":"u1","Tags":["a"]},"u2"]}`, 90001},
		{"set_attr_name", `{"AttrNames":{"1":"city","2":"city"}}`, 90033},
		{"set_attr_name", `{"AttrNames":{"1":"city","x":"age"}}`, 90033},
	} {
		s.want(pushes+c.command, c.body, c.code, "")
	}
	s.want(pushes+"get_attr", `{"To_Account":["u1"]}`, 0, `{"UserAttrs":[{"To_Account":"u1","Attrs":{}}],"Attrs":[{"To_Account":"u1","Attrs":{}}]}`)
	s.want(pushes+"get_tag", `{"To_Account":["u1"]}`, 0, `{"UserTags":[{"To_Account":"u1","Tags":[]}],"Tags":[{"To_Account":"u1","Tags":[]}]}`)
	s.want(pushes+"get_attr_name", `{}`, 0, `{"AttrNames":{"0":"sex"}}`)
}

// TestAttributeNames: ten slots, a name of 50 bytes, names swapped in one request; those not mentioned stay.
func TestAttributeNames(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	s.want(pushes+"get_attr_name", `{}`, 0, `{"AttrNames":{}}`)
	ten := `{"AttrNames":{"0":"a","1":"b","2":"c","3":"d","4":"e","5":"f","6":"g","7":"h","8":"i","9":"` + strings.Repeat("x", 50) + `"}}`
	s.want(pushes+"set_attr_name", ten, 0, "")
	s.want(pushes+"get_attr_name", `{}`, 0, ten)
	s.want(pushes+"set_attr_name", `{"AttrNames":{"0":"b","1":"a"}}`, 0, "")
	s.want(pushes+"get_attr_name", `{}`, 0, strings.Replace(ten, `"0":"a","1":"b"`, `"0":"b","1":"a"`, 1))
}

// TestMostAtOnce: what is just within the limits is done in one durable step: 100 users, 10 tags of 50 bytes, values of 50 bytes.
func TestMostAtOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	list := func(format string) string {
		rows := make([]string, 100)
		for i := range rows {
			rows[i] = fmt.Sprintf(format, fmt.Sprintf("u%031d", i))
		}
		return "[" + strings.Join(rows, ",") + "]"
	}
	tags := make([]string, 10)
	for i := range tags {
		tags[i] = fmt.Sprintf(`"%050d"`, i)
	}
	ids := list("%q")
	one := func(command, body string) {
		t.Helper()
		before, _ := s.p.Stats(t.Context())
		s.want(pushes+command, body, 0, "")
		after, err := s.p.Stats(t.Context())
		if err != nil || after.Position != before.Position+1 {
			t.Errorf("%s: %d steps, %v", command, after.Position-before.Position, err)
		}
	}
	s.want("im_open_login_svc/multiaccount_import", `{"Accounts":`+ids+`}`, 0, `{"FailAccounts":[]}`)
	s.want(pushes+"set_attr_name", `{"AttrNames":{"0":"sex"}}`, 0, "")
	one("set_attr", `{"UserAttrs":`+list(`{"To_Account":%q,"Attrs":{"sex":"`+strings.Repeat("x", 50)+`"}}`)+`}`)
	one("add_tag", `{"UserTags":`+list(`{"To_Account":%q,"Tags":[`+strings.Join(tags, ",")+`]}`)+`}`)
	for command, name := range map[string]string{"get_attr": "UserAttrs", "get_tag": "UserTags"} {
		if out := s.call(pushes+command, `{"To_Account":`+ids+`}`); len(out[name].([]any)) != 100 {
			t.Errorf("%s: %d users", command, len(out[name].([]any)))
		}
	}
	one("remove_tag", `{"UserTags":`+list(`{"To_Account":%q,"Tags":[`+strings.Join(tags, ",")+`]}`)+`}`)
	one("remove_attr", `{"UserAttrs":`+list(`{"To_Account":%q,"Attrs":["sex"]}`)+`}`)
	one("remove_all_tags", `{"To_Account":`+ids+`}`)
	if out := s.call("im_open_login_svc/account_delete", `{"DeleteItem":`+list(`{"UserID":%q}`)+`}`); len(out["ResultItem"].([]any)) != 100 {
		t.Error(out)
	}
	if out := s.call("im_open_login_svc/account_check", `{"CheckItem":`+list(`{"UserID":%q}`)+`}`); out["ResultItem"].([]any)[99].(map[string]any)["AccountStatus"] != "NotImported" {
		t.Error(out)
	}
}

// TestAccounts: an import is harmless twice and keeps what is known; a deletion takes it; one account named twice is deleted once.
func TestAccounts(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	const svc = "im_open_login_svc/"
	tags := func(want string) {
		t.Helper()
		s.want(pushes+"get_tag", `{"To_Account":["u1"]}`, 0, `{"UserTags":[{"To_Account":"u1","Tags":[`+want+`]}],"Tags":[{"To_Account":"u1","Tags":[`+want+`]}]}`)
	}
	s.want(svc+"account_import", `{"UserID":"u1","Nick":"N","FaceUrl":"http://x"}`, 0, "")
	s.want(pushes+"add_tag", `{"UserTags":[{"To_Account":"u1","Tags":["a"]}]}`, 0, "")
	s.want(svc+"account_import", `{"UserID":"u1"}`, 0, "")
	s.want(svc+"multiaccount_import", `{"Accounts":["u1","u2","u1"]}`, 0, `{"FailAccounts":[]}`)
	tags(`"a"`)
	s.want(svc+"account_delete", `{"DeleteItem":[{"UserID":"u1"},{"UserID":"n"},{"UserID":"u1"}]}`, 0, `{"ResultItem":[{"UserID":"u1","ResultCode":0,"ResultInfo":""},
		{"UserID":"n","ResultCode":70107,"ResultInfo":"the account is not imported"},{"UserID":"u1","ResultCode":70107,"ResultInfo":"the account is not imported"}]}`)
	s.want(svc+"account_check", `{"CheckItem":[{"UserID":"u1"},{"UserID":"u2"}]}`, 0,
		`{"ResultItem":[{"UserID":"u1","ResultCode":0,"ResultInfo":"","AccountStatus":"NotImported"},{"UserID":"u2","ResultCode":0,"ResultInfo":"","AccountStatus":"Imported"}]}`)
	s.want(svc+"account_import", `{"UserID":"u1"}`, 0, "")
	tags("")
}

// TestKick: the server is told whose sessions to end; its error is one from inside, and stays there.
func TestKick(t *testing.T) {
	t.Parallel()
	var kicked []string
	s := newScene(t, t.TempDir(), Options{Kick: func(_ context.Context, id string) error {
		if kicked = append(kicked, id); id == "u2" {
			return errors.New("a secret")
		}
		return nil
	}}, fanfare.Options{})
	s.want("im_open_login_svc/multiaccount_import", `{"Accounts":["u1","u2"]}`, 0, `{"FailAccounts":[]}`)
	s.want("im_open_login_svc/kick", `{"UserID":"u1"}`, 0, "")
	s.want("im_open_login_svc/kick", `{"Identifier":"u1"}`, 0, "")
	s.want("im_open_login_svc/kick", `{"UserID":"n"}`, 70107, "")
	if out := s.call("im_open_login_svc/kick", `{"UserID":"u2"}`); out["ErrorCode"] != 70500.0 || strings.Contains(fmt.Sprint(out), "secret") {
		t.Error(out)
	}
	if fmt.Sprint(kicked) != "[u1 u1 u2]" {
		t.Error(kicked)
	}
}

// TestPresence: connected, reachable by phone, away, not known; by both names of the command, with and without detail.
func TestPresence(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{Online: new(transporttest.Recorder)})
	s.want("im_open_login_svc/multiaccount_import", `{"Accounts":["u1","u2","u3"]}`, 0, `{"FailAccounts":[]}`)
	if err := s.p.RegisterDevice(ctx, "u2", fanfare.Device{Platform: "apns", Token: "t"}); err != nil {
		t.Fatal(err)
	}
	session, err := s.p.Connect(ctx, "u1")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for _, command := range []string{"openim/query_online_status", "openim/querystate"} {
		for detail, more := range map[string]string{``: ``, `,"IsNeedDetail":0`: ``, `,"IsNeedDetail":1`: `,"Detail":[{"Platform":"apns","Status":"PushOnline"}]`} {
			s.want(command, `{"To_Account":["u1","n","u2","u3"]`+detail+`}`, 0, `{"QueryResult":[{"To_Account":"u1","Status":"Online"},
				{"To_Account":"u2","Status":"PushOnline"`+more+`},{"To_Account":"u3","Status":"Offline"}],`+missing("n")+`}`)
		}
	}
	most := make([]string, 500)
	for i := range most {
		most[i] = `"u3"`
	}
	list := strings.Join(most, ",")
	if out := s.call("openim/querystate", `{"To_Account":[`+list+`]}`); len(out["QueryResult"].([]any)) != 500 {
		t.Error(out)
	}
	if out := s.call("openim/querystate", `{"To_Account":[`+list+`,"u3"]}`); out["ActionStatus"] != "FAIL" || !strings.Contains(out["ErrorInfo"].(string), "501") {
		t.Error(out)
	}
	_ = session.Close()
	s.want("openim/querystate", `{"To_Account":["u1"]}`, 0, `{"QueryResult":[{"To_Account":"u1","Status":"Offline"}]}`)
}
