//go:build linux || darwin

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	children["journal without room"] = func() error { return withoutRoom(fillJournal) }
	children["fold without room"] = func() error { return withoutRoom(fillBlocks) }
}

// room is a store in a process whose files may not be larger than a limit. What the system says then is what it says of
// a full disk.
type room struct {
	s        *Store
	dir      string
	was      syscall.Rlimit
	Accepted []uint64 // pushes that were answered, for the parent
	Refused  int
}

func withoutRoom(fill func(*room) error) error {
	signal.Ignore(syscall.SIGXFSZ) // so that a write that is too long is an error
	r := &room{dir: os.Getenv("FANFARE_DIR")}
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &r.was); err != nil {
		return err
	}
	if err := fill(r); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func (r *room) open(o Options) (err error) {
	if r.s, err = Open(r.dir, o, nil); err != nil {
		return err
	}
	_, err = r.s.Propose(context.Background(), &Batch{Ops: []UserOp{registerOp("a"), registerOp("b")}})
	return err
}

// limit bounds the size of files, or takes the bound away.
func (r *room) limit(bytes uint64) error {
	l := r.was
	if bytes > 0 {
		l.Cur = bytes
	}
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l)
}

// body is what the message of a sequence has, so that each can be told.
func body(seq uint64) []byte { return fmt.Appendf(nil, "%500d", seq) }

func (r *room) push() error {
	c := &Push{Body: body(r.s.LastSeq() + 1), To: &Expr{Op: OpAll}, Lifetime: time.Hour.Milliseconds()}
	p, err := r.s.Propose(context.Background(), c)
	switch {
	case err == nil:
		r.Accepted = append(r.Accepted, p.(PushResult).Seq)
	case errors.Is(err, ErrNoRoom) && !errors.Is(err, ErrOutcomeUnknown) && r.s.Refused() == nil:
		r.Refused++
	default:
		return fmt.Errorf("after %d pushes: %w", len(r.Accepted), err)
	}
	return err
}

// fill pushes until there is no room, and then some more.
func (r *room) fill() (err error) {
	for range 1000 {
		if err = r.push(); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrNoRoom) {
		return fmt.Errorf("%d pushes, and there is room: %w", len(r.Accepted), err)
	}
	first := err
	for range 5 {
		if err := r.push(); !errors.Is(err, ErrNoRoom) {
			return fmt.Errorf("again: %w", err)
		}
	}
	if n, err := r.s.Count(context.Background(), &Expr{Op: OpAll}); err != nil || n != 2 { // reads go on
		return fmt.Errorf("count: %d, %w", n, err)
	}
	if got, err := r.s.PendingOf(1, 0, 10_000); err != nil || len(got) != len(r.Accepted) {
		return fmt.Errorf("%d are pending, %d were accepted: %w", len(got), len(r.Accepted), err)
	}
	return first
}

// fillJournal has no room for the journal, and then for copies. It ends without a Close.
func fillJournal(r *room) error {
	ctx := context.Background()
	if err := r.open(Options{DeltaBytes: 1 << 30}); err != nil {
		return err
	}
	// The files have 32 KiB from the start; beyond that bbolt takes 16 MiB at a time.
	if err := r.limit(1 << 20); err != nil {
		return err
	}
	if err := r.fill(); !strings.Contains(err.Error(), journalFile) {
		return fmt.Errorf("it is the journal that has no room: %w", err)
	}
	for _, least := range []uint64{100, 5_000, 10_000} { // from the first byte of a copy on, and later
		if err := r.limit(least); err != nil {
			return err
		}
		if err := r.s.Backup(ctx, io.Discard); !errors.Is(err, ErrNoRoom) {
			return fmt.Errorf("a backup in files of %d bytes: %w", least, err)
		}
	}
	if err := r.s.Compact(ctx); !errors.Is(err, ErrNoRoom) {
		return fmt.Errorf("compact: %w", err)
	}
	if left, err := filepath.Glob(filepath.Join(r.dir, "backup-*")); err != nil || len(left) > 0 {
		return fmt.Errorf("left behind: %v, %w", left, err)
	}
	if err := r.limit(0); err != nil {
		return err
	}
	for range 3 {
		if err := r.push(); err != nil {
			return err
		}
	}
	return nil
}

// fillBlocks has room for the journal, which is cut as it is folded, and none for what is folded.
func fillBlocks(r *room) error {
	if err := r.open(Options{DeltaBytes: 10 << 10}); err != nil {
		return err
	}
	_, err := r.s.Propose(context.Background(), &Batch{Ops: []UserOp{{Kind: OpRemoveDevices, ID: "a", Devices: []Device{{Token: string(make([]byte, 100_000))}}}}})
	if err != nil { // it takes the journal's 16 MiB
		return err
	}
	if err := r.limit(1 << 20); err != nil {
		return err
	}
	if err := r.fill(); !strings.Contains(err.Error(), blocksFile) {
		return fmt.Errorf("it is the blocks that have no room: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.s.Check(ctx); !errors.Is(err, ErrNoRoom) {
		return fmt.Errorf("check: %w", err)
	}
	if err := r.limit(0); err != nil {
		return err
	}
	for { // it is tried again every second, and goes on by itself
		err := r.s.Check(ctx)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrNoRoom) {
			return fmt.Errorf("with room again: %w", err)
		}
	}
	for range 3 {
		if err := r.push(); err != nil {
			return err
		}
	}
	return r.s.Close(ctx)
}

// TestNoRoomForReal has children whose files may not grow beyond a limit. Their calls fail with ErrNoRoom, what was accepted is
// there, and with room again they go on; so the directory is as if nothing had been.
func TestNoRoomForReal(t *testing.T) {
	t.Parallel()
	for _, child := range []string{"journal without room", "fold without room"} {
		t.Run(child, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), "FANFARE_CHILD="+child, "FANFARE_DIR="+dir)
			var said strings.Builder
			cmd.Stderr = &said
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, said.String())
			}
			var r room
			if err := json.Unmarshal(out, &r); err != nil {
				t.Fatalf("%v: %q", err, out)
			}
			if len(r.Accepted) < 6 || r.Refused < 5 {
				t.Fatalf("%d accepted, %d refused: too little was tried", len(r.Accepted), r.Refused)
			}
			s := open(t, dir, Options{})
			if err := s.Check(ctx); err != nil {
				t.Fatal(err)
			}
			if got := s.LastSeq(); got != uint64(len(r.Accepted)) {
				t.Fatalf("%d pushes are there, %d were accepted", got, len(r.Accepted))
			}
			for i, seq := range r.Accepted {
				m, err := s.Message(seq)
				if err != nil || m == nil || seq != uint64(i+1) {
					t.Fatalf("message %d: %+v, %v", seq, m, err)
				}
				if string(m.Body) != string(body(seq)) {
					t.Fatalf("message %d has another body", seq)
				}
			}
			if got := pendingOf(t, s, "b"); len(got) != len(r.Accepted) {
				t.Fatal(len(got))
			}
		})
	}
}
