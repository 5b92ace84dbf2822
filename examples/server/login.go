package main

import (
	"errors"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare/rest/usersig"
)

// maxIdentifier is the most bytes of a user's ID, which are those that the REST API knows.
const maxIdentifier = 32

func isIdentifier(s string) bool {
	return s != "" && len(s) <= maxIdentifier && utf8.ValidString(s)
}

// login says who connects, or why not. What it says has nothing of the UserSig in it.
func (g *gateway) login(q url.Values) (user string, err error) {
	if id, err := strconv.ParseInt(q.Get("sdkappid"), 10, 64); err != nil || id != g.sdkAppID {
		return "", errors.New("sdkappid is not known here")
	}
	if user = q.Get("identifier"); !isIdentifier(user) {
		return "", errors.New("identifier must be 1 to 32 bytes of UTF-8")
	}
	if _, err = usersig.Verify(q.Get("usersig"), g.sdkAppID, user, time.Now(), g.keys...); err == nil {
		return user, nil
	}
	for _, reason := range []error{usersig.ErrSDKAppID, usersig.ErrIdentifier, usersig.ErrExpired, usersig.ErrSignature} {
		if errors.Is(err, reason) {
			return "", reason
		}
	}
	return "", usersig.ErrMalformed
}
