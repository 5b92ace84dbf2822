package fanfare

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// modelCounts is how often what happened in the scripts of a model test. A script that does something and finds nothing to do it to proves nothing.
type modelCounts struct {
	mu sync.Mutex
	n  map[string]int
}

// modelMoments are what has to happen in any run of the usual length.
var modelMoments = []string{
	"done: pause", "done: resume", "done: pace", "done: change", "done: cancel", "done: withdraw", "task of a plan withdrawn", "the same plan again",
	"fired", "fired again", "fired locally", "missed", "missed for good", "missed some, and fired", "missed in a zone", "completed", "failed", "frozen users gone",
	"waited for the pace", "released", "released a variant", "released and passed over who opted out", "released and passed over who had enough",
	"killed while it released", "killed between two steps",
}

func (c *modelCounts) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	c.n[what]++
}

// check logs the counts, and fails the test if something never happened in all of it.
func (c *modelCounts) check(t *testing.T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for _, what := range slices.Sorted(maps.Keys(c.n)) {
		list = append(list, fmt.Sprintf("%s: %d", what, c.n[what]))
	}
	t.Log(strings.Join(list, "\n"))
	if c.n["scripts"] < 8*modelChecks || t.Failed() {
		return
	}
	for _, what := range modelMoments {
		if c.n[what] == 0 {
			t.Errorf("never in %d scripts: %s", c.n["scripts"], what)
		}
	}
}
