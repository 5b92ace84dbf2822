package fanfare

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestMemoryDoesNotGrowWithUsers imports users and pushes to nearly all of them with a small delta. Held in memory, in
// a delta without a bound, these users take 41 MB; three deltas of 2 MiB and the transaction of a fold take 10.
func TestMemoryDoesNotGrowWithUsers(t *testing.T) {
	t.Parallel()
	const users, delta, bound = 150_000, 2 << 20, 22 << 20
	dir := t.TempDir()
	program := filepath.Join(dir, "memory.exe")
	if out, err := exec.Command("go", "build", "-o", program, "./testdata/memory").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(program, filepath.Join(dir, "store"), strconv.Itoa(users), strconv.Itoa(delta)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := 0
	for line := range strings.Lines(string(out)) {
		what, number, _ := strings.Cut(strings.TrimSpace(line), ": ")
		grown, err := strconv.Atoi(number)
		must(t, err)
		if t.Logf("%s: the heap has grown by %d KiB", what, grown>>10); grown > bound {
			t.Errorf("%s: the heap has grown by %d KiB, above %d", what, grown>>10, bound>>10)
		}
		lines++
	}
	if lines != 4 {
		t.Fatalf("%s", out)
	}
}
