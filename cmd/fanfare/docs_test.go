package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the commands of docs/cli.md print into it")

const docsFile = "../../docs/cli.md"

// changing is what is another thing each time, with what stands for it in the comparison.
var changing = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`\b0{15}[0-9a-f]([0-9a-f]{16})\b`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "STORE"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`registered \d{4}-\d\d-\d\d`), "registered DAY"},
	{regexp.MustCompile(`[\d.]+ ([KM]i)?B\b`), "SIZE"},
	{regexp.MustCompile(`"(bytes|free|before|after)":\d+`), `"$1":SIZE`},
	{regexp.MustCompile(`fanfare \S+ go\S+ \S+`), "fanfare VERSION"},
	{regexp.MustCompile(` +`), " "},
}

func steady(s string) string {
	for _, c := range changing {
		s = c.is.ReplaceAllString(s, c.as)
	}
	return s
}

var (
	transcript = regexp.MustCompile("(?s)\n```console\n(.*?)\n```\n")
	taskID     = regexp.MustCompile(`\b0{15}[0-9a-f][0-9a-f]{16}\b`)
)

// TestDocs runs the commands of docs/cli.md, one after the other, and compares what they print. Every command is among them.
func TestDocs(t *testing.T) {
	work := t.TempDir()
	ids := townOf(t, filepath.Join(work, "data"), people())
	bin := filepath.Join(work, "bin")
	must(t, os.Mkdir(bin, 0o700))
	must(t, os.Symlink(program(t), filepath.Join(bin, "fanfare")))
	docs, err := os.ReadFile(docsFile)
	must(t, err)
	own := func(line string) string {
		return taskID.ReplaceAllStringFunc(line, func(id string) string {
			for _, own := range ids {
				if own[:16] == id[:16] { // the sequence
					return own
				}
			}
			return id
		})
	}
	run := func(line string) string {
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir, cmd.Env = work, append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
		out, _ := cmd.CombinedOutput() // how it exits is printed where it matters
		return string(out)
	}
	said := transcript.ReplaceAllStringFunc(string(docs), func(block string) string {
		var b strings.Builder
		b.WriteString("\n```console\n")
		for line := range strings.Lines(transcript.FindStringSubmatch(block)[1]) {
			if command, is := strings.CutPrefix(line, "$ "); is {
				command = own(strings.TrimSuffix(command, "\n"))
				b.WriteString("$ " + command + "\n" + run(command))
			}
		}
		return b.String() + "```\n"
	})
	if *update {
		must(t, os.WriteFile(docsFile, []byte(said), 0o644))
	}
	got, want := strings.Split(steady(said), "\n"), strings.Split(steady(string(docs)), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("line %d is not what is printed, from there on:\n%s", i+1, strings.Join(got[min(i, len(got)):], "\n"))
		}
	}
	for _, command := range []string{"inspect", "check", "backup", "restore", "compact", "export", "import", "count", "members", "user", "tasks", "task", "version"} {
		if !strings.Contains(string(docs), "\n$ fanfare "+command) {
			t.Errorf("there is no example of %s", command)
		}
	}
}
