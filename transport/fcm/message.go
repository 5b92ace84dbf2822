package fcm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"firebase.google.com/go/v4/messaging"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/internal/flow"
	"github.com/fanfare-im/fanfare/transport/internal/payload"
)

// MessageKey is the key of the data under which the app finds the message's ID.
const MessageKey = payload.MessageKey

const (
	maxPayload  = 4096
	maxCollapse = 64
	maxTTL      = 28 * 24 * time.Hour
	// anyID is as long as any message's ID.
	anyID = "00000000000000000000000000000000"
)

// encoded is a request for every device of a task and a language, with gaps in its body for what differs.
type encoded struct {
	url    *url.URL
	header http.Header
	parts  [][]byte
	gaps   []gap // between them
}

// gap is what stands between two parts.
type gap byte

const (
	gapToken gap = iota // as a JSON string, with its quotes
	gapTTL              // as a number
)

// body fills the gaps.
func (e *encoded) body(token string, left time.Duration) []byte {
	quoted, _ := json.Marshal(token)
	seconds := int64(min(max(left, 0), maxTTL) / time.Second)
	b := make([]byte, 0, 1024+len(quoted))
	for i, part := range e.parts {
		b = append(b, part...)
		if i == len(e.gaps) {
			break
		}
		if e.gaps[i] == gapToken {
			b = append(b, quoted...)
		} else {
			b = strconv.AppendInt(b, seconds, 10)
		}
	}
	return b
}

// encode makes the message and has Google's library check and encode it.
func (s *Sender) encode(m *transport.Message, c *transport.Content, text transport.Text) (*encoded, error) {
	if len(c.Collapse) > maxCollapse {
		return nil, fmt.Errorf("the collapse ID has %d bytes, and 64 are the most", len(c.Collapse))
	}
	for range 10 { // until what marks the gaps is nowhere else
		mark := fmt.Sprintf("token-%016x", rand.Uint64())
		ttl := 1_000_000 + rand.IntN(1_000_000)
		message, err := compose(m, c, text, mark, time.Duration(ttl)*time.Second)
		if err != nil {
			return nil, err
		}
		if err := cmp.Or(checkKeys(message), checkSize(message)); err != nil {
			return nil, err
		}
		var d flow.Draft
		if _, err := s.client.Send(d.Context(), message); err != nil {
			return nil, err
		}
		if e := split(d.Body, mark, strconv.Itoa(ttl)); e != nil {
			e.url, e.header = d.URL, d.Header
			return e, nil
		}
	}
	return nil, errors.New("the notification has every mark that was tried in it")
}

// split takes a body apart at its gaps, or returns nil if these are not clear.
func split(body []byte, mark, ttl string) *encoded {
	e := new(encoded)
	for len(body) > 0 {
		at, n, g := len(body), 0, gapToken
		for _, x := range []struct {
			before, text, behind string
			gap                  gap
		}{{``, `"` + mark + `"`, ``, gapToken}, {`"ttl":"`, ttl, `s"`, gapTTL}, {`"TTL":"`, ttl, `"`, gapTTL}} {
			if i := bytes.Index(body, []byte(x.before+x.text+x.behind)); i >= 0 && i < at {
				at, n, g = i+len(x.before), len(x.text), x.gap
			}
		}
		e.parts = append(e.parts, body[:at])
		if n > 0 {
			e.gaps = append(e.gaps, g)
		}
		body = body[at+n:]
	}
	tokens := 0
	for _, g := range e.gaps {
		if g == gapToken {
			tokens++
		}
	}
	for _, part := range e.parts {
		if bytes.Contains(part, []byte(mark)) {
			return nil
		}
	}
	if tokens != 1 || len(e.gaps) > 3 {
		return nil
	}
	return e
}

// compose makes the message. An override is laid over it in the form of the service's REST reference, "projects.messages".
func compose(m *transport.Message, c *transport.Content, text transport.Text, token string, ttl time.Duration) (*messaging.Message, error) {
	message, err := base(m, c, text, token, ttl)
	if err != nil {
		return nil, err
	}
	patch := c.Overrides[Platform]
	if c.Withdrawn { // the rest is of what was shown
		patch = payload.Pick(patch, []string{"android", "collapse_key"}, []string{"android", "restricted_package_name"},
			[]string{"apns", "headers", "apns-topic"}, []string{"apns", "headers", "apns-collapse-id"})
	}
	if len(patch) == 0 {
		return message, nil
	}
	merged, err := payload.Override(message, patch)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(merged)
	if err != nil {
		return nil, err
	}
	message = new(messaging.Message)
	if err := json.Unmarshal(b, message); err != nil {
		return nil, fmt.Errorf("override: %w", err)
	}
	if message.Token != token || message.Topic != "" || message.Condition != "" {
		return nil, errors.New("override: whom the message goes to is not to be changed")
	}
	known, err := payload.Override(message, nil)
	if err != nil {
		return nil, err
	}
	if field := payload.Unknown(known, patch); field != "" {
		return nil, fmt.Errorf("override: the field %q is not one of FCM, or has another type there", field)
	}
	return message, nil
}

// base is the message without an override.
func base(m *transport.Message, c *transport.Content, text transport.Text, token string, ttl time.Duration) (*messaging.Message, error) {
	data := map[string]any{MessageKey: m.ID}
	if err := payload.AddData(data, c); err != nil {
		return nil, err
	}
	message := &messaging.Message{Token: token, Data: make(map[string]string, len(data))}
	for k, v := range data {
		message.Data[k] = v.(string)
	}
	collapse := cmp.Or(c.Collapse, m.ID)
	// The service keeps messages of four collapse keys for a device that is away, and drops others. A key for each message would have it
	// drop the fifth, so there is one only where it was asked for; that a notification is shown once is the tag's work.
	message.Android = &messaging.AndroidConfig{CollapseKey: c.Collapse, Priority: "high", TTL: &ttl}
	message.Webpush = &messaging.WebpushConfig{Headers: map[string]string{"TTL": strconv.Itoa(int(ttl / time.Second))}}
	message.APNS = &messaging.APNSConfig{
		Headers: map[string]string{
			"apns-collapse-id": collapse, "apns-push-type": "alert", "apns-priority": "10",
			"apns-expiration": strconv.FormatInt(max(m.Expires.Unix(), 1), 10),
		},
		Payload: &messaging.APNSPayload{Aps: &messaging.Aps{}},
	}
	if c.Silent || c.Deferrable {
		message.Android.Priority, message.APNS.Headers["apns-priority"] = "normal", "5"
	}
	aps := message.APNS.Payload.Aps
	if c.Silent {
		message.APNS.Headers["apns-push-type"] = "background"
		aps.ContentAvailable = true
		return message, nil
	}
	message.Notification = &messaging.Notification{Title: text.Title, Body: text.Body, ImageURL: c.Image}
	message.Android.Notification = &messaging.AndroidNotification{Tag: collapse, Sound: c.Sound, NotificationCount: c.Badge}
	aps.Badge, aps.Sound, aps.MutableContent = c.Badge, c.Sound, c.Image != ""
	if c.Image != "" {
		message.APNS.FCMOptions = &messaging.APNSFCMOptions{ImageURL: c.Image}
	}
	return message, nil
}

// checkKeys refuses the keys of data that the service or its libraries on the device keep for themselves.
func checkKeys(m *messaging.Message) error {
	list := []map[string]string{m.Data}
	if m.Android != nil {
		list = append(list, m.Android.Data)
	}
	if m.Webpush != nil {
		list = append(list, m.Webpush.Data)
	}
	for _, data := range list {
		for k := range data {
			if k == "from" || k == "message_type" || k == "collapse_key" || strings.HasPrefix(k, "google") || strings.HasPrefix(k, "gcm") {
				return fmt.Errorf("the key %q of the data is reserved by FCM", k)
			}
		}
	}
	return nil
}

// checkSize looks at the service's limit for what reaches a device, of whichever kind that is. It counts what is encoded, a little more than
// the service does.
func checkSize(m *messaging.Message) error {
	part := func(own map[string]string) map[string]any {
		if len(own) == 0 {
			own = m.Data
		}
		return map[string]any{"notification": m.Notification, "data": own}
	}
	if err := checkPart("notification and data", part(nil)); err != nil {
		return err
	}
	if a := m.Android; a != nil {
		all := part(a.Data)
		if a.Notification != nil { // over that which is for all
			patch, err := json.Marshal(map[string]any{"notification": a.Notification})
			if err != nil {
				return err
			}
			if all, err = payload.Override(all, patch); err != nil {
				return err
			}
		}
		if err := checkPart("notification and data for Android", all); err != nil {
			return err
		}
	}
	if w := m.Webpush; w != nil {
		all := part(w.Data)
		all["notification"] = w.Notification
		if err := checkPart("notification and data for browsers", all); err != nil {
			return err
		}
	}
	if m.APNS == nil {
		return nil
	}
	all := part(nil)
	all["payload"] = m.APNS.Payload
	return checkPart("notification, data and payload for iOS", all)
}

func checkPart(what string, part any) error {
	b, err := json.Marshal(part)
	if err == nil && len(b) > maxPayload {
		err = fmt.Errorf("%s: %d bytes, and FCM takes %d", what, len(b), maxPayload)
	}
	return err
}
