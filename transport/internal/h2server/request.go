package h2server

import (
	"net/http"

	"golang.org/x/net/http2/hpack"
)

// Request is what a handler is given. It and all it refers to, save for strings,
// is valid until the handler returns.
type Request struct {
	Method, Path string
	// Fields are the header fields in the order they came, names in lower case,
	// without pseudo-headers.
	Fields []hpack.HeaderField
	Body   []byte
	// TooLarge says that Body is only the beginning of the body.
	TooLarge bool
	Conn     *Conn
}

// Get returns the first value of the field with that lower-case name, or "".
func (r *Request) Get(name string) string {
	for i := range r.Fields {
		if r.Fields[i].Name == name {
			return r.Fields[i].Value
		}
	}
	return ""
}

// Header returns the fields as a new http.Header, with canonical names. It
// costs an allocation for each field; Fields and Get cost none.
func (r *Request) Header() http.Header {
	h := make(http.Header, len(r.Fields))
	for _, f := range r.Fields {
		h.Add(f.Name, f.Value)
	}
	return h
}
