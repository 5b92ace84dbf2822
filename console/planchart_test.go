package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// values writes a line.
func (l *chartLine) String() string {
	out := []string{l.Name}
	for _, x := range l.Values {
		if x == nil {
			out = append(out, "-")
		} else {
			out = append(out, fmt.Sprint(*x))
		}
	}
	return strings.Join(out, " ")
}

// TestChartOf: each variant has a value at each time of the plan, by the measure that compares them.
func TestChartOf(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	plan := &fanfare.Plan{Variants: []fanfare.Variant{{Name: "A"}, {Name: "B"}, {Name: "never"}}}
	history := &fanfare.PlanHistory{
		Moments: []fanfare.Moment{{At: at(1), Pending: 9}, {At: at(2), Delivered: 2, Pending: 7, Notified: map[string]int64{"apns": 2, "fcm": 1}}, {At: at(4), Delivered: 3, Pending: 6}, {At: at(4), Delivered: 6, Pending: 3}, {At: at(5), Delivered: 9}},
		Variants: map[string][]fanfare.Moment{
			"A": {{At: at(1), Pending: 4}, {At: at(2), Delivered: 2}, {At: at(3), Delivered: 3, Opened: 1}, {At: at(5), Delivered: 4, Opened: 2}},
			"B": {{At: at(4), Delivered: 3}, {At: at(5), Delivered: 5}},
		},
	}
	lines := func(c planChart) (out []string) {
		for i := range c.Variants {
			out = append(out, c.Variants[i].String())
		}
		return out
	}
	c := chartOf(plan, history)
	if want := [][4]int64{{1000, 0, 0, 9}, {2000, 2, 3, 7}, {4000, 6, 0, 3}, {5000, 9, 0, 0}}; !slices.Equal(c.Samples, want) {
		t.Errorf("the samples are %v", c.Samples)
	}
	if got, want := lines(c), []string{"A - 0 33.33 50", "B - - 0 0", "never - - - -"}; !c.Opened || !slices.Equal(got, want) {
		t.Errorf("by what was opened the lines are %q", got)
	}
	for _, of := range history.Variants {
		for i := range of {
			of[i].Opened = 0
		}
	}
	c = chartOf(plan, history)
	if got, want := lines(c), []string{"A 0 2 3 4", "B - - 3 5", "never - - - -"}; c.Opened || !slices.Equal(got, want) {
		t.Errorf("by what was delivered the lines are %q", got)
	}
	if c := chartOf(&fanfare.Plan{}, &fanfare.PlanHistory{}); len(c.Samples)+len(c.Variants) > 0 {
		t.Errorf("of nothing it is %+v", c)
	}
}

// TestPlanHistory is what the page asks for.
func TestPlanHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p := open(t, fanfare.Options{Online: transport.OnlineFunc(func(context.Context, string, *transport.Message) error { return nil })})
		b := newBenchWith(t, p, Options{})
		if _, err := p.Connect(ctx, "alice"); err != nil {
			t.Fatal(err)
		}
		planned, err := p.Plan(ctx, fanfare.Plan{
			Message: fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: time.Hour}, Variants: []fanfare.Variant{{Name: "A </script>"}, {Name: "B"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(3 * time.Second)
		for task, err := range planned.Tasks(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			for _, who := range []string{"bob", "carol"} {
				if err := p.Ack(ctx, who, task.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		w := b.get("vera", "/plans/"+planned.ID+"/history")
		headers(t, w)
		var c planChart
		if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
			t.Fatalf("%d %v: %s", w.Code, err, w.Body)
		}
		if last := c.Samples[len(c.Samples)-1]; last[1] != 3 || last[3] != 0 || c.Samples[0][3] == 0 {
			t.Errorf("the samples are %v", c.Samples)
		}
		sum := 0.0
		for _, line := range c.Variants {
			sum += *line.Values[len(line.Values)-1]
		}
		if len(c.Variants) != 2 || sum != 3 || c.LeftOut || c.Again < historyAgain.Milliseconds() {
			t.Errorf("the chart is %+v", c)
		}
		if text := b.get("vera", "/plans/"+planned.ID).Body.String(); !strings.Contains(text, `data-history="../plans/`+planned.ID+`/history"`) || !strings.Contains(text, "variants-chart") {
			t.Errorf("the page is %s", text)
		}
		b.h.(*handler).charting = 0
		w = b.get("vera", "/plans/"+planned.ID+"/history")
		c = planChart{}
		if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil || w.Code != http.StatusOK || !c.LeftOut || c.Again != 0 || len(c.Samples) > 0 {
			t.Errorf("without the time to read it: %d %v: %s", w.Code, err, w.Body)
		}
		if w := b.get("vera", "/plans/plan-0000000000000999/history"); w.Code != http.StatusNotFound {
			t.Errorf("of no plan: %d", w.Code)
		}
	})
}
