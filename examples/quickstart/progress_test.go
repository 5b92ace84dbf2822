package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Where lines stay, a bar is at most five of them; on a terminal it is one that moves.
func TestBar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		show := func(terminal bool) string {
			var out bytes.Buffer
			s := &screen{w: &out, terminal: terminal}
			b := s.bar("importing", 1000)
			for done := range int64(1001) {
				b.set(done)
				<-time.After(time.Millisecond)
			}
			b.end(1000, "%s users", count(1000))
			return out.String()
		}
		plain := show(false)
		if n := strings.Count(plain, "\n"); n != 4 || strings.Contains(plain, "\r") {
			t.Errorf("%d lines:\n%s", n, plain)
		}
		if want := regexp.MustCompile(`importing +█{24} 100%  1,000 users in 1s\n$`); !want.MatchString(plain) {
			t.Errorf("the last line is not %v:\n%s", want, plain)
		}
		moving := show(true)
		if n, r := strings.Count(moving, "\n"), strings.Count(moving, "\r"); n != 1 || r < 8 || r > 13 {
			t.Errorf("%d lines, drawn %d times:\n%q", n, r, moving)
		}
	})
}

func TestBarOfNothing(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := newScreen(&out).bar("nobody", 0)
	b.set(0)
	b.end(0, "none")
	if !strings.Contains(out.String(), "100%  none") {
		t.Errorf("got %q", out.String())
	}
}

func TestScreenIsNoTerminal(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if newScreen(f).terminal {
		t.Error("a file is taken for a terminal")
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 200000: "200,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) is %q, want %q", n, got, want)
		}
	}
}
