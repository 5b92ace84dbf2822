package embedding

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// block is a block of code on the page.
type block struct {
	line     int
	language string
	section  string
	caption  string // the line before it; empty right behind another block
	text     string
}

// readPage returns the blocks of a page, in order.
func readPage(t *testing.T, name string) []block {
	t.Helper()
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var (
		blocks           []block
		section, caption string
		open             *block
	)
	for i, line := range strings.Split(string(page), "\n") {
		switch fence, isFence := strings.CutPrefix(line, "```"); {
		case open == nil && isFence:
			open = &block{line: i + 1, language: fence, section: section, caption: caption}
		case isFence:
			blocks = append(blocks, *open)
			open, caption = nil, ""
		case open != nil:
			open.text += line + "\n"
		case strings.HasPrefix(line, "#"):
			section, caption = strings.TrimLeft(line, "# "), ""
		case line != "":
			caption = line
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block has no end", name, open.line)
	}
	return blocks
}

var (
	codeSpan = regexp.MustCompile("`([^`]+)`")
	terminal = regexp.MustCompile(`[Tt]erminal (\d)`)
)

// file is the name of a file of the block's language that the caption has last in it, empty for none.
func (b *block) file() (name string) {
	for _, span := range codeSpan.FindAllStringSubmatch(b.caption, -1) {
		if strings.HasSuffix(span[1], "."+b.language) {
			name = span[1]
		}
	}
	return name
}

// terminal is the number that the caption has last in it, 0 for none.
func (b *block) terminal() int {
	all := terminal.FindAllStringSubmatch(b.caption, -1)
	if len(all) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(all[len(all)-1][1])
	return n
}
