package rest

import (
	"cmp"
	"encoding/json"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// fields reads the members of a part of OfflinePushInfo. Err is the first that is of another kind than it should be.
type fields struct {
	at  string
	o   object
	err error
}

func (f *fields) refuse(name, want string) {
	if f.err == nil {
		f.err = refuse(codePushBadJSON, "%s.%s is %s, not %s", f.at, name, show(f.o[name]), want)
	}
}

// text reads a string, which may come as a number, be null or not be there.
func (f *fields) text(name string) string {
	s, is := asText(f.o[name])
	if !is && f.o.has(name) {
		f.refuse(name, "a string")
	}
	return s
}

// number reads a whole number, which may come as a string, be null or not be there.
func (f *fields) number(name string) int64 {
	n, is := asInteger(f.o[name])
	if !is && f.o.has(name) && f.text(name) != "" {
		f.refuse(name, "a number")
	}
	return n
}

// part reads a map of members, which may be null or not be there.
func (f *fields) part(name string) *fields {
	o, is := asMap(f.o[name])
	if !is && f.o.has(name) {
		f.refuse(name, "an object")
	}
	return &fields{at: f.at + "." + name, o: o}
}

// notification reads OfflinePushInfo. It returns nil where none is to be shown. Text is that of the message itself.
func notification(raw json.RawMessage, text string) (*fanfare.Notification, error) {
	f := &fields{at: "OfflinePushInfo"}
	if !isNull(raw) {
		var is bool
		if f.o, is = asMap(raw); !is {
			return nil, refuse(codePushBadJSON, "OfflinePushInfo is %s, not an object", show(raw))
		}
	}
	n := &fanfare.Notification{
		Sound: "default", Title: f.text("Title"), Body: cmp.Or(f.text("Desc"), text), Overrides: make(map[transport.Platform]json.RawMessage),
	}
	ext := f.o["Ext"]
	if !isObject(ext) { // some clients send the object itself
		ext = json.RawMessage(f.text("Ext"))
	}
	if len(ext) > 0 {
		n.Data = map[string]string{"ext": string(ext)}
	}
	flag, ios, android := f.number("PushFlag"), f.part("ApnsInfo"), f.part("AndroidInfo")
	if n.Title == "" && n.Body == "" { // then all phones show what is given for iOS
		n.Title = ios.text("Title")
	}
	apnsInfo(n, ios)
	androidInfo(n, android)
	switch err := cmp.Or(f.err, ios.err, android.err); {
	case err != nil:
		return nil, err
	case flag != 0 && flag != 1:
		return nil, refuse(codePushBadJSON, "OfflinePushInfo.PushFlag is %d: 0 and 1 are known", flag)
	case flag == 1 || n.Title == "" && n.Body == "":
		return nil, nil
	}
	return n, nil
}

// apnsInfo lays what is for iOS over the payload.
func apnsInfo(n *fanfare.Notification, f *fields) {
	aps, payload, alert := map[string]any{}, map[string]any{}, map[string]any{}
	set := func(to map[string]any, key, name string) {
		if s := f.text(name); s != "" {
			to[key] = s
		}
	}
	set(alert, "title", "Title")
	set(alert, "subtitle", "SubTitle")
	if len(alert) > 0 {
		aps["alert"] = alert
	}
	set(aps, "sound", "Sound")
	set(aps, "interruption-level", "InterruptionLevel")
	set(payload, "image", "Image")
	if f.number("MutableContent") == 1 || len(payload) > 0 {
		aps["mutable-content"] = 1
	}
	if f.number("ContentAvailable") == 1 {
		aps["content-available"] = 1
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
func androidInfo(n *fanfare.Notification, f *fields) {
	of := func(members map[string]string) map[string]any { // numbers may come as strings, and strings as numbers
		out := map[string]any{}
		for key, name := range members {
			if s := f.text(name); s != "" {
				out[key] = s
			}
		}
		return out
	}
	google := of(map[string]string{"sound": "Sound", "channel_id": "GoogleChannelID"})
	override(n, "fcm", map[string]any{"android": map[string]any{"notification": google}}, len(google))
	for platform, names := range vendors {
		members := make(map[string]string, len(names))
		for _, name := range names {
			members[name] = name
		}
		v := of(members)
		override(n, platform, v, len(v))
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
