package transport

import "log/slog"

// Secret is a key, a password or the like. It prints as "[secret]", whichever way it is printed, logged or marshalled.
type Secret []byte

const secret = "[secret]"

// String returns "[secret]".
func (Secret) String() string { return secret }

// GoString returns "[secret]", for %#v.
func (Secret) GoString() string { return secret }

// LogValue returns "[secret]", for log/slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(secret) }

// MarshalText returns "[secret]", for encoding/json and others.
func (Secret) MarshalText() ([]byte, error) { return []byte(secret), nil }
