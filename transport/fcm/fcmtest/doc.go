// Package fcmtest is Firebase Cloud Messaging for tests: a server on the
// loopback interface that speaks FCM's HTTP v1 API and Google's OAuth2 token
// endpoint, refuses what Google refuses, with Google's bodies, and can be told
// to misbehave as Google and the network do. No Google account is needed.
//
// A [Server] is used in the place of fcm.googleapis.com and of
// oauth2.googleapis.com:
//
//	s, err := fcmtest.NewServer(fcmtest.Options{})
//	...
//	defer s.Close()
//	endpoint := s.URL() + "/v1"      // instead of https://fcm.googleapis.com/v1
//	account := s.ServiceAccount()    // its token_uri is this server
//	client := s.Client()             // trusts the server's certificate
//	phone := s.Token(1)              // a registration token
//
// # What a send goes through
//
// The function set by OnRequest, what AnswerNext has in store, the access
// token, the JSON, the project, the rules for messages, what Answer and Kill
// say about the registration token. What passes all of them is accepted:
// recorded, and answered with a message name.
//
// # How faithful it is
//
// Names, types and limits are those of the REST reference of
// projects.messages. JSON is read as Google reads protocol buffers: a field may
// be written in snake_case or camelCase, null is a field left out, an unknown
// field or a wrong type is refused with the path to it. Where Google's
// documents leave room the server takes the strict side: what it accepts,
// Google accepts. What it does not know is which app a registration token is
// of: restricted_package_name is not compared with anything.
//
// The payload that may have 4096 bytes, 2048 for a topic or condition, is
// counted as the names and values of data and the names and values of the
// notification's fields, as they are before JSON escapes them; the overriding
// android fields take the place of those they override. An APNs payload counts
// as its JSON, with data and notification on top, a web notification as its
// JSON with data on top.
package fcmtest
