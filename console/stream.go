package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// heartbeat is how often a stream says something when there is nothing to say, which finds those who have gone.
	heartbeat = 15 * time.Second
	// writeWithin is how long an event may take to be written.
	writeWithin = 10 * time.Second
	// streamFor is how long a stream lasts; the browser then opens another, so that who may see it is asked anew.
	streamFor = 5 * time.Minute
	// reopenAfter is after how many milliseconds a browser opens a stream anew that has ended before its task.
	reopenAfter = 2000
)

// progressEvent is what a stream tells.
type progressEvent struct {
	HTML    string     `json:"html"` // the figures, as the page shows them
	Samples [][4]int64 `json:"samples"`
	Over    bool       `json:"over"` // nothing comes after it
}

// events streams how far a task is, until it ends. An event's ID is the time of its last sample, in microseconds: who comes back with it is told what came after.
func (h *handler) events(v *view) error {
	task, data, err := h.taskData(v)
	if err != nil {
		return err
	}
	select {
	case h.streams <- struct{}{}:
		defer func() { <-h.streams }()
	default:
		v.w.Header().Set("Retry-After", "5")
		return &statusError{http.StatusServiceUnavailable, "Too many watch live just now. This page looks again by itself."}
	}
	one, leave := h.sampler.watch(task)
	defer leave()
	if one == nil {
		v.w.Header().Set("Retry-After", "5")
		return &statusError{http.StatusServiceUnavailable, "Too many watch live just now. This page looks again by itself."}
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
	if write(fmt.Appendf(nil, "retry: %d\n\n", reopenAfter)) != nil {
		return nil // it has begun, so there is nobody to tell
	}

	var after time.Time
	if id, err := strconv.ParseInt(v.r.Header.Get("Last-Event-ID"), 10, 64); err == nil {
		after = time.UnixMicro(id).Add(time.Microsecond - 1) // the sample was somewhere in it
	}
	end, beat := time.NewTimer(streamFor), time.NewTicker(heartbeat)
	defer end.Stop()
	defer beat.Stop()
	for {
		now := h.sampler.since(one, after)
		if now.err != nil {
			return nil // the browser comes back, and is told what is wrong
		}
		data.Progress, data.State, data.Now = now.Progress, stateOf(&now.Progress), time.Now()
		event := progressEvent{Samples: make([][4]int64, 0, len(now.samples)), Over: now.over}
		for _, s := range now.samples {
			event.Samples = append(event.Samples, [4]int64{s.At.UnixMilli(), s.Delivered, s.Notified, s.Pending})
			after = s.At.Truncate(time.Microsecond).Add(time.Microsecond - 1)
		}
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
		if write(fmt.Appendf(nil, "id: %d\nevent: progress\ndata: %s\n\n", after.UnixMicro(), text)) != nil || now.over {
			return nil
		}
		for waiting := true; waiting; {
			select {
			case <-now.changed:
				waiting = false
			case <-beat.C:
				if write([]byte(":\n\n")) != nil {
					return nil
				}
			case <-end.C:
				return nil
			case <-v.ctx.Done():
				return nil
			case <-h.o.Done:
				return nil
			}
		}
	}
}
