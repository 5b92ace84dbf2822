package rest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/rest/usersig"
	"github.com/fanfare-im/fanfare/transport"
)

// vector is a UserSig that others made: for administrator, at 1700000000, for 86400 seconds.
const vector = "eJyrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwokpuZl5mcUlRYkl*UVQBcUp2YkFBZkpSlaGJgZQAJFJrSjILEpVsrIwM4EJlWTmAgUMzVEVFmemAw33skwr9s02CQos8XUPyDU0zyiL0k*KSjcoMg4oDXNN8gtKKs-3r4jQzjFytVWqBQDAODQF"

const anyCommand = "/v4/all_member_push/im_get_attr_name"

// wantCode sends a request with a query and compares the code.
func (s *scene) wantCode(query string, code int) {
	s.t.Helper()
	if out := s.send("POST", anyCommand+query, "{}"); out["ErrorCode"] != float64(code) {
		s.t.Errorf("%s: %v, want %d", query, out, code)
	}
}

// TestVector: a UserSig made elsewhere is good raw and percent-encoded, and in its last second; remembered or not.
func TestVector(t *testing.T) {
	t.Parallel()
	const end = 1_700_000_000 + 86_400
	for _, remembered := range []bool{false, true} {
		now := time.Unix(end, 999_999_999)
		s := newScene(t, t.TempDir(), Options{Now: func() time.Time { return now }}, fanfare.Options{})
		s.sig = vector
		raw := "?sdkappid=1400000000&identifier=administrator&contenttype=json&random=123456789012345678901&usersig=" + vector
		if remembered {
			s.wantCode(raw, 0)
			s.wantCode(strings.ReplaceAll(raw, "*", "%2A"), 0)
			s.wantCode(s.query(), 0)
		}
		now = time.Unix(end+1, 0)
		s.wantCode(raw, 70001)
		s.wantCode(raw, 70001) // forgotten, and looked at anew
	}
}

// TestSignatureOrder: of several faults the one is told that the published verifier finds first.
func TestSignatureOrder(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	s := newScene(t, t.TempDir(), Options{Now: func() time.Time { return now }}, fanfare.Options{})
	for _, c := range []struct {
		app      int64
		id       string
		ago      time.Duration
		key      string
		code     int
		describe string
	}{
		{7, "somebody", time.Hour, "x", 70014, "all is wrong"},
		{appID, "somebody", time.Hour, "x", 70013, "identifier, end and key"},
		{appID, "administrator", time.Hour, "x", 70001, "end and key"},
		{appID, "administrator", 0, "x", 70009, "key"},
		{appID, "administrator", time.Minute, string(secret), 0, "nothing"},
	} {
		s.sig = usersig.Sign(usersig.Sig{Identifier: c.id, SDKAppID: c.app, Time: now.Add(-c.ago), Expire: time.Minute}, []byte(c.key))
		if out := s.send("POST", anyCommand+s.query(), "{}"); out["ErrorCode"] != float64(c.code) {
			t.Errorf("%s: %v, want %d", c.describe, out, c.code)
		}
	}
}

// TestRotation: while one key replaces another both are good, and each alone is not the other.
func TestRotation(t *testing.T) {
	t.Parallel()
	old, next := transport.Secret("old"), transport.Secret("next")
	for _, c := range []struct {
		keys             []transport.Secret
		oldCode, newCode int
	}{
		{[]transport.Secret{old}, 0, 70009}, {[]transport.Secret{old, next}, 0, 0}, {[]transport.Secret{next}, 70009, 0},
	} {
		s := newScene(t, t.TempDir(), Options{Keys: c.keys}, fanfare.Options{})
		for i, key := range []transport.Secret{old, next} {
			sig := usersig.Sign(usersig.Sig{Identifier: "administrator", SDKAppID: appID, Expire: time.Hour}, key)
			s.wantCode(s.query("usersig", sig), []int{c.oldCode, c.newCode}[i])
		}
	}
}

// TestRememberedForOne: a good UserSig that is remembered vouches for its own user only.
func TestRememberedForOne(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{Admins: []string{"administrator", "second"}}, fanfare.Options{})
	s.wantCode(s.query(), 0)
	s.wantCode(s.query("identifier", "second"), 70013)
	s.wantCode(s.query("sdkappid", "7"), 70020)
	s.wantCode(s.query("identifier", "administrator\x00"), 70013)
}

// TestRememberedAreBounded: however many good signatures there are, so many are kept, and each is good.
func TestRememberedAreBounded(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	for i := range maxVerified + 50 {
		sig := usersig.Sig{Identifier: "administrator", SDKAppID: appID, Expire: time.Hour + time.Duration(i)*time.Second}
		s.wantCode(s.query("usersig", usersig.Sign(sig, secret)), 0)
	}
	if n := len(s.api.verified.ends); n != maxVerified {
		t.Errorf("%d are kept", n)
	}
}

// TestQuery: what of the query is looked at, and what is not.
func TestQuery(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{}, fanfare.Options{})
	for _, c := range []struct {
		query string
		code  int
	}{
		{s.query("random", ""), 0},
		{s.query("random", "-1"), 0},
		{s.query("random", "x"), 0},
		{s.query("contenttype", ""), 0},
		{s.query("contenttype", "xml"), 0},
		{"", 60012},
		{"?sdkappid=%zz", 60012},
		{s.query("sdkappid", "-5"), 60006},
		{s.query("sdkappid", "99999999999999999999"), 60006},
		{s.query("identifier", strings.Repeat("x", 33)), 60004},
		{s.query("usersig", strings.Repeat("x", usersig.MaxBytes+1)), 60005},
		{s.query("usersig", "%%%"), 70003},
	} {
		s.wantCode(c.query, c.code)
	}
	for _, header := range []string{"", "application/json", "application/json; charset=utf-8", "text/plain", ";;"} {
		if out := s.sendAs(header, anyCommand+s.query(), "{}"); out["ErrorCode"] != 0.0 {
			t.Errorf("%s: %v", fmt.Sprintf("%q", header), out)
		}
	}
}
