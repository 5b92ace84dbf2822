package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"sort"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/internal/cities"
)

// The users that everything is measured with: a random ID that looks like a UUID, a membership
// tier (90, 7, 2 and 1 %), a city by real population, and three of 1,000 tags, drawn by Zipf's law.
const (
	tagCount    = 1000
	tagsPerUser = 3
	seed        = 20
)

var tiers = [...]struct {
	name string
	upTo int // percent
}{{"none", 90}, {"member", 97}, {"gold", 99}, {"platinum", 100}}

// person is one user.
type person struct {
	id   [36]byte
	tier string
	city string
	tags [tagsPerUser]int
}

// people makes users by their number: the same number is always the same user. It is
// for one goroutine; clone makes another one.
type people struct {
	towns *cities.Table
	tags  []float64 // cumulative
	pcg   *rand.PCG
	r     *rand.Rand
}

func newPeople() (*people, error) {
	towns, err := cities.Load()
	if err != nil {
		return nil, err
	}
	p := &people{towns: towns, tags: make([]float64, tagCount)}
	sum := 0.0
	for i := range p.tags {
		sum += 1 / math.Pow(float64(i+1), 1.07)
		p.tags[i] = sum
	}
	for i := range p.tags {
		p.tags[i] /= sum
	}
	return p.clone(), nil
}

func (p *people) clone() *people {
	c := *p
	c.pcg = rand.NewPCG(seed, 0)
	c.r = rand.New(c.pcg)
	return &c
}

// id makes the ID of user i.
func (p *people) id(i int) string {
	p.pcg.Seed(seed, uint64(i))
	b := p.drawID()
	return string(b[:])
}

func (p *people) drawID() (id [36]byte) {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], p.pcg.Uint64())
	binary.BigEndian.PutUint64(raw[8:], p.pcg.Uint64())
	at := 0
	for i, part := range [...][]byte{raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:]} {
		if i > 0 {
			id[at] = '-'
			at++
		}
		at += hex.Encode(id[at:], part)
	}
	return id
}

// at makes user i.
func (p *people) at(i int) person {
	p.pcg.Seed(seed, uint64(i))
	u := person{id: p.drawID()}
	n := p.r.IntN(100)
	for _, t := range tiers {
		if n < t.upTo {
			u.tier = t.name
			break
		}
	}
	u.city = p.towns.Draw(p.r)
	for k := 0; k < tagsPerUser; {
		t := sort.SearchFloat64s(p.tags, p.r.Float64())
		if t < tagCount && !u.has(t, k) {
			u.tags[k] = t
			k++
		}
	}
	return u
}

func (u *person) has(tag, among int) bool {
	for _, t := range u.tags[:among] {
		if t == tag {
			return true
		}
	}
	return false
}

func (u *person) tagged(tag int) bool { return u.has(tag, tagsPerUser) }

var tagNames = func() (names [tagCount]string) {
	for i := range names {
		names[i] = fmt.Sprintf("tag-%03d", i)
	}
	return names
}()

// users yields the users of [from, to) as fanfare imports them.
func (p *people) users(from, to int) iter.Seq2[fanfare.User, error] {
	return func(yield func(fanfare.User, error) bool) {
		for i := from; i < to; i++ {
			u := p.at(i)
			ok := yield(fanfare.User{
				ID: string(u.id[:]), Attributes: map[string]string{"tier": u.tier, "city": u.city},
				Tags: []string{tagNames[u.tags[0]], tagNames[u.tags[1]], tagNames[u.tags[2]]},
			}, nil)
			if !ok {
				return
			}
		}
	}
}
