package fanfare

import (
	"context"
	"encoding/json"
	"maps"

	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
)

// Withdraw ends a task: nobody gets its message from a delivery that is decided on after it
// returns (one just decided on may begin then), and what is pending is dropped. Users who have it keep it. A task that has ended
// stays as it is, without an error. It returns [ErrUnknownTask] for one that is not known.
//
// Phones that were notified, of users who do not have the message, or with Always of all, are told to take the notification away: with a silent one of the same collapse ID, which
// replaces it where it has not arrived yet; where it is shown the app removes it (see docs/phones.md). That goes on behind Withdraw, also at the
// next Open, until the message would have expired. [Progress].Recalls counts it, and [Task.Wait] waits for it.
func (p *Pusher) Withdraw(ctx context.Context, taskID string) error {
	return p.withdraw(ctx, taskID, nil)
}

// Replace is [Pusher.Withdraw] with something else to see: those phones show n in the place of
// the notification, under the same collapse ID, by themselves. It comes in quiet hours, too: what it replaces is on the phones. Give it no Sound
// if it is not to be heard. Collapse and Always of n are not looked at, and placeholders are not filled.
//
// It returns the errors of Withdraw, and those of [Pusher.Push] for a notification.
func (p *Pusher) Replace(ctx context.Context, taskID string, n Notification) error {
	return p.withdraw(ctx, taskID, &n)
}

func (p *Pusher) withdraw(ctx context.Context, taskID string, instead *Notification) error {
	if err := p.writable(); err != nil {
		return err
	}
	seq, err := p.taskSeq(taskID)
	if err != nil {
		return err
	}
	c := &store.End{Seq: seq, Reason: store.Withdrawn}
	m, err := p.store.Message(seq)
	if err != nil {
		return err
	}
	if m != nil && len(m.Note) > 0 {
		if c.Note, err = p.recallNote(m, instead); err != nil {
			return err
		}
		t, err := p.store.Task(seq)
		if err != nil {
			return err
		}
		c.Notifying = p.delivery.phones.notifying(seq, !p.o.now().Before(p.delivery.phones.from(&t.Task)))
	} else if instead != nil { // which is refused whether there is something to replace or not
		if _, err := p.note(instead); err != nil {
			return err
		}
	}
	_, err = p.store.Propose(ctx, c)
	return err
}

// recallNote is what phones are told when a message is withdrawn, nil if they show nothing.
func (p *Pusher) recallNote(m *store.Message, instead *Notification) ([]byte, error) {
	shown, err := readNote(m.Note)
	if err != nil {
		return nil, err
	}
	if shown.Silent && instead == nil {
		return nil, nil
	}
	told := Notification{Silent: true, Withdrawn: true, Overrides: shown.Overrides}
	if instead != nil {
		told = *instead
		told.Always = false
	}
	told.Collapse, told.Urgent = shown.Collapse, true
	told.Data = maps.Clone(told.Data)
	if told.Data == nil {
		told.Data = make(map[string]string)
	}
	told.Data[transport.WithdrawnKey] = store.MessageID(m.Seq, m.Random)
	if instead == nil { // larger by a few words than what was shown, and a transport that does not take it must not keep others from it
		return json.Marshal(&told)
	}
	return p.note(&told)
}
