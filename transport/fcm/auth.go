package fcm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/fanfare-im/fanfare/transport"
)

// auth has the access token that requests are signed with, and asks for one when there is none that is good: once for all who wait,
// each of whom waits no longer than its context.
type auth struct {
	asking *http.Transport // for tokens
	client *http.Client
	find   func() (*google.Credentials, error)
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	token  *oauth2.Token
	source oauth2.TokenSource
	fetch  *fetch // under way
}

// fetch is the asking for a token.
type fetch struct {
	done  chan struct{}
	token *oauth2.Token
	err   error
}

// newAuth finds the credentials, and the project that they name.
func newAuth(ctx context.Context, account transport.Secret, config *tls.Config) (*auth, string, error) {
	a := &auth{asking: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true}}
	a.client = &http.Client{Transport: a.asking, Timeout: 20 * time.Second}
	// A source goes on using the context that it was made with.
	ctx, a.cancel = context.WithCancel(context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, a.client))
	a.find = func() (*google.Credentials, error) {
		if len(account) > 0 {
			return google.CredentialsFromJSONWithType(ctx, account, google.ServiceAccount, messagingScope)
		}
		return google.FindDefaultCredentials(ctx, messagingScope)
	}
	c, err := a.find()
	if err != nil {
		a.Close()
		if len(account) > 0 { // its words could have parts of the file
			return nil, "", errors.New("fcm: Options.ServiceAccount does not hold credentials that Google's library reads")
		}
		return nil, "", fmt.Errorf("fcm: no application default credentials: set Options.ServiceAccount or GOOGLE_APPLICATION_CREDENTIALS: %w", err)
	}
	a.source = c.TokenSource
	return a, c.ProjectID, nil
}

// authorization returns what a request is signed with. An error is the context's, one of [*oauth2.RetrieveError], of the network, or of credentials that
// nothing can be signed with.
func (a *auth) authorization(ctx context.Context) (string, error) {
	a.mu.Lock()
	if a.token.Valid() {
		defer a.mu.Unlock()
		return headerOf(a.token), nil
	}
	f := a.fetch
	if f == nil {
		f = &fetch{done: make(chan struct{})}
		a.fetch = f
		source := a.source
		a.work.Go(func() { a.ask(f, source) })
	}
	a.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if f.err != nil {
		return "", f.err
	}
	return headerOf(f.token), nil
}

func headerOf(t *oauth2.Token) string { return t.Type() + " " + t.AccessToken }

// ask asks for a token, from a new source if there is none.
func (a *auth) ask(f *fetch, source oauth2.TokenSource) {
	if source == nil {
		var c *google.Credentials
		if c, f.err = a.find(); f.err == nil {
			source = c.TokenSource
		}
	}
	if f.err == nil {
		f.token, f.err = source.Token()
	}
	a.mu.Lock()
	a.token, a.source, a.fetch = f.token, source, nil
	a.mu.Unlock()
	close(f.done)
}

// renew forgets an access token that the service did not take, unless that was done already. Its source would go on giving it.
func (a *auth) renew(authorization string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token != nil && headerOf(a.token) == authorization {
		a.token, a.source = nil, nil
	}
}

// Close ends what asks for a token, and the connections over which that was done.
func (a *auth) Close() {
	a.cancel()
	a.work.Wait()
	a.asking.CloseIdleConnections()
}
