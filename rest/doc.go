// Package rest is the REST API with which backends push through a cloud IM's "push to all users" service, over a [fanfare.Pusher]: a backend that
// speaks it changes its base URL. docs/rest.md has the commands, what each answer means, and where sources are silent and this package decides.
//
//	api := rest.Handler(p, rest.Options{SDKAppID: 1400000000, Keys: []transport.Secret{key}})
//	http.Handle("/v4/", api)
//
// It stands on the public API of the Pusher alone.
package rest
