package fcmtest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// reply is an answer ready to be written. It is shared and never changed.
type reply struct {
	status       int
	kind         string // Content-Type
	retryAfter   string
	authenticate string
	body         []byte
}

const (
	jsonType = "application/json; charset=UTF-8"
	htmlType = "text/html; charset=UTF-8"
)

// The details of an error, by their @type.
type (
	fcmErrorDetail struct {
		Type      string `json:"@type"`
		ErrorCode string `json:"errorCode"`
	}
	badRequest struct {
		Type            string      `json:"@type"`
		FieldViolations []violation `json:"fieldViolations"`
	}
	quotaFailure struct {
		Type       string           `json:"@type"`
		Violations []quotaViolation `json:"violations"`
	}
	quotaViolation struct {
		Subject     string `json:"subject"`
		Description string `json:"description"`
	}
	errorInfo struct {
		Type     string            `json:"@type"`
		Reason   string            `json:"reason"`
		Domain   string            `json:"domain"`
		Metadata map[string]string `json:"metadata,omitempty"`
	}
)

func fcmError(code string) fcmErrorDetail {
	return fcmErrorDetail{"type.googleapis.com/google.firebase.fcm.v1.FcmError", code}
}

func (f failure) reply(details ...any) *reply {
	type status struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Status  string `json:"status"`
		Details []any  `json:"details,omitempty"`
	}
	return &reply{status: f.status, kind: jsonType, body: encode(struct {
		Error status `json:"error"`
	}{status{f.status, f.message, f.code, details}})}
}

// encode writes JSON as Google does, for people to read.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		panic(err) // only own types come here, all of which can be encoded
	}
	return b.Bytes()
}

// reply is the refusal of a message that cannot be read, or else breaks a rule.
// The two differ in what the details have, so a client can tell them
// apart from a bad registration token.
func (d *decoder) reply() *reply {
	f := byErrorCode["INVALID_ARGUMENT"]
	const typ = "type.googleapis.com/google.rpc.BadRequest"
	switch {
	case d.misread != nil:
		texts := make([]string, len(d.misread))
		for i, v := range d.misread {
			texts[i] = v.Description
		}
		f.message = strings.Join(texts, "\n")
		return f.reply(badRequest{typ, d.misread})
	case d.broken.Field != "":
		f.message = d.broken.Description
		return f.reply(badRequest{typ, []violation{*d.broken}}, fcmError("INVALID_ARGUMENT"))
	default:
		f.message = d.broken.Description
		return f.reply(fcmError("INVALID_ARGUMENT"))
	}
}

const (
	missingCredential  = "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
	invalidCredentials = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)

func unauthenticated(message, reason string) *reply {
	r := failure{401, "UNAUTHENTICATED", message}.reply(info(reason))
	r.authenticate = `Bearer realm="https://accounts.google.com/"`
	if message == invalidCredentials {
		r.authenticate += `, error="invalid_token"`
	}
	return r
}

func info(reason string) errorInfo {
	return errorInfo{"type.googleapis.com/google.rpc.ErrorInfo", reason, "googleapis.com", map[string]string{
		"method":  "google.firebase.fcm.v1.FcmService.SendMessage",
		"service": "fcm.googleapis.com",
	}}
}

func permissionDenied(project string) *reply {
	const permission = "cloudmessaging.messages.create"
	resource := "//cloudresourcemanager.googleapis.com/projects/" + project
	return failure{403, "PERMISSION_DENIED",
		"Permission '" + permission + "' denied on resource '" + resource + "' (or it may not exist).",
	}.reply(errorInfo{"type.googleapis.com/google.rpc.ErrorInfo", "IAM_PERMISSION_DENIED", "cloudresourcemanager.googleapis.com",
		map[string]string{"permission": permission, "resource": resource}})
}

var (
	noScope = failure{403, "PERMISSION_DENIED", "Request had insufficient authentication scopes."}.reply(info("ACCESS_TOKEN_SCOPE_INSUFFICIENT"))
	tooBig  = failure{400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: " + strconv.Itoa(maxBody) + " bytes."}.reply()
	noPage  = &reply{status: 404, kind: htmlType, body: []byte("<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n<p><b>404.</b> That’s an error.\n<p>The requested URL was not found on this server. That’s all we know.\n")}

	missing = unauthenticated(missingCredential, "CREDENTIALS_MISSING")
	unknown = unauthenticated(invalidCredentials, "ACCESS_TOKEN_TYPE_UNSUPPORTED")
	expired = unauthenticated(invalidCredentials, "ACCESS_TOKEN_EXPIRED")
)

// write writes the reply. A cut one ends in the middle of its body.
func (r *reply) write(w http.ResponseWriter, goAway, cut bool) {
	h := w.Header()
	h.Set("Content-Type", r.kind)
	h.Set("Content-Length", strconv.Itoa(len(r.body)))
	if r.retryAfter != "" {
		h.Set("Retry-After", r.retryAfter)
	}
	if r.authenticate != "" {
		h.Set("WWW-Authenticate", r.authenticate)
	}
	if goAway {
		h.Set("Connection", "close") // on HTTP/2 the library makes a GOAWAY of it
	}
	w.WriteHeader(r.status)
	if !cut {
		w.Write(r.body) // a client that has gone does not matter
		return
	}
	w.Write(r.body[:len(r.body)/2])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
