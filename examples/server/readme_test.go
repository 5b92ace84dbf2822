package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestReadme types what README.md has under "Call it": every command is answered OK, and Alice gets what is for her.
func TestReadme(t *testing.T) {
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Call it\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		script.WriteString(block[1])
	}
	p := start(t, t.TempDir())
	typed := strings.NewReplacer("SECRET", testKey, "127.0.0.1:8080", p.base, "go run ./examples/server", `"$SERVER"`).Replace(script.String())
	cmd := exec.Command("bash", "-c", typed)
	cmd.Env = append(os.Environ(), childVariable+"=1", "SERVER="+os.Args[0])
	out, _ := cmd.CombinedOutput() // the last curl ends by its time limit
	calls, good := strings.Count(typed, `curl "$API/`), strings.Count(string(out), `"ActionStatus":"OK"`)
	if calls == 0 || good != calls || !strings.Contains(string(out), "ready\n") {
		t.Errorf("%d of %d commands are answered OK:\n%s", good, calls, out)
	}
	_, socket, _ := strings.Cut(string(out), "101 Switching Protocols")
	if !strings.Contains(socket, `"Text":"to all"`) || !strings.Contains(socket, `"Text":"to gold"`) || strings.Contains(socket, "to vips") {
		t.Errorf("Alice gets %q of\n%s", socket, out)
	}
}
