package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/fanfare-im/fanfare"
)

type exportCommand struct {
	Dir    string `arg:"" help:"The directory."`
	To     string `placeholder:"AUDIENCE" help:"Only the users of this audience, such as 'tag:\"vip\"'. Default: all."`
	Output string `short:"o" placeholder:"FILE" help:"Write to a file, which takes its name when it is complete. Default: to standard output."`
}

func (*exportCommand) Help() string {
	return "The first line is a header with the names and types of attributes, so that import makes the same users of it elsewhere. What is not in it: values of attributes that have no name, when users were last seen, and messages."
}

func (cmd *exportCommand) Run(c *call) error {
	to, err := audienceOf(cmd.To)
	if err == nil && cmd.Output != "" {
		err = outside(cmd.Dir, cmd.Output)
	}
	if err != nil {
		return err
	}
	return c.look(cmd.Dir, func(p *fanfare.Pusher) error {
		if cmd.Output == "" {
			c.bars = c.bars && !c.terminal // where the lines can be seen
			_, err := export(c, p, to, c.out)
			return err
		}
		var n int64
		err := writeFile(cmd.Output, func(w io.Writer) (err error) {
			b := bufio.NewWriterSize(w, 1<<20)
			n, err = export(c, p, to, b)
			return errors.Join(err, b.Flush())
		})
		if err != nil {
			return err
		}
		if c.json {
			return c.object(struct {
				File  string `json:"file"`
				Users int64  `json:"users"`
			}{cmd.Output, n})
		}
		_, err = fmt.Fprintf(c.out, "%s: %s\n", plain(cmd.Output), counted(n, "user"))
		return err
	})
}

// export writes the lines, and returns how many users they are.
func export(c *call, p *fanfare.Pusher, to fanfare.Audience, w io.Writer) (n int64, err error) {
	header, err := headerOf(c, p)
	if err != nil {
		return 0, err
	}
	var b *bar
	if c.bars {
		total, err := p.Count(c.ctx, to)
		if err != nil {
			return 0, err
		}
		b = c.bar("export", total, false)
		defer b.end()
	}
	lines := linesTo(w)
	if err := lines.Encode(header); err != nil {
		return 0, err
	}
	for id, err := range p.Members(c.ctx, to) {
		if err != nil {
			return n, err
		}
		u, err := p.User(c.ctx, id)
		if err == nil {
			err = lines.Encode(lineOf(&u))
		}
		if err != nil {
			return n, err
		}
		if n++; n%1000 == 0 {
			b.add(1000)
		}
	}
	return n, nil
}

func headerOf(c *call, p *fanfare.Pusher) (headerLine, error) {
	s, err := p.Stats(c.ctx)
	if err != nil {
		return headerLine{}, err
	}
	h := headerLine{Fanfare: "users", Version: linesVersion, TagsPerUser: s.Limits.TagsPerUser, DevicesPerUser: s.Limits.DevicesPerUser}
	names, err := p.AttributeNames(c.ctx)
	if err != nil {
		return h, err
	}
	types, err := p.AttributeTypes(c.ctx)
	for _, slot := range slices.Sorted(maps.Keys(names)) {
		h.Attributes = append(h.Attributes, attributeLine{slot, names[slot], typeOf(types, slot).String()})
	}
	return h, err
}

// typeOf returns the type of a slot: those that are not among the types are text.
func typeOf(types map[int]fanfare.AttributeType, slot int) fanfare.AttributeType {
	if t, has := types[slot]; has {
		return t
	}
	return fanfare.Text
}
