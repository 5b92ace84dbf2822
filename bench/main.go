// Bench measures fanfare beside what people would use instead: roaring bitmaps in memory, plain
// bbolt, PostgreSQL, Redis. Every figure is a ratio of two medians that were measured in the same
// run, the contenders taking turns.
//
//	go run ./bench -quick                      two minutes, 300,000 users, judges nothing
//	go run ./bench                             1,000,000 users
//	go run ./bench -users 10000000             the run whose figures count
//	go run ./bench -only audience,accept       some of the figures
//
// docs/performance.md explains the figures and has those of the last full run. What starts servers
// starts them from the programs that are installed, in a temporary directory, on loopback ports; a
// contender that is not installed is reported as missing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fanfare-im/fanfare"
)

// names are the attributes of the users, by slot.
var names = map[int]string{0: "tier", 1: "city"}

// bench is one run.
type bench struct {
	users  int
	rounds int
	quick  bool
	only   []string
	svg    string
	dir    string
	out    io.Writer
	rows   []row

	who    *people
	p      *fanfare.Pusher
	bolt   *boltStore
	pg     *postgres
	noPG   string // why it is missing
	memory *bitmaps
	staged bool
	lastly []func() error
}

// figures are measured in this order; each but the first two stands on the users that import has brought.
var figures = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"import", (*bench).importUsers},
	{"disk", (*bench).disk},
	{"audience", (*bench).audience},
	{"members", (*bench).members},
	{"accept", (*bench).accept},
	{"retained", (*bench).retained},
	{"login", (*bench).login},
	{"online", (*bench).online},
	{"console", (*bench).console},
	{"mutate", (*bench).mutate}, // from here on the users are not who they were
	{"added", (*bench).added},
	{"open", (*bench).open},
	{"heap", (*bench).heap},
	{"phones", (*bench).phones},
	{"rest", (*bench).rest},
	{"cluster", (*bench).cluster},
	{"streamed", (*bench).streamed},
	{"join", (*bench).join},
	{"outage", (*bench).outage},
	{"growth", (*bench).growth},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if child := os.Getenv(childKind); child != "" {
		err = runChild(ctx, child)
	} else {
		err = run(ctx, os.Args[1:], os.Stdout)
	}
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	b := &bench{out: out}
	flags.IntVar(&b.users, "users", 1_000_000, "how many `users`; from 100,000 on")
	flags.IntVar(&b.rounds, "rounds", 5, "how many `rounds` the medians are of")
	flags.BoolVar(&b.quick, "quick", false, "300,000 users, two short rounds and no PostgreSQL, to see that the bench works: nothing is judged")
	only := flags.String("only", "", "the `figures` to measure, with commas between them (default: all)")
	jsonFile := flags.String("json", "", "write the rows to this `file` as well")
	flags.StringVar(&b.svg, "svg", "", "draw the growth to this `file`")
	profile := flags.String("cpuprofile", "", "write a CPU profile of the run to this `file`")
	dir := flags.String("dir", "", "where the temporary `directory` is made; its disk is measured (default: the system's)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.quick {
		b.users, b.rounds = 300_000, 2
	}
	if *only != "" {
		b.only = strings.Split(*only, ",")
	}
	known := func(name string) bool {
		return slices.ContainsFunc(figures, func(f struct {
			name string
			run  func(*bench, context.Context) error
		}) bool {
			return f.name == name
		})
	}
	for _, name := range b.only {
		if !known(name) {
			return fmt.Errorf("there is no figure %q", name)
		}
	}
	if flags.NArg() > 0 || b.users < 100_000 || b.rounds < 1 {
		return errors.New("see -help")
	}
	b.users -= b.users % parts
	if b.who, err = newPeople(); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if b.dir, err = os.MkdirTemp(*dir, "fanfare-bench-"); err != nil {
		return err
	}
	if err := os.Chmod(b.dir, 0o711); err != nil { // PostgreSQL may have to run as another user
		return err
	}
	defer func() { err = errors.Join(err, b.end()) }()
	began := time.Now()
	for _, f := range figures {
		if !b.wants(f.name) {
			continue
		}
		b.say("%s …", f.name)
		if e := f.run(b, ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", f.name, e))
			b.say("  %v", e)
		}
		if ctx.Err() != nil {
			break
		}
	}
	b.say("done")
	fmt.Fprintln(out)
	printTable(out, b.rows, !b.quick)
	fmt.Fprintf(out, "\n%s; %d rounds; %s in all.\n", machine(), b.rounds, time.Since(began).Round(time.Second))
	if *jsonFile != "" {
		err = errors.Join(err, writeJSON(*jsonFile, b.rows))
	}
	return err
}

func (b *bench) wants(name string) bool { return len(b.only) == 0 || slices.Contains(b.only, name) }

func (b *bench) wantsAny(names ...string) bool { return slices.ContainsFunc(names, b.wants) }

var started = time.Now()

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.out, "%6.0fs %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
}

// add takes a row and shows it at once.
func (b *bench) add(r row) {
	if r.Users == 0 {
		r.Users = b.users
	}
	b.rows = append(b.rows, r)
	switch {
	case r.missing:
		b.say("  %-20s against %s: %s", r.Name, r.Against, r.Note)
	case r.Theirs == 0:
		b.say("  %-20s %s %s; target %s", r.Name, figure(r.Ours), r.Unit, r.Target)
	default:
		b.say("  %-20s %s, %s %s %s: %s (%s–%s); target %s", r.Name, figure(r.Ours), r.Against, figure(r.Theirs), r.Unit,
			figure(r.Ratio), figure(r.Low), figure(r.High), r.Target)
	}
}

// atEnd has f called at the end, the latest first.
func (b *bench) atEnd(f func() error) { b.lastly = append(b.lastly, f) }

func (b *bench) end() error {
	var errs []error
	errs = append(errs, b.close())
	for _, f := range slices.Backward(b.lastly) {
		errs = append(errs, f())
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// ready has the users brought in, and the Pusher open.
func (b *bench) ready(ctx context.Context) error {
	if _, _, _, err := b.stage(ctx); err != nil {
		return err
	}
	if b.p == nil { // after a figure that failed
		return b.reopen(fanfare.Options{})
	}
	return nil
}

// home is the directory of the users that most figures stand on.
func (b *bench) home() string { return filepath.Join(b.dir, "fanfare") }

// reopen closes the Pusher, if it is open, and opens it with other options.
func (b *bench) reopen(o fanfare.Options) (err error) {
	if err := b.close(); err != nil {
		return err
	}
	b.p, err = fanfare.Open(b.home(), o)
	return err
}

func (b *bench) close() error {
	if b.p == nil {
		return nil
	}
	err := b.p.Close(context.Background())
	b.p = nil
	return err
}

// folded waits until no fold is under way.
func folded(ctx context.Context, p *fanfare.Pusher) error {
	for {
		s, err := p.Stats(ctx)
		if err != nil || !s.Folding {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
