package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// built is the binary, in a directory of its own, from the first test that runs it.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fanfare-command-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "fanfare.exe")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		return program, fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
})

func program(t testing.TB) string {
	t.Helper()
	path, err := built()
	must(t, err)
	used.Store(true)
	return path
}

// used says that there is a binary to remove.
var used atomic.Bool

// childVariable tells a process of this test that it is to be killed, and names its directory.
const childVariable = "FANFARE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dir))
		os.Exit(1)
	}
	code := m.Run()
	if used.Load() {
		path, _ := built()
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// outcome is what a process has said, and how it exited.
type outcome struct {
	out, err string
	code     int
}

// fanfareCommand runs the binary with an input.
func fanfareCommand(t testing.TB, input string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program(t), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// wantOut runs the binary, which must exit with 0 and say nothing on standard error.
func wantOut(t testing.TB, args ...string) string {
	t.Helper()
	o := fanfareCommand(t, "", args...)
	if o.code != 0 || o.err != "" {
		t.Fatalf("%q exits with %d:\n%s", args, o.code, o.err)
	}
	return o.out
}

// wantCode runs the binary, which must exit with the code and say why.
func wantCode(t testing.TB, code int, why string, args ...string) {
	t.Helper()
	o := fanfareCommand(t, "", args...)
	if o.code != code || !strings.Contains(o.err, why) || o.err == "" {
		t.Errorf("%q exits with %d, not %d, and says:\n%s", args, o.code, code, o.err)
	}
}

// town makes a directory with a little of everything, and closes it. It returns the IDs of the tasks, oldest first: one that was withdrawn, one that is running, and one that
// Wei alone still waits for.
func town(t testing.TB, dir string) []string {
	t.Helper()
	return townOf(t, dir, append(people(), fanfare.User{ID: "line\nbreak \"quoted\" \u2028"}))
}

func people() []fanfare.User {
	return []fanfare.User{
		{
			ID: "alice", Tags: []string{"vip", "stock A"}, Attributes: map[string]string{"city": "Shenzhen", "spend": "1200.5", "birthday": "1990-02-28"},
			Devices: []fanfare.Device{{Platform: "apns", Token: "token-alice", Topic: "im.example", Locale: "zh-Hans-CN", TimeZone: "Asia/Shanghai"}},
		},
		{ID: "bob", OptOuts: []string{"news"}, Attributes: map[string]string{"city": "Shenzhen"}, Devices: []fanfare.Device{{Platform: "apns", Token: "token-bob"}, {Platform: "fcm", Token: "b2"}}},
		{ID: "carol", Tags: []string{"vip"}, Attributes: map[string]string{"city": "München <&>", "spend": "-3"}},
		{ID: "张伟", Tags: []string{"深圳"}},
	}
}

func townOf(t testing.TB, dir string, users []fanfare.User) []string {
	t.Helper()
	ctx := context.Background()
	phones := transporttest.NewPhones("apns")
	phones.Reject("BadTopic", "token-bob")
	p, err := fanfare.Open(dir, fanfare.Options{KeepAudiences: true, Mobile: []transport.Mobile{phones}, Grace: -1})
	must(t, err)
	must(t, p.SetAttributeTypes(ctx, map[int]fanfare.AttributeType{1: fanfare.Number(2), 4: fanfare.Date}))
	must(t, p.SetAttributeNames(ctx, map[int]string{0: "city", 1: "spend", 4: "birthday"}))
	_, err = p.Import(ctx, func(yield func(fanfare.User, error) bool) {
		for _, u := range users {
			if !yield(u, nil) {
				return
			}
		}
	}, nil)
	must(t, err)
	must(t, p.SaveAudience(ctx, "locals", fanfare.Attr("city", "Shenzhen")))
	_, err = p.Plan(ctx, fanfare.Plan{Message: fanfare.Message{To: fanfare.All(), Lifetime: time.Hour}, At: time.Now().Add(24 * time.Hour)})
	must(t, err)
	var ids []string
	for _, m := range []fanfare.Message{
		{From: "operator", Body: []byte("sale"), To: fanfare.Tag("vip"), Key: "sale-1", Lifetime: time.Hour},
		{From: "operator", Body: []byte("The lounge is open tonight."), To: fanfare.All(), Category: "news", Lifetime: 7 * 24 * time.Hour, Notification: &fanfare.Notification{Title: "Tonight"}},
		{Body: []byte("hello"), To: fanfare.Users("alice", "张伟"), Lifetime: 24 * time.Hour},
	} {
		task, err := p.Push(ctx, m)
		must(t, err)
		must(t, task.Wait(ctx))
		ids = append(ids, task.ID)
	}
	must(t, p.Ack(ctx, "alice", ids[0], ids[2]))
	must(t, p.Withdraw(ctx, ids[0]))
	must(t, p.Close(ctx))
	return ids
}

// writeUntilKilled imports users and pushes to them, and says so; it goes on until it is killed.
func writeUntilKilled(dir string) error {
	ctx := context.Background()
	p, err := fanfare.Open(dir, fanfare.Options{})
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		users := make([]string, 1000)
		for n := range users {
			users[n] = fmt.Sprintf("u%06d", 1000*i+n)
		}
		if err := p.Register(ctx, users...); err != nil {
			return err
		}
		if err := p.AddTags(ctx, users[0], "first"); err != nil {
			return err
		}
		if _, err := p.Push(ctx, fanfare.Message{To: fanfare.All(), Lifetime: time.Hour, Body: []byte("x")}); err != nil {
			return err
		}
		fmt.Println(i + 1)
	}
}

// killed makes a directory whose process was killed in the middle, after it has said that so many thousand users are durable.
func killed(t *testing.T, dir string, thousands int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+dir)
	var errs bytes.Buffer
	child.Stderr = &errs
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	done := false
	for lines := bufio.NewScanner(out); !done && lines.Scan(); {
		done = lines.Text() == fmt.Sprint(thousands)
	}
	must(t, child.Process.Kill())
	if err := child.Wait(); !done || err == nil {
		t.Fatalf("the child has ended: %v\n%s", err, errs.String())
	}
}

// contents are the files of a directory, byte by byte.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	files := make(map[string]string)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		files[e.Name()] = string(b)
	}
	return files
}
