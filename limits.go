package fanfare

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare/store"
)

// Limits bound what is accepted; what is beyond one is a [LimitError]. Fields that are 0 or less take
// the default, and one that is above the most there is takes that: texts are keys in the files, and a user with all
// attributes and devices fits in one step of 512 KiB. TagsPerUser and DevicesPerUser are part of the stored state: one given here that
// differs from the stored one becomes a durable change at Open; but see [Options].ReadOnly and Maintenance. What is beyond a lowered limit already stays.
type Limits struct {
	Lifetime       time.Duration // of a message; default: 7 days
	Attributes     int           // attribute slots, at most 64; default: 10
	TagsPerUser    int           // at most 10,000; default: 100
	DevicesPerUser int           // at most 50; default: 20
	TagBytes       int           // of a tag, at most 1,024; default: 50
	ValueBytes     int           // of an attribute value, at most 1,024; default: 50
	NameBytes      int           // of an attribute name, at most 1,024; default: 50
	BodyBytes      int           // of a message's body, at most 256 KiB; default: 12 KiB
	TokenBytes     int           // of a device token, at most 4 KiB; default: 4 KiB
}

// The most that an adjustable limit can be.
const (
	mostAttributes = 64
	mostTags       = 10_000
	mostDevices    = 50
	mostTextBytes  = store.MaxText // of a tag, a value, a name
	mostBodyBytes  = store.MaxCommand / 2
	mostTokenBytes = 4 << 10
)

// Sizes that are not adjustable.
const (
	maxIDBytes       = 255      // of a user ID, of a sender, of an idempotency key
	maxPlatformBytes = 50       // of a platform's name
	maxCategoryBytes = 50       // of a category
	maxFieldBytes    = 255      // of a device's topic, locale and time zone
	maxNoteBytes     = 16 << 10 // of an encoded notification
)

func (l *Limits) fill() {
	set := func(v *int, standard, most int) {
		if *v <= 0 {
			*v = standard
		}
		*v = min(*v, most)
	}
	if l.Lifetime <= 0 {
		l.Lifetime = 7 * 24 * time.Hour
	}
	set(&l.Attributes, 10, mostAttributes)
	set(&l.TagsPerUser, 100, mostTags)
	set(&l.DevicesPerUser, 20, mostDevices)
	set(&l.TagBytes, 50, mostTextBytes)
	set(&l.ValueBytes, 50, mostTextBytes)
	set(&l.NameBytes, 50, mostTextBytes)
	set(&l.BodyBytes, 12<<10, mostBodyBytes)
	set(&l.TokenBytes, 4<<10, mostTokenBytes)
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
