package usersig_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/fanfare-im/fanfare/rest/usersig"
)

// A backend signs for its user, and whoever has the key looks at what it signed.
func ExampleVerify() {
	key := []byte("a secret that both have")
	now := time.Now()
	sig := usersig.Sign(usersig.Sig{Identifier: "alice", SDKAppID: 1400000000, Time: now, Expire: time.Hour}, key)

	good, err := usersig.Verify(sig, 1400000000, "alice", now.Add(time.Minute), key)
	fmt.Println(good.Identifier, good.Expire, err)
	_, err = usersig.Verify(sig, 1400000000, "bob", now, key)
	fmt.Println(errors.Is(err, usersig.ErrIdentifier))
	_, err = usersig.Verify(sig, 1400000000, "alice", now.Add(2*time.Hour), key)
	fmt.Println(errors.Is(err, usersig.ErrExpired))
	// Output:
	// alice 1h0m0s <nil>
	// true
	// true
}
