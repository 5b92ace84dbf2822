package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// bar shows how far work has come. A nil one shows nothing.
type bar struct{ b *progressbar.ProgressBar }

// bar begins to show work of so many users or bytes, -1: nobody knows how many. What was begun is to be ended.
func (c *call) bar(what string, of int64, bytes bool) *bar {
	if !c.bars {
		return nil
	}
	return &bar{progressbar.NewOptions64(of,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(bytes), progressbar.OptionUseIECUnits(true),
		progressbar.OptionShowCount(), progressbar.OptionSetElapsedTime(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30),
		progressbar.OptionSpinnerType(14), progressbar.OptionSetRenderBlankState(true), progressbar.OptionClearOnFinish())}
}

// The errors are those of standard error, which is no reason to end the work.

func (b *bar) add(n int64) {
	if b != nil {
		_ = b.b.Add64(n)
	}
}

func (b *bar) end() {
	if b != nil {
		_ = b.b.Finish()
	}
}

// Write and Read of these show what goes through.
type (
	barWriter struct {
		w io.Writer
		b *bar
	}
	barReader struct {
		r io.Reader
		b *bar
	}
)

func (w barWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.b.add(int64(n))
	return n, err
}

func (r barReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.b.add(int64(n))
	return n, err
}
