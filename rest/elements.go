package rest

import (
	"encoding/json"
	"strings"
)

// member is a field of an element's content.
type member struct {
	name   string
	kind   byte // 's' string, 'n' number, which may be written as a string, 'l' list of objects
	needed bool
}

// elements are the documented types of elements. Other members may stand beside these, and reach the receiver as they are.
var elements = map[string][]member{
	"TIMTextElem":     {{"Text", 's', true}},
	"TIMLocationElem": {{"Desc", 's', false}, {"Latitude", 'n', true}, {"Longitude", 'n', true}},
	"TIMFaceElem":     {{"Index", 'n', true}, {"Data", 's', false}},
	"TIMCustomElem":   {{"Data", 's', false}, {"Desc", 's', false}, {"Ext", 's', false}, {"Sound", 's', false}},
	"TIMSoundElem":    {{"Url", 's', false}, {"UUID", 's', false}, {"Size", 'n', false}, {"Second", 'n', false}, {"Download_Flag", 'n', false}},
	"TIMImageElem":    {{"UUID", 's', true}, {"ImageFormat", 'n', false}, {"ImageInfoArray", 'l', true}},
	"TIMFileElem":     {{"Url", 's', false}, {"UUID", 's', false}, {"FileSize", 'n', false}, {"FileName", 's', false}, {"Download_Flag", 'n', false}},
	"TIMVideoFileElem": {
		{"VideoUrl", 's', false}, {"VideoUUID", 's', false}, {"VideoSize", 'n', false}, {"VideoSecond", 'n', false}, {"VideoFormat", 's', false},
		{"VideoDownloadFlag", 'n', false}, {"ThumbUrl", 's', false}, {"ThumbUUID", 's', false}, {"ThumbSize", 'n', false}, {"ThumbWidth", 'n', false},
		{"ThumbHeight", 'n', false}, {"ThumbFormat", 's', false}, {"ThumbDownloadFlag", 'n', false},
	},
}

// either are pairs of members of which one is needed: where a file is, or what it is called. Some clients know no UUIDs, and older ones no addresses.
var either = map[string][][2]string{
	"TIMSoundElem": {{"Url", "UUID"}}, "TIMFileElem": {{"Url", "UUID"}}, "TIMVideoFileElem": {{"VideoUrl", "VideoUUID"}, {"ThumbUrl", "ThumbUUID"}},
}

// imageMembers are those of an element of ImageInfoArray.
var imageMembers = []member{{"Type", 'n', true}, {"Size", 'n', false}, {"Width", 'n', false}, {"Height", 'n', false}, {"URL", 's', true}}

// element is one of a message's.
type element struct {
	kind    string
	content object
}

// msgBody reads the elements of a message.
func msgBody(raw json.RawMessage) ([]element, error) {
	if isNull(raw) {
		return nil, refuse(codeBadMsgBody, "MsgBody is missing")
	}
	list, is := asList(raw)
	if !is {
		return nil, refuse(codeMsgBodyNoArray, "MsgBody is %s, not an array of elements", show(raw))
	}
	if len(list) == 0 {
		return nil, refuse(codeBadMsgBody, "MsgBody has no element")
	}
	out := make([]element, len(list))
	custom := 0
	for i, raw := range list {
		o, is := asObject(raw)
		if !is {
			return nil, refuse(codeBadElement, "MsgBody[%d] is %s, not an object", i, show(raw))
		}
		kind, is := asString(o["MsgType"])
		members, known := elements[kind]
		if !is || !known {
			return nil, refuse(codeBadElement, "MsgBody[%d].MsgType is %s, which is not known", i, show(o["MsgType"]))
		}
		content, is := asObject(o["MsgContent"])
		if !is {
			return nil, refuse(codeBadElement, "MsgBody[%d].MsgContent is %s, not an object", i, show(o["MsgContent"]))
		}
		if err := checkMembers(content, members, i); err != nil {
			return nil, err
		}
		for _, pair := range either[kind] {
			if !content.has(pair[0]) && !content.has(pair[1]) {
				return nil, refuse(codeBadElement, "MsgBody[%d] lacks %s, and %s", i, pair[0], pair[1])
			}
		}
		if kind == "TIMCustomElem" {
			if custom++; custom > 1 {
				return nil, refuse(codeBadElement, "MsgBody[%d] is a second TIMCustomElem: one is the most", i)
			}
		}
		out[i] = element{kind, content}
	}
	return out, nil
}

func checkMembers(o object, members []member, at int) error {
	for _, m := range members {
		raw := o[m.name]
		if isNull(raw) {
			if m.needed {
				return refuse(codeBadElement, "MsgBody[%d] lacks %s", at, m.name)
			}
			continue
		}
		var good bool
		switch m.kind {
		case 's':
			good = isString(raw)
		case 'n':
			good = isNumber(raw)
		case 'l':
			list, is := asList(raw)
			good = is
			for _, raw := range list {
				of, is := asObject(raw)
				if !is {
					return refuse(codeBadElement, "MsgBody[%d].%s has %s, not an object", at, m.name, show(raw))
				}
				if err := checkMembers(of, imageMembers, at); err != nil {
					return err
				}
			}
		}
		if !good {
			return refuse(codeBadElement, "MsgBody[%d].%s is %s: another type is wanted", at, m.name, show(raw))
		}
	}
	return nil
}

// shownAs is what a phone shows of an element that has no text.
var shownAs = map[string]string{
	"TIMLocationElem": "[Location]", "TIMFaceElem": "[Face]", "TIMSoundElem": "[Sound]", "TIMImageElem": "[Image]", "TIMFileElem": "[File]", "TIMVideoFileElem": "[Video]",
}

// shownText is what a phone shows of a message that does not say itself: its elements' texts, joined.
func shownText(list []element) string {
	var b strings.Builder
	for _, e := range list {
		text := shownAs[e.kind]
		switch e.kind {
		case "TIMTextElem":
			text, _ = asString(e.content["Text"])
		case "TIMCustomElem":
			text, _ = asString(e.content["Desc"])
		}
		b.WriteString(text)
	}
	return b.String()
}
