package rest

func init() {
	serve("openim/query_online_status", (*API).onlineStatus)
	serve("openim/querystate", (*API).onlineStatus)
}

type statusDetail struct {
	Platform string
	Status   string
}

type statusResult struct {
	To_Account string
	Status     string
	Detail     []statusDetail `json:",omitempty"`
}

type statusAnswer struct {
	listAnswer
	QueryResult []statusResult
}

// onlineStatus says who is connected, and who can be notified on a phone.
func (a *API) onlineStatus(r *request) (answer, error) {
	ids, err := r.accounts(maxStatus, codeBadParameter, codeBadParameter)
	if err != nil {
		return nil, err
	}
	detail, _ := asInteger(r.body["IsNeedDetail"])
	out := &statusAnswer{QueryResult: []statusResult{}}
	for _, id := range ids {
		u, err := a.p.User(r.ctx, id)
		if isUnknown(err) {
			out.ErrorList = append(out.ErrorList, errorItem{id, codeUnknownUser})
			continue
		}
		if err != nil {
			return nil, err
		}
		connected, err := a.p.Connected(r.ctx, id)
		if err != nil && !isUnknown(err) {
			return nil, err
		}
		s := statusResult{To_Account: id, Status: "Offline"}
		if len(u.Devices) > 0 {
			s.Status = "PushOnline"
		}
		if connected {
			s.Status = "Online"
		}
		if detail == 1 {
			for _, d := range u.Devices {
				s.Detail = append(s.Detail, statusDetail{d.Platform, "PushOnline"})
			}
		}
		out.QueryResult = append(out.QueryResult, s)
	}
	return out, nil
}
