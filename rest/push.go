package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
)

const (
	maxLifeTime = 7 * 24 * 3600 // seconds
	maxDataID   = 64            // bytes
	// keyPrefix begins the keys of pushes that came through this API, of which there may be so many a day.
	keyPrefix = "rest:"
)

func init() {
	serve("all_member_push/im_push", (*API).imPush)
	serve("timpush/push", (*API).timPush)
}

type pushAnswer struct {
	envelope
	TaskId string
}

// imPush pushes a message, for as long as MsgLifeTime says.
func (a *API) imPush(r *request) (answer, error) {
	return a.push(r, func() (time.Duration, error) { return r.lifetime(0) })
}

// timPush pushes a message as the newer service does, whose clients say whether it is for those alone who are connected.
func (a *API) timPush(r *request) (answer, error) {
	return a.push(r, r.timLifetime)
}

func (r *request) timLifetime() (time.Duration, error) {
	only, is := asInteger(r.body["OnlineOnlyFlag"])
	switch {
	case r.body.has("OnlineOnlyFlag") && (!is || only != 0 && only != 1):
		return 0, refuse(codePushBadJSON, "OnlineOnlyFlag is %s: 0 and 1 are known", show(r.body["OnlineOnlyFlag"]))
	case only == 1:
		return 0, nil
	}
	return r.lifetime(maxLifeTime)
}

// push pushes a message. A good request with the MsgRandom of one in the last seven days is that one again, whatever else it says.
func (a *API) push(r *request, lifetime func() (time.Duration, error)) (answer, error) {
	m, err := a.message(r, lifetime)
	if err != nil {
		return nil, err
	}
	// Before the limits: what was accepted was within them. Its time is part of the body, so that it would be another message with the same key.
	task, err := a.p.TaskOfKey(r.ctx, m.From, m.Key)
	if errors.Is(err, fanfare.ErrUnknownTask) {
		task, err = a.accept(r, m)
	}
	if err != nil {
		return nil, err
	}
	return &pushAnswer{TaskId: task.ID}, nil
}

// message reads what is pushed.
func (a *API) message(r *request, lifetime func() (time.Duration, error)) (m fanfare.Message, err error) {
	random, err := r.msgRandom()
	if err != nil {
		return m, err
	}
	list, err := msgBody(r.body["MsgBody"])
	if err != nil {
		return m, err
	}
	if m.From, err = r.sender(a.o.Admins[0]); err != nil {
		return m, err
	}
	if m.Lifetime, err = lifetime(); err != nil {
		return m, err
	}
	if m.To, err = condition(r.body["Condition"]); err != nil {
		return m, err
	}
	if m.Notification, err = notification(r.body["OfflinePushInfo"], shownText(list)); err != nil {
		return m, err
	}
	custom, err := r.text("CloudCustomData")
	if err != nil {
		return m, err
	}
	dataID, err := r.text("DataId")
	if err != nil {
		return m, err
	}
	if len(dataID) > maxDataID {
		return m, refuse(codePushBadJSON, "DataId is %.64q…, of %d bytes: %d are the most", dataID, len(dataID), maxDataID)
	}
	m.Key = fmt.Sprint(keyPrefix, random)
	m.Body, err = body(received{r.body["MsgBody"], m.From, random, a.o.Now().Unix(), custom, dataID})
	return m, err
}

// sender reads from whom a push is. Where nothing is said it is always the same administrator, whoever calls, so that another one may retry.
func (r *request) sender(otherwise string) (string, error) {
	raw := r.body["From_Account"]
	from, is := asString(raw)
	if !is && !isNull(raw) {
		return "", refuse(codeNotString, "From_Account is %s, not a string", show(raw))
	}
	if from == "" {
		return otherwise, nil
	}
	if err := checkAccount("From_Account", from); err != nil {
		return "", err
	}
	return from, nil
}

// msgRandom reads the number that names a push. Some clients send it signed.
func (r *request) msgRandom() (uint32, error) {
	n, is := asInteger(r.body["MsgRandom"])
	if !is || isString(r.body["MsgRandom"]) || n < math.MinInt32 || n > math.MaxUint32 {
		return 0, refuse(codeNoMsgRandom, "MsgRandom is %s, not a number of 32 bits", show(r.body["MsgRandom"]))
	}
	return uint32(n), nil
}

// text reads a field that may be absent, null or empty.
func (r *request) text(name string) (string, error) {
	if !r.body.has(name) {
		return "", nil
	}
	s, is := asString(r.body[name])
	if !is {
		return "", refuse(codePushBadJSON, "%s is %s, not a string", name, show(r.body[name]))
	}
	return s, nil
}

// lifetime reads for how long the message waits for those who are away.
func (r *request) lifetime(otherwise int64) (time.Duration, error) {
	n, is := asInteger(r.body["MsgLifeTime"])
	if !r.body.has("MsgLifeTime") {
		n, is = otherwise, true
	}
	if !is || n < 0 || n > maxLifeTime {
		return 0, refuse(codeLifeTime, "MsgLifeTime is %s: 0 to %d seconds", show(r.body["MsgLifeTime"]), maxLifeTime)
	}
	return time.Duration(n) * time.Second, nil
}

// received is what a client gets.
type received struct {
	MsgBody         json.RawMessage
	From_Account    string
	MsgRandom       uint32
	MsgTime         int64
	CloudCustomData string `json:",omitempty"`
	DataId          string `json:",omitempty"`
}

// body is what a client gets, with the elements as they were sent.
func body(v received) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// accept pushes, if there may be a push now.
func (a *API) accept(r *request, m fanfare.Message) (*fanfare.Task, error) {
	limits := &a.o.Limits
	if most := limits.PushBytes; most > 0 && int64(len(r.raw)) > most {
		return nil, refuse(codeTooLarge, "the request has %d bytes: %d are the most", len(r.raw), most)
	}
	if limits.Pace > 0 || limits.PerDay > 0 {
		a.pushing.Lock() // so that of two at a time one finds the other
		defer a.pushing.Unlock()
		if task, err := a.p.TaskOfKey(r.ctx, m.From, m.Key); err == nil || !errors.Is(err, fanfare.ErrUnknownTask) {
			return task, err
		}
		if err := a.mayPush(r); err != nil {
			return nil, err
		}
	}
	task, err := a.p.Push(r.ctx, m)
	if errors.Is(err, fanfare.ErrKeyReused) { // by the same push, just now
		return a.p.TaskOfKey(r.ctx, m.From, m.Key)
	}
	return task, pushError(err)
}

// pushError is the answer for a message that the Pusher refuses.
func pushError(err error) error {
	var limit *fanfare.LimitError
	var note *fanfare.NotificationError
	switch {
	case errors.Is(err, fanfare.ErrUnnamedAttribute):
		return refuse(codeAttribute, "Condition: %v", err)
	case errors.As(err, &note):
		return refuse(codeTooLarge, "OfflinePushInfo: %v", err)
	case errors.As(err, &limit):
		return refuse(limitCode(limit), "%v", err)
	case errors.Is(err, fanfare.ErrInvalidText):
		return refuse(codePushBadJSON, "%v", err)
	}
	return err
}

// limitCode is the code for what is over a limit of the Pusher's own, which may be below the service's.
func limitCode(limit *fanfare.LimitError) int {
	switch {
	case strings.HasPrefix(limit.What, "lifetime"):
		return codeLifeTime
	case strings.HasPrefix(limit.What, "tag"):
		return codeTagTooLong
	case strings.HasPrefix(limit.What, "attribute"):
		return codeAttribute
	}
	return codeTooLarge
}

// mayPush looks at the pace and at how many there were today, by the tasks that there are.
func (a *API) mayPush(r *request) error {
	limits := &a.o.Limits
	now := a.o.Now()
	day := now.UTC().Truncate(24 * time.Hour)
	since := now.Add(-limits.Pace)
	if limits.PerDay > 0 && day.Before(since) {
		since = day
	}
	today := 0
	for task, err := range a.p.Tasks(r.ctx) { // the latest first
		if err != nil {
			return err
		}
		info := task.Info()
		switch ago := now.Sub(info.Accepted); {
		case info.Accepted.Before(since):
			return nil
		case !strings.HasPrefix(info.Key, keyPrefix):
			continue
		case ago >= 0 && ago < limits.Pace:
			return refuse(codePace, "the push before was %d ms ago: %d at least", ago.Milliseconds(), limits.Pace.Milliseconds())
		case info.Accepted.Before(day) || limits.PerDay <= 0:
			continue
		}
		if today++; today >= limits.PerDay {
			return refuse(codeQuota, "there were %d pushes today, by UTC: no more", today)
		}
	}
	return nil
}
