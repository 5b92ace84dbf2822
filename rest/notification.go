package rest

import (
	"cmp"
	"encoding/json"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// notification reads OfflinePushInfo. It returns nil where none is to be shown. Text is that of the message itself.
func notification(raw json.RawMessage, text string) (*fanfare.Notification, error) {
	o := object{}
	if !isNull(raw) {
		var is bool
		if o, is = asObject(raw); !is {
			return nil, refuse(codePushBadJSON, "OfflinePushInfo is %s, not an object", show(raw))
		}
	}
	if flag, is := asInteger(o["PushFlag"]); is && flag == 1 {
		return nil, nil
	} else if o.has("PushFlag") && (!is || flag != 0) {
		return nil, refuse(codePushBadJSON, "OfflinePushInfo.PushFlag is %s: 0 and 1 are known", show(o["PushFlag"]))
	}
	n := &fanfare.Notification{Sound: "default"}
	for _, field := range []struct {
		name string
		to   *string
	}{{"Title", &n.Title}, {"Desc", &n.Body}} {
		if o.has(field.name) {
			var is bool
			if *field.to, is = asText(o[field.name]); !is {
				return nil, refuse(codePushBadJSON, "OfflinePushInfo.%s is %s, not a string", field.name, show(o[field.name]))
			}
		}
	}
	n.Body = cmp.Or(n.Body, text)
	if ext, is := asText(o["Ext"]); is && ext != "" {
		n.Data = map[string]string{"ext": ext}
	} else if isObject(o["Ext"]) { // some clients send the object itself
		n.Data = map[string]string{"ext": string(o["Ext"])}
	}
	if n.Title == "" && n.Body == "" {
		return nil, nil
	}
	n.Overrides = make(map[transport.Platform]json.RawMessage)
	if of, is := asObject(o["ApnsInfo"]); is {
		apnsInfo(n, of)
	}
	if of, is := asObject(o["AndroidInfo"]); is {
		androidInfo(n, of)
	}
	return n, nil
}

// apnsInfo lays what is for iOS over the payload.
func apnsInfo(n *fanfare.Notification, o object) {
	aps, payload := map[string]any{}, map[string]any{}
	alert := map[string]any{}
	for name, key := range map[string]string{"Title": "title", "SubTitle": "subtitle"} {
		if s, is := asText(o[name]); is && s != "" {
			alert[key] = s
		}
	}
	if len(alert) > 0 {
		aps["alert"] = alert
	}
	if s, is := asText(o["Sound"]); is && s != "" {
		aps["sound"] = s
	}
	if s, is := asText(o["InterruptionLevel"]); is && s != "" {
		aps["interruption-level"] = s
	}
	for name, key := range map[string]string{"MutableContent": "mutable-content", "ContentAvailable": "content-available"} {
		if v, is := asInteger(o[name]); is && v == 1 {
			aps[key] = 1
		}
	}
	if s, is := asText(o["Image"]); is && s != "" {
		payload["image"], aps["mutable-content"] = s, 1
	}
	if len(aps) > 0 {
		payload["aps"] = aps
	}
	override(n, "apns", map[string]any{"payload": payload}, len(payload))
}

// vendors are the platforms of Android's other services, with what of AndroidInfo is theirs, for a transport that sends there.
var vendors = map[transport.Platform][]string{
	"xiaomi": {"XiaoMiChannelID"}, "oppo": {"OPPOChannelID", "OPPOCategory"}, "vivo": {"VIVOClassification", "VIVOCategory"},
	"huawei": {"HuaWeiChannelID", "HuaWeiCategory", "HuaWeiImportance"}, "honor": {"HonorImportance"},
}

// androidInfo lays what is for Android over the message.
func androidInfo(n *fanfare.Notification, o object) {
	google := map[string]any{}
	if s, is := asText(o["Sound"]); is && s != "" {
		google["sound"] = s
	}
	if s, is := asText(o["GoogleChannelID"]); is && s != "" {
		google["channel_id"] = s
	}
	override(n, "fcm", map[string]any{"android": map[string]any{"notification": google}}, len(google))
	for platform, names := range vendors {
		of := map[string]any{}
		for _, name := range names {
			if s, is := asText(o[name]); is && s != "" { // numbers may come as strings, and strings as numbers
				of[name] = s
			}
		}
		override(n, platform, of, len(of))
	}
}

func override(n *fanfare.Notification, platform transport.Platform, v map[string]any, has int) {
	if has == 0 {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers
	}
	n.Overrides[platform] = b
}
