package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/internal/cities"
)

// makePeople makes up n users: nine in ten are no members of anything, some own
// stock. They are made while they are imported, so any number fits into memory.
func makePeople(n int64, seed uint64) (iter.Seq2[fanfare.User, error], error) {
	towns, err := cities.Load()
	if err != nil {
		return nil, err
	}
	return func(yield func(fanfare.User, error) bool) {
		r := rand.New(rand.NewPCG(seed, 0))
		for i := range n {
			u := fanfare.User{
				ID:         fmt.Sprintf("user-%07d", i+1),
				Attributes: map[string]string{"tier": drawTier(r), "city": towns.Draw(r)},
			}
			if r.IntN(10) == 0 {
				u.Tags = append(u.Tags, "stock A")
			}
			if r.IntN(12) == 0 {
				u.Tags = append(u.Tags, "stock B")
			}
			if !yield(u, nil) {
				return
			}
		}
	}, nil
}

func drawTier(r *rand.Rand) string {
	switch n := r.IntN(100); {
	case n < 90:
		return "non-member"
	case n < 97:
		return "member"
	case n < 99:
		return "gold"
	}
	return "platinum"
}

// What a CSV file may hold: the library's limits, and a bound for a whole record,
// so that a file with a quote missing is not read into memory to its end.
const (
	maxRecord     = 64 << 10
	maxAttributes = 10
	maxTags       = 100
	maxText       = 50 // bytes of a tag, an attribute's name, a value
	maxID         = 255
)

// peopleFile reads users from CSV (RFC 4180, UTF-8). The first record names
// the columns: "id", "tags" if there are any (several in one field with ";"
// between them), and every other column is an attribute of that name:
//
//	id,tags,tier,city
//	alice,stock A;stock B,gold,Shenzhen
//	bob,,platinum,"Xi’an"
//
// An empty field is an attribute that the user does not have.
type peopleFile struct {
	attributes []string // names, in the order of their columns

	records *csv.Reader
	source  *bounded
	line    int // of the last record
	id      int // columns
	tags    int // -1: there is none
}

func readPeople(r io.Reader) (*peopleFile, error) {
	f := &peopleFile{id: -1, tags: -1}
	start := bufio.NewReader(r)
	if mark, _ := start.Peek(3); string(mark) == "\ufeff" { // spreadsheets write one
		_, _ = start.Discard(3)
	}
	f.source = &bounded{r: start}
	f.records = csv.NewReader(f.source)
	f.records.ReuseRecord = true
	header, err := f.next()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty; its first line names the columns: id,tags,…")
	}
	if err != nil {
		return nil, err
	}
	for i, name := range header {
		if slices.Contains(header[:i], name) {
			return nil, fmt.Errorf("line 1: two columns are named %q", name)
		}
		switch {
		case name == "id":
			f.id = i
		case name == "tags":
			f.tags = i
		default:
			if err := checkText("the name of an attribute", name, maxText); err != nil {
				return nil, fmt.Errorf("line 1: %w", err)
			}
			f.attributes = append(f.attributes, strings.Clone(name))
		}
	}
	switch {
	case f.id < 0:
		return nil, errors.New(`line 1: no column is named "id"`)
	case len(f.attributes) > maxAttributes:
		return nil, fmt.Errorf("line 1: %d columns for attributes, the most is %d", len(f.attributes), maxAttributes)
	}
	return f, nil
}

// users reads the file, once, to its end or to the first error, which names its line.
func (f *peopleFile) users() iter.Seq2[fanfare.User, error] {
	return func(yield func(fanfare.User, error) bool) {
		for {
			record, err := f.next()
			if err == io.EOF {
				return
			}
			var u fanfare.User
			if err == nil {
				u, err = f.user(record)
			}
			if !yield(u, err) || err != nil {
				return
			}
		}
	}
}

func (f *peopleFile) next() ([]string, error) {
	f.source.left = maxRecord
	record, err := f.records.Read()
	var parse *csv.ParseError
	switch {
	case err == nil:
		f.line, _ = f.records.FieldPos(0)
	case err != io.EOF && !errors.As(err, &parse): // a parse error names its line
		err = fmt.Errorf("the record after line %d: %w", f.line, err)
	}
	return record, err
}

func (f *peopleFile) user(record []string) (fanfare.User, error) {
	u := fanfare.User{ID: record[f.id]}
	column := f.id
	err := checkText("the id", u.ID, maxID)
	attribute := 0
	for i, field := range record {
		if err != nil {
			break
		}
		column = i
		switch i {
		case f.id:
		case f.tags:
			u.Tags, err = splitTags(field)
		default:
			name := f.attributes[attribute]
			attribute++
			if field == "" {
				continue
			}
			if err = checkText("the value of "+name, field, maxText); err == nil {
				if u.Attributes == nil {
					u.Attributes = make(map[string]string, len(f.attributes))
				}
				u.Attributes[name] = field
			}
		}
	}
	if err != nil {
		line, _ := f.records.FieldPos(column)
		return fanfare.User{}, fmt.Errorf("line %d: %w", line, err)
	}
	return u, nil
}

func splitTags(field string) ([]string, error) {
	var tags []string
	for tag := range strings.SplitSeq(field, ";") {
		tag = strings.TrimSpace(tag)
		if tag == "" {
			continue
		}
		if err := checkText("a tag", tag, maxText); err != nil {
			return nil, err
		}
		if len(tags) == maxTags {
			return nil, fmt.Errorf("more than %d tags", maxTags)
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

func checkText(what, s string, most int) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is empty", what)
	case len(s) > most:
		return fmt.Errorf("%s has %d bytes, the most is %d", what, len(s), most)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s is not valid UTF-8: %q", what, s)
	}
	return nil
}

var errLongRecord = fmt.Errorf("it is longer than %d bytes; is a quote missing?", maxRecord)

// bounded ends reading when one record takes too many bytes.
type bounded struct {
	r     io.Reader
	left  int   // of this record
	total int64 // read so far
}

// Read reads no more than a buffer at a time, so that what it reads ahead is small.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLongRecord
	}
	n, err := b.r.Read(p)
	b.left -= n
	b.total += int64(n)
	return n, err
}
