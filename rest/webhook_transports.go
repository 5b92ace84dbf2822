package rest

import (
	"context"

	"github.com/fanfare-im/fanfare/transport"
)

// Online returns a transport that delivers through another and tells what became of it. It has the powers of that one.
func (w *Webhook) Online(t transport.Online) transport.Online {
	if b, is := t.(transport.Batcher); is {
		return &onlineBatches{online{w, t}, b}
	}
	return &online{w, t}
}

// online is a transport that tells of its deliveries.
type online struct {
	w *Webhook
	t transport.Online
}

func (o *online) Deliver(ctx context.Context, user string, m *transport.Message) error {
	err := o.t.Deliver(ctx, user, m)
	o.tell(user, m, err)
	return err
}

func (o *online) tell(user string, m *transport.Message, err error) {
	e := event{EventType: eventOnline, TaskId: m.ID, TaskTime: m.Accepted.Unix(), To_Account: user}
	if err != nil {
		e.ErrCode, e.ErrInfo = errFailed, err.Error()
	}
	o.w.add(e)
}

func (o *online) ClientAcks() bool {
	a, is := o.t.(transport.ClientAcker)
	return is && a.ClientAcks()
}

func (o *online) Close() error { return closeOf(o.t) }

func closeOf(t any) error {
	if c, is := t.(transport.Closer); is {
		return c.Close()
	}
	return nil
}

// onlineBatches is one whose transport takes many users at a time.
type onlineBatches struct {
	online
	b transport.Batcher
}

func (o *onlineBatches) MaxBatch() int { return o.b.MaxBatch() }

func (o *onlineBatches) DeliverBatch(ctx context.Context, users []string, m *transport.Message) []error {
	errs := o.b.DeliverBatch(ctx, users, m)
	if errs != nil && len(errs) != len(users) {
		return errs // failed for all, and is tried again
	}
	for i, user := range users {
		var err error
		if errs != nil {
			err = errs[i]
		}
		o.tell(user, m, err)
	}
	return errs
}

// Mobile returns a transport that sends through another and tells what became of it, when that is final. It has the powers of that one.
func (w *Webhook) Mobile(m transport.Mobile) transport.Mobile { return &mobile{w, m} }

// mobile is a transport that tells of its notifications.
type mobile struct {
	w *Webhook
	transport.Mobile
}

func (m *mobile) Send(ctx context.Context, batch []transport.Notification) []transport.Result {
	results := m.Mobile.Send(ctx, batch)
	if len(results) > len(batch) {
		return results
	}
	for i, r := range results {
		n := &batch[i]
		if n.Content.Withdrawn {
			continue // it takes away what was told
		}
		e := event{EventType: eventOffline, TaskId: n.Message.ID, TaskTime: n.Message.Accepted.Unix(), To_Account: n.UserID, PushPlatform: n.Device.Platform}
		switch r.Outcome {
		case transport.Accepted:
		case transport.Unregistered, transport.Rejected:
			e.ErrCode, e.ErrInfo = errFailed, r.Reason
		default:
			continue // it comes again
		}
		m.w.add(e)
	}
	return results
}

func (m *mobile) BatchSize() int {
	if s, is := m.Mobile.(transport.Sizer); is {
		return s.BatchSize()
	}
	return 0
}

func (m *mobile) Check(c *transport.Content) error {
	if check, is := m.Mobile.(transport.Checker); is {
		return check.Check(c)
	}
	return nil
}

func (m *mobile) Close() error { return closeOf(m.Mobile) }
