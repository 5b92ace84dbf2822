package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// postgres is a server of our own in a temporary directory, on a loopback port.
type postgres struct {
	pool *pgxpool.Pool
	cmd  *exec.Cmd
	done chan error
}

// findPostgres returns the directory of the newest server's programs.
func findPostgres() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(path), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		return "", errors.New("no PostgreSQL server is installed")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}

// asServer has a program run by somebody other than root, whom PostgreSQL refuses to serve.
func asServer(cmd *exec.Cmd, dir string) error {
	cmd.Dir = "/"
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return os.Chown(dir, uid, gid)
	}
	return errors.New("root cannot run PostgreSQL, and there is no user postgres or nobody")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// startPostgres starts a server set up as a competent person would for this work.
func startPostgres(ctx context.Context, dir string) (*postgres, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", dir, "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	if err := asServer(initdb, dir); err != nil {
		return nil, err
	}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	args := []string{"-D", dir, "-p", strconv.Itoa(port), "-h", "127.0.0.1", "-k", ""}
	for _, setting := range []string{
		"shared_buffers=2GB", "effective_cache_size=12GB", "work_mem=128MB", "maintenance_work_mem=1GB",
		"synchronous_commit=on", "fsync=on", "full_page_writes=on",
		"wal_level=minimal", "max_wal_senders=0", "max_wal_size=8GB", "checkpoint_timeout=15min", "wal_buffers=64MB",
		"max_connections=300", "random_page_cost=1.1", "max_parallel_maintenance_workers=2", "max_parallel_workers_per_gather=2", "jit=off",
	} {
		args = append(args, "-c", setting)
	}
	p := &postgres{cmd: exec.Command(filepath.Join(bin, "postgres"), args...), done: make(chan error, 1)}
	if err := asServer(p.cmd, dir); err != nil {
		return nil, err
	}
	log, err := os.Create(dir + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.done <- p.cmd.Wait() }()
	config, err := pgxpool.ParseConfig(fmt.Sprintf("postgres://bench@127.0.0.1:%d/postgres?sslmode=disable&pool_max_conns=260", port))
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	if p.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	for until := time.Now().Add(30 * time.Second); ; {
		if err = p.pool.Ping(ctx); err == nil {
			return p, nil
		}
		if ctx.Err() != nil || time.Now().After(until) {
			return nil, errors.Join(err, p.stop())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (p *postgres) stop() error {
	if p.pool != nil {
		p.pool.Close()
	}
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(time.Minute):
		return p.cmd.Process.Kill()
	}
}

func (p *postgres) exec(ctx context.Context, sql string, args ...any) error {
	_, err := p.pool.Exec(ctx, sql, args...)
	return err
}

func (p *postgres) number(ctx context.Context, sql string, args ...any) (n int64, err error) {
	err = p.pool.QueryRow(ctx, sql, args...).Scan(&n)
	return n, err
}

// pgLoad is a bulk load: everything in the transaction that makes the table, so that its rows need no log,
// and the indexes at the end.
type pgLoad struct {
	p    *postgres
	conn *pgxpool.Conn
	tx   pgx.Tx
}

func (p *postgres) load(ctx context.Context) (*pgLoad, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	l := &pgLoad{p: p, conn: conn}
	if l.tx, err = conn.Begin(ctx); err != nil {
		conn.Release()
		return nil, err
	}
	_, err = l.tx.Exec(ctx, `create table users (uid int not null, id text not null, tier text not null, city text not null, tags text[] not null)`)
	return l, err
}

// copy loads the users of [from, to).
func (l *pgLoad) copy(ctx context.Context, who *people, from, to int) error {
	return copyUsers(ctx, l.tx, who, from, to)
}

func copyUsers(ctx context.Context, into interface {
	CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error)
}, who *people, from, to int) error {
	next := from
	_, err := into.CopyFrom(ctx, pgx.Identifier{"users"}, []string{"uid", "id", "tier", "city", "tags"}, pgx.CopyFromFunc(func() ([]any, error) {
		if next >= to {
			return nil, nil
		}
		u := who.at(next)
		next++
		return []any{int32(next - 1), string(u.id[:]), u.tier, u.city, []string{tagNames[u.tags[0]], tagNames[u.tags[1]], tagNames[u.tags[2]]}}, nil
	}))
	return err
}

// finish builds the indexes and commits.
func (l *pgLoad) finish(ctx context.Context) error {
	defer l.conn.Release()
	for _, sql := range []string{
		`alter table users add primary key (uid)`,
		`create unique index users_id on users (id)`,
		`create index users_city on users (city)`,
		`create index users_tier on users (tier)`,
		`create index users_tags on users using gin (tags)`,
	} {
		if _, err := l.tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return l.tx.Commit(ctx)
}
