package fanfaretest_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// example runs what would be a test, and prints what it reports.
func example(test func(t testing.TB)) {
	for _, r := range run(test) {
		fmt.Println(r)
	}
}

// run runs a test with a t of its own, and returns what it reports, at its end "PASS" or "FAIL".
func run(test func(t testing.TB)) (reports []string) {
	t := new(fakeT)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.goes(func() { test(t) })
	t.cancel()
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		f := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		t.goes(f)
	}
	if t.reports == nil {
		return []string{"PASS"}
	}
	return append(t.reports, "FAIL")
}

// fakeT is a testing.TB that keeps what is reported. What package fanfaretest does not need it does not have.
type fakeT struct {
	testing.TB
	ctx      context.Context
	cancel   context.CancelFunc
	mu       sync.Mutex
	cleanups []func()
	reports  []string
}

// goes runs f, which may end its goroutine.
func (t *fakeT) goes(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (t *fakeT) Helper()                  {}
func (t *fakeT) Context() context.Context { return t.ctx }
func (t *fakeT) Cleanup(f func())         { t.cleanups = append(t.cleanups, f) }

func (t *fakeT) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reports = append(t.reports, fmt.Sprintf(format, args...))
}

func (t *fakeT) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

func (t *fakeT) Error(args ...any) { t.Errorf("%s", strings.TrimSuffix(fmt.Sprintln(args...), "\n")) }

func (t *fakeT) Fatal(args ...any) {
	t.Error(args...)
	runtime.Goexit()
}

func (t *fakeT) TempDir() string {
	dir, err := os.MkdirTemp("", "fanfaretest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
