package store

import "context"

// lock is a mutex for which a wait can be given up: who holds it may do so for as long as it takes to read the files.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) Lock() { l <- struct{}{} }

func (l lock) Unlock() { <-l }

// lockUntil locks, or returns the error of a context that ends first.
func (l lock) lockUntil(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
