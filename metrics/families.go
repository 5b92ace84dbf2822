package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfare-im/fanfare"
)

const namespace = "fanfare_"

type stats = fanfare.Stats

// emit takes a value and those of the labels.
type emit func(value float64, labels ...string)

// family is a metric and where it comes from.
type family struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	file       bool // it is the size of a file
	each       func(*stats, emit)
}

func counter(name, help string, value func(*stats) int64) family {
	return family{name: name, help: help, kind: prometheus.CounterValue, each: func(s *stats, to emit) { to(float64(value(s))) }}
}

func seconds(name, help string, value func(*stats) time.Duration) family {
	return family{name: name, help: help, kind: prometheus.CounterValue, each: func(s *stats, to emit) { to(value(s).Seconds()) }}
}

func gauge(name, help string, value func(*stats) float64) family {
	return family{name: name, help: help, kind: prometheus.GaugeValue, each: func(s *stats, to emit) { to(value(s)) }}
}

func ofFile(f family) family {
	f.file = true
	return f
}

// labelled is a metric with a label of a few values, all of which are always there.
func labelled(name, help, label string, each func(*stats, emit)) family {
	return family{name: name, help: help, kind: prometheus.CounterValue, labels: []string{label}, each: each}
}

// phone is a metric of each platform that has a transport.
func phone(kind prometheus.ValueType, name, help string, value func(*fanfare.PhoneCounters) float64) family {
	return family{name: name, help: help, kind: kind, labels: []string{"platform"}, each: func(s *stats, to emit) {
		byPlatform(s, func(platform string, n *fanfare.PhoneCounters) { to(value(n), platform) })
	}}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// families are all metrics but those of single tasks, as docs/metrics.md has them.
var families = []family{
	gauge("users", "Users that are known.", func(s *stats) float64 { return float64(s.Users) }),
	gauge("online_users", "Users who are connected to this process.", func(s *stats) float64 { return float64(s.Here) }),
	counter("pushes_total", "Pushes accepted.", func(s *stats) int64 { return s.Counters.Accepted }),
	labelled("deliveries_total", "Deliveries of a message to a connected user, by what came of them.", "outcome", func(s *stats, to emit) {
		to(float64(s.Counters.Delivered), "delivered")
		to(float64(s.Counters.Failed), "failed")
	}),
	gauge("stuck_deliveries", "Deliveries that were left behind because they take too long, and have not returned.", func(s *stats) float64 { return float64(s.Stuck) }),
	counter("acknowledgements_total", "Messages that users acknowledged, each once a user.", func(s *stats) int64 { return s.Counters.Acked }),
	counter("opened_total", "Messages that users opened, each once a user.", func(s *stats) int64 { return s.Counters.Opened }),
	counter("catch_ups_total", "Users who connected, or fell behind, and have been brought up to date.", func(s *stats) int64 { return s.Counters.CaughtUp }),
	labelled("undelivered_total", "Users whom a message did not reach, by why it ended for them.", "reason", func(s *stats, to emit) {
		to(float64(s.Counters.Expired), "expired")
		to(float64(s.Counters.Withdrawn), "withdrawn")
		to(float64(s.Counters.Gone), "unregistered")
	}),
	{
		name: "notifications_total", help: "Notifications handed to the service of a platform, by its answer.", kind: prometheus.CounterValue,
		labels: []string{"platform", "outcome"}, each: func(s *stats, to emit) {
			byPlatform(s, func(platform string, n *fanfare.PhoneCounters) {
				to(float64(n.Accepted), platform, "accepted")
				to(float64(n.Unregistered), platform, "unregistered")
				to(float64(n.Rejected), platform, "rejected")
				to(float64(n.Retried), platform, "retry")
			})
		},
	},
	phone(prometheus.CounterValue, "notifications_given_up_total", "Notifications that were tried too often, or too late for their message.", func(n *fanfare.PhoneCounters) float64 { return float64(n.GaveUp) }),
	phone(prometheus.CounterValue, "notifications_unsent_total", "Notifications that the transport put off without trying them.", func(n *fanfare.PhoneCounters) float64 { return float64(n.Unsent) }),
	phone(prometheus.GaugeValue, "notification_tasks", "Tasks with phones to notify, now or after their grace.", func(n *fanfare.PhoneCounters) float64 { return float64(n.Tasks) }),
	phone(prometheus.GaugeValue, "notification_stopped_tasks", "Tasks whose notifications stopped because the service denies the sender.", func(n *fanfare.PhoneCounters) float64 { return float64(n.Stopped) }),
	counter("journal_commits_total", "Durable steps: synced writes to the journal.", func(s *stats) int64 { return s.Counters.Commits }),
	seconds("journal_commit_seconds_total", "Time that writes to the journal took.", func(s *stats) time.Duration { return s.Counters.CommitTime }),
	counter("journal_commands_total", "Changes in the durable steps; acknowledgements that came together are one.", func(s *stats) int64 { return s.Counters.Commands }),
	counter("journal_written_bytes_total", "Bytes of the durable steps.", func(s *stats) int64 { return s.Counters.CommitBytes }),
	labelled("refused_changes_total", "Changes that failed because the disk is full, or because it is not known what is on it.", "reason", func(s *stats, to emit) {
		to(float64(s.Counters.NoRoom), "no_room")
		to(float64(s.Counters.Unknown), "outcome_unknown")
	}),
	gauge("changes_refused", "1 if changes are refused until the directory is opened again, else 0.", func(s *stats) float64 { return truth(s.Refused != nil) }),
	gauge("delta_entries", "Changes in memory that are not in the blocks yet.", func(s *stats) float64 { return float64(s.DeltaEntries) }),
	gauge("delta_bytes", "Memory that the changes take which are not in the blocks yet.", func(s *stats) float64 { return float64(s.DeltaBytes) }),
	gauge("folding", "1 while changes are folded into the blocks, else 0.", func(s *stats) float64 { return truth(s.Folding) }),
	counter("folds_total", "Deltas folded into the blocks.", func(s *stats) int64 { return s.Counters.Folds }),
	seconds("fold_seconds_total", "Time that folding took, failed tries too.", func(s *stats) time.Duration { return s.Counters.FoldTime }),
	counter("folded_entries_total", "Changes folded into the blocks.", func(s *stats) int64 { return s.Counters.FoldEntries }),
	counter("folded_bytes_total", "Memory that the changes took which were folded into the blocks.", func(s *stats) int64 { return s.Counters.FoldBytes }),
	counter("fold_failures_total", "Tries to fold that failed, for want of room mostly.", func(s *stats) int64 { return s.Counters.FoldErrors }),
	ofFile(gauge("blocks_file_bytes", "Size of blocks.db.", func(s *stats) float64 { return float64(s.BlocksBytes) })),
	ofFile(gauge("journal_file_bytes", "Size of journal.db.", func(s *stats) float64 { return float64(s.JournalBytes) })),
	counter("background_errors_total", "Failures in the background, of which no caller was told.", func(s *stats) int64 { return s.Counters.Errors }),
	counter("hook_events_dropped_total", "Events for hooks that came while their queue was full.", func(s *stats) int64 { return s.Counters.EventsDropped }),
}

// taskFamily is a gauge of single tasks; its first label is the task.
type taskFamily struct {
	name, help string
	labels     []string
	each       func(*fanfare.Task, *fanfare.Progress, emit)
}

var taskFamilies = []taskFamily{
	{"task_users", "Users of the audience of one of the newest tasks, by where they are.", []string{"task", "state"}, func(_ *fanfare.Task, g *fanfare.Progress, to emit) {
		for state, n := range map[string]int64{
			"delivered": g.Delivered, "failed": g.Failed, "pending": g.Pending, "expired": g.Expired, "withdrawn": g.Withdrawn, "unregistered": g.Gone,
		} {
			to(float64(n), state)
		}
	}},
	{"task_opened_users", "Users who opened the message of one of the newest tasks.", []string{"task"}, func(_ *fanfare.Task, g *fanfare.Progress, to emit) {
		to(float64(g.Opened))
	}},
	{"task_accepted_timestamp_seconds", "When one of the newest tasks was accepted.", []string{"task"}, func(task *fanfare.Task, _ *fanfare.Progress, to emit) {
		to(float64(task.Info().Accepted.UnixMilli()) / 1000)
	}},
}
