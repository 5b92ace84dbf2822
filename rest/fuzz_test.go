package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/rest/usersig"
	"github.com/fanfare-im/fanfare/transport"
)

// FuzzHandler: whatever is sent with a good signature, the answer is an envelope, nothing panics, and the store is sound.
func FuzzHandler(f *testing.F) {
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
	var log bytes.Buffer
	api := Handler(p, Options{SDKAppID: appID, Keys: []transport.Secret{secret}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	query := "?sdkappid=1400000000&identifier=administrator&usersig=" +
		usersig.Sign(usersig.Sig{Identifier: "administrator", SDKAppID: appID, Expire: 1 << 60}, secret)
	names := make([]string, 0, len(commands))
	for name := range commands {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, body := range []string{
		`{"UserID":"u"}`, `{"Accounts":["u"]}`, `{"CheckItem":[{"UserID":"u"}]}`, `{"AttrNames":{"0":"a"}}`, `{"UserAttrs":[{"To_Account":"u","Attrs":{"a":"b"}}]}`,
		`{"To_Account":["u"]}`, `{"UserTags":[{"To_Account":"u","Tags":{"0":"t"}}]}`, `{"TaskID":["x"],"StartTime":1e0}`, `{"TaskId":"x"}`,
		`{"MsgRandom":1,"MsgLifeTime":9,"MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"x"}}],"Condition":{"TagsOr":["t"]},"OfflinePushInfo":{"Ext":{}}}`,
	} {
		for k := range names {
			f.Add(uint8(k), body)
		}
		f.Add(uint8(i), strings.Repeat("[", 1000))
	}
	f.Fuzz(func(t *testing.T, command uint8, body string) {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v4/"+names[int(command)%len(names)]+query, strings.NewReader(body)))
		var out struct {
			ActionStatus, ErrorInfo *string
			ErrorCode               *int
		}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusOK || out.ActionStatus == nil || out.ErrorInfo == nil || out.ErrorCode == nil {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		if log.Len() > 0 {
			t.Fatal(log.String())
		}
	})
}
