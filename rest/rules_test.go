package rest

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/rest/usersig"
)

// TestOnlineOnlyFlag: it is the newer service's, where a push without a lifetime waits for seven days.
func TestOnlineOnlyFlag(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
	const week = 7 * 24 * time.Hour
	for i, c := range []struct {
		command, more string
		code          int
		lifetime      time.Duration
	}{
		{"all_member_push/im_push", ``, 0, 0},
		{"all_member_push/im_push", `,"OnlineOnlyFlag":0`, 0, 0},
		{"all_member_push/im_push", `,"OnlineOnlyFlag":1,"MsgLifeTime":60`, 0, time.Minute},
		{"timpush/push", ``, 0, week},
		{"timpush/push", `,"OnlineOnlyFlag":0`, 0, week},
		{"timpush/push", `,"OnlineOnlyFlag":"0","MsgLifeTime":60`, 0, time.Minute},
		{"timpush/push", `,"OnlineOnlyFlag":null,"MsgLifeTime":0`, 0, 0},
		{"timpush/push", `,"OnlineOnlyFlag":1`, 0, 0},
		{"timpush/push", `,"OnlineOnlyFlag":1,"MsgLifeTime":60`, 0, 0},
		{"timpush/push", `,"OnlineOnlyFlag":2`, 90001, 0},
		{"timpush/push", `,"OnlineOnlyFlag":"yes"`, 90001, 0},
	} {
		out := s.call(c.command, text(fmt.Sprintf(`,"MsgRandom":%d%s`, i, c.more)))
		if out["ErrorCode"] != float64(c.code) {
			t.Errorf("%s %s: %v", c.command, c.more, out)
		}
		if c.code != 0 {
			continue
		}
		task, err := s.p.Task(t.Context(), fmt.Sprint(out["TaskId"]))
		if err != nil {
			t.Fatal(err)
		}
		if info := task.Info(); info.Expires.Sub(info.Accepted) != c.lifetime {
			t.Errorf("%s %s: for %v", c.command, c.more, info.Expires.Sub(info.Accepted))
		}
	}
}

// TestRevoke: a push can be taken back for a day, once.
func TestRevoke(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
		s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
		revoke := func(id string, code int) {
			t.Helper()
			s.want("timpush/revoke", `{"TaskId":"`+id+`"}`, code, "")
		}
		revoke("none", 90049)
		revoke("00000000000000010123456789abcdef", 90049)
		first, second := s.task(1, `,"MsgLifeTime":604800`).ID, s.task(2, `,"MsgLifeTime":604800`).ID
		revoke(first, 0)
		revoke(first, 90050)
		time.Sleep(24 * time.Hour)
		revoke(second, 0) // the last moment
		third := s.task(3, `,"MsgLifeTime":604800`).ID
		time.Sleep(24*time.Hour + time.Millisecond)
		revoke(third, 90052)
		if g, err := s.task(3, "").Progress(); err != nil || g.Pending != 1 {
			t.Errorf("%+v, %v", g, err)
		}
	})
}

// TestSender: a push that names no sender is the same administrator's whoever calls, so that another one may do it again.
func TestSender(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{Admins: []string{"administrator", "second"}}, fanfare.Options{})
	first := s.task(1, "")
	sig := usersig.Sign(usersig.Sig{Identifier: "second", SDKAppID: appID, Expire: time.Hour}, secret)
	again := s.send("POST", "/v4/"+pushes+"push"+s.query("identifier", "second", "usersig", sig), text(`,"MsgRandom":1`))
	if again["TaskId"] != first.ID || first.Info().From != "administrator" {
		t.Errorf("%s and %v, from %s", first.ID, again, first.Info().From)
	}
}

// TestLoweredLimits: what is over the Pusher's own limits has the code of the field.
func TestLoweredLimits(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{Limits: fanfare.Limits{Lifetime: time.Hour, TagBytes: 5, ValueBytes: 5, NameBytes: 5, BodyBytes: 200}})
	s.want("im_open_login_svc/account_import", `{"UserID":"u1"}`, 0, "")
	s.want(pushes+"set_attr_name", `{"AttrNames":{"0":"sex"}}`, 0, "")
	for _, c := range []struct {
		command, body string
		code          int
	}{
		{"push", text(`,"MsgRandom":1,"MsgLifeTime":3601`), 90026},
		{"push", text(`,"MsgRandom":1,"Condition":{"TagsOr":["longer"]}`), 90020},
		{"push", text(`,"MsgRandom":1,"Condition":{"AttrsOr":{"sex":"longer"}}`), 90033},
		{"push", text(`,"MsgRandom":1,"Condition":{"AttrsOr":{"longer":"f"}}`), 90033},
		{"push", text(`,"MsgRandom":1,"CloudCustomData":"` + fmt.Sprintf("%0200d", 0) + `"`), 90056},
		{"add_tag", `{"To_Account":"u1","Tags":["longer"]}`, 90020},
		{"set_attr", `{"To_Account":"u1","Attrs":{"sex":"longer"}}`, 90033},
		{"set_attr_name", `{"AttrNames":{"1":"longer"}}`, 90033},
	} {
		s.want(pushes+c.command, c.body, c.code, "")
	}
}

// TestOneUserInSeveralRows: the rows of one user are one row, also where tags are replaced and counted.
func TestOneUserInSeveralRows(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	s.want("im_open_login_svc/multiaccount_import", `{"Accounts":["u1","u2"]}`, 0, `{"FailAccounts":[]}`)
	s.want(pushes+"add_tag", `{"To_Account":"u1","Tags":["old"]}`, 0, "")
	s.want("timpush/add_tag", `{"Replace":1,"UserTags":[{"To_Account":"u1","Tags":["a"]},{"To_Account":"u2","Tags":["c"]},{"To_Account":"u1","Tags":["b","a"]}]}`, 0, "")
	list := `[{"To_Account":"u1","Tags":["a","b"]},{"To_Account":"u2","Tags":["c"]}]`
	s.want(pushes+"get_tag", `{"To_Account":["u1","u2"]}`, 0, `{"UserTags":`+list+`,"Tags":`+list+`}`)
	s.want(pushes+"add_tag", `{"UserTags":[{"To_Account":"u1","Tags":["1","2","3","4","5","6"]},{"To_Account":"u1","Tags":["7","8","9","10","11"]}]}`, 90032, "")
	s.want(pushes+"get_tag", `{"To_Account":["u1","u2"]}`, 0, `{"UserTags":`+list+`,"Tags":`+list+`}`)
}

// TestEmptyOfTwo: of two fields that mean the same the one with something in it counts, as some clients send both.
func TestEmptyOfTwo(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	s.want("im_open_login_svc/account_import", `{"UserID":"","Identifier":"u1"}`, 0, "")
	s.want("im_open_login_svc/multiaccount_import", `{"AccountList":[],"Accounts":["u2"]}`, 0, `{"FailAccounts":[]}`)
	s.want(pushes+"add_tag", `{"UserTags":[],"Tags":[{"To_Account":"u1","Tags":["a"]}]}`, 0, "")
	s.want(pushes+"set_attr_name", `{"AttrNames":["sex","city"]}`, 0, "") // PHP's array of "0" and "1"
	s.want(pushes+"get_attr_name", `null`, 0, `{"AttrNames":{"0":"sex","1":"city"}}`)
	s.want(pushes+"set_attr", "\ufeff"+`{"UserAttrs":null,"Attrs":[{"To_Account":"u2","Attrs":{"sex":"f"}}]}`, 0, "")
	list := `[{"To_Account":"u2","Attrs":{"sex":"f"}}]`
	s.want(pushes+"get_attr", `{"To_Account":"u2"}`, 0, `{"UserAttrs":`+list+`,"Attrs":`+list+`}`)
}
