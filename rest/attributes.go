package rest

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/fanfare-im/fanfare"
)

// maxValue is the most bytes of a name, a value and a tag.
const maxValue = 50

func init() {
	for _, service := range []string{"all_member_push/im_", "timpush/"} {
		serve(service+"set_attr_name", (*API).setAttrName)
		serve(service+"get_attr_name", (*API).getAttrName).noFields = true
		serve(service+"set_attr", (*API).setAttr)
		serve(service+"get_attr", (*API).getAttr)
		serve(service+"remove_attr", (*API).removeAttr)
	}
}

// setAttrName names attributes. Those not mentioned keep their names.
func (a *API) setAttrName(r *request) (answer, error) {
	o, is := asObject(r.body["AttrNames"])
	if list, isList := asList(r.body["AttrNames"]); isList { // PHP's array of "0", "1" and so on
		o, is = make(object, len(list)), true
		for slot, name := range list {
			o[strconv.Itoa(slot)] = name
		}
	}
	if !is || len(o) == 0 {
		return nil, refuse(codePushBadJSON, `AttrNames is %s, not an object such as {"0":"sex"}`, show(r.body["AttrNames"]))
	}
	names := make(map[int]string, len(o))
	for _, slot := range slices.Sorted(maps.Keys(o)) {
		n, err := strconv.Atoi(slot)
		if err != nil || n < 0 || n > 9 || len(slot) != 1 {
			return nil, refuse(codeAttribute, `AttrNames has the key %.32q: "0" to "9" are known`, slot)
		}
		name, is := asString(o[slot])
		if !is || name == "" || len(name) > maxValue {
			return nil, refuse(codeAttribute, "AttrNames.%s is %s: a name of 1 to %d bytes", slot, show(o[slot]), maxValue)
		}
		names[n] = name
	}
	err := a.p.SetAttributeNames(r.ctx, names)
	var twice *fanfare.DuplicateNameError
	var limit *fanfare.LimitError
	switch {
	case errors.As(err, &twice):
		return nil, refuse(codeAttribute, "AttrNames: %v", err)
	case errors.As(err, &limit):
		return nil, refuse(codeAttribute, "AttrNames: %v", err)
	}
	return new(envelope), err
}

type namesAnswer struct {
	envelope
	AttrNames map[string]string
}

func (a *API) getAttrName(r *request) (answer, error) {
	names, err := a.p.AttributeNames(r.ctx)
	if err != nil {
		return nil, err
	}
	out := &namesAnswer{AttrNames: make(map[string]string, len(names))}
	for slot, name := range names {
		out.AttrNames[strconv.Itoa(slot)] = name
	}
	return out, nil
}

// values reads attributes by name; values may come as numbers or booleans.
func values(field string, raw json.RawMessage) (map[string]string, error) {
	o, is := asObject(raw)
	if !is || len(o) == 0 {
		return nil, refuse(codeAttribute, "%s is %s, not an object of names and values", field, show(raw))
	}
	out := make(map[string]string, len(o))
	for name, raw := range o {
		v, is := asText(raw)
		if !is || v == "" || len(v) > maxValue {
			return nil, refuse(codeAttribute, "%s.%.64s is %s: a value of 1 to %d bytes", field, name, show(raw), maxValue)
		}
		if name == "" || len(name) > maxValue {
			return nil, refuse(codeAttribute, "%s has the name %.64q: 1 to %d bytes", field, name, maxValue)
		}
		out[name] = v
	}
	return out, nil
}

// setAttr sets attributes of up to 100 users in one durable step. Those who are not imported are told, the others are done.
func (a *API) setAttr(r *request) (answer, error) {
	ids, list, err := r.entries("UserAttrs", "Attrs")
	if err != nil {
		return nil, err
	}
	attrs := make([]map[string]string, len(list))
	for i, o := range list {
		if attrs[i], err = values("Attrs", o["Attrs"]); err != nil {
			return nil, err
		}
	}
	done, err := a.change(r, ids, func(b *fanfare.Batch, i int) { b.SetAttributes(ids[i], attrs[i]) })
	if err != nil {
		return nil, err
	}
	return &listAnswer{ErrorList: left(ids, done)}, nil
}

// removeAttr takes attributes away, which are named by a list, or by the keys of an object.
func (a *API) removeAttr(r *request) (answer, error) {
	ids, list, err := r.entries("UserAttrs", "Attrs")
	if err != nil {
		return nil, err
	}
	names := make([][]string, len(list))
	for i, o := range list {
		var is bool
		if of, isObject := asObject(o["Attrs"]); isObject {
			names[i], is = slices.Sorted(maps.Keys(of)), true
		} else {
			names[i], is = asTexts(o["Attrs"])
		}
		if !is || len(names[i]) == 0 {
			return nil, refuse(codeAttribute, "Attrs is %s, not a list of names", show(o["Attrs"]))
		}
		for _, name := range names[i] {
			if name == "" || len(name) > maxValue {
				return nil, refuse(codeAttribute, "Attrs has the name %.64q: 1 to %d bytes", name, maxValue)
			}
		}
	}
	done, err := a.change(r, ids, func(b *fanfare.Batch, i int) { b.RemoveAttributes(ids[i], names[i]...) })
	if err != nil {
		return nil, err
	}
	return &listAnswer{ErrorList: left(ids, done)}, nil
}

type userAttrs struct {
	To_Account string
	Attrs      map[string]string
}

// attrsAnswer has the list twice: old clients read Attrs.
type attrsAnswer struct {
	listAnswer
	UserAttrs []userAttrs
	Attrs     []userAttrs
}

func (a *API) getAttr(r *request) (answer, error) {
	ids, err := r.accounts(maxAccounts, codeTooMany, codePushBadJSON)
	if err != nil {
		return nil, err
	}
	out := &attrsAnswer{UserAttrs: []userAttrs{}}
	for _, id := range ids {
		attrs, err := a.p.Attributes(r.ctx, id)
		if isUnknown(err) {
			out.ErrorList = append(out.ErrorList, errorItem{id, codeUnknownUser})
			continue
		}
		if err != nil {
			return nil, err
		}
		if attrs == nil {
			attrs = map[string]string{}
		}
		out.UserAttrs = append(out.UserAttrs, userAttrs{id, attrs})
	}
	out.Attrs = out.UserAttrs
	return out, nil
}
