package metrics

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-im/fanfare"
)

// Options adjust a collector. The zero value works.
type Options struct {
	// Tasks is of how many tasks, the newest ones, there are metrics of their own, at most 100. Each is eight time series that
	// live as long as the task is among them, so this is for a few pushes a day. Default: none.
	Tasks int
	// Labels are added to each metric, to tell several Pushers of a process apart. Default: none.
	Labels prometheus.Labels
}

// maxTasks bounds Options.Tasks, and so the time series.
const maxTasks = 100

// New returns a collector of the metrics of a Pusher. It is safe for concurrent use; once the Pusher is
// closed it has no metrics, which is no error. It panics if there is no Pusher.
func New(p *fanfare.Pusher, o Options) prometheus.Collector {
	if p == nil {
		panic("metrics: New without a Pusher")
	}
	c := &collector{p: p, tasks: min(max(o.Tasks, 0), maxTasks)}
	for i := range families {
		f := &families[i]
		c.descs = append(c.descs, prometheus.NewDesc(namespace+f.name, f.help, f.labels, o.Labels))
	}
	for i := range taskFamilies {
		f := &taskFamilies[i]
		c.taskDescs = append(c.taskDescs, prometheus.NewDesc(namespace+f.name, f.help, f.labels, o.Labels))
	}
	return c
}

type collector struct {
	p                *fanfare.Pusher
	tasks            int
	descs, taskDescs []*prometheus.Desc // as families and taskFamilies
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
	if c.tasks > 0 {
		for _, d := range c.taskDescs {
			to <- d
		}
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s, err := c.p.Stats(context.Background())
	if errors.Is(err, fanfare.ErrClosed) {
		return
	}
	for i := range families {
		f := &families[i]
		if err != nil && f.file { // of which the size cannot be told; all else is known
			to <- prometheus.NewInvalidMetric(c.descs[i], err)
			continue
		}
		f.each(&s, func(value float64, labels ...string) {
			to <- metric(c.descs[i], f.kind, value, labels...)
		})
	}
	c.collectTasks(to)
}

// collectTasks shows the newest tasks. One that is forgotten meanwhile, or the end of the Pusher, is no error.
func (c *collector) collectTasks(to chan<- prometheus.Metric) {
	if c.tasks == 0 {
		return
	}
	left := c.tasks
	for task, err := range c.p.Tasks(context.Background()) {
		var g fanfare.Progress
		if err == nil {
			g, err = task.Progress()
		}
		switch {
		case errors.Is(err, fanfare.ErrUnknownTask):
			continue
		case errors.Is(err, fanfare.ErrClosed):
			return
		case err != nil:
			to <- prometheus.NewInvalidMetric(c.taskDescs[0], err)
			return
		}
		for i := range taskFamilies {
			f := &taskFamilies[i]
			f.each(task, &g, func(value float64, labels ...string) {
				to <- metric(c.taskDescs[i], prometheus.GaugeValue, value, append([]string{task.ID}, labels...)...)
			})
		}
		if left--; left == 0 {
			return
		}
	}
}

// metric is a value, or why it cannot be one: what a transport says its platform is may be no label, and a panic would cost all that comes behind it.
func metric(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) prometheus.Metric {
	m, err := prometheus.NewConstMetric(d, kind, value, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err)
	}
	return m
}

// byPlatform yields the platforms in order.
func byPlatform(s *fanfare.Stats, f func(platform string, n *fanfare.PhoneCounters)) {
	for _, platform := range slices.Sorted(maps.Keys(s.Phones)) {
		n := s.Phones[platform]
		f(platform, &n)
	}
}
