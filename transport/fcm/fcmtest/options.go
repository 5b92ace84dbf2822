package fcmtest

import (
	"fmt"
	"time"
)

// Options says what [NewServer] makes. The zero value works.
type Options struct {
	// Project is the Firebase project whose messages are taken; requests for
	// another are refused with 403. Letters, digits, and any of "-.:".
	// Default "fanfare-test".
	Project string

	// Streams is how many requests one HTTP/2 connection may have under way at
	// a time. Default 100, as at Google.
	Streams int

	// Now is the clock that access tokens and assertions are judged by, and
	// that Message.At is read from. It must be safe for concurrent use.
	// Default time.Now.
	Now func() time.Time

	// CountOnly makes the server remember how many messages a target got, not
	// which: Accepted returns nil. For tests with millions of them.
	CountOnly bool

	// AccessTokenLife is how long an access token is good for, told to clients
	// in whole seconds, so 1s at least. Default 1 hour.
	AccessTokenLife time.Duration
}

func (o *Options) complete() error {
	if o.Project == "" {
		o.Project = "fanfare-test"
	}
	for _, c := range []byte(o.Project) {
		if c == '_' || !isWord(c) && c != '.' && c != ':' {
			return fmt.Errorf("fcmtest: project %q has a character that no project has", o.Project)
		}
	}
	if o.Streams < 0 {
		return fmt.Errorf("fcmtest: %d streams", o.Streams)
	}
	if o.Streams == 0 {
		o.Streams = 100
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.AccessTokenLife == 0 {
		o.AccessTokenLife = time.Hour
	}
	if o.AccessTokenLife < time.Second {
		return fmt.Errorf("fcmtest: an access token that lives %v", o.AccessTokenLife)
	}
	return nil
}

// isWord tells the characters that base64url has, and registration tokens.
func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}
