package apnstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync/atomic"
	"time"
)

var (
	oidUID         = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	oidDevelopment = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 1}
	oidProduction  = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 2}
	oidTopics      = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 6}
)

// authority signs the server's certificate and those of clients.
type authority struct {
	ca     *x509.Certificate
	key    *ecdsa.PrivateKey
	leaf   tls.Certificate
	serial atomic.Int64
}

// topic is how a certificate of Apple's names one of several topics.
type topic struct {
	Name  string `asn1:"utf8"`
	Kinds []string
}

func newAuthority() (*authority, error) {
	a := &authority{}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	der, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "apnstest root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}, a.key.Public())
	if err != nil {
		return nil, err
	}
	if a.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err = a.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "apnstest"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		DNSNames:    []string{"localhost", "api.push.apple.com", "api.sandbox.push.apple.com", "api.development.push.apple.com"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public())
	a.leaf = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return a, err
}

func (a *authority) sign(t *x509.Certificate, key crypto.PublicKey) ([]byte, error) {
	t.SerialNumber = big.NewInt(a.serial.Add(1))
	t.NotBefore, t.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(10, 0, 0)
	parent := a.ca
	if parent == nil {
		parent = t
	}
	return x509.CreateCertificate(rand.Reader, t, parent, key, a.key)
}

func (a *authority) serverTLS() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{a.leaf},
		MinVersion:   tls.VersionTLS12,
		// What is wrong with a client's certificate is said in the answer to its
		// requests, so the handshake does not verify it.
		ClientAuth: tls.RequestClientCert,
	}
}

// client makes a certificate in the form of Apple's: the first topic is the
// subject's UID, all of several are in an extension.
func (a *authority) client(sandbox bool, topics []string) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		Subject: pkix.Name{
			CommonName: "Apple Push Services: " + topics[0],
			ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidUID, Value: topics[0]}},
		},
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		ExtraExtensions: []pkix.Extension{{Id: oidDevelopment, Value: asn1.NullBytes}},
	}
	if !sandbox {
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidProduction, Value: asn1.NullBytes})
	}
	if len(topics) > 1 {
		named := make([]topic, len(topics))
		for i, name := range topics {
			named[i] = topic{Name: name, Kinds: []string{"app"}}
		}
		value, err := asn1.Marshal(named)
		if err != nil {
			return nil, nil, err
		}
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidTopics, Value: value})
	}
	der, err := a.sign(t, key.Public())
	if err != nil {
		return nil, nil, err
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return certificatePEM(der), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}), nil
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

type certificateState uint8

const (
	certificateNone certificateState = iota
	certificateGood
	certificateBad
)

// judge says what a client's certificate is worth and which topics it is for.
func (a *authority) judge(chain []*x509.Certificate, now time.Time) (certificateState, []string) {
	if len(chain) == 0 {
		return certificateNone, nil
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.ca)
	leaf := chain[0]
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return certificateBad, nil
	}
	for _, e := range leaf.Extensions {
		var named []topic
		if !e.Id.Equal(oidTopics) {
			continue
		}
		if rest, err := asn1.Unmarshal(e.Value, &named); err != nil || len(rest) > 0 {
			return certificateBad, nil
		}
		topics := make([]string, len(named))
		for i := range named {
			topics[i] = named[i].Name
		}
		return certificateGood, topics
	}
	for _, n := range leaf.Subject.Names {
		if n.Type.Equal(oidUID) {
			return certificateGood, []string{fmt.Sprint(n.Value)}
		}
	}
	return certificateBad, nil
}

// Certificate returns a client certificate for the topics and its private key
// (PKCS8), both in PEM, which the server accepts in place of provider tokens. It
// panics without a topic. A certificate made by another Server is refused with
// BadCertificate.
func (s *Server) Certificate(topics ...string) (certPEM, keyPEM []byte) {
	if len(topics) == 0 {
		panic("apnstest: Certificate without a topic")
	}
	certPEM, keyPEM, err := s.authority.client(s.o.Sandbox, topics)
	if err != nil {
		panic("apnstest: Certificate: " + err.Error())
	}
	return certPEM, keyPEM
}
