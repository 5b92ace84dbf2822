package cluster

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// BenchmarkSnapshot sends a file as a snapshot from one of three servers to another. The file is FANFARE_SNAPSHOT_FILE, or random bytes. Beside it is a copy with a sync.
func BenchmarkSnapshot(b *testing.B) {
	file := os.Getenv("FANFARE_SNAPSHOT_FILE")
	if file == "" {
		file = filepath.Join(b.TempDir(), "blocks")
		if err := os.WriteFile(file, blocks(64<<20), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	rate := func(since time.Time) float64 { return float64(info.Size()) / 1e6 / time.Since(since).Seconds() }
	write := func(w io.Writer) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	}
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			f, err := os.Create(filepath.Join(b.TempDir(), "copy"))
			if err != nil {
				b.Fatal(err)
			}
			start := time.Now()
			if err := write(f); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(rate(start), "MB/s")
			f.Close()
		}
	})
	b.Run("snapshot", func(b *testing.B) {
		site := newSite(b, 3)
		site.journal(0) // so that the servers have met
		ctx, cancel := context.WithCancel(b.Context())
		var answering sync.WaitGroup
		defer answering.Wait()
		defer cancel()
		answering.Go(func() {
			err := site.snapshots(1).answer(ctx, func(uint64) bool { return true }, func(ctx context.Context, begin func(uint64, int64) (store.Taker, error)) error {
				to, err := begin(1, info.Size())
				if err != nil {
					return err
				}
				return write(takes{ctx, to})
			})
			if err != nil {
				b.Error(err)
			}
		})
		s := site.snapshots(0)
		for b.Loop() {
			start := time.Now()
			r, err := s.ask(within(b), 1)
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, r); err != nil || n != info.Size() {
				b.Fatal(n, err)
			}
			b.ReportMetric(rate(start), "MB/s")
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// takes writes to a taker.
type takes struct {
	ctx context.Context
	to  store.Taker
}

func (w takes) Write(b []byte) (n int, err error) {
	for n < len(b) {
		most, err := w.to.Ready(w.ctx)
		if err != nil {
			return n, err
		}
		k, err := w.to.Write(b[n:min(n+most, len(b))])
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}
