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

// Exchange is one request and its answer as they went over the wire, whatever a client library makes of them.
type Exchange struct {
	// Body, if there is one, is sent in the place of the request's.
	Body []byte
	// Authorization is that of the request.
	Authorization string
	// Status is that of the answer, 0 for none. Answer is its body as far as it came, at most 16 KiB.
	Status int
	Answer []byte
	Header http.Header
	// Err is why there is no answer, or no more of it.
	Err error
}

type exchangeKey struct{}

// With returns a context for one request that is to be noted in x.
func With(ctx context.Context, x *Exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// From returns the Exchange of a context, nil if it has none.
func From(ctx context.Context) *Exchange {
	x, _ := ctx.Value(exchangeKey{}).(*Exchange)
	return x
}

// Recorder is an [http.RoundTripper] that notes what goes through it in the [Exchange] of the request's context.
type Recorder struct{ Next http.RoundTripper }

// RoundTrip sends a request and reads all of the answer. One that ends in its middle is an answer all the same: its status is known.
func (r Recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	x, _ := req.Context().Value(exchangeKey{}).(*Exchange)
	if x == nil {
		return r.Next.RoundTrip(req)
	}
	x.Authorization = req.Header.Get("Authorization")
	if x.Body != nil {
		of := *req // shares the headers, which nobody changes
		req = &of
		x.Fill(req)
	}
	resp, err := x.Do(r.Next, req)
	if resp != nil && x.Answer != nil {
		resp.Body = io.NopCloser(bytes.NewReader(x.Answer))
	}
	return resp, err
}

// Fill puts Body into a request.
func (x *Exchange) Fill(req *http.Request) {
	req.ContentLength = int64(len(x.Body))
	req.GetBody = func() (io.ReadCloser, error) {
		b := new(body)
		b.Reset(x.Body)
		return b, nil
	}
	req.Body, _ = req.GetBody()
}

// Do sends a request and reads its answer. The body of the response is read and closed.
func (x *Exchange) Do(by http.RoundTripper, req *http.Request) (*http.Response, error) {
	resp, err := by.RoundTrip(req)
	if err != nil {
		x.Err = err
		return nil, err
	}
	x.Status, x.Header = resp.StatusCode, resp.Header
	if resp.ContentLength != 0 {
		x.Answer, x.Err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	}
	resp.Body.Close()
	return resp, nil
}

type body struct{ bytes.Reader }

func (*body) Close() error { return nil }

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
