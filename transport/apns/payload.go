package apns

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sideshow/apns2"
	"golang.org/x/net/http/httpguts"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/internal/payload"
)

// MessageKey is the key of the payload under which the app finds the message's ID.
const MessageKey = payload.MessageKey

const (
	maxPayload     = 4096
	maxVoIPPayload = 5120
	maxCollapse    = 64
	// anyID is as long as any message's ID.
	anyID = "00000000000000000000000000000000"
)

// encoded is a notification in the service's words, for every device of a task and a language.
type encoded struct {
	url      *url.URL // without the token
	header   http.Header
	body     []byte
	topic    string // by an override
	pushType apns2.EPushType
	priority int
	collapse string
}

// encode makes the payload. An override has the form of FCM's ApnsConfig: an object with "headers" and "payload".
func (s *Sender) encode(m *transport.Message, c *transport.Content, text transport.Text) (*encoded, error) {
	root := map[string]any{"aps": aps(c, text), MessageKey: m.ID}
	if err := payload.AddData(root, c, "aps"); err != nil {
		return nil, err
	}
	headers := map[string]string{
		"apns-push-type": string(apns2.PushTypeAlert), "apns-priority": strconv.Itoa(apns2.PriorityHigh),
		"apns-collapse-id": cmp.Or(c.Collapse, m.ID),
	}
	if c.Silent || c.Deferrable {
		headers["apns-priority"] = strconv.Itoa(apns2.PriorityLow)
	}
	if c.Silent {
		headers["apns-push-type"] = string(apns2.PushTypeBackground)
	}
	override, is := c.Overrides[s.Platform()]
	if !is {
		override = c.Overrides[Platform]
	}
	if c.Withdrawn { // the rest is of what was shown
		override = payload.Pick(override, []string{"headers", "apns-topic"}, []string{"headers", "apns-collapse-id"})
	}
	all, err := payload.Override(map[string]any{"headers": headers, "payload": root}, override)
	if err != nil {
		return nil, err
	}
	e := new(encoded)
	if e.body, err = marshal(all["payload"]); err != nil {
		return nil, err
	}
	if err := e.take(all); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, s.draft(e, m.Expires)
}

// aps is the part of the payload that the system reads.
func aps(c *transport.Content, text transport.Text) map[string]any {
	if c.Silent {
		return map[string]any{"content-available": 1}
	}
	aps := make(map[string]any)
	alert := make(map[string]any)
	if text.Title != "" {
		alert["title"] = text.Title
	}
	if text.Body != "" {
		alert["body"] = text.Body
	}
	if len(alert) > 0 {
		aps["alert"] = alert
	}
	if c.Badge != nil {
		aps["badge"] = *c.Badge
	}
	if c.Sound != "" {
		aps["sound"] = c.Sound
	}
	if c.Image != "" {
		aps["mutable-content"] = 1 // an extension of the app fetches it
	}
	return aps
}

// take reads the headers.
func (e *encoded) take(all map[string]any) (err error) {
	for k := range all {
		if k != "headers" && k != "payload" {
			return fmt.Errorf("override: %q: headers and payload are known", k)
		}
	}
	headers, _ := all["headers"].(map[string]any)
	for _, k := range slices.Backward(slices.Sorted(maps.Keys(headers))) { // ours, in lower case, before those that an override spells otherwise
		v, is := headers[k].(string)
		if !is {
			return fmt.Errorf("override: the header %q is not a string", k)
		}
		switch strings.ToLower(k) {
		case "apns-push-type":
			e.pushType = apns2.EPushType(v)
		case "apns-priority":
			if e.priority, err = strconv.Atoi(v); err != nil {
				return fmt.Errorf("override: apns-priority %q", v)
			}
		case "apns-collapse-id":
			e.collapse = v
		case "apns-topic":
			e.topic = v
		default:
			return fmt.Errorf("override: the header %q: apns-push-type, apns-priority, apns-collapse-id and apns-topic are known", k)
		}
	}
	return nil
}

// check looks at the service's limits.
func (e *encoded) check() error {
	most := maxPayload
	if e.pushType == apns2.PushTypeVOIP {
		most = maxVoIPPayload
	}
	switch {
	case len(e.body) > most:
		return fmt.Errorf("the payload has %d bytes, and APNs takes %d", len(e.body), most)
	case len(e.collapse) > maxCollapse:
		return fmt.Errorf("the collapse ID has %d bytes, and APNs takes %d", len(e.collapse), maxCollapse)
	case !httpguts.ValidHeaderFieldValue(e.collapse) || !httpguts.ValidHeaderFieldValue(e.topic) || !httpguts.ValidHeaderFieldValue(string(e.pushType)):
		return errors.New("a control character stands in the collapse ID, the topic or the push type")
	case e.priority != 1 && e.priority != apns2.PriorityLow && e.priority != apns2.PriorityHigh:
		return fmt.Errorf("apns-priority %d: 1, 5 and 10 are known", e.priority)
	}
	return nil
}

// marshal is json.Marshal without escapes for HTML, which take six bytes each.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}
