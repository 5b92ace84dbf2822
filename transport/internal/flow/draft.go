package flow

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Draft is a request as a service's client library would have sent it. The senders have one made for a task and a language, and send it,
// filled in, to each device themselves.
type Draft struct {
	URL    *url.URL
	Header http.Header
	Body   []byte
}

type draftKey struct{}

// Context returns a context in which the library's request becomes this draft.
func (d *Draft) Context() context.Context {
	return context.WithValue(context.Background(), draftKey{}, d)
}

// Drafter is the [http.RoundTripper] of a client library that is to send nothing. The library is answered by an empty object.
type Drafter struct{}

// RoundTrip puts the request into the draft of its context.
func (Drafter) RoundTrip(req *http.Request) (_ *http.Response, err error) {
	d, is := req.Context().Value(draftKey{}).(*Draft)
	if !is {
		return nil, errors.New("a request that was not to be made")
	}
	defer req.Body.Close()
	d.URL, d.Header = req.URL, req.Header
	if d.Body, err = io.ReadAll(req.Body); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: io.NopCloser(strings.NewReader("{}")), Request: req}, nil
}
