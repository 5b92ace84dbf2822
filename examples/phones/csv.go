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
		var u fanfare.User
		for row, err := range readRows(r) {
			if err == nil && row.user == u.ID {
				err = row.addTo(&u)
			} else if err == nil {
				if u.ID != "" && !yield(u, nil) {
					return
				}
				u = fanfare.User{ID: row.user}
				err = row.addTo(&u)
			}
			if err != nil {
				yield(fanfare.User{ID: row.user}, err)
				return
			}
		}
		if u.ID != "" {
			yield(u, nil)
		}
	}
}

// row is one line of a file.
type row struct {
	line   int
	user   string
	tags   []string
	device fanfare.Device // without a platform: none
}

func (r *row) addTo(u *fanfare.User) error {
	if u.Tags = append(u.Tags, r.tags...); len(u.Tags) > maxTags {
		return fmt.Errorf("line %d: more than %d tags", r.line, maxTags)
	}
	if r.device.Platform == "" {
		return nil
	}
	if u.Devices = append(u.Devices, r.device); len(u.Devices) > maxDevices {
		return fmt.Errorf("line %d: more than %d devices", r.line, maxDevices)
	}
	return nil
}

func readRows(r io.Reader) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		source := &bounded{r: r, left: maxRecord}
		records := csv.NewReader(source)
		records.ReuseRecord = true
		header, err := records.Read()
		if err == nil {
			header[0] = strings.TrimPrefix(header[0], "\ufeff") // spreadsheets write it
		}
		if err == io.EOF || err == nil && strings.Join(header, ",") != columns {
			err = errors.New("the columns are to be " + columns)
		}
		if err != nil {
			yield(row{}, fmt.Errorf("line 1: %w", err))
			return
		}
		for line := 1; ; {
			source.left = maxRecord
			record, err := records.Read()
			var x row
			switch {
			case err == io.EOF:
				return
			case errors.Is(err, errLong):
				err = fmt.Errorf("after line %d: %w", line, err)
			case err == nil: // an error of encoding/csv names the line
				line, _ = records.FieldPos(0)
				if x, err = newRow(record); err != nil {
					err = fmt.Errorf("line %d: %w", line, err)
				}
				x.line = line
			}
			if !yield(x, err) || err != nil {
				return
			}
		}
	}
}

// newRow checks a record, which has as many fields as there are columns.
func newRow(f []string) (row, error) {
	r := row{user: f[0], tags: strings.Fields(f[1]), device: fanfare.Device{
		Platform: f[2], Token: f[3], Topic: f[4], Locale: f[5], TimeZone: f[6],
	}}
	least := 1 // bytes of a token
	switch r.device.Platform {
	case "":
		if strings.Join(f[3:], "") != "" {
			return r, errors.New("a device without a platform")
		}
		least = 0
	case apns.Platform, apns.PlatformSandbox, fcm.Platform:
	default:
		return r, fmt.Errorf("platform %q: known are %s, %s and %s", r.device.Platform, apns.Platform, apns.PlatformSandbox, fcm.Platform)
	}
	err := errors.Join(
		check("user ID", f[0], 1, maxText), check("token", f[3], least, maxToken), check("topic", f[4], 0, maxText),
		check("locale", f[5], 0, maxText), check("time zone", f[6], 0, maxText),
	)
	for _, tag := range r.tags {
		err = errors.Join(err, check("tag", tag, 1, maxTag))
	}
	return r, err
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
