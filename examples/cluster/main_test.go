//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// programVariable makes the program of the test's own executable. A node is made by its first argument, as in the program.
const programVariable = "FANFARE_CLUSTER_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" || len(os.Args) > 1 && os.Args[1] == "node" {
		main()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// numbers finds a line, where N is a number, and returns the numbers.
func numbers(t *testing.T, text, pattern string) (list []int) {
	t.Helper()
	found := regexp.MustCompile(`(?m)` + strings.ReplaceAll(pattern, "N", `(\d[\d,]*)`)).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("%q is not in:\n%s", pattern, text)
	}
	for _, digits := range found[1:] {
		n, err := strconv.Atoi(strings.ReplaceAll(digits, ",", ""))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

func TestStory(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), patience+time.Minute)
	defer cancel()
	if err := run(ctx, []string{"-users", "2000", "-clients", "300", "-pushes", "9", "-dir", t.TempDir()}, &out); err != nil {
		t.Fatalf("%v, after:\n%s", err, out.String())
	}
	t.Log("\n" + out.String())
	for _, node := range nodeNames {
		r := numbers(t, out.String(), `^ +`+node+` +N +N +N +N +N$`)
		clients, once, twice, lack, disordered := r[0], r[1], r[2], r[3], r[4]
		if clients != 100 || once+twice != 100 || lack != 0 || disordered != 0 || node != "c" && twice != 0 {
			t.Errorf("of %s: %v", node, r)
		}
	}
	if dead := numbers(t, out.String(), `c is dead \(signal: killed\)\. Its N clients`); dead[0] != 100 {
		t.Errorf("%d clients lost their node", dead[0])
	}
	if back := numbers(t, out.String(), `N of its clients leave a and b for it`); back[0] != 50 {
		t.Errorf("%d clients come back", back[0])
	}
	if each := numbers(t, out.String(), `N users have it, and that it waits for N\.`); each[0] != 300 || each[1] != 1700 {
		t.Errorf("the nodes say %v", each)
	}
}

// refusing is a way to a node that refuses all that it is asked for.
type refusing struct{ p *process }

func (w refusing) Write(b []byte) (int, error) {
	var r request
	if err := json.Unmarshal(b, &r); err != nil {
		return 0, err
	}
	go func() { // who asks holds p.mu
		w.p.mu.Lock()
		defer w.p.mu.Unlock()
		w.p.calls[r.Call] <- said{Error: "not today"}
	}()
	return len(b), nil
}

// TestNobodyIsKilled: the story ends when what the death waits for does not come, be it that nothing is accepted or that it does not arrive.
func TestNobodyIsKilled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &process{name: nodeNames[c], number: c, gone: make(chan struct{}), calls: make(map[int64]chan<- said)}
		p.lines = json.NewEncoder(refusing{p})
		s := &story{out: io.Discard, users: 3, clients: 3, pushes: 3, nodes: new(processes)}
		s.nodes.nodes[c] = p
		s.crowd = newCrowd(s.nodes, s.pushes)
		s.crowd.people = [...]int{1, 1, 1}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := s.kill(ctx); err == nil || ctx.Err() != nil {
			t.Error(err, ctx.Err())
		}
	})
}

// TestRows: the count tells of each thing that must not be.
func TestRows(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		got    []int
		struck int
		want   row
	}{
		{[]int{1, 2, 3}, 0, row{once: 1}},
		{[]int{1, 2, 3}, 2, row{once: 1}},
		{[]int{1, 2, 1, 2, 3}, 2, row{again: 1}},
		{[]int{1, 2, 2, 3}, 2, row{again: 1}},
		{[]int{1, 2, 2, 3}, 0, row{again: 1, odd: 1}},    // its node did not die
		{[]int{1, 2, 2, 3}, 3, row{again: 1, odd: 1}},    // twice from the one that died
		{[]int{1, 2, 2, 3}, 1, row{again: 1, odd: 1}},    // twice from the others
		{[]int{1, 2, 2, 2, 3}, 2, row{again: 1, odd: 1}}, // three times
		{[]int{1, 3}, 0, row{lack: 1}},
		{[]int{1, 1, 3}, 1, row{lack: 1}},
		{nil, 0, row{lack: 1}},
		{[]int{1, 3, 2}, 0, row{once: 1, disordered: 1}},
		{[]int{2, 3, 1, 2, 3}, 2, row{again: 1, disordered: 1}},
	} {
		crowd := newCrowd(nil, 3)
		crowd.clients = []*client{{home: b, got: tc.got, struck: tc.struck}}
		tc.want.clients = 1
		if rows, err := crowd.rows(); err != nil || rows != [...]row{{}, tc.want, {}} {
			t.Errorf("%v, with %d before its node died: %+v, %v; want %+v", tc.got, tc.struck, rows[b], err, tc.want)
		}
	}
}

// TestHear: what clients cannot make sense of is an error.
func TestHear(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]said{
		`a message of "4"`: {Message: "x", Body: "4", To: []string{"alice"}},
		`a message of ""`:  {Message: "x", To: []string{"alice"}},
		"announcement 1 is two messages, first and second": {Message: "second", Body: "1", To: []string{"alice"}},
		"a message for bob, who has no client":             {Message: "x", Body: "2", To: []string{"bob"}},
	} {
		crowd := newCrowd(nil, 3)
		crowd.clients = []*client{{user: "alice"}}
		crowd.byUser["alice"] = crowd.clients[0]
		crowd.hear(&said{Message: "first", Body: "1", To: []string{"alice"}})
		if _, err := crowd.rows(); err != nil {
			t.Fatal(err)
		}
		crowd.hear(&s)
		if _, err := crowd.rows(); err == nil || err.Error() != want {
			t.Errorf("%+v: %v, want %s", s, err, want)
		}
	}
}

// program is the program in a process of its own.
type program struct {
	*testing.T
	cmd       *exec.Cmd
	errors    bytes.Buffer
	temp      string // the directory in which it makes temporary ones
	out       *bufio.Reader
	addresses []string // of its nodes
	nodes     []int    // their processes
}

// startProgram returns when clients are connected to its nodes.
func startProgram(t *testing.T) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience+time.Minute)
	t.Cleanup(cancel)
	p := &program{T: t, temp: t.TempDir(), cmd: exec.CommandContext(ctx, os.Args[0], "-users", "2000", "-clients", "300", "-pushes", "3000")}
	p.cmd.Env = append(os.Environ(), programVariable+"=1", "TMPDIR="+p.temp)
	p.cmd.Stderr = &p.errors
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	p.out = bufio.NewReader(out)
	address := regexp.MustCompile(`at (127\.0\.0\.1:\d+) is process (\d+)`)
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			t.Fatal(err, p.end(), p.errors.String())
		}
		if found := address.FindStringSubmatch(line); found != nil {
			node, err := strconv.Atoi(found[2])
			if err != nil {
				t.Fatal(err)
			}
			p.addresses, p.nodes = append(p.addresses, found[1]), append(p.nodes, node)
		}
		if strings.Contains(line, "users connect") {
			break
		}
	}
	if len(p.addresses) != len(nodeNames) {
		t.Fatalf("the nodes are at %v", p.addresses)
	}
	return p
}

// end waits until the program has ended.
func (p *program) end() error {
	p.Helper()
	if _, err := io.Copy(io.Discard, p.out); err != nil {
		p.Fatal(err)
	}
	return p.cmd.Wait()
}

// listening says whether a process has an address.
func listening(address string) bool {
	l, err := net.Listen("tcp", address)
	if err == nil {
		l.Close()
	}
	return err != nil
}

// TestInterrupted: nothing is left of it.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	for _, address := range p.addresses {
		if !listening(address) {
			t.Errorf("nobody listens at %s, so that this test shows nothing", address)
		}
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.end(); err == nil || p.errors.String() != "cluster: interrupted\n" {
		t.Errorf("it ended with %v, and said %q", err, &p.errors)
	}
	for _, address := range p.addresses {
		if listening(address) {
			t.Errorf("a node is left at %s", address)
		}
	}
	if left, err := os.ReadDir(p.temp); err != nil || len(left) > 0 {
		t.Errorf("these files are left: %v, %v", left, err)
	}
}

// TestKilled: when the program is killed its nodes end.
func TestKilled(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = p.end()
	over := time.After(time.Minute)
	for _, address := range p.addresses {
		for listening(address) {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-over:
				t.Fatalf("a node is left at %s", address)
			}
		}
	}
}

// TestNodeAlone: a node ends with its input also while it waits for the others, and has been asked for things by then.
func TestNodeAlone(t *testing.T) {
	t.Parallel()
	addresses, err := freeAddresses(3)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := []string{"-name", "a", "-listen", addresses[0], "-peers", strings.Join(addresses, ","), "-dir", t.TempDir()}
	if err := runNode(ctx, args, strings.NewReader(`{"Call":1,"Look":true}{"Call":2,"Look":true}`), io.Discard, t.Output()); err != nil || ctx.Err() != nil {
		t.Error(err, ctx.Err())
	}
}

// TestNodeDies: a node that dies without being meant to is an error, with what the node said last.
func TestNodeDies(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	if err := syscall.Kill(p.nodes[1], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.end(); err == nil || !strings.HasPrefix(p.errors.String(), "cluster: b: the node is gone (signal: killed)\n") {
		t.Errorf("it ended with %v, and said %q", err, &p.errors)
	}
	for _, address := range p.addresses {
		if listening(address) {
			t.Errorf("a node is left at %s", address)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	if err := os.WriteFile(full+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"-clients 2", []string{"-clients", "2"}},
		{"-clients 11", []string{"-users", "10", "-clients", "11"}},
		{"-pushes 2", []string{"-pushes", "2"}},
		{"is not a flag", []string{"users"}},
		{"is not empty", []string{"-dir", full}},
	} {
		if err := run(t.Context(), tc.args, io.Discard); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: error %v, want %q in it", tc.args, err, tc.want)
		}
	}
}
