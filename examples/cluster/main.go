// Cluster is fanfare on three nodes, which here are three processes of this machine: users are imported, clients connect to each node and are pushed to, one
// node is killed in the middle of it and comes back, and in the end each client's messages are counted.
//
//	go run ./examples/cluster                      1,000,000 users, 30,000 of them with clients
//	go run ./examples/cluster -users 10000000
//
// Read node.go first: it is what a host writes. main.go is what happens, clients.go are the apps, processes.go starts and ends the nodes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/cenkalti/backoff/v5"
)

func main() {
	var err error
	if len(os.Args) > 1 && os.Args[1] == "node" {
		// Ctrl+C is for the process that started it, which ends it then.
		signal.Ignore(os.Interrupt)
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err = runNode(ctx, os.Args[2:], os.Stdin, os.Stdout, os.Stderr)
		stop()
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop) // a second signal ends the process at once
		err = run(ctx, os.Args[1:], os.Stdout)
		stop()
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// a, b and c are the nodes; c is the one that is killed.
const a, b, c = 0, 1, 2

// story is what happens.
type story struct {
	out     io.Writer
	users   int
	clients int
	pushes  int // of them, the first third while all nodes are up, the second around the kill, and the last when the node is back

	nodes *processes
	crowd *crowd
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	s := &story{out: out}
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.IntVar(&s.users, "users", 1_000_000, "how many `users` to import")
	flags.IntVar(&s.clients, "clients", 30_000, "how many of them have `clients` that connect, a third to each node")
	flags.IntVar(&s.pushes, "pushes", 12, "how many `announcements` to push to all users, at least 3")
	dir := flags.String("dir", "", "a new or empty `directory` for the nodes' files, which are kept (default: a temporary one)")
	switch err := flags.Parse(args); {
	case err != nil:
		return err
	case flags.NArg() > 0:
		return fmt.Errorf("%q is not a flag", flags.Arg(0))
	case s.clients < len(nodeNames) || s.clients > s.users:
		return fmt.Errorf("-clients %d: there must be one for each node, and a user for each", s.clients)
	case s.pushes < 3:
		return fmt.Errorf("-pushes %d: there must be one before, one while and one after a node is killed", s.pushes)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s.nodes = &processes{failed: cancel}
	s.crowd = newCrowd(s.nodes, s.pushes)
	s.nodes.heard = s.crowd.hear
	remove, err := s.prepare(*dir)
	if err != nil {
		cancel(nil)
		return err
	}
	defer func() {
		cancel(nil)
		err = errors.Join(err, s.nodes.stop())
		s.crowd.all.Wait()
		err = errors.Join(err, remove())
	}()
	for _, scene := range []func(context.Context) error{s.start, s.load, s.connect, s.push, s.kill, s.restart, s.agree, s.tally} {
		if err := scene(ctx); err != nil {
			switch cause := context.Cause(ctx); {
			case errors.Is(cause, errGone):
				return cause
			case cause != nil:
				return errors.New("interrupted")
			}
			return err
		}
	}
	return nil
}

// prepare finds the directory and returns what removes it again.
func (s *story) prepare(dir string) (remove func() error, err error) {
	if s.nodes.addresses, err = freeAddresses(len(nodeNames)); err != nil {
		return nil, err
	}
	if dir == "" {
		if s.nodes.dir, err = os.MkdirTemp("", "fanfare-cluster-"); err != nil {
			return nil, err
		}
		s.say("Files are in %s and are removed at the end.", s.nodes.dir)
		return func() error { return os.RemoveAll(s.nodes.dir) }, nil
	}
	if files, err := os.ReadDir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	} else if len(files) > 0 {
		return nil, fmt.Errorf("%s is not empty", dir)
	}
	s.nodes.dir = dir
	s.say("Files are in %s and stay there.", dir)
	return func() error { return nil }, os.MkdirAll(dir, 0o700)
}

// start starts the nodes. Each waits for the others.
func (s *story) start(ctx context.Context) error {
	s.title("1. Three nodes")
	began := time.Now()
	for i := range nodeNames {
		p, err := s.nodes.start(i)
		if err != nil {
			return err
		}
		s.say("%s at %s is process %d.", p.name, s.nodes.addresses[i], p.cmd.Process.Pid)
	}
	if _, err := s.ask(ctx, request{Look: true}); err != nil {
		return err
	}
	s.say("They are a cluster %s later.", took(began))
	return nil
}

// load imports the users through one node.
func (s *story) load(ctx context.Context) error {
	s.title("2. Users")
	first, err := s.nodes.at(a)
	if err != nil {
		return err
	}
	began := time.Now()
	const parts = 4
	for i := range parts {
		part := span{i * s.users / parts, (i + 1) * s.users / parts}
		if _, err := first.do(ctx, request{Import: &part}); err != nil {
			return err
		}
		s.say("%9s imported through a in %s", count(part.Before), took(began))
	}
	imported, rate := time.Now(), float64(s.users)/time.Since(began).Seconds()
	if err := s.until(ctx, func(l said) bool { return l.Users == int64(s.users) }); err != nil {
		return fmt.Errorf("users that are imported: %w", err)
	}
	s.say("That is %s users a second. All nodes have all of them %s later.", count(int(rate)), took(imported))
	return nil
}

// connect connects the clients.
func (s *story) connect(ctx context.Context) error {
	s.title("3. Clients")
	began := time.Now()
	if err := s.crowd.gather(ctx, s.clients, s.users); err != nil {
		return err
	}
	s.say("%s users connect, a third of them to each node, in %s. The others stay away.", count(s.clients), took(began))
	return nil
}

// push pushes to everybody while all is well.
func (s *story) push(ctx context.Context) error {
	s.title(fmt.Sprintf("4. Announcements to all %s users, through each node in turn", count(s.users)))
	for n := range s.pushes / 3 {
		accepted, err := s.announce(ctx, n+1, n+1)
		if err != nil {
			return err
		}
		if err := s.arrived(ctx, n+1, accepted...); err != nil {
			return err
		}
	}
	return nil
}

// kill kills a node while announcements go out, one right after the other.
func (s *story) kill(ctx context.Context) error {
	s.title("5. A node is killed")
	changes := makeChanges(ctx, s.nodes, s.users, a, b)
	defer changes.end()
	select { // so that there is something to compare with
	case <-time.After(time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}

	p, err := s.nodes.at(c)
	if err != nil {
		return err
	}
	first, last := s.pushes/3+1, s.pushes*2/3
	middle, people := (first+last)/2, s.crowd.people[c]
	dead := make(chan error, 1)
	var killed time.Time
	s.crowd.mu.Lock()
	s.crowd.trap = func() bool { // here, and not in what waits for it: that might come when everybody has it
		if s.crowd.have[middle][c]*3 < people {
			return false
		}
		killed = time.Now()
		dead <- p.kill()
		return true
	}
	s.crowd.mu.Unlock()
	var accepted []time.Duration
	pushed := make(chan error, 1)
	go func() {
		var err error
		accepted, err = s.announce(ctx, first, last)
		pushed <- err
		if err != nil {
			select {
			case dead <- err: // nobody is going to die
			default:
			}
		}
	}()
	select {
	case err := <-dead:
		if err != nil {
			return err
		}
	case <-time.After(patience):
		return fmt.Errorf("after %s a third of the clients of c do not have announcement %d", patience, middle)
	case <-ctx.Done():
		return ctx.Err()
	}
	<-p.gone
	s.say("c is dead (%s). Its %s clients have these announcements:", p.cmd.ProcessState, count(people))
	s.crowd.mu.Lock()
	for n := first; n <= last; n++ {
		s.say("%4d  %s", n, count(s.crowd.have[n][c]))
	}
	s.crowd.mu.Unlock()
	if err := s.crowd.await(ctx, func() bool { return s.crowd.connected[c] == 0 && s.crowd.allConnected() }); err != nil {
		return err
	}
	s.say("All of them are connected to a and b %s later.", took(killed))
	if err := <-pushed; err != nil {
		return err
	}
	if err := s.arrived(ctx, first, accepted...); err != nil {
		return err
	}
	changes.end()
	for _, i := range []int{a, b} {
		o := changes.around(killed, i)
		s.say("Meanwhile users were tagged through %s. One took %s before; since c is dead %s were, the slowest in %s, and %s failed.",
			nodeNames[i], round(o.usual), count(o.made), round(o.longest), count(o.failed))
		if o.err != nil {
			s.say("One that failed: %v", o.err)
		}
	}
	return nil
}

// restart starts the node again, and half of its clients come back while announcements go out.
func (s *story) restart(ctx context.Context) error {
	s.title("6. It is started again")
	began := time.Now()
	p, err := s.nodes.start(c)
	if err != nil {
		return err
	}
	look, err := p.do(ctx, request{Look: true})
	if err != nil {
		return err
	}
	if want := s.pushes * 2 / 3; look.Users != int64(s.users) || len(look.Tasks) != want {
		return fmt.Errorf("c is back with %d users and %d announcements, and there are %d and %d", look.Users, len(look.Tasks), s.users, want)
	}
	s.say("c is back %s later, as process %d, with all that it has missed.", took(began), p.cmd.Process.Pid)
	people := s.crowd.of(c)
	people = people[:(len(people)+1)/2]
	began = time.Now()
	s.crowd.moveTo(c, people)
	first := s.pushes*2/3 + 1
	accepted, err := s.announce(ctx, first, s.pushes)
	if err != nil {
		return err
	}
	if err := s.crowd.await(ctx, s.crowd.allConnected); err != nil {
		return err
	}
	s.say("%s of its clients leave a and b for it, in %s, while announcements go out:", count(len(people)), took(began))
	return s.arrived(ctx, first, accepted...)
}

// agree asks all nodes.
func (s *story) agree(ctx context.Context) error {
	s.title("7. What the nodes say")
	want := on{int64(s.clients), int64(s.users - s.clients)}
	same := func(l said) bool {
		for _, task := range l.Tasks {
			if task != want {
				return false
			}
		}
		return len(l.Tasks) == s.pushes
	}
	if err := s.until(ctx, same); err != nil { // what was delivered last may not be in the log yet
		return fmt.Errorf("of each announcement there should be %v: %w", want, err)
	}
	s.say("Each says of each announcement that %s users have it, and that it waits for %s.", count(s.clients), count(s.users-s.clients))
	began := time.Now()
	if _, err := s.ask(ctx, request{Check: true}); err != nil {
		return err
	}
	s.say("The records, bitmaps and indexes of each agree with each other (checked in %s).", took(began))
	return nil
}

// tally counts each client's messages.
func (s *story) tally(context.Context) error {
	s.title(fmt.Sprintf("8. What the clients have of the %d announcements", s.pushes))
	rows, err := s.crowd.rows()
	if err != nil {
		return err
	}
	var sum row
	table := tabwriter.NewWriter(s.out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "began at\tclients\teach once\tsome twice\tlack one\tout of order\t")
	for i, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t\n", nodeNames[i], count(r.clients), count(r.once), count(r.again), count(r.lack), count(r.disordered))
		sum.again += r.again
		sum.lack += r.lack
		sum.disordered += r.disordered
		sum.odd += r.odd
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if sum.again > 0 {
		s.say("Twice: c died after it had delivered and before it had told the others so. Both carry the same ID; an app drops the second.")
	}
	if sum.lack > 0 || sum.disordered > 0 || sum.odd > 0 {
		return fmt.Errorf("%d clients lack an announcement, %d got them out of order, and %d got one again that the death of their node does not explain", sum.lack, sum.disordered, sum.odd)
	}
	return nil
}

// announce pushes announcements, each through the next node, and returns how long it took until each was accepted.
func (s *story) announce(ctx context.Context, first, last int) (accepted []time.Duration, err error) {
	for n := first; n <= last; n++ {
		began := time.Now()
		s.crowd.mu.Lock()
		s.crowd.sent[n] = began
		s.crowd.mu.Unlock()
		through := n - 1
		// A caller that gets an error, or no answer, asks another node.
		_, err := backoff.Retry(ctx, func() (said, error) {
			p, err := s.nodes.at(through % len(nodeNames))
			through++
			if err != nil {
				return said{}, err
			}
			return p.do(ctx, request{Push: n})
		}, backoff.WithBackOff(backoff.NewConstantBackOff(50*time.Millisecond)), backoff.WithMaxElapsedTime(time.Minute))
		if err != nil {
			return nil, err
		}
		accepted = append(accepted, time.Since(began))
	}
	return accepted, nil
}

// arrived waits until all clients have announcements that were accepted after so long.
func (s *story) arrived(ctx context.Context, first int, accepted ...time.Duration) error {
	for i, took := range accepted {
		n := first + i
		if err := s.crowd.await(ctx, func() bool { return !s.crowd.arrived(n, a, b, c).IsZero() }); err != nil {
			return err
		}
		since := func(at time.Time) string { return round(at.Sub(s.crowd.sent[n])) }
		s.crowd.mu.Lock()
		s.say("%4d  accepted in %-8s all clients of a and b have it after %-8s those of c after %s", n, round(took)+",", since(s.crowd.arrived(n, a, b))+",", since(s.crowd.arrived(n, c)))
		s.crowd.mu.Unlock()
	}
	return nil
}

// ask asks all nodes for the same, at the same time.
func (s *story) ask(ctx context.Context, r request) ([]said, error) {
	answers, errs := make([]said, len(nodeNames)), make([]error, len(nodeNames))
	var all sync.WaitGroup
	for i := range nodeNames {
		all.Go(func() {
			p, err := s.nodes.at(i)
			if err == nil {
				answers[i], err = p.do(ctx, r)
			}
			errs[i] = err
		})
	}
	all.Wait()
	return answers, errors.Join(errs...)
}

// until asks all nodes what is there, until each says what it should.
func (s *story) until(ctx context.Context, so func(said) bool) error {
	_, err := backoff.Retry(ctx, func() (bool, error) {
		looks, err := s.ask(ctx, request{Look: true})
		if err != nil {
			return false, backoff.Permanent(err)
		}
		for i, l := range looks {
			if !so(l) {
				return false, fmt.Errorf("%s says that there are %d users, and of the announcements %v", nodeNames[i], l.Users, l.Tasks)
			}
		}
		return true, nil
	}, backoff.WithBackOff(backoff.NewConstantBackOff(20*time.Millisecond)), backoff.WithMaxElapsedTime(patience))
	return err
}

// title begins a scene.
func (s *story) title(text string) { fmt.Fprintf(s.out, "\n%s\n", text) }

// say prints one line of a scene.
func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, "   "+format+"\n", args...) }

// took is the time since then.
func took(since time.Time) string { return round(time.Since(since)) }

// round leaves three digits or so.
func round(d time.Duration) string {
	if d >= time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}

// count writes a number with its thousands apart: 200,000.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
