package main

import (
	"errors"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare/rest/usersig"
	"github.com/fanfare-im/fanfare/transport/websocket"
)

// maxIdentifier is the most bytes of a user's ID, which are those that the REST API knows.
const maxIdentifier = 32

func isIdentifier(s string) bool {
	return s != "" && len(s) <= maxIdentifier && utf8.ValidString(s)
}

// login says who connects, or why not. What it says has nothing of the UserSig in it.
func (s *server) login(r *http.Request) (user string, err error) {
	q := r.URL.Query()
	if id, err := strconv.ParseInt(q.Get("sdkappid"), 10, 64); err != nil || id != s.c.sdkAppID {
		return "", &websocket.Refusal{Reason: "sdkappid is not known here"}
	}
	if user = q.Get("identifier"); !isIdentifier(user) {
		return "", &websocket.Refusal{Reason: "identifier must be 1 to 32 bytes of UTF-8"}
	}
	keys := make([][]byte, len(s.c.keys))
	for i, key := range s.c.keys {
		keys[i] = key
	}
	if _, err = usersig.Verify(q.Get("usersig"), s.c.sdkAppID, user, time.Now(), keys...); err == nil {
		return user, nil
	}
	for _, reason := range []error{usersig.ErrSDKAppID, usersig.ErrIdentifier, usersig.ErrExpired, usersig.ErrSignature} {
		if errors.Is(err, reason) {
			return "", &websocket.Refusal{Reason: reason.Error()}
		}
	}
	return "", &websocket.Refusal{Reason: usersig.ErrMalformed.Error()}
}
