package rest

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/fanfare-im/fanfare"
)

// condition reads whom a push is for: everyone, or those with tags, or those with attributes. It may come as a list of one.
func condition(raw json.RawMessage) (fanfare.Audience, error) {
	to := fanfare.All()
	if list, is := asList(raw); is {
		switch len(list) {
		case 0:
			return to, nil
		case 1:
			raw = list[0]
		default:
			return to, refuse(codePushBadJSON, "Condition is a list of %d: one is known", len(list))
		}
	}
	if isNull(raw) {
		return to, nil
	}
	o, is := asMap(raw)
	if !is {
		return to, refuse(codePushBadJSON, "Condition is %s, not an object", show(raw))
	}
	tags, attrs, err := audiences(o)
	switch {
	case err != nil:
		return to, err
	case len(tags)+len(attrs) == 0 && unknownMember(o) != "":
		return to, refuse(codePushBadJSON, "Condition has nothing but %.64q, which is not known: without it the push would be for everyone", unknownMember(o))
	case len(tags) > 0 && len(attrs) > 0:
		return to, refuse(codeTagsAndAttrs, "Condition has tags and attributes: one of them is known at a time")
	}
	if parts := append(tags, attrs...); len(parts) > 0 {
		to = parts[0].And(parts[1:]...) // all of them hold
	}
	return to, nil
}

// unknownMember is a member of a condition that is none of those known and says something.
func unknownMember(o object) string {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(tagFields, name) && !slices.Contains(attrFields, name) && o.has(name) && !isEmptyList(o[name]) {
			return name
		}
	}
	return ""
}

var tagFields, attrFields = []string{"TagsOr", "TagsAnd", "TagsNot"}, []string{"AttrsOr", "AttrsAnd"}

// audiences are the parts of a condition that are there.
func audiences(o object) (tags, attrs []fanfare.Audience, err error) {
	seen := make(map[string]string)
	for _, field := range tagFields {
		if !o.has(field) {
			continue
		}
		list, is := asTexts(o[field])
		if !is {
			return nil, nil, refuse(codePushBadJSON, "Condition.%s is %s, not a list of tags", field, show(o[field]))
		}
		if len(list) == 0 {
			continue
		}
		if err := checkTags("Condition."+field, list); err != nil {
			return nil, nil, err
		}
		parts := make([]fanfare.Audience, len(list))
		for i, tag := range list {
			if other, twice := seen[tag]; twice && other != field {
				return nil, nil, refuse(codeTagTwice, "Condition has the tag %q in %s and in %s", tag, other, field)
			}
			seen[tag] = field
			parts[i] = fanfare.Tag(tag)
		}
		tags = append(tags, joined(parts, field))
	}
	for _, field := range attrFields {
		if !o.has(field) {
			continue
		}
		if of, is := asMap(o[field]); is && len(of) == 0 {
			continue
		}
		of, err := values("Condition."+field, o[field])
		if err != nil {
			return nil, nil, err
		}
		parts := make([]fanfare.Audience, 0, len(of))
		for _, name := range slices.Sorted(maps.Keys(of)) {
			parts = append(parts, fanfare.Attr(name, of[name]))
		}
		attrs = append(attrs, joined(parts, field))
	}
	return tags, attrs, nil
}

// joined is what the parts of a field mean together.
func joined(parts []fanfare.Audience, field string) fanfare.Audience {
	switch field {
	case "TagsAnd", "AttrsAnd":
		return parts[0].And(parts[1:]...)
	case "TagsNot":
		return parts[0].Or(parts[1:]...).Not()
	}
	return parts[0].Or(parts[1:]...)
}
