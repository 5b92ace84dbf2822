package console

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/fanfare-im/fanfare"
)

const (
	// recentTasks is how many tasks are looked at for the figures of the overview, newest first.
	recentTasks = 2000
	// recentFor is how long these figures are good, so that many viewers cost no more than one.
	recentFor = 2 * time.Second
	// latestTasks is how many tasks the overview lists.
	latestTasks = 5
)

// recent is what the newest tasks are counted for.
type recent struct {
	Today   int
	Running int
	More    bool // there are more tasks than were looked at, so the figures are at least so high
	at      time.Time
}

// overviewData is what the overview shows.
type overviewData struct {
	fanfare.Stats
	Recent recent
	Latest []taskRow
	// First is what the host says of how to begin.
	First string
}

func (h *handler) overview(v *view) error {
	data, err := h.overviewData(v)
	if err != nil {
		return err
	}
	return v.render(http.StatusOK, "overview", page{Title: "Overview", Section: "overview", Data: data})
}

// figures is the part of the overview that is asked for again and again.
func (h *handler) figures(v *view) error {
	data, err := h.overviewData(v)
	if err != nil {
		return err
	}
	return v.fragment("overview", "figures", data)
}

func (h *handler) overviewData(v *view) (*overviewData, error) {
	stats, err := h.p.Stats(v.ctx)
	if err != nil {
		return nil, err
	}
	data := &overviewData{Stats: stats, First: h.o.FirstSteps}
	if data.Recent, err = h.recentFigures(v.ctx); err != nil {
		return nil, err
	}
	data.Latest, _, err = h.taskRows(v.ctx, "", latestTasks)
	return data, err
}

// sameDay says whether two times have the same date. There are days that do not begin at midnight, so that is not asked for.
func sameDay(a, b time.Time) bool {
	return a.Year() == b.Year() && a.YearDay() == b.YearDay()
}

// recentFigures counts the newest tasks, or has just done so.
func (h *handler) recentFigures(ctx context.Context) (recent, error) {
	h.recentMu.Lock()
	defer h.recentMu.Unlock()
	now := time.Now()
	if !h.recent.at.IsZero() && now.Sub(h.recent.at) < recentFor {
		return h.recent, nil
	}
	out, looked := recent{at: now}, 0
	for task, err := range h.p.Tasks(ctx) {
		if err != nil {
			return recent{}, err
		}
		if looked++; looked > recentTasks {
			out.More = true
			break
		}
		if sameDay(task.Info().Accepted.In(h.o.Location), now.In(h.o.Location)) {
			out.Today++
		}
		g, err := task.Progress()
		if errors.Is(err, fanfare.ErrUnknownTask) {
			continue // forgotten meanwhile
		}
		if err != nil {
			return recent{}, err
		}
		if g.Ended.IsZero() {
			out.Running++
		}
	}
	h.recent = out
	return out, nil
}
