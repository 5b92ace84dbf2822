package metrics

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// known returns the labels of each metric, and whether it is a counter.
func known() (labels map[string][]string, counters map[string]bool) {
	labels, counters = map[string][]string{}, map[string]bool{}
	for _, f := range families {
		labels[namespace+f.name], counters[namespace+f.name] = f.labels, f.kind == prometheus.CounterValue
	}
	for _, f := range taskFamilies {
		labels[namespace+f.name] = f.labels
	}
	return labels, counters
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	inExpression = regexp.MustCompile(`(\w+\()?(fanfare_\w+)(\{[^}]*\})?(\[)?`)
	matchers     = regexp.MustCompile(`^\{(\w+(=~?|!=|!~)"[^"]*",?)+\}$`)
	matched      = regexp.MustCompile(`(\w+)(?:=~?|!=|!~)"`)
	grouped      = regexp.MustCompile(`\b(?:by|without) \(([\w, ]+)\)`)
)

// checkExpression wants metrics and labels that exist, counters as a rate or an increase and nothing else so. It is no
// parser of the language.
func checkExpression(t *testing.T, where, e string) (names []string) {
	t.Helper()
	labels, counters := known()
	may := []string{"job", "instance"} // which Prometheus adds
	for _, m := range inExpression.FindAllStringSubmatch(e, -1) {
		function, name, selector := m[1], m[2], m[3]
		names = append(names, name)
		own, exists := labels[name]
		if !exists {
			t.Errorf("%s: there is no %s", where, name)
			continue
		}
		may = append(may, own...)
		over := slices.Contains([]string{"rate(", "increase("}, function)
		if over != counters[name] || over && m[4] == "" {
			t.Errorf("%s: %s%s, a counter: %v", where, function, name, counters[name])
		}
		if selector != "" && !matchers.MatchString(selector) {
			t.Errorf("%s: the selector %s", where, selector)
		}
		for _, label := range matched.FindAllStringSubmatch(selector, -1) {
			if !slices.Contains(own, label[1]) && !slices.Contains(may[:2], label[1]) {
				t.Errorf("%s: %s has no label %s", where, name, label[1])
			}
		}
	}
	for _, by := range grouped.FindAllStringSubmatch(e, -1) {
		for label := range strings.SplitSeq(by[1], ", ") {
			if !slices.Contains(may, label) {
				t.Errorf("%s: no metric in it has a label %s", where, label)
			}
		}
	}
	for _, pair := range []string{"()", "{}", "[]"} {
		if strings.Count(e, pair[:1]) != strings.Count(e, pair[1:]) {
			t.Errorf("%s: %s do not match", where, pair)
		}
	}
	if len(names) == 0 {
		t.Errorf("%s: %q has no metric of ours", where, e)
	}
	return names
}

// TestDashboard: each panel asks for what there is, and each metric is asked for.
func TestDashboard(t *testing.T) {
	t.Parallel()
	type target struct{ Expr, RefID string }
	var d struct {
		Title, UID string
		Panels     []struct {
			ID          int
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
			Targets     []target
		}
		Templating struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana-dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	if d.Title == "" || d.UID == "" || len(d.Panels) < 20 {
		t.Fatalf("%q has %d panels", d.Title, len(d.Panels))
	}
	labels, _ := known()
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.Type == "" || p.GridPos.X+p.GridPos.W > 24 || (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("panel %d, %q: %+v", p.ID, p.Title, p)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" {
					t.Fatalf("%s lies over %s", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		for _, target := range p.Targets {
			for _, name := range checkExpression(t, p.Title, target.Expr) {
				delete(labels, name)
			}
		}
	}
	if len(labels) > 0 {
		t.Errorf("no panel has %v", slices.Sorted(maps.Keys(labels)))
	}
	for _, v := range d.Templating.List {
		if v.Definition != "" && !strings.Contains(v.Definition, namespace+families[0].name) {
			t.Errorf("variable %s: %s", v.Name, v.Definition)
		}
	}
}

// TestAlerts: each rule has what a rule must have, asks for what there is, and docs/metrics.md says what to do.
func TestAlerts(t *testing.T) {
	t.Parallel()
	page, rules := read(t, "metrics.md"), strings.Split(read(t, "alerts.yml"), "- alert: ")[1:]
	if len(rules) < 10 {
		t.Fatalf("%d rules", len(rules))
	}
	field := regexp.MustCompile(`(?m)^ +(expr|for|severity|summary): (.+)$`)
	for _, rule := range rules {
		name, _, _ := strings.Cut(rule, "\n")
		fields := map[string]string{}
		for _, f := range field.FindAllStringSubmatch(rule, -1) {
			fields[f[1]] = f[2]
		}
		checkExpression(t, name, fields["expr"])
		if !slices.Contains([]string{"critical", "warning", "info"}, fields["severity"]) || fields["summary"] == "" || strings.Contains(fields["summary"], ": ") {
			t.Errorf("%s: %v", name, fields)
		}
		if !strings.Contains(page, name) {
			t.Errorf("docs/metrics.md does not say what to do about %s", name)
		}
	}
}

// TestPage: docs/metrics.md has each metric with its labels, and no other.
func TestPage(t *testing.T) {
	t.Parallel()
	labels, _ := known()
	for _, row := range regexp.MustCompile("(?m)^\\| `(fanfare_\\w+)` \\|([^|]*)\\|").FindAllStringSubmatch(read(t, "metrics.md"), -1) {
		name, column := row[1], row[2]
		own, exists := labels[name]
		if !exists {
			t.Errorf("there is no %s, or it is there twice", name)
		}
		delete(labels, name)
		for _, label := range own {
			if !strings.Contains(column, "`"+label+"`") {
				t.Errorf("%s has the label %s, not only %q", name, label, column)
			}
		}
		if (strings.TrimSpace(column) == "") != (len(own) == 0) {
			t.Errorf("%s has the labels %v, not %q", name, own, column)
		}
	}
	if len(labels) > 0 {
		t.Errorf("the page lacks %v", slices.Sorted(maps.Keys(labels)))
	}
}
