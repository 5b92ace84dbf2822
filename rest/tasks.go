package rest

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/fanfare-im/fanfare"
)

const (
	// maxRevoke is for how long after a push it may be taken back.
	maxRevoke = 24 * time.Hour
	// maxStatistics is how many tasks the statistics may be asked of.
	maxStatistics = 5
)

func init() {
	serve("timpush/revoke", (*API).revoke)
	serve("timpush/all_member_push_statistics", (*API).statistics)
}

// revoke takes a push back: nobody gets it any more. Who has it keeps it.
func (a *API) revoke(r *request) (answer, error) {
	id, is := asString(r.body["TaskId"])
	if !is || id == "" {
		return nil, refuse(codePushBadJSON, "TaskId is %s, not a string", show(r.body["TaskId"]))
	}
	task, err := a.p.Task(r.ctx, id)
	if errors.Is(err, fanfare.ErrUnknownTask) {
		return nil, refuse(codeUnknownTask, "TaskId %.64q is not known", id)
	}
	if err != nil {
		return nil, err
	}
	g, err := task.Progress()
	switch {
	case err != nil:
		return nil, err
	case g.Withdrawn > 0:
		return nil, refuse(codeRevokedAlready, "TaskId %q was revoked at %s", id, g.Ended.UTC().Format(time.RFC3339))
	case a.o.Now().Sub(task.Info().Accepted) > maxRevoke:
		return nil, refuse(codeTooLateToRevoke, "TaskId %q was pushed at %s: it can be revoked for %v", id, task.Info().Accepted.UTC().Format(time.RFC3339), maxRevoke)
	}
	return new(envelope), a.p.Withdraw(r.ctx, id)
}

// taskStatistics are the figures of a task.
type taskStatistics struct {
	TaskID             string
	TotalCount         int64 // users of the audience
	SentCount          int64 // sent to: connected users, and phones that their service took it for
	DeliveredCount     int64 // users who have it
	ClickCount         int64 // users who have opened it
	PlatformStatistics []platformStatistics
}

type platformStatistics struct {
	Platform   string
	SentCount  int64 // tries
	Accepted   int64
	InvalidReg int64 // dead tokens
	FailCount  int64 // rejected, or given up
}

type statisticsAnswer struct {
	envelope
	Results []taskStatistics
}

// statistics answers with the figures of up to five tasks that were accepted between two times, in seconds since 1970. Those that are not
// known, or are of another time, are left out.
func (a *API) statistics(r *request) (answer, error) {
	raw, name := r.body.first("TaskID", "TaskId")
	ids, is := asTexts(raw)
	if isString(raw) {
		var id string
		id, is = asString(raw)
		ids = []string{id}
	}
	if !is || len(ids) == 0 || len(ids) > maxStatistics {
		return nil, refuse(codePushBadJSON, "%s is %s, not a list of 1 to %d tasks", name, show(raw), maxStatistics)
	}
	from, fromIs := asInteger(r.body["StartTime"])
	to, toIs := asInteger(r.body["EndTime"])
	if r.body.has("StartTime") && !fromIs || r.body.has("EndTime") && !toIs {
		return nil, refuse(codePushBadJSON, "StartTime and EndTime are %s and %s, not seconds since 1970", show(r.body["StartTime"]), show(r.body["EndTime"]))
	}
	out := &statisticsAnswer{Results: []taskStatistics{}}
	for _, id := range ids {
		task, err := a.p.Task(r.ctx, id)
		if errors.Is(err, fanfare.ErrUnknownTask) {
			continue
		}
		if err != nil {
			return nil, err
		}
		at := task.Info().Accepted.Unix()
		if fromIs && at < from || toIs && at > to {
			continue
		}
		g, err := task.Progress()
		if errors.Is(err, fanfare.ErrUnknownTask) {
			continue // forgotten meanwhile
		}
		if err != nil {
			return nil, err
		}
		out.Results = append(out.Results, statisticsOf(id, &g))
	}
	return out, nil
}

func statisticsOf(id string, g *fanfare.Progress) taskStatistics {
	s := taskStatistics{TaskID: id, TotalCount: g.Total, SentCount: g.Delivered, DeliveredCount: g.Delivered, ClickCount: g.Opened, PlatformStatistics: []platformStatistics{}}
	for _, platform := range slices.Sorted(maps.Keys(g.Phones)) {
		n := g.Phones[platform]
		s.SentCount += n.Accepted
		s.PlatformStatistics = append(s.PlatformStatistics, platformStatistics{
			Platform: platform, SentCount: n.Sent, Accepted: n.Accepted, InvalidReg: n.Unregistered, FailCount: n.Rejected + n.GaveUp,
		})
	}
	return s
}
