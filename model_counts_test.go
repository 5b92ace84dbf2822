package fanfare

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// modelCounts is how often what happened in the scripts of a model test. A script that finds nothing to do something to proves nothing.
type modelCounts struct {
	mu sync.Mutex
	n  map[string]int
}

// modelMoments are what has to happen in any run of the usual length, modelRareMoments in a long one, as with -rapid.checks=400.
var (
	modelMoments = []string{
		"done: pause", "done: resume", "done: pace", "done: withdraw", "task of a plan withdrawn", "fired", "fired locally", "missed", "missed for good",
		"missed some, and fired", "missed in a zone", "completed", "held and unregistered", "frozen users gone", "waited for the pace", "released", "released a variant",
	}
	modelRareMoments = []string{
		"done: change", "done: cancel", "the same plan again", "fired again", "failed", "released and passed over who opted out",
		"released and passed over who had enough", "killed while a plan was due", "killed between two steps", "killed in a withdrawal",
		"connected to two nodes", "delivered by two nodes", "node killed before its push was made", "node killed before it answered a push that was made",
	}
)

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
	var must []string
	if scripts := c.n["scripts"]; t.Failed() || scripts < 10*modelChecks {
		return
	} else if must = modelMoments; scripts >= 300*modelChecks {
		must = slices.Concat(modelMoments, modelRareMoments)
	}
	for _, what := range must {
		if c.n[what] == 0 {
			t.Errorf("never in %d scripts: %s", c.n["scripts"], what)
		}
	}
}
