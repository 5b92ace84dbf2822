package apnstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/fanfare-im/fanfare/transport/internal/h2server"
)

// payload returns what APNs has against a payload and notes what it has not but
// the documentation of payloads has.
func (s *Server) payload(c *conn, r *h2server.Request) string {
	most := maxPayload
	if c.pushType == "voip" {
		most = maxPayloadVoIP
	}
	switch {
	case len(r.Body) == 0:
		return "PayloadEmpty"
	case r.TooLarge || len(r.Body) > most:
		return "PayloadTooLarge"
	}
	if c.pushType == c.goodType && bytes.Equal(r.Body, c.good) { // one text to many devices is the usual case
		return ""
	}
	var top map[string]json.RawMessage
	if json.Unmarshal(r.Body, &top) != nil || top == nil {
		return "PayloadEmpty"
	}
	found := inPayload(top, c.pushType)
	if len(found) == 0 {
		c.good, c.goodType = append(c.good[:0], r.Body...), c.pushType
	}
	for _, p := range found {
		s.problem(p)
	}
	return ""
}

// inPayload returns what is wrong with a payload that is a JSON object.
func inPayload(top map[string]json.RawMessage, pushType string) []string {
	raw, ok := top["aps"]
	if !ok {
		// The payloads of device management and Wallet have none, but Wallet's
		// are an empty dictionary.
		if pushType == "mdm" || len(top) == 0 {
			return nil
		}
		return []string{"the payload has no aps dictionary"}
	}
	var aps map[string]any
	if json.Unmarshal(raw, &aps) != nil || aps == nil {
		return []string{"aps is not a dictionary"}
	}
	var found []string
	for key, value := range aps {
		check, known := apsKeys[key]
		if !known {
			found = append(found, fmt.Sprintf("aps has the unknown key %q", key))
			continue
		}
		if !check(value) {
			found = append(found, fmt.Sprintf("aps.%s has the wrong value %v", key, value))
		}
	}
	if pushType == "background" && aps["content-available"] != 1.0 {
		found = append(found, "apns-push-type background without content-available 1")
	}
	return found
}

// apsKeys are the keys that Apple documents, with what their values must be.
var apsKeys = map[string]func(any) bool{
	"alert":              isAlert,
	"badge":              isCount,
	"sound":              isSound,
	"thread-id":          isString,
	"category":           isString,
	"content-available":  isOne,
	"mutable-content":    isOne,
	"target-content-id":  isString,
	"interruption-level": oneOf("passive", "active", "time-sensitive", "critical"),
	"relevance-score":    isNumber,
	"filter-criteria":    isString,
	"url-args":           isStrings,
	// Live Activities and widgets.
	"stale-date":         isNumber,
	"content-state":      isDictionary,
	"timestamp":          isNumber,
	"event":              oneOf("start", "update", "end"),
	"dismissal-date":     isNumber,
	"attributes-type":    isString,
	"attributes":         isDictionary,
	"input-push-token":   isOne,
	"input-push-channel": isString,
	"content-changed":    isBool,
}

var alertKeys = map[string]func(any) bool{
	"title": isString, "subtitle": isString, "body": isString, "launch-image": isString,
	"title-loc-key": isString, "title-loc-args": isStrings,
	"subtitle-loc-key": isString, "subtitle-loc-args": isStrings,
	"loc-key": isString, "loc-args": isStrings,
	"action-loc-key": isString, "action": isString,
	"summary-arg": isString, "summary-arg-count": isCount,
}

func isString(v any) bool     { _, ok := v.(string); return ok }
func isNumber(v any) bool     { _, ok := v.(float64); return ok }
func isBool(v any) bool       { _, ok := v.(bool); return ok }
func isDictionary(v any) bool { _, ok := v.(map[string]any); return ok }
func isOne(v any) bool        { return v == 1.0 || v == 0.0 }

func isCount(v any) bool {
	n, ok := v.(float64)
	return ok && n >= 0 && n == float64(int64(n))
}

func isStrings(v any) bool {
	list, ok := v.([]any)
	return ok && !slices.ContainsFunc(list, func(v any) bool { return !isString(v) })
}

func oneOf(values ...string) func(any) bool {
	return func(v any) bool {
		s, ok := v.(string)
		return ok && slices.Contains(values, s)
	}
}

// isAlert takes, in a dictionary for a Live Activity, dictionaries in place of
// strings, which name a key and its arguments.
func isAlert(v any) bool {
	dict, ok := v.(map[string]any)
	if !ok {
		return isString(v)
	}
	for key, value := range dict {
		check := alertKeys[key]
		if check == nil || !check(value) && !((key == "title" || key == "body") && isDictionary(value)) {
			return false
		}
	}
	return true
}

func isSound(v any) bool {
	dict, ok := v.(map[string]any)
	if !ok {
		return isString(v)
	}
	for key, value := range dict {
		switch key {
		case "critical":
			ok = isOne(value)
		case "name":
			ok = isString(value)
		case "volume":
			n, number := value.(float64)
			ok = number && n >= 0 && n <= 1
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return true
}
