package apnstest

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/fanfare-im/fanfare/transport/internal/h2server"
)

// statuses are the reasons that Apple documents.
var statuses = map[string]int{
	"BadCollapseId":               400,
	"BadDeviceToken":              400,
	"BadExpirationDate":           400,
	"BadMessageId":                400,
	"BadPriority":                 400,
	"BadTopic":                    400,
	"DeviceTokenNotForTopic":      400,
	"DuplicateHeaders":            400,
	"IdleTimeout":                 400,
	"InvalidPushType":             400,
	"MissingDeviceToken":          400,
	"MissingTopic":                400,
	"PayloadEmpty":                400,
	"TopicDisallowed":             400,
	"BadCertificate":              403,
	"BadCertificateEnvironment":   403,
	"BadEnvironmentKeyIdInToken":  403,
	"ExpiredProviderToken":        403,
	"Forbidden":                   403,
	"InvalidProviderToken":        403,
	"MissingProviderToken":        403,
	"UnrelatedKeyIdInToken":       403,
	"BadPath":                     404,
	"MethodNotAllowed":            405,
	"ExpiredToken":                410,
	"Unregistered":                410,
	"PayloadTooLarge":             413,
	"TooManyProviderTokenUpdates": 429,
	"TooManyRequests":             429,
	"InternalServerError":         500,
	"ServiceUnavailable":          503,
	"Shutdown":                    503,
}

// Answer is an answer that a test orders. The request that gets it is not
// accepted: nothing is recorded, whatever the status.
type Answer struct {
	// Status is the HTTP status. Zero means the one that Apple documents for
	// Reason, and 500 for a reason that Apple does not document.
	Status int
	// Reason is the error string, as "TooManyRequests".
	Reason string
	// Timestamp, if not zero, is the "timestamp" of the answer, which is sent in
	// milliseconds since 1970. Apple sends one with status 410.
	Timestamp time.Time
	// RetryAfter, if positive, is sent in the header Retry-After, in seconds
	// rounded up.
	RetryAfter time.Duration
	// Body, if not empty, is sent in place of the JSON, as of a proxy that
	// answers with HTML.
	Body string
	// Reset resets the request's stream (INTERNAL_ERROR), Cut cuts the
	// connection, both instead of an answer. The request has not been accepted
	// then, which the client cannot know.
	Reset, Cut bool
}

// response is what a request gets; the connection's buffers are used for it.
func (s *Server) response(c *conn, a *Answer) h2server.Response {
	id := c.id
	if !c.ownID {
		id = newUUID()
		c.id = id
	}
	fields := append(c.fields[:0], hpack.HeaderField{Name: "apns-id", Value: id})
	if s.o.Sandbox {
		fields = append(fields, hpack.HeaderField{Name: "apns-unique-id", Value: newUUID()})
	}
	c.fields = fields
	switch {
	case a == nil:
		return h2server.Response{Fields: fields}
	case a.Reset:
		return h2server.Response{Fault: h2server.FaultReset, Code: http2.ErrCodeInternal}
	case a.Cut:
		return h2server.Response{Fault: h2server.FaultCut}
	}
	if a.RetryAfter > 0 {
		seconds := int64((a.RetryAfter + time.Second - 1) / time.Second)
		fields = append(fields, hpack.HeaderField{Name: "retry-after", Value: strconv.FormatInt(seconds, 10)})
	}
	return h2server.Response{Status: a.status(), Fields: fields, Body: a.body()}
}

func (a *Answer) status() int {
	if a.Status != 0 {
		return a.Status
	}
	if status := statuses[a.Reason]; status != 0 {
		return status
	}
	return 500
}

func (a *Answer) body() []byte {
	if a.Body != "" {
		return []byte(a.Body)
	}
	if a.Reason == "" {
		return nil
	}
	var out struct {
		Reason    string `json:"reason"`
		Timestamp int64  `json:"timestamp,omitempty"`
	}
	out.Reason = a.Reason
	if !a.Timestamp.IsZero() {
		out.Timestamp = a.Timestamp.UnixMilli()
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil
	}
	return b
}

// newUUID is a random UUID in upper case, as APNs makes them.
func newUUID() string {
	const digits = "0123456789ABCDEF"
	hi, lo := rand.Uint64()&^0xf000|0x4000, rand.Uint64()&^(3<<62)|2<<62
	var b [36]byte
	for i := range b {
		switch i {
		case 8, 13, 18, 23:
			b[i] = '-'
		default:
			b[i] = digits[hi>>60]
			hi = hi<<4 | lo>>60
			lo <<= 4
		}
	}
	return string(b[:])
}
