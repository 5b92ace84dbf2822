package fcm

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	firebase "firebase.google.com/go/v4"
	"google.golang.org/api/option"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/internal/flow"
)

// Platform is the platform of devices that have a token of Firebase Cloud Messaging, whatever they are: Android, iOS or a browser.
const Platform transport.Platform = "fcm"

// Options say who sends, and how. The zero value uses Google's application default credentials: the file that
// GOOGLE_APPLICATION_CREDENTIALS names, that of gcloud, or the machine's own where it runs at Google.
type Options struct {
	// ServiceAccount is the contents of the JSON file of a service account's key. Default: application default credentials.
	ServiceAccount transport.Secret
	// Project is the ID of the Firebase project. Default: that of the credentials.
	Project string

	// Endpoint is where the service is, with its version. Default: https://fcm.googleapis.com/v1
	Endpoint string
	// RootCAs are whom the certificates of the endpoint and of the place that gives access tokens are to be from. Default: the system's.
	RootCAs *x509.CertPool
	// Connections is how many connections there are at most. Default: 8; the service takes about 100 requests at a time on each.
	Connections int
	// Concurrency is how many requests are under way at most; it adapts downward to what the service takes. Default: 512.
	Concurrency int
	// PerSecond is how many requests begin in a second at most. Default: 9,000, a tenth below the 600,000 a minute that the
	// service grants a project unless it was asked for more. Below 0: no limit.
	PerSecond float64
	// Timeout is for one request. Default: 20 s.
	Timeout time.Duration
	// BatchSize is how many notifications are sent between two durable checkpoints, and so how many a crash repeats at
	// most. Default: 2,000, which is the most.
	BatchSize int
}

const (
	endpoint       = "https://fcm.googleapis.com/v1"
	perSecond      = 9000
	maxBatch       = 2000
	messagingScope = "https://www.googleapis.com/auth/firebase.messaging"
)

// New makes a Sender. The context is for finding application default credentials. New asks the service nothing: credentials that it
// does not take are found at the first send, whose task stops then with what to look at in the log and in Progress. It returns an error that says
// what is wrong with the options.
func New(ctx context.Context, o Options) (*Sender, error) {
	o.Connections = cmp.Or(o.Connections, 8)
	o.Concurrency = cmp.Or(o.Concurrency, 512)
	o.Timeout = cmp.Or(o.Timeout, 20*time.Second)
	o.BatchSize = min(cmp.Or(o.BatchSize, maxBatch), maxBatch)
	o.PerSecond = max(cmp.Or(o.PerSecond, perSecond), 0)
	o.Endpoint = cmp.Or(o.Endpoint, endpoint)
	if o.Connections < 0 || o.Concurrency < 0 || o.Timeout < 0 || o.BatchSize < 0 {
		return nil, errors.New("fcm: a limit is below nothing")
	}
	if u, err := url.Parse(o.Endpoint); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("fcm: Options.Endpoint: https://, a host and a version are wanted, and nothing else") // its words could have a password
	}
	if len(o.ServiceAccount) > 0 {
		if err := checkAccount(o.ServiceAccount); err != nil {
			return nil, err
		}
	}
	config := &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12}
	auth, project, err := newAuth(ctx, o.ServiceAccount, config)
	if err != nil {
		return nil, err
	}
	if o.Project = cmp.Or(o.Project, project); o.Project == "" {
		auth.Close()
		return nil, errors.New("fcm: the credentials name no project: set Options.Project to the ID of the Firebase project")
	}
	o.ServiceAccount = nil // is not needed here any more
	s := &Sender{o: o, auth: auth}
	s.pool = flow.NewPool(&http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config.Clone()}, o.Connections)
	app, err := firebase.NewApp(ctx, &firebase.Config{ProjectID: o.Project},
		option.WithHTTPClient(&http.Client{Transport: flow.Drafter{}}), option.WithEndpoint(o.Endpoint))
	if err == nil {
		s.client, err = app.Messaging(ctx)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("fcm: %w", err)
	}
	s.sender = &flow.Sender{
		Gate:    flow.NewGate(flow.GateOptions{Most: o.Concurrency, PerSecond: o.PerSecond}),
		Workers: o.Concurrency, Timeout: o.Timeout,
	}
	s.messages.Make = s.encode
	return s, nil
}

// isKey says whether a text is a private key as the console gives it out.
func isKey(text string) bool {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return false
	}
	_, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		_, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	return err == nil
}

// checkAccount looks whether credentials are what one downloads for a service account. What it returns says nothing of what is in them.
func checkAccount(b transport.Secret) error {
	var fields struct {
		Type        string `json:"type"`
		PrivateKey  string `json:"private_key"`
		ClientEmail string `json:"client_email"`
	}
	if err := json.Unmarshal(b, &fields); err != nil {
		return errors.New("fcm: Options.ServiceAccount is not JSON: it is to be the contents of the key file of a service account")
	}
	switch {
	case fields.Type == "service_account" && (fields.PrivateKey == "" || fields.ClientEmail == ""):
		return errors.New("fcm: Options.ServiceAccount lacks private_key or client_email: it is to be the contents of the key file of a service account")
	case fields.Type == "service_account" && !isKey(fields.PrivateKey):
		return errors.New("fcm: the private_key of Options.ServiceAccount is not a PEM key: was the file changed, or its line ends?")
	case fields.Type == "":
		return errors.New(`fcm: Options.ServiceAccount has no "type": google-services.json of an app is another file; wanted is the key file of a service account`)
	}
	return nil
}
