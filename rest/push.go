package rest

import (
	"bytes"
	"cmp"
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
	serve("all_member_push/im_push", (*API).push)
	serve("timpush/push", (*API).push)
}

type pushAnswer struct {
	envelope
	TaskId string
}

// push pushes a message. A request with the MsgRandom of one in the last seven days is that one again.
func (a *API) push(r *request) (answer, error) {
	if most := a.o.Limits.PushBytes; most > 0 && int64(len(r.raw)) > most {
		return nil, refuse(codeTooLarge, "the request has %d bytes: %d are the most", len(r.raw), most)
	}
	m, err := a.message(r)
	if err != nil {
		return nil, err
	}
	task, err := a.accept(r, m)
	if err != nil {
		return nil, err
	}
	return &pushAnswer{TaskId: task.ID}, nil
}

// message reads what is pushed.
func (a *API) message(r *request) (m fanfare.Message, err error) {
	random, err := r.msgRandom()
	if err != nil {
		return m, err
	}
	list, err := msgBody(r.body["MsgBody"])
	if err != nil {
		return m, err
	}
	if m.From, err = r.text("From_Account"); err != nil {
		return m, err
	}
	if m.From = cmp.Or(m.From, r.from); len(m.From) > maxAccount {
		return m, checkAccount("From_Account", m.From)
	}
	if m.Lifetime, err = r.lifetime(); err != nil {
		return m, err
	}
	if m.To, err = condition(r.body["Condition"], true); err != nil {
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
func (r *request) lifetime() (time.Duration, error) {
	if only, is := asInteger(r.body["OnlineOnlyFlag"]); is && only == 1 {
		return 0, nil
	}
	if !r.body.has("MsgLifeTime") {
		return 0, nil
	}
	n, is := asInteger(r.body["MsgLifeTime"])
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

// accept pushes, if there may be a push now and it is not one that was accepted before.
func (a *API) accept(r *request, m fanfare.Message) (*fanfare.Task, error) {
	limits := &a.o.Limits
	if limits.Pace > 0 || limits.PerDay > 0 {
		a.pushing.Lock() // so that of two at a time one finds the other
		defer a.pushing.Unlock()
	}
	// Its time is part of the body, so that it would be another message with the same key.
	task, err := a.p.TaskOfKey(r.ctx, m.From, m.Key)
	if err == nil || !errors.Is(err, fanfare.ErrUnknownTask) {
		return task, err
	}
	if err := a.mayPush(r); err != nil {
		return nil, err
	}
	task, err = a.p.Push(r.ctx, m)
	var limit *fanfare.LimitError
	var note *fanfare.NotificationError
	switch {
	case errors.Is(err, fanfare.ErrKeyReused):
		return a.p.TaskOfKey(r.ctx, m.From, m.Key)
	case errors.Is(err, fanfare.ErrUnnamedAttribute):
		return nil, refuse(codeAttribute, "Condition: %v", err)
	case errors.As(err, &note):
		return nil, refuse(codeTooLarge, "OfflinePushInfo: %v", err)
	case errors.As(err, &limit):
		return nil, refuse(codeTooLarge, "%v", err)
	case errors.Is(err, fanfare.ErrInvalidText):
		return nil, refuse(codePushBadJSON, "%v", err)
	}
	return task, err
}

// mayPush looks at the pace and at how many there were today, by the tasks that there are.
func (a *API) mayPush(r *request) error {
	limits := &a.o.Limits
	if limits.Pace <= 0 && limits.PerDay <= 0 {
		return nil
	}
	now := a.o.Now()
	day := now.UTC().Truncate(24 * time.Hour)
	today := 0
	for task, err := range a.p.Tasks(r.ctx) {
		if err != nil {
			return err
		}
		info := task.Info()
		if !strings.HasPrefix(info.Key, keyPrefix) {
			continue
		}
		if since := now.Sub(info.Accepted); limits.Pace > 0 && since >= 0 && since < limits.Pace {
			return refuse(codePace, "the push before was %d ms ago: %d at least", since.Milliseconds(), limits.Pace.Milliseconds())
		}
		if info.Accepted.Before(day) || limits.PerDay <= 0 {
			break
		}
		if today++; today >= limits.PerDay {
			return refuse(codeQuota, "there were %d pushes today, by UTC: no more", today)
		}
	}
	return nil
}
