package rest

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fanfare-im/fanfare"
)

// errorItem is an account for which a request was not done. It has no more than is documented: some clients refuse what they do not know.
type errorItem struct {
	To_Account string
	ErrorCode  int
}

type listAnswer struct {
	envelope
	ErrorList []errorItem `json:",omitempty"`
}

// change makes changes to users in one durable step, and leaves out those who are not known. Done says of each whether it was in it.
func (a *API) change(r *request, ids []string, add func(b *fanfare.Batch, i int)) (done []bool, err error) {
	done = make([]bool, len(ids))
	for i := range done {
		done[i] = true
	}
	for {
		var b fanfare.Batch
		at := make([]int, 0, len(ids)) // which of ids an operation is of
		for i := range ids {
			if done[i] {
				add(&b, i)
				for len(at) < b.Len() {
					at = append(at, i)
				}
			}
		}
		err := a.p.Apply(r.ctx, &b)
		var of *fanfare.BatchError
		var limit *fanfare.LimitError
		switch {
		case err == nil:
			return done, nil
		case !errors.As(err, &of) && errors.As(err, &limit): // of the step as a whole
			return nil, refuse(codeTooLarge, "%v", err)
		case of == nil:
			return nil, err
		case !isUnknown(of.Err):
			return nil, changeError(ids[at[of.Index]], of.Err)
		}
		done[at[of.Index]] = false
		for i, id := range ids { // most often all are known, and when one is not, others are not
			if done[i] {
				if done[i], err = a.known(r, id); err != nil {
					return nil, err
				}
			}
		}
	}
}

// changeError is the answer for what the Pusher refuses.
func changeError(id string, err error) error {
	var limit *fanfare.LimitError
	switch {
	case errors.Is(err, fanfare.ErrUnnamedAttribute):
		return refuse(codeAttribute, "To_Account %q: %v", id, err)
	case errors.As(err, &limit) && limit.What == "tags of a user":
		return refuse(codeTooManyTags, "To_Account %q would have %d tags: %d are the most", id, limit.Got, limit.Limit)
	case errors.As(err, &limit) && limit.What == "tag in bytes": // the Pusher's own limit, if it is below the service's
		return refuse(codeTagTooLong, "To_Account %q: %v", id, err)
	case errors.As(err, &limit), errors.Is(err, fanfare.ErrInvalidText):
		return refuse(codeAttribute, "To_Account %q: %v", id, err)
	}
	return fmt.Errorf("account %q: %w", id, err)
}

// left are the accounts that a change left out, each once.
func left(ids []string, done []bool) (list []errorItem) {
	told := make(map[string]bool)
	for i, id := range ids {
		if !done[i] && !told[id] {
			told[id] = true
			list = append(list, errorItem{id, codeUnknownUser})
		}
	}
	return list
}

// isUnknown says whether an error is that nobody has such an ID, or could have.
func isUnknown(err error) bool {
	var limit *fanfare.LimitError
	return errors.Is(err, fanfare.ErrUnknownUser) || errors.As(err, &limit) && limit.What == "user ID in bytes"
}

// toAccount reads who is meant.
func toAccount(raw json.RawMessage, bad int) (string, error) {
	id, is := asString(raw)
	switch {
	case isNull(raw) || is && id == "":
		return "", refuse(bad, "To_Account is %s, not an account", show(raw))
	case !is:
		return "", refuse(codeNotString, "To_Account is %s, not a string", show(raw))
	}
	return id, nil
}

// accounts reads the list To_Account.
func (r *request) accounts(most, tooMany, bad int) ([]string, error) {
	list, is := asValues(r.body["To_Account"])
	if isString(r.body["To_Account"]) {
		list, is = []json.RawMessage{r.body["To_Account"]}, true
	}
	if !is || len(list) == 0 {
		return nil, refuse(bad, "To_Account is %s, not a list of accounts", show(r.body["To_Account"]))
	}
	if len(list) > most {
		return nil, refuse(tooMany, "To_Account has %d accounts: %d are the most", len(list), most)
	}
	ids := make([]string, len(list))
	for i, raw := range list {
		var err error
		if ids[i], err = toAccount(raw, bad); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// entries reads a list of objects with To_Account, under one of its names, or a single one at top level.
func (r *request) entries(names ...string) (ids []string, list []object, err error) {
	raw, name := r.body.first(names...)
	rows, is := asList(raw)
	switch {
	case is && len(rows) > 0 && isObject(rows[0]):
	case r.body.has("To_Account"):
		rows = []json.RawMessage{r.raw}
	case isObject(raw): // one entry without its list
		rows = []json.RawMessage{raw}
	default:
		return nil, nil, refuse(codePushBadJSON, "%s is %s, not a list of objects with To_Account", name, show(raw))
	}
	if len(rows) > maxAccounts {
		return nil, nil, refuse(codeTooMany, "%s has %d accounts: %d are the most", name, len(rows), maxAccounts)
	}
	for _, raw := range rows {
		o, is := asObject(raw)
		if !is {
			return nil, nil, refuse(codePushBadJSON, "an element of %s is %s, not an object", name, show(raw))
		}
		id, err := toAccount(o["To_Account"], codePushBadJSON)
		if err != nil {
			return nil, nil, err
		}
		ids, list = append(ids, id), append(list, o)
	}
	return ids, list, nil
}
