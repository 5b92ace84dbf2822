package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/fanfare-im/fanfare/cluster"
)

// join is how long it takes until a node without a directory is open, against copying the file that it gets. One of the others sends it each time.
func (b *bench) join(ctx context.Context) error {
	return b.withThreeNodes(ctx, trioOptions{}, func(t *trio) error {
		file := filepath.Join(t.path(0), "blocks.db")
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		// Each node has a server of its own, so who sends is at another one than who joins: the node at that one goes.
		if err := t.leave(ctx, 0); err != nil {
			return err
		}
		joined := len(t.nodes)
		costs, err := rounds(ctx, b.rounds, false,
			func(ctx context.Context, _ int) (float64, error) {
				if err := os.RemoveAll(t.path(joined)); err != nil {
					return 0, err
				}
				began := time.Now()
				p, err := cluster.Open(ctx, t.path(joined), t.options(joined))
				if err != nil {
					return 0, err
				}
				took := time.Since(began).Seconds()
				s, err := p.Stats(ctx)
				if err == nil && s.Users < int64(b.users) {
					err = errors.New("it has not all users")
				}
				return took, errors.Join(err, p.Close(ctx))
			},
			timed(func(context.Context) error { return copySynced(filepath.Join(t.dir, "copy.db"), file) }))
		if err != nil {
			return err
		}
		b.add(compare("cluster.join", "a copy of the file", "s", costs[0], costs[1], atMost(3)).with("a file of %.0f MB, sent by another node, from its server to that of the one that joins", float64(info.Size())/1e6))
		return nil
	})
}

// leave closes a node for good: the others expect it no more.
func (t *trio) leave(ctx context.Context, i int) error {
	err := t.nodes[i].Close(ctx)
	t.nodes[i] = nil
	if err != nil {
		return err
	}
	for try := 1; ; try++ { // to a leader that has just gone there is no answer
		known, err := t.js[i].KeyValue(ctx, "fanfare-"+clusterName+"-nodes")
		if err == nil {
			err = known.Delete(ctx, nodeNames[i])
		}
		if err == nil || try == 5 {
			return err
		}
	}
}

func copySynced(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(struct{ io.Writer }{out}, in); err != nil { // through memory, as no file system has it for nothing
		return err
	}
	return out.Sync()
}
