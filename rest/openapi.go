package rest

import (
	_ "embed"
	"net/http"
)

//go:embed openapi.json
var openAPI []byte

// describe serves the description of the API.
func (a *API) describe(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		out := new(envelope)
		out.set(refuse(codeBadHTTP, "the method is %.16s, not GET", r.Method))
		write(w, out)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI)
}
