package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// nodeNames are the three nodes. One can be lost: changes take more than half.
var nodeNames = [...]string{"a", "b", "c"}

// processes are the nodes, as the process that starts them sees them.
type processes struct {
	dir       string
	addresses []string
	heard     func(message *said) // called with what comes for clients, in the order of each node
	failed    func(error)         // called when a node ends that nobody has ended

	mu    sync.Mutex
	nodes [len(nodeNames)]*process // nil: not up
}

// process is a node that was started once.
type process struct {
	number int
	name   string
	cmd    *exec.Cmd
	log    string        // file of what it logs
	gone   chan struct{} // closed when it has ended, and all that it said was heard
	ended  atomic.Bool   // by us
	in     io.WriteCloser

	mu    sync.Mutex
	lines *json.Encoder // to in
	last  int64
	calls map[int64]chan<- said
}

var (
	errDown = errors.New("the node is not up")
	errGone = errors.New("the node is gone")
)

// start starts a node: this program again. It is up when it answers.
func (ps *processes) start(i int) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	name := nodeNames[i]
	p := &process{
		number: i, name: name, log: filepath.Join(ps.dir, name+".log"), gone: make(chan struct{}), calls: make(map[int64]chan<- said),
		cmd: exec.Command(self, "node", "-name", name, "-listen", ps.addresses[i], "-peers", strings.Join(ps.addresses, ","), "-dir", filepath.Join(ps.dir, name)),
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	p.lines = json.NewEncoder(p.in)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.listen(out, ps.heard, ps.failed)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.nodes[i] = p
	return p, nil
}

// at is a node's process.
func (ps *processes) at(i int) (*process, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.nodes[i]
	if p == nil {
		return nil, errDown
	}
	select {
	case <-p.gone:
		return nil, errDown
	default:
		return p, nil
	}
}

// stop ends all nodes, in order if they take no more than 15 s for it.
func (ps *processes) stop() error {
	var all sync.WaitGroup
	errs := make([]error, len(nodeNames))
	for i := range nodeNames {
		if p, err := ps.at(i); err == nil {
			all.Go(func() { errs[i] = p.stop(15 * time.Second) })
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

// listen hears what the node says until it has ended. What it has written is heard also if it was killed then, as what is in the network arrives.
func (p *process) listen(out io.Reader, heard func(*said), failed func(error)) {
	for lines := json.NewDecoder(out); ; {
		var s said
		if lines.Decode(&s) != nil { // the end, or a line that was cut off by it
			break
		}
		if s.Call == 0 {
			heard(&s)
			continue
		}
		p.mu.Lock()
		answer := p.calls[s.Call]
		delete(p.calls, s.Call)
		p.mu.Unlock()
		if answer != nil {
			answer <- s
		}
	}
	_, _ = io.Copy(io.Discard, out)
	_ = p.cmd.Wait() // ProcessState has it
	close(p.gone)
	if !p.ended.Load() {
		failed(p.lost())
	}
}

// do asks for something, and returns the answer.
func (p *process) do(ctx context.Context, r request) (said, error) {
	answer := make(chan said, 1)
	p.mu.Lock()
	p.last++
	r.Call = p.last
	p.calls[r.Call] = answer
	err := p.lines.Encode(r)
	p.mu.Unlock()
	if err != nil {
		// It is just ending. Who waits for that gets all that it said.
		select {
		case <-p.gone:
		case <-ctx.Done():
		}
		return said{}, p.lost()
	}
	select {
	case a := <-answer:
		if a.Error != "" {
			return said{}, fmt.Errorf("%s: %s", p.name, a.Error)
		}
		return a, nil
	case <-p.gone:
		return said{}, p.lost()
	case <-ctx.Done():
		return said{}, ctx.Err()
	}
}

// lost says how the process ended.
func (p *process) lost() error {
	select {
	case <-p.gone:
		return fmt.Errorf("%s: %w (%s)%s", p.name, errGone, p.cmd.ProcessState, p.tail())
	default:
		return fmt.Errorf("%s: %w", p.name, errGone)
	}
}

// tail is the end of a node's log, of which nothing may be left to look at later.
func (p *process) tail() string {
	log, err := os.ReadFile(p.log)
	if err != nil || len(log) == 0 {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	return "\n" + string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}

// kill ends the process as a power cut does. It is gone when what it had said by then was heard.
func (p *process) kill() error {
	p.ended.Store(true)
	return p.cmd.Process.Kill()
}

// stop ends the process as an operator does, and kills it if that takes too long.
func (p *process) stop(patience time.Duration) error {
	p.ended.Store(true)
	p.in.Close()
	select {
	case <-p.gone:
	case <-time.After(patience):
		if err := p.kill(); err != nil {
			return err
		}
		<-p.gone
		return fmt.Errorf("%s did not end within %s, and was killed%s", p.name, patience, p.tail())
	}
	if !p.cmd.ProcessState.Success() {
		return p.lost()
	}
	return nil
}

// freeAddresses are of loopback, where nobody listens, and with ports that no connection is made from: while a node is away the others try to connect to it,
// and a connection to such a port might be made from the same one, and so with itself.
func freeAddresses(n int) (list []string, err error) {
	for try := 0; len(list) < n; try++ {
		address := fmt.Sprint("127.0.0.1:", 20000+rand.IntN(10000))
		l, err := net.Listen("tcp", address)
		if err != nil {
			if try == 100 {
				return nil, err
			}
			continue
		}
		defer l.Close()
		list = append(list, address)
	}
	return list, nil
}
