// Package usersig makes and verifies UserSig, the signature by which a backend vouches for a user to a cloud IM service, and with which
// an administrator calls its REST API. Both sides share a secret key.
//
// A UserSig is a JSON document with the user, the application, a time and a lifetime in seconds, signed by HMAC-SHA256, deflated (zlib),
// and written in base64 with '*', '-' and '_' in the place of '+', '/' and '='.
package usersig

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// The reasons for which [Verify] refuses a UserSig. It wraps them; find them with errors.Is.
var (
	ErrMalformed  = errors.New("usersig: malformed")
	ErrSDKAppID   = errors.New("usersig: made for another application")
	ErrIdentifier = errors.New("usersig: made for another user")
	ErrExpired    = errors.New("usersig: expired")
	ErrSignature  = errors.New("usersig: the signature is wrong: made with another key")
)

const (
	// MaxBytes is the most of a UserSig that Verify looks at. One for an identifier of 32 bytes has about 250.
	MaxBytes = 4 << 10
	// maxDocument bounds what it is inflated to: a few kilobytes can be a few megabytes.
	maxDocument = 8 << 10
	version     = "2.0"
)

// Sig is what a UserSig says.
type Sig struct {
	Identifier string        // the user
	SDKAppID   int64         // the application
	Time       time.Time     // when it was made, in seconds
	Expire     time.Duration // how long it is valid from then on, in seconds
	UserBuf    []byte        // anything else that is signed; nil for none
}

// Expires is when the UserSig ends: it is valid up to this second, and in it.
func (s *Sig) Expires() time.Time { return s.Time.Add(s.Expire) }

// document is the JSON within a UserSig.
type document struct {
	Version    string  `json:"TLS.ver"`
	Identifier string  `json:"TLS.identifier"`
	SDKAppID   int64   `json:"TLS.sdkappid"`
	Time       int64   `json:"TLS.time"`
	Expire     int64   `json:"TLS.expire"`
	UserBuf    *string `json:"TLS.userbuf,omitempty"` // base64
	Sig        string  `json:"TLS.sig"`
}

// sign returns the signature of what a document says.
func (d *document) sign(key []byte) []byte {
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "TLS.identifier:%s\nTLS.sdkappid:%d\nTLS.time:%d\nTLS.expire:%d\n", d.Identifier, d.SDKAppID, d.Time, d.Expire)
	if d.UserBuf != nil {
		fmt.Fprintf(h, "TLS.userbuf:%s\n", *d.UserBuf)
	}
	return h.Sum(nil)
}

var (
	toURL   = strings.NewReplacer("+", "*", "/", "-", "=", "_")
	fromURL = strings.NewReplacer("*", "+", "-", "/", "_", "=")
)

// Sign makes a UserSig. Time and Expire are cut to seconds; a zero Time is now.
func Sign(s Sig, key []byte) string {
	if s.Time.IsZero() {
		s.Time = time.Now()
	}
	d := document{Version: version, Identifier: s.Identifier, SDKAppID: s.SDKAppID, Time: s.Time.Unix(), Expire: int64(s.Expire / time.Second)}
	if s.UserBuf != nil {
		buf := base64.StdEncoding.EncodeToString(s.UserBuf)
		d.UserBuf = &buf
	}
	d.Sig = base64.StdEncoding.EncodeToString(d.sign(key))
	b, err := json.Marshal(&d)
	if err != nil {
		panic(err) // strings and numbers
	}
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	_, _ = z.Write(b) // to memory
	_ = z.Close()
	return toURL.Replace(base64.StdEncoding.EncodeToString(out.Bytes()))
}

// Parse reads a UserSig without verifying it: anybody may have made it. It returns [ErrMalformed].
func Parse(sig string) (Sig, error) {
	d, err := parse(sig)
	if err != nil {
		return Sig{}, err
	}
	return d.sig()
}

func parse(sig string) (*document, error) {
	if len(sig) > MaxBytes {
		return nil, fmt.Errorf("%w: over %d bytes", ErrMalformed, MaxBytes)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(fromURL.Replace(sig))
	if err != nil || strings.ContainsAny(sig, "\r\n") { // which the decoder passes over
		return nil, fmt.Errorf("%w: not base64", ErrMalformed)
	}
	in := bytes.NewReader(b)
	z, err := zlib.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("%w: not deflated", ErrMalformed)
	}
	b, err = io.ReadAll(io.LimitReader(z, maxDocument+1))
	if err != nil || len(b) > maxDocument || in.Len() > 0 { // nothing is behind it, so that there is one text of a signature
		return nil, fmt.Errorf("%w: not deflated, or too large", ErrMalformed)
	}
	d := new(document)
	if err := json.Unmarshal(b, d); err != nil {
		return nil, fmt.Errorf("%w: not the JSON of one", ErrMalformed)
	}
	if d.Sig == "" || d.Expire < 0 || d.Expire > math.MaxInt64/int64(time.Second) || d.Time < 0 || d.Time > 1<<40 {
		return nil, fmt.Errorf("%w: a field is missing or out of range", ErrMalformed)
	}
	return d, nil
}

func (d *document) sig() (Sig, error) {
	s := Sig{Identifier: d.Identifier, SDKAppID: d.SDKAppID, Time: time.Unix(d.Time, 0), Expire: time.Duration(d.Expire) * time.Second}
	if d.UserBuf != nil {
		var err error
		if s.UserBuf, err = base64.StdEncoding.DecodeString(*d.UserBuf); err != nil {
			return Sig{}, fmt.Errorf("%w: TLS.userbuf is not base64", ErrMalformed)
		}
		if s.UserBuf == nil {
			s.UserBuf = []byte{}
		}
	}
	return s, nil
}

// Verify reads a UserSig and says whether it is good at a time for a user of an application, signed with one of the keys. Several keys are for
// the time in which one replaces another. It looks, in this order, at form, application, user, end and signature, and returns [ErrMalformed],
// [ErrSDKAppID], [ErrIdentifier], [ErrExpired] or [ErrSignature]. Signatures are compared in constant time.
func Verify(sig string, sdkAppID int64, identifier string, now time.Time, keys ...[]byte) (Sig, error) {
	d, err := parse(sig)
	if err != nil {
		return Sig{}, err
	}
	s, err := d.sig()
	switch {
	case err != nil:
		return Sig{}, err
	case d.SDKAppID != sdkAppID:
		return s, fmt.Errorf("%w: %d, not %d", ErrSDKAppID, d.SDKAppID, sdkAppID)
	case d.Identifier != identifier:
		return s, fmt.Errorf("%w: %q, not %q", ErrIdentifier, d.Identifier, identifier)
	case now.Unix() > s.Expires().Unix():
		return s, fmt.Errorf("%w at %s", ErrExpired, s.Expires().UTC().Format(time.RFC3339))
	}
	given, err := base64.StdEncoding.DecodeString(d.Sig)
	if err != nil {
		return s, ErrSignature
	}
	good := false
	for _, key := range keys {
		good = hmac.Equal(given, d.sign(key)) || good
	}
	if !good {
		return s, ErrSignature
	}
	return s, nil
}
