package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// pacedTaker takes a number of bytes at once, and none behind a number of them until it is let go on.
type pacedTaker struct {
	bytes.Buffer
	piece, until int
	goOn         chan struct{}
	failed       error
}

func (p *pacedTaker) Ready(ctx context.Context) (int, error) {
	if p.Len() >= p.until {
		select {
		case <-p.goOn:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if p.failed != nil {
		return 0, p.failed
	}
	return p.piece, nil
}

func (p *pacedTaker) Write(b []byte) (int, error) {
	if len(b) > p.piece {
		return 0, errors.New("more than was asked for")
	}
	return p.Buffer.Write(b)
}

// sendable is a store of a log with users in it.
func sendable(t *testing.T, dir string, l *memoryLog) *Store {
	t.Helper()
	s := openLogged(t, dir, l)
	for i := range 300 {
		register(t, s, fmt.Sprint("user", i))
	}
	return s
}

func spools(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "backup-*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestSend: what is sent is the state of when it was begun, and a directory from which the log goes on. Of a taker who is fast enough there is no copy; the rest for one who
// is not is copied, after seconds in which the fold waits, and the store goes on while that is sent.
func TestSend(t *testing.T) {
	t.Parallel()
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprint(slow), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, dir, l := t.Context(), t.TempDir(), newMemoryLog()
				s := sendable(t, dir, l)
				p := &pacedTaker{piece: 1000, until: 1 << 30, goOn: make(chan struct{})}
				if slow {
					p.until = 5500
				}
				var at uint64
				var size int64
				sent := make(chan error, 1)
				go func() {
					sent <- s.Send(ctx, func(position uint64, n int64) (Taker, error) {
						at, size = position, n
						return p, nil
					})
				}()
				synctest.Wait()
				if list := spools(t, dir); len(list) != 0 {
					t.Error("there are", list)
				}
				register(t, s, "later")
				if slow {
					checked := make(chan error, 1)
					go func() { checked <- s.Checkpoint(ctx) }()
					synctest.Wait()
					select {
					case err := <-checked:
						t.Error("the fold has not waited:", err)
					default:
					}
					time.Sleep(sendPatience)
					synctest.Wait()
					if list := spools(t, dir); len(list) != 1 {
						t.Error("there are", list)
					}
					select {
					case err := <-checked:
						if err != nil {
							t.Error(err)
						}
					default:
						t.Error("the fold waits for who takes nothing")
					}
					close(p.goOn)
				}
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
				if list := spools(t, dir); len(list) != 0 {
					t.Error("there are", list)
				}
				if at != 300 || int64(p.Len()) != size {
					t.Fatalf("%d bytes of %d at %d", p.Len(), size, at)
				}
				other := filepath.Join(t.TempDir(), "other")
				if err := Receive(ctx, other, &p.Buffer, l.id, at); err != nil {
					t.Fatal(err)
				}
				place, err := PlaceOf(other)
				if err != nil || place.Position != at || place.Log == nil || *place.Log != l.id {
					t.Fatal(place, err)
				}
				again := openLogged(t, other, l)
				want, err := s.Digest(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := again.Digest(ctx); err != nil || got != want {
					t.Errorf("%x, not %x (%v)", got, want, err)
				}
				if err := again.Check(ctx); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestSendEnds: a taker that fails and a store that is closed end what is sent, with and without a copy, and leave nothing behind.
func TestSendEnds(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 2 * sendPatience} {
		for _, closes := range []bool{false, true} {
			t.Run(fmt.Sprint(after, closes), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					dir := t.TempDir()
					s := sendable(t, dir, newMemoryLog())
					p := &pacedTaker{piece: 1000, until: 5500, goOn: make(chan struct{})}
					sent := make(chan error, 1)
					go func() { sent <- s.Send(t.Context(), func(uint64, int64) (Taker, error) { return p, nil }) }()
					time.Sleep(after)
					synctest.Wait()
					want := ErrClosed
					if closes {
						if err := s.Close(t.Context()); err != nil {
							t.Error(err)
						}
					} else {
						want = errors.New("the test's")
						p.failed = want
						close(p.goOn)
					}
					if err := <-sent; !errors.Is(err, want) {
						t.Error(err)
					}
					if list := spools(t, dir); len(list) != 0 {
						t.Error("there are", list)
					}
					if err := s.Send(t.Context(), func(uint64, int64) (Taker, error) { return nil, want }); !errors.Is(err, want) {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestReceiveRefuses: what is not what was sent makes no directory.
func TestReceiveRefuses(t *testing.T) {
	t.Parallel()
	ctx, l := t.Context(), newMemoryLog()
	s := sendable(t, t.TempDir(), l)
	p := &pacedTaker{piece: 1 << 20, until: 1 << 30}
	if err := s.Send(ctx, func(uint64, int64) (Taker, error) { return p, nil }); err != nil {
		t.Fatal(err)
	}
	whole, broken := p.Bytes(), errors.New("broken")
	place, err := os.ReadFile(filepath.Join(s.dir, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		r        io.Reader
		log      [16]byte
		position uint64
		want     error
	}{
		"nothing":          {bytes.NewReader(nil), l.id, 300, ErrDamaged},
		"cut short":        {bytes.NewReader(whole[:len(whole)/2]), l.id, 300, ErrDamaged},
		"no blocks":        {bytes.NewReader(place), l.id, 300, ErrForeignFile},
		"another log":      {bytes.NewReader(whole), [16]byte{1}, 300, ErrForeignFile},
		"another position": {bytes.NewReader(whole), l.id, 299, ErrDamaged},
		"an error":         {io.MultiReader(bytes.NewReader(whole), iotest.ErrReader(broken)), l.id, 300, broken},
	} {
		dir := filepath.Join(t.TempDir(), "new")
		if err := Receive(ctx, dir, c.r, c.log, c.position); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: there is a directory, %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := Receive(ctx, dir, bytes.NewReader(whole), l.id, 300); !errors.Is(err, os.ErrExist) {
		t.Error("into one that is there:", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Error(entries, err)
	}
}
