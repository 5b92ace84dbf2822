package rest

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare/rest/usersig"
)

// maxVerified is how many signatures are remembered as good. There is one for each administrator and client that makes its own.
const maxVerified = 1000

// verified remembers signatures that were good, until they end: verifying one costs more than most commands.
type verified struct {
	mu   sync.Mutex
	ends map[string]int64 // identifier, zero byte, UserSig -> the last second in which it is good
}

func (v *verified) has(key string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	end, is := v.ends[key]
	if is && now.Unix() > end {
		delete(v.ends, key)
		return false
	}
	return is
}

func (v *verified) add(key string, end time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ends == nil {
		v.ends = make(map[string]int64)
	}
	if len(v.ends) >= maxVerified {
		for k := range v.ends { // any: it is verified anew when it comes again
			delete(v.ends, k)
			break
		}
	}
	v.ends[key] = end.Unix()
}

// authorize says who calls, or why not.
func (a *API) authorize(q url.Values) (identifier string, err *Error) {
	id := q.Get("sdkappid")
	if id == "" {
		return "", refuse(codeNoAppID, "sdkappid is missing")
	}
	n, e := strconv.ParseInt(id, 10, 64)
	if e != nil || n <= 0 {
		return "", refuse(codeBadAppID, "sdkappid is %.32q, not a number", id)
	}
	if n != a.o.SDKAppID {
		return "", refuse(codeUnknownAppID, "sdkappid %d is not known here", n)
	}
	identifier = q.Get("identifier")
	if identifier == "" || len(identifier) > maxAccount {
		return "", refuse(codeBadAccount, "identifier is missing, or over %d bytes", maxAccount)
	}
	sig := q.Get("usersig")
	if sig == "" || len(sig) > usersig.MaxBytes {
		return "", refuse(codeBadSig, "usersig is missing, or over %d bytes", usersig.MaxBytes)
	}
	now := a.o.Now()
	key := identifier + "\x00" + sig
	if !a.verified.has(key, now) {
		s, e := usersig.Verify(sig, a.o.SDKAppID, identifier, now, a.keys...)
		if e != nil {
			return "", sigError(e)
		}
		if slices.Contains(a.o.Admins, identifier) { // else any user could push theirs out
			a.verified.add(key, s.Expires())
		}
	}
	return identifier, nil
}

// sigError is the code for a UserSig that is not good.
func sigError(err error) *Error {
	for _, of := range []struct {
		is   error
		code int
	}{
		{usersig.ErrSDKAppID, codeSigAppID}, {usersig.ErrIdentifier, codeSigAccount},
		{usersig.ErrExpired, codeSigExpired}, {usersig.ErrSignature, codeSigWrong},
	} {
		if errors.Is(err, of.is) {
			return refuse(of.code, "%v", err)
		}
	}
	return refuse(codeSigMalformed, "%v", err)
}

// allowed says whether who calls may use a command.
func (a *API) allowed(identifier string, c *command) *Error {
	if slices.Contains(a.o.Admins, identifier) {
		return nil
	}
	return refuse(c.notAdmin, "identifier %q is not an administrator", identifier)
}
