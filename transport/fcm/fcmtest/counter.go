package fcmtest

import (
	"context"
	"slices"
	"sync"
)

// counter counts up and wakes who waits for a number.
type counter struct {
	mu    sync.Mutex
	n     int
	waits []wait
}

type wait struct {
	n       int
	reached chan struct{}
}

func (c *counter) add() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if len(c.waits) > 0 {
		c.waits = slices.DeleteFunc(c.waits, func(w wait) bool {
			if w.n > c.n {
				return false
			}
			close(w.reached)
			return true
		})
	}
	return c.n
}

func (c *counter) value() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// wait returns when n is reached, ctx is done or closed is closed.
func (c *counter) wait(ctx context.Context, n int, closed <-chan struct{}) error {
	w := wait{n, make(chan struct{})}
	c.mu.Lock()
	if c.n >= n {
		c.mu.Unlock()
		return nil
	}
	c.waits = append(c.waits, w)
	c.mu.Unlock()
	var err error
	select {
	case <-w.reached:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-closed:
		err = ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.waits)
	c.waits = slices.DeleteFunc(c.waits, func(o wait) bool { return o.reached == w.reached })
	if len(c.waits) == before {
		return nil // it was reached at the same moment
	}
	return err
}
