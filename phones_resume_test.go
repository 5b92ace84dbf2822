package fanfare

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// TestRetriesSurviveReopening: who waits for another try waits for it through any number of processes, with the number of
// the try and its time, and nobody else is notified again.
func TestRetriesSurviveReopening(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"close", "kill"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { retriesSurvive(t, how) })
		})
	}
}

func retriesSurvive(t *testing.T, how string) {
	ctx, base := context.Background(), t.TempDir()
	dir := filepath.Join(base, "0")
	var log tryLog
	open := func() *Pusher {
		phones := transporttest.NewPhones("apns")
		phones.RetryNext("busy", 1, time.Hour)
		phones.RetryNext("soon", 1, time.Minute)
		log.watch(phones)
		return testPusher(t, dir, Options{Mobile: []transport.Mobile{phones}})
	}
	p := open()
	importPhones(t, p, "apns", "busy", "soon", "well")
	id := mustTask(t, p, notice(week)).ID
	time.Sleep(11 * time.Second)
	synctest.Wait()
	last := log.take()[0]
	for last.attempt < 10 {
		if last.token != "busy" {
			t.Fatal(last)
		}
		if how == "kill" {
			left := filepath.Join(base, fmt.Sprint(last.attempt))
			must(t, copyAsKilled(dir, left))
			dir = left
		}
		must(t, p.Close(ctx))
		time.Sleep(10 * time.Minute)
		log.take() // of a process that is dead
		p = open()
		synctest.Wait()
		// Its time came while nobody was there.
		if tries := log.take(); last.attempt == 1 && (len(tries) != 1 || tries[0].token != "soon" || tries[0].attempt != 2) {
			t.Fatal("at once:", tries)
		}
		busy := func() []phoneTry {
			return slices.DeleteFunc(log.take(), func(x phoneTry) bool { return x.token == "soon" })
		}
		due := last.at + time.Hour
		time.Sleep(time.Until(log.from.Add(due - time.Second)))
		if tries := busy(); len(tries) > 0 {
			t.Fatal("too soon:", tries)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		tries := busy()
		if want := (phoneTry{"busy", last.attempt + 1, due}); len(tries) != 1 || tries[0] != want {
			t.Fatalf("%v, not %v", tries, want)
		}
		last = tries[0]
	}
	task, err := p.Task(ctx, id)
	must(t, err)
	must(t, task.Wait(ctx))
	time.Sleep(2 * time.Hour)
	if tries := log.take(); len(tries) > 0 {
		t.Fatal("tried too often:", tries)
	}
	if g := progress(t, task).Phones["apns"]; g.GaveUp != 1 {
		t.Fatalf("%+v", g)
	}
}

// TestKilledWhilePhonesAreNotified kills the process while a batch is under way, at each batch: the next process sends that
// one again, goes on from there, and sends no other twice.
func TestKilledWhilePhonesAreNotified(t *testing.T) {
	t.Parallel()
	const users, size = 14, 3
	for kill := 1; kill <= (users+size-1)/size; kill++ {
		t.Run(fmt.Sprint(kill), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, base := context.Background(), t.TempDir()
				dir, killed := filepath.Join(base, "dir"), filepath.Join(base, "killed")
				phones := transporttest.NewPhones("apns")
				phones.SetBatchSize(size)
				o := Options{Mobile: []transport.Mobile{phones}, Grace: -1, blockBits: 2, DeltaEntries: 3}
				p := testPusher(t, dir, o)
				ids := numberedUsers(users)
				importPhones(t, p, "apns", ids...)
				phones.RetryNext(ids[1], 1, time.Hour) // in the first batch
				sent := 0
				var done, underWay []string
				phones.OnSend(func(_ context.Context, batch []transport.Notification) ([]transport.Result, bool) {
					if sent++; sent == kill {
						must(t, copyAsKilled(dir, killed))
					}
					for _, n := range batch {
						if sent < kill {
							done = append(done, n.Device.Token)
						} else if sent == kill {
							underWay = append(underWay, n.Device.Token)
						}
					}
					return nil, false
				})
				id := mustTask(t, p, notice(week)).ID
				synctest.Wait()
				must(t, p.Close(ctx))

				again := transporttest.NewPhones("apns")
				again.SetBatchSize(size)
				o.Mobile = []transport.Mobile{again}
				q := testPusher(t, killed, o)
				task, err := q.Task(ctx, id)
				must(t, err)
				synctest.Wait()
				for _, token := range ids {
					want := 1
					if slices.Contains(done, token) {
						want = 0
					}
					if n := again.Attempts(token); n != want {
						t.Errorf("%s, sent before: %v, under way: %v, was sent %d times", token, want == 0, slices.Contains(underWay, token), n)
					}
				}
				time.Sleep(2 * time.Hour)
				must(t, task.Wait(ctx))
				if again.Attempts(ids[1]) != 1 {
					t.Error("the retry was lost")
				}
				if g := progress(t, task).Phones["apns"]; g.Accepted != users || kill > 1 && (g.Sent != users+1 || g.Retried != 1) {
					t.Errorf("%+v", g)
				}
			})
		})
	}
}

// TestCloseBetweenBatches: what was sent before Close is not sent again, and what was not sent is sent by the next
// process. A user with many phones is one whose notifications go out in more than one batch.
func TestCloseBetweenBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := context.Background(), t.TempDir()
		phones := transporttest.NewPhones("apns")
		phones.SetBatchSize(2)
		p := testPusher(t, dir, Options{Mobile: []transport.Mobile{phones}, Grace: -1})
		importPhones(t, p, "apns", "first")
		must(t, p.Register(ctx, "many"))
		for i := range 5 {
			must(t, p.RegisterDevice(ctx, "many", Device{Platform: "apns", Token: fmt.Sprint("many", i)}))
		}
		importPhones(t, p, "apns", "last")
		closed := make(chan error, 1)
		var once sync.Once
		phones.OnSend(func(send context.Context, _ []transport.Notification) ([]transport.Result, bool) {
			once.Do(func() {
				go func() { closed <- p.Close(ctx) }()
				<-send.Done()
			})
			return []transport.Result{{Outcome: transport.Accepted}, {Outcome: transport.Accepted}}, true
		})
		id := mustTask(t, p, notice(week)).ID
		synctest.Wait()
		must(t, <-closed)
		if n := len(phones.Batches()); n != 1 {
			t.Fatal("batches after Close:", n)
		}

		again := transporttest.NewPhones("apns")
		again.SetBatchSize(2)
		q := testPusher(t, dir, Options{Mobile: []transport.Mobile{again}, Grace: -1})
		task, err := q.Task(ctx, id)
		must(t, err)
		must(t, task.Wait(ctx))
		for token, want := range map[string]int{"first": 0, "many0": 0, "many1": 1, "many2": 1, "many3": 1, "many4": 1, "last": 1} {
			if shown := again.Shown(token); len(shown) != want || want == 1 && shown[0].Attempt != 1 {
				t.Errorf("%s: %v", token, shown)
			}
		}
		if g := progress(t, task).Phones["apns"]; !sameStats(g, PhoneStats{Sent: 7, Accepted: 7}) {
			t.Errorf("%+v", g)
		}
	})
}

// fullJournal is a journal on a disk that is full, or fails, as long as it is told so.
type fullJournal struct {
	store.Journal
	fail atomic.Pointer[error]
}

func (j *fullJournal) wrap(local store.Journal) store.Journal {
	j.Journal = local
	return j
}

func (j *fullJournal) set(err error) {
	if err == nil {
		j.fail.Store(nil)
	} else {
		j.fail.Store(&err)
	}
}

func (j *fullJournal) Append(position uint64, rec []byte, cut uint64) error {
	if err := j.fail.Load(); err != nil {
		return *err
	}
	return j.Journal.Append(position, rec, cut)
}

// TestPhonesWithoutRoom: a batch whose outcome cannot be written is not sent again, nor is another sent, until there is
// room; when the disk has failed, not in this process. Dead tokens are removed then too.
func TestPhonesWithoutRoom(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{syscall.ENOSPC, syscall.EIO} {
		t.Run(failure.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, dir := context.Background(), t.TempDir()
				phones := transporttest.NewPhones("apns")
				phones.SetBatchSize(3)
				phones.Kill(time.Time{}, "u0000")
				phones.RetryNext("u0001", 1, time.Minute)
				j := new(fullJournal)
				o := Options{Mobile: []transport.Mobile{phones}, Grace: -1, wrap: j.wrap}
				p := testPusher(t, dir, o)
				ids := numberedUsers(8)
				importPhones(t, p, "apns", ids...)
				phones.OnSend(func(context.Context, []transport.Notification) ([]transport.Result, bool) {
					if len(phones.Batches()) == 1 {
						j.set(failure)
					}
					return nil, false
				})
				task := mustTask(t, p, notice(week))
				time.Sleep(time.Hour)
				if got := phones.Batches(); !slices.Equal(got, []int{3}) {
					t.Fatal("batches without room:", got)
				}
				j.set(nil)
				if failure == syscall.EIO {
					if stats, err := p.Stats(ctx); err != nil || !errors.Is(stats.Refused, ErrOutcomeUnknown) {
						t.Fatal(stats, err)
					}
					time.Sleep(time.Hour)
					if got := phones.Batches(); !slices.Equal(got, []int{3}) {
						t.Fatal("batches after a failure:", got)
					}
					return
				}
				must(t, task.Wait(ctx))
				synctest.Wait()
				for _, id := range ids[1:] {
					if n := len(phones.Shown(id)); n != 1 {
						t.Errorf("%s was shown %d", id, n)
					}
				}
				if d, err := p.Devices(ctx, "u0000"); err != nil || len(d) != 0 {
					t.Error(d, err)
				}
				if g := progress(t, task).Phones["apns"]; !sameStats(g, PhoneStats{Sent: 9, Accepted: 7, Unregistered: 1, Retried: 1}) {
					t.Errorf("%+v", g)
				}
			})
		})
	}
}

// TestWorkWaitsForItsTransport: the work of a platform that has no transport in this process waits, and goes on where it was
// in one that has. A platform that had none when the push was accepted gets nothing.
func TestWorkWaitsForItsTransport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, dir := context.Background(), t.TempDir()
		apns, fcm := transporttest.NewPhones("apns"), transporttest.NewPhones("fcm")
		p := testPusher(t, dir, Options{Mobile: []transport.Mobile{apns, fcm}, Grace: -1})
		importPhones(t, p, "apns", "a1", "a2")
		importPhones(t, p, "fcm", "f1", "f2")
		importPhones(t, p, "huawei", "h1")
		fcm.RetryNext("f2", 1, time.Hour)
		id := mustTask(t, p, notice(week)).ID
		late := notice(3 * time.Hour)
		synctest.Wait()
		fcm.Block() // until Close
		lateID := mustTask(t, p, late).ID
		synctest.Wait()
		must(t, p.Close(ctx))

		reopen := func(mobile ...transport.Mobile) (p *Pusher, task, late *Task) {
			p = testPusher(t, dir, Options{Mobile: mobile, Grace: -1})
			task, err := p.Task(ctx, id)
			must(t, err)
			late, err = p.Task(ctx, lateID)
			must(t, err)
			return p, task, late
		}
		p, task, _ := reopen(transporttest.NewPhones("apns"), transporttest.NewPhones("huawei"))
		time.Sleep(2 * time.Hour)
		must(t, task.Wait(ctx)) // of this process
		if g := progress(t, task).Phones["fcm"]; !sameStats(g, PhoneStats{Sent: 2, Accepted: 1, Retried: 1}) {
			t.Fatalf("%+v", g)
		}
		must(t, p.Close(ctx))

		fcm = transporttest.NewPhones("fcm")
		huawei := transporttest.NewPhones("huawei")
		_, task, lateTask := reopen(fcm, huawei)
		must(t, task.Wait(ctx))
		must(t, lateTask.Wait(ctx))
		if fcm.Attempts("f1") != 1 || fcm.Attempts("f2") != 2 || huawei.Total() != 0 {
			t.Fatal(fcm.Attempts("f1"), fcm.Attempts("f2"), huawei.Total())
		}
		if g := progress(t, task).Phones; g["fcm"].Accepted != 2 || g["apns"].Accepted != 2 || len(g) != 2 {
			t.Fatalf("%+v", g)
		}
	})
}
