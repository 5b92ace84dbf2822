package embedding

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgresPrograms is the directory of the newest server's programs. Without one the test is skipped.
func postgresPrograms(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(path)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		t.Skip("no PostgreSQL server is installed")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1])
}

// startPostgres starts a server in a directory of its own until the test ends, and returns its URL.
func startPostgres(t *testing.T, programs string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "embedding-postgres") // and not t.TempDir, which another user cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var as *syscall.SysProcAttr
	if os.Geteuid() == 0 { // whom PostgreSQL refuses to serve
		as = &syscall.SysProcAttr{Credential: unprivileged(t)}
		if err := os.Chown(dir, int(as.Credential.Uid), int(as.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(programs, program), args...)
		cmd.Dir, cmd.SysProcAttr = dir, as
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := run("initdb", "-D", data, "-U", "chat", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	server := run("postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", "", "-c", "fsync=off")
	var log bytes.Buffer
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGQUIT) // at once, nothing of it is kept
		<-ended
	})
	url := fmt.Sprintf("postgres://chat@%s/postgres?sslmode=disable", address)
	for until := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		db, err := pgx.Connect(context.Background(), url)
		if err == nil {
			db.Close(context.Background())
			return url
		}
		select {
		case err := <-ended:
			t.Fatalf("postgres: %v\n%s", err, log.Bytes())
		default:
		}
		if time.Now().After(until) {
			t.Fatal("postgres takes nobody: ", err)
		}
	}
}

func unprivileged(t *testing.T) *syscall.Credential {
	t.Helper()
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Skip("root cannot run PostgreSQL, and there is no user postgres or nobody")
	return nil
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
