package cluster

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// deaf makes a first consumer that says it is there, and sends nothing, as one does whose server has lost its part of the stream.
type deaf struct {
	jetstream.JetStream
	made atomic.Int32
}

func (d *deaf) CreateConsumer(ctx context.Context, stream string, c jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	if d.made.Add(1) == 1 {
		until := time.Now().Add(time.Hour)
		c.PauseUntil = &until
	}
	return d.JetStream.CreateConsumer(ctx, stream, c)
}

// TestConsumerThatSendsNothing has the log read on by another consumer when the first one sends nothing.
func TestConsumerThatSendsNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	o := &Options{Name: "a"}
	o.fill()
	conn, err := connect(ctx, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.close(context.Background())
	js := &deaf{JetStream: conn.js}
	l, err := openLog(ctx, js, o)
	if err != nil {
		t.Fatal(err)
	}
	if position, err := l.Append(ctx, "one", []byte("record")); err != nil || position != 1 {
		t.Fatal(position, err)
	}
	for r, err := range l.Records(ctx, 0) {
		if err != nil || r.Position != 1 || string(r.Record) != "record" {
			t.Fatal(r, err)
		}
		if n := js.made.Load(); n != 2 {
			t.Errorf("it came from consumer %d", n)
		}
		return
	}
	t.Fatal("it never came")
}
