package rest

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/rest/usersig"
	"github.com/fanfare-im/fanfare/transport"
)

// FuzzRequest: whatever the method, the path, the query beside a good signature and the body are, the answer is an envelope of UTF-8, and nothing panics or fails
// inside; the store is sound at the end.
func FuzzRequest(f *testing.F) {
	p, err := fanfare.Open(f.TempDir(), fanfare.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := p.Check(context.Background()); err != nil {
			f.Error(err)
		}
		_ = p.Close(context.Background())
	})
	if err := p.Register(f.Context(), "u1", "u2"); err != nil {
		f.Fatal(err)
	}
	log := new(strings.Builder)
	api := Handler(p, Options{SDKAppID: appID, Keys: []transport.Secret{secret}, Logger: slog.New(slog.NewTextHandler(log, nil)), Kick: func(context.Context, string) error { return nil }})
	sig := usersig.Sign(usersig.Sig{Identifier: "administrator", SDKAppID: appID, Expire: 1 << 60}, secret)
	examples := map[string]string{
		"account_import": `{"UserID":"u1","Nick":"n"}`, "multiaccount_import": `{"AccountList":[{"UserID":"u1"}]}`, "account_check": `{"CheckItem":[{"UserID":"u1"}]}`,
		"account_delete": `{"DeleteItem":[{"UserID":"u2"}]}`, "kick": `{"UserID":"u1"}`, "query_online_status": `{"To_Account":["u1"],"IsNeedDetail":1}`,
		"set_attr_name": `{"AttrNames":{"0":"a","1":"b"}}`, "set_attr": `{"UserAttrs":[{"To_Account":"u1","Attrs":{"a":"x","b":1}}]}`,
		"remove_attr": `{"Attrs":[{"To_Account":"u1","Attrs":["a"]}]}`, "add_tag": `{"To_Account":"u1","Tags":["a","b"],"Replace":1}`, "remove_tag": `{"UserTags":[{"To_Account":"u1","Tags":{"0":"a"}}]}`,
		"push": `{"MsgRandom":-1,"MsgLifeTime":60,"From_Account":"a","Condition":[{"TagsOr":["a"],"TagsAnd":["b"]}],"CloudCustomData":"c","MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}},
			{"MsgType":"TIMImageElem","MsgContent":{"UUID":"u","ImageInfoArray":[{"Type":1,"URL":"x"}]}}],"OfflinePushInfo":{"PushFlag":0,"Title":"t","Ext":"e","ApnsInfo":{"Sound":"s"},"AndroidInfo":{"Sound":"s"}}}`,
		"revoke": `{"TaskId":"x"}`, "all_member_push_statistics": `{"TaskID":["x"],"StartTime":1,"EndTime":2}`,
	}
	for name := range commands {
		body, is := examples[strings.TrimPrefix(name[strings.Index(name, "/")+1:], "im_")]
		if !is {
			body = `{"To_Account":["u1","n"]}`
		}
		f.Add("POST", "/v4/"+name, "", body)
	}
	f.Add("GET", "/v4/all_member_push/im_push", "random=x", "")
	f.Add("POST", "/v4/\x00\xff", "sdkappid=7", "null")
	f.Add("HEAD", "", "%zz", "[")
	f.Add("POST", "/v4/all_member_push/im_push", "", strings.Repeat("[", 1000))
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		if path == "/openapi.json" {
			return
		}
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Method, r.URL.Path, r.URL.RawQuery = method, path, "sdkappid=1400000000&identifier=administrator&usersig="+sig+"&"+query
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		var out struct {
			ActionStatus, ErrorInfo *string
			ErrorCode               *int
		}
		b := w.Body.Bytes()
		if err := json.Unmarshal(b, &out); err != nil || w.Code != http.StatusOK || !utf8.Valid(b) || out.ActionStatus == nil || out.ErrorInfo == nil || out.ErrorCode == nil {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		if ok := *out.ActionStatus == "OK"; ok != (*out.ErrorCode == 0) || ok != (*out.ErrorInfo == "") || !ok && *out.ActionStatus != "FAIL" {
			t.Fatalf("%s", w.Body)
		}
		if len(*out.ErrorInfo) > 2000 {
			t.Fatalf("ErrorInfo has %d bytes", len(*out.ErrorInfo))
		}
		if log.Len() > 0 {
			t.Fatal(log.String())
		}
	})
}
