// Quickstart plays, on a real directory, what fanfare is for: an offer to all
// users, a livestream, a push by tags, a push by attributes, and a process that
// dies in the middle of a push.
//
//	go run ./examples/quickstart                     200,000 made-up users
//	go run ./examples/quickstart -users 5000000      more of them
//	go run ./examples/quickstart -csv users.csv      your own; see readPeople for the format
//
// Read main.go first, then scenes.go and crash.go; hub.go is the part that an
// application has already.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"time"

	"github.com/fanfare-im/fanfare"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if c := crashFromEnvironment(); c != nil {
		err = c.pushAndDie(ctx, os.Stdout) // this is the process of scene 5 that kills itself
	} else {
		err = run(ctx, os.Args[1:], os.Stdout)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "quickstart: interrupted")
		os.Exit(exitInterrupted)
	case err != nil:
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(exitFailed)
	}
}

// show is what the scenes play on.
type show struct {
	*screen
	dir   string
	p     *fanfare.Pusher
	hub   *hub
	users int64
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	users := flags.Int64("users", 200_000, "how many `users` to make up")
	file := flags.String("csv", "", "read the users from this `file` instead: a column id, a column tags (with ; between them), each other column an attribute")
	dir := flags.String("dir", "", "a new or empty `directory` for the files, which are kept (default: a temporary one)")
	seed := flags.Uint64("seed", 1, "what the made-up users are drawn from; the same `number`, the same users")
	switch err := flags.Parse(args); {
	case err != nil:
		return err
	case flags.NArg() > 0:
		return fmt.Errorf("%q is not a flag", flags.Arg(0))
	case *users < 1:
		return fmt.Errorf("-users %d: there must be somebody", *users)
	}

	s := &show{screen: newScreen(out)}
	remove, err := s.prepare(*dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := s.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	if *file != "" {
		err = s.importFile(ctx, *file)
	} else {
		err = s.importPeople(ctx, *users, *seed)
	}
	if err != nil {
		return err
	}
	for _, scene := range []func(context.Context) error{s.christmas, s.livestream, s.stocks, s.platinum, s.crash, s.summary} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare finds the directory and returns what removes it again.
func (s *show) prepare(dir string) (remove func() error, err error) {
	if dir == "" {
		if s.dir, err = os.MkdirTemp("", "fanfare-quickstart-"); err != nil {
			return nil, err
		}
		s.say("Files are in %s and are removed at the end.", s.dir)
		return func() error { return os.RemoveAll(s.dir) }, nil
	}
	if files, err := os.ReadDir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	} else if len(files) > 0 {
		return nil, fmt.Errorf("%s is not empty", dir)
	}
	s.dir = dir
	s.say("Files are in %s and stay there.", dir)
	return func() error { return nil }, nil
}

// open opens the directory: this is all that it takes to have a Pusher.
func (s *show) open() (err error) {
	s.hub = newHub()
	s.p, err = fanfare.Open(s.dir, fanfare.Options{Online: s.hub})
	return err
}

// close closes it, once.
func (s *show) close() error {
	if s.p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := s.p.Close(ctx)
	s.p = nil
	return err
}

func (s *show) importPeople(ctx context.Context, n int64, seed uint64) error {
	people, err := makePeople(n, seed)
	if err != nil {
		return err
	}
	s.title("Users, with a membership tier and a city each, drawn by population from 300 real ones (GeoNames, CC BY 4.0)")
	if err := s.p.SetAttributeNames(ctx, map[int]string{0: "tier", 1: "city"}); err != nil {
		return err
	}
	return s.load(ctx, people, n, func(done fanfare.ImportStats) int64 { return done.Users })
}

func (s *show) importFile(ctx context.Context, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	people, err := readPeople(file)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.title("Users from " + name)
	names := make(map[int]string)
	for i, attribute := range people.attributes {
		names[i] = attribute
	}
	for _, attribute := range []string{"tier", "city"} { // scene 4 is about these
		if !slices.Contains(people.attributes, attribute) && len(names) < maxAttributes {
			names[len(names)] = attribute
		}
	}
	if err := s.p.SetAttributeNames(ctx, names); err != nil {
		return err
	}
	err = s.load(ctx, people.users(), info.Size(), func(fanfare.ImportStats) int64 { return people.source.total })
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// load imports people, of whatever number: they are taken from the iterator as
// they are needed. The total, and how much of it is done, are users or bytes.
func (s *show) load(ctx context.Context, people iter.Seq2[fanfare.User, error], total int64, done func(fanfare.ImportStats) int64) error {
	bar := s.bar("importing", total)
	stats, err := s.p.Import(ctx, people, &fanfare.ImportOptions{
		Progress: func(stats fanfare.ImportStats) { bar.set(done(stats)) },
	})
	if err != nil {
		return err
	}
	bar.end(total, "%s users", count(stats.Registered))
	s.users = stats.Registered
	if s.users == 0 {
		return errors.New("nobody was imported")
	}
	return nil
}

// summary ends the show.
func (s *show) summary(ctx context.Context) error {
	s.title("The end")
	began := time.Now()
	if err := s.p.Check(ctx); err != nil {
		return err
	}
	s.say("Every record, bitmap and index of the files agrees with the others (checked in %s).", took(began))
	stats, err := s.p.Stats(ctx)
	if err != nil {
		return err
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	s.say("%s users, %d pushes; %s MB on disk, %s MB of memory, %s users connected.", count(stats.Users), stats.Pushes,
		count((stats.BlocksBytes+stats.JournalBytes)>>20), count(int64(memory.Sys>>20)), count(stats.Online))
	return nil
}
