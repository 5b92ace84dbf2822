package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport/apns"
	"github.com/fanfare-im/fanfare/transport/fcm"
)

// columns is the first line of a file (RFC 4180, UTF-8). Each further one is a device, or a user without any; a user with several
// has consecutive lines. Tags have spaces between them. The topic may be empty, and so may locale and time zone:
//
//	alice,vip news,apns,00fc13ad…,com.example.app,de-CH,Europe/Zurich
//	alice,,fcm,d1xQ…:APA91b…,,de-CH,Europe/Zurich
//	bob,,,,,,
const columns = "user_id,tags,platform,token,topic,locale,timezone"

// What a file may hold: the library's limits, and a bound for a whole record, so that a file with a quote missing is not read
// into memory to its end.
const (
	maxRecord  = 16 << 10
	maxToken   = 4 << 10
	maxText    = 255 // user, topic, locale, time zone
	maxTag     = 50
	maxTags    = 100
	maxDevices = 20
)

// readUsers reads a file as it is needed, once, to its end or to the first error, which names the line.
func readUsers(r io.Reader) iter.Seq2[fanfare.User, error] {
	return func(yield func(fanfare.User, error) bool) {
		source := &bounded{r: r}
		records := csv.NewReader(source)
		records.ReuseRecord = true
		var u fanfare.User
		for line := 0; ; {
			source.left = maxRecord
			record, err := records.Read()
			switch {
			case err == io.EOF && line > 0:
				if u.ID != "" {
					yield(u, nil)
				}
				return
			case line == 0 && (err == io.EOF || err == nil && strings.TrimPrefix(strings.Join(record, ","), "\ufeff") != columns):
				err = errors.New("line 1: the columns are to be " + columns)
			case err != nil: // of encoding/csv, which names the line, or of reading
				if u.ID = ""; !errors.As(err, new(*csv.ParseError)) {
					err = fmt.Errorf("after line %d: %w", line, err)
				}
			case line == 0:
				line = 1
			default:
				line, _ = records.FieldPos(0)
				if record[0] != u.ID && u.ID != "" {
					if !yield(u, nil) {
						return
					}
					u = fanfare.User{}
				}
				if err = add(&u, record); err != nil {
					err = fmt.Errorf("line %d: %w", line, err)
				}
			}
			if err != nil {
				yield(fanfare.User{ID: u.ID}, err)
				return
			}
		}
	}
}

// add adds a record, which has as many fields as there are columns, to its user.
func add(u *fanfare.User, f []string) error {
	u.ID = f[0]
	u.Tags = append(u.Tags, strings.Fields(f[1])...)
	d := fanfare.Device{Platform: f[2], Token: f[3], Topic: f[4], Locale: f[5], TimeZone: f[6]}
	switch d.Platform {
	case apns.Platform, apns.PlatformSandbox, fcm.Platform:
		u.Devices = append(u.Devices, d)
	case "":
		if d != (fanfare.Device{}) {
			return errors.New("a device without a platform")
		}
		d.Token = "none"
	default:
		return fmt.Errorf("platform %q: known are %s, %s and %s", d.Platform, apns.Platform, apns.PlatformSandbox, fcm.Platform)
	}
	if len(u.Tags) > maxTags || len(u.Devices) > maxDevices {
		return fmt.Errorf("%d tags and %d devices of one user: the most are %d and %d", len(u.Tags), len(u.Devices), maxTags, maxDevices)
	}
	err := errors.Join(
		check("user ID", u.ID, 1, maxText), check("token", d.Token, 1, maxToken), check("topic", d.Topic, 0, maxText),
		check("locale", d.Locale, 0, maxText), check("time zone", d.TimeZone, 0, maxText),
	)
	for _, tag := range u.Tags {
		err = errors.Join(err, check("tag", tag, 1, maxTag))
	}
	return err
}

func check(what, s string, least, most int) error {
	switch {
	case len(s) < least:
		return fmt.Errorf("the %s is empty", what)
	case len(s) > most:
		return fmt.Errorf("the %s has %d bytes, the most is %d", what, len(s), most)
	case !utf8.ValidString(s):
		return fmt.Errorf("the %s is not valid UTF-8: %q", what, s)
	}
	return nil
}

var errLong = fmt.Errorf("a record is longer than %d bytes; is a quote missing?", maxRecord)

// bounded ends reading when one record takes too many bytes.
type bounded struct {
	r    io.Reader
	left int // for this record; what encoding/csv reads ahead, some KB, counts too
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLong
	}
	n, err := b.r.Read(p)
	b.left -= n
	return n, err
}

// importFile imports the users of a file. Memory does not grow with their number, and importing them again is harmless.
func importFile(ctx context.Context, p *fanfare.Pusher, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	stats, err := p.Import(ctx, readUsers(file), nil)
	if err == nil && stats.Users == 0 {
		err = errors.New("there is nobody in it")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
