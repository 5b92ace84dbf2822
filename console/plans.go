package console

import (
	"context"
	"errors"
	"net/http"

	"github.com/fanfare-im/fanfare"
)

const (
	plansPerPage = 25
	// planTasks is how many of its tasks the page of a plan shows.
	planTasks = 25
)

// planRow is a plan as a list shows it.
type planRow struct {
	fanfare.PlanInfo
	State string // a key of the texts
}

func planState(i *fanfare.PlanInfo) string {
	switch {
	case i.Outcome == fanfare.PlanCompleted:
		return "Finished"
	case i.Outcome == fanfare.PlanCancelled:
		return "Cancelled"
	case i.Outcome == fanfare.PlanMissed:
		return "Missed"
	case i.Outcome == fanfare.PlanFailed:
		return "Failed"
	case i.Paused:
		return "Paused"
	case i.Running:
		return "Running"
	}
	return "Waiting"
}

// plansData is a page of the list.
type plansData struct {
	Rows   []planRow
	Before string
	Next   string
}

func (h *handler) plans(v *view) error {
	data := plansData{Before: v.r.URL.Query().Get("before")}
	for planned, err := range h.p.Plans(v.ctx) {
		if err != nil {
			return err
		}
		if data.Before != "" && planned.ID >= data.Before { // IDs ascend
			continue
		}
		if len(data.Rows) == plansPerPage {
			data.Next = data.Rows[plansPerPage-1].ID
			break
		}
		info, err := planned.Info(v.ctx)
		if errors.Is(err, fanfare.ErrUnknownPlan) {
			continue // forgotten meanwhile
		}
		if err != nil {
			return err
		}
		data.Rows = append(data.Rows, planRow{info, planState(&info)})
	}
	return v.render(http.StatusOK, "plans", page{Title: "Plans", Section: "plans", Data: data})
}

// planData is what the page of a plan shows.
type planData struct {
	planRow
	Progress fanfare.PlanProgress
	Tasks    []taskRow
	More     bool // there are further tasks
	Notice   string
	Firing   []string // when it fires, in words
	Preview  *previewData
	Variants variantsData
	Recall   *recall // of the page that ends it
}

// Over says that nothing goes on of the plan, nor of what it released.
func (d *planData) Over() bool { return !d.Progress.Ended.IsZero() && !d.Progress.Recalling }

// Told are what each platform did to tell phones that the message was withdrawn.
func (d *planData) Told() []platformRow { return platformRows(d.Progress.Recalls) }

// Changeable says that the plan has not fired, so that it may be replaced.
func (d *planData) Changeable() bool { return d.Fired == 0 && d.Ended.IsZero() }

// Percent is how much of those whom it was released to have the message.
func (d *planData) Percent() int64 {
	if d.Progress.Total == 0 {
		return 0
	}
	return d.Progress.Delivered * 100 / d.Progress.Total
}

func (h *handler) planData(v *view) (*fanfare.Planned, *planData, error) {
	planned, err := h.p.Planned(v.ctx, v.arg)
	if err != nil {
		return nil, nil, err
	}
	info, err := planned.Info(v.ctx)
	if err != nil {
		return nil, nil, err
	}
	data := &planData{planRow: planRow{info, planState(&info)}}
	if data.Progress, err = planned.Progress(v.ctx); err != nil {
		return nil, nil, err
	}
	data.Firing = v.Firing(&data.Plan, nil)
	data.Variants.Rows = variantRows(&data.Plan, data.Progress.Variants)
	for task, err := range planned.Tasks(v.ctx) {
		if err != nil {
			return nil, nil, err
		}
		if data.More = len(data.Tasks) == planTasks; data.More {
			break
		}
		g, err := task.Progress()
		if errors.Is(err, fanfare.ErrUnknownTask) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		data.Tasks = append(data.Tasks, rowOf(task, g))
	}
	return planned, data, nil
}

// planNotices are what the page of a plan says that was just done, by what its address has.
var planNotices = map[string]string{
	"planned":   "The plan was accepted. It goes on by itself; this page shows where it is.",
	"again":     "This form had been sent before. It is one plan, and this is it.",
	"changed":   "The plan is changed. It goes on as this page shows it.",
	"paused":    "The plan is paused: nothing more is released.",
	"resumed":   "The plan goes on.",
	"paced":     "The pace holds from the next second on.",
	"cancelled": "The plan is cancelled: nothing more is released. What was released goes on.",
	"withdrawn": "The plan is cancelled and what it released is withdrawn. Those who have the message keep it.",
	"recalled":  "What the plan released is withdrawn. Those who have the message keep it.",
}

// holds says whether a notice is so: a link may say anything.
func (d *planData) holds(notice string) bool {
	withdrawn := !d.Progress.Ended.IsZero() && (d.Progress.Withdrawn > 0 || d.Progress.Recalls != nil)
	switch notice {
	case "changed":
		return d.Fired == 0 && d.Ended.IsZero()
	case "paused":
		return d.Paused && d.Ended.IsZero()
	case "resumed":
		return !d.Paused && d.Outcome != fanfare.PlanCancelled
	case "paced":
		return d.Outcome != fanfare.PlanCancelled
	case "cancelled":
		return d.Outcome == fanfare.PlanCancelled
	case "withdrawn":
		return d.Outcome == fanfare.PlanCancelled && (withdrawn || d.Progress.Total == 0)
	case "recalled":
		return withdrawn
	}
	return true
}

func (h *handler) planPage(v *view) error {
	_, data, err := h.planData(v)
	if err != nil {
		return err
	}
	if what := v.r.URL.Query().Get("notice"); data.holds(what) {
		data.Notice = planNotices[what]
	}
	data.Preview = h.previewPlanned(v, &data.Plan)
	return v.render(http.StatusOK, "plan", page{Title: "Plan", Section: "plans", Data: data})
}

func (h *handler) planFigures(v *view) error {
	_, data, err := h.planData(v)
	if err != nil {
		return err
	}
	return v.fragment("plan", "plan-anew", data)
}

// steer does something with a plan that is told in the audit log.
func (h *handler) steer(v *view, notice, detail string, do func(context.Context, *fanfare.Planned) error) error {
	planned, err := h.p.Planned(v.ctx, v.arg)
	if err != nil {
		return err
	}
	err = h.act(v, planned.ID, detail, func(ctx context.Context) (string, error) { return "", do(ctx, planned) })
	switch {
	case errors.Is(err, fanfare.ErrPlanEnded):
		return &statusError{http.StatusConflict, "The plan has ended already. Nothing was done."}
	case err != nil:
		return err
	}
	return v.redirect("plans/" + planned.ID + "?notice=" + notice)
}

func (h *handler) pausePlan(v *view) error {
	return h.steer(v, "paused", "", func(ctx context.Context, p *fanfare.Planned) error { return p.Pause(ctx) })
}

func (h *handler) resumePlan(v *view) error {
	return h.steer(v, "resumed", "", func(ctx context.Context, p *fanfare.Planned) error { return p.Resume(ctx) })
}

func (h *handler) pacePlan(v *view) error {
	pace := int64(0)
	if text := v.r.PostFormValue("pace"); text != "" {
		n, ok := counted(text)
		if !ok || n < 1 || n > 1<<30 {
			return &statusError{http.StatusUnprocessableEntity, "How many people a second: a number from 1 on."}
		}
		pace = n
	}
	return h.steer(v, "paced", v.r.PostFormValue("pace"), func(ctx context.Context, p *fanfare.Planned) error { return p.SetPace(ctx, int(pace)) })
}

// shownBy is what phones show of a plan, of the first of its forms of which they do; nil: nothing.
func shownBy(plan *fanfare.Plan) *fanfare.Notification {
	of := []*fanfare.Notification{plan.Message.Notification}
	for i := range plan.Variants {
		of = append(of, plan.Variants[i].Notification)
	}
	for _, n := range of {
		if n != nil && !n.Silent && plan.Message.Lifetime > 0 {
			return n
		}
	}
	return nil
}

func (h *handler) endData(v *view) (*fanfare.Planned, *planData, error) {
	planned, data, err := h.planData(v)
	if err == nil {
		data.Recall = recallOf(shownBy(&data.Plan), &data.Progress.Progress, v.r.PostForm)
	}
	return planned, data, err
}

func (h *handler) renderEnd(v *view, status int, data *planData) error {
	title := "End this plan?"
	if !data.Ended.IsZero() && data.Progress.Ended.IsZero() {
		title = "Withdraw what this plan released?"
	}
	return v.render(status, "planend", page{Title: title, Section: "plans", Data: data})
}

func (h *handler) askCancelPlan(v *view) error {
	_, data, err := h.endData(v)
	if err != nil {
		return err
	}
	return h.renderEnd(v, http.StatusOK, data)
}

func (h *handler) cancelPlan(v *view) error {
	if v.r.PostFormValue("withdraw") == "" {
		return h.steer(v, "cancelled", "cancelled", func(ctx context.Context, p *fanfare.Planned) error { return p.Cancel(ctx) })
	}
	planned, data, err := h.endData(v)
	if err != nil {
		return err
	}
	r, notice, detail := data.Recall, "withdrawn", "cancelled and "
	switch {
	case !data.Progress.Ended.IsZero():
		return &statusError{http.StatusConflict, "The plan has ended already. Nothing was done."}
	case !r.check(v):
		return h.renderEnd(v, http.StatusUnprocessableEntity, data)
	case !data.Ended.IsZero():
		notice, detail = "recalled", ""
	}
	refused, err := h.recall(v, planned.ID, detail+r.detail()+" → "+data.Message.To.String(), r, planned.Withdraw, planned.Replace)
	if refused {
		return h.renderEnd(v, http.StatusUnprocessableEntity, data)
	}
	if err != nil {
		return err
	}
	return v.redirect("plans/" + planned.ID + "?notice=" + notice)
}

// askChangePlan shows the form filled in with a plan that has not fired.
func (h *handler) askChangePlan(v *view) error {
	_, info, err := h.plannedInfo(v, v.arg)
	if err != nil {
		return err
	}
	switch {
	case !info.Ended.IsZero():
		return &statusError{http.StatusConflict, "The plan has ended already, so it cannot be changed. Nothing was done."}
	case info.Fired > 0:
		return &statusError{http.StatusConflict, "The plan has fired already, so it cannot be changed. Nothing was done."}
	}
	d, whole := h.redraft(v, &info.Plan)
	if !whole {
		return &statusError{http.StatusConflict, "The plan was not made on this page, and has something that the form does not. Changed here it would lose that, so it is to be changed where it was made. Nothing was done."}
	}
	d.Changes, d.Was = info.ID, fingerprint(info.Plan)
	return h.renderForm(v, http.StatusOK, &composeData{draft: d})
}

// composeAgain shows the form filled in with a plan, to make another one of it.
func (h *handler) composeAgain(v *view, id string) error {
	_, info, err := h.plannedInfo(v, id)
	if err != nil {
		return err
	}
	d, whole := h.redraft(v, &info.Plan)
	return h.renderForm(v, http.StatusOK, &composeData{draft: d, Partial: !whole})
}

func (h *handler) plannedInfo(v *view, id string) (*fanfare.Planned, fanfare.PlanInfo, error) {
	planned, err := h.p.Planned(v.ctx, id)
	if err != nil {
		return nil, fanfare.PlanInfo{}, err
	}
	info, err := planned.Info(v.ctx)
	return planned, info, err
}

// changePlan replaces a plan by what was confirmed.
func (h *handler) changePlan(v *view) error {
	a, err := h.checked(v)
	if err != nil {
		return err
	}
	planned, info, err := h.plannedInfo(v, v.arg)
	if err != nil {
		return err
	}
	if a.Changes != v.arg {
		return &statusError{http.StatusBadRequest, "The form could not be read. Nothing was done."}
	}
	if len(a.mistakes.fields) > 0 {
		return h.refuse(v, a.draft, a.mistakes)
	}
	a.plan.Message.Key = info.Message.Key
	now := fingerprint(info.Plan)
	if now == fingerprint(a.plan) && info.Fired == 0 && info.Ended.IsZero() { // a click that comes twice
		return v.redirect("plans/" + info.ID + "?notice=changed")
	}
	if status, problem := a.unconfirmed(v); status != 0 {
		return h.renderConfirm(v, status, a, problem)
	}
	err = h.act(v, info.ID, a.detail(), func(ctx context.Context) (string, error) {
		if now != a.Was && info.Fired == 0 && info.Ended.IsZero() {
			return "", fanfare.ErrPlanChanged // by somebody else
		}
		return "", planned.Change(ctx, a.plan)
	})
	switch {
	case errors.Is(err, fanfare.ErrPlanStarted), errors.Is(err, fanfare.ErrPlanEnded), errors.Is(err, fanfare.ErrPlanChanged):
		a.Changes, a.Was, a.sentPlan, a.over = "", "", planned, true // what is filled in may be made a plan of its own
		return h.renderConfirm(v, http.StatusConflict, a, h.refused(v, err))
	case err != nil:
		if text := h.refused(v, err); text != "" {
			return h.renderConfirm(v, http.StatusUnprocessableEntity, a, text)
		}
		return err
	}
	return v.redirect("plans/" + info.ID + "?notice=changed")
}
