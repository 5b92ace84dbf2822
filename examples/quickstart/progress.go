package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// screen is where the scenes are shown: a terminal, where bars move, or a file
// or pipe, where they are a few lines each.
type screen struct {
	w        io.Writer
	terminal bool
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		s.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return s
}

// title begins a scene.
func (s *screen) title(text string) {
	fmt.Fprintf(s.w, "\n%s\n", text)
}

// say prints one line of a scene.
func (s *screen) say(format string, args ...any) {
	fmt.Fprintf(s.w, "   "+format+"\n", args...)
}

// bar shows how far something has come. It is used from one goroutine.
type bar struct {
	s       *screen
	label   string
	total   int64
	began   time.Time
	drawn   time.Time
	quarter int64 // of the last line, where the screen is no terminal
}

func (s *screen) bar(label string, total int64) *bar {
	return &bar{s: s, label: label, total: total, began: time.Now()}
}

// set moves the bar.
func (b *bar) set(done int64) {
	if b.total <= 0 {
		return
	}
	done = min(done, b.total)
	if b.s.terminal {
		if now := time.Now(); now.Sub(b.drawn) >= 100*time.Millisecond {
			b.drawn = now
			fmt.Fprintf(b.s.w, "\r   %s", b.line(done))
		}
		return
	}
	if quarter := done * 4 / b.total; quarter > b.quarter && quarter < 4 {
		b.quarter = quarter
		fmt.Fprintf(b.s.w, "   %s\n", b.line(done))
	}
}

// end shows the bar for the last time, with what came out of it.
func (b *bar) end(done int64, format string, args ...any) {
	if b.s.terminal {
		fmt.Fprint(b.s.w, "\r")
	}
	fmt.Fprintf(b.s.w, "   %s  %s in %s\n", b.line(done), fmt.Sprintf(format, args...), took(b.began))
}

func (b *bar) line(done int64) string {
	const width = 24
	full, percent := int64(width), int64(100)
	if b.total > 0 {
		full, percent = done*width/b.total, done*100/b.total
	}
	return fmt.Sprintf("%-26s %s%s %3d%%", b.label, strings.Repeat("█", int(full)), strings.Repeat("░", int(width-full)), percent)
}

// took is the time since then, in three digits or so.
func took(since time.Time) string {
	d := time.Since(since)
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(100 * time.Nanosecond).String()
}

// count writes a number with its thousands apart: 200,000.
func count[N int | int64](n N) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
