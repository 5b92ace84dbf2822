package browsertest

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestTrial is somebody who starts the example's server, without anything else, opens the page that it names, and goes by what the page says, as far as a
// push that has arrived.
func TestTrial(t *testing.T) {
	b := open(t, desktop)
	program := filepath.Join(t.TempDir(), "server")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "..", "examples", "server")
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server := exec.Command(program, "-listen", "127.0.0.1:0") // 8080 may be in use
	server.Env = []string{"HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir()}
	server.Stderr = os.Stderr
	said, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT)
		if err := server.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	at := ""
	for lines := bufio.NewScanner(said); at == "" && lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); strings.HasPrefix(line, "http://") {
			at = line
		}
	}
	b.mu.Lock()
	b.site, b.url = at, at
	b.mu.Unlock()

	b.visit("")
	b.shows("main", "Nothing has been pushed yet.")
	b.click(".head .button")
	b.do(chromedp.WaitVisible("#to"))
	b.shows("main", "Everybody is called:")
	b.fill("#to", "all")
	b.shows("#audience-size", "1,000 people")
	b.fill("#text", "Hello to all of you.")
	b.click("#notify")
	b.fill("#title", "Hello")
	b.fill("#body", "Hello to all of you.")
	b.click(".actions .primary")
	b.do(chromedp.WaitVisible("#confirm"))
	b.fill("#confirm", "1,000")
	b.press(kb.Enter)
	b.do(chromedp.WaitVisible("#progress"))
	b.until("the first live figures", "document.querySelector('#progress').dataset.live")
	b.until("people who have it", "/[1-9]\\d* of 1,000 have it/.test(document.querySelector('#progress').innerText)")
	b.shows("#progress", "Dead tokens")
	b.until("a chart", "document.querySelector('#chart canvas')")
	b.shot("trial")
	if !*finish {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // until each of them has come
	defer cancel()
	for b.text("#progress .state") != "Finished" {
		if ctx.Err() != nil {
			t.Fatalf("the push does not finish: %s", b.text("#progress"))
		}
		time.Sleep(time.Second)
	}
}
