package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// BenchmarkSnapshot stores a file as a snapshot and reads it meanwhile, with three servers. The file is FANFARE_SNAPSHOT_FILE, or bytes that do not compress.
// Beside it are a copy with a sync, and what an object store of one or three replicas takes to have the file put and then got.
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
	for _, replicas := range []int{1, 3} {
		b.Run([]string{1: "R1", 3: "R3"}[replicas], func(b *testing.B) {
			site := newSite(b, 3)
			ctx := within(b)
			site.journal(0) // so that the servers have met
			_, js := site.connect(0)
			for i := 0; b.Loop(); i++ {
				bucket, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: fmt.Sprint("plain", i), Replicas: replicas})
				if err != nil {
					b.Fatal(err)
				}
				if err := untilThere(ctx, func(ctx context.Context) error { _, err := bucket.PutString(ctx, "first", ""); return err }); err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				r, w := io.Pipe()
				go func() { w.CloseWithError(write(w)) }()
				parts := 0
				for at := int64(0); at < info.Size(); parts++ { // one object would be more than a client has in flight
					o, err := bucket.Put(ctx, jetstream.ObjectMeta{Name: partName(parts)}, io.LimitReader(r, snapshotPart))
					if err != nil {
						b.Fatal(err)
					}
					at += int64(o.Size)
				}
				b.ReportMetric(rate(start), "put-MB/s")
				half := time.Now()
				for i := range parts {
					if _, err := bucket.GetBytes(ctx, partName(i)); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(rate(half), "get-MB/s")
				b.ReportMetric(rate(start), "both-MB/s")
				if err := js.DeleteObjectStore(ctx, fmt.Sprint("plain", i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("snapshot", func(b *testing.B) {
		site := newSite(b, 3)
		ctx := within(b)
		s := site.snapshots(0, site.journal(0))
		for i := uint64(0); b.Loop(); i++ {
			start := time.Now()
			put := make(chan error, 1)
			go func() { put <- s.put(ctx, i, write) }()
			for {
				one, err := s.newest(ctx, i)
				if one.bucket == "" {
					pause(ctx, time.Millisecond)
					continue
				}
				if err != nil && !errors.Is(err, errNoSnapshot) {
					b.Fatal(err)
				}
				r := s.read(ctx, one)
				if n, err := io.Copy(io.Discard, r); err != nil || n != info.Size() {
					b.Fatal(n, err)
				}
				r.Close()
				break
			}
			b.ReportMetric(rate(start), "both-MB/s")
			if err := <-put; err != nil {
				b.Fatal(err)
			}
		}
	})
}
