// IM is a small instant messaging server: people write to each other over centrifuge, and get announcements from fanfare over the same connection. README.md
// says what is where.
//
//	go run ./examples/im
//	go run ./examples/im -listen 127.0.0.1:8081 -data DIR
//
// Read server.go first, then chat.go, and assets/im.js for the page.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "im:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, out, log io.Writer) (err error) {
	flags := flag.NewFlagSet("im", flag.ContinueOnError)
	flags.SetOutput(log)
	listen := flags.String("listen", "127.0.0.1:8080", "`address` to listen on, of this machine alone; port 0 is any that is free")
	data := flags.String("data", "", "`directory` of the users and announcements, made if it is not there; default: a temporary one, removed at the end")
	if err := flags.Parse(args); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			err = errors.Join(flag.ErrHelp, err) // and the flag package has said so
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("what is %q? All there is are flags", flags.Arg(0))
	}
	host, _, err := net.SplitHostPort(*listen)
	if err != nil {
		return err
	}
	if !isLocal(host) {
		return fmt.Errorf("-listen %s: people log in by typing a name, so this is for this machine alone", *listen)
	}
	kept := "Announcements and users are kept in " + *data + "; chats are not."
	if *data == "" {
		kept = "Nothing is kept."
		if *data, err = os.MkdirTemp("", "fanfare-im-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(*data)) }()
	}
	s, err := newServer(*listen, *data, log)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "A small IM server. Open this in several tabs and be somebody else in each:\n\n    http://%[1]s/\n\nWho sends announcements does it here:\n\n    http://%[1]s/console/\n\n%[2]s Ctrl+C ends it.\n", s.listener.Addr(), kept); err != nil {
		return errors.Join(err, s.close())
	}
	return s.serve(ctx)
}
