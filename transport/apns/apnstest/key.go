package apnstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"time"
)

// Key is what a provider signs its tokens with, as one gets it from Apple.
type Key struct {
	PEM    []byte // the contents of the .p8 file: a P-256 key, PKCS8, PEM
	KeyID  string // 10 characters, the header kid of a token
	TeamID string // 10 characters, the claim iss of a token
}

type signingKey struct {
	Key
	public *ecdsa.PublicKey
}

func newSigningKey() (*signingKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return &signingKey{
		Key: Key{
			PEM:    pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
			KeyID:  "ABC123DEFG", // the names that Apple's documentation uses
			TeamID: "DEF123GHIJ",
		},
		public: &private.PublicKey,
	}, nil
}

// Key returns the key by which the server knows its provider. The PEM is the
// caller's.
func (s *Server) Key() Key {
	k := s.key.Key
	k.PEM = append([]byte(nil), k.PEM...)
	return k
}

// verify checks all of a provider token that does not depend on the time and
// returns when it was issued.
func (k *signingKey) verify(token string) (issued time.Time, ok bool) {
	var header struct{ Alg, Kid string }
	var claims struct {
		Iss string
		Iat json.Number
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || !segment(parts[0], &header) || !segment(parts[1], &claims) {
		return time.Time{}, false
	}
	seconds, err := claims.Iat.Float64()
	if err != nil || seconds < 0 || seconds > 1e11 {
		return time.Time{}, false
	}
	issued = time.Unix(int64(seconds), 0)
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(sig) != 64 || header.Alg != "ES256" || header.Kid != k.KeyID || claims.Iss != k.TeamID {
		return issued, false
	}
	sum := sha256.Sum256([]byte(token[:len(parts[0])+1+len(parts[1])]))
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	return issued, ecdsa.Verify(k.public, sum[:], r, s)
}

func segment(s string, into any) bool {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return err == nil && json.Unmarshal(b, into) == nil
}
