package websocket

import (
	"cmp"
	"errors"
	"net/http"
)

// Login says who connects, or why not. The request is the one that opens the connection, so a browser sends its cookies with it, and no headers that a page can
// choose; what it can choose is the query, which is logged in many places, and the subprotocol ([Options].Subprotocols). The user's ID must be one that
// the Pusher takes.
//
// What a client is answered a [Refusal] says, which may be wrapped. Any other error is answered with 401 and nothing of the error, which is for the log; so
// a login that could not look is better off with a Refusal whose Status is 503. A page in a browser is told neither, only that it is not connected.
type Login func(r *http.Request) (user string, err error)

// Refusal is the error of a [Login] that chooses what the client is answered.
type Refusal struct {
	Status int    // from 400 to 599; default: 401
	Reason string // is shown to the client; default: the name of the status
}

// Error returns the reason.
func (r *Refusal) Error() string {
	return cmp.Or(r.Reason, http.StatusText(r.status()))
}

func (r *Refusal) status() int {
	if r.Status < 400 || r.Status > 599 {
		return http.StatusUnauthorized
	}
	return r.Status
}

// refuse answers a login that failed.
func refuse(w http.ResponseWriter, err error) {
	var r *Refusal
	if !errors.As(err, &r) {
		r = new(Refusal)
	}
	http.Error(w, r.Error(), r.status())
}
