package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"pgregory.net/rapid"
)

// replayChecks is how many random scripts TestReplayRandom plays, unless -rapid.checks says otherwise.
const replayChecks = 25

// TestReplayRandom makes the same random changes in two stores of one origin. One never folds; the
// other folds all the time, and dies and is reopened now and then, also
// between any two writes of a fold. Whatever happens to it, both have the same state, bit for bit.
func TestReplayRandom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	played, failed := 0, false // what has failed is played again, to make it smaller
	rapid.Check(t, func(t *rapid.T) {
		if played++; !given && !failed && played > replayChecks {
			return
		}
		passed := false
		defer func() { failed = failed || !passed }()
		playTwins(t, dir, nil)
		passed = true
	})
}

// twins are the two stores, with the one clock and the one order of changes.
type twins struct {
	*rapid.T
	ctx     context.Context
	base    string
	dirs    int
	now     time.Time
	bits    int
	entries int
	a, b    *Store     // a folds, b does not
	log     *memoryLog // that both have; nil: each has its own journal
	tasks   []PushResult

	// The kill of a: copies of its files, each between two writes of a fold.
	journal sync.Mutex // held while the journal of a is written, and while it is copied
	copies  []string
	writes  int
	every   int
}

func playTwins(t *rapid.T, base string, log *memoryLog) {
	dir, err := os.MkdirTemp(base, "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	w := &twins{
		T: t, log: log, ctx: context.Background(), base: dir, now: time.Unix(1_000_000, 0),
		bits:    rapid.SampledFrom([]int{1, 2, 4, 16}).Draw(t, "block bits"),
		entries: rapid.IntRange(1, 8).Draw(t, "delta entries"),
		every:   rapid.IntRange(1, 7).Draw(t, "writes between copies"),
	}
	defer func() {
		for _, s := range []*Store{w.a, w.b} {
			if s != nil {
				s.Close(w.ctx)
			}
		}
	}()
	first := w.newDir()
	w.must(create(first, geometry{uint8(w.bits)}, w.logOf()))
	second := w.newDir()
	w.must(copyFiles(first, second)) // the same store ID and proposer
	w.a = w.open(first, w.entries, true)
	w.b = w.open(second, 1<<30, false)
	w.propose(&SetNames{Names: []SlotName{{0, "tier"}, {3, "city"}, {4, "age"}, {5, "born"}}})
	w.propose(&SetTypes{Types: []SlotType{{4, NumberType + 1}, {5, DateType}}})
	t.Repeat(map[string]func(*rapid.T){
		"users":    func(*rapid.T) { w.propose(w.batch()) },
		"users 2":  func(*rapid.T) { w.propose(w.batch()) },
		"push":     func(*rapid.T) { w.push() },
		"push 2":   func(*rapid.T) { w.push() },
		"received": func(*rapid.T) { w.received() },
		"caughtup": func(*rapid.T) { w.caughtUp() },
		"opened":   func(*rapid.T) { w.opened() },
		"end":      func(*rapid.T) { w.end() },
		"plan":     func(*rapid.T) { w.plan() },
		"plan 2":   func(*rapid.T) { w.plan() },
		"phones":   func(*rapid.T) { w.phones() },
		"settings": func(*rapid.T) { w.settings() },
		"time":     func(*rapid.T) { w.pass() },
		"compact":  func(*rapid.T) { w.must(w.a.Compact(w.ctx)) },
		"kill":     func(*rapid.T) { w.kill() },
		"reopen":   func(*rapid.T) { w.reopen() },
		"resurrect": func(*rapid.T) {
			w.resurrect()
		},
		"compare": func(*rapid.T) { w.compare() },
	})
	w.compare()
	w.must(w.a.Check(w.ctx))
	w.must(w.b.Check(w.ctx))
	w.resurrect()
}

func (w *twins) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *twins) newDir() string {
	w.dirs++
	return filepath.Join(w.base, fmt.Sprint(w.dirs))
}

// lockedJournal lets nobody copy the journal while it is written.
type lockedJournal struct {
	Journal
	mu *sync.Mutex
}

func (j lockedJournal) Append(position uint64, rec []byte, cut uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Journal.Append(position, rec, cut)
}

func (j lockedJournal) Cut(through uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Journal.Cut(through)
}

func (w *twins) open(dir string, entries int, copied bool) *Store {
	w.Helper()
	o := Options{DeltaEntries: entries, BlockBits: w.bits, Now: func() time.Time { return w.now }, Log: w.logOf(), digestEvery: 8}
	if copied {
		o.WrapJournal = func(j Journal) Journal { return lockedJournal{j, &w.journal} }
		o.foldError = func() error { // called before each write of a fold, under the lock that keeps others from writing
			if w.writes++; w.writes%w.every == 0 && len(w.copies) < 4 {
				to := filepath.Join(w.base, fmt.Sprintf("copy%d", w.writes))
				w.journal.Lock()
				defer w.journal.Unlock()
				if err := copyFiles(dir, to); err != nil {
					return err
				}
				w.copies = append(w.copies, to)
			}
			return nil
		}
	}
	s, err := Open(dir, o, nil)
	w.must(err)
	return s
}

// copyFiles copies a directory whose files nobody writes to.
func copyFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), b, 0o600)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// propose makes a change in both, at one moment, and wants the same result.
func (w *twins) propose(c Command) any {
	w.Helper()
	w.now = w.now.Add(time.Millisecond)
	if w.log != nil {
		return w.proposeToLog(c)
	}
	ra, errA := w.a.Propose(w.ctx, c)
	rb, errB := w.b.Propose(w.ctx, c)
	if fmt.Sprint(ra, errA) != fmt.Sprint(rb, errB) {
		w.Fatalf("%T: %v, %v where it folds; %v, %v where not", c, ra, errA, rb, errB)
	}
	return rb
}

func (w *twins) compare() {
	w.Helper()
	x, err := w.a.Digest(w.ctx)
	w.must(err)
	y, err := w.b.Digest(w.ctx)
	w.must(err)
	if x != y {
		w.Fatalf("the states differ:\n%s", differences(w.a, w.b))
	}
}

// differences lists the keys of blocks.db in which two folded stores differ.
func differences(a, b *Store) string {
	dump := func(s *Store) map[string]string {
		out := map[string]string{}
		tx, err := s.blocksDB().Begin(false)
		if err != nil {
			return out
		}
		defer tx.Rollback()
		for _, name := range bucketName {
			tx.Bucket(name).ForEach(func(k, v []byte) error {
				out[fmt.Sprintf("%s %x", name, k)] = fmt.Sprintf("%x", v)
				return nil
			})
		}
		return out
	}
	x, y, text := dump(a), dump(b), ""
	for _, k := range sortedKeys(x) {
		if x[k] != y[k] {
			text += fmt.Sprintf("%s: %q and %q\n", k, x[k], y[k])
		}
	}
	for _, k := range sortedKeys(y) {
		if _, has := x[k]; !has {
			text += fmt.Sprintf("%s: missing, and %q\n", k, y[k])
		}
	}
	return text
}

// kill leaves a as it is on the disk and opens a copy of that.
func (w *twins) kill() {
	to := w.newDir()
	w.a.blocksMu.Lock()
	w.journal.Lock()
	err := copyFiles(w.a.dir, to)
	w.journal.Unlock()
	w.a.blocksMu.Unlock()
	w.must(err)
	w.must(w.a.Close(w.ctx))
	w.a = w.open(to, w.entries, true)
}

func (w *twins) reopen() {
	w.must(w.a.Close(w.ctx))
	w.a = w.open(w.a.dir, w.entries, true)
	if rapid.Bool().Draw(w.T, "both") {
		w.must(w.b.Close(w.ctx))
		w.b = w.open(w.b.dir, 1<<30, false)
	}
}

// resurrect opens the copies that were taken between the writes of folds: each must be sound, and the
// newest, when nothing has been changed since, the same as the others.
func (w *twins) resurrect() {
	w.a.blocksMu.Lock() // the fold may be at work
	copies := w.copies
	w.copies = nil
	w.a.blocksMu.Unlock()
	for _, dir := range copies {
		s, err := Open(dir, Options{DeltaEntries: w.entries, Now: func() time.Time { return w.now }, Log: w.logOf()}, nil)
		w.must(err)
		err = s.Check(w.ctx)
		st, err2 := s.Stats()
		var x, y [32]byte
		var err3, err4 error
		if at, err := w.a.Stats(); err == nil && at.Position == st.Position {
			x, err3 = s.Digest(w.ctx)
			y, err4 = w.b.Digest(w.ctx)
		}
		if x != y {
			err = errors.Join(err, fmt.Errorf("the copy differs:\n%s", differences(s, w.b)))
		}
		w.must(errors.Join(err, err2, err3, err4, s.Close(w.ctx), os.RemoveAll(dir)))
	}
}

func (w *twins) id() string {
	return fmt.Sprintf("u%d", rapid.IntRange(0, 11).Draw(w.T, "user"))
}

func (w *twins) batch() *Batch {
	b := new(Batch)
	tags := rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y", "z"}), 0, 2)
	attrs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) AttrValue {
		return AttrValue{
			rapid.SampledFrom([]string{"tier", "city", "age", "born", "age", "born", "size"}).Draw(t, "name"),
			rapid.SampledFrom([]string{"1", "2", "-7.5", "1000000", "2026-01-31", "1969-01-31T10:00:01Z"}).Draw(t, "value"),
		}
	}), 0, 2)
	devices := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Device {
		return Device{
			Platform: rapid.SampledFrom([]string{"apns", "fcm"}).Draw(t, "platform"),
			Token:    rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "token"),
			Locale:   rapid.SampledFrom([]string{"", "zh", "zh_CN", "zh-Hant-TW"}).Draw(t, "locale"),
			TimeZone: rapid.SampledFrom([]string{"", "UTC", "Asia/Shanghai"}).Draw(t, "zone"),
		}
	}), 0, 2)
	for range rapid.IntRange(1, 4).Draw(w.T, "operations") {
		kinds := []OpKind{OpRegister, OpPut, OpPut, OpPut, OpUnregister, OpAddTags, OpRemoveTags, OpClearTags, OpSetAttrs, OpRemoveAttrs, OpPutDevices, OpRemoveDevices, OpDropDevices, OpOptOut, OpOptIn, OpSeen, OpSeen}
		o := UserOp{Kind: rapid.SampledFrom(kinds).Draw(w.T, "kind"), ID: w.id()}
		switch o.Kind {
		case OpPut:
			o.Tags, o.Attrs, o.Devices = tags.Draw(w.T, "tags"), attrs.Draw(w.T, "attributes"), devices.Draw(w.T, "devices")
		case OpOptOut, OpOptIn:
			o.Tags = []string{"ads"}
		case OpAddTags, OpRemoveTags:
			o.Tags = tags.Draw(w.T, "tags")
		case OpSetAttrs, OpRemoveAttrs:
			o.Attrs = attrs.Draw(w.T, "attributes")
		case OpPutDevices, OpRemoveDevices, OpDropDevices:
			o.Devices = devices.Draw(w.T, "devices")
			for i := range o.Devices {
				o.Devices[i].Registered = w.now.UnixMilli() - 3
			}
		}
		b.Ops = append(b.Ops, o)
	}
	return b
}

func (w *twins) audience(depth int) *Expr {
	kind := rapid.IntRange(0, 13).Draw(w.T, "audience")
	if depth == 0 && kind > 5 && kind < 9 {
		kind -= 3
	}
	switch kind {
	case 9:
		op := rapid.SampledFrom([]Op{OpAttr, OpLess, OpAtMost, OpMore, OpAtLeast, OpBetween}).Draw(w.T, "comparison")
		value := rapid.SampledFrom([]string{"1", "-7.5", "0", "2026-01-31"})
		return &Expr{Op: op, Name: rapid.SampledFrom([]string{"age", "born"}).Draw(w.T, "name"), Value: value.Draw(w.T, "low"), High: value.Draw(w.T, "high")}
	case 10:
		return &Expr{Op: OpHas, Name: rapid.SampledFrom([]string{"age", "city"}).Draw(w.T, "name")}
	case 11:
		return &Expr{Op: OpLanguage, Value: rapid.SampledFrom([]string{"zh", "zh-CN", "zh-Hant"}).Draw(w.T, "language")}
	case 12:
		return &Expr{Op: rapid.SampledFrom([]Op{OpSeenWithin, OpRegisteredWithin, OpRegisteredSince}).Draw(w.T, "days"), Days: rapid.Uint32Range(1, 40).Draw(w.T, "number")}
	case 13:
		return &Expr{Op: OpTimeZone, Value: "UTC"}
	case 0:
		return &Expr{Op: OpAll}
	case 1:
		return &Expr{Op: OpTag, Value: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(w.T, "tag")}
	case 2:
		return &Expr{Op: OpAttr, Name: rapid.SampledFrom([]string{"tier", "city", "tier", "size"}).Draw(w.T, "name"), Value: "1"}
	case 3:
		return &Expr{Op: OpUsers, IDs: []string{w.id(), w.id()}}
	case 4:
		return &Expr{Op: OpPlatform, Value: "apns"}
	case 5:
		return &Expr{Op: OpSample, PPM: rapid.SampledFrom([]uint32{500_000, 1_000_000}).Draw(w.T, "sample"), Value: "s"}
	case 6:
		return &Expr{Op: OpAnd, Args: []*Expr{w.audience(depth - 1), w.audience(depth - 1)}}
	case 7:
		return &Expr{Op: OpOr, Args: []*Expr{w.audience(depth - 1), w.audience(depth - 1)}}
	}
	return &Expr{Op: OpNot, Args: []*Expr{w.audience(depth - 1)}}
}

func (w *twins) push() {
	if r, ok := w.propose(w.aPush()).(PushResult); ok && !r.Duplicate {
		w.tasks = append(w.tasks, r)
	}
}

func (w *twins) aPush() *Push {
	c := &Push{
		Random: 7, Body: []byte("hello"), To: w.audience(2),
		Lifetime: rapid.SampledFrom([]int64{0, 1000, 3_600_000}).Draw(w.T, "lifetime"),
		Key:      rapid.SampledFrom([]string{"", "", "k"}).Draw(w.T, "key"),
	}
	if rapid.Bool().Draw(w.T, "capped") {
		c.Category = rapid.SampledFrom([]string{"", "ads"}).Draw(w.T, "category")
		c.PerDay, c.PerWeek = byte(rapid.IntRange(0, 2).Draw(w.T, "a day")), byte(rapid.IntRange(0, 3).Draw(w.T, "a week"))
	}
	if rapid.Bool().Draw(w.T, "phones") && c.Lifetime > 0 {
		c.Note, c.Platforms = []byte("note"), []string{"apns", "fcm"}
		c.Always = rapid.Bool().Draw(w.T, "always")
	}
	c.Keep = rapid.Bool().Draw(w.T, "kept")
	return c
}

// plan makes a plan, or moves the last one on.
func (w *twins) plan() {
	var last *Plan
	for p, err := range w.b.Plans() {
		w.must(err)
		last = p
		break
	}
	c := &PlanStep{State: []byte("state"), Run: rapid.Uint32Range(0, 2).Draw(w.T, "run"), Due: rapid.SampledFrom([]int64{0, w.now.UnixMilli() + 1000}).Draw(w.T, "due")}
	if last == nil || rapid.IntRange(0, 4).Draw(w.T, "new") == 0 {
		c.Spec, c.Key = []byte("spec"), rapid.SampledFrom([]string{"", "", "k"}).Draw(w.T, "key")
	} else {
		c.ID, c.Version = last.ID, last.Version
		c.End = rapid.IntRange(0, 5).Draw(w.T, "end") == 0
		c.Thaw = rapid.IntRange(0, 5).Draw(w.T, "thaw") == 0
	}
	switch rapid.IntRange(0, 3).Draw(w.T, "what") {
	case 0:
		c.Freeze = w.audience(2)
	case 1, 2:
		c.Push, c.Part = w.aPush(), "A"
		c.Take, c.Limit = rapid.Bool().Draw(w.T, "take"), rapid.Uint64Range(0, 3).Draw(w.T, "limit")
		if c.Take && rapid.Bool().Draw(w.T, "among") {
			c.Among = w.audience(2)
		}
	}
	if r, ok := w.propose(c).(PlanResult); ok && r.Push.Seq != 0 && !r.Push.Duplicate {
		w.tasks = append(w.tasks, r.Push)
	}
}

// seq is one of the tasks, or one that is none.
func (w *twins) seq() uint64 {
	return uint64(rapid.IntRange(max(0, len(w.tasks)-6), len(w.tasks)+1).Draw(w.T, "sequence"))
}

func (w *twins) received() {
	low := rapid.SliceOfN(rapid.Uint32Range(0, uint32(min(12, 1<<w.bits-1))), 1, 4).Draw(w.T, "low")
	c := &Received{Seq: w.seq(), Block: uint16(rapid.IntRange(0, 6).Draw(w.T, "block")), Bits: roaring.BitmapOf(low...)}
	if rapid.Bool().Draw(w.T, "delivered") {
		w.propose((*Delivered)(c))
	} else {
		w.propose(c)
	}
}

func (w *twins) opened() {
	low := rapid.SliceOfN(rapid.Uint32Range(0, uint32(min(12, 1<<w.bits-1))), 1, 4).Draw(w.T, "low")
	w.propose(&Opened{Seq: w.seq(), Block: uint16(rapid.IntRange(0, 6).Draw(w.T, "block")), Bits: roaring.BitmapOf(low...)})
}

func (w *twins) caughtUp() {
	c := &CaughtUp{Ordinal: uint32(rapid.IntRange(0, 20).Draw(w.T, "ordinal"))}
	if rapid.Bool().Draw(w.T, "through") {
		through := w.seq()
		seqs, err := w.a.PendingOf(c.Ordinal, 0, 1000)
		w.must(err)
		for _, seq := range seqs {
			if seq <= through {
				c.Seqs = append(c.Seqs, seq)
			}
		}
	} else {
		x := w.seq()
		c.Seqs = []uint64{x, x + 1}
	}
	if rapid.Bool().Draw(w.T, "acknowledged") {
		w.propose((*Acked)(c))
	} else {
		w.propose(c)
	}
}

func (w *twins) end() {
	if rapid.IntRange(0, 2).Draw(w.T, "online") == 0 {
		c := &OnlineDone{Seq: w.seq(), Delivered: 1, Failed: 1}
		if rapid.Bool().Draw(w.T, "part") {
			w.propose((*OnlinePart)(c))
		} else {
			w.propose(c)
		}
		return
	}
	c := &End{Seq: w.seq(), Reason: rapid.SampledFrom([]Reason{Expired, Withdrawn}).Draw(w.T, "reason")}
	if rapid.Bool().Draw(w.T, "recall") {
		c.Note = []byte("withdrawn")
		c.Notifying = rapid.SampledFrom([][]string{nil, {"apns"}, {"apns", "fcm"}}).Draw(w.T, "notifying")
	}
	w.propose(c)
}

func (w *twins) phones() {
	retry := PhoneRetry{Ordinal: uint32(rapid.IntRange(0, 4).Draw(w.T, "ordinal")), Token: HashToken("apns", "1"), Attempt: 1, Due: w.now.UnixMilli()}
	c := &Checkpoint{
		Seq: w.seq(), Platform: rapid.SampledFrom([]string{"apns", "fcm", "none"}).Draw(w.T, "platform"),
		Next: rapid.Uint64Range(0, 20).Draw(w.T, "next"), Done: rapid.IntRange(0, 3).Draw(w.T, "done") == 0,
		Stats: PhoneStats{Sent: 1, Retried: 1}, Recall: rapid.Bool().Draw(w.T, "of the recall"),
	}
	if rapid.Bool().Draw(w.T, "rejected") {
		c.Stats = PhoneStats{Sent: 1, Rejected: 1}
		c.Stats.Reject(rapid.StringN(1, 1, 4).Draw(w.T, "reason"), 1)
	}
	if rapid.Bool().Draw(w.T, "settled") {
		c.Settled = []PhoneRetry{retry}
	} else {
		retry.Asleep = rapid.Bool().Draw(w.T, "put off")
		c.Retry = []PhoneRetry{retry}
	}
	if rapid.Bool().Draw(w.T, "quiet") {
		for _, sets := range []*[]BlockSet{&c.Asleep, &c.Awake} {
			for _, block := range rapid.SliceOfN(rapid.Uint16Range(0, 6), 0, 2).Draw(w.T, "blocks") {
				*sets = append(*sets, BlockSet{block, roaring.BitmapOf(rapid.SliceOfN(rapid.Uint32Range(0, uint32(min(12, 1<<w.bits-1))), 1, 4).Draw(w.T, "low")...)})
			}
		}
		c.At = w.now.UnixMilli()
	}
	w.propose(c)
}

func (w *twins) settings() {
	if rapid.Bool().Draw(w.T, "limits") {
		w.propose(&SetLimits{Limits{TagsPerUser: rapid.IntRange(1, 4).Draw(w.T, "tags"), DevicesPerUser: rapid.IntRange(1, 3).Draw(w.T, "devices")}})
		return
	}
	switch rapid.IntRange(0, 3).Draw(w.T, "setting") {
	case 0:
		w.propose(&SetTypes{Types: []SlotType{{
			rapid.SampledFrom([]uint8{0, 4, 5}).Draw(w.T, "slot"), rapid.SampledFrom([]AttrType{TextType, DateType, NumberType, NumberType + 1}).Draw(w.T, "type"),
		}}})
		return
	case 1:
		c := &Save{Name: rapid.SampledFrom([]string{"one", "two"}).Draw(w.T, "saved")}
		if rapid.Bool().Draw(w.T, "there") {
			c.To = w.audience(1)
		}
		w.propose(c)
		return
	}
	w.propose(&SetNames{Names: []SlotName{{
		uint8(rapid.IntRange(0, 3).Draw(w.T, "slot")),
		rapid.SampledFrom([]string{"", "tier", "city", "size"}).Draw(w.T, "name"),
	}}})
}

// pass lets time pass and does what is due then.
func (w *twins) pass() {
	w.now = w.now.Add(rapid.SampledFrom([]time.Duration{time.Second, time.Hour, KeyRetention, TaskRetention}).Draw(w.T, "time"))
	x, err := w.a.DueAt(w.now.UnixMilli(), 5)
	w.must(err)
	y, err := w.b.DueAt(w.now.UnixMilli(), 5)
	w.must(err)
	if fmt.Sprint(x) != fmt.Sprint(y) {
		w.Fatalf("due: %v and %v", x, y)
	}
	for _, e := range y.Expired {
		w.propose(&End{Seq: e[0], Reason: Expired})
	}
	if len(y.Forget) > 0 {
		w.propose(&Forget{Due: y.Forget})
	}
}

// TestRefusedPushKeepsTheOldKeysEnd uses a key again that is past its time and not yet forgotten, in
// a push that is refused: nothing may change, or the key would never be forgotten.
func TestRefusedPushKeepsTheOldKeysEnd(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	s := open(t, t.TempDir(), Options{Now: func() time.Time { return now }})
	register(t, s, "a")
	propose(t, s, &Push{Key: "k", To: &Expr{Op: OpAll}, Lifetime: 1000})
	now = now.Add(KeyRetention)
	keyDue := func() int {
		count := 0
		err := s.withView(func(v *view) error {
			count = len(v.scan(bucketDue, []byte{dueKey}, []byte{dueKey + 1}, 10, false))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return count
	}
	_, err := s.Propose(context.Background(), &Push{Key: "k", To: &Expr{Op: OpAttr, Name: "nothing", Value: "1"}, Lifetime: 1000})
	if !errors.Is(err, ErrUnnamedAttribute) || keyDue() != 1 {
		t.Fatalf("%v, and %d keys are to be forgotten", err, keyDue())
	}
	propose(t, s, &Push{Key: "k", To: &Expr{Op: OpAll}, Lifetime: 1000})
	if keyDue() != 1 {
		t.Fatalf("%d keys are to be forgotten", keyDue())
	}
}
