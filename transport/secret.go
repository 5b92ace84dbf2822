package transport

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a key, a password or the like. It prints as "[secret]", whichever way it is printed, logged or marshalled, except within a
// field that is not exported, which package fmt prints byte by byte.
type Secret []byte

const secret = "[secret]"

// Format writes "[secret]", whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secret) }

// String returns "[secret]".
func (Secret) String() string { return secret }

// GoString returns "[secret]", for %#v.
func (Secret) GoString() string { return secret }

// LogValue returns "[secret]", for log/slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(secret) }

// MarshalText returns "[secret]", for encoding/json and others.
func (Secret) MarshalText() ([]byte, error) { return []byte(secret), nil }
