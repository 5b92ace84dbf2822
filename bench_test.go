package fanfare

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/store"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// memoryJournal keeps nothing, so that what is measured is not the disk.
type memoryJournal struct{ last atomic.Uint64 }

func (j *memoryJournal) Append(position uint64, _ []byte, _ uint64) error {
	j.last.Store(position)
	return nil
}
func (j *memoryJournal) Last() (uint64, []byte, error) { return j.last.Load(), nil, nil }
func (j *memoryJournal) Records(uint64) iter.Seq2[store.JournalRecord, error] {
	return func(func(store.JournalRecord, error) bool) {}
}
func (j *memoryJournal) Cut(uint64) error { return nil }

// nobody takes everything.
var nobody = transport.OnlineFunc(func(context.Context, string, *transport.Message) error { return nil })

// ackNobody has clients that acknowledge.
type ackNobody struct{ transport.OnlineFunc }

func (ackNobody) ClientAcks() bool { return true }

// benchPusher has users u0, u1 and so on, folded, and a journal that keeps nothing.
func benchPusher(b testing.TB, o Options, users int) *Pusher {
	b.Helper()
	o.wrap = func(store.Journal) store.Journal { return new(memoryJournal) }
	p, err := Open(b.TempDir(), o)
	must(b, err)
	b.Cleanup(func() { p.Close(context.Background()) })
	_, err = p.Import(context.Background(), func(yield func(User, error) bool) {
		for i := range users {
			if !yield(User{ID: benchUser(i), Devices: []Device{{Platform: "apns", Token: fmt.Sprint("t", i)}}}, nil) {
				return
			}
		}
	}, nil)
	must(b, err)
	must(b, p.store.Checkpoint(context.Background()))
	return p
}

func benchUser(i int) string { return fmt.Sprint("u", i) }

// connectAll makes the users of a benchPusher live.
func connectAll(b testing.TB, p *Pusher, users int) {
	b.Helper()
	for i := range users {
		_, err := p.Connect(context.Background(), benchUser(i))
		must(b, err)
	}
	for live := 0; live < users; runtime.Gosched() {
		live = 0
		p.delivery.eachLane(func(l *lane) {
			l.mu.Lock()
			defer l.mu.Unlock()
			for u := range l.users.all() {
				if u.live {
					live++
				}
			}
		})
	}
}

// BenchmarkFanOut is a push to connected users until all have it and that is recorded, by user.
func BenchmarkFanOut(b *testing.B) {
	for _, lifetime := range []time.Duration{0, time.Hour} {
		for _, users := range []int{1, 100, 10_000, 200_000} {
			b.Run(fmt.Sprintf("lifetime=%v/users=%d", lifetime, users), func(b *testing.B) {
				p := benchPusher(b, Options{Online: nobody}, users)
				connectAll(b, p, users)
				b.ReportAllocs()
				for b.Loop() {
					fanOut(b, p, lifetime)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(users), "ns/user")
			})
		}
	}
}

func fanOut(b testing.TB, p *Pusher, lifetime time.Duration) {
	must(b, mustTask(b, p, Message{Body: []byte("x"), To: All(), Lifetime: lifetime}).Wait(context.Background()))
}

// TestFanOutAllocatesNothingForAUser: what a push allocates grows with its commits, one for 4,096 users or 50 ms, and
// not with its users. It is not parallel, because it counts the allocations of the process.
func TestFanOutAllocatesNothingForAUser(t *testing.T) {
	few, many := 100, 10_000
	allocs := func(users int, lifetime time.Duration) float64 {
		p := benchPusher(t, Options{Online: nobody}, users)
		connectAll(t, p, users)
		fanOut(t, p, lifetime) // the chunk and its like grow once
		return testing.AllocsPerRun(3, func() { fanOut(t, p, lifetime) })
	}
	for _, lifetime := range []time.Duration{0, time.Hour} {
		if n := (allocs(many, lifetime) - allocs(few, lifetime)) / float64(many-few); n > 0.1 {
			t.Errorf("lifetime %v: %.2f allocations for a user", lifetime, n)
		}
	}
}

// BenchmarkCatchUp is a user who connects to 20 messages, until the last is delivered.
func BenchmarkCatchUp(b *testing.B) {
	const users, messages = 20_000, 20
	ctx := context.Background()
	var left atomic.Int64
	done := make(chan struct{})
	p := benchPusher(b, Options{Online: transport.OnlineFunc(func(context.Context, string, *transport.Message) error {
		if left.Add(-1) == 0 {
			done <- struct{}{}
		}
		return nil
	})}, users)
	push := func() {
		for range messages {
			mustTask(b, p, Message{Body: []byte("x"), To: All(), Lifetime: time.Hour})
		}
	}
	push()
	next := 0
	b.ReportAllocs()
	for b.Loop() {
		if next == users { // all have had theirs
			b.StopTimer()
			push()
			next = 0
			b.StartTimer()
		}
		left.Store(messages)
		s, err := p.Connect(ctx, benchUser(next))
		must(b, err)
		<-done
		s.Close()
		next++
	}
}

// BenchmarkPush is an accepted push with nobody online.
func BenchmarkPush(b *testing.B) {
	for _, users := range []int{1_000, 200_000} {
		for name, to := range map[string]Audience{"all": All(), "one": Users(benchUser(7))} {
			b.Run(fmt.Sprintf("users=%d/to=%s", users, name), func(b *testing.B) {
				p := benchPusher(b, Options{Online: nobody}, users)
				b.ReportAllocs()
				for b.Loop() {
					mustTask(b, p, Message{Body: []byte("x"), To: to, Lifetime: time.Hour})
				}
			})
		}
	}
}

// BenchmarkAck is an acknowledgement, of messages to audiences that name many users or none, by so many callers
// for each CPU at the same time.
func BenchmarkAck(b *testing.B) {
	const users = 10_000
	ctx := context.Background()
	for _, named := range []int{0, users} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("named=%d/callers=%d", named, callers), func(b *testing.B) {
				p := benchPusher(b, Options{}, users)
				to := All()
				if named > 0 {
					ids := make([]string, named)
					for i := range ids {
						ids[i] = benchUser(i)
					}
					to = Users(ids...)
				}
				tasks := make([]*Task, 1+b.N/users)
				for i := range tasks {
					tasks[i] = mustTask(b, p, Message{Body: []byte("x"), To: to, Lifetime: time.Hour})
				}
				must(b, p.store.Checkpoint(ctx))
				var next atomic.Int64
				b.ReportAllocs()
				b.SetParallelism(callers)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						i := int(next.Add(1) - 1)
						must(b, p.Ack(ctx, benchUser(i%users), tasks[i/users].ID))
					}
				})
			})
		}
	}
}

// TestAckReadsNoAudience: an acknowledgement reads no more of a task than its ID, however many users it names.
func TestAckReadsNoAudience(t *testing.T) {
	p := benchPusher(t, Options{}, 5_000)
	ids := make([]string, 5_000)
	for i := range ids {
		ids[i] = benchUser(i)
	}
	task := mustTask(t, p, Message{Body: []byte("x"), To: Users(ids...), Lifetime: time.Hour})
	n := testing.AllocsPerRun(10, func() {
		_, _, err := p.acked("u0", task.ID)
		must(t, err)
	})
	if n > 100 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkConnect is a session's beginning and end, of one user after another, with as many others connected.
func BenchmarkConnect(b *testing.B) {
	ctx := context.Background()
	for _, online := range []int{0, 200_000} {
		b.Run(fmt.Sprintf("online=%d", online), func(b *testing.B) {
			const coming = 1_000
			p := benchPusher(b, Options{Online: nobody}, online+coming)
			connectAll(b, p, online)
			next := 0
			b.ReportAllocs()
			for b.Loop() {
				s, err := p.Connect(ctx, benchUser(online+next%coming))
				must(b, err)
				s.Close()
				next++
			}
		})
	}
}

// BenchmarkCheckAcks is what the sweep does each second, with connected users of whom so many owe an acknowledgement.
func BenchmarkCheckAcks(b *testing.B) {
	const users = 200_000
	for _, owing := range []int{0, 1_000, users} {
		b.Run(fmt.Sprintf("owing=%d", owing), func(b *testing.B) {
			p := benchPusher(b, Options{Online: ackNobody{nobody}}, users)
			connectAll(b, p, users)
			ids := make([]string, 0, owing)
			for i := range owing {
				ids = append(ids, benchUser(i))
			}
			for len(ids) > 0 {
				n := min(len(ids), store.MaxExprUsers)
				must(b, mustTask(b, p, Message{Body: []byte("x"), To: Users(ids[:n]...), Lifetime: time.Hour}).Wait(context.Background()))
				ids = ids[n:]
			}
			b.ReportAllocs()
			for b.Loop() {
				p.delivery.checkAcks(time.Now())
			}
		})
	}
}

// BenchmarkNotifiedPush is a push with a notification to one user, and its acknowledgement, while so many tasks are within their grace.
func BenchmarkNotifiedPush(b *testing.B) {
	ctx := context.Background()
	for _, waiting := range []int{0, 1_000, 50_000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			p := benchPusher(b, Options{Mobile: []transport.Mobile{transporttest.NewPhones("apns")}, Grace: time.Hour}, 1_000)
			m := Message{Body: []byte("x"), To: Users(benchUser(7)), Lifetime: 2 * time.Hour, Notification: &Notification{Title: "hi"}}
			var wg sync.WaitGroup
			for w := range 100 {
				wg.Go(func() {
					for i := w; i < waiting; i += 100 {
						mustTask(b, p, m)
					}
				})
			}
			wg.Wait()
			b.ReportAllocs()
			for b.Loop() {
				must(b, p.Ack(ctx, benchUser(7), mustTask(b, p, m).ID))
			}
		})
	}
}
