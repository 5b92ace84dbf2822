package console

import (
	"net/http"
	"strings"
)

const (
	// auditPerPage is how many entries a page of the audit log has.
	auditPerPage = 50
	// auditOverlap is how many entries of the page before are looked at, for the outcomes of what began on this one.
	auditOverlap = 50
	// maxAuditPage is the last page that can be asked for.
	maxAuditPage = 100_000
)

// auditRow is an entry as the page shows it.
type auditRow struct{ Entry }

// OfPlan says that the target is a plan, and not a task; their IDs tell.
func (r auditRow) OfPlan() bool { return strings.HasPrefix(r.Target, "plan-") }

// auditData is a page of the audit log.
type auditData struct {
	Entries  []auditRow
	Page     int // from 0
	Newer    int
	Older    int
	HasNewer bool
	HasOlder bool
}

func (h *handler) audit(v *view) error {
	n := number(v.r.URL.Query().Get("page"), maxAuditPage)
	data := auditData{Page: n, Newer: n - 1, Older: n + 1, HasNewer: n > 0}
	begin := n * auditPerPage
	from := max(begin-auditOverlap, 0)
	entries, err := h.o.Audit.List(v.ctx, from, begin-from+auditPerPage+1)
	if err != nil {
		return err
	}
	ended := make(map[string]bool)
	for i, e := range entries {
		if from+i == begin+auditPerPage {
			data.HasOlder = true
			break
		}
		// An action whose outcome is known is one line.
		if hidden := e.Outcome == Begun && ended[e.ID]; from+i >= begin && !hidden {
			data.Entries = append(data.Entries, auditRow{e})
		}
		ended[e.ID] = true
	}
	return v.render(http.StatusOK, "audit", page{Title: "Audit log", Section: "audit", Data: data})
}
