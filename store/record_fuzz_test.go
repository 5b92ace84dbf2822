package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// decodeWhole does what a replay does with a journal record before it applies it.
func decodeWhole(raw []byte) (*record, []Command, error) {
	rec, err := decodeRecord(raw)
	if err != nil {
		return nil, nil, err
	}
	commands, err := decodeCommands(rec)
	return rec, commands, err
}

// FuzzDecodeRecord decodes what may be no record, as it is and with its checksum made right. What is taken apart
// and put together again is the same, and applied to a store it ends in results or in an error: whoever could write to the journal
// must not be able to end the process with it.
func FuzzDecodeRecord(f *testing.F) {
	dir := f.TempDir()
	closedStore(f, dir, false, false)
	s, err := Open(dir, Options{}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil {
			f.Error(err)
		}
		closeStore(f, s)
	})
	f.Fuzz(func(t *testing.T, raw []byte) {
		t.Parallel()
		for _, b := range [][]byte{raw, resealed(raw)} {
			before := bytes.Clone(b)
			rec, commands, err := decodeWhole(b)
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewerFormat) {
					t.Fatalf("neither damaged nor newer: %v", err)
				}
				continue
			}
			if n := heldBy(reflect.ValueOf(commands)); n > 400*len(b) {
				t.Fatalf("%d bytes of a record became %d", len(b), n)
			}
			again := &record{stamp: rec.stamp, proposer: rec.proposer, first: rec.first}
			for _, c := range commands {
				again.commands = append(again.commands, encodeCommand(c))
			}
			rec2, commands2, err := decodeWhole(again.encode())
			if err != nil {
				t.Fatalf("what was decoded cannot be decoded again: %v", err)
			}
			if rec2.stamp != rec.stamp || rec2.proposer != rec.proposer || rec2.first != rec.first || len(commands2) != len(commands) {
				t.Fatalf("%+v became %+v", rec, rec2)
			}
			for i, c := range commands2 {
				if !bytes.Equal(encodeCommand(c), again.commands[i]) || !reflect.DeepEqual(c, commands[i]) {
					t.Fatalf("command %d: %+v became %+v", i, commands[i], c)
				}
			}
			applyAside(t, s, rec, commands)
			if !bytes.Equal(b, before) {
				t.Fatal("the record has changed: commands alias it, and it may be mapped memory")
			}
		}
	})
}

// resealed replaces what stands where the checksum is.
func resealed(b []byte) []byte {
	if len(b) < 4 {
		return b
	}
	body := b[:len(b)-4]
	return binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
}

// heldBy adds up what a value and everything below it takes in memory, roughly; two that share something count twice.
func heldBy(v reflect.Value) int {
	n := int(v.Type().Size())
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() && v.Type().String() != "*roaring.Bitmap" { // a bitmap is not larger than its bytes
			n += heldBy(v.Elem())
		}
	case reflect.String:
		n += v.Len()
	case reflect.Slice:
		n += v.Cap() * int(v.Type().Elem().Size())
		for i := range v.Len() {
			n += heldBy(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			n += heldBy(v.Field(i))
		}
	}
	return n
}

// applyAside applies a record to the state of a store, in a delta that is thrown away, and reads what became of it.
func applyAside(t *testing.T, s *Store, rec *record, commands []Command) {
	t.Helper()
	aside := &Store{dir: s.dir, geo: s.geo, proposer: s.proposer, o: s.o}
	aside.layers.Store(&layers{db: s.blocksDB(), active: newDelta(), everyone: newEveryone()})
	aside.st = *s.published.Load().clone()
	stuck := time.AfterFunc(time.Minute, func() { panic("apply does not end") })
	defer stuck.Stop()
	err := func() (err error) {
		defer guardFaults("replay", &err)() // as Open and the committer have it
		return aside.replayRecord(&decoded{position: aside.st.position + 1, rec: rec, commands: commands})
	}()
	if n := aside.Views(); n != 0 {
		t.Fatalf("%d views are open after %v", n, err)
	}
	if err != nil {
		if !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		return
	}
	for c := range aside.layers.Load().active.changes {
		if len(c.key) == 0 || len(c.key) > bbolt.MaxKeySize {
			t.Fatalf("a key of %d bytes: no fold could write it", len(c.key))
		}
	}
	aside.publish()
	if _, err := aside.Count(context.Background(), &Expr{Op: OpNot, Args: []*Expr{{Op: OpTag, Value: "x"}}}); err != nil {
		t.Fatal(err)
	}
	for id, err := range aside.Members(&Expr{Op: OpAll}) {
		if err != nil {
			t.Fatal(err)
		}
		u, err := aside.User(id)
		if err != nil {
			t.Fatalf("%q: %v", id, err)
		}
		_, err = aside.PendingOf(u.Ordinal, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
	}
	for task, err := range aside.Tasks() {
		if err != nil {
			t.Fatal(task, err)
		}
	}
	if _, _, err := aside.Unfinished(); err != nil {
		t.Fatal(err)
	}
	if _, err := aside.DueAt(1<<60, 10); err != nil {
		t.Fatal(err)
	}
}
