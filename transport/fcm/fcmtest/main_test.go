package fcmtest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newServer starts a server that ends with the test.
func newServer(t testing.TB, o fcmtest.Options) *fcmtest.Server {
	t.Helper()
	s, err := fcmtest.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// client is a plain HTTP client with an access token.
type client struct {
	t      testing.TB
	s      *fcmtest.Server
	http   *http.Client
	access string
}

func newClient(t testing.TB, s *fcmtest.Server) *client {
	c := &client{t: t, s: s, http: s.Client()}
	c.access = c.authorize()
	return c
}

// response is what came back, with the fields of an error.
type response struct {
	status    int
	header    http.Header
	body      []byte
	code      string
	message   string
	errorCode string
	field     string
	details   []string // their types
	reason    string
	name      string
}

func (c *client) post(path, kind string, body []byte, header ...string) (*response, error) {
	return c.postAs(c.access, path, kind, body, header...)
}

func (c *client) postAs(access, path, kind string, body []byte, header ...string) (*response, error) {
	return postContext(context.Background(), c, access, path, kind, body, header...)
}

func postContext(ctx context.Context, c *client, access, path, kind string, body []byte, header ...string) (*response, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", c.s.URL()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kind)
	if access != "" {
		req.Header.Set("Authorization", "Bearer "+access)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r := &response{status: resp.StatusCode, header: resp.Header}
	if r.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	r.parse()
	return r, nil
}

func (r *response) parse() {
	var v struct {
		Name  string
		Error struct {
			Code            int
			Message, Status string
			Details         []struct {
				Type            string `json:"@type"`
				ErrorCode       string
				Reason          string
				FieldViolations []struct{ Field, Description string }
			}
		}
	}
	if json.Unmarshal(r.body, &v) != nil {
		return
	}
	r.name, r.code, r.message = v.Name, v.Error.Status, v.Error.Message
	for _, d := range v.Error.Details {
		r.details = append(r.details, d.Type[strings.LastIndex(d.Type, ".")+1:])
		if d.ErrorCode != "" {
			r.errorCode = d.ErrorCode
		}
		if d.Reason != "" {
			r.reason = d.Reason
		}
		if len(d.FieldViolations) > 0 {
			r.field = d.FieldViolations[0].Field
		}
	}
}

// send sends a body; the test ends where nothing comes back.
func (c *client) send(body string) *response {
	c.t.Helper()
	r, err := c.trySend(body)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *client) trySend(body string) (*response, error) {
	return c.post("/v1/projects/fanfare-test/messages:send", "application/json", []byte(body))
}

// hello is the body of a plain message.
func hello(token string) string {
	return `{"message":{"token":"` + token + `","notification":{"title":"Hello"}}}`
}

// assertion is one that is right, signed with the account's key, after change.
func assertion(t testing.TB, s *fcmtest.Server, now time.Time, change func(header, claims map[string]any)) string {
	t.Helper()
	var a struct {
		PrivateKey   string `json:"private_key"`
		PrivateKeyID string `json:"private_key_id"`
		ClientEmail  string `json:"client_email"`
		TokenURI     string `json:"token_uri"`
	}
	if err := json.Unmarshal(s.ServiceAccount(), &a); err != nil {
		t.Fatal(err)
	}
	header := map[string]any{"alg": "RS256", "typ": "JWT", "kid": a.PrivateKeyID}
	claims := map[string]any{
		"iss": a.ClientEmail, "aud": a.TokenURI, "scope": "https://www.googleapis.com/auth/firebase.messaging",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	if change != nil {
		change(header, claims)
	}
	h, _ := json.Marshal(header)
	c, _ := json.Marshal(claims)
	signed := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	block, _ := pem.Decode([]byte(a.PrivateKey))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key.(*rsa.PrivateKey), crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func grantForm(assertion string) string {
	return url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}.Encode()
}

// grant is what the token endpoint says.
type grant struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	TokenType   string `json:"token_type"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
	status      int
}

func (c *client) ask(form string) grant {
	c.t.Helper()
	r, err := c.postAs("", "/token", "application/x-www-form-urlencoded", []byte(form))
	if err != nil {
		c.t.Fatal(err)
	}
	g := grant{status: r.status}
	if err := json.Unmarshal(r.body, &g); err != nil {
		c.t.Fatal(err, string(r.body))
	}
	return g
}

func (c *client) authorize() string {
	c.t.Helper()
	g := c.ask(grantForm(assertion(c.t, c.s, time.Now(), nil)))
	if g.AccessToken == "" {
		c.t.Fatalf("no access token: %+v", g)
	}
	return g.AccessToken
}
