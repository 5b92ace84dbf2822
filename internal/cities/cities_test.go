package cities

import (
	"math/rand/v2"
	"testing"
	"unicode/utf8"
)

func TestCities(t *testing.T) {
	t.Parallel()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.names) != 300 {
		t.Errorf("%d cities", len(c.names))
	}
	seen := map[string]bool{}
	for _, name := range c.names {
		if seen[name] || name == "" || len(name) > 50 || !utf8.ValidString(name) {
			t.Errorf("city %q", name)
		}
		seen[name] = true
	}
	two, err := parse("city,country,population\nbig,XX,3\nsmall,XX,1\n")
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string]int{}
	r := rand.New(rand.NewPCG(1, 1))
	for range 4000 {
		drawn[two.Draw(r)]++
	}
	if drawn["big"] < 2800 || drawn["big"] > 3200 || drawn["big"]+drawn["small"] != 4000 {
		t.Errorf("drawn %v", drawn)
	}
	for _, bad := range []string{"", "city,country,population\n", "h\na,b\n", "h\na,b,x\n", "h\na,b,0\n"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
