package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/fanfaretest"
	"github.com/fanfare-im/fanfare/metrics"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, o fanfare.Options) *fanfare.Pusher {
	t.Helper()
	p, err := fanfare.Open(t.TempDir(), o)
	must(t, err)
	t.Cleanup(func() { p.Close(context.Background()) })
	return p
}

// registry has a collector in a registry that checks what it is given against what was described.
func registry(t testing.TB, p *fanfare.Pusher, o metrics.Options) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	must(t, r.Register(metrics.New(p, o)))
	return r
}

// gather returns all values by name and labels.
func gather(t testing.TB, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	all, err := r.Gather()
	must(t, err)
	values := map[string]float64{}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := f.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			if f.GetType() == dto.MetricType_COUNTER {
				values[name] = m.GetCounter().GetValue()
			} else {
				values[name] = m.GetGauge().GetValue()
			}
		}
	}
	return values
}

// want compares some of the values.
func want(t testing.TB, got map[string]float64, want map[string]float64) {
	t.Helper()
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s is %v (there: %v), not %v", name, v, ok, value)
		}
	}
}

// TestLint: Prometheus has nothing to say of names, units and help.
func TestLint(t *testing.T) {
	t.Parallel()
	p := open(t, fanfare.Options{Mobile: []transport.Mobile{transporttest.NewPhones("apns"), transporttest.NewPhones("fcm")}})
	must(t, p.Register(context.Background(), "a"))
	_, err := p.Push(context.Background(), fanfare.Message{To: fanfare.All(), Lifetime: time.Hour})
	must(t, err)
	problems, err := testutil.GatherAndLint(registry(t, p, metrics.Options{Tasks: 3, Labels: prometheus.Labels{"pusher": "main"}}))
	must(t, err)
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// TestValues goes through a day of a Pusher and looks at what is shown of it.
func TestValues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		p := fanfaretest.New(t, fanfaretest.Options{Fanfare: fanfare.Options{Grace: -1}})
		p.Service("apns").Kill(time.Time{}, "dead")
		p.Service("apns").Reject("Bad", "bad")
		r := registry(t, p.Pusher, metrics.Options{Tasks: 2})
		before := gather(t, r)
		for name, value := range before {
			if !strings.HasPrefix(name, "fanfare_journal_") && !strings.HasSuffix(name, "_file_bytes") && !strings.HasPrefix(name, "fanfare_delta_") && value != 0 {
				t.Errorf("%s is %v at first", name, value)
			}
		}
		p.MustRegister(t, "a", "b", "c", "d")
		for id, token := range map[string]string{"b": "good", "c": "dead", "d": "bad"} {
			must(t, p.RegisterDevice(ctx, id, fanfare.Device{Platform: "apns", Token: token}))
		}
		p.Login(t, "a")
		synctest.Wait()
		first := p.MustPush(t, fanfare.Message{To: fanfare.All(), Lifetime: time.Hour, Notification: &fanfare.Notification{Title: "t"}})
		p.WaitTask(t, first.ID)
		must(t, p.Opened(ctx, "b", first.ID))
		must(t, p.Ack(ctx, "b", first.ID))
		for range 2 {
			p.MustPush(t, fanfare.Message{To: fanfare.Users("c"), Lifetime: 2 * time.Hour})
		}
		got := gather(t, r)
		want(t, got, map[string]float64{
			"fanfare_users": 4, "fanfare_online_users": 1, "fanfare_pushes_total": 3, "fanfare_catch_ups_total": 1,
			`fanfare_deliveries_total{outcome="delivered"}`: 1, `fanfare_deliveries_total{outcome="failed"}`: 0,
			"fanfare_acknowledgements_total": 1, "fanfare_opened_total": 1,
			`fanfare_notifications_total{outcome="accepted",platform="apns"}`: 1, `fanfare_notifications_total{outcome="unregistered",platform="apns"}`: 1,
			`fanfare_notifications_total{outcome="rejected",platform="apns"}`: 1, `fanfare_notifications_total{outcome="retry",platform="apns"}`: 0,
			`fanfare_notifications_total{outcome="accepted",platform="fcm"}`: 0, `fanfare_notification_tasks{platform="fcm"}`: 0,
			"fanfare_changes_refused": 0, "fanfare_folds_total": 0, `fanfare_refused_changes_total{reason="no_room"}`: 0,
		})
		if got["fanfare_journal_commits_total"] <= before["fanfare_journal_commits_total"] || got["fanfare_journal_file_bytes"] == 0 || got["fanfare_delta_entries"] == 0 {
			t.Errorf("%v", got)
		}
		tasks := 0
		for name := range got {
			if strings.HasPrefix(name, "fanfare_task_users{") {
				tasks++
			}
			if strings.Contains(name, first.ID) {
				t.Errorf("%s is none of the newest", name)
			}
		}
		if tasks != 2*6 {
			t.Errorf("%d time series of tasks", tasks)
		}
		time.Sleep(time.Hour + time.Minute)
		must(t, p.Check(ctx))
		want(t, gather(t, r), map[string]float64{
			`fanfare_undelivered_total{reason="expired"}`: 2, `fanfare_undelivered_total{reason="withdrawn"}`: 0, "fanfare_folds_total": 1, "fanfare_delta_entries": 0,
		})
	})
}

// TestDisk: a disk that is full, and one that is broken, are what somebody is to be woken for.
func TestDisk(t *testing.T) {
	t.Parallel()
	p := fanfaretest.New(t)
	r := registry(t, p.Pusher, metrics.Options{})
	p.Disk.Fill()
	if err := p.Register(t.Context(), "a"); !errors.Is(err, fanfare.ErrNoRoom) {
		t.Fatal(err)
	}
	want(t, gather(t, r), map[string]float64{
		`fanfare_refused_changes_total{reason="no_room"}`: 1, `fanfare_refused_changes_total{reason="outcome_unknown"}`: 0, "fanfare_changes_refused": 0,
	})
	p.Disk.Break(false)
	if err := p.Register(t.Context(), "a"); !errors.Is(err, fanfare.ErrOutcomeUnknown) {
		t.Fatal(err)
	}
	want(t, gather(t, r), map[string]float64{
		`fanfare_refused_changes_total{reason="no_room"}`: 1, `fanfare_refused_changes_total{reason="outcome_unknown"}`: 1, "fanfare_changes_refused": 1,
	})
}

// TestTask shows a task's progress, and no more than the newest.
func TestTask(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := open(t, fanfare.Options{})
	must(t, p.Register(ctx, "a", "b", "c"))
	task, err := p.Push(ctx, fanfare.Message{To: fanfare.All(), Lifetime: time.Hour})
	must(t, err)
	must(t, p.Ack(ctx, "a", task.ID))
	must(t, p.Opened(ctx, "a", task.ID))
	must(t, p.Unregister(ctx, "b"))
	r := registry(t, p, metrics.Options{Tasks: 1000})
	of := func(name string) string { return fmt.Sprintf(name, task.ID) }
	want(t, gather(t, r), map[string]float64{
		of(`fanfare_task_users{state="delivered",task="%s"}`): 1, of(`fanfare_task_users{state="pending",task="%s"}`): 1,
		of(`fanfare_task_users{state="unregistered",task="%s"}`): 1, of(`fanfare_task_opened_users{task="%s"}`): 1,
		of(`fanfare_task_accepted_timestamp_seconds{task="%s"}`): float64(task.Info().Accepted.UnixMilli()) / 1000,
	})
	for range 150 {
		_, err := p.Push(ctx, fanfare.Message{To: fanfare.Users("a"), Lifetime: time.Hour})
		must(t, err)
	}
	if n, err := testutil.GatherAndCount(r, "fanfare_task_opened_users"); n != 100 || err != nil {
		t.Fatalf("%d tasks, %v", n, err)
	}
	if n, err := testutil.GatherAndCount(registry(t, p, metrics.Options{}), "fanfare_task_opened_users"); n != 0 || err != nil {
		t.Fatalf("%d tasks without being asked to, %v", n, err)
	}
}

// TestScrapesWhileItCloses: any number of scrapes at the same time, before, during and after Close, and none of them is an error.
func TestScrapesWhileItCloses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := open(t, fanfare.Options{})
	r := registry(t, p, metrics.Options{Tasks: 10})
	var scraping sync.WaitGroup
	closed, scraped := make(chan struct{}), make(chan struct{}, 8)
	for range 8 {
		scraping.Go(func() {
			for i := 0; ; i++ {
				gather(t, r)
				if i == 3 {
					scraped <- struct{}{}
				}
				select {
				case <-closed:
					if got := gather(t, r); len(got) != 0 {
						t.Errorf("after Close: %v", got)
					}
					return
				default:
				}
			}
		})
	}
	for i := range 50 {
		must(t, p.Register(ctx, fmt.Sprint(i)))
		_, err := p.Push(ctx, fanfare.Message{To: fanfare.All(), Lifetime: time.Hour})
		must(t, err)
	}
	for range 8 {
		<-scraped
	}
	must(t, p.Close(ctx))
	close(closed)
	scraping.Wait()
}

// TestTwoPushers of one process are told apart by a label.
func TestTwoPushers(t *testing.T) {
	t.Parallel()
	r := prometheus.NewPedanticRegistry()
	for _, name := range []string{"one", "two"} {
		p := open(t, fanfare.Options{})
		must(t, p.Register(context.Background(), name))
		must(t, r.Register(metrics.New(p, metrics.Options{Labels: prometheus.Labels{"pusher": name}})))
	}
	want(t, gather(t, r), map[string]float64{`fanfare_users{pusher="one"}`: 1, `fanfare_users{pusher="two"}`: 1})
}

// TestNoPusher: what cannot work is found when it is made, and not by the first scrape.
func TestNoPusher(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("there is a collector of nothing")
		}
	}()
	metrics.New(nil, metrics.Options{})
}

// TestPlatformThatIsNoLabel: a transport whose name is no text costs its metrics, with an error, and no other.
func TestPlatformThatIsNoLabel(t *testing.T) {
	t.Parallel()
	p := open(t, fanfare.Options{Mobile: []transport.Mobile{transporttest.NewPhones("\xff"), transporttest.NewPhones("fcm")}})
	all, err := registry(t, p, metrics.Options{}).Gather()
	if err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("the error is %v", err)
	}
	there := map[string]int{}
	for _, f := range all {
		there[f.GetName()] = len(f.GetMetric())
	}
	if there["fanfare_users"] != 1 || there["fanfare_notifications_total"] != 4 || there["fanfare_hook_events_dropped_total"] != 1 {
		t.Errorf("there is %v", there)
	}
}

// TestLabels: a label of one's own that a metric has already is refused when it is registered, and so is the same Pusher twice.
func TestLabels(t *testing.T) {
	t.Parallel()
	p, r := open(t, fanfare.Options{}), prometheus.NewPedanticRegistry()
	if err := r.Register(metrics.New(p, metrics.Options{Labels: prometheus.Labels{"platform": "x"}})); err == nil {
		t.Error("a metric has a label twice")
	}
	must(t, r.Register(metrics.New(p, metrics.Options{})))
	for _, o := range []metrics.Options{{}, {Tasks: 1}, {Labels: prometheus.Labels{"pusher": "one"}}} {
		if err := r.Register(metrics.New(p, o)); err == nil {
			t.Errorf("a second collector with %+v is taken", o)
		}
	}
	want(t, gather(t, r), map[string]float64{"fanfare_users": 0})
}
