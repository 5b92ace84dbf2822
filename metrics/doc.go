// Package metrics shows a [fanfare.Pusher] to Prometheus: what it holds, what it has done since it was opened, and, if
// asked to, how far its newest tasks are.
//
//	registry.MustRegister(metrics.New(pusher, metrics.Options{}))
//
// Nothing is counted here: each scrape asks [fanfare.Pusher.Stats], which takes some microseconds. The counters start again with
// the process, as those of Prometheus do. docs/metrics.md says what each of them means and what to be woken for, docs/alerts.yml and
// docs/grafana-dashboard.json are ready to use.
package metrics
