package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer is a Redis or Valkey of our own, which syncs each write before it answers.
type redisServer struct {
	name   string
	client *redis.Client
	cmd    *exec.Cmd
	done   chan error
}

func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	var path, name string
	for _, name = range []string{"valkey-server", "redis-server"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		return nil, errors.New("neither redis-server nor valkey-server is installed")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	r := &redisServer{name: name[:len(name)-len("-server")], done: make(chan error, 1)}
	r.cmd = exec.Command(path, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0")
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { r.done <- r.cmd.Wait() }()
	r.client = redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port), PoolSize: 300, MinIdleConns: 256, ReadTimeout: time.Minute})
	for until := time.Now().Add(10 * time.Second); ; {
		if err = r.client.Ping(ctx).Err(); err == nil {
			return r, nil
		}
		if ctx.Err() != nil || time.Now().After(until) {
			return nil, errors.Join(err, r.stop())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *redisServer) stop() error {
	err := r.client.Close()
	if e := r.cmd.Process.Signal(syscall.SIGTERM); e != nil {
		return errors.Join(err, e)
	}
	select {
	case <-r.done:
		return err
	case <-time.After(20 * time.Second):
		return errors.Join(err, r.cmd.Process.Kill())
	}
}
