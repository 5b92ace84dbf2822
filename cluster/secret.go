package cluster

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// certified is the one name that certificates of a secret are for. Which node is at the other end is not asked: each knows the secret, and so can make a
// certificate for any name; a name that is checked would keep nobody out, but nodes whose address has a name more than Peers knows of.
const certified = "node.fanfare.internal"

// A certificate by a secret holds at any time that a clock may show. A time in it would limit for how long somebody who has stolen the key can use it; but the leaf's key never leaves the process that
// made it, and who has stolen the secret can make another leaf. What ends the trust is another secret. And so clocks that differ, or
// a machine that starts in 1970, do not take a cluster apart.
var (
	certifiedFrom = time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC)      // before it DER has other forms
	certifiedTo   = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) // by RFC 5280, 4.1.2.5: never
)

// secretTLS is mutual TLS between those who know a secret. From it each node derives the same key of a certificate authority, with which it signs a certificate for a key of its own, and trusts no other authority. The cluster's name is part
// of it, so that two clusters with one secret do not let each other in.
func secretTLS(secret, cluster string) (*tls.Config, error) {
	seed, err := hkdf.Key(sha256.New, []byte(secret), nil, "fanfare cluster certificate authority 1: "+cluster, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("cluster: Secret: %w", err)
	}
	authorityKey := ed25519.NewKeyFromSeed(seed)
	// Whatever is in it is fixed, and signatures of Ed25519 are: all nodes have the same, byte for byte, as their peers expect it.
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "fanfare cluster"},
		NotBefore:             certifiedFrom,
		NotAfter:              certifiedTo,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, fmt.Errorf("cluster: certificate authority of Secret: %w", err)
	}
	if authority, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("cluster: certificate authority of Secret: %w", err)
	}

	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cluster: key: %w", err)
	}
	leaf := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "fanfare node"},
		DNSNames:    []string{certified},
		NotBefore:   certifiedFrom,
		NotAfter:    certifiedTo,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err = x509.CreateCertificate(rand.Reader, leaf, authority, public, authorityKey)
	if err != nil {
		return nil, fmt.Errorf("cluster: certificate by Secret: %w", err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(authority)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      trusted,
		ClientCAs:    trusted,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ServerName:   certified,
	}, nil
}
