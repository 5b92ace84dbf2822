package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/fanfare-im/fanfare/rest/usersig"
)

// sign prints a UserSig and nothing else. Of several keys it takes the first.
func sign(args []string, getenv func(string) string, out, log io.Writer) error {
	flags := flag.NewFlagSet("sign", flag.ContinueOnError)
	sdkAppID := flags.Int64("sdkappid", 0, "`number` of the application (FANFARE_SDKAPPID)")
	key := keyFlag(flags)
	identifier := flags.String("identifier", "", "the `user` whom it is for")
	expire := flags.Duration("expire", 24*time.Hour, "for how long it is good")
	if err := parse(flags, args, getenv, log); err != nil {
		return err
	}
	keys, err := splitKeys(*key)
	switch {
	case err != nil:
		return err
	case *sdkAppID <= 0:
		return errors.New("-sdkappid is needed, a number above 0")
	case !isIdentifier(*identifier):
		return fmt.Errorf("-identifier is needed, 1 to %d bytes of UTF-8", maxIdentifier)
	case *expire < time.Second:
		return errors.New("-expire must be a second at least")
	}
	_, err = fmt.Fprintln(out, usersig.Sign(usersig.Sig{Identifier: *identifier, SDKAppID: *sdkAppID, Expire: *expire}, keys[0]))
	return err
}
