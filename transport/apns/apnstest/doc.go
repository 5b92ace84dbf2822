// Package apnstest is a simulator of Apple's Push Notification service (APNs)
// for tests: HTTP/2 over TLS on a port of this machine, provider tokens and
// client certificates, every refusal that Apple documents, and the ways a
// connection to APNs ends or slows down. No Apple account is needed.
//
// A test makes a [Server], points its client at URL, lets it trust RootCAs and
// sign with Key, and afterwards looks at what was accepted:
//
//	s, err := apnstest.NewServer(apnstest.Options{})
//	...
//	defer s.Close()
//	// push to s.Token(1) ...
//	got := s.Accepted(s.Token(1))
//
// The server refuses what the documentation of APNs says is refused. Where APNs
// is known to accept what it should not have been sent, as a payload without an
// aps dictionary, so does the server, and Problems tells.
//
// A request goes through, in this order: the function set by OnRequest, what
// AnswerNext has in store, what Answer says of the device token; then the checks
// of method, path, authorization, headers and payload; then Kill, Expire and
// Bind; then it is accepted and recorded. The answer, whichever it is, is then
// subject to Delay and Stall, CutEvery and CutNext, GoAwayEvery and LowerStreams.
package apnstest
