package fanfare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// busyPusher is a Pusher on which everything goes on at the same time, until each kind of work meets ErrClosed.
type busyPusher struct {
	t    *testing.T
	p    *Pusher
	rec  *transporttest.Recorder
	wg   sync.WaitGroup
	warm sync.WaitGroup // until each kind of work has been done a few times

	mu    sync.Mutex
	tasks []string // accepted
	users []string // registered
}

// loop does a piece of work again and again until the Pusher is closed.
func (b *busyPusher) loop(what string, rounds int, work func(i int) error) {
	b.warm.Add(1)
	b.wg.Go(func() {
		warm := sync.OnceFunc(b.warm.Done)
		defer warm()
		for i := 0; ; i++ {
			if i == rounds {
				warm()
			}
			switch err := work(i); {
			case errors.Is(err, ErrClosed):
				return
			case err != nil:
				b.t.Errorf("%s: %v", what, err)
				return
			}
		}
	})
}

// TestCloseWhileInUse closes under a full load of pushes, imports, connections, iterators and backups: each call
// returns nil or ErrClosed, and what was answered with nil is there at the next Open.
func TestCloseWhileInUse(t *testing.T) {
	t.Parallel()
	for round := range 2 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			closeWhileInUse(t, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

func closeWhileInUse(t *testing.T, rnd *rand.Rand) {
	ctx, dir := context.Background(), t.TempDir()
	phones := transporttest.NewPhones("apns")
	b := &busyPusher{t: t, rec: new(transporttest.Recorder)}
	b.p = testPusher(t, dir, Options{
		Online: b.rec, Mobile: []transport.Mobile{phones}, Grace: -1, Workers: 4,
		blockBits: 4, DeltaEntries: 50 + rnd.IntN(500),
	})
	p := b.p
	must(t, p.SetAttributeNames(ctx, map[int]string{0: "tier"}))
	var batch Batch
	for i := range 100 {
		batch.Register(fmt.Sprint("u", i))
		batch.RegisterDevice(fmt.Sprint("u", i), Device{Platform: "apns", Token: fmt.Sprint(i)})
	}
	must(t, p.Apply(ctx, &batch))
	b.start(ctx, 1+rnd.IntN(2))
	b.warm.Wait()
	must(t, p.Close(ctx))
	b.wg.Wait()
	if v := append(b.rec.Violations(), phones.Violations()...); len(v) > 0 {
		t.Fatal(v)
	}

	q := testPusher(t, dir, Options{})
	must(t, q.Check(ctx))
	for _, id := range b.tasks {
		if _, err := q.Task(ctx, id); err != nil {
			t.Fatalf("task %s: %v", id, err)
		}
	}
	for _, id := range b.users {
		if _, err := q.User(ctx, id); err != nil {
			t.Fatalf("user %s: %v", id, err)
		}
	}
}

// TestCloseWhileFilesAreCopied: Close waits for a compaction, which has both the old files and the new ones open, and
// ends a backup.
func TestCloseWhileFilesAreCopied(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct {
		copied string
		copy   func(p *Pusher) error
	}{
		"Compact": {"blocks.db.new", func(p *Pusher) error { return p.Compact(ctx) }},
		"Backup":  {"backup-*", func(p *Pusher) error { return p.Backup(ctx, io.Discard) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := testPusher(t, dir, Options{})
			var b Batch
			for i := range 5000 {
				b.Register(fmt.Sprint(i))
			}
			must(t, p.Apply(ctx, &b))
			must(t, p.store.Checkpoint(ctx)) // or Close would fold, which waits for the copy
			copied := make(chan error, 1)
			go func() { copied <- c.copy(p) }()
			for len(found(t, dir, c.copied)) == 0 && len(copied) == 0 {
				runtime.Gosched()
			}
			must(t, p.Close(ctx))
			if err := <-copied; err != nil && !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
			if left := append(found(t, dir, "backup-*"), found(t, dir, "*.new*")...); len(left) > 0 {
				t.Fatal("left behind:", left)
			}
			q := testPusher(t, dir, Options{})
			if n, err := q.Count(ctx, All()); err != nil || n != 5000 {
				t.Fatal(n, err)
			}
		})
	}
}

func found(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	must(t, err)
	return names
}

// TestBackupIsCutShort, by its context before the copy or while its writer takes its time, by Close, or by its writer:
// the error says which, and no copy is left behind.
func TestBackupIsCutShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := testPusher(t, dir, Options{})
		must(t, p.Register(context.Background(), "a"))
		errWriter := errors.New("the writer fails")
		ctx, cancel := context.WithCancel(context.Background())
		for _, c := range []struct {
			want  error
			ctx   context.Context
			write func() error
		}{
			{errWriter, context.Background(), func() error { return errWriter }},
			{context.Canceled, ctx, func() error { cancel(); return nil }},
			{context.Canceled, ctx, nil}, // has ended already
			{ErrClosed, context.Background(), func() error { return p.Close(context.Background()) }},
		} {
			once := sync.OnceValue(func() error {
				err := c.write()
				synctest.Wait() // until the end has come through
				return err
			})
			if err := p.Backup(c.ctx, failingWriter(once)); !errors.Is(err, c.want) {
				t.Fatalf("%v, not %v", err, c.want)
			}
			if left := found(t, dir, "backup-*"); len(left) > 0 {
				t.Fatal("left behind:", left)
			}
		}
	})
}

type failingWriter func() error

func (f failingWriter) Write(b []byte) (int, error) { return len(b), f() }

func (b *busyPusher) start(ctx context.Context, rounds int) {
	p := b.p
	first := mustTask(b.t, p, Message{To: All(), Lifetime: week}).ID
	for range 2 {
		b.loop("push", rounds, func(i int) error {
			m := Message{Body: fmt.Append(nil, i), To: Sample(50, fmt.Sprint(i)), Lifetime: week * time.Duration(i%3) / 2}
			if i%2 == 0 {
				m.Notification = &Notification{Title: "t"}
			}
			task, err := p.Push(ctx, m)
			if err == nil {
				b.mu.Lock()
				b.tasks = append(b.tasks, task.ID)
				b.mu.Unlock()
				err = task.Wait(ctx)
			}
			return err
		})
	}
	b.loop("import", rounds, func(round int) error {
		_, err := p.Import(ctx, func(yield func(User, error) bool) {
			for i := range importUsers + 100 {
				if !yield(User{ID: fmt.Sprintf("import %d", i+round), Tags: []string{"t"}}, nil) {
					return
				}
			}
		}, nil)
		return err
	})
	b.loop("register", rounds, func(i int) error {
		id := fmt.Sprint("late", i)
		err := p.Register(ctx, id)
		if err == nil {
			b.mu.Lock()
			b.users = append(b.users, id)
			b.mu.Unlock()
		}
		return err
	})
	var connections atomic.Int64
	for range 2 {
		b.loop("connect", 5*rounds, func(int) error {
			s, err := p.Connect(ctx, fmt.Sprint("u", connections.Add(1)%100))
			if err == nil && connections.Load()%3 == 0 {
				err = s.Close()
			}
			return err
		})
	}
	b.loop("change", rounds, func(i int) error {
		user := fmt.Sprint("u", i%100)
		return errors.Join(p.AddTags(ctx, user, "a", "b"), p.SetAttributes(ctx, user, map[string]string{"tier": "x"}), p.ClearTags(ctx, user))
	})
	b.loop("ack", rounds, func(i int) error {
		user := fmt.Sprint("u", i%100)
		for m, err := range p.Pending(ctx, user) {
			if err == nil {
				err = p.Ack(ctx, user, m.ID)
			}
			if err != nil {
				return err
			}
		}
		return p.Withdraw(ctx, first)
	})
	b.loop("read", rounds, func(int) error {
		for _, err := range p.Members(ctx, All().And(Tag("t").Not())) {
			if err != nil {
				return err
			}
		}
		for task, err := range p.Tasks(ctx) {
			if err == nil {
				_, err = task.Progress()
			}
			if err != nil && !errors.Is(err, ErrUnknownTask) {
				return err
			}
		}
		_, err := p.Count(ctx, All())
		_, err2 := p.Stats(ctx)
		return errors.Join(err, err2)
	})
	b.loop("backup", 1, func(int) error { return p.Backup(ctx, io.Discard) })
	b.loop("compact", 1, func(int) error { return p.Compact(ctx) })
	b.loop("check", 1, func(int) error { return p.Check(ctx) })
}
