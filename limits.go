package fanfare

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// Limits bound what is accepted; what is beyond one is a [LimitError]. Zero fields take
// the default. TagsPerUser and DevicesPerUser are part of the stored state: one given here that
// differs from the stored one becomes a durable change at Open. What is beyond a lowered limit already stays.
type Limits struct {
	Lifetime       time.Duration // of a message; default: 7 days
	Attributes     int           // attribute slots, at most 64; default: 10
	TagsPerUser    int           // default: 100
	DevicesPerUser int           // default: 20
	TagBytes       int           // of a tag; default: 50
	ValueBytes     int           // of an attribute value; default: 50
	NameBytes      int           // of an attribute name; default: 50
	BodyBytes      int           // of a message's body; default: 12 KiB
	TokenBytes     int           // of a device token; default: 4 KiB
}

// Sizes that are not adjustable.
const (
	maxIDBytes       = 255      // of a user ID, of a sender, of an idempotency key
	maxPlatformBytes = 50       // of a platform's name
	maxFieldBytes    = 255      // of a device's topic, locale and time zone
	maxNoteBytes     = 16 << 10 // of an encoded notification
)

func (l *Limits) fill() {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	if l.Lifetime <= 0 {
		l.Lifetime = 7 * 24 * time.Hour
	}
	set(&l.Attributes, 10)
	l.Attributes = min(l.Attributes, 64)
	set(&l.TagsPerUser, 100)
	set(&l.DevicesPerUser, 20)
	set(&l.TagBytes, 50)
	set(&l.ValueBytes, 50)
	set(&l.NameBytes, 50)
	set(&l.BodyBytes, 12<<10)
	set(&l.TokenBytes, 4<<10)
}

// validateText checks a size and that s is valid UTF-8.
func validateText(what, s string, least, most int) error {
	switch {
	case len(s) < least:
		return &LimitError{What: what + " in bytes, at least", Limit: int64(least), Got: int64(len(s))}
	case len(s) > most:
		return &LimitError{What: what + " in bytes", Limit: int64(most), Got: int64(len(s))}
	case !utf8.ValidString(s):
		return fmt.Errorf("fanfare: %s: %w", what, ErrInvalidText)
	}
	return nil
}
