package flow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an answer: those of the services have a few hundred bytes.
const maxAnswer = 16 << 10

// Exchange is one request and its answer as they went over the wire.
type Exchange struct {
	Body          []byte // of the request
	Authorization string // of the request
	// Status is that of the answer, 0 for none. Answer is its body as far as it came, at most 16 KiB.
	Status int
	Answer []byte
	Header http.Header
}

// Do sends a request with the Body and Authorization of the exchange, and reads all of its answer. One that ends in its middle is an
// answer all the same: its status is known. An error is that there is none.
func (x *Exchange) Do(ctx context.Context, by http.RoundTripper, u *url.URL, header http.Header) error {
	req := (&http.Request{Method: http.MethodPost, URL: u, Header: header, ContentLength: int64(len(x.Body))}).WithContext(ctx)
	if x.Authorization != "" {
		header["Authorization"] = []string{x.Authorization}
	}
	req.GetBody = func() (io.ReadCloser, error) {
		b := new(body)
		b.Reset(x.Body)
		return b, nil
	}
	req.Body, _ = req.GetBody()
	resp, err := by.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	x.Status, x.Header = resp.StatusCode, resp.Header
	if resp.ContentLength != 0 {
		x.Answer, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	}
	return nil
}

type body struct{ bytes.Reader }

func (*body) Close() error { return nil }

// HTML says that the answer is a page, which no service gives: it is of a proxy, whatever its status.
func (x *Exchange) HTML() bool {
	return strings.HasPrefix(x.Header.Get("Content-Type"), "text/html") || bytes.HasPrefix(bytes.TrimSpace(x.Answer), []byte("<"))
}

// RetryAfter is how long the answer asks to be left alone: seconds or a date, as RFC 9110, section 10.2.3, has it. No more than a day.
func (x *Exchange) RetryAfter(now time.Time) time.Duration {
	v := strings.TrimSpace(x.Header.Get("Retry-After"))
	if v == "" {
		return 0
	}
	const most = 24 * time.Hour
	if s, err := strconv.ParseUint(v, 10, 32); err == nil {
		return min(time.Duration(s)*time.Second, most)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(at.Sub(now), 0), most)
	}
	return 0
}

// Redact is an error in words, without the address of the request: for some services a device's token is a part of it.
func Redact(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

// Word is a service's word as statistics and logs have it: what is none comes from elsewhere, and may have anything in it.
func Word(s string) string {
	if len(s) == 0 || len(s) > 64 {
		return "unknown"
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '_' && c != '.' && c != '-' {
			return "unknown"
		}
	}
	return s
}
