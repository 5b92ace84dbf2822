package main

import (
	"errors"
	"fmt"

	"github.com/fanfare-im/fanfare"
)

type checkCommand struct {
	Dir string `arg:"" help:"The directory."`
}

func (*checkCommand) Help() string {
	return "It reads everything. Of a directory that was not closed completely it makes a copy in the system's temporary directory, which needs as much room."
}

func (cmd *checkCommand) Run(c *call) error {
	b := c.bar("checking", -1, false)
	err := c.look(cmd.Dir, func(p *fanfare.Pusher) error { return p.Check(c.ctx) })
	b.end()
	sound := err == nil
	if !sound && exitCode(c.ctx, err) != exitDamaged {
		return err
	}
	if c.json {
		result := struct {
			OK    bool   `json:"ok"`
			Error string `json:"error,omitempty"`
		}{OK: sound}
		if !sound {
			result.Error = err.Error()
		}
		return errors.Join(err, c.object(result))
	}
	if sound {
		fmt.Fprintf(c.out, "%s: sound\n", plain(cmd.Dir))
	}
	return err
}
