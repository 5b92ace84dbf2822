package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

// config is how the server is started.
type config struct {
	listen      string
	data        string
	sdkAppID    int64
	keys        []transport.Secret
	admins      []string
	cloudLimits bool
	patience    time.Duration
	level       slog.Level

	consoleUser     string
	consolePassword transport.Secret // empty: there is no console
	consoleAudit    string           // file; empty: in memory

	trial bool // see trial.go
}

// variables are the environment variables that stand in for flags that are not given.
var variables = map[string]string{
	"listen": "FANFARE_LISTEN", "data": "FANFARE_DATA", "sdkappid": "FANFARE_SDKAPPID", "key": "FANFARE_KEY", "admin": "FANFARE_ADMIN",
	"console-user": "FANFARE_CONSOLE_USER", "console-password": "FANFARE_CONSOLE_PASSWORD", "console-audit": "FANFARE_CONSOLE_AUDIT",
}

// readConfig reads the flags, and the environment for those that are not given.
func readConfig(args []string, getenv func(string) string, log io.Writer) (*config, error) {
	c := new(config)
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.StringVar(&c.listen, "listen", "127.0.0.1:8080", "`address` to listen on (FANFARE_LISTEN)")
	flags.StringVar(&c.data, "data", "", "`directory` of the users and messages, made if it is not there (FANFARE_DATA)")
	flags.Int64Var(&c.sdkAppID, "sdkappid", 0, "`number` of the application (FANFARE_SDKAPPID)")
	key := keyFlag(flags)
	admins := flags.String("admin", "administrator", "`users` who may call the REST API, by comma (FANFARE_ADMIN)")
	flags.BoolVar(&c.cloudLimits, "cloud-limits", false, "keep to the limits of the cloud service: a push a second, 100 a day, of 10 KB")
	flags.DurationVar(&c.patience, "shutdown-timeout", 15*time.Second, "how long requests and connections may take to end at shutdown, and after them the files")
	flags.StringVar(&c.consoleUser, "console-user", "operator", "`name` to sign in to the console with (FANFARE_CONSOLE_USER)")
	password := flags.String("console-password", "", "`password` of the console, which is off without one; others on the machine see it: rather use FANFARE_CONSOLE_PASSWORD")
	flags.StringVar(&c.consoleAudit, "console-audit", "", "`file` that what is done in the console is appended to; without one the last 1,000 actions are kept in memory (FANFARE_CONSOLE_AUDIT)")
	flags.TextVar(&c.level, "log-level", slog.LevelInfo, "least `level` that is logged: debug, info, warn or error")
	if err := parse(flags, args, getenv, log); err != nil {
		return nil, err
	}
	c.consolePassword = transport.Secret(*password)
	if c.trial = c.data == "" && c.sdkAppID == 0 && *key == "" && *password == "" && c.consoleAudit == ""; c.trial {
		c.admins = []string{*admins}
		if c.level == slog.LevelInfo {
			c.level = slog.LevelWarn // what it prints is for people
		}
		return c, nil
	}
	var err error
	if c.keys, err = splitKeys(*key); err != nil {
		return nil, err
	}
	for admin := range strings.SplitSeq(*admins, ",") {
		if admin == "" {
			return nil, errors.New("-admin has an empty name")
		}
		c.admins = append(c.admins, admin)
	}
	switch {
	case c.data == "":
		return nil, errors.New("-data is needed")
	case c.sdkAppID <= 0:
		return nil, errors.New("-sdkappid is needed, a number above 0")
	case c.patience <= 0:
		return nil, errors.New("-shutdown-timeout must be above 0")
	case len(c.consolePassword) > 0 && c.consoleUser == "":
		return nil, errors.New("-console-user is empty")
	}
	return c, nil
}

// keyFlag adds the flag for the keys. It is a plain string without a default: package flag shows values that are wrong, and defaults.
func keyFlag(flags *flag.FlagSet) *string {
	return flags.String("key", "", "`secrets` that UserSigs are signed with, by comma; others on the machine see it: rather use FANFARE_KEY")
}

// parse reads the flags and then, for those not given, the environment.
func parse(flags *flag.FlagSet, args []string, getenv func(string) string, log io.Writer) error {
	flags.SetOutput(io.Discard) // the caller shows the error
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(log)
		flags.Usage()
	}
	if err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("there are %d arguments that are no flags", flags.NArg()) // which may be a secret
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, variable := range variables {
		value := getenv(variable)
		if value == "" || given[name] || flags.Lookup(name) == nil {
			continue
		}
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("%s is not what -%s takes", variable, name)
		}
	}
	return nil
}

// splitKeys reads the keys, of which there may be several while one replaces another.
func splitKeys(list string) ([]transport.Secret, error) {
	var keys []transport.Secret
	for key := range strings.SplitSeq(list, ",") {
		if key == "" {
			return nil, errors.New("FANFARE_KEY or -key is needed, without an empty key in it")
		}
		keys = append(keys, transport.Secret(key))
	}
	return keys, nil
}
