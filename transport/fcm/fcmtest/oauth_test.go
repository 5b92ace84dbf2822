package fcmtest_test

import (
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// clock is one that a test moves.
type clock struct{ past atomic.Int64 }

var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func (c *clock) Now() time.Time             { return start.Add(time.Duration(c.past.Load())) }
func (c *clock) Move(d time.Duration)       { c.past.Add(int64(d)) }
func (c *clock) Options() fcmtest.Options   { return fcmtest.Options{Now: c.Now} }
func (c *client) renew(now time.Time) grant { return c.ask(grantForm(assertion(c.t, c.s, now, nil))) }

func TestAccessTokenExpires(t *testing.T) {
	t.Parallel()
	var now clock
	o := now.Options()
	o.AccessTokenLife = 90 * time.Second
	s := newServer(t, o)
	c := &client{t: t, s: s, http: s.Client()}
	g := c.renew(now.Now())
	if g.status != 200 || g.ExpiresIn != 90 || g.TokenType != "Bearer" || !strings.HasPrefix(g.AccessToken, "ya29.") {
		t.Fatalf("%+v", g)
	}
	c.access = g.AccessToken
	now.Move(90*time.Second - 1)
	if r := c.send(hello(s.Token(1))); r.status != 200 {
		t.Error(r.status)
	}
	now.Move(1)
	r := c.send(hello(s.Token(1)))
	if r.status != 401 || r.code != "UNAUTHENTICATED" || r.reason != "ACCESS_TOKEN_EXPIRED" || r.errorCode != "" ||
		!strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("%d %v\n%s", r.status, r.header, r.body)
	}
	if c.access = c.renew(now.Now()).AccessToken; c.send(hello(s.Token(1))).status != 200 || s.AccessTokens() != 2 {
		t.Error(s.AccessTokens())
	}
	if p := s.Problems(); p != nil {
		t.Error(p)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	s.Revoke()
	if r := c.send(hello(s.Token(1))); r.status != 401 || r.code != "UNAUTHENTICATED" {
		t.Errorf("%s", r.body)
	}
	c.access = c.authorize()
	if r := c.send(hello(s.Token(1))); r.status != 200 {
		t.Errorf("%s", r.body)
	}
}

func TestRefuseAssertions(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	s.RefuseAssertions(true)
	if g := c.renew(time.Now()); g.status != 400 || g.Error != "invalid_grant" {
		t.Errorf("%+v", g)
	}
	if r := c.send(hello(s.Token(1))); r.status != 200 {
		t.Error("the token given before:", r.status)
	}
	s.RefuseAssertions(false)
	if g := c.renew(time.Now()); g.status != 200 {
		t.Errorf("%+v", g)
	}
}

// The clock that signs is off by so much.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	var now clock
	s := newServer(t, now.Options())
	c := &client{t: t, s: s, http: s.Client()}
	for off, right := range map[time.Duration]bool{
		0: true, 4 * time.Minute: true, -4 * time.Minute: true, -64 * time.Minute: true,
		6 * time.Minute: false, -66 * time.Minute: false, 24 * time.Hour: false,
	} {
		g := c.renew(now.Now().Add(off))
		const want = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."
		if right && g.AccessToken == "" || !right && (g.status != 400 || g.Error != "invalid_grant" || g.Description != want) {
			t.Errorf("%v: %+v", off, g)
		}
	}
	if p := s.Problems(); p != nil {
		t.Error("a clock is not the client's fault:", p)
	}
}

func TestAssertions(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	other := newServer(t, fcmtest.Options{Project: "other"})
	now := time.Now()
	set := func(claim string, value any) string {
		return grantForm(assertion(t, s, now, func(_, claims map[string]any) { claims[claim] = value }))
	}
	good := assertion(t, s, now, nil)
	cut := strings.LastIndex(good, ".")
	for name, x := range map[string]struct{ form, code, description string }{
		"no grant type":      {"", "invalid_request", "Required parameter is missing: grant_type"},
		"another grant type": {"grant_type=password", "unsupported_grant_type", "Invalid grant_type: password"},
		"no assertion":       {grantForm(""), "invalid_request", "Required parameter is missing: assertion"},
		"not a form":         {"%", "invalid_request", "Bad Request"},
		"not a JWT":          {grantForm("x"), "invalid_grant", "Bad Request"},
		"not base64":         {grantForm("a.b.!"), "invalid_grant", "Bad Request"},
		"another account":    {grantForm(assertion(t, other, now, nil)), "invalid_grant", "Invalid grant: account not found"},
		"another audience":   {set("aud", other.URL()+"/token"), "invalid_grant", "Invalid JWT: Failed audience check. The right audience is " + s.URL() + "/token"},
		"two hours":          {set("exp", now.Add(2*time.Hour).Unix()), "invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."},
		"no scope":           {set("scope", ""), "invalid_scope", "Empty or missing scope not allowed."},
		"another signature":  {grantForm(good[:cut] + "." + url.QueryEscape("AAAA")), "invalid_grant", "Invalid JWT Signature."},
		"another key": {grantForm(assertion(t, s, now, func(header, _ map[string]any) { header["kid"] = "x" })),
			"invalid_grant", "Invalid JWT Signature."},
		"another algorithm": {grantForm(assertion(t, s, now, func(header, _ map[string]any) { header["alg"] = "none" })),
			"invalid_grant", "Bad Request"},
	} {
		g := c.ask(x.form)
		if g.status != 400 || g.Error != x.code || g.Description != x.description || g.AccessToken != "" {
			t.Errorf("%s: %+v", name, g)
		}
	}
	if s.AccessTokens() != 1 || len(s.Problems()) == 0 {
		t.Error(s.AccessTokens(), s.Problems())
	}
}

func TestUnauthorized(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	narrow := c.ask(grantForm(assertion(t, s, time.Now(), func(_, claims map[string]any) {
		claims["scope"] = "https://www.googleapis.com/auth/devstorage.read_only"
	}))).AccessToken
	for _, x := range []struct {
		access, path string
		status       int
		code, reason string
	}{
		{"", "/v1/projects/fanfare-test/messages:send", 401, "UNAUTHENTICATED", "CREDENTIALS_MISSING"},
		{"x", "/v1/projects/fanfare-test/messages:send", 401, "UNAUTHENTICATED", "ACCESS_TOKEN_TYPE_UNSUPPORTED"},
		{narrow, "/v1/projects/fanfare-test/messages:send", 403, "PERMISSION_DENIED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"},
		{c.access, "/v1/projects/other/messages:send", 403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED"},
		{c.access, "/v1/projects/fanfare-test/messages", 404, "", ""},
		{c.access, "/v1/projects/a/b/messages:send", 404, "", ""},
		{c.access, "/batch", 404, "", ""},
	} {
		before := len(s.Problems())
		r, err := c.postAs(x.access, x.path, "application/json", []byte(hello(s.Token(1))))
		if err != nil {
			t.Fatal(err)
		}
		if r.status != x.status || r.code != x.code || r.reason != x.reason || r.errorCode != "" {
			t.Errorf("%s: %d\n%s", x.path, r.status, r.body)
		}
		if len(s.Problems()) != before+1 {
			t.Errorf("%s: problems %q", x.path, s.Problems()[before:])
		}
	}
	if s.Total() != 0 {
		t.Error(s.Total())
	}
}
