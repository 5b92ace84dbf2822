package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
)

// Role is what somebody may do.
type Role int

const (
	// Viewer sees everything but the form, and changes nothing.
	Viewer Role = iota + 1
	// Operator pushes and withdraws, too.
	Operator
)

// String returns the role's name in lower case.
func (r Role) String() string {
	switch r {
	case Viewer:
		return "viewer"
	case Operator:
		return "operator"
	}
	return "nobody"
}

// MarshalText returns the role's name.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText sets the role by its name.
func (r *Role) UnmarshalText(text []byte) error {
	for _, role := range []Role{0, Viewer, Operator} {
		if role.String() == string(text) {
			*r = role
			return nil
		}
	}
	return fmt.Errorf("console: there is no role %q", text)
}

// Identity is who asks.
type Identity struct {
	Name string // as the audit log has it; needed
	Role Role   // the zero Role, or one that there is not, may do nothing
}

// Refusal is an error of [Options].Identify that says how a request is refused.
type Refusal struct {
	Status    int    // 401 or 403; 0 means 403
	Challenge string // the header WWW-Authenticate of a 401, such as `Basic realm="console"`
	Location  string // where one signs in; given, the answer to a page is a redirect there, and what a page looks at again takes the browser there
}

// Error says how the request is refused.
func (r *Refusal) Error() string {
	return fmt.Sprintf("console: refused with %d", r.status())
}

func (r *Refusal) status() int {
	if r.Status == 0 {
		return http.StatusForbidden
	}
	return r.Status
}

// BasicAuth returns an Identify that asks the browser for a name and a password, by HTTP basic authentication, and has check say who that
// is; false refuses. Passwords go over the wire as they are: it is for TLS, or for one machine.
func BasicAuth(realm string, check func(name, password string) (Identity, bool)) func(*http.Request) (Identity, error) {
	challenge := fmt.Sprintf(`Basic realm=%q, charset="UTF-8"`, realm)
	return func(r *http.Request) (Identity, error) {
		if name, password, given := r.BasicAuth(); given {
			if who, ok := check(name, password); ok {
				return who, nil
			}
		}
		return Identity{}, &Refusal{Status: http.StatusUnauthorized, Challenge: challenge}
	}
}

const (
	sessionCookie  = "fanfare-console"
	languageCookie = "fanfare-console-language"
	// tokenField is the field of every form that shows that the form is one of this page's, made for this session and person.
	tokenField = "token"
)

var errForged = errors.New("the form is not one of this page's")

// session returns the session's name, and makes one for who has none.
func (h *handler) session(w http.ResponseWriter, r *http.Request, path string) string {
	if c, err := r.Cookie(sessionCookie); err == nil && len(c.Value) >= 26 && len(c.Value) <= 64 {
		return c.Value
	}
	name := rand.Text()
	h.setCookie(w, r, path, &http.Cookie{Name: sessionCookie, Value: name})
	return name
}

func (h *handler) setCookie(w http.ResponseWriter, r *http.Request, path string, c *http.Cookie) {
	c.Path, c.HttpOnly, c.SameSite = path, true, http.SameSiteLaxMode
	c.Secure = h.o.SecureCookies || r.TLS != nil
	http.SetCookie(w, c)
}

// token is what forms of a session carry. It says nothing to who does not have the session's cookie, which no script and no other site reads, and is worth
// nothing to another person.
func (h *handler) token(session string, who Identity) string {
	mac := hmac.New(sha256.New, h.key)
	_, _ = mac.Write([]byte(session + "\x00" + who.Name))
	return hex.EncodeToString(mac.Sum(nil))
}

// genuine returns nil if a form comes from a page that this handler made for this session. The browser's own word on where a request comes from is looked at
// first; the token is for browsers that do not give it, and for what else shares the origin.
func (h *handler) genuine(r *http.Request, who Identity) error {
	if err := h.origins.Check(r); err != nil {
		return fmt.Errorf("%w: %w", errForged, err)
	}
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return fmt.Errorf("%w: no session", errForged)
	}
	if subtle.ConstantTimeCompare([]byte(h.token(c.Value, who)), []byte(r.PostFormValue(tokenField))) != 1 {
		return fmt.Errorf("%w: another token", errForged)
	}
	return nil
}
