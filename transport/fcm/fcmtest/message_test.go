package fcmtest_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// withToken puts a token into a message that has none.
func withToken(s *fcmtest.Server, fields string) string {
	return `{"message":{"token":"` + s.Token(1) + `",` + fields + `}}`
}

const allFields = `
	"name": "ignored",
	"data": {"a": "1", "collapse_key": "x", "notification": "y", "esc\u0061ped": "\"\\\u00e9"},
	"notification": {"title": "t", "body": "b", "image": "https://example.com/i.png"},
	"android": {
		"collapse_key": "c", "priority": "HIGH", "ttl": "3.5s", "restricted_package_name": "com.example",
		"data": {"k": "v"}, "direct_boot_ok": true, "bandwidth_constrained_ok": false,
		"fcm_options": {"analytics_label": "label-1.~%"},
		"notification": {
			"title": "t", "body": "b", "icon": "i", "color": "#12aBcd", "sound": "default", "tag": "g", "click_action": "ca",
			"body_loc_key": "k", "body_loc_args": ["a", "b"], "title_loc_key": "k", "title_loc_args": [], "channel_id": "ch",
			"ticker": "t", "sticky": true, "event_time": "2030-01-02T03:04:05.678901234Z", "local_only": false,
			"notification_priority": "PRIORITY_MAX", "default_sound": true, "default_vibrate_timings": true,
			"default_light_settings": false, "vibrate_timings": ["0.5s", "1s"], "visibility": "SECRET", "notification_count": 7,
			"light_settings": {"color": {"red": 0.5, "green": 1, "blue": 0, "alpha": 1.0}, "light_on_duration": "1s", "light_off_duration": "0.25s"},
			"image": "i", "bypass_proxy_notification": true, "proxy": "IF_PRIORITY_LOWERED"
		}
	},
	"webpush": {"headers": {"TTL": "15"}, "data": {"k": "v"}, "notification": {"title": "t", "actions": [{"a": [1, {}]}]},
		"fcm_options": {"link": "https://example.com", "analytics_label": "l"}},
	"apns": {"headers": {"apns-priority": "10"}, "payload": {"aps": {"alert": "x"}, "more": null},
		"fcm_options": {"image": "i", "analytics_label": "l"}, "live_activity_token": "l"},
	"fcm_options": {"analytics_label": "l"}`

func TestMessagesThatAreRight(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	for _, fields := range []string{
		`"data":{}`,
		allFields,
		camelKeys(allFields),
		`"notification":null,"android":null,"data":null`,
		`"android":{"priority":"high"}`,
		`"android":{"priority":"normal"}`,
		`"android":{"priority":1}`,
		`"android":{"ttl":"0s"}`,
		`"android":{"ttl":"2419200s"}`,
		`"android":{"notification":{"notification_count":"3"}}`,
		`"apns":{"headers":{"apns-priority":"5"},"payload":{"aps":{"content-available":1}}}`,
		`"apns":{"headers":{"apns-priority":"10"},"payload":{"aps":{"badge":1}}}`,
		`"notification":{"title":"x"},"apns":{"headers":{"apns-priority":"10"}}`,
	} {
		body := withToken(s, fields)
		before := s.Total()
		if r := c.send(body); r.status != 200 || s.Total() != before+1 {
			t.Errorf("%s\n%s", fields, r.body)
		}
	}
	for _, target := range []string{
		`"topic":"weather"`, `"topic":"a-b_c.~%1"`, `"condition":"'a' in topics"`,
		`"condition":"'a' in topics && ('b' in topics || !('c' in topics))"`,
	} {
		if r := c.send(`{"message":{` + target + `}}`); r.status != 200 {
			t.Errorf("%s\n%s", target, r.body)
		}
	}
	if n := s.Count("/topics/weather"); n != 1 {
		t.Error(n)
	}
	if p := s.Problems(); p != nil {
		t.Error(p)
	}
}

// camelKeys writes the names of fields in camelCase.
func camelKeys(fields string) string {
	var b strings.Builder
	for i := 0; i < len(fields); i++ {
		if fields[i] == '_' && fields[i+1] >= 'a' && fields[i+1] <= 'z' {
			i++
			b.WriteString(strings.ToUpper(fields[i : i+1]))
			continue
		}
		b.WriteByte(fields[i])
	}
	return b.String()
}

// What Google's JSON parser refuses; field is where the details say it is.
func TestMessagesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	token := s.Token(1)
	for _, x := range []struct{ body, field, message string }{
		{`{"to":"x"}`, "", `Invalid JSON payload received. Unknown name "to": Cannot find field.`},
		{withToken(s, `"key":"x"`), "message", `Invalid JSON payload received. Unknown name "key" at 'message': Cannot find field.`},
		{withToken(s, `"notification":{"click_action":{"a":[1,"]"]}}`), "message.notification",
			`Invalid JSON payload received. Unknown name "click_action" at 'message.notification': Cannot find field.`},
		{withToken(s, `"a":1,"android":{"b":2}`), "message",
			"Invalid JSON payload received. Unknown name \"a\" at 'message': Cannot find field.\nInvalid JSON payload received. Unknown name \"b\" at 'message.android': Cannot find field."},
		{withToken(s, `"data":{"a":"x","b":12}`), "message.data[1].value", `Invalid value at 'message.data[1].value' (TYPE_STRING), 12`},
		{withToken(s, `"data":{"a":null}`), "message.data[0].value", `Invalid value at 'message.data[0].value' (TYPE_STRING), null`},
		{withToken(s, `"android":{"data":{"a":{"metadata":1}}}`), "message.android.data[0].value",
			`Invalid JSON payload received. Unknown name "metadata" at 'message.android.data[0].value': Cannot find field.`},
		{withToken(s, `"data":"x"`), "message.data", `Invalid value at 'message.data' (map), "x"`},
		{withToken(s, `"notification":[{}]`), "message",
			`Invalid JSON payload received. Unknown name "notification" at 'message': Proto field is not repeating, cannot start list.`},
		{withToken(s, `"notification":"x"`), "message.notification",
			`Invalid value at 'message.notification' (type.googleapis.com/google.firebase.fcm.v1.Notification), "x"`},
		{withToken(s, `"notification":{"title":{}}`), "message.notification.title", `Invalid value at 'message.notification.title' (TYPE_STRING), {}`},
		{withToken(s, `"android":{"priority":"urgent"}`), "message.android.priority",
			`Invalid value at 'message.android.priority' (type.googleapis.com/google.firebase.fcm.v1.AndroidMessagePriority), "urgent"`},
		{withToken(s, `"android":{"priority":2}`), "message.android.priority",
			`Invalid value at 'message.android.priority' (type.googleapis.com/google.firebase.fcm.v1.AndroidMessagePriority), 2`},
		{withToken(s, `"android":{"notification":{"visibility":"public"}}`), "message.android.notification.visibility",
			`Invalid value at 'message.android.notification.visibility' (type.googleapis.com/google.firebase.fcm.v1.AndroidNotification.Visibility), "public"`},
		{withToken(s, `"android":{"ttl":"60"}`), "message.android.ttl",
			`Invalid value at 'message.android.ttl' (type.googleapis.com/google.protobuf.Duration), Field 'ttl', Illegal duration format; duration must end with 's'`},
		{withToken(s, `"android":{"ttl":"1m0s"}`), "message.android.ttl",
			`Invalid value at 'message.android.ttl' (type.googleapis.com/google.protobuf.Duration), Field 'ttl', Illegal duration format`},
		{withToken(s, `"android":{"ttl":60}`), "message.android.ttl",
			`Invalid value at 'message.android.ttl' (type.googleapis.com/google.protobuf.Duration), Field 'ttl', Illegal duration format`},
		{withToken(s, `"android":{"directBootOk":"true"}`), "message.android.direct_boot_ok", `Invalid value at 'message.android.direct_boot_ok' (TYPE_BOOL), "true"`},
		{withToken(s, `"android":{"notification":{"body_loc_args":["a",1]}}`), "message.android.notification.body_loc_args[1]",
			`Invalid value at 'message.android.notification.body_loc_args[1]' (TYPE_STRING), 1`},
		{withToken(s, `"android":{"notification":{"body_loc_args":"a"}}`), "message.android.notification.body_loc_args",
			`Invalid value at 'message.android.notification.body_loc_args' (TYPE_STRING), "a"`},
		{withToken(s, `"android":{"notification":{"notification_count":1.5}}`), "message.android.notification.notification_count",
			`Invalid value at 'message.android.notification.notification_count' (TYPE_INT32), 1.5`},
		{withToken(s, `"android":{"notification":{"notification_count":2147483648}}`), "message.android.notification.notification_count",
			`Invalid value at 'message.android.notification.notification_count' (TYPE_INT32), 2147483648`},
		{withToken(s, `"android":{"notification":{"event_time":"today"}}`), "message.android.notification.event_time",
			`Invalid value at 'message.android.notification.event_time' (type.googleapis.com/google.protobuf.Timestamp), Field 'event_time', Invalid time format`},
		{withToken(s, `"android":{"notification":{"light_settings":{"color":{"red":"x"}}}}`), "message.android.notification.light_settings.color.red",
			`Invalid value at 'message.android.notification.light_settings.color.red' (TYPE_FLOAT), "x"`},
		{withToken(s, `"apns":{"payload":"x"}`), "message.apns.payload", `Invalid value at 'message.apns.payload' (type.googleapis.com/google.protobuf.Struct), "x"`},
		{withToken(s, `"topic":""`), "message", `Invalid value at 'message' (oneof), oneof field 'target' is already set. Cannot set 'topic'`},
		{withToken(s, `"data":{},"data":{}`), "message", `Invalid JSON payload received. Unknown name "data" at 'message': Field is already set.`},
		{`{"message":{"fcm_options":{},"fcmOptions":{},"token":"` + token + `"}}`, "message", `Invalid JSON payload received. Unknown name "fcmOptions" at 'message': Field is already set.`},
		{`[]`, "", `Invalid JSON payload received. Unknown name "": Root element must be a message.`},
		{`{"message":`, "", `Invalid JSON payload received. Unexpected end of string.`},
		{``, "", `Invalid JSON payload received. Unexpected end of string.`},
		{`{"message":x}`, "", "Invalid JSON payload received. Unexpected token.\nx}\n^"},
		{"{\"message\":\"\xff\"}", "", "Invalid JSON payload received. Encountered non UTF-8 code points."},
	} {
		r := c.send(x.body)
		if r.status != 400 || r.code != "INVALID_ARGUMENT" || r.message != x.message || r.field != x.field || !slices.Equal(r.details, []string{"BadRequest"}) {
			t.Errorf("%s\n%d %q\n%s", x.body, r.status, r.field, r.body)
		}
	}
	if s.Total() != 0 || len(s.Problems()) == 0 {
		t.Error(s.Total(), s.Problems())
	}
}

// What can be read but breaks a rule.
func TestMessagesThatBreakRules(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	android := func(notification string) string { return withToken(s, `"android":{"notification":{`+notification+`}}`) }
	for _, x := range []struct{ body, field, message string }{
		{`{}`, "message", "Recipient of the message is not set."},
		{`{"message":{}}`, "message", "Recipient of the message is not set."},
		{`{"message":{"token":""}}`, "message", "Recipient of the message is not set."},
		{`{"message":{"topic":"/topics/x"}}`, "message.topic", "Invalid topic name: /topics/x"},
		{`{"message":{"condition":"'a' in topics &&"}}`, "message.condition", "Invalid condition expression: expected 'topic' in topics"},
		{`{"message":{"condition":"('a' in topics"}}`, "message.condition", "Invalid condition expression: a parenthesis is not closed"},
		{`{"message":{"condition":"'a' in topics b"}}`, "message.condition", "Invalid condition expression: unexpected b"},
		{`{"message":{"condition":"'a b' in topics"}}`, "message.condition", "Invalid condition expression: a topic is not valid"},
		{`{"message":{"condition":"` + strings.Repeat("'a' in topics||", 5) + `'a' in topics"}}`, "message.condition", "Invalid condition expression: more than five topics"},
		{withToken(s, `"data":{"from":"x"}`), "message.data", "Invalid data payload key: from"},
		{withToken(s, `"data":{"message_type":"x"}`), "message.data", "Invalid data payload key: message_type"},
		{withToken(s, `"data":{"a":"b","google.x":"x"}`), "message.data", "Invalid data payload key: google.x"},
		{withToken(s, `"android":{"data":{"gcm.notification.x":"x"}}`), "message.android.data", "Invalid data payload key: gcm.notification.x"},
		{withToken(s, `"webpush":{"data":{"googled":"x"}}`), "message.webpush.data", "Invalid data payload key: googled"},
		{withToken(s, `"android":{"ttl":"2419201s"}`), "message.android.ttl", "Invalid TTL: it must be between 0 and 2419200 seconds"},
		{withToken(s, `"android":{"ttl":"-0.5s"}`), "message.android.ttl", "Invalid TTL: it must be between 0 and 2419200 seconds"},
		{android(`"color":"red"`), "message.android.notification.color", "Invalid color: it must be in the form #rrggbb"},
		{android(`"vibrate_timings":["1s","-1s"]`), "message.android.notification.vibrate_timings[1]", "Invalid duration: it must not be negative"},
		{android(`"light_settings":{"light_on_duration":"1s"}`), "message.android.notification.light_settings",
			"Light settings must have color, light_on_duration and light_off_duration"},
		{android(`"light_settings":{"color":{"red":1.5},"light_on_duration":"1s","light_off_duration":"1s"}`),
			"message.android.notification.light_settings.color.red", "Invalid color: its parts must be between 0 and 1"},
		{withToken(s, `"fcm_options":{"analytics_label":"a b"}`), "message.fcm_options.analytics_label",
			"Invalid analytics label: it must match [a-zA-Z0-9-_.~%]{1,50}"},
		{withToken(s, `"apns":{"fcm_options":{"analytics_label":"`+strings.Repeat("a", 51)+`"}}`), "message.apns.fcm_options.analytics_label",
			"Invalid analytics label: it must match [a-zA-Z0-9-_.~%]{1,50}"},
		{withToken(s, `"webpush":{"fcm_options":{"link":"http://example.com"}}`), "message.webpush.fcm_options.link", "Invalid link: HTTPS is required"},
		{withToken(s, `"data":{"a":"b"},"apns":{"headers":{"apns-priority":"10"},"payload":{"x":{"alert":1},"aps":{"content-available":1}}}`),
			"message.apns.headers", "Messages that have only data must have apns-priority 5"},
	} {
		r := c.send(x.body)
		if r.status != 400 || r.message != x.message || r.field != x.field || !slices.Equal(r.details, []string{"BadRequest", "FcmError"}) || r.errorCode != "INVALID_ARGUMENT" {
			t.Errorf("%s\n%d %q\n%s", x.body, r.status, r.field, r.body)
		}
	}
	if s.Total() != 0 || len(s.Problems()) == 0 {
		t.Error(s.Total(), s.Problems())
	}
}

// A bad registration token is told apart from a bad message by the details.
func TestBadRegistrationToken(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	good := s.Token(1)
	for _, token := range []string{"x", good[:100], good + " ", strings.Replace(good, ":", "", 1), ":" + good, good[:len(good)-1] + "ü", strings.Repeat(good, 40)} {
		r := c.send(hello(token))
		if r.status != 400 || r.code != "INVALID_ARGUMENT" || r.message != "The registration token is not a valid FCM registration token" ||
			!slices.Equal(r.details, []string{"FcmError"}) || r.errorCode != "INVALID_ARGUMENT" {
			t.Errorf("%s: %s", token, r.body)
		}
	}
	if p := s.Problems(); p != nil {
		t.Error("that is not the client's fault:", p)
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{})
	c := newClient(t, s)
	fill := func(n int) string { return strings.Repeat("x", n) }
	token := `"token":"` + s.Token(1) + `",`
	for _, x := range []struct{ at, format string }{
		// The %s is as long as the payload may be but for what else is in it.
		{token, `"data":{"k":"%s"}` + skip(1)},
		{token, `"data":{"key":"v","k":"%s"}` + skip(5)},
		{token, `"data":{"k":"%s"},"notification":{"title":"1234","body":"12"}` + skip(1+5+4+4+2)},
		{token, `"data":{"k":"ignored"},"android":{"data":{"k":"%s"}}` + skip(1)},
		{token, `"notification":{"title":"ignored"},"android":{"notification":{"title":"%s","icon":"i"}}` + skip(5+4+1)},
		{token, `"android":{"notification":{"body_loc_args":["a","%s"]}}` + skip(2*13+1)},
		{token, `"data":{"k":"1"},"apns":{"payload":{"x":"%s"}}` + skip(8+2)},
		{token, `"data":{"k":"1"},"webpush":{"notification":{"x":"%s"}}` + skip(8+2)},
		{`"topic":"t",`, `"data":{"k":"%s"}` + skip(1+2048)},
		{`"condition":"'t' in topics",`, `"data":{"k":"%s"}` + skip(1+2048)},
	} {
		format, less, _ := strings.Cut(x.format, "#")
		var others int
		fmt.Sscan(less, &others)
		most := 4096 - others
		fits := `{"message":{` + x.at + fmt.Sprintf(format, fill(most)) + `}}`
		over := `{"message":{` + x.at + fmt.Sprintf(format, fill(most+1)) + `}}`
		if r := c.send(fits); r.status != 200 {
			t.Errorf("%s with %d: %s", format, most, r.body)
		}
		if r := c.send(over); r.status != 400 || r.errorCode != "INVALID_ARGUMENT" || !strings.HasSuffix(r.message, "is too big") {
			t.Errorf("%s with %d: %s", format, most+1, r.body)
		}
	}
	r := c.send(withToken(s, `"data":{"k":"`+fill(64<<10)+`"}`))
	if r.status != 400 || r.message != "Request payload size exceeds the limit: 65536 bytes." {
		t.Error(string(r.body))
	}
}

func skip(n int) string { return fmt.Sprintf("#%d", n) }

func TestRecord(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newServer(t, fcmtest.Options{})
	o := fcmtest.Options{Project: "other", Now: func() time.Time { return now }}
	other := newServer(t, o)
	c := newClient(t, s)
	first, second := c.send(hello(s.Token(1))), c.send(`{"message":{"token":"`+s.Token(1)+`"},"validate_only":false}`)
	c.send(hello(s.Token(2)))
	got := s.Accepted(s.Token(1))
	if len(got) != 2 || got[0].Name != first.name || got[1].Name != second.name || first.name == second.name ||
		!strings.HasPrefix(first.name, "projects/fanfare-test/messages/0:") {
		t.Error(got, first.name, second.name)
	}
	if string(got[0].JSON) != `{"token":"`+s.Token(1)+`","notification":{"title":"Hello"}}` || !json.Valid(got[1].JSON) {
		t.Errorf("%s", got[0].JSON)
	}
	if s.Total() != 3 || s.Count(s.Token(1)) != 2 || s.Count(s.Token(3)) != 0 || s.Accepted(s.Token(3)) != nil || s.Requests() != 3 {
		t.Error(s.Total(), s.Count(s.Token(1)), s.Requests())
	}
	dry := c.send(`{"message":{"token":"` + s.Token(1) + `"},"validateOnly":true}`)
	if dry.name != "projects/fanfare-test/messages/fake_message_id" || s.Total() != 3 {
		t.Error(dry.name, s.Total())
	}

	d := &client{t: t, s: other, http: other.Client()}
	d.access = d.ask(grantForm(assertion(t, other, now, nil))).AccessToken
	r, err := d.post("/v1/projects/other/messages:send", "application/json", []byte(hello(s.Token(1))))
	if err != nil || r.status != 200 || !other.Accepted(s.Token(1))[0].At.Equal(now) {
		t.Error(err, r)
	}
}

func TestCountOnly(t *testing.T) {
	t.Parallel()
	s := newServer(t, fcmtest.Options{CountOnly: true})
	c := newClient(t, s)
	c.send(hello(s.Token(1)))
	c.send(hello(s.Token(1)))
	if s.Count(s.Token(1)) != 2 || s.Count(s.Token(2)) != 0 || s.Accepted(s.Token(1)) != nil || s.Total() != 2 {
		t.Error(s.Count(s.Token(1)), s.Count(s.Token(2)), s.Total())
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	s, other := newServer(t, fcmtest.Options{}), newServer(t, fcmtest.Options{})
	seen := map[string]bool{}
	for i := range 10000 {
		token := s.Token(i)
		if len(token) != 152 || token[11:18] != ":APA91b" || seen[token] || token != other.Token(i) {
			t.Fatal(i, token)
		}
		seen[token] = true
	}
}
