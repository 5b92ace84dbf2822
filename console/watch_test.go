package console

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare"
)

// TestWithdraw asks first, and then takes the task back.
func TestWithdraw(t *testing.T) {
	b := newBench(t)
	task := b.push(fanfare.All())
	path := "/tasks/" + task.ID
	if w := b.get("oscar", path+"/withdraw"); !strings.Contains(w.Body.String(), `<p class="huge">3 people</p>`) {
		t.Errorf("the question is %s", w.Body)
	}
	if w := b.get("vera", path+"?notice=withdrawn"); strings.Contains(w.Body.String(), "was withdrawn") {
		t.Errorf("a link says of a task that goes on that it was withdrawn: %s", w.Body)
	}
	w := b.post("oscar", path+"/withdraw", nil)
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "../../tasks/"+task.ID+"?notice=withdrawn" {
		t.Errorf("the answer is %d to %s", w.Code, w.Header().Get("Location"))
	}
	if g, err := task.Progress(); err != nil || g.Withdrawn != 3 {
		t.Errorf("the task is %+v, %v", g, err)
	}
	if w := b.get("oscar", path+"/withdraw"); !strings.Contains(w.Body.String(), "nothing to withdraw") {
		t.Errorf("of a task that has ended the question is %s", w.Body)
	}
	if w := b.get("vera", path+"?notice=withdrawn"); !strings.Contains(w.Body.String(), "The task was withdrawn.") || strings.Contains(w.Body.String(), "Withdraw…") {
		t.Errorf("the page is %s", w.Body)
	}
	for _, id := range []string{"0", strings.Repeat("0", 32)} {
		if w := b.post("oscar", "/tasks/"+id+"/withdraw", nil); w.Code != http.StatusNotFound {
			t.Errorf("%s is answered with %d", id, w.Code)
		}
	}
}

// flow is a response that is read while it is written.
type flow struct {
	header http.Header
	mu     sync.Mutex
	status int
	text   strings.Builder
}

func (f *flow) Header() http.Header { return f.header }

func (f *flow) WriteHeader(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = status
}

func (f *flow) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.Write(b)
}

func (f *flow) Flush() {}

// taken are the events so far, and the last one's ID.
func (f *flow) taken(t *testing.T) (events []progressEvent, id string, beats int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	lines := bufio.NewScanner(strings.NewReader(f.text.String()))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if data, is := strings.CutPrefix(lines.Text(), "data: "); is {
			var e progressEvent
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		if rest, is := strings.CutPrefix(lines.Text(), "id: "); is {
			id = rest
		}
		if lines.Text() == ":" {
			beats++
		}
	}
	return events, id, beats
}

// stream opens the stream of a task.
func (b *bench) stream(ctx context.Context, id, last string) (*flow, <-chan struct{}) {
	f := &flow{header: http.Header{}}
	r := b.request("vera", http.MethodGet, "/tasks/"+id+"/events", nil).WithContext(ctx)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.h.ServeHTTP(f, r)
	}()
	return f, done
}

// TestStream follows a task from its beginning over a reconnection to its end.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		task := b.push(fanfare.All())
		ctx, cancel := context.WithCancel(t.Context())
		f, done := b.stream(ctx, task.ID, "")
		time.Sleep(33 * time.Second)
		synctest.Wait()
		events, id, _ := f.taken(t)
		var samples [][4]int64
		for _, e := range events {
			samples = append(samples, e.Samples...)
			if e.Over || !strings.Contains(e.HTML, "0 of 3 have it") {
				t.Errorf("an event is %+v", e)
			}
		}
		if len(samples) < 3 || samples[len(samples)-1][3] != 3 || f.header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
			t.Errorf("the samples are %v", samples)
		}
		cancel()
		<-done

		time.Sleep(2 * time.Second) // away; what happens meanwhile is known all the same
		if err := b.p.Ack(t.Context(), "alice", task.ID); err != nil {
			t.Fatal(err)
		}
		acked := time.Now().UnixMilli()
		time.Sleep(3 * time.Second)
		f, done = b.stream(t.Context(), task.ID, id)
		synctest.Wait()
		events, _, _ = f.taken(t)
		if len(events) != 1 || !slices.Equal(events[0].Samples, [][4]int64{{acked, 1, 0, 2}, {acked + 3000, 1, 0, 2}}) {
			t.Errorf("who comes back is told %+v", events)
		}
		if err := b.p.Withdraw(t.Context(), task.ID); err != nil {
			t.Fatal(err)
		}
		<-done
		events, _, _ = f.taken(t)
		last := events[len(events)-1]
		if !last.Over || !strings.Contains(last.HTML, "Withdrawn") || !slices.Equal(last.Samples, [][4]int64{{acked + 3000, 1, 0, 0}}) {
			t.Errorf("the last event is %+v", last)
		}
		// And who comes after the end is told so at once.
		f, done = b.stream(t.Context(), task.ID, "")
		<-done
		if events, _, _ := f.taken(t); len(events) != 1 || !events[0].Over || len(events[0].Samples) != 3 {
			t.Errorf("after the end one is told %+v", events)
		}
		_ = b.p.Close(context.Background())
	})
}

// TestStreamEnds: a stream lives no longer than it should, whatever happens to its task.
func TestStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		b := newBenchWith(t, open(t, fanfare.Options{}), Options{Done: done})
		task := b.push(fanfare.All())
		begun := time.Now()
		f, ended := b.stream(t.Context(), task.ID, "")
		<-ended
		if d := time.Since(begun); d != streamFor {
			t.Errorf("a stream lasts %v", d)
		}
		_, _, _ = f.taken(t)
		_, ended = b.stream(t.Context(), task.ID, "")
		time.Sleep(time.Second)
		close(done)
		<-ended
		_ = b.p.Close(context.Background())
	})
}

// TestStreamOfAClosedPusher ends, so that it does not hold the server up.
func TestStreamOfAClosedPusher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		task := b.push(fanfare.All())
		_, ended := b.stream(t.Context(), task.ID, "")
		time.Sleep(time.Second)
		_ = b.p.Close(context.Background())
		<-ended
	})
}

// TestStreamsAreBounded: there are so many and no more, and one that ends makes room.
func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBenchWith(t, open(t, fanfare.Options{}), Options{Streams: 2})
		task := b.push(fanfare.All())
		ctx, cancel := context.WithCancel(t.Context())
		_, first := b.stream(ctx, task.ID, "")
		_, second := b.stream(ctx, task.ID, "")
		synctest.Wait()
		full, over := b.stream(ctx, task.ID, "")
		<-over
		if events, _, _ := full.taken(t); len(events) != 1 || events[0].Over || !strings.Contains(full.text.String(), "retry: 5000\n") {
			t.Errorf("one too many is told %+v", events)
		}
		cancel()
		<-first
		<-second
		ctx, cancel = context.WithCancel(t.Context())
		f, third := b.stream(ctx, task.ID, "")
		time.Sleep(time.Second)
		cancel()
		<-third
		if f.status != http.StatusOK {
			t.Errorf("when there is room the answer is %d", f.status)
		}
		_ = b.p.Close(context.Background())
	})
}

// TestStreamOverHTTP reads a stream as a client does, and leaves.
func TestStreamOverHTTP(t *testing.T) {
	b := newBench(t)
	task := b.push(fanfare.All())
	server := httptest.NewUnstartedServer(b.h)
	server.Config.WriteTimeout = 200 * time.Millisecond // shorter than the stream
	server.Start()
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/tasks/"+task.ID+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Name", "vera")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	events := 0
	for events < 2 && lines.Scan() {
		if lines.Text() == "event: progress" {
			if events++; events == 1 {
				if err := b.p.Withdraw(t.Context(), task.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if events != 2 {
		t.Errorf("there were %d events: %v", events, lines.Err())
	}
}
