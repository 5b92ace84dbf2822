package console

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/fanfare-im/fanfare"
)

// tasksPerPage is how many tasks a page of the list has.
const tasksPerPage = 25

// taskRow is a task as a list shows it.
type taskRow struct {
	ID string
	fanfare.TaskInfo
	fanfare.Progress
	State string // a key of the texts
}

// Percent is how much of the audience has the message.
func (t *taskRow) Percent() int64 {
	if t.Total == 0 {
		return 100
	}
	return t.Delivered * 100 / t.Total
}

// Notified is how many notifications the services took.
func (t *taskRow) Notified() int64 { return notified(&t.Progress) }

func notified(g *fanfare.Progress) int64 {
	var n int64
	for _, phones := range g.Phones {
		n += phones.Accepted
	}
	return n
}

// stateOf is where a task stands, in a word.
func stateOf(g *fanfare.Progress) string {
	switch {
	case g.Ended.IsZero():
		return "Running"
	case g.Withdrawn > 0 || g.Recalls != nil:
		return "Withdrawn"
	case g.Expired > 0:
		return "Expired"
	}
	return "Finished"
}

func rowOf(task *fanfare.Task, g fanfare.Progress) taskRow {
	return taskRow{ID: task.ID, TaskInfo: task.Info(), Progress: g, State: stateOf(&g)}
}

// tasksData is a page of the list.
type tasksData struct {
	Rows   []taskRow
	Before string // the page is of the tasks before this one; empty: the newest
	Next   string // the next page is of those before this one; empty: there is none
}

func (h *handler) tasks(v *view) error {
	data := tasksData{Before: v.r.URL.Query().Get("before")}
	var err error
	if data.Rows, data.Next, err = h.taskRows(v.ctx, data.Before, tasksPerPage); err != nil {
		return err
	}
	return v.render(http.StatusOK, "tasks", page{Title: "Tasks", Section: "tasks", Data: data})
}

// taskRows returns the tasks that were accepted before one, newest first, and the last of them if there are more.
func (h *handler) taskRows(ctx context.Context, before string, most int) (rows []taskRow, next string, err error) {
	of := h.p.Tasks(ctx)
	if before != "" {
		of = h.p.TasksBefore(ctx, before)
	}
	for task, err := range of {
		if errors.Is(err, fanfare.ErrUnknownTask) {
			break // no task is before what is none
		}
		if err != nil {
			return nil, "", err
		}
		if len(rows) == most {
			return rows, rows[most-1].ID, nil
		}
		g, err := task.Progress()
		if errors.Is(err, fanfare.ErrUnknownTask) {
			continue // forgotten meanwhile
		}
		if err != nil {
			return nil, "", err
		}
		rows = append(rows, rowOf(task, g))
	}
	return rows, "", nil
}

// taskData is what the page of a task shows.
type taskData struct {
	taskRow
	Notice   string // what was just done; a key of the texts
	Now      time.Time
	Variants variantsData // of its plan
	Recall   *recall      // of the page that withdraws it
}

// platformRow is what a platform did for a task.
type platformRow struct {
	Platform string
	fanfare.PhoneStats
	Why []reasonRow
}

// reasonRow is a reason for which notifications were rejected.
type reasonRow struct {
	Reason string
	Count  int64
}

// Notifications are what each platform did to notify, by name.
func (t *taskData) Notifications() []platformRow { return platformRows(t.Phones) }

// Told are what each platform did to tell phones that the message was withdrawn.
func (t *taskData) Told() []platformRow { return platformRows(t.Recalls) }

// platformRows are platforms by name, with the reasons of failures, most frequent first.
func platformRows(of map[string]fanfare.PhoneStats) []platformRow {
	var out []platformRow
	for _, name := range slices.Sorted(maps.Keys(of)) {
		row := platformRow{Platform: name, PhoneStats: of[name]}
		for reason, n := range row.Reasons {
			row.Why = append(row.Why, reasonRow{reason, n})
		}
		slices.SortFunc(row.Why, func(a, b reasonRow) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
		})
		out = append(out, row)
	}
	return out
}

// platformsData is a table of what platforms did.
type platformsData struct {
	Rows          []platformRow
	Name, Caption string
	On            bool // there is more to come
}

// Notifications is the table of those who were notified.
func (v *view) Notifications(rows []platformRow) platformsData {
	return platformsData{Rows: rows, Name: v.T("Phones"), Caption: v.T("Notifications by platform")}
}

// Recalls is the table of those who were told of a withdrawal.
func (v *view) Recalls(rows []platformRow, on bool) platformsData {
	return platformsData{Rows: rows, Name: v.T("Phones told of the withdrawal"), Caption: v.T("Phones told of the withdrawal, by platform"), On: on}
}

// Fleeting says that the task is for those online now only.
func (t *taskData) Fleeting() bool { return t.Expires.Equal(t.Accepted) }

func (h *handler) taskData(v *view) (*fanfare.Task, *taskData, error) {
	task, err := h.p.Task(v.ctx, v.arg)
	if err != nil {
		return nil, nil, err
	}
	g, err := task.Progress()
	if err != nil {
		return nil, nil, err
	}
	return task, &taskData{taskRow: rowOf(task, g), Now: time.Now()}, nil
}

// variantsWithin is how long the other tasks of a plan are looked at for the page of one: there may be one for each second.
const variantsWithin = 500 * time.Millisecond

// variantsOfTask compares a task with the others of its plan; nothing if it is not of one with variants, or that takes too long.
func (h *handler) variantsOfTask(v *view, task *fanfare.Task) (variantsData, error) {
	data := variantsData{Here: true, Of: task.Info().Variant}
	if task.Info().Plan == "" {
		return data, nil
	}
	planned, info, err := h.plannedInfo(v, task.Info().Plan)
	if errors.Is(err, fanfare.ErrUnknownPlan) || err == nil && len(info.Variants) == 0 {
		return data, nil
	}
	if err != nil {
		return data, err
	}
	ctx, cancel := context.WithTimeout(v.ctx, variantsWithin)
	defer cancel()
	g, err := planned.Progress(ctx)
	if err == nil {
		data.Rows = variantRows(&info.Plan, g.Variants)
	} else if ctx.Err() != nil && v.ctx.Err() == nil || errors.Is(err, fanfare.ErrUnknownPlan) {
		err = nil
	}
	return data, err
}

// notices are what the page of a task says that was just done, by what its address has.
var notices = map[string]string{
	"pushed":    "The push was accepted. It goes on by itself; this page shows how far it is.",
	"again":     "This form had been sent before. It is one push, and this is it.",
	"withdrawn": "The task was withdrawn. Nobody gets the message any more; those who have it keep it.",
}

func (h *handler) task(v *view) error {
	task, data, err := h.taskData(v)
	if err != nil {
		return err
	}
	if what := v.r.URL.Query().Get("notice"); what != "withdrawn" || data.State == "Withdrawn" { // a link may say anything
		data.Notice = notices[what]
	}
	if data.Variants, err = h.variantsOfTask(v, task); err != nil {
		return err
	}
	return v.render(http.StatusOK, "task", page{Title: "Task", Section: "tasks", Data: data})
}

func (h *handler) askWithdraw(v *view) error {
	_, data, err := h.withdrawData(v)
	if err != nil {
		return err
	}
	return h.renderWithdraw(v, http.StatusOK, data)
}

func (h *handler) withdrawData(v *view) (*fanfare.Task, *taskData, error) {
	task, data, err := h.taskData(v)
	if err != nil {
		return nil, nil, err
	}
	shown, err := task.Notification(v.ctx)
	data.Recall = recallOf(shown, &data.Progress, v.r.PostForm)
	return task, data, err
}

func (h *handler) renderWithdraw(v *view, status int, data *taskData) error {
	return v.render(status, "withdraw", page{Title: "Withdraw this task?", Section: "tasks", Data: data})
}

func (h *handler) withdraw(v *view) error {
	task, data, err := h.withdrawData(v)
	if err != nil {
		return err
	}
	r, place := data.Recall, "tasks/"+task.ID+"?notice=withdrawn"
	if !data.Ended.IsZero() { // a click that comes twice, or too late
		return v.redirect(place)
	}
	if !r.check(v) {
		return h.renderWithdraw(v, http.StatusUnprocessableEntity, data)
	}
	refused, err := h.recall(v, task.ID, r.detail()+" → "+data.To.String(), r,
		func(ctx context.Context) error { return h.p.Withdraw(ctx, task.ID) },
		func(ctx context.Context, n fanfare.Notification) error { return h.p.Replace(ctx, task.ID, n) })
	if refused {
		return h.renderWithdraw(v, http.StatusUnprocessableEntity, data)
	}
	if err != nil {
		return err
	}
	return v.redirect(place)
}
