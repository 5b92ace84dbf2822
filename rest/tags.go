package rest

import (
	"slices"

	"github.com/fanfare-im/fanfare"
)

// maxTagsAtOnce is how many tags of a user, and of a kind in a condition, a request may name.
const maxTagsAtOnce = 10

func init() {
	for _, service := range []string{"all_member_push/im_", "timpush/"} {
		serve(service+"get_tag", (*API).getTag)
		serve(service+"remove_tag", (*API).removeTag)
	}
	serve("all_member_push/im_add_tag", (*API).addTag)
	serve("timpush/add_tag", (*API).addOrReplaceTag)
	serve("all_member_push/im_remove_all_tags", (*API).clearTags)
	serve("timpush/clear_all_tags", (*API).clearTags)
}

// checkTags looks at tags that a request names.
func checkTags(field string, tags []string) error {
	if len(tags) > maxTagsAtOnce {
		return refuse(codeTooManyTags, "%s has %d tags: %d are the most", field, len(tags), maxTagsAtOnce)
	}
	for _, tag := range tags {
		switch {
		case tag == "":
			return refuse(codeEmptyTag, "%s has an empty tag", field)
		case len(tag) > maxValue:
			return refuse(codeTagTooLong, "%s has the tag %.64q of %d bytes: %d are the most", field, tag, len(tag), maxValue)
		}
	}
	return nil
}

// userTags reads whose tags a request names, each user once.
func (r *request) userTags() (ids []string, tags [][]string, err error) {
	rows, list, err := r.entries("UserTags", "Tags")
	if err != nil {
		return nil, nil, err
	}
	place := make(map[string]int, len(rows))
	for i, o := range list {
		more, is := asTexts(o["Tags"])
		if !is || len(more) == 0 {
			return nil, nil, refuse(codePushBadJSON, "Tags is %s, not a list of tags", show(o["Tags"]))
		}
		at, again := place[rows[i]]
		if !again {
			at = len(ids)
			place[rows[i]] = at
			ids, tags = append(ids, rows[i]), append(tags, nil)
		}
		if err := checkTags("Tags", more); err != nil {
			return nil, nil, err
		}
		for _, tag := range more {
			if !slices.Contains(tags[at], tag) {
				tags[at] = append(tags[at], tag)
			}
		}
		if n := len(tags[at]); n > maxTagsAtOnce {
			return nil, nil, refuse(codeTooManyTags, "To_Account %q has %d tags: %d are the most at once", rows[i], n, maxTagsAtOnce)
		}
	}
	return ids, tags, nil
}

// addTag adds tags to up to 100 users in one durable step. Those who are not imported are told, the others are done.
func (a *API) addTag(r *request) (answer, error) { return a.tag(r, false) }

// addOrReplaceTag does the same, and takes their other tags away where Replace is 1.
func (a *API) addOrReplaceTag(r *request) (answer, error) {
	replace, is := asInteger(r.body["Replace"])
	if r.body.has("Replace") && (!is || replace != 0 && replace != 1) {
		return nil, refuse(codePushBadJSON, "Replace is %s: 0 and 1 are known", show(r.body["Replace"]))
	}
	return a.tag(r, replace == 1)
}

func (a *API) tag(r *request, replace bool) (answer, error) {
	ids, tags, err := r.userTags()
	if err != nil {
		return nil, err
	}
	done, err := a.change(r, ids, func(b *fanfare.Batch, i int) {
		if replace {
			b.ClearTags(ids[i])
		}
		b.AddTags(ids[i], tags[i]...)
	})
	if err != nil {
		return nil, err
	}
	return &listAnswer{ErrorList: left(ids, done)}, nil
}

func (a *API) removeTag(r *request) (answer, error) {
	ids, tags, err := r.userTags()
	if err != nil {
		return nil, err
	}
	done, err := a.change(r, ids, func(b *fanfare.Batch, i int) { b.RemoveTags(ids[i], tags[i]...) })
	if err != nil {
		return nil, err
	}
	return &listAnswer{ErrorList: left(ids, done)}, nil
}

func (a *API) clearTags(r *request) (answer, error) {
	ids, err := r.accounts(maxAccounts, codeTooMany, codePushBadJSON)
	if err != nil {
		return nil, err
	}
	done, err := a.change(r, ids, func(b *fanfare.Batch, i int) { b.ClearTags(ids[i]) })
	if err != nil {
		return nil, err
	}
	return &listAnswer{ErrorList: left(ids, done)}, nil
}

type userTags struct {
	To_Account string
	Tags       []string
}

// tagsAnswer has the list twice: old clients read Tags.
type tagsAnswer struct {
	listAnswer
	UserTags []userTags
	Tags     []userTags
}

func (a *API) getTag(r *request) (answer, error) {
	ids, err := r.accounts(maxAccounts, codeTooMany, codePushBadJSON)
	if err != nil {
		return nil, err
	}
	out := &tagsAnswer{UserTags: []userTags{}}
	for _, id := range ids {
		tags, err := a.p.Tags(r.ctx, id)
		if isUnknown(err) {
			out.ErrorList = append(out.ErrorList, errorItem{id, codeUnknownUser})
			continue
		}
		if err != nil {
			return nil, err
		}
		if tags == nil {
			tags = []string{}
		}
		out.UserTags = append(out.UserTags, userTags{id, tags})
	}
	out.Tags = out.UserTags
	return out, nil
}
