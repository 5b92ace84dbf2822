package rest

import (
	"fmt"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
)

const (
	// maxAccount is the most bytes that the ID of an account may have.
	maxAccount = 32
	// maxAccounts is how many accounts a request may name.
	maxAccounts = 100
	// maxStatus is how many it may ask the presence of.
	maxStatus = 500
)

func init() {
	serve("im_open_login_svc/account_import", (*API).accountImport)
	serve("im_open_login_svc/multiaccount_import", (*API).multiaccountImport)
	serve("im_open_login_svc/account_check", (*API).accountCheck)
	serve("im_open_login_svc/account_delete", (*API).accountDelete)
	serve("im_open_login_svc/kick", (*API).kick)
}

// account reads an ID, which some clients call Identifier.
func account(o object) (string, *Error) {
	raw, name := o.first("UserID", "Identifier")
	id, is := asString(raw)
	switch {
	case raw == nil:
		return "", refuse(codeBadParameter, "UserID is missing")
	case !is:
		return "", refuse(codeNotString, "%s is %s, not a string", name, show(raw))
	}
	return id, checkAccount(name, id)
}

func checkAccount(name, id string) *Error {
	if id == "" || len(id) > maxAccount || !utf8.ValidString(id) {
		return refuse(codeBadParameter, "%s is %.64q: 1 to %d bytes of UTF-8", name, id, maxAccount)
	}
	return nil
}

// accountImport makes a user known. Nick and FaceUrl are of no use here and not kept.
func (a *API) accountImport(r *request) (answer, error) {
	id, err := account(r.body)
	if err != nil {
		return nil, err
	}
	return new(envelope), a.p.Register(r.ctx, id)
}

type importAnswer struct {
	envelope
	FailAccounts []string
}

// multiaccountImport makes users known. Those whose ID is none are told, and the others are known.
func (a *API) multiaccountImport(r *request) (answer, error) {
	raw, name := r.body.first("AccountList", "Accounts")
	list, is := asList(raw)
	if !is || len(list) == 0 {
		return nil, refuse(codeBadParameter, "%s is %s, not a list of accounts", name, show(raw))
	}
	if len(list) > maxAccounts {
		return nil, refuse(codeBadParameter, "%s has %d accounts: %d are the most", name, len(list), maxAccounts)
	}
	out := &importAnswer{FailAccounts: []string{}}
	var good []string
	for _, raw := range list {
		id, is := asString(raw)
		err := checkAccount(name, id)
		if o, isObject := asObject(raw); isObject {
			id, err = account(o)
		} else if !is {
			err = refuse(codeNotString, "an account of %s is %s, not a string", name, show(raw))
		}
		if err != nil && err.Code == codeNotString {
			return nil, err
		}
		if err != nil {
			out.FailAccounts = append(out.FailAccounts, id)
			continue
		}
		good = append(good, id)
	}
	if len(good) == 0 {
		return nil, refuse(codeBadParameter, "%s has no account that could be imported", name)
	}
	return out, a.p.Register(r.ctx, good...)
}

type accountResult struct {
	UserID        string
	ResultCode    int
	ResultInfo    string
	AccountStatus string `json:",omitempty"`
}

type accountAnswer struct {
	envelope
	ResultItem []accountResult
}

// items reads the list of accounts of a check or a deletion, with the results of those that can be nobody's. Rest are the places of the others.
func (r *request) items(name string) (out *accountAnswer, ids []string, rest []int, err error) {
	list, is := asList(r.body[name])
	if !is || len(list) == 0 {
		return nil, nil, nil, refuse(codeBadParameter, "%s is %s, not a list of accounts", name, show(r.body[name]))
	}
	if len(list) > maxAccounts {
		return nil, nil, nil, refuse(codeBadParameter, "%s has %d accounts: %d are the most", name, len(list), maxAccounts)
	}
	out = &accountAnswer{ResultItem: make([]accountResult, len(list))}
	for i, raw := range list {
		o, is := asObject(raw)
		if !is {
			return nil, nil, nil, refuse(codeBadParameter, "an element of %s is %s, not an object with UserID", name, show(raw))
		}
		id, err := account(o)
		out.ResultItem[i].UserID = id
		switch {
		case err == nil:
			ids, rest = append(ids, id), append(rest, i)
		case len(id) > maxAccount:
			out.ResultItem[i].ResultCode, out.ResultItem[i].ResultInfo = err.Code, err.Info
		default:
			return nil, nil, nil, err
		}
	}
	return out, ids, rest, nil
}

// accountCheck says which users are known.
func (a *API) accountCheck(r *request) (answer, error) {
	out, ids, rest, err := r.items("CheckItem")
	if err != nil {
		return nil, err
	}
	for i := range out.ResultItem {
		out.ResultItem[i].AccountStatus = "NotImported"
	}
	for i, id := range ids {
		known, err := a.known(r, id)
		if err != nil {
			return nil, err
		}
		if known {
			out.ResultItem[rest[i]].AccountStatus = "Imported"
		}
	}
	return out, nil
}

// known says whether a user is known.
func (a *API) known(r *request, id string) (bool, error) {
	_, err := a.p.User(r.ctx, id)
	if isUnknown(err) {
		return false, nil
	}
	return err == nil, err
}

// accountDelete forgets users. Those who are not known are told.
func (a *API) accountDelete(r *request) (answer, error) {
	out, ids, rest, err := r.items("DeleteItem")
	if err != nil {
		return nil, err
	}
	done, err := a.change(r, ids, func(b *fanfare.Batch, i int) { b.Unregister(ids[i]) })
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		if done[i] && a.o.Kick != nil { // its sessions would get nothing any more, also if it is imported again
			if err := a.o.Kick(r.ctx, id); err != nil {
				a.o.Logger.Error("rest: kick after a deletion", "error", err)
			}
		}
		if !done[i] {
			of := &out.ResultItem[rest[i]]
			of.ResultCode, of.ResultInfo = codeUnknownUser, "the account is not imported"
		}
	}
	return out, nil
}

// kick ends the sessions of a user.
func (a *API) kick(r *request) (answer, error) {
	id, refused := account(r.body)
	if refused != nil {
		return nil, refused
	}
	if a.o.Kick == nil {
		return nil, refuse(codeNotEnabled, "this server cannot end sessions")
	}
	known, err := a.known(r, id)
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, refuse(codeUnknownUser, "UserID %q is not imported", id)
	}
	if err := a.o.Kick(r.ctx, id); err != nil {
		return nil, fmt.Errorf("kick: %w", err)
	}
	return new(envelope), nil
}
