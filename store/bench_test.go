package store

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	bsi "github.com/RoaringBitmap/roaring/v2/BitSliceIndexing"
)

// memoryJournal keeps nothing: what is left is the work of committer, delta and fold.
type memoryJournal struct {
	last atomic.Uint64
}

func (j *memoryJournal) Append(position uint64, _ []byte, _ uint64) error {
	j.last.Store(position)
	return nil
}
func (j *memoryJournal) Last() (uint64, []byte, error) { return j.last.Load(), nil, nil }
func (j *memoryJournal) Records(uint64) iter.Seq2[JournalRecord, error] {
	return func(func(JournalRecord, error) bool) {}
}
func (j *memoryJournal) Cut(uint64) error { return nil }

// benchStore is a store whose journal keeps nothing.
func benchStore(b *testing.B, o Options) *Store {
	b.Helper()
	o.WrapJournal = func(Journal) Journal { return new(memoryJournal) }
	s, err := Open(b.TempDir(), o, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close(context.Background()) })
	if _, err := s.Propose(context.Background(), &SetNames{Names: []SlotName{{0, "tier"}, {1, "city"}}}); err != nil {
		b.Fatal(err)
	}
	return s
}

func benchID(i int) string { return fmt.Sprintf("%016x-%016x", sampleHash(1, uint32(i)), i) }

// benchBatch is a step of an import: users [from, to) with two attributes and three tags.
func benchBatch(r *rand.Rand, from, to int) *Batch {
	c := &Batch{Import: true}
	for i := from; i < to; i++ {
		c.Ops = append(c.Ops, UserOp{
			Kind: OpPut, ID: benchID(i),
			Attrs: []AttrValue{{"city", fmt.Sprintf("city-%d", r.IntN(300))}, {"tier", fmt.Sprintf("tier-%d", r.IntN(4))}},
			Tags:  []string{fmt.Sprintf("tag-%d", r.IntN(10)), fmt.Sprintf("tag-%d", 10+r.IntN(90)), fmt.Sprintf("tag-%d", 100+r.IntN(900))},
		})
	}
	return c
}

// fillStore imports n users and folds them.
func fillStore(b *testing.B, s *Store, n int) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	for i := 0; i < n; i += 500 {
		if _, err := s.Propose(context.Background(), benchBatch(r, i, min(i+500, n))); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Checkpoint(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkImport is the cost of a user in a step of 500, folds included.
func BenchmarkImport(b *testing.B) {
	for _, have := range []int{0, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("have=%d", have), func(b *testing.B) {
			s := benchStore(b, Options{DeltaEntries: 200_000})
			fillStore(b, s, have)
			r := rand.New(rand.NewPCG(2, 2))
			next := have
			b.ReportAllocs()
			for b.Loop() {
				c := benchBatch(r, next, next+500)
				next += 500
				if _, err := s.Propose(context.Background(), c); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(next-have), "ns/user")
		})
	}
}

// BenchmarkChange is the cost of changing one attribute of a random user, 64 callers at a time.
func BenchmarkChange(b *testing.B) {
	for _, have := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("have=%d", have), func(b *testing.B) {
			s := benchStore(b, Options{DeltaEntries: 200_000})
			fillStore(b, s, have)
			b.SetParallelism(32)
			b.ReportAllocs()
			var seed atomic.Uint64
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				r := rand.New(rand.NewPCG(3, seed.Add(1)))
				for pb.Next() {
					c := &Batch{Ops: []UserOp{{Kind: OpSetAttrs, ID: benchID(r.IntN(have)), Attrs: []AttrValue{{"city", fmt.Sprintf("city-%d", r.IntN(300))}}}}}
					if _, err := s.Propose(context.Background(), c); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkCount is the cost of an audience's exact count.
func BenchmarkCount(b *testing.B) {
	for _, have := range []int{100_000, 1_000_000} {
		s := benchStore(b, Options{})
		fillStore(b, s, have)
		for _, q := range []struct {
			name string
			e    *Expr
		}{
			{"all", &Expr{Op: OpAll}},
			{"and", &Expr{Op: OpAnd, Args: []*Expr{{Op: OpAttr, Name: "tier", Value: "tier-1"}, {Op: OpAttr, Name: "city", Value: "city-7"}}}},
			{"or", &Expr{Op: OpOr, Args: []*Expr{{Op: OpTag, Value: "tag-1"}, {Op: OpTag, Value: "tag-2"}}}},
			{"not", &Expr{Op: OpNot, Args: []*Expr{{Op: OpTag, Value: "tag-1"}}}},
			{"sample", &Expr{Op: OpSample, PPM: 100_000}},
		} {
			b.Run(fmt.Sprintf("%s/users=%d", q.name, have), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.Count(context.Background(), q.e); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRange is the cost of a comparison's exact count, with ages of two digits, balances of nine with two decimals and moments of two years; beside it, of the ages, that of
// roaring's bit-sliced index, in memory.
func BenchmarkRange(b *testing.B) {
	const have = 1_000_000
	s := benchStore(b, Options{})
	ctx := context.Background()
	propose(b, s, &SetNames{Names: []SlotName{{2, "age"}, {3, "balance"}, {4, "born"}}})
	propose(b, s, &SetTypes{Types: []SlotType{{2, NumberType}, {3, NumberType + 2}, {4, DateType}}})
	r := rand.New(rand.NewPCG(1, 1))
	ages := bsi.NewDefaultBSI()
	for i := 0; i < have; i += 500 {
		c := &Batch{Import: true}
		for k := range 500 {
			age := r.IntN(100)
			ages.SetValue(uint64(i+k), int64(age))
			c.Ops = append(c.Ops, UserOp{Kind: OpPut, ID: benchID(i + k), Attrs: []AttrValue{
				{"age", fmt.Sprint(age)}, {"balance", fmt.Sprintf("%d.%02d", r.IntN(2_000_000)-1_000_000, r.IntN(100))},
				{"born", time.Unix(1_700_000_000+r.Int64N(2*365*secondsOfDay), 0).UTC().Format(time.RFC3339)},
			}})
		}
		if _, err := s.Propose(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Checkpoint(ctx); err != nil {
		b.Fatal(err)
	}
	ages.RunOptimize()
	for _, q := range []struct {
		name     string
		op       bsi.Operation
		from, to int64
	}{{"roaring's, age at least 18", bsi.GE, 18, 0}, {"roaring's, age between 18 and 65", bsi.RANGE, 18, 65}, {"roaring's, age is 33", bsi.EQ, 33, 0}} {
		b.Run(q.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ages.CompareValue(0, q.op, q.from, q.to, nil).IsEmpty() {
					b.Fatal("nobody")
				}
			}
		})
	}
	for _, q := range []struct {
		name string
		e    *Expr
	}{
		{"age at least 18", &Expr{Op: OpAtLeast, Name: "age", Value: "18"}},
		{"age between 18 and 65", &Expr{Op: OpBetween, Name: "age", Value: "18", High: "65"}},
		{"age is 33", &Expr{Op: OpAttr, Name: "age", Value: "33"}},
		{"balance between -500 and 500.5", &Expr{Op: OpBetween, Name: "balance", Value: "-500", High: "500.5"}},
		{"born before a day", &Expr{Op: OpLess, Name: "born", Value: "2024-11-28"}},
		{"born within a month", &Expr{Op: OpBetween, Name: "born", Value: "2024-11-01", High: "2024-11-30"}},
	} {
		b.Run(q.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Count(context.Background(), q.e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMembers is the cost of a member.
func BenchmarkMembers(b *testing.B) {
	s := benchStore(b, Options{})
	fillStore(b, s, 200_000)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n = 0
		for _, err := range s.Members(&Expr{Op: OpTag, Value: "tag-1"}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/member")
}

// BenchmarkPush is the cost of accepting a push to everyone, and of ending it.
func BenchmarkPush(b *testing.B) {
	for _, have := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("users=%d", have), func(b *testing.B) {
			s := benchStore(b, Options{})
			fillStore(b, s, have)
			b.ReportAllocs()
			for b.Loop() {
				r, err := s.Propose(context.Background(), &Push{Body: []byte("x"), To: &Expr{Op: OpTag, Value: "tag-1"}, Lifetime: time.Hour.Milliseconds()})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Propose(context.Background(), &End{Seq: r.(PushResult).Seq, Reason: Withdrawn}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLogin is the cost in the store of a user who catches up with 20 of 100 live pushes: what waits is
// read, and acknowledged in one step.
func BenchmarkLogin(b *testing.B) {
	for _, pushes := range []int{100, 700} {
		b.Run(fmt.Sprintf("pushes=%d", pushes), func(b *testing.B) {
			const have = 200_000
			s := benchStore(b, Options{})
			fillStore(b, s, have)
			var last uint64
			push := func() {
				for i := range pushes {
					var to *Expr
					if i%10 == 0 {
						to = &Expr{Op: OpAll}
					} else {
						to = &Expr{Op: OpTag, Value: fmt.Sprintf("tag-%d", i%10)}
					}
					r, err := s.Propose(context.Background(), &Push{Body: []byte("x"), To: to, Lifetime: time.Hour.Milliseconds()})
					if err != nil {
						b.Fatal(err)
					}
					last = r.(PushResult).Seq
				}
				if err := s.Checkpoint(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			push()
			user, messages := 0, 0
			b.ReportAllocs()
			for b.Loop() {
				if user == have {
					b.StopTimer()
					push()
					user = 0
					b.StartTimer()
				}
				seqs, err := s.PendingOf(uint32(user), 0, 1000)
				if err != nil {
					b.Fatal(err)
				}
				messages += len(seqs)
				if _, err := s.AckThrough(context.Background(), uint32(user), last); err != nil {
					b.Fatal(err)
				}
				user++
			}
			b.ReportMetric(float64(messages)/float64(b.N), "messages/op")
		})
	}
}

// BenchmarkPendingOf is the cost of a look at each message that somebody of a user's block waits for, when they are
// in the file and when they are in the delta.
func BenchmarkPendingOf(b *testing.B) {
	for _, folded := range []bool{true, false} {
		b.Run(fmt.Sprintf("folded=%t", folded), func(b *testing.B) {
			const have, messages = 60_000, 2000 // one block
			s := benchStore(b, Options{DeltaBytes: 1 << 40})
			fillStore(b, s, have)
			for i := range messages {
				to := &Expr{Op: OpTag, Value: fmt.Sprintf("tag-%d", i%10)}
				if _, err := s.Propose(context.Background(), &Push{Body: []byte("x"), To: to, Lifetime: time.Hour.Milliseconds()}); err != nil {
					b.Fatal(err)
				}
			}
			if folded {
				if err := s.Checkpoint(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			user := 0
			for b.Loop() {
				user = (user + 7919) % have
				if _, err := s.PendingOf(uint32(user), 0, messages); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/messages, "ns/look")
		})
	}
}

// BenchmarkAck is the cost of one acknowledgement when many come together.
func BenchmarkAck(b *testing.B) {
	const have = 1_000_000
	s := benchStore(b, Options{})
	fillStore(b, s, have)
	r, err := s.Propose(context.Background(), &Push{Body: []byte("x"), To: &Expr{Op: OpAll}, Lifetime: time.Hour.Milliseconds()})
	if err != nil {
		b.Fatal(err)
	}
	seq := r.(PushResult).Seq
	var next atomic.Uint32
	b.SetParallelism(128)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Ack(context.Background(), next.Add(1)%have, seq); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkReceived is the cost per user of a lane's deliveries, 4,096 at a time.
func BenchmarkReceived(b *testing.B) {
	const have = 1_000_000
	s := benchStore(b, Options{})
	fillStore(b, s, have)
	chunk := make([]uint32, 4096)
	var wg sync.WaitGroup
	for b.Loop() {
		r, err := s.Propose(context.Background(), &Push{Body: []byte("x"), To: &Expr{Op: OpAll}, Lifetime: time.Hour.Milliseconds()})
		if err != nil {
			b.Fatal(err)
		}
		for block := range s.geo.blocks(have) {
			for first := 0; first < 1<<16; first += len(chunk) {
				for i := range chunk {
					chunk[i] = uint32(first + i)
				}
				wg.Add(1)
				err := s.Go(&Received{Seq: r.(PushResult).Seq, Block: uint16(block), Bits: roaring.BitmapOf(chunk...)}, func(_ any, err error) {
					if err != nil {
						b.Error(err)
					}
					wg.Done()
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		wg.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*have), "ns/user")
}

// BenchmarkEndOfNotified is a push with a notification to one user, and its end, while retries of other tasks wait in the delta.
func BenchmarkEndOfNotified(b *testing.B) {
	for _, n := range []int{0, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			s := benchStore(b, Options{})
			fillStore(b, s, 1000)
			push := &Push{Random: 7, Body: []byte("x"), To: &Expr{Op: OpUsers, IDs: []string{benchID(7)}}, Lifetime: 3_600_000, Note: []byte("{}"), Platforms: []string{"apns"}}
			for i := 0; i < n; i += 2000 {
				cp := &Checkpoint{Seq: propose(b, s, push).(PushResult).Seq, Platform: "apns"}
				for k := range 2000 {
					cp.Retry = append(cp.Retry, PhoneRetry{Ordinal: uint32(k), Attempt: 1, Due: 1 << 50})
				}
				propose(b, s, cp)
			}
			for b.Loop() {
				propose(b, s, &End{Seq: propose(b, s, push).(PushResult).Seq, Reason: Withdrawn})
			}
		})
	}
}

// BenchmarkReplay is the cost of a change that Open finds in the journal: one attribute of a random user.
func BenchmarkReplay(b *testing.B) {
	const have, changes = 1_000_000, 300_000
	dir, ctx := b.TempDir(), context.Background()
	s, err := Open(dir, Options{DeltaEntries: 1 << 30, DeltaBytes: 1 << 40}, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Propose(ctx, &SetNames{Names: []SlotName{{0, "tier"}, {1, "city"}}}); err != nil {
		b.Fatal(err)
	}
	fillStore(b, s, have)
	r := rand.New(rand.NewPCG(4, 4))
	var wg sync.WaitGroup
	for range changes {
		wg.Add(1)
		op := UserOp{Kind: OpSetAttrs, ID: benchID(r.IntN(have)), Attrs: []AttrValue{{"city", fmt.Sprintf("city-%d", r.IntN(300))}}}
		if err := s.Go(&Batch{Ops: []UserOp{op}}, func(any, error) { wg.Done() }); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	leave := func() { // without a fold, as if killed
		s.refuseChanges(errStopped)
		if err := s.Close(ctx); err != nil {
			b.Fatal(err)
		}
	}
	leave()
	for b.Loop() {
		if s, err = Open(dir, Options{DeltaEntries: 1 << 30, DeltaBytes: 1 << 40}, nil); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		leave()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/changes, "ns/change")
}
