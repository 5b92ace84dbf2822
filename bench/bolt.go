package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"go.etcd.io/bbolt"
)

// boltStore keeps the same users in plain bbolt: a record under each ID, and a posting of each city and block
// of 65,536 users, both changed in place.
type boltStore struct {
	db       *bbolt.DB
	requests chan *boltChange
	ended    chan struct{}
}

var (
	boltUsers  = []byte("users")
	boltCities = []byte("cities")
)

const boltStep = 50_000 // keys in a transaction of the load, the best that was found

func openBolt(path string) (*boltStore, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, InitialMmapSize: 64 << 30, NoStatistics: true})
	if err != nil {
		return nil, err
	}
	s := &boltStore{db: db}
	return s, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(boltUsers)
		_, e := tx.CreateBucket(boltCities)
		return errors.Join(err, e)
	})
}

func (s *boltStore) close() error {
	if s.requests != nil {
		close(s.requests)
		<-s.ended
	}
	return s.db.Close()
}

// record is what is kept of a user: its number, and its facts as text.
func (u *person) record(i int) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 64), uint32(i))
	for _, s := range []string{u.city, u.tier, tagNames[u.tags[0]], tagNames[u.tags[1]], tagNames[u.tags[2]]} {
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

// sorted returns the numbers of the users in the order of their IDs.
func (b *bench) sorted(context.Context) ([]int32, error) {
	type key struct {
		high, low uint64
		i         int32
	}
	keys := make([]key, b.users)
	for i := range keys {
		b.who.pcg.Seed(seed, uint64(i))
		keys[i] = key{b.who.pcg.Uint64(), b.who.pcg.Uint64(), int32(i)}
	}
	slices.SortFunc(keys, func(x, y key) int {
		switch {
		case x.high < y.high || x.high == y.high && x.low < y.low:
			return -1
		}
		return 1
	})
	order := make([]int32, len(keys))
	for i, k := range keys {
		order[i] = k.i
	}
	return order, nil
}

// load puts users whose IDs ascend.
func (s *boltStore) load(who *people, order []int32) error {
	for step := range slices.Chunk(order, boltStep) {
		err := s.db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(boltUsers)
			b.FillPercent = 0.9
			for _, i := range step {
				u := who.at(int(i))
				if err := b.Put(u.id[:], u.record(int(i))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func cityKey(city string, i uint32) []byte {
	return binary.BigEndian.AppendUint16(append([]byte(city), 0), uint16(i>>16))
}

// index makes the postings.
func (s *boltStore) index(who *people, users int) error {
	for first := 0; first < users; first += 1 << 16 {
		found := make(map[string]*roaring.Bitmap)
		for i := first; i < min(first+1<<16, users); i++ {
			u := who.at(i)
			if found[u.city] == nil {
				found[u.city] = roaring.New()
			}
			found[u.city].Add(uint32(i & 0xFFFF))
		}
		err := s.db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(boltCities)
			for city, set := range found {
				if err := putSet(b, cityKey(city, uint32(first)), set); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func putSet(b *bbolt.Bucket, key []byte, set *roaring.Bitmap) error {
	set.RunOptimize()
	raw, err := set.ToBytes()
	if err != nil {
		return err
	}
	return b.Put(key, raw)
}

// boltChange is one caller's change of one user's city.
type boltChange struct {
	id, city string
	done     chan error
}

// serve puts all changes that wait into one transaction, as the library's committer does.
func (s *boltStore) serve() {
	s.requests, s.ended = make(chan *boltChange, 4096), make(chan struct{})
	go func() {
		defer close(s.ended)
		for first := range s.requests {
			group := []*boltChange{first}
			for more := true; more; {
				select {
				case c, ok := <-s.requests:
					if more = ok; ok {
						group = append(group, c)
					}
				default:
					more = false
				}
			}
			err := s.db.Update(func(tx *bbolt.Tx) error {
				for _, c := range group {
					if err := s.change(tx, c); err != nil {
						return err
					}
				}
				return nil
			})
			for _, c := range group {
				c.done <- err
			}
		}
	}()
}

func (s *boltStore) set(id, city string) error {
	c := &boltChange{id, city, make(chan error, 1)}
	s.requests <- c
	return <-c.done
}

// change updates the three places.
func (s *boltStore) change(tx *bbolt.Tx, c *boltChange) error {
	users, cities := tx.Bucket(boltUsers), tx.Bucket(boltCities)
	old := users.Get([]byte(c.id))
	if old == nil {
		return errors.New("unknown user")
	}
	number := binary.BigEndian.Uint32(old)
	was := string(old[5 : 5+old[4]])
	if was == c.city {
		return nil
	}
	rest := bytes.Clone(old[5+old[4]:])
	now := binary.BigEndian.AppendUint32(nil, number)
	now = append(append(now, byte(len(c.city))), c.city...)
	if err := users.Put([]byte(c.id), append(now, rest...)); err != nil {
		return err
	}
	for _, move := range []struct {
		city string
		add  bool
	}{{was, false}, {c.city, true}} {
		key, set := cityKey(move.city, number), roaring.New()
		if raw := cities.Get(key); raw != nil {
			if err := set.UnmarshalBinary(raw); err != nil {
				return err
			}
		}
		if move.add {
			set.Add(number & 0xFFFF)
		} else {
			set.Remove(number & 0xFFFF)
		}
		if err := putSet(cities, key, set); err != nil {
			return err
		}
	}
	return nil
}
