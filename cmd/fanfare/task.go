package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
)

type tasksCommand struct {
	Dir   string `arg:"" help:"The directory."`
	Limit int    `short:"n" help:"At most so many of the latest. Default: all."`
}

type taskCommand struct {
	Dir string `arg:"" help:"The directory."`
	ID  string `arg:"" help:"The task's ID, which is that of its message."`
}

// taskReport is what there is to say of a task.
type taskReport struct {
	ID        string    `json:"id"`
	State     string    `json:"state"` // "running", or "ended"
	From      string    `json:"from"`
	To        string    `json:"to"`
	Key       string    `json:"key,omitempty"`
	Category  string    `json:"category,omitempty"`
	Plan      string    `json:"plan,omitempty"`
	Variant   string    `json:"variant,omitempty"`
	Accepted  time.Time `json:"accepted"`
	Expires   time.Time `json:"expires"`
	Ended     time.Time `json:"ended,omitzero"`
	Total     int64     `json:"total"`
	Delivered int64     `json:"delivered"`
	Failed    int64     `json:"failed"`
	Pending   int64     `json:"pending"`
	Expired   int64     `json:"expired"`
	Withdrawn int64     `json:"withdrawn"`
	Gone      int64     `json:"gone"`
	OptedOut  int64     `json:"optedOut"`
	Capped    int64     `json:"capped"`
	Opened    int64     `json:"opened"`

	Phones  map[string]phoneReport `json:"phones,omitempty"` // by platform
	Recalls map[string]phoneReport `json:"recalls,omitempty"`
}

// phoneReport is how far the notifications on a platform have come.
type phoneReport struct {
	Sent         int64            `json:"sent"`
	Accepted     int64            `json:"accepted"`
	Unregistered int64            `json:"unregistered"`
	Rejected     int64            `json:"rejected"`
	Retried      int64            `json:"retried"`
	GaveUp       int64            `json:"gaveUp"`
	Reasons      map[string]int64 `json:"reasons,omitempty"`
}

func reportOf(task *fanfare.Task) (*taskReport, error) {
	g, err := task.Progress()
	if err != nil {
		return nil, err
	}
	i := task.Info()
	r := &taskReport{
		ID: task.ID, State: "running", From: i.From, To: i.To.String(), Key: i.Key, Category: i.Category, Plan: i.Plan, Variant: i.Variant,
		Accepted: i.Accepted.UTC(), Expires: i.Expires.UTC(),
		Total: g.Total, Delivered: g.Delivered, Failed: g.Failed, Pending: g.Pending, Expired: g.Expired, Withdrawn: g.Withdrawn, Gone: g.Gone,
		OptedOut: g.OptedOut, Capped: g.Capped, Opened: g.Opened, Phones: phonesOf(g.Phones), Recalls: phonesOf(g.Recalls),
	}
	if !g.Ended.IsZero() {
		r.State, r.Ended = "ended", g.Ended.UTC()
	}
	return r, nil
}

func phonesOf(phones map[string]fanfare.PhoneStats) map[string]phoneReport {
	if len(phones) == 0 {
		return nil
	}
	out := make(map[string]phoneReport, len(phones))
	for platform, n := range phones {
		out[platform] = phoneReport{n.Sent, n.Accepted, n.Unregistered, n.Rejected, n.Retried, n.GaveUp, n.Reasons}
	}
	return out
}

// taskRows is how many rows are aligned with each other: so many are held in memory.
const taskRows = 1000

func (cmd *tasksCommand) Run(c *call) error {
	return c.look(cmd.Dir, func(p *fanfare.Pusher) error {
		t := newTaskTable()
		n := 0
		for task, err := range p.Tasks(c.ctx) {
			if err != nil {
				return err
			}
			if n++; cmd.Limit > 0 && n > cmd.Limit {
				break
			}
			r, err := reportOf(task)
			if err == nil && c.json {
				err = c.object(r)
			} else if err == nil {
				t.row(r.ID, at(r.Accepted), r.State, number(r.Total), number(r.Delivered), number(r.Pending), r.To)
				if len(t.rows) == taskRows {
					err = t.print(c.out)
					t.rows = nil
				}
			}
			if err != nil {
				return err
			}
		}
		if c.json {
			return nil
		}
		return t.print(c.out)
	})
}

func newTaskTable() *table {
	t := &table{right: 0b111000}
	t.row("task", "accepted", "state", "total", "delivered", "pending", "to")
	return t
}

func (cmd *taskCommand) Run(c *call) error {
	return c.look(cmd.Dir, func(p *fanfare.Pusher) error {
		task, err := p.Task(c.ctx, cmd.ID)
		if err != nil {
			return named(plain(cmd.ID), err)
		}
		r, err := reportOf(task)
		if err != nil {
			return err
		}
		if c.json {
			return c.object(r)
		}
		return r.print(c)
	})
}

func (r *taskReport) print(c *call) error {
	var t table
	t.row("task", r.ID)
	t.row("from", plain(r.From))
	t.row("to", r.To)
	for _, f := range [][2]string{{"key", r.Key}, {"category", r.Category}, {"plan", r.Plan}, {"variant", r.Variant}} {
		if f[1] != "" {
			t.row(f[0], plain(f[1]))
		}
	}
	t.row("accepted", at(r.Accepted))
	t.row("expires", at(r.Expires))
	t.row("ended", at(r.Ended))
	if err := t.print(c.out); err != nil {
		return err
	}
	counts := table{right: 0b10}
	counts.row("users", number(r.Total))
	for _, n := range []struct {
		what string
		n    int64
	}{
		{"delivered", r.Delivered}, {"failed", r.Failed}, {"pending", r.Pending}, {"expired", r.Expired}, {"withdrawn", r.Withdrawn}, {"gone", r.Gone},
		{"opted out", r.OptedOut}, {"capped", r.Capped}, {"opened", r.Opened},
	} {
		counts.row(n.what, number(n.n))
	}
	fmt.Fprintln(c.out)
	if err := counts.print(c.out); err != nil {
		return err
	}
	for _, of := range []struct {
		what   string
		phones map[string]phoneReport
	}{{"phones", r.Phones}, {"recalls", r.Recalls}} {
		if err := printPhones(c, of.what, of.phones); err != nil {
			return err
		}
	}
	return nil
}

func printPhones(c *call, what string, phones map[string]phoneReport) error {
	if len(phones) == 0 {
		return nil
	}
	t := table{right: 0b1111110}
	t.row(what, "sent", "accepted", "unregistered", "rejected", "retried", "gave up", "reasons")
	for _, platform := range slices.Sorted(maps.Keys(phones)) {
		n := phones[platform]
		var reasons []string
		for _, reason := range slices.Sorted(maps.Keys(n.Reasons)) {
			reasons = append(reasons, fmt.Sprintf("%s %s", number(n.Reasons[reason]), plain(reason)))
		}
		t.row(plain(platform), number(n.Sent), number(n.Accepted), number(n.Unregistered), number(n.Rejected), number(n.Retried), number(n.GaveUp), strings.Join(reasons, ", "))
	}
	fmt.Fprintln(c.out)
	return t.print(c.out)
}
