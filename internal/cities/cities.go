// Package cities is a table of large real cities, to draw users' cities from, as
// often as people live in them. README.md names its source and licence.
package cities

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
)

//go:embed cities.csv
var csv string

// Table is a table of cities. It is safe for concurrent use.
type Table struct {
	names []string
	upTo  []int64 // the population of this city and all before it
}

// Load returns the table of 300 cities.
func Load() (*Table, error) { return parse(csv) }

func parse(table string) (*Table, error) {
	c := new(Table)
	var sum int64
	for i, line := range strings.Split(strings.TrimSpace(table), "\n") {
		if i == 0 {
			continue // city,country,population
		}
		fields := strings.Split(line, ",")
		if len(fields) != 3 {
			return nil, fmt.Errorf("cities.csv, line %d: %d fields, want 3", i+1, len(fields))
		}
		people, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil || people < 1 {
			return nil, fmt.Errorf("cities.csv, line %d: population %q", i+1, fields[2])
		}
		sum += people
		c.names = append(c.names, fields[0])
		c.upTo = append(c.upTo, sum)
	}
	if sum == 0 {
		return nil, fmt.Errorf("cities.csv has no cities")
	}
	return c, nil
}

// Draw returns a city.
func (c *Table) Draw(r *rand.Rand) string {
	n := r.Int64N(c.upTo[len(c.upTo)-1])
	return c.names[sort.Search(len(c.upTo), func(i int) bool { return n < c.upTo[i] })]
}
