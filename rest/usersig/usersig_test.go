package usersig

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// vector was made by another implementation.
const vector = "eJyrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwokpuZl5mcUlRYkl*UVQBcUp2YkFBZkpSlaGJgZQAJFJrSjILEpVsrIwM4EJlWTmAgUMzVEVFmemAw33skwr9s02CQos8XUPyDU0zyiL0k*KSjcoMg4oDXNN8gtKKs-3r4jQzjFytVWqBQDAODQF"

var (
	key  = []byte("test-key-0123456789")
	made = time.Unix(1_700_000_000, 0)
)

func TestVector(t *testing.T) {
	t.Parallel()
	s, err := Verify(vector, 1_400_000_000, "administrator", made, key)
	if err != nil || s.Expire != 24*time.Hour || !s.Time.Equal(made) || s.UserBuf != nil {
		t.Fatalf("%+v, %v", s, err)
	}
	d, err := parse(vector)
	if err != nil {
		t.Fatal(err)
	}
	if got := base64.StdEncoding.EncodeToString(d.sign(key)); got != "J9fsMk4RQtMGPm17hvZ/bZg0r3PuVEbNRbwoOxX+l2E=" {
		t.Error(got)
	}
}

func TestSignIsVerified(t *testing.T) {
	t.Parallel()
	for _, s := range []Sig{
		{Identifier: "u", SDKAppID: 1, Time: made, Expire: time.Minute},
		{Identifier: "ü \"\n", SDKAppID: 1 << 40, Time: made, Expire: 0},
		{Identifier: "", SDKAppID: 0, Time: made, Expire: 180 * 24 * time.Hour, UserBuf: []byte{}},
		{Identifier: "u", SDKAppID: 1, Time: made, Expire: time.Hour, UserBuf: []byte("abc\x00")},
	} {
		sig := Sign(s, key)
		if strings.ContainsAny(sig, "+/=") {
			t.Error(sig)
		}
		got, err := Verify(sig, s.SDKAppID, s.Identifier, made, []byte("another"), key)
		if err != nil || !bytes.Equal(got.UserBuf, s.UserBuf) || (got.UserBuf == nil) != (s.UserBuf == nil) || got.Expire != s.Expire {
			t.Errorf("%+v: %+v, %v", s, got, err)
		}
	}
	if s, err := Parse(Sign(Sig{Identifier: "u", Expire: time.Hour}, key)); err != nil || time.Since(s.Time) > time.Minute {
		t.Error(s, err)
	}
}

// TestOrder: of several things that are wrong the first is named, in the order of the published verifier.
func TestOrder(t *testing.T) {
	t.Parallel()
	sig := Sign(Sig{Identifier: "u", SDKAppID: 1, Time: made, Expire: time.Minute}, key)
	end := made.Add(time.Minute)
	for _, c := range []struct {
		app  int64
		user string
		now  time.Time
		key  string
		want error
	}{
		{1, "u", end, string(key), nil},
		{1, "u", end.Add(999 * time.Millisecond), string(key), nil},
		{1, "u", end.Add(time.Second), string(key), ErrExpired},
		{1, "u", end, "x", ErrSignature},
		{2, "v", end.Add(time.Hour), "x", ErrSDKAppID},
		{1, "v", end.Add(time.Hour), "x", ErrIdentifier},
		{1, "u", end.Add(time.Hour), "x", ErrExpired},
	} {
		if _, err := Verify(sig, c.app, c.user, c.now, []byte(c.key)); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := Verify(sig, 1, "u", made); !errors.Is(err, ErrSignature) {
		t.Error("without a key:", err)
	}
}

// packed makes a UserSig of any document.
func packed(document string, level int) string {
	var b bytes.Buffer
	z, _ := zlib.NewWriterLevel(&b, level)
	_, _ = z.Write([]byte(document))
	_ = z.Close()
	return toURL.Replace(base64.StdEncoding.EncodeToString(b.Bytes()))
}

// TestForms: any level of compression, order of keys and white space will do.
func TestForms(t *testing.T) {
	t.Parallel()
	d, err := parse(vector)
	if err != nil {
		t.Fatal(err)
	}
	document := fmt.Sprintf("{ \"TLS.sig\":%q,\"TLS.expire\":86400,\n\"TLS.time\":1700000000,\"TLS.sdkappid\":1400000000,\"TLS.identifier\":\"administrator\",\"TLS.ver\":\"2.0\", \"more\": [1]}\n", d.Sig)
	for _, level := range []int{zlib.NoCompression, zlib.BestSpeed, zlib.BestCompression, zlib.HuffmanOnly} {
		if _, err := Verify(packed(document, level), 1_400_000_000, "administrator", made, key); err != nil {
			t.Error(level, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	d, err := parse(vector)
	if err != nil {
		t.Fatal(err)
	}
	with := func(f func(*document)) string {
		of := *d
		f(&of)
		b, _ := json.Marshal(&of)
		return packed(string(b), 6)
	}
	b, err := base64.StdEncoding.DecodeString(fromURL.Replace(vector))
	if err != nil {
		t.Fatal(err)
	}
	more := toURL.Replace(base64.StdEncoding.EncodeToString(append(b, "xxx"...)))
	for name, sig := range map[string]string{
		"nothing": "", "no base64": "§", "no zlib": "AAAA", "half": vector[:len(vector)/2], "no JSON": packed("x", 6), "a list": packed("[]", 6), "null": packed("null", 6),
		"a bomb": packed(strings.Repeat(" ", 1<<20), 9), "too long": strings.Repeat("A", MaxBytes+4), "a number as a string": packed(`{"TLS.sdkappid":"1"}`, 6),
		"no signature": with(func(d *document) { d.Sig = "" }), "an end before its beginning": with(func(d *document) { d.Expire = -1 }), "an end that overflows": with(func(d *document) { d.Expire = 1 << 62 }),
		"a time that overflows": with(func(d *document) { d.Time = 1 << 62 }), "userbuf": with(func(d *document) { s := "§"; d.UserBuf = &s }), "a new line": vector[:8] + "\n" + vector[8:], "more behind it": more, "checksum": vector[:len(vector)-4] + "AAAA",
	} {
		if _, err := Verify(sig, 1_400_000_000, "administrator", made, key); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Verify(with(func(d *document) { d.Sig = "§" }), 1_400_000_000, "administrator", made, key); !errors.Is(err, ErrSignature) {
		t.Error(err)
	}
}

// FuzzVerify: nothing but what was signed with the key is good.
func FuzzVerify(f *testing.F) {
	f.Add(vector)
	f.Add(packed(`{"TLS.sig":"","TLS.expire":1}`, 0))
	f.Fuzz(func(t *testing.T, sig string) {
		if _, err := Verify(sig, 1_400_000_000, "administrator", made, []byte("a key that signed nothing")); err == nil {
			t.Fatal("good")
		}
		if s, err := Verify(sig, 1_400_000_000, "administrator", made, key); err == nil && s.Identifier != "administrator" {
			t.Fatalf("%+v", s)
		}
	})
}
