package fcm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/fanfare-im/fanfare/transport"
)

// auth has the access token that requests are signed with, and asks for one when there is none that is good.
type auth struct {
	asking *http.Transport // for tokens
	client *http.Client
	find   func(context.Context) (*google.Credentials, error)

	mu     sync.Mutex
	source oauth2.TokenSource
}

// newAuth finds the credentials, and the project that they name.
func newAuth(ctx context.Context, account transport.Secret, config *tls.Config) (*auth, string, error) {
	a := &auth{asking: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true}}
	a.client = &http.Client{Transport: a.asking, Timeout: 20 * time.Second}
	a.find = func(ctx context.Context) (*google.Credentials, error) {
		ctx = context.WithValue(ctx, oauth2.HTTPClient, a.client)
		if len(account) > 0 {
			return google.CredentialsFromJSON(ctx, account, messagingScope)
		}
		return google.FindDefaultCredentials(ctx, messagingScope)
	}
	_, err := a.find(ctx)
	if err != nil {
		a.Close()
		if len(account) > 0 { // its words could have parts of the file
			return nil, "", errors.New("fcm: Options.ServiceAccount does not hold credentials that Google's library reads")
		}
		return nil, "", fmt.Errorf("fcm: no application default credentials: set Options.ServiceAccount or GOOGLE_APPLICATION_CREDENTIALS: %w", err)
	}
	// A source goes on using the context that it was made with.
	c, err := a.find(context.WithoutCancel(ctx))
	if err != nil {
		a.Close()
		return nil, "", fmt.Errorf("fcm: %w", err)
	}
	a.source = c.TokenSource
	return a, c.ProjectID, nil
}

// authorization returns what a request is signed with, with an access token that it waits for if there is none. An error is one of
// [*oauth2.RetrieveError], or that nothing answered.
func (a *auth) authorization() (string, error) {
	a.mu.Lock()
	source := a.source
	a.mu.Unlock()
	t, err := source.Token()
	if err != nil {
		return "", err
	}
	return t.Type() + " " + t.AccessToken, nil
}

// renew forgets an access token that the service did not take, unless that was done already.
func (a *auth) renew(authorization string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, err := a.source.Token()
	if err != nil || strings.TrimPrefix(authorization, t.Type()+" ") != t.AccessToken {
		return
	}
	if c, err := a.find(context.Background()); err == nil {
		a.source = c.TokenSource
	}
}

// Close ends the connections over which tokens were asked for.
func (a *auth) Close() { a.asking.CloseIdleConnections() }
