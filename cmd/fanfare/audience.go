package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rivo/uniseg"

	"github.com/fanfare-im/fanfare"
)

type countCommand struct {
	Dir      string `arg:"" help:"The directory."`
	Audience string `arg:"" optional:"" help:"Such as 'attr.city = \"Shenzhen\" and not tag:\"muted\"'; docs/audiences.md has all there is. Default: all users."`
}

func (cmd *countCommand) Run(c *call) error {
	to, err := audienceOf(cmd.Audience)
	if err != nil {
		return err
	}
	return c.look(cmd.Dir, func(p *fanfare.Pusher) error {
		n, err := p.Count(c.ctx, to)
		if err != nil {
			return err
		}
		if c.json {
			return c.object(struct {
				Users int64 `json:"users"`
			}{n})
		}
		_, err = fmt.Fprintln(c.out, n)
		return err
	})
}

type membersCommand struct {
	Dir      string `arg:"" help:"The directory."`
	Audience string `arg:"" optional:"" help:"As of count. Default: all users."`
}

func (cmd *membersCommand) Run(c *call) error {
	to, err := audienceOf(cmd.Audience)
	if err != nil {
		return err
	}
	return c.look(cmd.Dir, func(p *fanfare.Pusher) error {
		for id, err := range p.Members(c.ctx, to) {
			if err == nil && c.json {
				err = c.object(struct {
					ID string `json:"id"`
				}{id})
			} else if err == nil {
				_, err = fmt.Fprintln(c.out, plain(id))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// audienceOf reads an audience; an empty text is everybody.
func audienceOf(text string) (fanfare.Audience, error) {
	if text == "" {
		return fanfare.All(), nil
	}
	a, err := fanfare.ParseAudience(text)
	var wrong *fanfare.ParseError
	if errors.As(err, &wrong) {
		return a, usageError{errors.New(pointAt(text, wrong))}
	}
	if err != nil {
		return a, usageError{err}
	}
	return a, nil
}

// pointAt shows the line in which the mistake is, with a caret under it.
func pointAt(text string, e *fanfare.ParseError) string {
	from := strings.LastIndexByte(text[:e.Offset], '\n') + 1
	line := text[from:]
	if end := strings.IndexByte(text[e.Offset:], '\n'); end >= 0 {
		line = text[from : e.Offset+end]
	}
	before := strings.ReplaceAll(text[from:e.Offset], "\t", " ")
	return fmt.Sprintf("audience: %s\n  %s\n  %s^", e.Message, strings.ReplaceAll(line, "\t", " "), strings.Repeat(" ", uniseg.StringWidth(before)))
}
