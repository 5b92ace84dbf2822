package apns

import (
	"time"

	"github.com/sideshow/apns2/token"
)

// renewal is how often the service lets a provider renew its token: "no more than once every 20 minutes".
const renewal = 20 * time.Minute

// provider is the token with which requests are signed.
type provider struct{ token.Token }

// renew makes a new token in the place of the one that a request was refused with, unless that is done already. It returns false if
// that one is too young to be renewed.
func (p *provider) renew(bearer string) bool {
	p.Lock()
	defer p.Unlock()
	if p.Bearer != bearer {
		return true
	}
	if time.Since(time.Unix(p.IssuedAt, 0)) < renewal {
		return false
	}
	_, err := p.Generate()
	return err == nil
}
