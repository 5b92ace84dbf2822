// Server is a ready process: the REST API that backends push through, and a WebSocket gateway for the clients of the users. README.md says how
// it is started and spoken to.
//
//	go run ./examples/server
//	go run ./examples/server -listen 127.0.0.1:8080 -data DIR -sdkappid 1400000000 -key SECRET -admin administrator
//	go run ./examples/server sign -sdkappid 1400000000 -key SECRET -identifier administrator
//	go run ./examples/server listen -sdkappid 1400000000 -key SECRET -identifier alice
//
// Read server.go first. The connections are those of package transport/websocket.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

// run does what the arguments say, until it is done or ctx ends.
func run(ctx context.Context, args []string, getenv func(string) string, out, log io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "sign":
			return sign(args[1:], getenv, out, log)
		case "listen":
			return listen(ctx, args[1:], getenv, out, log)
		}
	}
	c, err := readConfig(args, getenv, log)
	if err != nil {
		return err
	}
	if c.trial {
		return try(ctx, c, out, log)
	}
	s, err := newServer(c, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: c.level})))
	if err != nil {
		return err
	}
	return s.serve(ctx)
}
