package fanfare

import (
	"context"
	"iter"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// Device is a phone of a user, as a notification service knows it.
type Device struct {
	Platform   string    // of the service, such as "apns" or "fcm"; 1 to 50 bytes
	Token      string    // given by the service; 1 byte to 4 KiB
	Topic      string    // the app, where the service wants to know; at most 255 bytes
	Locale     string    // BCP 47, such as "zh-Hant-TW"; at most 255 bytes
	TimeZone   string    // IANA name, such as "Asia/Shanghai"; at most 255 bytes
	Registered time.Time // when it was last registered, to the millisecond; what is given is not looked at
}

// RegisterDevice registers a device of a user, in one durable step. A token belongs to the
// last user who registered it: it leaves the one who had it before. Registering it again
// replaces what is known of it. A user has at most 20 devices, or what [Limits] says; one more is a [*LimitError].
// It returns [ErrUnknownUser] for a user who is not known.
func (p *Pusher) RegisterDevice(ctx context.Context, user string, d Device) error {
	var b Batch
	b.RegisterDevice(user, d)
	return p.one(ctx, &b)
}

// RemoveDevice removes a device of a user by platform and token, in one durable step. One that
// the user does not have is no error. It returns [ErrUnknownUser] for a user who is not known.
func (p *Pusher) RemoveDevice(ctx context.Context, user, platform, token string) error {
	var b Batch
	b.RemoveDevice(user, platform, token)
	return p.one(ctx, &b)
}

// Devices returns a user's devices in the order in which they were first
// registered. It returns [ErrUnknownUser] for a user who is not known.
func (p *Pusher) Devices(ctx context.Context, user string) ([]Device, error) {
	u, err := p.User(ctx, user)
	return u.Devices, err
}

// Languages yields the languages in use, each with the number of users who have a device of that language or a narrower one:
// who has one of zh-Hant-TW counts for zh, zh-Hant and zh-Hant-TW. They are in the order of their bytes. An error ends the iteration.
func (p *Pusher) Languages(ctx context.Context) iter.Seq2[NameCount, error] {
	return p.counted(ctx, func() iter.Seq2[store.Named, error] { return p.store.Languages() })
}

// TimeZones yields the time zones in use, each with the number of users who have a device there, in the order of their bytes. An
// error ends the iteration.
func (p *Pusher) TimeZones(ctx context.Context) iter.Seq2[NameCount, error] {
	return p.counted(ctx, func() iter.Seq2[store.Named, error] { return p.store.TimeZones() })
}

func deviceOf(d store.Device) Device {
	return Device{d.Platform, d.Token, d.Topic, d.Locale, d.TimeZone, time.UnixMilli(d.Registered)}
}

func (l *Limits) devices(devices []Device) ([]store.Device, error) {
	if len(devices) == 0 {
		return nil, nil
	}
	out := make([]store.Device, len(devices))
	for i, d := range devices {
		for _, f := range []struct {
			what, value string
			least, most int
		}{
			{"platform", d.Platform, 1, maxPlatformBytes}, {"device token", d.Token, 1, l.TokenBytes},
			{"device topic", d.Topic, 0, maxFieldBytes}, {"device locale", d.Locale, 0, maxFieldBytes},
			{"device time zone", d.TimeZone, 0, maxFieldBytes},
		} {
			if err := validateText(f.what, f.value, f.least, f.most); err != nil {
				return nil, err
			}
		}
		out[i] = store.Device{Platform: d.Platform, Token: d.Token, Topic: d.Topic, Locale: d.Locale, TimeZone: d.TimeZone}
	}
	return out, nil
}
