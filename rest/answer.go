package rest

import (
	"fmt"
	"net/http"

	"encoding/json"
)

// The codes of answers. Those of accounts, of the gateway, and of pushes are the service's.
const (
	codeBadURL        = 60002
	codeBadJSON       = 60003
	codeBadAccount    = 60004
	codeBadSig        = 60005
	codeBadAppID      = 60006
	codeBadHTTP       = 60008
	codeNoCommand     = 60009
	codeNotAdmin      = 60010
	codeTooFrequent   = 60011
	codeNoAppID       = 60012
	codeNotString     = 60015
	codeSigExpired    = 70001
	codeSigMalformed  = 70003
	codeSigWrong      = 70009
	codeSigAccount    = 70013
	codeSigAppID      = 70014
	codeUnknownAppID  = 70020
	codeUnknownUser   = 70107
	codeBadParameter  = 70402
	codeAccountInside = 70500

	codePushBadJSON     = 90001
	codeBadMsgBody      = 90002
	codeNoMsgRandom     = 90005
	codeMsgBodyNoArray  = 90007
	codePushNotAdmin    = 90009
	codeBadElement      = 90010
	codeTooMany         = 90018
	codeTagTooLong      = 90020
	codeTagTwice        = 90022
	codePace            = 90024
	codeLifeTime        = 90026
	codeTooManyTags     = 90032
	codeAttribute       = 90033
	codeTagsAndAttrs    = 90039
	codeEmptyTag        = 90040
	codeNotEnabled      = 90045
	codeQuota           = 90047
	codeUnknownTask     = 90049
	codeRevokedAlready  = 90050
	codeTooLateToRevoke = 90052
	codeTooLarge        = 90056
	codeInside          = 91000
)

// Error is why a request was refused, as it stands in the answer.
type Error struct {
	Code int    // docs/rest.md has them all
	Info string // for people
}

// Error returns the code and what it says.
func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Info) }

func refuse(code int, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// envelope is what every answer has. Each client looks at another of the three.
type envelope struct {
	ActionStatus string
	ErrorCode    int
	ErrorInfo    string
}

func (e *envelope) set(err *Error) {
	if err == nil {
		e.ActionStatus = "OK"
		return
	}
	e.ActionStatus, e.ErrorCode, e.ErrorInfo = "FAIL", err.Code, err.Info
}

// answer is what a command answers beyond the envelope, which it embeds.
type answer interface{ set(*Error) }

// write sends an answer. The status of HTTP is 200 whatever it says.
func write(w http.ResponseWriter, a answer) {
	b, err := json.Marshal(a)
	if err != nil {
		panic(err) // strings and numbers
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(append(b, '\n')) // to who may have gone
}
