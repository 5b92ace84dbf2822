//go:build unix

package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// childVariable makes the server of the test's own program.
const childVariable = "FANFARE_IM_CHILD"

func init() {
	if os.Getenv(childVariable) != "" {
		main()
		os.Exit(0)
	}
}

// child is the server in a process of its own, with the race detector where the test has it.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	log    *bytes.Buffer // read after it has ended
	stdout sync.WaitGroup
	ended  bool
}

// startChild returns when the server listens.
func startChild(t *testing.T, listen, dir string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0], "-listen", listen, "-data", dir), log: new(bytes.Buffer)}
	c.cmd.Env = append(os.Environ(), childVariable+"=1")
	c.cmd.Stderr = c.log
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !c.ended {
			c.kill()
		}
	})
	said := bufio.NewScanner(out)
	for said.Scan() {
		if strings.Contains(said.Text(), "http://"+listen) {
			c.stdout.Go(func() { _, _ = io.Copy(io.Discard, out) })
			return c
		}
	}
	c.ended = true
	t.Fatalf("the server does not start: %v\n%s", c.cmd.Wait(), c.log)
	return nil
}

// kill ends the process as a power cut does, and returns when it has ended.
func (c *child) kill() {
	c.t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	c.wait()
}

// stop ends it as an operator does.
func (c *child) stop() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	if err := c.wait(); err != nil {
		c.t.Errorf("the server ended with %v\n%s", err, c.log)
	}
}

func (c *child) wait() error {
	c.t.Helper()
	c.stdout.Wait()
	err := c.cmd.Wait()
	c.ended = true
	if strings.Contains(c.log.String(), "DATA RACE") {
		c.t.Errorf("the server:\n%s", c.log)
	}
	return err
}
