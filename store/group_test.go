package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
)

// together holds the committer up while f proposes without waiting, so that what f proposes is there at once when groups are
// formed.
func together(t testing.TB, s *Store, f func()) {
	t.Helper()
	held, goOn := make(chan struct{}), make(chan struct{})
	hold := &proposal{control: func() { close(held); <-goOn }, done: func(any, error) {}}
	if err := s.queue.push(hold); err != nil {
		t.Fatal(err)
	}
	<-held
	defer close(goOn)
	f()
}

// answers collects what the committer says to each of several commands.
type answers struct {
	t    testing.TB
	wait sync.WaitGroup
	got  []any // results, or errors; read after wait
}

// next returns where the answer to the next command goes.
func (a *answers) next() func(any, error) {
	i := len(a.got)
	a.got = append(a.got, nil)
	a.wait.Add(1)
	return func(r any, err error) {
		a.got[i] = r
		if err != nil {
			a.got[i] = err
		}
		a.wait.Done()
	}
}

func (a *answers) propose(s *Store, c Command) {
	a.t.Helper()
	if err := s.Go(c, a.next()); err != nil {
		a.t.Fatal(err)
	}
}

// groups is the local journal, and remembers the commands of each group.
type groups struct {
	Journal
	mu      sync.Mutex
	records [][]Command
	sizes   []int
	stamps  []int64
}

func (j *groups) Append(position uint64, raw []byte, cut uint64) error {
	rec, commands, err := decodeWhole(slices.Clone(raw))
	if err != nil {
		return err
	}
	j.mu.Lock()
	j.records, j.sizes, j.stamps = append(j.records, commands), append(j.sizes, len(raw)), append(j.stamps, rec.stamp)
	j.mu.Unlock()
	return j.Journal.Append(position, raw, cut)
}

func (j *groups) wrap(local Journal) Journal {
	j.Journal = local
	return j
}

// since returns the groups after the first n.
func (j *groups) since(n int) (records [][]Command, sizes []int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.records[n:], j.sizes[n:]
}

func registerOp(id string) UserOp { return UserOp{Kind: OpRegister, ID: id} }

// TestCommandTooLarge proposes a batch of just the size that is allowed, and one of a byte more.
func TestCommandTooLarge(t *testing.T) {
	t.Parallel()
	j := new(groups)
	s := open(t, t.TempDir(), Options{WrapJournal: j.wrap})
	sized := func(id string, size int) *Batch {
		b := &Batch{Ops: []UserOp{registerOp(id), {Kind: OpRemoveDevices, ID: id, Devices: []Device{{Token: strings.Repeat("x", size/2)}}}}}
		b.Ops[1].Devices[0].Token = strings.Repeat("x", size/2+size-len(encodeCommand(b))) // which takes no more bytes for its length
		if got := len(encodeCommand(b)); got != size {
			t.Fatalf("%d bytes, not %d", got, size)
		}
		return b
	}
	var limit *LimitError
	_, err := s.Propose(context.Background(), sized("larger", MaxCommand+1))
	if !errors.As(err, &limit) || limit.Limit != MaxCommand || limit.Got != MaxCommand+1 {
		t.Fatal(err)
	}
	if err := s.Go(sized("larger", MaxCommand+1), func(any, error) { t.Error("told of what was never proposed") }); !errors.As(err, &limit) {
		t.Fatal(err)
	}
	propose(t, s, sized("just", MaxCommand))
	if got := members(t, s, &Expr{Op: OpAll}); !slices.Equal(got, []string{"just"}) {
		t.Fatal(got)
	}
	if records, _ := j.since(0); len(records) != 1 {
		t.Fatal("records:", len(records))
	}
}

// TestGroupIsBounded has more waiting than one record may hold.
func TestGroupIsBounded(t *testing.T) {
	t.Parallel()
	j := new(groups)
	s := open(t, t.TempDir(), Options{WrapJournal: j.wrap})
	register(t, s, "a")
	a := &answers{t: t}
	together(t, s, func() {
		for i := range 12 {
			a.propose(s, &Push{Random: uint64(i), Body: make([]byte, 300_000+i), To: &Expr{Op: OpAll}, Lifetime: 1000})
		}
	})
	a.wait.Wait()
	for i, r := range a.got { // each group in its order, and the groups too
		if p, ok := r.(PushResult); !ok || p.Seq != uint64(i+1) || p.Random != uint64(i) {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	records, sizes := j.since(1)
	if len(records) != 4 {
		t.Fatalf("%d groups of %v bytes", len(records), sizes)
	}
	for _, n := range sizes {
		if n > maxRecord+1000 {
			t.Fatal("a record of", n, "bytes")
		}
	}
}

// TestOneImportStepInAGroup has an import wait with other callers: those are in the first group, all of them, and of the
// import only one step is.
func TestOneImportStepInAGroup(t *testing.T) {
	t.Parallel()
	j := new(groups)
	s := open(t, t.TempDir(), Options{WrapJournal: j.wrap})
	a := &answers{t: t}
	together(t, s, func() {
		for i := range 5 {
			a.propose(s, &Batch{Import: true, Ops: []UserOp{registerOp(fmt.Sprintf("import-%d", i))}})
			if i < 3 {
				a.propose(s, &Batch{Ops: []UserOp{registerOp(fmt.Sprintf("caller-%d", i))}})
			}
		}
	})
	a.wait.Wait()
	var got []string
	records, _ := j.since(0)
	for _, commands := range records {
		text := ""
		for _, c := range commands {
			text += " " + c.(*Batch).Ops[0].ID
		}
		got = append(got, text)
	}
	want := []string{" import-0 caller-0 caller-1 caller-2", " import-1", " import-2", " import-3", " import-4"}
	if !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
}

// TestAcksTogetherAreOneCommand has acknowledgements wait together: those of one message and one block become one command, and each
// caller is told of the bit of its own.
func TestAcksTogetherAreOneCommand(t *testing.T) {
	t.Parallel()
	j := new(groups)
	s := open(t, t.TempDir(), Options{BlockBits: 2, WrapJournal: j.wrap})
	register(t, s, "a", "b", "c", "d", "e", "f")
	one := push(t, s, &Expr{Op: OpUsers, IDs: []string{"a", "b", "c", "e"}}, time.Hour)
	two := push(t, s, &Expr{Op: OpAll}, time.Hour)
	before, _ := j.since(0)
	a := &answers{t: t}
	together(t, s, func() {
		for _, ack := range []ackOf{
			{ordinal: 0, seq: one.Seq}, {ordinal: 1, seq: one.Seq}, {ordinal: 3, seq: one.Seq}, // d is not in its audience
			{ordinal: 4, seq: one.Seq}, // another block
			{ordinal: 0, seq: two.Seq}, // another message
			{ordinal: 2, seq: 99},      // no message
			{ordinal: 4, seq: one.Seq}, // again
		} {
			if err := s.queue.push(&proposal{ack: &ack, done: a.next()}); err != nil {
				t.Error(err)
			}
		}
	})
	a.wait.Wait()
	// Who acknowledges twice at once is told twice that the bit was set: the two are one command.
	if want := []any{true, true, false, true, true, false, true}; !slices.Equal(a.got, want) {
		t.Fatalf("%v, not %v", a.got, want)
	}
	records, _ := j.since(len(before))
	if len(records) != 1 || len(records[0]) != 4 {
		t.Fatalf("%d groups: %+v", len(records), records)
	}
	for i, want := range []struct {
		seq   uint64
		block uint16
		low   []uint32
	}{{one.Seq, 0, []uint32{0, 1, 3}}, {one.Seq, 1, []uint32{0}}, {two.Seq, 0, []uint32{0}}, {99, 0, []uint32{2}}} {
		c := records[0][i].(*Received)
		if c.Seq != want.seq || c.Block != want.block || !c.Bits.Equals(roaring.BitmapOf(want.low...)) {
			t.Errorf("command %d: %d in block %d, %v", i, c.Seq, c.Block, c.Bits)
		}
	}
	if st, err := s.Task(one.Seq); err != nil || st.Progress != (Progress{Total: 4, Delivered: 3, Pending: 1}) {
		t.Fatalf("%+v, %v", st, err)
	}
}
