package console

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"github.com/fanfare-im/fanfare"
)

const (
	// historyWithin is how long the tasks of a plan are read for its chart: there may be one for each second.
	historyWithin = 500 * time.Millisecond
	// historyAgain is how soon a page asks for the chart again, at the soonest, and historyShare how much of the time that it is open its chart may be read.
	historyAgain = 2 * time.Second
	historyShare = 20
)

// planChart is how far a plan was over time, as its page draws it.
type planChart struct {
	// Samples are a time in milliseconds, and how many had been delivered, notified and were pending then.
	Samples [][4]int64 `json:"samples"`
	// Variants are a line each, over the same times.
	Variants []chartLine `json:"variants"`
	// Opened says that the lines are what was opened, in percent of what was delivered, which compares forms that unlike numbers of people got. They are what was delivered
	// as long as nothing was opened: it may be that nobody tells.
	Opened  bool  `json:"opened"`
	LeftOut bool  `json:"leftOut"` // the plan has more tasks than are read in time
	Again   int64 `json:"again"`   // milliseconds until it may be asked for again; 0: it is not to be
}

// chartLine is a line of a chart, with a value for each of its times; nil: none yet.
type chartLine struct {
	Name   string     `json:"name"`
	Values []*float64 `json:"values"`
}

// planHistory answers with the chart of a plan.
func (h *handler) planHistory(v *view) error {
	planned, info, err := h.plannedInfo(v, v.arg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(v.ctx, h.charting)
	defer cancel()
	begun := time.Now()
	history, err := planned.History(ctx)
	var chart planChart
	switch {
	case err == nil:
		chart = chartOf(&info.Plan, &history)
		chart.Again = max(historyAgain, historyShare*time.Since(begun)).Milliseconds()
	case ctx.Err() != nil && v.ctx.Err() == nil:
		chart.LeftOut = true
	default:
		return err
	}
	answer, err := json.Marshal(chart)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/json")
	_, _ = v.w.Write(answer) // to who has gone
	return nil
}

func chartOf(plan *fanfare.Plan, history *fanfare.PlanHistory) planChart {
	out := planChart{Samples: make([][4]int64, 0, len(history.Moments)), Variants: make([]chartLine, len(plan.Variants))}
	for i := range history.Moments {
		m := &history.Moments[i]
		if n := len(out.Samples); n > 0 && out.Samples[n-1][0] == m.At.UnixMilli() { // each of the tasks adds its own
			out.Samples = out.Samples[:n-1]
		}
		out.Samples = append(out.Samples, [4]int64{m.At.UnixMilli(), m.Delivered, notifiedOf(m), m.Pending})
	}
	for _, of := range history.Variants {
		out.Opened = out.Opened || len(of) > 0 && of[len(of)-1].Opened > 0
	}
	for i := range plan.Variants {
		line := &out.Variants[i]
		line.Name, line.Values = plan.Variants[i].Name, make([]*float64, len(out.Samples))
		of, next := history.Variants[line.Name], 0
		for j := range out.Samples {
			for next < len(of) && of[next].At.UnixMilli() <= out.Samples[j][0] {
				next++
			}
			if next > 0 {
				line.Values[j] = out.measure(&of[next-1])
			}
		}
	}
	return out
}

// measure is what the line of a variant shows at a moment.
func (c *planChart) measure(m *fanfare.Moment) *float64 {
	switch n := float64(m.Delivered); {
	case !c.Opened:
		return &n
	case m.Delivered == 0:
		return nil
	default:
		percent := math.Round(float64(m.Opened)/n*10_000) / 100
		return &percent
	}
}
