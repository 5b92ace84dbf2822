package fcmtest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"strings"
)

// Answer is an error that the server gives in the place of what it would have
// answered. An ErrorCode alone is enough: the rest then is what Google gives
// with it. So is a Code or a Status, for the errors that come without an
// ErrorCode.
type Answer struct {
	// Status is the HTTP status. Default that of ErrorCode, else of Code, else
	// 500, or 200 with a Body.
	Status int

	// Code is the google.rpc status, such as "INVALID_ARGUMENT". Default that
	// of ErrorCode, else of Status.
	Code string

	// ErrorCode is the errorCode of the FcmError in the details, one of
	// INVALID_ARGUMENT (400), THIRD_PARTY_AUTH_ERROR (401), SENDER_ID_MISMATCH
	// (403), UNREGISTERED (404), QUOTA_EXCEEDED (429), INTERNAL (500),
	// UNAVAILABLE (503), UNSPECIFIED_ERROR, or one that nobody has heard of.
	// Empty leaves the details out.
	ErrorCode string

	// Message is for people. Default what Google says.
	Message string

	// RetryAfter is the header of that name: seconds, or an HTTP date. Empty
	// leaves it out.
	RetryAfter string

	// Body is sent as it is in the place of the JSON, such as the page of a
	// proxy; Code, ErrorCode and Message then do nothing but choose the status.
	Body []byte
}

// failure is what Google's documents say of one error code.
type failure struct {
	status  int
	code    string
	message string
}

// byErrorCode is the table of ErrorCode. That of UNSPECIFIED_ERROR has no HTTP
// status.
var byErrorCode = map[string]failure{
	"UNSPECIFIED_ERROR":      {500, "UNKNOWN", "Unknown error."},
	"INVALID_ARGUMENT":       {400, "INVALID_ARGUMENT", "Request contains an invalid argument."},
	"UNREGISTERED":           {404, "NOT_FOUND", "Requested entity was not found."},
	"SENDER_ID_MISMATCH":     {403, "PERMISSION_DENIED", "SenderId mismatch"},
	"QUOTA_EXCEEDED":         {429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."},
	"UNAVAILABLE":            {503, "UNAVAILABLE", "The service is currently unavailable."},
	"INTERNAL":               {500, "INTERNAL", "Internal error encountered."},
	"THIRD_PARTY_AUTH_ERROR": {401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service"},
}

// byCode is google.rpc.Code and the HTTP statuses it is mapped to. Of several
// with one status the first is what the status alone stands for.
var byCode = []failure{
	{400, "INVALID_ARGUMENT", "Request contains an invalid argument."},
	{400, "FAILED_PRECONDITION", "Precondition check failed."},
	{400, "OUT_OF_RANGE", "The value is out of range."},
	{401, "UNAUTHENTICATED", invalidCredentials},
	{403, "PERMISSION_DENIED", "The caller does not have permission"},
	{404, "NOT_FOUND", "Requested entity was not found."},
	{409, "ABORTED", "The operation was aborted."},
	{409, "ALREADY_EXISTS", "Requested entity already exists"},
	{429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."},
	{499, "CANCELLED", "The operation was cancelled."},
	{500, "INTERNAL", "Internal error encountered."},
	{500, "UNKNOWN", "Unknown error."},
	{500, "DATA_LOSS", "Unrecoverable data loss or corruption."},
	{501, "UNIMPLEMENTED", "Operation is not implemented, or supported, or enabled."},
	{503, "UNAVAILABLE", "The service is currently unavailable."},
	{504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."},
}

func (a *Answer) zero() bool {
	return a.Status == 0 && a.Code == "" && a.ErrorCode == "" && a.Message == "" && a.RetryAfter == "" && a.Body == nil
}

// reply makes of the Answer what goes over the wire.
func (a *Answer) reply() *reply {
	f := a.failure()
	if a.Body != nil {
		r := &reply{status: f.status, kind: htmlType, retryAfter: a.RetryAfter, body: bytes.Clone(a.Body)}
		if json.Valid(a.Body) {
			r.kind = jsonType
		}
		return r
	}
	var details []any
	if a.ErrorCode != "" {
		details = append(details, fcmError(a.ErrorCode))
	}
	if a.ErrorCode == "QUOTA_EXCEEDED" {
		details = append(details, quotaFailure{"type.googleapis.com/google.rpc.QuotaFailure",
			[]quotaViolation{{"device:token", "Message rate exceeded for the target."}}})
	}
	r := f.reply(details...)
	r.retryAfter = a.RetryAfter
	return r
}

// tokenReply is reply in the words of the token endpoint, where the error is the
// Code in lower case.
func (a *Answer) tokenReply() *reply {
	r := a.reply()
	if a.Body == nil {
		f := a.failure()
		r.body = encode(refusal{strings.ToLower(f.code), f.message})
	}
	return r
}

func (a *Answer) failure() failure {
	f := byErrorCode[a.ErrorCode]
	if f.status == 0 {
		for _, c := range byCode {
			if a.Code == c.code || a.Code == "" && a.Status == c.status {
				f = c
				break
			}
		}
	}
	other := failure{500, "UNKNOWN", "Unknown error."}
	if a.Body != nil {
		other.status = http.StatusOK
	}
	return failure{
		status:  cmp.Or(a.Status, f.status, other.status),
		code:    cmp.Or(a.Code, f.code, other.code),
		message: cmp.Or(a.Message, f.message, other.message),
	}
}
