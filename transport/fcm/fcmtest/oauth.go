package fcmtest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// tokens are the access tokens that the token endpoint has given out.
type tokens struct {
	mu     sync.RWMutex
	given  map[string]accessToken
	issued int
	refuse bool
}

type accessToken struct {
	end  time.Time
	send bool // has a scope that sending needs
}

// AccessTokens returns how many access tokens have been given out.
func (s *Server) AccessTokens() int {
	s.tokens.mu.RLock()
	defer s.tokens.mu.RUnlock()
	return s.tokens.issued
}

// Revoke makes the access tokens that have been given out so far no longer
// valid: a send with one is answered with 401 UNAUTHENTICATED.
func (s *Server) Revoke() {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	for token, t := range s.tokens.given {
		t.end = time.Time{}
		s.tokens.given[token] = t
	}
}

// RefuseAssertions makes the token endpoint answer with 400 invalid_grant, as
// for a key that was deleted, until it is called with false.
func (s *Server) RefuseAssertions(on bool) {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	s.tokens.refuse = on
}

// authorize returns nil for a request that may send.
func (s *Server) authorize(r *http.Request) *reply {
	header := r.Header.Get("Authorization")
	scheme, token, _ := strings.Cut(header, " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		s.problem("a send without an access token")
		return missing
	}
	s.tokens.mu.RLock()
	t, ok := s.tokens.given[token]
	s.tokens.mu.RUnlock()
	switch {
	case !ok:
		s.problem("a send with an access token that was never given out")
		return unknown
	case !s.options.Now().Before(t.end):
		return expired
	case !t.send:
		s.problem("a send with an access token without a scope for it")
		return noScope
	}
	return nil
}

// refusal is the body of an error of the token endpoint.
type refusal struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func (e refusal) reply() *reply {
	return &reply{status: http.StatusBadRequest, kind: jsonType, body: encode(e)}
}

const grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// grant answers a request to the token endpoint.
func (s *Server) grant(r *http.Request, body []byte) *reply {
	form, err := url.ParseQuery(string(body))
	if err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return s.refuse("invalid_request", "Bad Request")
	}
	if t := form.Get("grant_type"); t != grantType {
		if t == "" {
			return s.refuse("invalid_request", "Required parameter is missing: grant_type")
		}
		return s.refuse("unsupported_grant_type", "Invalid grant_type: "+t)
	}
	assertion := form.Get("assertion")
	if assertion == "" {
		return s.refuse("invalid_request", "Required parameter is missing: assertion")
	}
	claims, why := s.account.verify(assertion)
	if why != "" {
		return s.refuse("invalid_grant", why)
	}
	if claims.Audience != s.url+"/token" {
		return s.refuse("invalid_grant", "Invalid JWT: Failed audience check. The right audience is "+s.url+"/token")
	}
	// A clock that is wrong is not the fault of the client's code, nor is a key
	// that was deleted.
	if !claims.timely(s.options.Now()) {
		return refusal{"invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."}.reply()
	}
	scopes := strings.Fields(claims.Scope)
	if len(scopes) == 0 {
		return s.refuse("invalid_scope", "Empty or missing scope not allowed.")
	}
	send := slices.Contains(scopes, "https://www.googleapis.com/auth/firebase.messaging") ||
		slices.Contains(scopes, "https://www.googleapis.com/auth/cloud-platform")
	return s.issue(send)
}

func (s *Server) refuse(code, description string) *reply {
	s.problem("token endpoint: " + description)
	return refusal{code, description}.reply()
}

func (s *Server) issue(send bool) *reply {
	var random [96]byte
	rand.Read(random[:]) // never fails
	token := "ya29.c." + base64.RawURLEncoding.EncodeToString(random[:])
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	if s.tokens.refuse {
		return refusal{"invalid_grant", "Invalid JWT Signature."}.reply()
	}
	life := s.options.AccessTokenLife
	s.tokens.given[token] = accessToken{s.options.Now().Add(life), send}
	s.tokens.issued++
	return &reply{status: http.StatusOK, kind: jsonType, body: encode(struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
		TokenType   string `json:"token_type"`
	}{token, int64(life / time.Second), "Bearer"})}
}

// claims are those of an assertion. Times are seconds since 1970.
type claims struct {
	Issuer   string  `json:"iss"`
	Scope    string  `json:"scope"`
	Audience string  `json:"aud"`
	Issued   float64 `json:"iat"`
	Expires  float64 `json:"exp"`
}

// timely allows clocks to differ by five minutes, of which Google says nothing
// but that there is such an allowance.
func (c *claims) timely(now time.Time) bool {
	const skew = 5 * 60
	t := float64(now.Unix())
	return c.Issued <= t+skew && c.Expires >= t-skew && c.Expires > c.Issued && c.Expires-c.Issued <= 60*60
}

// verify reads an assertion that the account has signed, or says what is wrong.
func (a *account) verify(assertion string) (c claims, why string) {
	part := strings.Split(assertion, ".")
	if len(part) != 3 {
		return c, "Bad Request"
	}
	var header struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
	}
	signature, err := base64.RawURLEncoding.DecodeString(part[2])
	if err != nil || !unmarshal(part[0], &header) || !unmarshal(part[1], &c) || header.Algorithm != "RS256" {
		return c, "Bad Request"
	}
	if c.Issuer != a.email {
		return c, "Invalid grant: account not found"
	}
	sum := sha256.Sum256([]byte(part[0] + "." + part[1]))
	if header.KeyID != "" && header.KeyID != a.keyID || rsa.VerifyPKCS1v15(&a.key.PublicKey, crypto.SHA256, sum[:], signature) != nil {
		return c, "Invalid JWT Signature."
	}
	return c, ""
}

func unmarshal(part string, v any) bool {
	b, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(b, v) == nil
}
