package transporttest

import "context"

// signals are what waits for a number that only grows to reach some height.
// The lock of the number's owner guards them; the zero value is ready.
type signals []signal

type signal struct {
	height int
	ch     chan struct{}
}

// at returns a channel that is closed when the number, now at height now,
// reaches height.
func (s *signals) at(now, height int) <-chan struct{} {
	ch := make(chan struct{})
	if now >= height {
		close(ch)
	} else {
		*s = append(*s, signal{height, ch})
	}
	return ch
}

// raise says that the number is at height now.
func (s *signals) raise(now int) {
	left := (*s)[:0]
	for _, w := range *s {
		if now >= w.height {
			close(w.ch)
		} else {
			left = append(left, w)
		}
	}
	clear((*s)[len(left):])
	*s = left
}

func wait(ctx context.Context, reached <-chan struct{}) error {
	select {
	case <-reached:
		return nil
	default:
	}
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// gate holds calls back until it is opened.
type gate struct {
	opened chan struct{}
	hard   bool // the end of the context does not free those who wait
}

func (g *gate) pass(ctx context.Context) error {
	if g.hard {
		<-g.opened
		return nil
	}
	return wait(ctx, g.opened)
}
