package apnstest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

const topicOfTests = "com.example.app"

func newServer(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// client is a plain HTTP/2 client with a provider token.
type client struct {
	t    testing.TB
	s    *Server
	http *http.Client
	jwt  string
}

// newClient keeps to one connection, unless that ends, and to its stream limit.
func newClient(t testing.TB, s *Server, certs ...tls.Certificate) *client {
	t.Helper()
	tr := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: s.RootCAs(), Certificates: certs},
		ForceAttemptHTTP2: true,
		HTTP2:             &http.HTTP2Config{StrictMaxConcurrentRequests: true},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &client{t: t, s: s, http: &http.Client{Transport: tr, Timeout: time.Minute}, jwt: sign(t, s.Key(), time.Now())}
}

func sign(t testing.TB, k Key, at time.Time) string {
	return signAs(t, k, map[string]any{"alg": "ES256", "kid": k.KeyID}, map[string]any{"iss": k.TeamID, "iat": at.Unix()})
}

func signAs(t testing.TB, k Key, header, claims map[string]any) string {
	t.Helper()
	b, _ := pem.Decode(k.PEM)
	private, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(header) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, private.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

type result struct {
	status int
	header http.Header
	body   string
	reason string
	stamp  int64
}

func (r result) String() string { return fmt.Sprintf("%d %s", r.status, r.reason) }

// request is a good one, to be spoilt.
func (c *client) request(token, payload string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequest("POST", c.s.URL()+"/3/device/"+token, bytes.NewReader([]byte(payload)))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("authorization", "bearer "+c.jwt)
	r.Header.Set("apns-topic", topicOfTests)
	r.Header.Set("apns-push-type", "alert")
	return r
}

func (c *client) do(r *http.Request) (result, error) {
	resp, err := c.http.Do(r)
	if err != nil {
		return result{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return result{}, err
	}
	out := result{status: resp.StatusCode, header: resp.Header, body: string(b)}
	var parsed struct {
		Reason    string
		Timestamp int64
	}
	if json.Unmarshal(b, &parsed) == nil {
		out.reason, out.stamp = parsed.Reason, parsed.Timestamp
	}
	return out, nil
}

func (c *client) must(r *http.Request) result {
	c.t.Helper()
	got, err := c.do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return got
}

func (c *client) push(token string) result {
	c.t.Helper()
	return c.must(c.request(token, hello))
}

const hello = `{"aps":{"alert":"hello"}}`

func want(t *testing.T, got result, status int, reason string) {
	t.Helper()
	if got.status != status || got.reason != reason {
		t.Errorf("got %v, want %d %s", got, status, reason)
	}
}

func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
