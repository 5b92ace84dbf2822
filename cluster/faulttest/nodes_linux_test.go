package faulttest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long the test waits for anything at all.
const patience = 90 * time.Second

// trio is three nodes, each of them a process, as the test sees them.
type trio struct {
	t          *testing.T
	net        *network
	dirs       [nodes]string // by default temporary ones
	clientAcks bool
	advertise  [nodes]string
	nodes      [nodes]*node

	mu      sync.Mutex
	history history
	heard   func(delivery) // of each delivery, when it is noted
	skew    [nodes]time.Duration
}

// timeout is how long a node tries to make a change. A call may take a moment longer.
const timeout = 3 * time.Second

// node is a process, or was one.
type node struct {
	number, life int
	cmd          *exec.Cmd
	in           io.WriteCloser
	gone         chan struct{} // closed when it has ended
	ended        error         // then

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
	said    []string // to its error output, the end of it
}

// open starts all nodes.
func (c *trio) open() {
	t := c.t
	t.Helper()
	c.net, c.heard = newNetwork(t), func(delivery) {}
	for i := range nodes {
		c.advertise[i] = unused(t)
		if c.dirs[i] == "" {
			c.dirs[i] = t.TempDir()
		}
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			if n != nil {
				n.kill()
				if t.Failed() {
					t.Logf("node %d said at last:\n%s", n.number, n.lastWords())
				}
			}
		}
	})
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() { c.start(i) })
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// start starts the process of a node, and waits until it is one.
func (c *trio) start(i int) {
	n := &node{number: i, gone: make(chan struct{}), waiting: map[int]chan reply{0: make(chan reply, 1)}}
	if last := c.nodes[i]; last != nil {
		n.life = last.life + 1
	}
	env, err := json.Marshal(config{
		Node: i, Life: n.life, Dir: c.dirs[i], Listen: c.net.routes[i], Advertise: c.advertise[i], Peers: c.net.peers(i),
		ClientAcks: c.clientAcks, Timeout: timeout, Skew: c.skew[i],
	})
	if err != nil {
		c.t.Error(err)
		return
	}
	n.cmd = exec.Command(os.Args[0])
	n.cmd.Env = append(os.Environ(), childEnv+"="+string(env))
	n.in, err = n.cmd.StdinPipe()
	if err != nil {
		c.t.Error(err)
		return
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		c.t.Error(err)
		return
	}
	errors, err := n.cmd.StderrPipe()
	if err != nil {
		c.t.Error(err)
		return
	}
	ready := n.waiting[0]
	if err := n.cmd.Start(); err != nil {
		c.t.Error(err)
		return
	}
	var read sync.WaitGroup
	read.Go(func() { n.listen(c, out) })
	read.Go(func() { n.keep(c, errors) })
	go func() {
		read.Wait()
		n.ended = n.cmd.Wait()
		close(n.gone)
	}()
	c.mu.Lock()
	c.nodes[i] = n
	c.mu.Unlock()
	select {
	case <-ready:
	case <-n.gone:
		c.t.Errorf("node %d did not start: %v", i, n.ended)
	case <-time.After(patience):
		c.t.Errorf("node %d did not start within %v", i, patience)
	}
}

// listen notes deliveries, and passes answers on.
func (n *node) listen(c *trio, out io.Reader) {
	in := json.NewDecoder(out)
	for {
		var l line
		if err := in.Decode(&l); err != nil {
			return
		}
		if d := l.Delivery; d != nil {
			c.mu.Lock()
			c.history.Deliveries = append(c.history.Deliveries, *d)
			c.mu.Unlock()
			c.heard(*d)
		}
		if r := l.Reply; r != nil {
			n.mu.Lock()
			answer := n.waiting[r.ID]
			delete(n.waiting, r.ID)
			n.mu.Unlock()
			answer <- *r
		}
	}
}

// keep keeps the end of what a node logs, and all of it where histories are kept.
func (n *node) keep(c *trio, errors io.Reader) {
	if *keep != "" {
		f, err := os.Create(filepath.Join(*keep, fmt.Sprintf("%s-%d.%d.log", fileName(c.t), n.number, n.life)))
		if err != nil {
			c.t.Error(err)
			return
		}
		defer f.Close()
		errors = io.TeeReader(errors, f)
	}
	in := bufio.NewScanner(errors)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		n.mu.Lock()
		if n.said = append(n.said, in.Text()); len(n.said) > 400 {
			n.said = n.said[200:]
		}
		n.mu.Unlock()
	}
}

func (n *node) lastWords() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.said[max(0, len(n.said)-150):], "\n")
}

var errDied = errors.New("the node died")

// ask asks a node, and returns its answer, which may be long in coming.
func (n *node) ask(r request) (reply, error) {
	answer := make(chan reply, 1)
	n.mu.Lock()
	n.next++
	r.ID = n.next
	n.waiting[r.ID] = answer
	text, err := json.Marshal(r)
	if err == nil {
		_, err = n.in.Write(append(text, '\n'))
	}
	n.mu.Unlock()
	if err != nil {
		return reply{}, errDied
	}
	select {
	case a := <-answer:
		return a, nil
	case <-n.gone:
		select {
		case a := <-answer:
			return a, nil
		default:
			return reply{}, errDied
		}
	case <-time.After(patience):
		return reply{}, fmt.Errorf("node %d did not answer %s within %v", n.number, r.Do, patience)
	}
}

func (n *node) kill() {
	_ = n.cmd.Process.Kill()
	<-n.gone
}

func (c *trio) node(i int) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[i]
}

// do asks one node for something that belongs into the history, and returns what came of it. An ack of several messages is as many operations.
func (c *trio) do(r request) op {
	c.t.Helper()
	o := op{Kind: kind(r.Do), Node: r.Node, User: r.User, Fact: r.Fact, Key: r.Key, Session: r.Session, Begin: clock(), End: never}
	a, err := c.node(r.Node).ask(r)
	switch {
	case errors.Is(err, errDied):
		o.Outcome, o.Err = lost, err.Error()
	case err != nil:
		c.t.Error(err)
		o.Outcome, o.Err = lost, err.Error()
	default:
		o.Begin, o.End, o.Outcome, o.Err, o.Again = a.Begin, a.End, a.Outcome, a.Err, a.Again
		if a.Message != "" {
			o.Message = a.Message
		}
	}
	if o.Kind == "register" {
		o.Kind, o.Fact = set, exists
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.Kind != ack {
		c.history.Ops = append(c.history.Ops, o)
		return o
	}
	for _, o.Message = range r.Messages {
		c.history.Ops = append(c.history.Ops, o)
	}
	return o
}

// control asks a node for what does not belong into the history, and must work.
func (c *trio) control(i int, r request) reply {
	c.t.Helper()
	a, err := c.node(i).ask(r)
	if err == nil && a.Outcome != done {
		err = errors.New(a.Err)
	}
	if err != nil {
		c.t.Errorf("%s at node %d: %v", r.Do, i, err)
	}
	return a
}

// stop stops the process of a node, until what it returns is called.
func (c *trio) stop(i int) (resume func()) {
	c.t.Helper()
	n := c.node(i)
	begin := clock()
	c.mu.Lock()
	at := len(c.history.Pauses)
	c.history.Pauses = append(c.history.Pauses, pause{Node: i, Begin: begin, End: never})
	c.mu.Unlock()
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		c.t.Error(err)
	}
	return func() {
		if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			c.t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.history.Pauses[at].End = clock()
	}
}

// limit lets no file of a node's process grow beyond so many bytes.
func (c *trio) limit(i int, bytes uint64) {
	c.t.Helper()
	var l unix.Rlimit
	pid := c.node(i).cmd.Process.Pid
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &l); err != nil {
		c.t.Fatal(err)
	}
	l.Cur = min(bytes, l.Max)
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &l, nil); err != nil {
		c.t.Fatal(err)
	}
}

// close has a node close.
func (c *trio) close(i int) {
	c.t.Helper()
	n := c.node(i)
	n.mu.Lock()
	_, err := n.in.Write([]byte(`{"Do": "end"}` + "\n"))
	n.mu.Unlock()
	if err != nil {
		c.t.Errorf("node %d: %v", i, err)
	}
	select {
	case <-n.gone:
		if n.ended != nil {
			c.t.Errorf("node %d ended with %v", i, n.ended)
		}
	case <-time.After(patience):
		c.t.Errorf("node %d did not close within %v", i, patience)
	}
}

// end closes all nodes.
func (c *trio) end() {
	c.t.Helper()
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() { c.close(i) })
	}
	wg.Wait()
}
