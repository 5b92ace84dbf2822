package apnstest

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAccepted(t *testing.T) {
	t.Parallel()
	now := time.Unix(1700000000, 0)
	s := newServer(t, Options{Now: func() time.Time { return now }})
	c := newClient(t, s)
	c.jwt = sign(t, s.Key(), now)
	r := c.request(strings.ToUpper(s.Token(7)), hello)
	for name, value := range map[string]string{
		"apns-id": "eabeae54-14a8-11e5-b60b-1697f925ec7b", "apns-priority": "5",
		"apns-expiration": "1700000060", "apns-collapse-id": strings.Repeat("c", 64),
	} {
		r.Header.Set(name, value)
	}
	got := c.must(r)
	want(t, got, 200, "")
	if got.body != "" || got.header.Get("apns-id") != "eabeae54-14a8-11e5-b60b-1697f925ec7b" || got.header.Get("apns-unique-id") != "" {
		t.Errorf("answer: body %q, header %v", got.body, got.header)
	}
	should := []Notification{{
		ID: "eabeae54-14a8-11e5-b60b-1697f925ec7b", Topic: topicOfTests, PushType: "alert", Priority: 5,
		Expiration: time.Unix(1700000060, 0), CollapseID: strings.Repeat("c", 64), Payload: []byte(hello), At: now,
	}}
	if had := s.Accepted(s.Token(7)); !reflect.DeepEqual(had, should) {
		t.Errorf("Accepted = %+v", had)
	}
	if s.Count(s.Token(7)) != 1 || s.Total() != 1 || s.Requests() != 1 || s.ProviderTokens() != 1 {
		t.Errorf("Count %d, Total %d, Requests %d, ProviderTokens %d", s.Count(s.Token(7)), s.Total(), s.Requests(), s.ProviderTokens())
	}
	if open, ever := s.Connections(); open != 1 || ever != 1 {
		t.Errorf("Connections = %d, %d", open, ever)
	}
	if p := s.Problems(); p != nil {
		t.Errorf("Problems = %q", p)
	}
}

// An id of the server's is a UUID and is the one that is recorded.
func TestOwnID(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{Sandbox: true})
	got := newClient(t, s).push(s.Token(1))
	id := got.header.Get("apns-id")
	if !isUUID(strings.ToLower(id)) || s.Accepted(s.Token(1))[0].ID != id {
		t.Errorf("apns-id %q, recorded %q", id, s.Accepted(s.Token(1))[0].ID)
	}
	if u := got.header.Get("apns-unique-id"); !isUUID(strings.ToLower(u)) || u == id {
		t.Errorf("apns-unique-id %q", u)
	}
}

func TestRootPEM(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(s.RootPEM()) || !p.Equal(s.RootCAs()) {
		t.Error("RootPEM is not RootCAs")
	}
}

func TestLargestPayloads(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	c := newClient(t, s)
	want(t, c.must(c.request(s.Token(1), payloadOf(4096))), 200, "")
	r := c.request(s.Token(1), payloadOf(5120))
	r.Header.Set("apns-push-type", "voip")
	r.Header.Set("apns-topic", topicOfTests+".voip")
	want(t, c.must(r), 200, "")
	if s.Count(s.Token(1)) != 2 {
		t.Errorf("Count = %d", s.Count(s.Token(1)))
	}
}

func TestCountOnly(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{CountOnly: true})
	c := newClient(t, s)
	c.push(s.Token(1))
	c.push(s.Token(1))
	if s.Count(s.Token(1)) != 2 || s.Total() != 2 || s.Accepted(s.Token(1)) != nil {
		t.Errorf("Count %d, Total %d, Accepted %v", s.Count(s.Token(1)), s.Total(), s.Accepted(s.Token(1)))
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	seen := make(map[string]int)
	for i := range 10000 {
		token := s.Token(i)
		if len(token) != 64 || !isDeviceToken(token) || token != s.Token(i) {
			t.Fatalf("Token(%d) = %q", i, token)
		}
		if other, twice := seen[token]; twice {
			t.Fatalf("Token(%d) = Token(%d)", i, other)
		}
		seen[token] = i
	}
}

// A device comes back, and a bound one takes the topics of its app.
func TestDevices(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	c := newClient(t, s)
	s.Kill(s.Token(1), time.Now())
	want(t, c.push(s.Token(1)), 410, "Unregistered")
	want(t, c.push(s.Token(2)), 200, "")
	s.Kill(s.Token(1), time.Time{})
	want(t, c.push(s.Token(1)), 200, "")
	s.Expire(s.Token(1), time.Now())
	want(t, c.push(s.Token(1)), 410, "ExpiredToken")
	s.Expire(s.Token(1), time.Time{})
	s.Bind(s.Token(1), topicOfTests)
	want(t, c.push(s.Token(1)), 200, "")
	r := c.request(s.Token(1), hello)
	r.Header.Set("apns-push-type", "voip")
	r.Header.Set("apns-topic", topicOfTests+".voip")
	want(t, c.must(r), 200, "")
	r = c.request(s.Token(1), hello)
	r.Header.Set("apns-topic", topicOfTests+".more")
	want(t, c.must(r), 400, "DeviceTokenNotForTopic")
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{Topics: []string{"com.example.one", "com.example.two"}})
	pair := func(s *Server, topics ...string) tls.Certificate {
		t.Helper()
		cert, key := s.Certificate(topics...)
		p, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	try := func(c *client, topic string) result {
		t.Helper()
		r := c.request(s.Token(1), hello)
		r.Header.Del("authorization")
		r.Header.Del("apns-topic")
		if topic != "" {
			r.Header.Set("apns-topic", topic)
		}
		return c.must(r)
	}
	one := newClient(t, s, pair(s, "com.example.one"))
	want(t, try(one, ""), 200, "")
	want(t, try(one, "com.example.one"), 200, "")
	want(t, try(one, "com.example.two"), 400, "TopicDisallowed")
	both := newClient(t, s, pair(s, "com.example.one", "com.example.two"))
	want(t, try(both, ""), 400, "MissingTopic")
	want(t, try(both, "com.example.two"), 200, "")
	foreign := newClient(t, s, pair(newServer(t, Options{}), "com.example.one"))
	want(t, try(foreign, "com.example.one"), 403, "BadCertificate")
	if got := s.Accepted(s.Token(1)); len(got) != 3 || got[0].Topic != "com.example.one" || got[2].Topic != "com.example.two" {
		t.Errorf("Accepted = %+v", got)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	alert := func(*http.Request) {}
	rows := []struct {
		payload string
		spoil   func(*http.Request)
		problem string // a part of it; "" for none
	}{
		{`{"aps":{"alert":{"title":"t","body":"b","loc-args":["1"]},"badge":0,"sound":{"critical":1,"name":"s","volume":0.5},"thread-id":"t","category":"c","mutable-content":1,"target-content-id":"i","interruption-level":"time-sensitive","relevance-score":0.3,"filter-criteria":"f"},"mine":[1]}`, alert, ""},
		{`{"aps":{"timestamp":1,"event":"update","content-state":{"a":1},"stale-date":2,"dismissal-date":3}}`, alert, ""},
		{`{}`, alert, ""},
		{`{"alert":"x"}`, alert, "no aps dictionary"},
		{`{"aps":"x"}`, alert, "aps is not a dictionary"},
		{`{"aps":{"alert":1}}`, alert, "aps.alert"},
		{`{"aps":{"alert":{"titel":"x"}}}`, alert, "aps.alert"},
		{`{"aps":{"alert":{"title":1}}}`, alert, "aps.alert"},
		{`{"aps":{"badge":"1"}}`, alert, "aps.badge"},
		{`{"aps":{"badge":1.5}}`, alert, "aps.badge"},
		{`{"aps":{"sound":{"volume":2}}}`, alert, "aps.sound"},
		{`{"aps":{"content-available":"1"}}`, alert, "aps.content-available"},
		{`{"aps":{"interruption-level":"loud"}}`, alert, "aps.interruption-level"},
		{`{"aps":{"contentAvailable":1}}`, alert, "unknown key"},
		{`{"aps":{"event":"stop"}}`, alert, "aps.event"},
		{hello, func(r *http.Request) { r.Header.Del("apns-push-type") }, "apns-push-type is missing"},
		{hello, func(r *http.Request) { r.Header.Set("apns-push-type", "voip") }, ".voip"},
		{hello, func(r *http.Request) {
			r.Header.Set("apns-push-type", "background")
			r.Header.Set("apns-priority", "5")
		}, "content-available"},
		{`{"aps":{"content-available":1}}`, func(r *http.Request) { r.Header.Set("apns-push-type", "background") }, "apns-priority is missing"},
	}
	for _, row := range rows {
		t.Run(row.payload, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, Options{})
			c := newClient(t, s)
			for range 2 { // told once
				r := c.request(s.Token(1), row.payload)
				row.spoil(r)
				want(t, c.must(r), 200, "")
			}
			got := s.Problems()
			if row.problem == "" && len(got) > 0 || row.problem != "" && (len(got) != 1 || !strings.Contains(got[0], row.problem)) {
				t.Errorf("Problems = %q, want %q", got, row.problem)
			}
		})
	}
}
