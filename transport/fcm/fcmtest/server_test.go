package fcmtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// What another process is given.
func TestRootPEM(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.RootPEM()) {
		t.Fatal("no certificate")
	}
	c := &client{t: t, s: s, http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}}
	if c.access = c.authorize(); c.send(hello(s.Token(1))).status != 200 {
		t.Error("it is not accepted")
	}
	other := newServer(t, fcmtest.Options{})
	stranger := &client{t: t, s: s, http: other.Client()}
	if _, err := stranger.trySend(hello(s.Token(1))); err == nil {
		t.Error("another server's certificates are good for this one")
	}
}

func TestServiceAccount(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{Project: "shop"})
	var a map[string]string
	if err := json.Unmarshal(s.ServiceAccount(), &a); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{
		"type": "service_account", "project_id": "shop", "token_uri": s.URL() + "/token",
		"client_email": "firebase-adminsdk@shop.iam.gserviceaccount.com",
	} {
		if a[field] != want {
			t.Errorf("%s: %q", field, a[field])
		}
	}
	s.ServiceAccount()[0] = 'x'
	if !json.Valid(s.ServiceAccount()) {
		t.Error("the slice is shared")
	}
}

// Google reads it as JSON whatever the header says; the test learns of it.
func TestContentType(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	r, err := c.post("/v1/projects/fanfare-test/messages:send", "text/plain", []byte(hello(s.Token(1))))
	if err != nil || r.status != 200 {
		t.Error(r, err)
	}
	if p := s.Problems(); len(p) != 1 || p[0] != `a send with Content-Type "text/plain"` {
		t.Errorf("%q", p)
	}
}
