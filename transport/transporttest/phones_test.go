package transporttest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/transport"
)

func notifications(tokens ...string) []transport.Notification {
	m, c := numbered(1), &transport.Content{Title: "news"}
	var batch []transport.Notification
	for _, t := range tokens {
		batch = append(batch, transport.Notification{
			UserID: "owner of " + t, Device: transport.Device{Platform: "fcm", Token: t}, Message: m, Content: c, Attempt: 1,
		})
	}
	return batch
}

func TestPhonesFates(t *testing.T) {
	t.Parallel()
	p := NewPhones("fcm")
	died := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p.Kill(died, "dead")
	p.Reject("", "bad")
	p.RetryNext("busy", 1, time.Minute)
	batch := notifications("good", "dead", "bad", "busy")
	got := p.Send(t.Context(), batch)
	want := []transport.Result{
		{Outcome: transport.Accepted},
		{Outcome: transport.Unregistered, Reason: "unregistered", Since: died},
		{Outcome: transport.Rejected, Reason: "rejected"},
		{Outcome: transport.Retry, Reason: "busy", RetryAfter: time.Minute},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	p.Revive("dead", "bad")
	p.Overload(1, time.Hour)
	for i, want := range []transport.Outcome{transport.Retry, transport.Accepted} {
		for j, r := range p.Send(t.Context(), batch) {
			if r.Outcome != want {
				t.Errorf("batch %d, result %d: %v, want %v", i+2, j, r.Outcome, want)
			}
		}
	}
	if p.Total() != 5 || p.Attempts("dead") != 3 || len(p.Shown("good")) != 2 || len(p.Shown("dead")) != 1 || p.Shown("none") != nil || p.Attempts("none") != 0 {
		t.Errorf("total %d, attempts %d, shown %d and %d", p.Total(), p.Attempts("dead"), len(p.Shown("good")), len(p.Shown("dead")))
	}
	if n := p.Shown("dead")[0]; n.UserID != "owner of dead" || n.Content.Title != "news" {
		t.Errorf("shown %+v", n)
	}
	if v := p.Violations(); len(v) > 0 {
		t.Errorf("violations %v", v)
	}
}

func TestPhonesHook(t *testing.T) {
	t.Parallel()
	p := NewPhones("fcm")
	p.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
		return nil, batch[0].Device.Token == "short"
	})
	if got := p.Send(t.Context(), notifications("short")); got != nil {
		t.Errorf("got %v", got)
	}
	if got := p.Send(t.Context(), notifications("good")); len(got) != 1 || p.Total() != 1 {
		t.Errorf("got %v, total %d", got, p.Total())
	}
}

func TestPhonesBlockAndWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := NewPhones("fcm")
		send := func(ctx context.Context) <-chan transport.Outcome {
			out := make(chan transport.Outcome, 1)
			go func() { out <- p.Send(ctx, notifications("a"))[0].Outcome }()
			return out
		}
		release := p.Block()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		sent := send(ctx)
		if err := p.WaitBatches(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if got := <-sent; got != transport.Retry {
			t.Errorf("blocked until the end of the context: %v", got)
		}
		release()
		release()
		release = p.Hang()
		sent = send(ctx)
		synctest.Wait()
		if len(sent) > 0 {
			t.Error("the end of the context freed a hanging batch")
		}
		release()
		if got := <-sent; got != transport.Retry {
			t.Errorf("released when the context had ended: %v", got)
		}
		waited := make(chan error, 2)
		go func() { waited <- p.Wait(t.Context(), "a", 1) }()
		go func() { waited <- p.WaitTotal(t.Context(), 1) }()
		synctest.Wait()
		if len(waited) > 0 {
			t.Error("a wait ended early")
		}
		if got := <-send(t.Context()); got != transport.Accepted {
			t.Errorf("got %v", got)
		}
		if err := errors.Join(<-waited, <-waited); err != nil {
			t.Error(err)
		}
	})
}

func TestPhonesViolations(t *testing.T) {
	t.Parallel()
	p := NewPhones("apns")
	p.SetBatchSize(1)
	if p.BatchSize() != 1 || p.Platform() != "apns" {
		t.Errorf("size %d, platform %q", p.BatchSize(), p.Platform())
	}
	release := p.Block()
	done := make(chan []transport.Result, 2)
	good := notifications("a")
	good[0].Device.Platform = "apns"
	for range 2 {
		go func() { done <- p.Send(t.Context(), good) }()
	}
	if err := p.WaitBatches(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	release()
	<-done
	<-done
	p.Send(t.Context(), nil)
	p.Send(t.Context(), slices.Concat(good, good))
	p.Send(t.Context(), notifications("a"))
	bare := slices.Clone(good)
	bare[0].Content = nil
	p.Send(t.Context(), bare)
	bare = slices.Clone(good)
	bare[0].Attempt = 0
	p.Send(t.Context(), bare)
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if r := p.Send(t.Context(), good); len(r) != 1 || r[0].Outcome != transport.Retry {
		t.Errorf("after Close: %v", r)
	}
	want := []string{"at the same time", "0 notifications", "2 notifications", `"fcm"`, "no content", "attempt 0", "Close was called 2 times"}
	got := p.Violations()
	if len(got) != len(want) {
		t.Fatalf("violations %q", got)
	}
	for i, w := range want {
		if !strings.Contains(got[i], w) {
			t.Errorf("violation %q, want %q in it", got[i], w)
		}
	}
	if b := p.Batches(); !slices.Equal(b, []int{1, 1, 0, 2, 1, 1, 1, 1}) || p.Closes() != 2 {
		t.Errorf("batches %v, closes %d", b, p.Closes())
	}
}
