package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"text/tabwriter"
)

// row is one figure against one contender.
type row struct {
	Name    string  `json:"name"`
	Users   int     `json:"users"`
	Ours    float64 `json:"ours"`   // median
	Theirs  float64 `json:"theirs"` // median, or 0 where the target is absolute
	Against string  `json:"against"`
	Unit    string  `json:"unit"`  // of ours and theirs
	Ratio   float64 `json:"ratio"` // of the medians
	Target  string  `json:"target"`
	OK      bool    `json:"ok"` // of a row without a target, and of one that is not judged: true
	// Low and High are the lowest and highest ratio of a single round; 0 with a single one.
	Low  float64 `json:"low,omitempty"`
	High float64 `json:"high,omitempty"`
	Note string  `json:"note,omitempty"`

	missing bool
}

// target is what a ratio is held against.
type target struct {
	most, least float64
	absolute    string // words instead of the number
}

func atMost(x float64) target  { return target{most: x} }
func atLeast(x float64) target { return target{least: x} }

var noTarget target

func (t target) String() string {
	switch {
	case t.absolute != "":
		return t.absolute
	case t.most > 0:
		return fmt.Sprintf("≤ %g", t.most)
	case t.least > 0:
		return fmt.Sprintf("≥ %g", t.least)
	}
	return ""
}

func (t target) met(ratio float64) bool {
	return (t.most == 0 || ratio <= t.most) && (t.least == 0 || ratio >= t.least)
}

// compare makes a row of two contenders' costs. With a target of "at least" the ratio says how many times
// cheaper ours is, otherwise how many times dearer.
func compare(name, against, unit string, ours, theirs []float64, t target) row {
	r := row{Name: name, Against: against, Unit: unit, Ours: median(ours), Theirs: median(theirs), Target: t.String()}
	ratio := func(ours, theirs float64) float64 {
		if t.least > 0 {
			return theirs / ours
		}
		return ours / theirs
	}
	r.Ratio = ratio(r.Ours, r.Theirs)
	if n := min(len(ours), len(theirs)); n > 1 {
		r.Low, r.High = math.Inf(1), 0
		for i := range n {
			x := ratio(ours[i], theirs[i])
			r.Low, r.High = min(r.Low, x), max(r.High, x)
		}
	}
	r.OK = t.met(r.Ratio)
	return r
}

// limit makes a row of costs that are held against a number.
func limit(name, unit string, ours []float64, most float64, words string) row {
	t := target{most: 1, absolute: words}
	bound := make([]float64, len(ours))
	for i := range bound {
		bound[i] = most
	}
	r := compare(name, "", unit, ours, bound, t)
	r.Theirs = 0
	return r
}

// absent makes the row of a contender that is not there.
func absent(name, against, why string) row {
	return row{Name: name, Against: against, Note: "missing: " + why, missing: true}
}

func (r row) with(note string, args ...any) row {
	r.Note = fmt.Sprintf(note, args...)
	return r
}

// figure writes a number with three or four digits.
func figure(x float64) string {
	switch a := math.Abs(x); {
	case x == 0:
		return "0"
	case a >= 1000:
		return fmt.Sprintf("%.0f", x)
	case a >= 100:
		return fmt.Sprintf("%.1f", x)
	case a >= 1:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3g", x)
}

// printTable writes the rows as a Markdown table with aligned columns.
func printTable(w io.Writer, rows []row, judged bool) {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| figure\t| users\t| fanfare\t| other\t| unit\t| against\t| ratio\t| spread\t| target\t| met\t| note\t|")
	fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range rows {
		if r.missing {
			fmt.Fprintf(t, "| %s\t| %d\t|\t|\t|\t| %s\t|\t|\t|\t| missing\t| %s\t|\n", r.Name, r.Users, r.Against, r.Note)
			continue
		}
		met, spread, theirs, ratio := "", "", "", ""
		if r.Ratio != 0 {
			ratio = figure(r.Ratio)
		}
		if judged && r.Target != "" {
			met = map[bool]string{true: "yes", false: "**no**"}[r.OK]
		}
		if r.High > 0 {
			spread = figure(r.Low) + "–" + figure(r.High)
		}
		if r.Theirs != 0 {
			theirs = figure(r.Theirs)
		}
		fmt.Fprintf(t, "| %s\t| %d\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n",
			r.Name, r.Users, figure(r.Ours), theirs, r.Unit, r.Against, ratio, spread, r.Target, met, r.Note)
	}
	t.Flush()
}

func writeJSON(path string, rows []row) error {
	b, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
