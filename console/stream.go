package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/fanfare-im/fanfare"
)

const (
	// lookEvery is how often a stream looks whether there is something to tell.
	lookEvery = time.Second
	// heartbeat is how often it says how far the task is when nothing has changed, which finds those who have gone.
	heartbeat = 15 * time.Second
	// writeWithin is how long an event may take to be written.
	writeWithin = 10 * time.Second
	// streamFor is how long a stream lasts; the browser then opens another, so that who may see it is asked anew.
	streamFor = 5 * time.Minute
	// reopenAfter is after how many milliseconds a browser opens a stream anew that has ended before its task.
	reopenAfter = 2000
	// reopenWhenFull is the same for one that was not live, because too many were.
	reopenWhenFull = 5000
)

// progressEvent is what a stream tells.
type progressEvent struct {
	HTML    string     `json:"html"` // the figures, as the page shows them
	Samples [][4]int64 `json:"samples"`
	Ended   bool       `json:"ended"` // the task has
	Over    bool       `json:"over"`  // nothing comes after it: no phone is to be told of a withdrawal either
}

// events streams how far a task is, until it ends, or phones are told that it was withdrawn. An event's ID is the time of its last sample, in milliseconds: the next one, and who comes back with it, is told
// what has come since, that sample included, which may have changed within its millisecond.
func (h *handler) events(v *view) error {
	task, data, err := h.taskData(v)
	if err != nil {
		return err
	}
	live, reopen := true, reopenAfter
	select {
	case h.streams <- struct{}{}:
		defer func() { <-h.streams }()
	default: // too many watch: this one is told how it stands, and asks again
		live, reopen = false, reopenWhenFull
	}
	out := http.NewResponseController(v.w)
	_ = out.SetReadDeadline(time.Time{}) // of the host's server, whose patience is for requests that are short
	header := v.w.Header()
	header.Set("Content-Type", "text/event-stream; charset=utf-8")
	header.Set("X-Accel-Buffering", "no")
	v.w.WriteHeader(http.StatusOK)
	if v.r.Method == http.MethodHead {
		return nil
	}
	write := func(b []byte) error {
		_ = out.SetWriteDeadline(time.Now().Add(writeWithin))
		if _, err := v.w.Write(b); err != nil {
			return err
		}
		return out.Flush()
	}
	if write(fmt.Appendf(nil, "retry: %d\n\n", reopen)) != nil {
		return nil // it has begun, so there is nobody to tell
	}

	var after time.Time
	if id, err := strconv.ParseInt(v.r.Header.Get("Last-Event-ID"), 10, 64); err == nil {
		after = time.UnixMilli(id)
	}
	end, look := time.NewTimer(streamFor), time.NewTicker(lookEvery)
	defer end.Stop()
	defer look.Stop()
	for {
		progress, err := task.Progress()
		var moments []fanfare.Moment
		if err == nil {
			moments, err = task.History(v.ctx) // behind the progress: if this is the end, it has its moment
		}
		if err != nil {
			return nil // the browser comes back, and is told what is wrong
		}
		data.Progress, data.State, data.Now = progress, stateOf(&progress), time.Now()
		event := progressEvent{Samples: [][4]int64{}, Ended: !progress.Ended.IsZero()}
		event.Over = event.Ended && !progress.Recalling
		for i := range moments {
			if m := &moments[i]; !m.At.Before(after) {
				event.Samples = append(event.Samples, [4]int64{m.At.UnixMilli(), m.Delivered, notifiedOf(m), m.Pending})
			}
		}
		after = moments[len(moments)-1].At
		var b bytes.Buffer
		if err := pages["task"].ExecuteTemplate(&b, "progress", page{view: v, Data: data}); err != nil {
			h.o.Logger.Error("console: a stream failed", "error", err)
			return nil
		}
		event.HTML = b.String()
		text, err := json.Marshal(event)
		if err != nil {
			h.o.Logger.Error("console: a stream failed", "error", err)
			return nil
		}
		if write(fmt.Appendf(nil, "id: %d\nevent: progress\ndata: %s\n\n", after.UnixMilli(), text)) != nil || event.Over || !live {
			return nil
		}
		for told := time.Now(); ; {
			select {
			case <-look.C:
			case <-end.C:
				return nil
			case <-v.ctx.Done():
				return nil
			case <-h.o.Done:
				return nil
			}
			now, err := task.Progress()
			if err != nil || !same(&now, &progress) || time.Since(told) >= heartbeat {
				break
			}
		}
	}
}

// same says whether two moments of a task differ in nothing that is shown at once.
func same(a, b *fanfare.Progress) bool {
	return a.Delivered == b.Delivered && a.Failed == b.Failed && a.Pending == b.Pending && a.Expired == b.Expired && a.Withdrawn == b.Withdrawn &&
		a.Gone == b.Gone && a.Opened == b.Opened && tries(a.Phones) == tries(b.Phones) && tries(a.Recalls) == tries(b.Recalls) &&
		a.Ended.Equal(b.Ended) && a.Recalling == b.Recalling
}

// tries is how many notifications were tried, whatever came of it.
func tries(of map[string]fanfare.PhoneStats) (n int64) {
	for _, phones := range of {
		n += phones.Sent
	}
	return n
}

func notifiedOf(m *fanfare.Moment) (n int64) {
	for _, of := range m.Notified {
		n += of
	}
	return n
}
