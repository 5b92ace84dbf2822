package main

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
)

// citiesCSV is a table of real cities; cities.md names its source and licence.
//
//go:embed cities.csv
var citiesCSV string

// cities draws cities as often as people live in them.
type cities struct {
	names []string
	upTo  []int64 // the population of this city and all before it
}

func loadCities(table string) (*cities, error) {
	c := new(cities)
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

func (c *cities) draw(r *rand.Rand) string {
	n := r.Int64N(c.upTo[len(c.upTo)-1])
	return c.names[sort.Search(len(c.upTo), func(i int) bool { return n < c.upTo[i] })]
}
