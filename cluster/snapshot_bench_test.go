package cluster

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkSnapshot stores a file as a snapshot and reads it, on one server and on three. The file is FANFARE_SNAPSHOT_FILE, or bytes that do not compress.
// Beside the two is a copy of it with a sync.
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
			site.replicas = replicas
			s, ctx := site.snapshots(0, nil), within(b)
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				if err := s.put(ctx, uint64(i), write); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(rate(start), "put-MB/s")
				one, err := s.newest(ctx, uint64(i))
				if err != nil {
					b.Fatal(err)
				}
				stream, err := s.js.Stream(ctx, bucketStream+one.bucket)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(stream.CachedInfo().State.Bytes)/float64(info.Size()), "stored/size")
				start = time.Now()
				r := s.read(ctx, one)
				if n, err := io.Copy(io.Discard, r); err != nil || n != info.Size() {
					b.Fatal(n, err)
				}
				r.Close()
				b.ReportMetric(rate(start), "get-MB/s")
			}
		})
	}
}
