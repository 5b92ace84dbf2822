package apns

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
)

func one(n int) *int { return &n }

// TestPayloads sends notifications and looks at what the service got.
func TestPayloads(t *testing.T) {
	t.Parallel()
	expires := time.Now().Add(36 * time.Hour).Truncate(time.Second)
	plain := apnstest.Notification{Topic: topic, PushType: "alert", Priority: 10, Expiration: expires, CollapseID: anyID}
	with := func(f func(*apnstest.Notification)) apnstest.Notification {
		n := plain
		f(&n)
		return n
	}
	for name, c := range map[string]struct {
		content transport.Content
		device  transport.Device
		want    apnstest.Notification
		payload string
	}{
		"title alone": {
			content: transport.Content{Title: "Hi"}, want: plain,
			payload: `{"aps":{"alert":{"title":"Hi"}},"fanfare_id":"` + anyID + `"}`,
		},
		"everything": {
			content: transport.Content{
				Title: "a < b", Body: "& c", Sound: "bell.caf", Badge: one(3), Image: "https://example.com/i.png", Link: "app://room/7",
				Collapse: "room-7", Data: map[string]string{"room": "7"},
			},
			want: with(func(n *apnstest.Notification) { n.CollapseID = "room-7" }),
			payload: `{"aps":{"alert":{"title":"a < b","body":"& c"},"sound":"bell.caf","badge":3,"mutable-content":1},
				"fanfare_id":"` + anyID + `","image":"https://example.com/i.png","link":"app://room/7","room":"7"}`,
		},
		"badge alone": {
			content: transport.Content{Badge: one(0)}, want: plain,
			payload: `{"aps":{"badge":0},"fanfare_id":"` + anyID + `"}`,
		},
		"silent": {
			content: transport.Content{Title: "not shown", Badge: one(3), Silent: true, Data: map[string]string{"sync": "1"}},
			want:    with(func(n *apnstest.Notification) { n.PushType, n.Priority = "background", 5 }),
			payload: `{"aps":{"content-available":1},"fanfare_id":"` + anyID + `","sync":"1"}`,
		},
		"withdrawn": {
			content: transport.Content{Silent: true, Withdrawn: true, Collapse: "room-7", Data: map[string]string{"fanfare_withdrawn": "id"}, Overrides: map[string]json.RawMessage{
				"apns": json.RawMessage(`{"headers":{"apns-priority":"10","apns-push-type":"alert","Apns-Collapse-Id":"room-8"},"payload":{"aps":{"alert":"again"}}}`),
			}},
			want:    with(func(n *apnstest.Notification) { n.PushType, n.Priority, n.CollapseID = "background", 5, "room-8" }),
			payload: `{"aps":{"content-available":1},"fanfare_id":"` + anyID + `","fanfare_withdrawn":"id"}`,
		},
		"deferrable": {
			content: transport.Content{Title: "Hi", Deferrable: true},
			want:    with(func(n *apnstest.Notification) { n.Priority = 5 }),
			payload: `{"aps":{"alert":{"title":"Hi"}},"fanfare_id":"` + anyID + `"}`,
		},
		"language": {
			content: transport.Content{Title: "Hi", Body: "there", Locales: map[string]transport.Text{"zh": {Title: "你好"}, "zh-Hant": {Title: "您好"}}},
			device:  transport.Device{Locale: "zh-Hant-TW"}, want: plain,
			payload: `{"aps":{"alert":{"title":"您好","body":"there"}},"fanfare_id":"` + anyID + `"}`,
		},
		"override": {
			content: transport.Content{Title: "Hi", Sound: "bell", Overrides: map[string]json.RawMessage{
				"apns": json.RawMessage(`{"headers":{"apns-priority":"1"},"payload":{"aps":{"sound":null,"interruption-level":"time-sensitive","thread-id":"7"},"more":[1,2]}}`),
				"fcm":  json.RawMessage(`{"android":{}}`),
			}},
			want:    with(func(n *apnstest.Notification) { n.Priority = 1 }),
			payload: `{"aps":{"alert":{"title":"Hi"},"interruption-level":"time-sensitive","thread-id":"7"},"more":[1,2],"fanfare_id":"` + anyID + `"}`,
		},
		"call": {
			content: transport.Content{Overrides: map[string]json.RawMessage{
				"apns": json.RawMessage(`{"headers":{"apns-push-type":"voip","apns-topic":"` + topic + `.voip","apns-collapse-id":"call"},"payload":{"from":"bob"}}`),
			}},
			want:    with(func(n *apnstest.Notification) { n.PushType, n.Topic, n.CollapseID = "voip", topic+".voip", "call" }),
			payload: `{"aps":{},"from":"bob","fanfare_id":"` + anyID + `"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testServer(t, apnstest.Options{})
			sender := testSender(t, s, Options{Topic: topic})
			if err := sender.Check(&c.content); err != nil {
				t.Fatal(err)
			}
			list := batch(&c.content, s.Token(1))
			list[0].Message.Expires = expires
			list[0].Device.Locale, list[0].Device.Topic = c.device.Locale, ""
			if r := sender.Send(context.Background(), list); r[0].Outcome != transport.Accepted {
				t.Fatalf("%+v", r)
			}
			got := s.Accepted(s.Token(1))[0]
			payload := got.Payload
			got.ID, got.At, got.Payload = "", time.Time{}, nil
			if got.Expiration = got.Expiration.Local(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			var is, want any
			if json.Unmarshal(payload, &is) != nil || json.Unmarshal([]byte(c.payload), &want) != nil || !reflect.DeepEqual(is, want) {
				t.Errorf("got  %s\nwant %s", payload, c.payload)
			}
		})
	}
}

// TestExpired: what ends now is not kept by the service, and not sent without an end.
func TestExpired(t *testing.T) {
	t.Parallel()
	s := testServer(t, apnstest.Options{})
	sender := testSender(t, s, Options{})
	list := batch(&transport.Content{Title: "hi"}, s.Token(1))
	list[0].Message.Expires = time.Time{}
	if r := sender.Send(context.Background(), list); r[0].Outcome != transport.Accepted {
		t.Fatalf("%+v", r)
	}
	if at := s.Accepted(s.Token(1))[0].Expiration; at.Unix() != 1 {
		t.Error(at)
	}
}

// TestCheck: what the service would not take is refused before anything is sent, and what is one byte smaller is taken.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := testServer(t, apnstest.Options{})
	sender := testSender(t, s, Options{})
	base := len(`{"aps":{"alert":{"body":""}},"fanfare_id":"` + anyID + `"}`)
	full := strings.Repeat("é", (maxPayload-base)/2) + strings.Repeat("x", (maxPayload-base)%2)
	voip := json.RawMessage(`{"headers":{"apns-push-type":"voip","apns-topic":"` + topic + `.voip"}}`)
	override := func(patch string) transport.Content {
		return transport.Content{Title: "hi", Overrides: map[string]json.RawMessage{"apns": json.RawMessage(patch)}}
	}
	for name, c := range map[string]struct {
		content transport.Content
		err     string // "" for none
	}{
		"full":                    {transport.Content{Body: full}, ""},
		"too large":               {transport.Content{Body: full + "x"}, "4097 bytes"},
		"too large in a language": {transport.Content{Body: "hi", Locales: map[string]transport.Text{"de": {Body: full + "x"}}}, "4097 bytes"},
		"voip":                    {transport.Content{Body: full + strings.Repeat("x", 1024), Overrides: map[string]json.RawMessage{"apns": voip}}, ""},
		"voip too large":          {transport.Content{Body: full + strings.Repeat("x", 1025), Overrides: map[string]json.RawMessage{"apns": voip}}, "5121 bytes"},
		"collapse":                {transport.Content{Collapse: strings.Repeat("x", 64)}, ""},
		"collapse too long":       {transport.Content{Collapse: strings.Repeat("x", 65)}, "65 bytes"},
		"collapse, two lines":     {transport.Content{Collapse: "a\nb"}, "control character"},
		"language":                {transport.Content{Locales: map[string]transport.Text{"not a language": {}}}, "locale"},
		"data":                    {transport.Content{Data: map[string]string{"aps": "x"}}, `"aps"`},
		"data of fanfare":         {transport.Content{Data: map[string]string{MessageKey: "x"}}, MessageKey},
		"no object":               {override(`[]`), "override"},
		"unknown part":            {override(`{"aps":{}}`), `"aps"`},
		"unknown header":          {override(`{"headers":{"apns-id":"x"}}`), "apns-id"},
		"header that is a number": {override(`{"headers":{"apns-priority":5}}`), "apns-priority"},
		"priority":                {override(`{"headers":{"apns-priority":"7"}}`), "priority 7"},
		"override":                {override(`{"payload":{"aps":{"badge":1}}}`), ""},
	} {
		err := sender.Check(&c.content)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
		list := batch(&c.content, s.Token(1))
		list[0].Device.Locale = "de"
		r := sender.Send(context.Background(), list)[0]
		if want := map[bool]transport.Outcome{true: transport.Accepted, false: transport.Rejected}[err == nil]; r.Outcome != want {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestTopicOfADevice: what an app registered as its topic is not trusted.
func TestTopicOfADevice(t *testing.T) {
	t.Parallel()
	s := testServer(t, apnstest.Options{})
	sender := testSender(t, s, Options{})
	list := batch(&transport.Content{Title: "hi"}, s.Token(1), s.Token(2))
	list[0].Device.Topic, list[1].Device.Topic = "com.example\napns-priority: 1", ""
	for i, r := range sender.Send(context.Background(), list) {
		if r.Outcome != transport.Rejected || r.Reason != []string{"BadTopic", "MissingTopic"}[i] {
			t.Errorf("%+v", r)
		}
	}
	if s.Requests() > 0 {
		t.Error(s.Requests(), "requests")
	}
}

// TestOptions: what is wrong with the options is said at once, in words that help and have no secrets.
func TestOptions(t *testing.T) {
	t.Parallel()
	s := testServer(t, apnstest.Options{})
	key := s.Key()
	certificate, certificateKey := s.Certificate(topic)
	for name, c := range map[string]struct {
		o   Options
		err string
	}{
		"nothing":             {Options{}, "no key and no certificate"},
		"no key":              {Options{Key: []byte("HIDDEN"), KeyID: key.KeyID, TeamID: key.TeamID}, ".p8"},
		"rsa":                 {Options{Key: append([]byte("-----BEGIN PRIVATE KEY-----\n"), "SElEREVO\n-----END PRIVATE KEY-----\n"...), KeyID: key.KeyID, TeamID: key.TeamID}, ".p8"},
		"no key ID":           {Options{Key: key.PEM, TeamID: key.TeamID}, "ten characters"},
		"key for its ID":      {Options{Key: key.PEM, KeyID: "HIDDEN", TeamID: key.TeamID}, "ten characters"},
		"two":                 {Options{Key: key.PEM, KeyID: key.KeyID, TeamID: key.TeamID, Certificate: certificate}, "one of them"},
		"certificate alone":   {Options{Certificate: certificate}, "neither PEM"},
		"certificate, rotten": {Options{Certificate: []byte("HIDDEN"), CertificatePassword: []byte("HIDDEN")}, "neither PEM"},
		"endpoint":            {Options{Key: key.PEM, KeyID: key.KeyID, TeamID: key.TeamID, Endpoint: "api.push.apple.com"}, "https://"},
		"endpoint with more":  {Options{Key: key.PEM, KeyID: key.KeyID, TeamID: key.TeamID, Endpoint: "https://me:HIDDEN@api.push.apple.com"}, "https://"},
		"limit":               {Options{Key: key.PEM, KeyID: key.KeyID, TeamID: key.TeamID, Concurrency: -1}, "below nothing"},
	} {
		sender, err := New(c.o)
		if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "HIDDEN") {
			t.Errorf("%s: %v", name, err)
		}
		if sender != nil {
			t.Error(name, "made one")
		}
	}
	for _, o := range []Options{
		{Key: key.PEM, KeyID: key.KeyID, TeamID: key.TeamID, Sandbox: true},
		{Certificate: append(certificate, certificateKey...), CertificatePassword: []byte("HIDDEN")},
	} {
		sender, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, shown := range []string{fmt.Sprint(sender, o), fmt.Sprintf("%+v %#v %v", sender, sender, sender), fmt.Sprintf("%+v %#v", o, o)} {
			if strings.Contains(shown, "HIDDEN") || strings.Contains(shown, "BEGIN") || strings.Contains(shown, "45 45 45 45 45") || strings.Contains(shown, "0x2d, 0x2d") {
				t.Error("shown:", shown)
			}
		}
		if want := map[bool]string{true: "apns-sandbox", false: "apns"}[o.Sandbox]; sender.Platform() != want {
			t.Error(sender.Platform())
		}
		if err := sender.Close(); err != nil {
			t.Error(err)
		}
	}
}
