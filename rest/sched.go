package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/fanfare-im/fanfare"
)

const (
	// schedTime is how the service writes a time, in UTC.
	schedTime = "2006-01-02 15:04:05"
	// maxSchedUsers is how many users a task of type User may name.
	maxSchedUsers = 500
	// maxSchedList is how many tasks are listed at a time.
	maxSchedList = 100
)

func init() {
	serve("timpush/add_sched_task", (*API).addSched)
	serve("timpush/modify_sched_task", (*API).modifySched)
	serve("timpush/delete_sched_task", (*API).deleteSched)
	serve("timpush/get_sched_task", (*API).getSched)
	serve("timpush/list_sched_task", (*API).listSched)
}

// addSched plans a push. With a MsgRandom in its Content a retry is the same task.
func (a *API) addSched(r *request) (answer, error) {
	at, err := a.schedAt(r)
	if err != nil {
		return nil, err
	}
	m, err := a.schedContent(r, at)
	if err != nil {
		return nil, err
	}
	planned, err := a.p.Plan(r.ctx, fanfare.Plan{Message: m, At: at})
	if err != nil {
		return nil, a.schedError(err)
	}
	return &pushAnswer{TaskId: planned.ID}, nil
}

// schedAt reads SchedAt, which is to come.
func (a *API) schedAt(r *request) (time.Time, error) {
	text, is := asString(r.body["SchedAt"])
	at, err := time.ParseInLocation(schedTime, text, time.UTC)
	if !is || err != nil {
		return at, refuse(codePushBadJSON, "SchedAt is %s, not a time in UTC such as %q", show(r.body["SchedAt"]), schedTime)
	}
	if at.Before(a.o.Now()) {
		return at, refuse(codePushBadJSON, "SchedAt is %s, which is past", show(r.body["SchedAt"]))
	}
	return at, nil
}

// schedContent reads what is to be pushed, and to whom.
func (a *API) schedContent(r *request, at time.Time) (m fanfare.Message, err error) {
	content, is := asObject(r.body["Content"])
	if !is {
		return m, refuse(codePushBadJSON, "Content is %s, not an object as of timpush/push", show(r.body["Content"]))
	}
	kind, _ := asString(r.body["Type"])
	of := &request{ctx: r.ctx, from: r.from, body: content, raw: r.body["Content"]}
	random := content.has("MsgRandom")
	if !random {
		content["MsgRandom"] = strconv.AppendUint(nil, uint64(rand.Uint32()), 10) // for the receiver
	}
	if m, err = a.message(of, of.timLifetime); err != nil {
		return m, err
	}
	if !random {
		m.Key = ""
	}
	if m.Body, err = bodyAt(m.Body, at); err != nil {
		return m, err
	}
	switch all := m.To.String() == fanfare.All().String(); kind {
	case "All":
		if !all {
			return m, refuse(codePushBadJSON, "Content has a Condition, and Type is All")
		}
	case "Tag":
		if all {
			return m, refuse(codePushBadJSON, "Content has no Condition, and Type is Tag")
		}
	case "User":
		ids, err := of.accounts(maxSchedUsers, codeTooMany, codePushBadJSON)
		if err != nil {
			return m, err
		}
		m.To = fanfare.Users(ids...)
	default:
		return m, refuse(codePushBadJSON, "Type is %s: All, Tag and User are known", show(r.body["Type"]))
	}
	return m, nil
}

// schedError is the answer for a plan that the Pusher refuses.
func (a *API) schedError(err error) error {
	switch {
	case errors.Is(err, fanfare.ErrKeyReused):
		return refuse(codePushBadJSON, "MsgRandom is that of a task with another content or time")
	case errors.Is(err, fanfare.ErrUnknownPlan):
		return refuse(codeUnknownTask, "TaskId is not known")
	case errors.Is(err, fanfare.ErrPlanStarted):
		return refuse(codeTooLateToRevoke, "the task has begun")
	}
	return pushError(err)
}

// planned returns the task that a request names.
func (a *API) planned(r *request) (*fanfare.Planned, fanfare.PlanInfo, error) {
	id, is := asString(r.body["TaskId"])
	if !is || id == "" {
		return nil, fanfare.PlanInfo{}, refuse(codePushBadJSON, "TaskId is %s, not a string", show(r.body["TaskId"]))
	}
	planned, err := a.p.Planned(r.ctx, id)
	if err != nil {
		return nil, fanfare.PlanInfo{}, a.schedError(err)
	}
	info, err := planned.Info(r.ctx)
	return planned, info, err
}

// modifySched changes the time of a task that has not begun, or its content, or both.
func (a *API) modifySched(r *request) (answer, error) {
	planned, info, err := a.planned(r)
	if err != nil {
		return nil, err
	}
	if err := notOver(info); err != nil {
		return nil, err
	}
	plan := info.Plan
	if !schedForm(&plan) {
		return nil, refuse(codeUnknownTask, "the task was not made by add_sched_task, whose form it does not have")
	}
	if r.body.has("SchedAt") {
		if plan.At, err = a.schedAt(r); err != nil {
			return nil, err
		}
	}
	switch {
	case r.body.has("Content"):
		key := plan.Message.Key
		if plan.Message, err = a.schedContent(r, plan.At); err != nil {
			return nil, err
		}
		plan.Message.Key = key
	case !r.body.has("SchedAt"):
		return nil, refuse(codePushBadJSON, "neither SchedAt nor Content is there")
	default:
		if plan.Message.Body, err = bodyAt(plan.Message.Body, plan.At); err != nil {
			return nil, err
		}
	}
	if err := planned.Change(r.ctx, plan); errors.Is(err, fanfare.ErrPlanEnded) {
		return nil, refuse(codeTooLateToRevoke, "the task has begun")
	} else if err != nil {
		return nil, a.schedError(err)
	}
	return new(envelope), nil
}

// schedForm reports whether a plan is such as add_sched_task makes them. Of one that the program made, which the lists show too, a change
// would lose what this API has no words for: a body of another form, or that it repeats.
func schedForm(plan *fanfare.Plan) bool {
	if plan.Every != "" || plan.Local || len(plan.Variants) > 0 {
		return false
	}
	var v received
	d := json.NewDecoder(bytes.NewReader(plan.Message.Body))
	d.DisallowUnknownFields() // which would not be written again
	return json.Valid(plan.Message.Body) && d.Decode(&v) == nil && len(v.MsgBody) > 0 && v.MsgBody[0] == '['
}

// notOver refuses to change a task that is over.
func notOver(info fanfare.PlanInfo) error {
	switch {
	case info.Outcome == fanfare.PlanCancelled:
		return refuse(codeRevokedAlready, "the task was deleted at %s", info.Ended.UTC().Format(schedTime))
	case !info.Ended.IsZero() || info.Fired > 0:
		return refuse(codeTooLateToRevoke, "the task has begun")
	}
	return nil
}

// deleteSched takes a task back that has not begun.
func (a *API) deleteSched(r *request) (answer, error) {
	planned, info, err := a.planned(r)
	if err != nil {
		return nil, err
	}
	if err := notOver(info); err != nil {
		return nil, err
	}
	if err := planned.Cancel(r.ctx); errors.Is(err, fanfare.ErrPlanEnded) {
		return nil, refuse(codeTooLateToRevoke, "the task has begun")
	} else if err != nil {
		return nil, a.schedError(err)
	}
	return new(envelope), nil
}

// schedTask is a task as it is answered.
type schedTask struct {
	TaskId      string
	SchedAt     string
	Status      string   // Waiting, Running, Finished, Deleted, Missed or Failed
	Condition   string   // for whom, in the text form of audiences
	PushTaskIds []string // the pushes that it made
}

type schedAnswer struct {
	envelope
	Task *schedTask `json:",omitempty"`
}

func (a *API) getSched(r *request) (answer, error) {
	planned, info, err := a.planned(r)
	if err != nil {
		return nil, err
	}
	task, err := schedOf(r, planned, &info)
	return &schedAnswer{Task: task}, err
}

// schedAtOf is when a plan is pushed. One that the program made may have no such time, or a reading of many clocks: of that it is when it fires next, and then when it ended.
func schedAtOf(info *fanfare.PlanInfo) time.Time {
	switch {
	case !info.Local && !info.At.IsZero():
		return info.At
	case !info.Next.IsZero():
		return info.Next
	case !info.Ended.IsZero():
		return info.Ended
	}
	return info.Created
}

func schedOf(r *request, planned *fanfare.Planned, info *fanfare.PlanInfo) (*schedTask, error) {
	out := &schedTask{
		TaskId: info.ID, SchedAt: schedAtOf(info).UTC().Format(schedTime), Condition: info.Message.To.String(), PushTaskIds: []string{},
		Status: map[fanfare.PlanOutcome]string{
			fanfare.PlanCompleted: "Finished", fanfare.PlanCancelled: "Deleted", fanfare.PlanMissed: "Missed", fanfare.PlanFailed: "Failed",
		}[info.Outcome],
	}
	if out.Status == "" {
		out.Status = map[bool]string{true: "Running", false: "Waiting"}[info.Fired > 0]
	}
	for task, err := range planned.Tasks(r.ctx) {
		if err != nil {
			return nil, err
		}
		if out.PushTaskIds = append(out.PushTaskIds, task.ID); len(out.PushTaskIds) == maxSchedList {
			break
		}
	}
	return out, nil
}

type schedListAnswer struct {
	envelope
	Tasks []schedTask
	Next  string `json:",omitempty"` // where the list goes on
}

// listSched lists tasks, the newest first, from behind the one that Next names.
func (a *API) listSched(r *request) (answer, error) {
	from, err := r.text("Next")
	if err != nil {
		return nil, err
	}
	most, is := asInteger(r.body["Limit"])
	if !r.body.has("Limit") {
		most, is = maxSchedList, true
	}
	if !is || most < 1 || most > maxSchedList {
		return nil, refuse(codePushBadJSON, "Limit is %s: 1 to %d", show(r.body["Limit"]), maxSchedList)
	}
	out := &schedListAnswer{Tasks: []schedTask{}}
	for planned, err := range a.p.Plans(r.ctx) {
		if err != nil {
			return nil, err
		}
		if from != "" && planned.ID >= from { // IDs ascend
			continue
		}
		if len(out.Tasks) == int(most) {
			out.Next = out.Tasks[most-1].TaskId
			break
		}
		info, err := planned.Info(r.ctx)
		if errors.Is(err, fanfare.ErrUnknownPlan) {
			continue // forgotten meanwhile
		}
		if err != nil {
			return nil, err
		}
		task, err := schedOf(r, planned, &info)
		if err != nil {
			return nil, err
		}
		out.Tasks = append(out.Tasks, *task)
	}
	return out, nil
}

// bodyAt is a body with the time at which it is pushed.
func bodyAt(b []byte, at time.Time) ([]byte, error) {
	var v received
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("the body of a message: %w", err)
	}
	v.MsgTime = at.Unix()
	return body(v)
}
