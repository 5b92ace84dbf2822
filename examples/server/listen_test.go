package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
)

// TestListen: who listens is known and connected, is shown what comes, and has it acknowledged.
func TestListen(t *testing.T) {
	p := start(t, t.TempDir())
	ctx, leave := context.WithCancel(t.Context())
	r, w := io.Pipe()
	said := bufio.NewScanner(r)
	ended := make(chan error, 1)
	args := []string{"listen", "-sdkappid", fmt.Sprint(testAppID), "-identifier", "alice", "-url", "ws://" + p.base + "/ws"}
	go func() {
		err := run(ctx, args, env{"FANFARE_KEY": testKey}.get, w, new(lines))
		_ = w.CloseWithError(io.EOF)
		ended <- err
	}()
	says := func(text string) {
		t.Helper()
		if !said.Scan() || !strings.Contains(said.Text(), text) {
			t.Fatalf("it says %q, not %q", said.Text(), text)
		}
	}
	says("alice is connected")
	for text, body := range map[string]string{"to <all>": string(restText("to <all>")), `{"a":1}`: `{"a":1}`} {
		task, err := p.s.p.Push(t.Context(), fanfare.Message{From: "news", Body: []byte(body), To: fanfare.All(), Lifetime: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		says(`from "news": ` + text)
		for { // until the ack has come
			g, err := task.Progress()
			if err != nil || t.Context().Err() != nil {
				t.Fatal(err)
			}
			if g.Delivered == 1 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	leave()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, args := range []string{"-sdkappid 7", "-identifier a", "-sdkappid 1400000001 -identifier a -url ws://" + p.base + "/ws", "-sdkappid 7 -identifier a -url ws://127.0.0.1:1/ws", "-sdkappid 7 -identifier a -url what"} {
		var out, log bytes.Buffer
		err := run(t.Context(), append([]string{"listen"}, strings.Fields(args)...), env{"FANFARE_KEY": testKey}.get, &out, &log)
		if err == nil || strings.Contains(err.Error(), "usersig=") || strings.Contains(err.Error(), testKey) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
