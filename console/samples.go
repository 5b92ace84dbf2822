package console

import (
	"sync"
	"time"

	"github.com/fanfare-im/fanfare"
)

const (
	// maxSeries is how many tasks samples are kept of; the one looked at longest ago goes for a new one.
	maxSeries = 64
	// maxSamples is how many samples are kept of a task. When there are as many every second one goes, and they are taken half as often.
	maxSamples = 600
	// sampleEvery is how often a task is looked at while somebody watches, and how often a sample is taken of a new one.
	sampleEvery = time.Second
)

// sample is how far a task was at a moment.
type sample struct {
	At                           time.Time
	Delivered, Notified, Pending int64
}

// series is what is kept of a task.
type series struct {
	task     *fanfare.Task
	samples  []sample
	every    time.Duration
	next     time.Time
	last     fanfare.Progress
	err      error // it is known no more
	over     bool
	watchers int
	used     time.Time
	changed  chan struct{} // closed, and another made, when there is something new
}

// sampler looks at tasks while they run. Its goroutine is there only as long as one of them does, and the Pusher is open.
type sampler struct {
	done <-chan struct{}

	mu      sync.Mutex
	tasks   map[string]*series
	running bool
}

func newSampler(done <-chan struct{}) *sampler {
	return &sampler{done: done, tasks: make(map[string]*series)}
}

// follow begins to keep samples of a task, and returns what is kept; nil if there are too many that are watched.
func (s *sampler) follow(task *fanfare.Task) *series {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.followLocked(task)
}

func (s *sampler) followLocked(task *fanfare.Task) *series {
	now := time.Now()
	one := s.tasks[task.ID]
	if one == nil {
		if !s.makeRoom() {
			return nil
		}
		one = &series{task: task, every: sampleEvery, changed: make(chan struct{})}
		s.tasks[task.ID] = one
		if at := task.Info().Accepted; now.Sub(at) < time.Minute {
			one.samples = append(one.samples, sample{At: at}) // it began with nothing
		}
		one.look(now)
	}
	one.used = now
	if !one.over && !s.running {
		s.running = true
		go s.run()
	}
	return one
}

func (s *sampler) makeRoom() bool {
	if len(s.tasks) < maxSeries {
		return true
	}
	oldest := ""
	for id, one := range s.tasks {
		if one.watchers == 0 && (oldest == "" || one.used.Before(s.tasks[oldest].used)) {
			oldest = id
		}
	}
	delete(s.tasks, oldest)
	return oldest != ""
}

// watch is follow by one who waits for changes, until the returned function is called.
func (s *sampler) watch(task *fanfare.Task) (*series, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.followLocked(task)
	if one == nil {
		return nil, func() {}
	}
	one.watchers++
	return one, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		one.watchers--
	}
}

// seen is what a watcher is told.
type seen struct {
	fanfare.Progress
	samples []sample // since the last ones
	over    bool
	err     error
	changed <-chan struct{}
}

// since returns what there is, and the samples after a time.
func (s *sampler) since(one *series, after time.Time) seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := len(one.samples)
	for i > 0 && one.samples[i-1].At.After(after) {
		i--
	}
	return seen{Progress: one.last, samples: append([]sample(nil), one.samples[i:]...), over: one.over, err: one.err, changed: one.changed}
}

// run looks at the tasks until none runs.
func (s *sampler) run() {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.done:
			s.mu.Lock()
			s.running = false
			s.mu.Unlock()
			return
		}
		if !s.tick(time.Now()) {
			return
		}
	}
}

func (s *sampler) tick(now time.Time) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.tasks {
		if !one.over && (one.watchers > 0 || !now.Before(one.next)) {
			one.look(now)
		}
		more = more || !one.over
	}
	s.running = more
	return more
}

// look asks the task, and keeps a sample if it is time for one.
func (one *series) look(now time.Time) {
	g, err := one.task.Progress()
	if err != nil {
		one.err, one.over = err, true
		one.tell()
		return
	}
	news := !same(&g, &one.last)
	one.last, one.over = g, !g.Ended.IsZero()
	if one.over || !now.Before(one.next) {
		at := now
		if one.over && len(one.samples) > 0 && g.Ended.After(one.samples[len(one.samples)-1].At) && g.Ended.Before(now) {
			at = g.Ended
		}
		one.samples = append(one.samples, sample{at, g.Delivered, notified(&g), g.Pending})
		if len(one.samples) >= maxSamples {
			one.thin()
		}
		one.next = now.Add(one.every)
		news = true
	}
	if news {
		one.tell()
	}
}

// same says whether two moments of a task differ in nothing that is shown at once.
func same(a, b *fanfare.Progress) bool {
	return a.Delivered == b.Delivered && a.Failed == b.Failed && a.Pending == b.Pending && a.Expired == b.Expired && a.Withdrawn == b.Withdrawn &&
		a.Gone == b.Gone && a.Opened == b.Opened && notified(a) == notified(b) && a.Ended.Equal(b.Ended)
}

// thin lets every second sample go, but neither the first nor the last.
func (one *series) thin() {
	kept := one.samples[:0]
	for i, x := range one.samples {
		if i%2 == 0 || i == len(one.samples)-1 {
			kept = append(kept, x)
		}
	}
	one.samples = kept
	one.every *= 2
}

func (one *series) tell() {
	close(one.changed)
	one.changed = make(chan struct{})
}
