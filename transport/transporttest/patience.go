package transporttest

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// patience is how long the suite waits for what should happen at once. It only
// passes when something is broken, so it is generous: machines that run tests
// are busy.
const patience = 10 * time.Second

// reporter is the part of *testing.T that the checks use, so that the suite's
// own tests can see a check fail.
type reporter interface {
	Helper()
	// Fatalf ends the calling goroutine.
	Fatalf(format string, args ...any)
}

// within runs f in a goroutine of its own and waits for it no longer than
// patience. The error is not f's: it says that f panicked or did not return.
func within[T any](what string, f func() T) (T, error) {
	type outcome struct {
		value  T
		broken error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if r := recover(); r != nil {
				o.broken = fmt.Errorf("%s panicked: %v\n%s", what, r, debug.Stack())
			}
			done <- o
		}()
		o.value = f()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case o := <-done:
		return o.value, o.broken
	case <-timer.C:
		var zero T
		return zero, fmt.Errorf("%s did not return within %v", what, patience)
	}
}

// patient is a context that ends with the suite's patience.
func patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
