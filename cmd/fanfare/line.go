package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
)

// The lines of an export, which docs/cli.md describes: a header, then users.

// linesVersion is raised when an older program would read lines wrongly.
const linesVersion = 1

// maxLine bounds a line. The largest user takes a fraction of it, however escaped.
const maxLine = 4 << 20

// headerLine says what the lines are, and of attributes which they may have.
type headerLine struct {
	Fanfare        string          `json:"fanfare"` // "users"
	Version        int             `json:"version"`
	TagsPerUser    int             `json:"tagsPerUser,omitempty"`
	DevicesPerUser int             `json:"devicesPerUser,omitempty"`
	Attributes     []attributeLine `json:"attributes,omitempty"`
}

type attributeLine struct {
	Slot int    `json:"slot"`
	Name string `json:"name"`
	Type string `json:"type,omitempty"` // as AttributeType.String; empty: text
}

// userLine is a user.
type userLine struct {
	ID         string            `json:"id"`
	Registered time.Time         `json:"registered,omitzero"`
	Tags       []string          `json:"tags,omitempty"`
	OptOuts    []string          `json:"optOuts,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Devices    []deviceLine      `json:"devices,omitempty"`
}

type deviceLine struct {
	Platform   string    `json:"platform"`
	Token      string    `json:"token"`
	Topic      string    `json:"topic,omitempty"`
	Locale     string    `json:"locale,omitempty"`
	TimeZone   string    `json:"timeZone,omitempty"`
	Registered time.Time `json:"registered,omitzero"`
}

func lineOf(u *fanfare.User) userLine {
	l := userLine{ID: u.ID, Registered: u.Registered.UTC(), Tags: u.Tags, OptOuts: u.OptOuts, Attributes: u.Attributes}
	for _, d := range u.Devices {
		l.Devices = append(l.Devices, deviceLine{d.Platform, d.Token, d.Topic, d.Locale, d.TimeZone, d.Registered.UTC()})
	}
	return l
}

func (l *userLine) user() fanfare.User {
	u := fanfare.User{ID: l.ID, Tags: l.Tags, OptOuts: l.OptOuts, Attributes: l.Attributes}
	for _, d := range l.Devices {
		u.Devices = append(u.Devices, fanfare.Device{Platform: d.Platform, Token: d.Token, Topic: d.Topic, Locale: d.Locale, TimeZone: d.TimeZone})
	}
	return u
}

// linesTo writes values as lines of JSON, of which a terminal acts upon nothing: of the characters that it may act upon, JSON itself escapes only those below the space.
func linesTo(w io.Writer) *json.Encoder {
	e := json.NewEncoder(controlEscaper{w})
	e.SetEscapeHTML(false)
	return e
}

// controlEscaper is given a whole value at a time, in which such a character can only be in a string.
type controlEscaper struct{ w io.Writer }

func (e controlEscaper) Write(line []byte) (int, error) {
	escaped := line
	if bytes.ContainsFunc(line, isHighControl) {
		escaped = nil
		for _, r := range string(line) {
			if isHighControl(r) {
				escaped = fmt.Appendf(escaped, `\u%04x`, r)
			} else {
				escaped = utf8.AppendRune(escaped, r)
			}
		}
	}
	if _, err := e.w.Write(escaped); err != nil {
		return 0, err
	}
	return len(line), nil
}

func isHighControl(r rune) bool { return r >= 0x7f && r <= 0x9f }

// lineError says which line is wrong. Lines count from 1.
type lineError struct {
	line int64
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// parseLine reads one object into v, and knows all of its fields.
func parseLine(line []byte, v any) error {
	if !utf8.Valid(line) { // which package json would put another character for
		return fanfare.ErrInvalidText
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("empty")
		}
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one object")
	}
	return nil
}

// parseUser reads a line that is a user.
func parseUser(line []byte) (fanfare.User, error) {
	var l userLine
	if err := parseLine(line, &l); err != nil {
		return fanfare.User{}, err
	}
	return l.user(), nil
}

// parseHeader reads a line that is a header, and says whether it is one: it has the field that users do not have.
func parseHeader(line []byte) (h headerLine, is bool, err error) {
	var kind struct {
		Fanfare *string `json:"fanfare"`
	}
	if json.Unmarshal(line, &kind) != nil || kind.Fanfare == nil {
		return h, false, nil
	}
	var version struct {
		Version int `json:"version"`
	}
	if json.Unmarshal(line, &version) == nil && version.Version > linesVersion { // before fields that are not known here
		return h, true, fmt.Errorf("%w: version %d of the lines, this program knows %d", fanfare.ErrNewerFormat, version.Version, linesVersion)
	}
	if err := parseLine(line, &h); err != nil {
		return h, true, err
	}
	if h.Fanfare != "users" || h.Version < 1 {
		return h, true, fmt.Errorf("not a header of users, version %d", linesVersion)
	}
	return h, true, nil
}

// parseType reads what AttributeType.String writes.
func parseType(s string) (fanfare.AttributeType, error) {
	types := []fanfare.AttributeType{fanfare.Text, fanfare.Date}
	for decimals := range 10 {
		types = append(types, fanfare.Number(decimals))
	}
	for _, t := range types {
		if t.String() == s || t == fanfare.Text && s == "" {
			return t, nil
		}
	}
	return 0, fmt.Errorf("type %q of an attribute is none of text, date, and number(0) to number(9)", s)
}
