package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/fanfare-im/fanfare"
)

type backupCommand struct {
	Dir  string `arg:"" help:"The directory."`
	File string `arg:"" help:"The file, which is replaced if it is there; - for standard output."`
}

func (*backupCommand) Help() string {
	return "The file is written beside, under another name, and takes its name when it is complete."
}

func (cmd *backupCommand) Run(c *call) error {
	if cmd.File == "-" && c.terminal {
		return usageError{errors.New("standard output is a terminal, which an archive is not for")}
	}
	if cmd.File != "-" {
		if err := outside(cmd.Dir, cmd.File); err != nil {
			return err
		}
	}
	return c.look(cmd.Dir, func(p *fanfare.Pusher) error {
		files, err := p.Files(c.ctx)
		if err != nil {
			return err
		}
		total := int64(0)
		for _, f := range files {
			total += f.Bytes
		}
		b := c.bar("backup", total, true)
		defer b.end()
		written := countWriter{}
		write := func(w io.Writer) error {
			written.w = w
			return p.Backup(c.ctx, barWriter{&written, b})
		}
		if cmd.File == "-" {
			return write(c.out)
		}
		if err := writeFile(cmd.File, write); err != nil {
			return err
		}
		s, err := p.Stats(c.ctx)
		if err != nil {
			return err
		}
		b.end()
		if c.json {
			return c.object(struct {
				File     string `json:"file"`
				Bytes    int64  `json:"bytes"`
				Users    int64  `json:"users"`
				Position uint64 `json:"position"`
			}{cmd.File, written.n, s.Users, s.Position})
		}
		_, err = fmt.Fprintf(c.out, "%s: %s, %s, position %s\n", plain(cmd.File), size(written.n), counted(s.Users, "user"), number(int64(s.Position)))
		return err
	})
}

// countWriter counts the bytes that it passes on.
type countWriter struct {
	w io.Writer
	n int64
}

func (w *countWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.n += int64(n)
	return n, err
}

type restoreCommand struct {
	File string `arg:"" help:"The backup; - for standard input."`
	Dir  string `arg:"" help:"The directory, which must be empty, or not be there."`
}

func (*restoreCommand) Help() string {
	return "What is restored is then opened, so it is a directory that fanfare reads; check verifies all of it."
}

func (cmd *restoreCommand) Run(c *call) error {
	err := c.readFile(cmd.File, func(r io.Reader, size int64) error {
		b := c.bar("restore", size, true)
		defer b.end()
		return fanfare.Restore(c.ctx, cmd.Dir, barReader{r, b})
	})
	if err != nil {
		return err
	}
	return c.look(cmd.Dir, func(p *fanfare.Pusher) error {
		s, err := p.Stats(c.ctx)
		if err != nil {
			return err
		}
		if c.json {
			return c.object(struct {
				Directory string `json:"directory"`
				Users     int64  `json:"users"`
				Position  uint64 `json:"position"`
			}{cmd.Dir, s.Users, s.Position})
		}
		_, err = fmt.Fprintf(c.out, "%s: %s, position %s\n", plain(cmd.Dir), counted(s.Users, "user"), number(int64(s.Position)))
		return err
	})
}
