package faulttest

import (
	"context"

	"github.com/fanfare-im/fanfare"
)

func open(_ context.Context, c config, o fanfare.Options) (*fanfare.Pusher, error) {
	return fanfare.Open(c.Dir, o)
}
