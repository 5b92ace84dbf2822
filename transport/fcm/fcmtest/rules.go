package fcmtest

import (
	"strconv"
	"strings"
)

// draft is what the decoder keeps of a message.
type draft struct {
	validateOnly bool
	message      []byte // its JSON
	targets      int
	to           string
	toKind       toKind

	data, androidData, webData entries
	hasNotification            bool
	notification, android      texts
	webNotification            int // bytes of JSON
	apnsPayload                []byte
	apnsPriority               string
	light                      struct{ color, on, off bool }
}

type toKind int

const (
	toToken toKind = iota
	toTopic
	toCondition
)

// entries counts the bytes of a data map.
type entries struct {
	there bool
	bytes int
}

func (e *entries) add(key, value []byte) {
	e.there = true
	e.bytes += len(key) + len(value)
}

// or is e, or where there is none what it overrides.
func (e entries) or(other entries) entries {
	if e.there {
		return e
	}
	return other
}

// texts counts the bytes of a notification.
type texts struct{ title, body, image, others int }

func (t texts) bytes() int { return t.title + t.body + t.image + t.others }

func (t texts) or(other texts) texts {
	pick := func(a, b int) int {
		if a > 0 {
			return a
		}
		return b
	}
	return texts{pick(t.title, other.title), pick(t.body, other.body), pick(t.image, other.image), t.others}
}

const (
	maxPayload      = 4096
	maxTopicPayload = 2048
	maxTTL          = 4 * 7 * 24 * 60 * 60 // seconds
	maxTopics       = 5                    // in a condition
)

// refuse notes the first rule that is broken. An empty field says that Google
// does not name one.
func (d *decoder) refuse(field, text string) {
	if d.broken == nil {
		d.broken = &violation{field, text}
	}
}

// check looks at what only the whole message shows.
func (d *decoder) check() {
	if d.to == "" {
		d.broken = &violation{"message", "Recipient of the message is not set."}
		return
	}
	switch d.toKind {
	case toToken:
		if !isRegistrationToken(d.to) {
			d.refuse("", "The registration token is not a valid FCM registration token")
		}
	case toTopic:
		if !isTopic(d.to) {
			d.refuse("message.topic", "Invalid topic name: "+d.to)
		}
	case toCondition:
		if text := badCondition(d.to); text != "" {
			d.refuse("message.condition", "Invalid condition expression: "+text)
		}
	}
	d.checkSizes()
	if d.apnsPriority == "10" && !d.hasNotification && !d.visibleOnApple() {
		d.refuse("message.apns.headers", "Messages that have only data must have apns-priority 5")
	}
}

func (d *decoder) checkSizes() {
	most := maxPayload
	if d.toKind != toToken {
		most = maxTopicPayload
	}
	if d.androidData.or(d.data).bytes+d.android.or(d.notification).bytes() > most {
		d.refuse("message", "Android message is too big")
	}
	if d.apnsPayload != nil && len(d.apnsPayload)+d.data.bytes+d.notification.bytes() > most {
		d.refuse("message.apns.payload", "APNs payload is too big")
	}
	if d.webNotification+d.webData.or(d.data).bytes > most {
		d.refuse("message.webpush", "Web push message is too big")
	}
}

// visibleOnApple tells whether the aps dictionary has the user notice anything.
func (d *decoder) visibleOnApple() bool {
	if d.apnsPayload == nil {
		return false
	}
	visible := false
	p := &decoder{b: d.apnsPayload}
	p.each('}', func(int) {
		if key := p.key(); string(key) != "aps" || p.b[p.i] != '{' {
			p.skip()
			return
		}
		p.each('}', func(int) {
			switch string(p.key()) {
			case "alert", "sound", "badge":
				visible = true
			}
			p.skip()
		})
	})
	return visible
}

func (d *decoder) seeAPNsHeader(key, value []byte) {
	if strings.EqualFold(string(key), "apns-priority") {
		d.apnsPriority = string(value)
	}
}

// checkKey refuses the keys that are reserved. The documents differ in how much
// of "google" and "gcm" that is; the widest reading holds here.
func (d *decoder) checkKey(key []byte) {
	k := string(key)
	if k == "from" || k == "message_type" || strings.HasPrefix(k, "google") || strings.HasPrefix(k, "gcm") {
		field, _, _ := strings.Cut(d.at(), "[")
		d.refuse(field, "Invalid data payload key: "+k)
	}
}

func (d *decoder) checkTTL(v []byte) {
	// What is below a second is cut off, so a little above the most is allowed.
	seconds, nanos, _ := duration(v)
	if seconds < 0 || nanos < 0 || seconds > maxTTL {
		d.refuse(d.at(), "Invalid TTL: it must be between 0 and 2419200 seconds")
	}
}

func (d *decoder) checkNotNegative(v []byte) {
	if seconds, nanos, _ := duration(v); seconds < 0 || nanos < 0 {
		d.refuse(d.at(), "Invalid duration: it must not be negative")
	}
}

func (d *decoder) checkColor(v []byte) {
	ok := len(v) == 7 && v[0] == '#'
	for i := 1; ok && i < len(v); i++ {
		ok = strings.IndexByte("0123456789abcdefABCDEF", v[i]) >= 0
	}
	if !ok {
		d.refuse(d.at(), "Invalid color: it must be in the form #rrggbb")
	}
}

func (d *decoder) checkColorPart(v []byte) {
	if n, err := strconv.ParseFloat(string(v), 64); err != nil || n < 0 || n > 1 {
		d.refuse(d.at(), "Invalid color: its parts must be between 0 and 1")
	}
}

func (d *decoder) checkLight() {
	if !d.light.color || !d.light.on || !d.light.off {
		d.refuse(d.at(), "Light settings must have color, light_on_duration and light_off_duration")
	}
}

func (d *decoder) checkLabel(v []byte) {
	if len(v) > 50 || len(v) > 0 && !isTopic(string(v)) {
		d.refuse(d.at(), "Invalid analytics label: it must match [a-zA-Z0-9-_.~%]{1,50}")
	}
}

func (d *decoder) checkLink(v []byte) {
	if len(v) > 0 && !strings.HasPrefix(string(v), "https://") {
		d.refuse(d.at(), "Invalid link: HTTPS is required")
	}
}

// isTopic tells whether s matches [a-zA-Z0-9-_.~%]+, as topics and labels do.
func isTopic(s string) bool {
	for i := range len(s) {
		if !isWord(s[i]) && strings.IndexByte(".~%", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
