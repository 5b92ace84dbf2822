package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// AttrType is what the values of an attribute slot are. Values are strings whatever the type; those of a
// number or a date are kept as integers, in one way to write them, and can be compared. The numbers are part of the format.
type AttrType uint8

// The types. A number with n decimals is NumberType + n.
const (
	TextType   AttrType = 0
	DateType   AttrType = 1
	NumberType AttrType = 2
)

// MaxDecimals is the most decimals of a number, maxDigits the most digits, decimals included.
const (
	MaxDecimals = 9
	maxDigits   = 18
	maxNumber   = 1e18 - 1
)

// Known says whether there is such a type.
func (t AttrType) Known() bool { return t <= NumberType+MaxDecimals }

// String returns "text", "date", or, with its decimals, "number(2)".
func (t AttrType) String() string {
	switch {
	case t == TextType:
		return "text"
	case t == DateType:
		return "date"
	case t.Known():
		return fmt.Sprintf("number(%d)", t-NumberType)
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// wants says what a value of the type is, for an error.
func (t AttrType) wants() string {
	switch t {
	case DateType:
		return "a date such as 2026-11-28, or one with a time to the second such as 2026-11-28T10:00:00Z"
	case NumberType:
		return fmt.Sprintf("a whole number of at most %d digits", maxDigits)
	}
	return fmt.Sprintf("a number of at most %d digits, %d of them decimals", maxDigits, t-NumberType)
}

// ValueError says that a value is not of its attribute's type, or that an attribute of text is to be compared as if it had an order.
type ValueError struct {
	Name  string   // of the attribute
	Value string   // as it was given
	Type  AttrType // of the attribute
}

// Error says which attribute and value they are, and what was wanted.
func (e *ValueError) Error() string {
	if e.Type == TextType {
		return fmt.Sprintf("fanfare: attribute %q is text, which cannot be compared with %q", e.Name, e.Value)
	}
	return fmt.Sprintf("fanfare: attribute %q: %q is not %s", e.Name, e.Value, e.Type.wants())
}

// parse returns the integer that stands for a value: seconds since 1970, or the number times ten to the decimals. What
// cannot be kept exactly is none.
func (t AttrType) parse(value string) (n int64, ok bool) {
	if t == DateType {
		return parseDate(value)
	}
	digits, negative := strings.CutPrefix(value, "-")
	whole, part, point := strings.Cut(digits, ".")
	if whole == "" || point && part == "" {
		return 0, false
	}
	decimals := int(t - NumberType)
	part = strings.TrimRight(part, "0")
	if len(part) > decimals {
		return 0, false
	}
	whole = strings.TrimLeft(whole, "0")
	all := whole + part + strings.Repeat("0", decimals-len(part))
	if len(all) > maxDigits+decimals { // at most zeros in front of what fits
		return 0, false
	}
	for _, c := range []byte(all) {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + int64(c-'0'); n > maxNumber {
			return 0, false
		}
	}
	if negative {
		n = -n
	}
	return n, true
}

func parseDate(value string) (int64, bool) {
	d, err := time.Parse(time.DateOnly, value)
	if err != nil {
		d, err = time.Parse(time.RFC3339, value)
	}
	year := d.UTC().Year() // which may be another than where it is said
	return d.Unix(), err == nil && d.Nanosecond() == 0 && year >= 0 && year <= 9999
}

// format is the one way to write the value that n stands for.
func (t AttrType) format(n int64) string {
	if t == DateType {
		d := time.Unix(n, 0).UTC()
		if n%secondsOfDay == 0 {
			return d.Format(time.DateOnly)
		}
		return d.Format(time.RFC3339)
	}
	decimals := int(t - NumberType)
	if decimals == 0 {
		return strconv.FormatInt(n, 10)
	}
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	digits := fmt.Sprintf("%0*d", decimals+1, n)
	whole, part := digits[:len(digits)-decimals], strings.TrimRight(digits[len(digits)-decimals:], "0")
	if part == "" {
		return sign + whole
	}
	return sign + whole + "." + part
}

const (
	secondsOfDay = 24 * 60 * 60
	millisOfDay  = 1000 * secondsOfDay
)

// Day is the day, by UTC, of a time in milliseconds since 1970, counted from that of 1970-01-01, which is 0. What is
// before is that day too.
func Day(ms int64) uint32 {
	return uint32(max(0, ms) / millisOfDay)
}

// numberBits is a value as the facts of its slot say it: the bits of its magnitude, and signBit for a negative one.
// Zero has none.
func numberBits(n int64) uint64 {
	if n < 0 {
		return uint64(-n) | 1<<signBit
	}
	return uint64(n)
}
