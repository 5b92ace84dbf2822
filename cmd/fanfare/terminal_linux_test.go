package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTerminal: where standard error is a terminal long work is shown there, unless it is not to be, and what is shown is gone at the end.
func TestTerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	crowd(t, dir)
	for flag, shown := range map[string]bool{"--progress": true, "--no-progress": false, "--json": true} {
		out, terminal := onTerminal(t, "backup", dir, filepath.Join(t.TempDir(), "backup.tar"), flag)
		if strings.Contains(terminal, "backup") != shown || strings.ContainsAny(out, "\r\x1b") || out == "" {
			t.Errorf("%s: %q, and on the terminal %q", flag, out, terminal)
		}
		last := terminal[strings.LastIndexAny(terminal, "\r\n")+1:]
		if strings.TrimRight(strings.TrimPrefix(last, "\x1b[2K"), " ") != "" {
			t.Errorf("%s: %q stays", flag, last)
		}
	}
}

// TestTerminalLines: an export that is seen on a terminal has no bar between its lines.
func TestTerminalLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	crowd(t, dir)
	if _, terminal := onTerminal(t, "export", dir); !strings.Contains(terminal, "export") {
		t.Errorf("%q", terminal)
	}
	terminal, slave := openTerminal(t)
	cmd := exec.Command(program(t), "export", dir, "--to", `user:"user-7"`)
	cmd.Stdout, cmd.Stderr = slave, slave
	must(t, cmd.Start())
	must(t, slave.Close())
	seen, _ := io.ReadAll(terminal)
	must(t, cmd.Wait())
	if n := strings.Count(string(seen), "\n"); n != 2 || strings.Contains(string(seen), "export") {
		t.Errorf("%q", seen)
	}
}

// TestTerminalArchive: an archive is refused to a terminal, which would act upon what is in it.
func TestTerminalArchive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	town(t, dir)
	terminal, slave := openTerminal(t)
	cmd := exec.Command(program(t), "backup", dir, "-")
	cmd.Stdout, cmd.Stderr = slave, slave
	must(t, cmd.Start())
	must(t, slave.Close())
	seen, _ := io.ReadAll(terminal)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitUsage || strings.TrimSpace(string(seen)) != "fanfare: standard output is a terminal, which an archive is not for" {
		t.Errorf("%d, %.200q", code, seen)
	}
}

// onTerminal runs the binary with a terminal as standard error.
func onTerminal(t *testing.T, args ...string) (out, terminal string) {
	t.Helper()
	master, slave := openTerminal(t)
	var b bytes.Buffer
	cmd := exec.Command(program(t), args...)
	cmd.Stdout, cmd.Stderr = &b, slave
	must(t, cmd.Start())
	must(t, slave.Close())
	seen, _ := io.ReadAll(master) // ends with EIO, when nobody has the other end
	must(t, cmd.Wait())
	return b.String(), string(seen)
}

// openTerminal returns both ends of one: what is shown, and what a process writes to.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { master.Close() })
	must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(t, err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	return master, slave
}
