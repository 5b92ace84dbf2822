package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/console"
	"github.com/fanfare-im/fanfare/internal/cities"
	"github.com/fanfare-im/fanfare/transport"
)

// A trial is the server with users made up for it, so that there is somebody to push to: some of them are connected at a time, by real clients, and come and go; each has a phone, which takes what it is sent. Nothing of it
// is kept, and the console asks for no password, as it is reached from this machine alone.
const (
	trialUsers     = 1000
	trialConnected = 200
	trialStay      = 15 * time.Second // about how long one of them stays
	trialPlatform  = "trial"
)

// try makes a trial until ctx ends.
func try(ctx context.Context, c *config, out, log io.Writer) (err error) {
	host, _, err := net.SplitHostPort(c.listen)
	if err != nil {
		return err
	}
	if !isLocal(host) {
		return fmt.Errorf("-listen %s: a trial is for this machine alone; give -data, -sdkappid and a key for a server that others reach", c.listen)
	}
	if c.data, err = os.MkdirTemp("", "fanfare-trial-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.data)) }()
	c.sdkAppID, c.keys = 1_400_000_000, []transport.Secret{transport.Secret(rand.Text())}
	s, err := newServer(c, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: c.level})))
	if err != nil {
		return err
	}
	if err := makeUp(ctx, s.p); err != nil {
		return errors.Join(err, s.p.Close(context.WithoutCancel(ctx)), s.listener.Close())
	}
	if _, err := fmt.Fprintf(out, "A trial of fanfare: %d users are made up for it, %d of them connected at a time, and nothing of it is kept.\n\n    http://%s/console/\n\nCtrl+C ends it.\n",
		trialUsers, trialConnected, s.listener.Addr()); err != nil {
		return errors.Join(err, s.p.Close(context.WithoutCancel(ctx)), s.listener.Close())
	}
	apps, leave := context.WithCancel(ctx)
	var running sync.WaitGroup
	var next atomic.Int64
	for range trialConnected {
		running.Go(func() { s.comeAndGo(apps, &next) })
	}
	err = s.serve(ctx)
	leave()
	running.Wait()
	return err
}

// makeUp makes the users.
func makeUp(ctx context.Context, p *fanfare.Pusher) error {
	if err := p.SetAttributeNames(ctx, map[int]string{0: "tier", 1: "city", 2: "visits"}); err != nil {
		return err
	}
	if err := p.SetAttributeTypes(ctx, map[int]fanfare.AttributeType{2: fanfare.Number(0)}); err != nil {
		return err
	}
	towns, err := cities.Load()
	if err != nil {
		return err
	}
	_, err = p.Import(ctx, madeUp(towns), nil)
	return err
}

func madeUp(towns *cities.Table) iter.Seq2[fanfare.User, error] {
	return func(yield func(fanfare.User, error) bool) {
		r := mathrand.New(mathrand.NewPCG(1, 2)) // the same each time
		of := func(list ...string) string { return list[r.IntN(len(list))] }
		for i := range trialUsers {
			u := fanfare.User{
				ID:         trialUser(i),
				Attributes: map[string]string{"tier": of("free", "free", "free", "silver", "gold"), "city": towns.Draw(r), "visits": fmt.Sprint(r.IntN(100))},
				Devices: []fanfare.Device{{
					Platform: trialPlatform, Token: trialUser(i), Locale: of("en", "en", "zh-CN", "zh-TW", "de", "pt-BR"), TimeZone: of("Asia/Shanghai", "Europe/Berlin", "America/Sao_Paulo"),
				}},
			}
			for _, tag := range []string{"news", "offers", "beta"} {
				if r.IntN(4) == 0 {
					u.Tags = append(u.Tags, tag)
				}
			}
			if !yield(u, nil) {
				return
			}
		}
	}
}

func trialUser(i int) string { return fmt.Sprintf("user-%04d", i+1) }

// comeAndGo is the app of one after the other of the users: each connects, acknowledges what comes, and leaves.
func (s *server) comeAndGo(ctx context.Context, next *atomic.Int64) {
	gateway := "ws://" + s.listener.Addr().String() + "/ws"
	for ctx.Err() == nil {
		stay := trialStay/2 + mathrand.N(trialStay)
		visit, leave := context.WithTimeout(ctx, stay)
		ws, err := dial(visit, gateway, s.c.sdkAppID, trialUser(int(next.Add(1)-1)%trialUsers), s.c.keys[0])
		if err == nil {
			_ = receive(visit, ws, func(incoming) error { return nil }) // until it leaves
		} else if ctx.Err() == nil {
			s.log.Warn("a client of the trial cannot connect", "error", err)
			<-visit.Done()
		}
		leave()
	}
}

// trialPhones takes every notification, but those to one in 50 phones, whose app is gone.
type trialPhones struct{}

func (trialPhones) Platform() transport.Platform { return trialPlatform }

func (trialPhones) Send(_ context.Context, batch []transport.Notification) []transport.Result {
	results := make([]transport.Result, len(batch))
	for i, n := range batch {
		results[i].Outcome = transport.Accepted
		if n.Device.Token[len(n.Device.Token)-2:] == "50" {
			results[i] = transport.Result{Outcome: transport.Unregistered, Reason: "the app is gone"}
		}
	}
	return results
}

// identifyLocal takes who asks for this machine by its name for the operator. A name of another's, which may lead here, is refused: by it a page
// from elsewhere could be let in.
func identifyLocal(r *http.Request) (console.Identity, error) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if !isLocal(host) {
		return console.Identity{}, errors.New("a trial is for this machine alone")
	}
	return console.Identity{Name: "you", Role: console.Operator}, nil
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
