package fcmtest

// The message types of google.firebase.fcm.v1, as the REST reference of
// projects.messages has them.

type kind int

const (
	stringKind kind = iota
	boolKind
	int32Kind
	floatKind
	enumKind
	durationKind
	timestampKind
	messageKind
	mapKind    // of strings to strings
	structKind // google.protobuf.Struct: any JSON object
)

// messageType is one message type. A field is found under both its names.
type messageType struct {
	name   string // without the package
	fields map[string]*field
}

type field struct {
	name     string // in snake_case, as paths in errors have it
	camel    string
	number   uint // in its message, to see a field that is there twice
	kind     kind
	repeated bool
	target   bool // belongs to the oneof target
	message  *messageType
	enum     *enumType
	see      func(*decoder, []byte) // is shown each valid value, a string without its quotes; may be nil
	pair     func(*decoder, []byte, []byte)
}

type enumType struct {
	name   string
	values []string // the number of a value is its place
}

func (e *enumType) has(name string) bool {
	for _, v := range e.values {
		if v == name {
			return true
		}
	}
	return false
}

func message(name string, fields ...*field) *messageType {
	m := &messageType{name: name, fields: make(map[string]*field, 2*len(fields))}
	for i, f := range fields {
		f.number = uint(i)
		f.camel = camel(f.name)
		m.fields[f.name] = f
		m.fields[f.camel] = f
	}
	return m
}

func camel(snake string) string {
	var b []byte
	for i := 0; i < len(snake); i++ {
		if snake[i] == '_' {
			i++
			b = append(b, snake[i]-'a'+'A')
			continue
		}
		b = append(b, snake[i])
	}
	return string(b)
}

type see = func(*decoder, []byte)

func scalar(name string, k kind, s see) *field {
	return &field{name: name, kind: k, see: s}
}
func text(name string, s see) *field  { return scalar(name, stringKind, s) }
func truth(name string, s see) *field { return scalar(name, boolKind, s) }
func list(f *field) *field            { f.repeated = true; return f }

func target(name string, s see) *field {
	return &field{name: name, kind: stringKind, target: true, see: s}
}

func sub(name string, m *messageType, s see) *field {
	return &field{name: name, kind: messageKind, message: m, see: s}
}

func pairs(name string, pair func(*decoder, []byte, []byte)) *field {
	return &field{name: name, kind: mapKind, pair: pair}
}

func choice(name, typ string, s see, values ...string) *field {
	return &field{name: name, kind: enumKind, enum: &enumType{typ, values}, see: s}
}

func label() *field {
	return text("analytics_label", func(d *decoder, v []byte) { d.checkLabel(v) })
}

var sendRequest = message("SendMessageRequest",
	sub("message", fcmMessage, func(d *decoder, raw []byte) { d.message = raw }),
	truth("validate_only", func(d *decoder, v []byte) { d.validateOnly = string(v) == "true" }),
)

var fcmMessage = message("Message",
	text("name", nil),
	pairs("data", func(d *decoder, k, v []byte) { d.data.add(k, v); d.checkKey(k) }),
	sub("notification", notification, func(d *decoder, _ []byte) { d.hasNotification = true }),
	sub("android", android, nil),
	sub("webpush", webpush, nil),
	sub("apns", apns, nil),
	sub("fcm_options", message("FcmOptions", label()), nil),
	target("token", func(d *decoder, v []byte) { d.to, d.toKind = string(v), toToken }),
	target("topic", func(d *decoder, v []byte) { d.to, d.toKind = string(v), toTopic }),
	target("condition", func(d *decoder, v []byte) { d.to, d.toKind = string(v), toCondition }),
)

var notification = message("Notification",
	text("title", func(d *decoder, v []byte) { d.notification.title = len("title") + len(v) }),
	text("body", func(d *decoder, v []byte) { d.notification.body = len("body") + len(v) }),
	text("image", func(d *decoder, v []byte) { d.notification.image = len("image") + len(v) }),
)

var android = message("AndroidConfig",
	text("collapse_key", nil),
	choice("priority", "AndroidMessagePriority", nil, "NORMAL", "HIGH"),
	scalar("ttl", durationKind, func(d *decoder, v []byte) { d.checkTTL(v) }),
	text("restricted_package_name", nil),
	pairs("data", func(d *decoder, k, v []byte) { d.androidData.add(k, v); d.checkKey(k) }),
	sub("notification", androidNotification, nil),
	sub("fcm_options", message("AndroidFcmOptions", label()), nil),
	truth("direct_boot_ok", nil),
	truth("bandwidth_constrained_ok", nil),
)

// androidText is a string of an Android notification that has no place of its
// own in the Notification for all platforms.
func androidText(name string) *field {
	return text(name, func(d *decoder, v []byte) { d.android.others += len(name) + len(v) })
}

var androidNotification = message("AndroidNotification",
	text("title", func(d *decoder, v []byte) { d.android.title = len("title") + len(v) }),
	text("body", func(d *decoder, v []byte) { d.android.body = len("body") + len(v) }),
	text("image", func(d *decoder, v []byte) { d.android.image = len("image") + len(v) }),
	androidText("icon"),
	text("color", func(d *decoder, v []byte) { d.android.others += len("color") + len(v); d.checkColor(v) }),
	androidText("sound"),
	androidText("tag"),
	androidText("click_action"),
	androidText("body_loc_key"),
	list(androidText("body_loc_args")),
	androidText("title_loc_key"),
	list(androidText("title_loc_args")),
	androidText("channel_id"),
	androidText("ticker"),
	truth("sticky", nil),
	scalar("event_time", timestampKind, nil),
	truth("local_only", nil),
	choice("notification_priority", "AndroidNotification.NotificationPriority", nil, "PRIORITY_UNSPECIFIED",
		"PRIORITY_MIN", "PRIORITY_LOW", "PRIORITY_DEFAULT", "PRIORITY_HIGH", "PRIORITY_MAX"),
	truth("default_sound", nil),
	truth("default_vibrate_timings", nil),
	truth("default_light_settings", nil),
	list(scalar("vibrate_timings", durationKind, func(d *decoder, v []byte) { d.checkNotNegative(v) })),
	choice("visibility", "AndroidNotification.Visibility", nil, "VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"),
	scalar("notification_count", int32Kind, nil),
	sub("light_settings", lightSettings, func(d *decoder, _ []byte) { d.checkLight() }),
	truth("bypass_proxy_notification", nil),
	choice("proxy", "AndroidNotification.Proxy", nil, "PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"),
)

var lightSettings = message("LightSettings",
	sub("color", message("google.type.Color", colorPart("red"), colorPart("green"), colorPart("blue"), colorPart("alpha")),
		func(d *decoder, _ []byte) { d.light.color = true }),
	scalar("light_on_duration", durationKind, func(d *decoder, v []byte) { d.light.on = true; d.checkNotNegative(v) }),
	scalar("light_off_duration", durationKind, func(d *decoder, v []byte) { d.light.off = true; d.checkNotNegative(v) }),
)

func colorPart(name string) *field {
	return scalar(name, floatKind, func(d *decoder, v []byte) { d.checkColorPart(v) })
}

var apns = message("ApnsConfig",
	pairs("headers", func(d *decoder, k, v []byte) { d.seeAPNsHeader(k, v) }),
	scalar("payload", structKind, func(d *decoder, raw []byte) { d.apnsPayload = raw }),
	sub("fcm_options", message("ApnsFcmOptions", label(), text("image", nil)), nil),
	text("live_activity_token", nil),
)

var webpush = message("WebpushConfig",
	pairs("headers", nil),
	pairs("data", func(d *decoder, k, v []byte) { d.webData.add(k, v); d.checkKey(k) }),
	scalar("notification", structKind, func(d *decoder, raw []byte) { d.webNotification = len(raw) }),
	sub("fcm_options", message("WebpushFcmOptions", text("link", func(d *decoder, v []byte) { d.checkLink(v) }), label()), nil),
)
