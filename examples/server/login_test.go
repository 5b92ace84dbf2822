package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/fanfare-im/fanfare/rest/usersig"
)

func TestLogin(t *testing.T) {
	p := start(t, t.TempDir())
	good, err := url.ParseQuery(query("alice", testKey))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 33)
	for _, of := range []struct{ name, value, reason string }{
		{"sdkappid", "1400000001", "sdkappid is not known here"},
		{"sdkappid", "", "sdkappid is not known here"},
		{"identifier", "", "identifier must be 1 to 32 bytes of UTF-8"},
		{"identifier", long, "identifier must be 1 to 32 bytes of UTF-8"},
		{"identifier", "bob", "usersig: made for another user"},
		{"usersig", "", "usersig: malformed"},
		{"usersig", usersig.Sign(usersig.Sig{Identifier: "alice", SDKAppID: testAppID, Expire: time.Hour}, []byte("other")), usersig.ErrSignature.Error()},
		{"usersig", usersig.Sign(usersig.Sig{Identifier: "alice", SDKAppID: testAppID, Time: time.Now().Add(-time.Hour), Expire: time.Minute}, []byte(testKey)), "usersig: expired"},
		{"usersig", usersig.Sign(usersig.Sig{Identifier: "alice", SDKAppID: 1, Expire: time.Hour}, []byte(testKey)), "usersig: made for another application"},
	} {
		q := url.Values{}
		for name := range good {
			q.Set(name, good.Get(name))
		}
		q.Set(of.name, of.value)
		if status, text := p.get("/ws?" + q.Encode()); status != http.StatusUnauthorized || text != of.reason {
			t.Errorf("%s=%q is answered with %d %q", of.name, of.value, status, text)
		}
	}
	if status, _ := p.get("/ws?" + good.Encode()); status != http.StatusUpgradeRequired {
		t.Errorf("without an upgrade the answer is %d", status)
	}
	p.dial("alice").leave()
	if known := p.call("im_open_login_svc/account_check", `{"CheckItem":[{"UserID":"alice"},{"UserID":"bob"}]}`)["ResultItem"].([]any); known[0].(map[string]any)["AccountStatus"] != "Imported" || known[1].(map[string]any)["AccountStatus"] != "NotImported" {
		t.Errorf("known: %v", known)
	}
}

func TestKick(t *testing.T) {
	p := start(t, t.TempDir())
	phone, desk, bob := p.dial("alice"), p.dial("alice"), p.dial("bob")
	p.call("im_open_login_svc/kick", `{"UserID":"alice"}`)
	status := p.call("openim/query_online_status", `{"To_Account":["alice","bob"]}`)["QueryResult"].([]any)
	if status[0].(map[string]any)["Status"] != "Offline" || status[1].(map[string]any)["Status"] != "Online" {
		t.Errorf("after a kick: %v", status)
	}
	phone.closed(websocket.StatusPolicyViolation, "kicked")
	desk.closed(websocket.StatusPolicyViolation, "kicked")
	p.push(1, "still here", "")
	bob.expect("still here")
}
