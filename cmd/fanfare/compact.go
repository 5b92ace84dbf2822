package main

import "github.com/fanfare-im/fanfare"

type compactCommand struct {
	Dir string `arg:"" help:"The directory."`
}

func (*compactCommand) Help() string {
	return "It needs room for a second copy of the files. Nothing else goes on meanwhile: no plan fires, nothing expires."
}

// compacted is what became of a file.
type compacted struct {
	Name   string `json:"name"`
	Before int64  `json:"before"`
	After  int64  `json:"after"`
	Free   int64  `json:"free"` // of After
}

func (cmd *compactCommand) Run(c *call) error {
	return c.existing(cmd.Dir, fanfare.Options{Maintenance: true}, func(p *fanfare.Pusher) error {
		before, err := p.Files(c.ctx)
		if err != nil {
			return err
		}
		b := c.bar("compacting", -1, false)
		err = p.Compact(c.ctx)
		b.end()
		if err != nil {
			return err
		}
		after, err := p.Files(c.ctx)
		if err != nil {
			return err
		}
		files := make([]compacted, 0, len(before))
		for _, f := range before {
			of := compacted{Name: f.Name, Before: f.Bytes}
			for _, now := range after {
				if now.Name == f.Name {
					of.After, of.Free = now.Bytes, now.Free
				}
			}
			files = append(files, of)
		}
		if c.json {
			return c.object(struct {
				Files []compacted `json:"files"`
			}{files})
		}
		t := table{right: 0b1110}
		t.row("file", "before", "after", "of that free")
		for _, f := range files {
			t.row(f.Name, size(f.Before), size(f.After), size(f.Free))
		}
		return t.print(c.out)
	})
}
