package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// childVariable makes the server of the test's own program.
const childVariable = "FANFARE_SERVER_CHILD"

func init() {
	if os.Getenv(childVariable) != "" {
		main()
		os.Exit(0)
	}
}

// startChild is start in a process of its own, by the command line that the README has. Stop kills it, so that it finishes nothing.
func startChild(t *testing.T, dir string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-listen", "127.0.0.1:0", "-data", dir, "-sdkappid", fmt.Sprint(testAppID), "-key", testKey, "-admin", "administrator")
	cmd.Env = append(os.Environ(), childVariable+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, log: new(lines)}
	said := bufio.NewScanner(stderr)
	next := func() bool { // the next line of its log
		more := said.Scan()
		if more {
			fmt.Fprintln(p.log, said.Text())
		}
		return more
	}
	var reading sync.WaitGroup
	p.stop = sync.OnceFunc(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		reading.Wait()
		_ = cmd.Wait() // killed
		http.DefaultClient.CloseIdleConnections()
		p.log.noSecrets(t)
	})
	t.Cleanup(p.stop)
	for p.base == "" && next() {
		var line struct{ Msg, Address string }
		if err := json.Unmarshal(said.Bytes(), &line); err == nil && line.Msg == "serving" {
			p.base = line.Address
		}
	}
	reading.Go(func() {
		for next() {
		}
	})
	if p.base == "" {
		t.Fatalf("the server does not start:\n%s", p.log)
	}
	return p
}
