package main

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed assets
var files embed.FS

// policy lets the page load what is served beside it, and connect to where it came from, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// page serves the page, and what it loads.
func page() http.Handler {
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		panic(err) // they are part of the program
	}
	server := http.FileServerFS(assets)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		server.ServeHTTP(w, r)
	})
}
