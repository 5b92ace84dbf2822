package fcm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

func one(n int) *int { return &n }

var ttl = regexp.MustCompile(`"(ttl|TTL)":"12[6-9]\d\d\d(s?)"`)

// TestMessages sends notifications and looks at what the service got.
func TestMessages(t *testing.T) {
	t.Parallel()
	expires := time.Now().Add(36 * time.Hour)
	const apns = `"apns":{"headers":{"apns-collapse-id":"COLLAPSE","apns-expiration":"EXPIRES","apns-priority":"PRIORITY","apns-push-type":"TYPE"},"payload":{"aps":APS}REST}`
	ios := func(collapse, priority, kind, aps, rest string) string {
		return strings.NewReplacer("COLLAPSE", collapse, "EXPIRES", fmt.Sprint(expires.Unix()), "PRIORITY", priority, "TYPE", kind, "APS", aps, "REST", rest).Replace(apns)
	}
	const web = `"webpush":{"headers":{"TTL":"0"}}`
	for name, c := range map[string]struct {
		content transport.Content
		locale  string
		want    string
	}{
		"title alone": {
			content: transport.Content{Title: "Hi"},
			want: `{"data":{"fanfare_id":"` + anyID + `"},"notification":{"title":"Hi"},"android":{"priority":"high","ttl":"0s","notification":{"tag":"` + anyID + `"}},` +
				web + `,` + ios(anyID, "10", "alert", "{}", "") + `}`,
		},
		"everything": {
			content: transport.Content{
				Title: "a < b", Body: "& c", Sound: "bell", Badge: one(3), Image: "https://example.com/i.png", Link: "app://room/7",
				Collapse: "room-7", Data: map[string]string{"room": "7"},
			},
			want: `{"data":{"fanfare_id":"` + anyID + `","image":"https://example.com/i.png","link":"app://room/7","room":"7"},
				"notification":{"title":"a < b","body":"& c","image":"https://example.com/i.png"},
				"android":{"collapse_key":"room-7","priority":"high","ttl":"0s","notification":{"tag":"room-7","sound":"bell","notification_count":3}},` + web + `,` +
				ios("room-7", "10", "alert", `{"badge":3,"sound":"bell","mutable-content":1}`, `,"fcm_options":{"image":"https://example.com/i.png"}`) + `}`,
		},
		"silent": {
			content: transport.Content{Title: "not shown", Silent: true, Data: map[string]string{"sync": "1"}},
			want: `{"data":{"fanfare_id":"` + anyID + `","sync":"1"},"android":{"priority":"normal","ttl":"0s"},` + web + `,` +
				ios(anyID, "5", "background", `{"content-available":1}`, "") + `}`,
		},
		"withdrawn": {
			content: transport.Content{Silent: true, Withdrawn: true, Collapse: "room-7", Data: map[string]string{"fanfare_withdrawn": "id"}, Overrides: map[string]json.RawMessage{
				"fcm": json.RawMessage(`{"notification":{"title":"again"},"android":{"collapse_key":"room-8","notification":{"title":"again"}},"apns":{"headers":{"apns-collapse-id":"room-9"},"payload":{"aps":{"alert":{"title":"again"}}}}}`),
			}},
			want: `{"data":{"fanfare_id":"` + anyID + `","fanfare_withdrawn":"id"},"android":{"collapse_key":"room-8","priority":"normal","ttl":"0s"},` + web + `,` +
				ios("room-9", "5", "background", `{"content-available":1}`, "") + `}`,
		},
		"language": {
			content: transport.Content{Title: "Hi", Body: "there", Deferrable: true, Locales: map[string]transport.Text{"pt-BR": {Title: "Oi"}}}, locale: "pt_BR",
			want: `{"data":{"fanfare_id":"` + anyID + `"},"notification":{"title":"Oi","body":"there"},"android":{"priority":"normal","ttl":"0s","notification":{"tag":"` + anyID + `"}},` +
				web + `,` + ios(anyID, "5", "alert", "{}", "") + `}`,
		},
		"override": {
			content: transport.Content{Title: "Hi", Overrides: map[string]json.RawMessage{
				"fcm":  json.RawMessage(`{"android":{"notification":{"channel_id":"news","tag":null},"ttl":"60s"},"apns":null,"webpush":{"headers":{"Urgency":"high"}}}`),
				"apns": json.RawMessage(`{"payload":{}}`),
			}},
			want: `{"data":{"fanfare_id":"` + anyID + `"},"notification":{"title":"Hi"},"android":{"priority":"high","ttl":"60s","notification":{"channel_id":"news"}},` +
				`"webpush":{"headers":{"TTL":"0","Urgency":"high"}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testServer(t, fcmtest.Options{})
			sender := testSender(t, s, Options{})
			if err := sender.Check(&c.content); err != nil {
				t.Fatal(err)
			}
			list := batch(&c.content, s.Token(1), s.Token(2))
			list[0].Message.Expires = expires
			for i := range list {
				list[i].Device.Locale = c.locale
			}
			for _, r := range sender.Send(context.Background(), list) {
				if r.Outcome != transport.Accepted {
					t.Fatalf("%+v", r)
				}
			}
			for _, token := range []string{s.Token(1), s.Token(2)} {
				raw := string(s.Accepted(token)[0].JSON)
				raw = ttl.ReplaceAllString(raw, `"$1":"0$2"`) // what was left when it was sent: an hour less at most
				var is, want map[string]any
				if err := json.Unmarshal([]byte(raw), &is); err != nil {
					t.Fatal(err)
				}
				if is["token"] != token {
					t.Error("token", is["token"])
				}
				delete(is, "token")
				if err := json.Unmarshal([]byte(c.want), &want); err != nil {
					t.Fatal(err, c.want)
				}
				if !reflect.DeepEqual(is, want) {
					t.Errorf("got  %s\nwant %s", raw, c.want)
				}
			}
			if p := s.Problems(); len(p) > 0 {
				t.Error(p)
			}
		})
	}
}

// TestGaps: whatever stands in a notification, only what differs from device to device is filled in.
func TestGaps(t *testing.T) {
	t.Parallel()
	body := []byte(`{"a":"token-00","ttl":"12s","message":{"android":{"ttl":"1234567s"},"webpush":{"headers":{"TTL":"1234567"}},"token":"token-1234"}}`)
	e := split(body, "token-1234", "1234567")
	if e == nil || len(e.gaps) != 3 {
		t.Fatalf("%+v", e)
	}
	if got := string(e.body("a\"b\xff", 90*time.Second)); got != `{"a":"token-00","ttl":"12s","message":{"android":{"ttl":"90s"},"webpush":{"headers":{"TTL":"90"}},"token":"a\"b\ufffd"}}` {
		t.Error(got)
	}
	for left, want := range map[time.Duration]string{-time.Hour: `"ttl":"0s"`, 100 * 24 * time.Hour: `"ttl":"2419200s"`} {
		if got := string(e.body("x", left)); !strings.Contains(got, want) {
			t.Error(got)
		}
	}
	for _, unclear := range []string{
		`{"token":"t","data":{"x":"t"}}`, `{"data":{"x":"in t it"},"token":"t"}`, `{"token":"other"}`,
		`{"token":"t","a":{"ttl":"1s"},"b":{"ttl":"1s"},"c":{"ttl":"1s"}}`,
	} {
		if e := split([]byte(unclear), "t", "1"); e != nil {
			t.Errorf("%s: %q", unclear, e.parts)
		}
	}
}

// TestCheck: what the service would not take is refused before anything is sent, and what is a little smaller is taken.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := testServer(t, fcmtest.Options{})
	sender := testSender(t, s, Options{})
	base := len(`{"data":{"fanfare_id":"` + anyID + `"},"notification":{"body":"","tag":"` + anyID + `"}}`)
	full := strings.Repeat("x", maxPayload-base)
	override := func(patch string) transport.Content {
		return transport.Content{Title: "hi", Overrides: map[string]json.RawMessage{"fcm": json.RawMessage(patch)}}
	}
	for name, c := range map[string]struct {
		content transport.Content
		err     string // "" for none
	}{
		"full":                     {transport.Content{Body: full}, ""},
		"too large":                {transport.Content{Body: full + "x"}, "4097 bytes"},
		"too large in a language":  {transport.Content{Body: "hi", Locales: map[string]transport.Text{"de": {Body: full + "x"}}}, "4097 bytes"},
		"too large with a sound":   {transport.Content{Body: full, Sound: "x"}, "4108 bytes"},
		"all but for iOS":          {transport.Content{Body: full, Overrides: map[string]json.RawMessage{"fcm": json.RawMessage(`{"apns":{"payload":{"x":"` + strings.Repeat("x", 100) + `"}}}`)}}, "for iOS"},
		"data for Android":         {override(`{"android":{"data":{"x":"` + strings.Repeat("x", 4096) + `"}}}`), "for Android"},
		"text for Android":         {override(`{"android":{"notification":{"body":"` + strings.Repeat("x", 4096) + `"}}}`), "for Android"},
		"data for browsers":        {override(`{"webpush":{"data":{"x":"` + strings.Repeat("x", 4096) + `"}}}`), "for browsers"},
		"text for browsers":        {override(`{"webpush":{"notification":{"body":"` + strings.Repeat("x", 4096) + `"}}}`), "for browsers"},
		"text instead":             {transport.Content{Body: full, Overrides: map[string]json.RawMessage{"fcm": json.RawMessage(`{"android":{"notification":{"body":"hi"}}}`)}}, ""},
		"payload for iOS":          {override(`{"apns":{"payload":{"x":"` + strings.Repeat("x", 4096) + `"}}}`), "for iOS"},
		"collapse too long":        {transport.Content{Collapse: strings.Repeat("x", 65)}, "65 bytes"},
		"language":                 {transport.Content{Locales: map[string]transport.Text{"not a language": {}}}, "locale"},
		"reserved":                 {transport.Content{Data: map[string]string{"from": "x"}}, "reserved"},
		"reserved prefix":          {transport.Content{Data: map[string]string{"google.x": "x"}}, "reserved"},
		"reserved, in an override": {override(`{"data":{"gcm.x":"x"}}`), "reserved"},
		"reserved, for Android":    {override(`{"android":{"data":{"message_type":"x"}}}`), "reserved"},
		"reserved, for browsers":   {override(`{"webpush":{"data":{"from":"x"}}}`), "reserved"},
		"data of fanfare":          {transport.Content{Data: map[string]string{MessageKey: "x"}}, MessageKey},
		"image":                    {transport.Content{Title: "hi", Image: "not a URL"}, "image"},
		"no object":                {override(`[]`), "override"},
		"unknown field":            {override(`{"android":{"notification":{"colour":"#ff0000"}}}`), "android.notification.colour"},
		"type":                     {override(`{"android":{"priority":5}}`), "override"},
		"color":                    {override(`{"android":{"notification":{"color":"red"}}}`), "color"},
		"to another":               {override(`{"token":"other"}`), "goes to"},
		"to a topic":               {override(`{"token":null,"topic":"news"}`), "goes to"},
		"override":                 {override(`{"android":{"notification":{"color":"#ff0000","sticky":false}},"fcm_options":{"analytics_label":"news"}}`), ""},
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
	if p := s.Problems(); len(p) > 0 {
		t.Error(p)
	}
}

// TestOptions: what is wrong with the options is said at once, in words that help and have no secrets.
func TestOptions(t *testing.T) {
	ctx := context.Background()
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "missing.json"))
	s := testServer(t, fcmtest.Options{})
	account := s.ServiceAccount()
	var fields map[string]string
	if err := json.Unmarshal(account, &fields); err != nil {
		t.Fatal(err)
	}
	without := func(name string) []byte {
		of := make(map[string]string)
		for k, v := range fields {
			if k != name {
				of[k] = v
			}
		}
		b, _ := json.Marshal(of)
		return b
	}
	for name, c := range map[string]struct {
		o   Options
		err string
	}{
		"nothing":         {Options{}, "GOOGLE_APPLICATION_CREDENTIALS"},
		"no JSON":         {Options{ServiceAccount: []byte("HIDDEN")}, "not JSON"},
		"of an app":       {Options{ServiceAccount: []byte(`{"project_info":{"project_id":"HIDDEN"}}`)}, "google-services.json"},
		"without its key": {Options{ServiceAccount: without("private_key")}, "private_key"},
		"another key":     {Options{ServiceAccount: []byte(strings.Replace(string(account), "-----BEGIN", "-----BEGUN", 1))}, "not a PEM key"},
		"another type":    {Options{ServiceAccount: []byte(`{"type":"HIDDEN"}`)}, "does not hold"},
		"no project":      {Options{ServiceAccount: without("project_id")}, "Options.Project"},
		"endpoint":        {Options{ServiceAccount: account, Endpoint: "fcm.googleapis.com"}, "https://"},
		"endpoint, more":  {Options{ServiceAccount: account, Endpoint: "https://fcm.googleapis.com/v1?key=HIDDEN"}, "https://"},
		"limit":           {Options{ServiceAccount: account, Connections: -1}, "below nothing"},
	} {
		sender, err := New(ctx, c.o)
		if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "HIDDEN") || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%s: %v", name, err)
		}
		if sender != nil {
			t.Error(name, "made one")
		}
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, account, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	for _, o := range []Options{{ServiceAccount: account}, {}, {ServiceAccount: without("project_id"), Project: fields["project_id"]}} {
		o.Endpoint, o.RootCAs = s.URL()+"/v1", s.RootCAs()
		sender, err := New(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		if r := sender.Send(ctx, batch(&transport.Content{Title: "hi"}, s.Token(1))); r[0].Outcome != transport.Accepted {
			t.Errorf("%+v", r)
		}
		for _, shown := range []string{fmt.Sprint(sender, o), fmt.Sprintf("%+v %#v %s", sender, sender, fmt.Append(nil, sender)), fmt.Sprintf("%+v %#v", o, o)} {
			if strings.Contains(shown, "BEGIN") || strings.Contains(shown, "45 45 45 45 45") || strings.Contains(shown, "0x2d, 0x2d") || strings.Contains(shown, "client_email") {
				t.Error("shown:", shown)
			}
		}
		if err := sender.Close(); err != nil {
			t.Error(err)
		}
	}
}
