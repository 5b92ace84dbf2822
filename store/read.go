package store

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"
)

// User is what the store knows of a user.
type User struct {
	Ordinal    uint32
	ID         string
	Registered int64 // seconds since 1970
	Tags       []string
	OptOuts    []string    // categories
	Attrs      []AttrValue // in slot order; of slots without a name the name is empty
	Devices    []Device
}

// Ordinal returns a user's ordinal, or [ErrUnknownUser].
func (s *Store) Ordinal(id string) (ord uint32, err error) {
	err = s.withView(func(v *view) error {
		n, ok := v.ordinal(id)
		if !ok {
			return ErrUnknownUser
		}
		ord = n
		return nil
	})
	return ord, err
}

// Seen returns a user's ordinal, and one more than the last day that is noted of a connection (see [Day]), 0 for none;
// or [ErrUnknownUser].
func (s *Store) Seen(id string) (ord, day uint32, err error) {
	err = s.withView(func(v *view) error {
		n, ok := v.ordinal(id)
		if !ok {
			return ErrUnknownUser
		}
		ord, day = n, recordSeen(v.blockRecord(kindUser, s.geo.block(n), s.geo.low(n)))
		return nil
	})
	return ord, day, err
}

// User returns everything about a user, or [ErrUnknownUser].
func (s *Store) User(id string) (u User, err error) {
	err = s.withView(func(v *view) error {
		ord, ok := v.ordinal(id)
		if !ok {
			return ErrUnknownUser
		}
		// The active delta goes on under a view: a fact that is dropped between the record and its name
		// is one that the user has no more, so the record is read again.
		for {
			u = User{Ordinal: ord}
			whole, err := v.user(s, &u)
			if whole || err != nil {
				return err
			}
		}
	})
	return u, err
}

func (v *view) user(s *Store, u *User) (whole bool, err error) {
	block, low := s.geo.block(u.Ordinal), s.geo.low(u.Ordinal)
	raw := v.blockRecord(kindUser, block, low)
	if raw == nil {
		return false, ErrUnknownUser
	}
	rec, err := decodeUser(raw)
	if err != nil {
		return false, err
	}
	u.ID, u.Registered = rec.id, rec.registered
	names := s.published.Load().names
	for _, a := range rec.attrs {
		if a.typ != TextType {
			u.Attrs = append(u.Attrs, AttrValue{names[a.slot], a.typ.format(a.number)})
			continue
		}
		key := v.get(bucketNames, key32(a.fact))
		if len(key) < 2 {
			return false, v.missing(raw, block, low)
		}
		u.Attrs = append(u.Attrs, AttrValue{names[a.slot], string(key[2:])})
	}
	for _, t := range rec.tags {
		key := v.get(bucketNames, key32(t))
		if len(key) < 1 {
			return false, v.missing(raw, block, low)
		}
		u.Tags = append(u.Tags, string(key[1:]))
	}
	slices.Sort(u.Tags)
	for _, o := range rec.outs {
		key := v.get(bucketNames, key32(o))
		if len(key) < 1 {
			return false, v.missing(raw, block, low)
		}
		u.OptOuts = append(u.OptOuts, string(key[1:]))
	}
	slices.Sort(u.OptOuts)
	u.Devices, err = decodeDevices(v.blockRecord(kindDevice, block, low))
	return true, err
}

// missing is the error of a user whose fact has no name, unless the record has changed since.
func (v *view) missing(raw []byte, block, low uint16) error {
	if bytes.Equal(raw, v.blockRecord(kindUser, block, low)) {
		return &FormatError{What: "user", Detail: "a fact without a name"}
	}
	return nil
}

// Settings returns the limits and attribute names in force.
func (s *Store) Settings() (Limits, map[uint8]string) {
	st := s.published.Load()
	return st.limits, maps.Clone(st.names)
}

// Types returns the types of attribute slots that are not text.
func (s *Store) Types() map[uint8]AttrType { return maps.Clone(s.published.Load().types) }

// Count returns how many users an audience has. It is exact for each block at the moment the
// block is read; a change that is made meanwhile may count in one block and not in another.
func (s *Store) Count(ctx context.Context, e *Expr) (int64, error) {
	st := s.published.Load()
	prog, err := s.compile(e, st)
	if err != nil {
		return 0, err
	}
	var total atomic.Int64
	err = s.eachBlock(prog.blocks(s.geo, st.nextOrdinal), workers(), func(v *view, block uint16) error {
		total.Add(int64(prog.count(v, s.geo, block)))
		return ctx.Err()
	})
	return total.Load(), err
}

func (s *Store) compile(e *Expr, st *state) (prog *program, err error) {
	err = s.withView(func(v *view) error {
		prog, err = compile(e, v, st, max(st.now, s.o.Now().UnixMilli()))
		return err
	})
	return prog, err
}

// Members yields the users of an audience in ordinal order. No transaction is
// open while the caller has an ID. What changes behind the iteration is not seen; a user
// who is unregistered meanwhile is left out.
func (s *Store) Members(e *Expr) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		st := s.published.Load()
		prog, err := s.compile(e, st)
		if err != nil {
			yield("", err)
			return
		}
		var ids []string
		low := make([]uint32, membersStep)
		for _, block := range prog.blocks(s.geo, st.nextOrdinal) {
			var set *roaring.Bitmap
			err := s.withView(func(v *view) error {
				if r := prog.eval(v, s.geo, block); r.set != nil {
					set = r.set.Clone()
				}
				return nil
			})
			if err != nil {
				yield("", err)
				return
			}
			if set == nil {
				continue
			}
			it := set.ManyIterator()
			for n := it.NextMany(low); n > 0; n = it.NextMany(low) {
				if ids, err = s.names(block, low[:n], ids[:0]); err != nil {
					yield("", err)
					return
				}
				for _, id := range ids {
					if !yield(id, nil) {
						return
					}
				}
			}
		}
	}
}

// membersStep is how many members are read at a time.
const membersStep = 4096

// Names returns the IDs of users of a block, of those that there still are, in the order given.
func (s *Store) Names(block uint16, low []uint32) ([]string, error) { return s.names(block, low, nil) }

// names appends the IDs of the users of a block: of those that there still are. Each of them is somewhere else
// in the file, so several goroutines look.
func (s *Store) names(block uint16, low []uint32, ids []string) ([]string, error) {
	found := make([]string, len(low))
	part := max((len(low)+workers()-1)/workers(), 256)
	var wg sync.WaitGroup
	errs := make([]error, (len(low)+part-1)/part)
	for i := range errs {
		from, to := i*part, min((i+1)*part, len(low))
		read := func() {
			errs[i] = s.withView(func(v *view) error {
				users := v.users(block)
				for k := from; k < to; k++ {
					if raw := users.record(uint16(low[k])); raw != nil {
						found[k] = recordID(raw)
					}
				}
				return nil
			})
		}
		if i < len(errs)-1 {
			wg.Go(read)
		} else {
			read()
		}
	}
	wg.Wait()
	for _, id := range found {
		if id != "" {
			ids = append(ids, id)
		}
	}
	return ids, errors.Join(errs...)
}

// Pending returns who of a block still waits for a message: a set of the caller's own, nil for nobody.
func (s *Store) Pending(block uint16, seq uint64) (set *roaring.Bitmap, err error) {
	err = s.withView(func(v *view) error {
		if p := v.pending(block, seq); p != nil {
			set = p.Clone()
		}
		return nil
	})
	return set, err
}

// PendingOf returns the sequences that a user still waits for, ascending, above after, at most max.
func (s *Store) PendingOf(ordinal uint32, after uint64, max int) (seqs []uint64, err error) {
	err = s.withView(func(v *view) error {
		seqs, _ = v.pendingOf(s.geo.block(ordinal), s.geo.low(ordinal), after, max)
		return nil
	})
	return seqs, err
}

// Message returns a message, nil once its task has ended.
func (s *Store) Message(seq uint64) (m *Message, err error) {
	err = s.withView(func(v *view) error {
		if b := v.get(bucketMessages, key64(seq)); b != nil {
			m, err = decodeMessage(seq, b)
		}
		return err
	})
	return m, err
}

// TaskState is a task with its progress.
type TaskState struct {
	Task
	Progress Progress
	Phones   map[string]PhoneStats
	Recalls  map[string]PhoneStats // of telling phones that the message was withdrawn
	Notified bool                  // no phone is left to be notified, or told
}

// Task returns a task, or [ErrUnknownTask] when there is none or it was forgotten.
func (s *Store) Task(seq uint64) (t *TaskState, err error) {
	err = s.withView(func(v *view) error {
		t, err = v.taskState(seq)
		return err
	})
	return t, err
}

// TaskOfKey returns the task of an idempotency key that is remembered at a time, in milliseconds since 1970, or [ErrUnknownTask].
func (s *Store) TaskOfKey(sender, key string, now int64) (t *TaskState, err error) {
	err = s.withView(func(v *view) error {
		b := v.get(bucketKeys, keyKey(sender, key))
		if b == nil {
			return ErrUnknownTask
		}
		k, err := decodeKey(b)
		if err != nil {
			return err
		}
		if k.at+KeyRetention.Milliseconds() <= now {
			return ErrUnknownTask
		}
		t, err = v.taskState(k.seq)
		return err
	})
	return t, err
}

// TaskRandom returns the random half of a task's ID, or [ErrUnknownTask], and reads no more of it.
func (s *Store) TaskRandom(seq uint64) (random uint64, err error) {
	err = s.withView(func(v *view) error {
		b := v.get(bucketTasks, key64(seq))
		if b == nil {
			return ErrUnknownTask
		}
		r := reader{b: b}
		random = r.u64()
		return r.err
	})
	return random, err
}

func (v *view) taskState(seq uint64) (*TaskState, error) {
	b := v.get(bucketTasks, key64(seq))
	if b == nil {
		return nil, ErrUnknownTask
	}
	task, err := decodeTask(seq, b)
	if err != nil {
		return nil, err
	}
	t := &TaskState{Task: *task, Notified: true}
	if b := v.get(bucketProgress, key64(seq)); b != nil {
		if t.Progress, err = decodeProgress(b); err != nil {
			return nil, err
		}
		t.Progress.sampleAt = 0 // which is the applier's affair
	}
	for _, platform := range t.Platforms {
		if b := v.get(bucketPhones, phoneKey(seq, platform)); b != nil {
			rec, err := decodePhone(b)
			if err != nil {
				return nil, err
			}
			if t.Phones == nil {
				t.Phones = make(map[string]PhoneStats)
			}
			t.Phones[platform] = rec.stats
			if rec.recall {
				if t.Recalls == nil {
					t.Recalls = make(map[string]PhoneStats)
				}
				t.Recalls[platform] = rec.recalled
			}
			t.Notified = t.Notified && rec.done
		}
	}
	return t, nil
}

// Tasks yields the tasks, newest first.
func (s *Store) Tasks() iter.Seq2[*TaskState, error] { return s.TasksBefore(1<<64 - 1) }

// TasksBefore yields the tasks whose messages come before a sequence, newest first.
func (s *Store) TasksBefore(seq uint64) iter.Seq2[*TaskState, error] {
	return func(yield func(*TaskState, error) bool) {
		to := key64(seq)
		for {
			var some []*TaskState
			err := s.withView(func(v *view) error {
				for _, e := range v.scan(bucketTasks, nil, to, 100, true) {
					t, err := v.taskState(be64(e.key))
					if err != nil {
						return err
					}
					some = append(some, t)
				}
				return nil
			})
			if err != nil {
				yield(nil, err)
				return
			}
			if len(some) == 0 {
				return
			}
			for _, t := range some {
				if !yield(t, nil) {
					return
				}
			}
			to = key64(some[len(some)-1].Seq)
		}
	}
}

// Due is what a store has to have done for it at a time.
type Due struct {
	Expired [][2]uint64 // sequence and expiry (ms) of messages past it
	Forget  [][]byte    // for a [Forget] command
	Next    int64       // when there is more to do, as far as is known; 0 for nothing
}

// DueAt returns at most max of each thing that is due at now, in milliseconds since 1970.
func (s *Store) DueAt(now int64, max int) (d Due, err error) {
	d = Due{}
	later := func(at int64) {
		if d.Next == 0 || at < d.Next {
			d.Next = at
		}
	}
	err = s.withView(func(v *view) error {
		for _, kind := range []byte{dueExpire, dueForget, dueForgetPlan, dueKey, dueCaps} {
			for _, e := range v.scan(bucketDue, []byte{kind}, []byte{kind + 1}, max+1, false) {
				at := int64(be64(e.key[1:9]))
				if at > now {
					later(at)
					break
				}
				if kind == dueExpire {
					d.Expired = append(d.Expired, [2]uint64{be64(e.key[9:]), uint64(at)})
				} else {
					d.Forget = append(d.Forget, e.key)
				}
			}
		}
		if len(d.Expired) > 0 || len(d.Forget) > 0 {
			later(now)
		}
		return nil
	})
	return d, err
}

// Views returns how many read transactions are open.
func (s *Store) Views() int64 { return s.views.Load() }

// Block returns the block of an ordinal and its place in it.
func (s *Store) Block(ordinal uint32) (block, low uint16) {
	return s.geo.block(ordinal), s.geo.low(ordinal)
}

// OrdinalAt is the reverse of [Store.Block].
func (s *Store) OrdinalAt(block, low uint16) uint32 { return s.geo.ordinal(block, low) }

// LastSeq returns the sequence of the last accepted push.
func (s *Store) LastSeq() uint64 { return s.published.Load().nextSeq - 1 }

// Stats are figures about the store.
type Stats struct {
	Users        int64
	Ordinals     int64 // ever given
	Pushes       int64 // ever accepted
	Position     uint64
	DeltaEntries int // in memory: what is being folded, and what has come since
	DeltaBytes   int64
	Folding      bool
	BlocksBytes  int64 // of the file
	JournalBytes int64
	Counters     Counters

	ID    [16]byte // of the store, which its files have in them
	Found Found
}

// Found is what Open found that the last process had not brought into the blocks.
type Found struct {
	Segment bool  // it was being folded
	Records int64 // of the journal that were replayed
	Bytes   int64 // of these
}

// Stats returns figures about the store.
func (s *Store) Stats() (Stats, error) {
	st, l := s.published.Load(), s.layers.Load()
	r := Stats{
		Users: int64(st.users), Ordinals: int64(st.nextOrdinal), Pushes: int64(st.nextSeq - 1), Position: st.position, Folding: l.frozen != nil, Counters: s.counts.read(),
		ID: s.id, Found: s.found,
	}
	if size := s.size.Load(); size.of == l.active { // else it was frozen since, and the new one is empty
		r.DeltaEntries, r.DeltaBytes = size.entries, size.bytes
	}
	if l.frozen != nil { // never written again
		r.DeltaEntries += l.frozen.entries
		r.DeltaBytes += l.frozen.bytes
	}
	var err error
	if r.BlocksBytes, err = fileSize(s.dir, blocksFile); err != nil {
		return r, err
	}
	r.JournalBytes, err = fileSize(s.dir, journalFile)
	return r, err
}

// prefixed yields the entries of a bucket of the file under a prefix.
func prefixed(c cursor, prefix []byte, f func(k, v []byte) error) error {
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

type cursor interface {
	Seek([]byte) ([]byte, []byte)
	Next() ([]byte, []byte)
}
