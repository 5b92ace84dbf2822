package apns

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/certificate"
	"github.com/sideshow/apns2/token"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/internal/flow"
)

// The platforms of devices, as an app registers them: those of apps that were signed for development have tokens that only
// the sandbox knows.
const (
	Platform        transport.Platform = "apns"
	PlatformSandbox transport.Platform = "apns-sandbox"
)

// Options say who sends, and how. Needed is a key or a certificate.
type Options struct {
	// Key is the contents of the .p8 file of an APNs authentication key, KeyID its ten characters, TeamID those of the
	// developer account.
	Key    transport.Secret
	KeyID  string
	TeamID string
	// Certificate is used instead of a key: an APNs certificate with its private key, as PEM or as the contents of a .p12 file.
	// CertificatePassword is that of the file, if it has one.
	Certificate         transport.Secret
	CertificatePassword transport.Secret
	// Topic is the app's bundle ID, for devices that were registered without a topic. With a certificate of one topic it may be empty.
	Topic string
	// Sandbox is for devices of the platform "apns-sandbox"; a Pusher for both has two senders. Default: "apns", which is for production.
	Sandbox bool

	// Endpoint is where the service is. Default: Apple's, for production or the sandbox.
	Endpoint string
	// RootCAs are whom the endpoint's certificate is to be from. Default: the system's.
	RootCAs *x509.CertPool
	// Connections is how many connections there are at most. Default: 8.
	Connections int
	// Concurrency is how many requests are under way at most; it adapts downward to what the service takes. Default: 512.
	Concurrency int
	// PerSecond is how many requests begin in a second at most. Default: no limit.
	PerSecond float64
	// Timeout is for one request. Default: 20 s.
	Timeout time.Duration
	// BatchSize is how many notifications are sent between two durable checkpoints, and so how many a crash repeats at
	// most. Default: 2,000, which is the most.
	BatchSize int
}

// New makes a Sender. It asks nobody: a key that the service does not know is found at the first send, whose task stops then with
// what to look at in the log and in Progress. It returns an error that says what is wrong with the options.
func New(o Options) (*Sender, error) {
	o.Connections = cmp.Or(o.Connections, 8)
	o.Concurrency = cmp.Or(o.Concurrency, 512)
	o.Timeout = cmp.Or(o.Timeout, 20*time.Second)
	o.BatchSize = min(cmp.Or(o.BatchSize, maxBatch), maxBatch)
	if o.Connections < 0 || o.Concurrency < 0 || o.Timeout < 0 || o.BatchSize < 0 || o.PerSecond < 0 {
		return nil, errors.New("apns: a limit is below nothing")
	}
	if o.Endpoint == "" {
		o.Endpoint = apns2.HostProduction
		if o.Sandbox {
			o.Endpoint = apns2.HostDevelopment
		}
	}
	if u, err := url.Parse(o.Endpoint); err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("apns: Options.Endpoint: https:// and a host are wanted, and nothing else") // its words could have a password
	}
	config := &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12}
	s := &Sender{o: o}
	switch {
	case len(o.Key) > 0 && len(o.Certificate) > 0:
		return nil, errors.New("apns: a key and a certificate: one of them is wanted")
	case len(o.Key) > 0:
		key, err := token.AuthKeyFromBytes(o.Key)
		if err != nil {
			return nil, fmt.Errorf("apns: the key is not the contents of a .p8 file from the developer account: %w", err)
		}
		if len(o.KeyID) != 10 || len(o.TeamID) != 10 {
			return nil, fmt.Errorf("apns: the key ID has %d characters and the team ID %d: both have ten characters, and stand in the developer account", len(o.KeyID), len(o.TeamID))
		}
		s.provider = &provider{Token: token.Token{AuthKey: key, KeyID: o.KeyID, TeamID: o.TeamID}}
	case len(o.Certificate) > 0:
		c, err := parseCertificate(o.Certificate, o.CertificatePassword)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{c}
	default:
		return nil, errors.New("apns: no key and no certificate")
	}
	s.pool = flow.NewPool(&http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config}, o.Connections)
	s.client = &apns2.Client{Host: o.Endpoint, HTTPClient: &http.Client{Transport: flow.Drafter{}}}
	s.sender = &flow.Sender{
		Gate:    flow.NewGate(flow.GateOptions{Most: o.Concurrency, PerSecond: o.PerSecond}),
		Workers: o.Concurrency, Timeout: o.Timeout,
	}
	s.payloads.Make = s.encode
	s.o.Key, s.o.Certificate, s.o.CertificatePassword = nil, nil, nil // are not needed any more
	return s, nil
}

// parseCertificate reads a certificate and its key.
func parseCertificate(b, password transport.Secret) (c tls.Certificate, err error) {
	if block, _ := pem.Decode(b); block != nil {
		c, err = certificate.FromPemBytes(b, string(password))
	} else {
		c, err = certificate.FromP12Bytes(b, string(password))
	}
	switch {
	case err != nil:
		return c, fmt.Errorf("apns: the certificate is neither PEM with a key nor .p12, or its password is another: %w", err)
	case c.PrivateKey == nil || c.Leaf == nil:
		return c, errors.New("apns: the certificate lacks its private key")
	case time.Now().After(c.Leaf.NotAfter):
		return c, fmt.Errorf("apns: the certificate ended at %v", c.Leaf.NotAfter)
	}
	return c, nil
}
