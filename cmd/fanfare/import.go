package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/fanfare-im/fanfare"
)

type importCommand struct {
	Dir       string   `arg:"" help:"The directory; it is made if there is none."`
	File      string   `arg:"" default:"-" help:"The lines; - for standard input."`
	Replace   bool     `help:"Take away the tags and attributes of each user that are not given."`
	Attribute []string `placeholder:"SLOT=NAME:TYPE" sep:"none" help:"Name an attribute slot, as in 0=city or '1=spend:number(2)', if it has no name. Repeat it for others."`
}

func (*importCommand) Help() string {
	return `Users who are known are updated: attributes that are given are set, tags, opt-outs and devices are added, and the rest stays, unless --replace makes tags and attributes exactly those that are given. So importing again is harmless, also what an error has cut short.

A header, which export writes, or --attribute gives attributes the names that are not there yet. A name that is there already stands for the slot that has it. A limit that the host has for sizes of tags, names and values is not known here; what is beyond it is taken.

Nothing else goes on meanwhile: no plan fires, nothing expires.`
}

func (cmd *importCommand) Run(c *call) error {
	attributes := make([]attributeLine, 0, len(cmd.Attribute))
	for _, s := range cmd.Attribute {
		a, err := attributeFlag(s)
		if err != nil {
			return usageError{err}
		}
		attributes = append(attributes, a)
	}
	source := plain(cmd.File)
	if cmd.File == "-" {
		source = "standard input"
	}
	return c.readFile(cmd.File, func(r io.Reader, size int64) error {
		b := c.bar("import", size, true)
		defer b.end()
		l := newLines(barReader{r, b})
		if err := l.begin(); err != nil {
			return named(source, err)
		}
		o := fanfare.Options{Maintenance: true, Limits: largestLimits()}
		if !isThere(cmd.Dir) {
			o.Limits.TagsPerUser, o.Limits.DevicesPerUser = l.header.TagsPerUser, l.header.DevicesPerUser
		}
		return c.with(cmd.Dir, o, func(p *fanfare.Pusher) error {
			if err := nameAttributes(c, p, append(l.header.Attributes, attributes...)); err != nil {
				return err
			}
			stats, err := p.Import(c.ctx, l.users(), &fanfare.ImportOptions{Replace: cmd.Replace})
			b.end()
			return errors.Join(named(source, l.at(err)), cmd.print(c, stats))
		})
	})
}

func (cmd *importCommand) print(c *call, s fanfare.ImportStats) error {
	if c.json {
		return c.object(struct {
			Users      int64 `json:"users"`
			Registered int64 `json:"registered"`
			Updated    int64 `json:"updated"`
		}{s.Users, s.Registered, s.Updated})
	}
	_, err := fmt.Fprintf(c.out, "%s: %s, %s new, %s known before\n", plain(cmd.Dir), counted(s.Users, "user"), number(s.Registered), number(s.Updated))
	return err
}

// attributeFlag reads SLOT=NAME:TYPE. A name may have colons in it: what is behind the last one is a type or part of it.
func attributeFlag(s string) (attributeLine, error) {
	slot, name, found := strings.Cut(s, "=")
	n, err := strconv.Atoi(slot)
	if err != nil || !found || name == "" {
		return attributeLine{}, fmt.Errorf("--attribute %q is not like 0=city or 1=spend:number(2)", s)
	}
	a := attributeLine{Slot: n, Name: name}
	if i := strings.LastIndexByte(name, ':'); i > 0 {
		if _, err := parseType(name[i+1:]); err == nil && name[i+1:] != "" {
			a.Name, a.Type = name[:i], name[i+1:]
		}
	}
	return a, nil
}

// nameAttributes gives slots the names that there are none of yet. Types come first: where it ends between the two, the next try meets slots without a name.
func nameAttributes(c *call, p *fanfare.Pusher, attributes []attributeLine) error {
	names, err := p.AttributeNames(c.ctx)
	if err != nil {
		return err
	}
	types, err := p.AttributeTypes(c.ctx)
	if err != nil {
		return err
	}
	slots := make(map[string]int, len(names))
	for slot, name := range names {
		slots[name] = slot
	}
	newNames, newTypes := make(map[int]string), make(map[int]fanfare.AttributeType)
	for _, a := range attributes {
		want, err := parseType(a.Type)
		if err != nil {
			return err
		}
		slot, known := slots[a.Name]
		switch other := names[a.Slot]; {
		case known && typeOf(types, slot) != want:
			return fmt.Errorf("attribute %q is %v in the directory, not %v", a.Name, typeOf(types, slot), want)
		case known:
			continue
		case other != "":
			return fmt.Errorf("attribute %q is to have slot %d, which is that of %q in the directory: name another with --attribute SLOT=%s", a.Name, a.Slot, other, a.Name)
		}
		newNames[a.Slot], names[a.Slot], slots[a.Name] = a.Name, a.Name, a.Slot
		if typeOf(types, a.Slot) != want {
			newTypes[a.Slot], types[a.Slot] = want, want
		}
	}
	if len(newTypes) > 0 {
		if err := p.SetAttributeTypes(c.ctx, newTypes); err != nil {
			return err
		}
	}
	if len(newNames) > 0 {
		return p.SetAttributeNames(c.ctx, newNames)
	}
	return nil
}

// lines are those of an import.
type lines struct {
	scanner *bufio.Scanner
	header  headerLine
	first   int64 // the line of the first user
	line    int64 // the last one read
	read    bool  // the first line has been read, and is a user
}

func newLines(r io.Reader) *lines {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	return &lines{scanner: s, first: 1}
}

// next reads a line. Lines that are empty may only be at the end.
func (l *lines) next() (bool, error) {
	empty := int64(0)
	for l.scanner.Scan() {
		l.line++
		if len(bytes.TrimSpace(l.scanner.Bytes())) > 0 {
			if empty > 0 {
				return false, &lineError{empty, errors.New("empty")}
			}
			return true, nil
		}
		if empty == 0 {
			empty = l.line
		}
	}
	err := l.scanner.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		return false, &lineError{l.line + 1, fmt.Errorf("longer than %d MiB", maxLine>>20)}
	}
	return false, err
}

// begin reads the header, if there is one.
func (l *lines) begin() error {
	more, err := l.next()
	if err != nil || !more {
		return err
	}
	header, is, err := parseHeader(l.scanner.Bytes())
	if err != nil {
		return &lineError{l.line, err}
	}
	if l.read = !is; is {
		l.header, l.first = header, 2
	}
	return nil
}

// users yields what is behind the header. What is wrong with a line is a lineError.
func (l *lines) users() iter.Seq2[fanfare.User, error] {
	return func(yield func(fanfare.User, error) bool) {
		for {
			more, err := l.read, error(nil)
			if l.read = false; !more {
				more, err = l.next()
			}
			if err != nil {
				yield(fanfare.User{}, err)
				return
			}
			if !more {
				return
			}
			u, err := parseUser(l.scanner.Bytes())
			if err != nil {
				err = &lineError{l.line, err}
			}
			if !yield(u, err) {
				return
			}
		}
	}
}

// at says which line an error of an import is of.
func (l *lines) at(err error) error {
	var wrong *fanfare.ImportError
	if !errors.As(err, &wrong) {
		return err
	}
	var line *lineError
	if errors.As(wrong.Err, &line) {
		return line
	}
	if wrong.ID == "" {
		return &lineError{l.first + wrong.Index, wrong.Err}
	}
	return &lineError{l.first + wrong.Index, fmt.Errorf("user %q: %w", wrong.ID, wrong.Err)}
}
