package fcmtest

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// accepts tells whether v, which was in quotes or not, is a value of the field,
// and if not what Google says about it, where that is more than the value.
func (f *field) accepts(v []byte, quoted bool, key []byte) (ok bool, why string) {
	switch f.kind {
	case stringKind:
		return quoted, ""
	case boolKind:
		return !quoted && (string(v) == "true" || string(v) == "false"), ""
	case int32Kind:
		n, err := strconv.ParseFloat(string(v), 64)
		return err == nil && n == math.Trunc(n) && n >= math.MinInt32 && n <= math.MaxInt32, ""
	case floatKind:
		n, err := strconv.ParseFloat(string(v), 32)
		return err == nil && !math.IsNaN(n) && !math.IsInf(n, 0), ""
	case enumKind:
		return f.enum.accepts(string(v), quoted), ""
	case durationKind:
		if quoted && !bytes.HasSuffix(v, []byte("s")) {
			return false, fmt.Sprintf("Field '%s', Illegal duration format; duration must end with 's'", key)
		}
		_, _, ok := duration(v)
		return quoted && ok, fmt.Sprintf("Field '%s', Illegal duration format", key)
	case timestampKind:
		_, err := time.Parse(time.RFC3339Nano, string(v))
		return quoted && err == nil, fmt.Sprintf("Field '%s', Invalid time format", key)
	default:
		return !quoted && v[0] == '{', ""
	}
}

// accepts takes names and numbers. Google's guides write the priority of a
// message in lower case, and its libraries send it so; of other enums that is
// not known, so there it is refused.
func (e *enumType) accepts(v string, quoted bool) bool {
	if !quoted {
		n, err := strconv.Atoi(v)
		return err == nil && n >= 0 && n < len(e.values)
	}
	if e.name == "AndroidMessagePriority" && v == strings.ToLower(v) {
		v = strings.ToUpper(v)
	}
	return e.has(v)
}

// duration reads what protocol buffers write in JSON: seconds, with up to nine
// digits after the point, and an s.
func duration(v []byte) (seconds int64, nanos int, ok bool) {
	s, ok := strings.CutSuffix(string(v), "s")
	if !ok {
		return 0, 0, false
	}
	whole, fraction, point := strings.Cut(s, ".")
	if !isDigits(strings.TrimPrefix(whole, "-")) || point && (!isDigits(fraction) || len(fraction) > 9) {
		return 0, 0, false
	}
	seconds, err := strconv.ParseInt(whole, 10, 64)
	const most = 315_576_000_000 // ten thousand years
	if err != nil || seconds > most || seconds < -most {
		return 0, 0, false
	}
	nanos, _ = strconv.Atoi((fraction + "000000000")[:9])
	if whole[0] == '-' {
		nanos = -nanos
	}
	return seconds, nanos, true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// typeName is how errors name the type of the field.
func (f *field) typeName() string {
	const fcm = "type.googleapis.com/google.firebase.fcm.v1."
	switch f.kind {
	case stringKind:
		return "TYPE_STRING"
	case boolKind:
		return "TYPE_BOOL"
	case int32Kind:
		return "TYPE_INT32"
	case floatKind:
		return "TYPE_FLOAT"
	case enumKind:
		return fcm + f.enum.name
	case durationKind:
		return "type.googleapis.com/google.protobuf.Duration"
	case timestampKind:
		return "type.googleapis.com/google.protobuf.Timestamp"
	case messageKind:
		if strings.HasPrefix(f.message.name, "google.") {
			return "type.googleapis.com/" + f.message.name
		}
		return fcm + f.message.name
	case mapKind:
		return "map"
	default:
		return "type.googleapis.com/google.protobuf.Struct"
	}
}
