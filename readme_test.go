package fanfare

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadme builds the README's example, runs it, and compares what it prints.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	must(t, err)
	block := func(language string) string {
		_, rest, found := strings.Cut(string(readme), "\n```"+language+"\n")
		code, _, closed := strings.Cut(rest, "\n```\n")
		if !found || !closed {
			t.Fatalf("no block of %s", language)
		}
		return code + "\n"
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "example.exe")
	must(t, os.WriteFile(source, []byte(block("go")), 0o600))
	if out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(program)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if want := block("text"); err != nil || string(out) != want {
		t.Fatalf("%v\n%s\nnot\n%s", err, out, want)
	}
}
