package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/rest/usersig"
)

// TestReasons: every refusal has its code, and says which field is wrong and what was in it.
func TestReasons(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{MaxBodyBytes: 1000}, fanfare.Options{})
	s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
	s.want(pushes+"set_attr_name", `{"AttrNames":{"3":"sex"}}`, 0, "")
	const svc = "im_open_login_svc/"
	repeat := func(row string, n int) string { return "[" + strings.TrimSuffix(strings.Repeat(row+",", n), ",") + "]" }
	for _, c := range []struct {
		command, body string
		code          int
		field, value  string
	}{
		{svc + "account_import", `{"UserID":7}`, 60015, "UserID", "7"},
		{svc + "account_import", `{"Identifier":{}}`, 60015, "Identifier", "{}"},
		{svc + "account_import", `{"UserID":""}`, 70402, "UserID", `""`},
		{svc + "account_import", `{"UserID":null}`, 70402, "UserID", "missing"},
		{svc + "account_import", `{"UserID":"` + strings.Repeat("é", 17) + `"}`, 70402, "UserID", "é"},
		{svc + "account_import", `{"userid":"u1"}`, 70402, "UserID", "missing"},
		{svc + "account_import", `[7]`, 60003, "JSON", "[7]"},
		{svc + "account_import", `{"UserID":"u1"} x`, 60003, "JSON", "x"},
		{svc + "multiaccount_import", `{}`, 70402, "AccountList", "nothing"},
		{svc + "multiaccount_import", `{"Accounts":"u1"}`, 70402, "Accounts", "u1"},
		{svc + "multiaccount_import", `{"Accounts":[7]}`, 60015, "Accounts", "7"},
		{svc + "multiaccount_import", `{"Accounts":` + repeat(`"u"`, 101) + `}`, 70402, "Accounts", "101"},
		{svc + "account_check", `{"CheckItem":` + repeat(`{}`, 101) + `}`, 70402, "CheckItem", "101"},
		{svc + "account_check", `{"CheckItem":["u1"]}`, 70402, "CheckItem", `"u1"`},
		{svc + "account_check", `{"CheckItem":[{"UserID":7}]}`, 60015, "UserID", "7"},
		{svc + "account_delete", `{}`, 70402, "DeleteItem", "nothing"},
		{svc + "kick", `{"UserID":"u1"}`, 90045, "", ""},
		{"openim/querystate", `{"To_Account":` + repeat(`""`, 1) + `}`, 70402, "To_Account", `""`},
		{pushes + "get_tag", `{}`, 90001, "To_Account", "nothing"},
		{pushes + "get_tag", `{"To_Account":[]}`, 90001, "To_Account", "[]"},
		{svc + "account_import", `[]`, 60003, "JSON", "[]"},
		{svc + "multiaccount_import", `{"AccountList":[{"UserID":"u1"},{"UserID":7}]}`, 60015, "UserID", "7"},
		{"openim/querystate", `{}`, 70402, "To_Account", "nothing"},
		{"openim/querystate", `{"To_Account":["u1",7]}`, 60015, "To_Account", "7"},
		{pushes + "get_tag", `{"To_Account":["u1",null]}`, 90001, "To_Account", "null"},
		{pushes + "get_tag", `{"To_Account":[{}]}`, 60015, "To_Account", "{}"},
		{pushes + "get_tag", `{"To_Account":` + repeat(`"u"`, 101) + `}`, 90018, "To_Account", "101"},
		{pushes + "remove_all_tags", `{"To_Account":` + repeat(`"u"`, 101) + `}`, 90018, "To_Account", "101"},
		{pushes + "add_tag", `{"UserTags":[]}`, 90001, "UserTags", ""},
		{pushes + "add_tag", `{"UserTags":"u1"}`, 90001, "UserTags", `"u1"`},
		{pushes + "add_tag", `{"UserTags":[{"To_Account":7,"Tags":["a"]}]}`, 60015, "To_Account", "7"},
		{pushes + "add_tag", `{"UserTags":[{"To_Account":"u1","Tags":"a"}]}`, 90001, "Tags", `"a"`},
		{pushes + "add_tag", `{"UserTags":[{"To_Account":"u1"}]}`, 90001, "Tags", "nothing"},
		{pushes + "remove_tag", `{"UserTags":` + repeat(`{}`, 101) + `}`, 90018, "UserTags", "101"},
		{pushes + "set_attr", `{"UserAttrs":` + repeat(`{}`, 101) + `}`, 90018, "UserAttrs", "101"},
		{pushes + "remove_attr", `{"UserAttrs":` + repeat(`{}`, 101) + `}`, 90018, "UserAttrs", "101"},
		{pushes + "set_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":{"size":"x"}}]}`, 90033, "size", "u1"},
		{pushes + "set_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":{"sex":null}}]}`, 90033, "sex", "null"},
		{pushes + "set_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":{"":"x"}}]}`, 90033, "name", `""`},
		{pushes + "remove_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":["size"]}]}`, 90033, "size", "u1"},
		{pushes + "remove_attr", `{"UserAttrs":[{"To_Account":"u1","Attrs":[]}]}`, 90033, "Attrs", "[]"},
		{pushes + "remove_attr", `{"To_Account":"u1","Attrs":[]}`, 90033, "Attrs", "[]"},
		{pushes + "set_attr", `{"UserAttrs":[]}`, 90001, "UserAttrs", "[]"},
		{pushes + "add_tag", `{"To_Account":"u1","Tags":[]}`, 90001, "Tags", "[]"},
		{pushes + "set_attr_name", `{"AttrNames":{"5":"sex"}}`, 90033, "sex", "3"},
		{pushes + "set_attr_name", `{"AttrNames":{"05":"a"}}`, 90033, "AttrNames", `"05"`},
		{pushes + "set_attr_name", `{"AttrNames":{"-1":"a"}}`, 90033, "AttrNames", `"-1"`},
		{pushes + "set_attr_name", `{"AttrNames":{"5":7}}`, 90033, "AttrNames.5", "7"},
		{pushes + "set_attr_name", `{"AttrNames":[]}`, 90001, "AttrNames", "[]"},
		{pushes + "push", text(`,"MsgRandom":null`), 90005, "MsgRandom", "null"},
		{pushes + "push", text(`,"MsgRandom":-2147483649`), 90005, "MsgRandom", "-2147483649"},
		{pushes + "push", text(`,"MsgRandom":true`), 90005, "MsgRandom", "true"},
		{pushes + "push", text(`,"MsgRandom":1,"From_Account":7`), 60015, "From_Account", "7"},
		{pushes + "push", text(`,"MsgRandom":1,"From_Account":"` + strings.Repeat("x", 33) + `"`), 70402, "From_Account", "xxx"},
		{pushes + "push", text(`,"MsgRandom":1,"CloudCustomData":{}`), 90001, "CloudCustomData", "{}"},
		{pushes + "push", text(`,"MsgRandom":1,"MsgLifeTime":"soon"`), 90026, "MsgLifeTime", "soon"},
		{pushes + "push", text(`,"MsgRandom":1,"MsgLifeTime":0.5`), 90026, "MsgLifeTime", "0.5"},
		{pushes + "push", text(`,"MsgRandom":1,"OfflinePushInfo":7`), 90001, "OfflinePushInfo", "7"},
		{pushes + "push", text(`,"MsgRandom":1,"OfflinePushInfo":{"PushFlag":2}`), 90001, "PushFlag", "2"},
		{pushes + "push", text(`,"MsgRandom":1,"OfflinePushInfo":{"Title":{}}`), 90001, "OfflinePushInfo.Title", "{}"},
		{pushes + "push", text(`,"MsgRandom":1,"OfflinePushInfo":{"Ext":[1]}`), 90001, "OfflinePushInfo.Ext", "[1]"},
		{pushes + "push", text(`,"MsgRandom":1,"OfflinePushInfo":{"ApnsInfo":[1]}`), 90001, "OfflinePushInfo.ApnsInfo", "[1]"},
		{pushes + "push", text(`,"MsgRandom":1,"OfflinePushInfo":{"ApnsInfo":{"Sound":{}}}`), 90001, "OfflinePushInfo.ApnsInfo.Sound", "{}"},
		{pushes + "push", text(`,"MsgRandom":1,"OfflinePushInfo":{"ApnsInfo":{"MutableContent":"yes"}}`), 90001, "OfflinePushInfo.ApnsInfo.MutableContent", "yes"},
		{pushes + "push", text(`,"MsgRandom":1,"OfflinePushInfo":{"PushFlag":1,"AndroidInfo":{"OPPOCategory":[]}}`), 90001, "OfflinePushInfo.AndroidInfo.OPPOCategory", "[]"},
		{pushes + "push", text(`,"MsgRandom":1,"DataId":"` + strings.Repeat("x", 65) + `"`), 90001, "DataId", "65"},
		{pushes + "push", text(`,"MsgRandom":1,"DataId":7`), 90001, "DataId", "7"},
		{pushes + "push", text(`,"MsgRandom":1,"Condition":[{},{}]`), 90001, "Condition", "2"},
		{pushes + "push", text(`,"MsgRandom":1,"Condition":{"TagsAnd":"a"}`), 90001, "Condition.TagsAnd", `"a"`},
		{pushes + "push", text(`,"MsgRandom":1,"Condition":{"TagsAnd":["a"],"AttrsAnd":{"sex":"f"}}`), 90039, "tags", "attributes"},
		{pushes + "push", text(`,"MsgRandom":1,"Condition":{"AttrsOr":{"sex":[]}}`), 90033, "Condition.AttrsOr.sex", "[]"},
		{pushes + "push", `{"MsgRandom":1,"MsgBody":"x"}`, 90007, "MsgBody", `"x"`},
		{pushes + "push", `{"MsgRandom":1,"MsgBody":null}`, 90002, "MsgBody", ""},
		{pushes + "push", `{"MsgRandom":1,"MsgBody":[{"MsgType":7}]}`, 90010, "MsgBody[0].MsgType", "7"},
		{pushes + "push", `{"MsgRandom":1,"MsgBody":[{"MsgType":"TIMTextElem"}]}`, 90010, "MsgBody[0].MsgContent", "nothing"},
		{pushes + "push", strings.Repeat(" ", 1001), 90056, "body", "1000"},
	} {
		if len(c.body) > 1000 && c.code != 90056 { // the bound of this test's own
			s.api.o.MaxBodyBytes = 1 << 20
		} else {
			s.api.o.MaxBodyBytes = 1000
		}
		out := s.call(c.command, c.body)
		info := out["ErrorInfo"].(string)
		if out["ErrorCode"] != float64(c.code) || !strings.Contains(info, c.field) || !strings.Contains(info, c.value) {
			t.Errorf("%s %.100s: %v, want %d, %s and %s", c.command, c.body, out, c.code, c.field, c.value)
		}
	}
}

// TestPaths: what is no command is told, with its path; so is a method that is not POST.
func TestPaths(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	for _, c := range []struct {
		method, path string
		code         int
		says         string
	}{
		{"POST", "/", 60002, `"/"`},
		{"POST", "/v4", 60002, `"/v4"`},
		{"POST", "/V4/all_member_push/im_push", 60002, "V4"},
		{"POST", "/v4/", 60009, `""`},
		{"POST", "/v4/all_member_push", 60009, "all_member_push"},
		{"POST", "/v4/all_member_push/im_push/", 60009, "im_push/"},
		{"POST", "/v4//all_member_push/im_push", 60009, "im_push"},
		{"POST", "/v4/all_member_push/IM_push", 60009, "IM_push"},
		{"POST", "/v4/" + strings.Repeat("x", 10000), 60009, "xxx"},
		{"POST", "/v4/%00%ff", 60009, `"\x00\xff"`},
		{"GET", "/v4/all_member_push/im_push", 60008, "GET"},
		{"PUT", "/v4/all_member_push/im_push", 60008, "PUT"},
		{"OPTIONS", "/v4/all_member_push/im_push", 60008, "OPTIONS"},
	} {
		out := s.send(c.method, c.path+s.query(), "{}")
		if info := out["ErrorInfo"].(string); out["ErrorCode"] != float64(c.code) || !strings.Contains(info, c.says) || len(info) > 500 {
			t.Errorf("%s %.50s: %v, want %d", c.method, c.path, out, c.code)
		}
	}
}

// TestNotAdministrator: a user of the application may call nothing, and is told so by the code of the service.
func TestNotAdministrator(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	sig := usersig.Sign(usersig.Sig{Identifier: "u1", SDKAppID: appID, Expire: time.Hour}, secret)
	for name := range commands {
		code := 60010.0
		if strings.HasPrefix(name, "all_member_push/") || strings.HasPrefix(name, "timpush/") {
			code = 90009
		}
		out := s.send("POST", "/v4/"+name+s.query("identifier", "u1", "usersig", sig), "{")
		if out["ErrorCode"] != code || !strings.Contains(out["ErrorInfo"].(string), `"u1"`) {
			t.Errorf("%s: %v", name, out)
		}
	}
	if n := len(s.api.verified.ends); n != 0 {
		t.Errorf("%d signatures of users are remembered, and push administrators' out", n)
	}
}

// TestInside: what fails inside is told by the code of the service, and no more than that.
func TestInside(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	s.close()
	for command, code := range map[string]int{
		"im_open_login_svc/account_import": 70500, "im_open_login_svc/account_check": 70500, "openim/querystate": 70500, "all_member_push/im_get_tag": 91000, "all_member_push/im_add_tag": 91000,
		"all_member_push/im_get_attr": 91000, "all_member_push/im_get_attr_name": 91000, "all_member_push/im_push": 91000,
	} {
		s.want(command, text(`,"MsgRandom":1,"UserID":"u1","CheckItem":[{"UserID":"u1"}],"To_Account":"u1","Tags":["a"]`), code, "")
	}
}

// TestRates: so many requests of a command come through in a second; other commands are counted on their own.
func TestRates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, t.TempDir(), Options{Limits: CloudLimits()}, fanfare.Options{})
		for range 100 {
			s.want(pushes+"get_attr_name", `{}`, 0, `{"AttrNames":{}}`)
		}
		s.want(pushes+"get_attr_name", `{}`, 60011, "")
		s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
		time.Sleep(time.Second)
		s.want(pushes+"get_attr_name", `{}`, 0, `{"AttrNames":{}}`)
	})
}

// pipes is a listener whose connections are pipes, for a server under synctest.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// serve starts a server and returns a client of it.
func (s *scene) serve() *http.Client {
	p := &pipes{make(chan net.Conn), make(chan struct{})}
	server := &http.Server{Handler: s.api}
	go func() { _ = server.Serve(p) }()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		p.conns <- theirs
		return ours, nil
	}}
	s.t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
	})
	return &http.Client{Transport: transport}
}

func decode(t *testing.T, r io.Reader) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.NewDecoder(r).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSlowBody: a body that does not come within its time ends the request with its answer.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, t.TempDir(), Options{BodyTimeout: 3 * time.Second}, fanfare.Options{})
		client := s.serve()
		began := time.Now()
		r, w := io.Pipe()
		defer w.Close()
		go func() { _, _ = io.WriteString(w, `{"UserID":`) }() // and no more
		res, err := client.Post("http://x/v4/im_open_login_svc/account_import"+s.query(), "application/json", r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if out := decode(t, res.Body); res.StatusCode != 200 || out["ErrorCode"] != 60008.0 || time.Since(began) != 3*time.Second {
			t.Errorf("%d %v after %v", res.StatusCode, out, time.Since(began))
		}
	})
}

// TestSlowRefused: a body that does not come keeps no request that was refused before it, whatever for: the answer comes, and the connection ends.
func TestSlowRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
		client := s.serve()
		for _, c := range []struct {
			method, path string
			code         float64
		}{
			{"POST", "/v4/none/none", 60009}, {"POST", "/none", 60002}, {"PUT", "/v4/openim/querystate", 60008}, {"POST", "/openapi.json", 60008},
			{"POST", "/v4/openim/querystate" + s.query("usersig", "x"), 70003}, {"POST", "/v4/openim/querystate?", 60012},
		} {
			r, w := io.Pipe()
			go func() { _, _ = io.WriteString(w, "{") }() // and no more
			began := time.Now()
			req, err := http.NewRequest(c.method, "http://x"+c.path, r)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(c.path, err)
			}
			if out := decode(t, res.Body); out["ErrorCode"] != c.code || time.Since(began) > time.Second {
				t.Errorf("%s %s: %v after %v", c.method, c.path, out, time.Since(began))
			}
			_ = res.Body.Close()
			_ = w.Close()
		}
	})
}

// TestSlowCommand: the time that a body may take is not that of the command, nor of the next request on the connection.
func TestSlowCommand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, t.TempDir(), Options{BodyTimeout: 3 * time.Second, Kick: func(ctx context.Context, _ string) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Minute):
				return nil
			}
		}}, fanfare.Options{})
		s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
		client := s.serve()
		for range 2 {
			res, err := client.Post("http://x/v4/im_open_login_svc/kick"+s.query(), "application/json", strings.NewReader(`{"UserID":"u1"}`))
			if err != nil {
				t.Fatal(err)
			}
			if out := decode(t, res.Body); out["ErrorCode"] != 0.0 {
				t.Error(out)
			}
			_ = res.Body.Close()
			time.Sleep(time.Minute)
		}
	})
}

// TestOverload: beyond the bound the answer comes at once, for every command, and those in flight go on; a request that was refused holds no place.
func TestOverload(t *testing.T) {
	t.Parallel()
	held, release := make(chan struct{}), make(chan struct{})
	s := newScene(t, t.TempDir(), Options{MaxInFlight: 2, Kick: func(context.Context, string) error {
		held <- struct{}{}
		<-release
		return nil
	}}, fanfare.Options{})
	s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
	for range 10 {
		s.want("im_open_login_svc/kick", `{`, 60003, "")
	}
	done := make(chan map[string]any)
	for range 2 {
		go func() { done <- s.call("im_open_login_svc/kick", `{"UserID":"u1"}`) }()
		<-held
	}
	for name := range commands {
		s.want(name, `{}`, 60011, "")
	}
	close(release)
	for range 2 {
		if out := <-done; out["ErrorCode"] != 0.0 {
			t.Error(out)
		}
	}
	s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
}

// TestPanicInside: a panic is an answer, and a line in the log; its place is free again.
func TestPanicInside(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{MaxInFlight: 1, Kick: func(context.Context, string) error { panic("secret") }}, fanfare.Options{})
	s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
	for range 3 {
		if out := s.call("im_open_login_svc/kick", `{"UserID":"u1"}`); out["ErrorCode"] != 70500.0 || strings.Contains(fmt.Sprint(out), "secret") {
			t.Error(out)
		}
	}
}

// TestManyNames: a request as large as it may be is refused by the code of what is wrong with it, not as a failure inside.
func TestManyNames(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
	s.want(pushes+"set_attr_name", `{"AttrNames":{"0":"a"}}`, 0, "")
	many := make([]string, 18000)
	for i := range many {
		many[i] = fmt.Sprintf(`"%024d":"%024d"`, i, i)
	}
	s.want(pushes+"remove_attr", `{"To_Account":"u1","Attrs":{`+strings.Join(many, ",")+`}}`, 90056, "")
	many = many[:8000]
	s.want(pushes+"remove_attr", `{"To_Account":"u1","Attrs":{`+strings.Join(many, ",")+`}}`, 90033, "")
	s.want(pushes+"push", text(`,"MsgRandom":1,"Condition":{"AttrsOr":{`+strings.Join(many, ",")+`}}`), 90033, "")
}

// TestErrorInfoIsText: however a value is cut in ErrorInfo, it is UTF-8.
func TestErrorInfoIsText(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	for i := range 4 {
		w := httptest.NewRecorder()
		body := `{"UserTags":"` + strings.Repeat("x", i) + strings.Repeat("é世😀", 100) + `"}`
		s.api.ServeHTTP(w, httptest.NewRequest("POST", "/v4/all_member_push/im_add_tag"+s.query(), strings.NewReader(body)))
		if strings.Contains(w.Body.String(), "\ufffd") || strings.Contains(w.Body.String(), `\ufffd`) {
			t.Errorf("%s", w.Body)
		}
	}
}
