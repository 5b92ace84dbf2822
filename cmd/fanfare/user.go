package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
)

type userCommand struct {
	Dir   string `arg:"" help:"The directory."`
	ID    string `arg:"" help:"The user's ID."`
	Tasks int    `default:"20" help:"Of how many of the latest tasks to say where the user stands."`
}

func (*userCommand) Help() string {
	return `Where a user stands with a task: waiting, received, missed (was in the audience and still waited at its end), outside (was not in the audience), unknown (does not wait, and more was not kept: it is only of tasks that were pushed with Options.KeepAudiences).`
}

// userReport is what there is to say of a user.
type userReport struct {
	userLine
	Pending   []pendingMessage `json:"pending"`
	Standings []standingLine   `json:"standings"`
}

type pendingMessage struct {
	ID       string    `json:"id"`
	From     string    `json:"from"`
	Bytes    int       `json:"bytes"` // of the body
	Accepted time.Time `json:"accepted"`
	Expires  time.Time `json:"expires"`
}

type standingLine struct {
	Task     string    `json:"task"`
	Standing string    `json:"standing"`
	Accepted time.Time `json:"accepted"`
	To       string    `json:"to"`
}

func (cmd *userCommand) Run(c *call) error {
	return c.look(cmd.Dir, func(p *fanfare.Pusher) error {
		u, err := p.User(c.ctx, cmd.ID)
		if err != nil {
			return named(plain(cmd.ID), err)
		}
		r := userReport{userLine: lineOf(&u), Pending: []pendingMessage{}, Standings: []standingLine{}}
		for m, err := range p.Pending(c.ctx, cmd.ID) {
			if err != nil {
				return err
			}
			r.Pending = append(r.Pending, pendingMessage{m.ID, m.From, len(m.Body), m.Accepted.UTC(), m.Expires.UTC()})
		}
		for task, err := range p.Tasks(c.ctx) {
			if err != nil {
				return err
			}
			if len(r.Standings) >= cmd.Tasks {
				break
			}
			standing, err := task.Standing(c.ctx, cmd.ID)
			if err != nil {
				return err
			}
			info := task.Info()
			r.Standings = append(r.Standings, standingLine{task.ID, string(standing), info.Accepted.UTC(), info.To.String()})
		}
		if c.json {
			return c.object(r)
		}
		return r.print(c)
	})
}

func (r *userReport) print(c *call) error {
	var t table
	t.row("user", plain(r.ID))
	t.row("registered", at(r.Registered))
	t.row("tags", plainList(r.Tags))
	t.row("opt-outs", plainList(r.OptOuts))
	for _, name := range slices.Sorted(maps.Keys(r.Attributes)) {
		t.row("attr."+plain(name), plain(r.Attributes[name]))
	}
	for _, d := range r.Devices {
		about := []string{plain(d.Platform)}
		for _, s := range []string{d.Topic, d.Locale, d.TimeZone} {
			if s != "" {
				about = append(about, plain(s))
			}
		}
		t.row("device", strings.Join(append(about, "since "+at(d.Registered), "token "+plain(d.Token)), ", "))
	}
	t.row("waits for", counted(int64(len(r.Pending)), "message"))
	if err := t.print(c.out); err != nil {
		return err
	}
	if len(r.Pending) > 0 {
		pending := table{right: 0b1000}
		pending.row("pending", "accepted", "expires", "body", "from")
		for _, m := range r.Pending {
			pending.row(m.ID, at(m.Accepted), at(m.Expires), size(int64(m.Bytes)), plain(m.From))
		}
		fmt.Fprintln(c.out)
		if err := pending.print(c.out); err != nil {
			return err
		}
	}
	if len(r.Standings) == 0 {
		return nil
	}
	var tasks table
	tasks.row("task", "standing", "accepted", "to")
	for _, s := range r.Standings {
		tasks.row(s.Task, s.Standing, at(s.Accepted), s.To)
	}
	fmt.Fprintln(c.out)
	return tasks.print(c.out)
}

// plainList is texts for a terminal, "-" for none.
func plainList(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = plain(s)
	}
	return strings.Join(out, ", ")
}
