package apnstest

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestDocumentedErrors has every row of Apple's table "Response error strings".
func TestDocumentedErrors(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*client, *http.Request) {
		return func(_ *client, r *http.Request) {
			if value == "" {
				r.Header.Del(name)
				return
			}
			r.Header.Set(name, value)
		}
	}
	path := func(p string) func(*client, *http.Request) {
		return func(_ *client, r *http.Request) { r.URL.Path = p }
	}
	ordered := func(reason string) func(*client, *http.Request) {
		return func(c *client, _ *http.Request) { c.s.AnswerNext(1, Answer{Reason: reason}) }
	}
	at := time.UnixMilli(1700000000123)
	rows := []struct {
		status  int
		reason  string
		payload string
		spoil   func(*client, *http.Request)
	}{
		{400, "BadCollapseId", hello, set("apns-collapse-id", strings.Repeat("x", 65))},
		{400, "BadDeviceToken", hello, path("/3/device/zz")},
		{400, "BadDeviceToken", hello, path("/3/device/" + strings.Repeat("g", 64))},
		{400, "BadDeviceToken", hello, path("/3/device/" + strings.Repeat("a", 62))},
		{400, "BadDeviceToken", hello, path("/3/device/" + strings.Repeat("a", 202))},
		{400, "BadDeviceToken", hello, path("/3/device/" + strings.Repeat("b", 64))}, // not among Options.Devices
		{400, "BadExpirationDate", hello, set("apns-expiration", "-1")},
		{400, "BadExpirationDate", hello, set("apns-expiration", "soon")},
		{400, "BadMessageId", hello, set("apns-id", "1")},
		{400, "BadMessageId", hello, set("apns-id", "EABEAE54-14A8-11E5-B60B-1697F925EC7B")},
		{400, "BadPriority", hello, set("apns-priority", "7")},
		{400, "BadPriority", `{"aps":{"content-available":1}}`, func(_ *client, r *http.Request) {
			r.Header.Set("apns-push-type", "background")
			r.Header.Set("apns-priority", "10")
		}},
		{400, "BadTopic", hello, set("apns-topic", "com example")},
		{400, "DeviceTokenNotForTopic", hello, func(c *client, _ *http.Request) { c.s.Bind(c.s.Token(1), "com.example.other") }},
		{400, "DuplicateHeaders", hello, func(_ *client, r *http.Request) { r.Header.Add("apns-topic", topicOfTests) }},
		{400, "IdleTimeout", hello, ordered("IdleTimeout")},
		{400, "InvalidPushType", hello, set("apns-push-type", "shout")},
		{400, "MissingDeviceToken", hello, path("/3/device/")},
		{400, "MissingDeviceToken", hello, path("/3/device")},
		{400, "MissingTopic", hello, set("apns-topic", "")},
		{400, "PayloadEmpty", "", nil},
		{400, "PayloadEmpty", `{"aps":`, nil},
		{400, "PayloadEmpty", `["aps"]`, nil},
		{400, "PayloadEmpty", `null`, nil},
		{400, "TopicDisallowed", hello, set("apns-topic", "com.example.unknown")},
		{403, "BadCertificate", hello, ordered("BadCertificate")},
		{403, "BadCertificateEnvironment", hello, ordered("BadCertificateEnvironment")},
		{403, "BadEnvironmentKeyIdInToken", hello, ordered("BadEnvironmentKeyIdInToken")},
		{403, "ExpiredProviderToken", hello, func(c *client, r *http.Request) {
			r.Header.Set("authorization", "bearer "+sign(c.t, c.s.Key(), time.Now().Add(-61*time.Minute)))
		}},
		{403, "ExpiredProviderToken", hello, func(c *client, r *http.Request) {
			r.Header.Set("authorization", "bearer "+sign(c.t, c.s.Key(), time.Now().Add(10*time.Minute)))
		}},
		{403, "Forbidden", hello, ordered("Forbidden")},
		{403, "InvalidProviderToken", hello, set("authorization", "bearer x.y.z")},
		{403, "InvalidProviderToken", hello, func(c *client, r *http.Request) {
			r.Header.Set("authorization", "bearer "+c.jwt[:len(c.jwt)-8]+"AAAAAAAA")
		}},
		{403, "InvalidProviderToken", hello, func(c *client, r *http.Request) {
			k := c.s.Key()
			k.KeyID = "ZZZZZZZZZZ"
			r.Header.Set("authorization", "bearer "+sign(c.t, k, time.Now()))
		}},
		{403, "InvalidProviderToken", hello, func(c *client, r *http.Request) {
			k := c.s.Key()
			k.TeamID = "ZZZZZZZZZZ"
			r.Header.Set("authorization", "bearer "+sign(c.t, k, time.Now()))
		}},
		{403, "InvalidProviderToken", hello, func(c *client, r *http.Request) {
			k := c.s.Key()
			jwt := signAs(c.t, k, map[string]any{"alg": "none", "kid": k.KeyID}, map[string]any{"iss": k.TeamID, "iat": time.Now().Unix()})
			r.Header.Set("authorization", "bearer "+jwt)
		}},
		{403, "InvalidProviderToken", hello, func(c *client, r *http.Request) {
			k := c.s.Key()
			jwt := signAs(c.t, k, map[string]any{"alg": "ES256", "kid": k.KeyID}, map[string]any{"iss": k.TeamID})
			r.Header.Set("authorization", "bearer "+jwt)
		}},
		{403, "MissingProviderToken", hello, set("authorization", "")},
		{403, "MissingProviderToken", hello, set("authorization", "basic abc")},
		{403, "UnrelatedKeyIdInToken", hello, ordered("UnrelatedKeyIdInToken")},
		{404, "BadPath", hello, path("/2/device/" + strings.Repeat("a", 64))},
		{404, "BadPath", hello, path("/3/device/a/b")},
		{405, "MethodNotAllowed", hello, func(_ *client, r *http.Request) { r.Method = "PUT" }},
		{410, "ExpiredToken", hello, func(c *client, _ *http.Request) { c.s.Expire(c.s.Token(1), at) }},
		{410, "Unregistered", hello, func(c *client, _ *http.Request) { c.s.Kill(c.s.Token(1), at) }},
		{413, "PayloadTooLarge", payloadOf(4097), nil},
		{413, "PayloadTooLarge", payloadOf(200000), nil},
		{413, "PayloadTooLarge", payloadOf(5121), func(_ *client, r *http.Request) {
			r.Header.Set("apns-push-type", "voip")
			r.Header.Set("apns-topic", topicOfTests+".voip")
		}},
		{429, "TooManyProviderTokenUpdates", hello, func(c *client, r *http.Request) {
			want(c.t.(*testing.T), c.push(c.s.Token(1)), 200, "")
			r.Header.Set("authorization", "bearer "+sign(c.t, c.s.Key(), time.Now()))
		}},
		{429, "TooManyRequests", hello, ordered("TooManyRequests")},
		{500, "InternalServerError", hello, ordered("InternalServerError")},
		{503, "ServiceUnavailable", hello, ordered("ServiceUnavailable")},
		{503, "Shutdown", hello, ordered("Shutdown")},
	}
	missing := make(map[string]bool)
	for reason := range statuses {
		missing[reason] = true
	}
	for _, row := range rows {
		delete(missing, row.reason)
		t.Run(row.reason, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, Options{Topics: []string{topicOfTests}, Devices: []string{strings.ToUpper(new(Server).Token(1))}})
			c := newClient(t, s)
			r := c.request(s.Token(1), row.payload)
			r.Header.Set("apns-id", "eabeae54-14a8-11e5-b60b-1697f925ec7b")
			before := 0
			if row.spoil != nil {
				row.spoil(c, r)
				before = s.Total()
			}
			got := c.must(r)
			want(t, got, row.status, row.reason)
			if id := got.header.Get("apns-id"); id != r.Header.Get("apns-id") && row.reason != "BadMessageId" || id == "" {
				t.Errorf("apns-id = %q", id)
			}
			if stamp := int64(0); row.status == 410 {
				if stamp = at.UnixMilli(); got.stamp != stamp {
					t.Errorf("timestamp = %d, want %d", got.stamp, stamp)
				}
			} else if got.stamp != 0 {
				t.Errorf("timestamp = %d without status 410", got.stamp)
			}
			if s.Total() != before {
				t.Error("refused, but accepted")
			}
		})
	}
	if len(missing) > 0 {
		t.Errorf("no row for %v", missing)
	}
}

func payloadOf(n int) string {
	const frame = `{"aps":{"alert":""}}`
	return `{"aps":{"alert":"` + strings.Repeat("x", n-len(frame)) + `"}}`
}
