package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	firebase "firebase.google.com/go/v4"
	"firebase.google.com/go/v4/messaging"
	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/token"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/option"

	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/apns"
	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
	"github.com/fanfare-im/fanfare/transport/fcm"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

const (
	phoneTopic       = "com.example.app"
	phoneConnections = 4
	phoneConcurrency = 256
	phoneBatch       = 2000
)

// phones is a batch of notifications after the other through the senders, against loops over the libraries that they stand on, with
// the same simulated service in this process, and as many connections and requests at a time.
func (b *bench) phones(ctx context.Context) error {
	if err := b.apns(ctx); err != nil {
		return err
	}
	if err := b.apnsRecovery(ctx); err != nil {
		return err
	}
	return b.fcm(ctx)
}

// notifications makes a batch for devices of a platform.
func notifications(platform transport.Platform, n int, tokenOf func(int) string) []transport.Notification {
	m := &transport.Message{ID: "0123456789abcdef0123456789abcdef", Sequence: 1, Expires: time.Now().Add(week)}
	c := &transport.Content{Title: "Tonight", Body: "The gates open at eight", Sound: "default", Data: map[string]string{"room": "7"}}
	list := make([]transport.Notification, n)
	for i := range list {
		list[i] = transport.Notification{
			UserID: "user", Message: m, Content: c, Attempt: 1, Device: transport.Device{Platform: platform, Token: tokenOf(i), Topic: phoneTopic},
		}
	}
	return list
}

// perNotification makes a contender of a sender, whose cost is the time of a notification, and counts what it allocates.
func (b *bench) perNotification(m transport.Mobile, list []transport.Notification, allocs *[]float64) contender {
	return func(ctx context.Context, _ int) (float64, error) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		for range b.phoneBatches() {
			for _, r := range m.Send(ctx, list) {
				if r.Outcome != transport.Accepted {
					return 0, fmt.Errorf("%+v", r)
				}
			}
		}
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		n := float64(b.phoneBatches() * len(list))
		*allocs = append(*allocs, float64(after.Mallocs-before.Mallocs)/n)
		return took.Seconds() * 1e6 / n, nil
	}
}

// addPhones adds a row of a batch of notifications.
func (b *bench) addPhones(r row) {
	r.Users = phoneBatch
	b.add(r)
}

// allocations makes a row that is held against nothing.
func allocations(name string, ours []float64) row {
	return row{Name: name, Unit: "allocations", Ours: median(ours), OK: true}.with("for a notification, client and server together")
}

func (b *bench) phoneBatches() int {
	if b.quick {
		return 2
	}
	return 20
}

func (b *bench) apns(ctx context.Context) error {
	s, err := apnstest.NewServer(apnstest.Options{CountOnly: true})
	if err != nil {
		return err
	}
	defer s.Close()
	sender, err := apnsSender(s, phoneConnections)
	if err != nil {
		return err
	}
	defer sender.Close()
	clients, done, err := apnsClients(s, phoneConnections)
	if err != nil {
		return err
	}
	defer done()
	list := notifications("apns", phoneBatch, s.Token)
	payload := []byte(`{"aps":{"alert":{"title":"Tonight","body":"The gates open at eight"},"sound":"default"},"fanfare_id":"` + list[0].Message.ID + `","room":"7"}`)
	loop := func(ctx context.Context, _ int) (float64, error) {
		began := time.Now()
		for range b.phoneBatches() {
			if err := apnsLoop(ctx, clients, list, payload, phoneConcurrency, func(int) bool { return false }); err != nil {
				return 0, err
			}
		}
		return time.Since(began).Seconds() * 1e6 / float64(b.phoneBatches()*len(list)), nil
	}
	var allocs []float64
	costs, err := rounds(ctx, b.rounds, true, b.perNotification(sender, list, &allocs), loop)
	if err != nil {
		return err
	}
	b.addPhones(compare("phones.apns", "apns2", "µs", costs[0], costs[1], atLeast(0.95)).with("%.0f a second; %d connections, %d requests at a time", 1e6/median(costs[0]), phoneConnections, phoneConcurrency))
	b.addPhones(allocations("phones.apns.allocs", allocs))
	return nil
}

func apnsSender(s *apnstest.Server, connections int) (*apns.Sender, error) {
	key := s.Key()
	return apns.New(apns.Options{
		Key: key.PEM, KeyID: key.KeyID, TeamID: key.TeamID, Topic: phoneTopic, Endpoint: s.URL(), RootCAs: s.RootCAs(),
		Connections: connections, Concurrency: phoneConcurrency,
	})
}

// apnsClients makes clients of one connection each.
func apnsClients(s *apnstest.Server, n int) (list []*apns2.Client, done func(), err error) {
	key, err := token.AuthKeyFromBytes(s.Key().PEM)
	if err != nil {
		return nil, nil, err
	}
	auth := &token.Token{AuthKey: key, KeyID: s.Key().KeyID, TeamID: s.Key().TeamID}
	for range n {
		protocols := new(http.Protocols)
		protocols.SetHTTP2(true)
		t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.RootCAs()}, Protocols: protocols}
		list = append(list, &apns2.Client{Host: s.URL(), Token: auth, HTTPClient: &http.Client{Transport: t, Timeout: 20 * time.Second}})
	}
	return list, func() {
		for _, c := range list {
			c.HTTPClient.CloseIdleConnections()
		}
	}, nil
}

// apnsLoop is what one writes by hand: so many goroutines that push what is next, each on one of the clients. Those that are dead may be
// refused.
func apnsLoop(ctx context.Context, clients []*apns2.Client, list []transport.Notification, payload []byte, workers int, dead func(int) bool) error {
	var next atomic.Int64
	var running sync.WaitGroup
	var failed atomic.Pointer[error]
	for w := range workers {
		running.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(list) || failed.Load() != nil {
					return
				}
				r, err := clients[w%len(clients)].PushWithContext(ctx, &apns2.Notification{
					DeviceToken: list[i].Device.Token, Topic: phoneTopic, CollapseID: list[i].Message.ID, Priority: apns2.PriorityHigh,
					PushType: apns2.PushTypeAlert, Expiration: list[i].Message.Expires, Payload: payload,
				})
				if err == nil && !r.Sent() && !dead(i) {
					err = errors.New(r.Reason)
				}
				if err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	running.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// apnsRecovery is the time for 100 dead tokens in a row and the 100 that follow, with a service that answers each refusal by lowering what
// the connection may have under way, 20 ms away. The contenders have one connection: a Sender of its own, which has as many requests under
// way as that allows, and apns2 with one goroutine, as with more it opens further connections or, told not to, stops.
func (b *bench) apnsRecovery(ctx context.Context) error {
	const streams, run = 8, 100
	isDead := func(i int) bool { return i < run }
	recovery := func(open func(*apnstest.Server) (send func([]transport.Notification) error, done func(), err error)) contender {
		return func(ctx context.Context, _ int) (float64, error) {
			s, err := apnstest.NewServer(apnstest.Options{Streams: streams})
			if err != nil {
				return 0, err
			}
			defer s.Close()
			send, done, err := open(s)
			if err != nil {
				return 0, err
			}
			defer done()
			if err := send(notifications("apns", 2*run, func(i int) string { return s.Token(1000 + i) })); err != nil { // to have connections
				return 0, err
			}
			for i := range run {
				s.Kill(s.Token(i), time.Now())
			}
			s.LowerStreams(true)
			s.Delay(20 * time.Millisecond)
			began := time.Now()
			err = send(notifications("apns", 2*run, s.Token))
			took := time.Since(began)
			if n := s.Total(); err == nil && n != 3*run {
				err = fmt.Errorf("%d notifications were accepted, not %d", n, 3*run)
			}
			return took.Seconds() * 1e3, err
		}
	}
	ours := func(connections int) contender {
		return recovery(func(s *apnstest.Server) (func([]transport.Notification) error, func(), error) {
			sender, err := apnsSender(s, connections)
			if err != nil {
				return nil, nil, err
			}
			return func(list []transport.Notification) error {
				for i, r := range sender.Send(ctx, list) {
					if r.Outcome != transport.Accepted && (r.Outcome != transport.Unregistered || !isDead(i)) {
						return fmt.Errorf("%d: %+v", i, r)
					}
				}
				return nil
			}, func() { sender.Close() }, nil
		})
	}
	theirs := recovery(func(s *apnstest.Server) (func([]transport.Notification) error, func(), error) {
		clients, done, err := apnsClients(s, 1)
		return func(list []transport.Notification) error {
			return apnsLoop(ctx, clients, list, []byte(`{"aps":{"alert":{"title":"Tonight"}}}`), 1, isDead)
		}, done, err
	})
	costs, err := rounds(ctx, b.rounds, false, ours(8), theirs, ours(1))
	if err != nil {
		return err
	}
	const note = "%d dead tokens in a row, %d requests a connection, 20 ms"
	b.addPhones(compare("phones.apns.dead", "apns2, one connection", "ms", costs[0], costs[1], atLeast(5)).with(note, run, streams))
	b.addPhones(compare("phones.apns.dead", "a Sender, one connection", "ms", costs[0], costs[2], atLeast(5)).with(note, run, streams))
	return nil
}

// fcm compares with SendEach, one call of 500 at a time, and ten.
func (b *bench) fcm(ctx context.Context) error {
	s, err := fcmtest.NewServer(fcmtest.Options{CountOnly: true})
	if err != nil {
		return err
	}
	defer s.Close()
	sender, err := fcm.New(ctx, fcm.Options{
		ServiceAccount: s.ServiceAccount(), Endpoint: s.URL() + "/v1", RootCAs: s.RootCAs(), Connections: phoneConnections, Concurrency: phoneConcurrency, PerSecond: -1,
	})
	if err != nil {
		return err
	}
	defer sender.Close()
	client, done, err := fcmClient(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	list := notifications("fcm", phoneBatch, s.Token)
	each := func(calls int) contender {
		return func(ctx context.Context, _ int) (float64, error) {
			began := time.Now()
			n := b.phoneBatches() * len(list) / 500
			var next atomic.Int64
			err := callers(min(calls, n), func(int) error {
				for int(next.Add(1)) <= n {
					if err := sendEach(ctx, client, list[:500]); err != nil {
						return err
					}
				}
				return nil
			})
			return time.Since(began).Seconds() * 1e6 / float64(n*500), err
		}
	}
	var allocs []float64
	costs, err := rounds(ctx, b.rounds, true, b.perNotification(sender, list, &allocs), each(1), each(10))
	if err != nil {
		return err
	}
	b.addPhones(compare("phones.fcm", "SendEach", "µs", costs[0], costs[1], atLeast(1.2)).with("%.0f a second; one call of 500 at a time", 1e6/median(costs[0])))
	b.addPhones(compare("phones.fcm", "SendEach × 10", "µs", costs[0], costs[2], atLeast(1.2)).with("ten calls at a time"))
	b.addPhones(allocations("phones.fcm.allocs", allocs))
	return nil
}

// fcmClient is Google's client with connections enough.
func fcmClient(ctx context.Context, s *fcmtest.Server) (*messaging.Client, func(), error) {
	base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.RootCAs()}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 512}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: base})
	credentials, err := google.CredentialsFromJSONWithType(ctx, s.ServiceAccount(), google.ServiceAccount, "https://www.googleapis.com/auth/firebase.messaging")
	if err != nil {
		return nil, nil, err
	}
	app, err := firebase.NewApp(ctx, &firebase.Config{ProjectID: credentials.ProjectID},
		option.WithHTTPClient(oauth2.NewClient(ctx, credentials.TokenSource)), option.WithEndpoint(s.URL()+"/v1"))
	if err != nil {
		return nil, nil, err
	}
	client, err := app.Messaging(ctx)
	return client, base.CloseIdleConnections, err
}

// sendEach sends the same messages as the sender does.
func sendEach(ctx context.Context, client *messaging.Client, list []transport.Notification) error {
	ttl := time.Until(list[0].Message.Expires)
	messages := make([]*messaging.Message, len(list))
	for i, n := range list {
		messages[i] = &messaging.Message{
			Token: n.Device.Token, Data: map[string]string{"fanfare_id": n.Message.ID, "room": "7"},
			Notification: &messaging.Notification{Title: n.Content.Title, Body: n.Content.Body},
			Android:      &messaging.AndroidConfig{Priority: "high", TTL: &ttl, Notification: &messaging.AndroidNotification{Tag: n.Message.ID, Sound: "default"}},
			Webpush:      &messaging.WebpushConfig{Headers: map[string]string{"TTL": fmt.Sprint(int(ttl.Seconds()))}},
			APNS: &messaging.APNSConfig{
				Headers: map[string]string{
					"apns-collapse-id": n.Message.ID, "apns-push-type": "alert", "apns-priority": "10", "apns-expiration": fmt.Sprint(n.Message.Expires.Unix()),
				},
				Payload: &messaging.APNSPayload{Aps: &messaging.Aps{Sound: "default"}},
			},
		}
	}
	r, err := client.SendEach(ctx, messages)
	if err == nil && r.FailureCount > 0 {
		err = fmt.Errorf("%d of %d failed: %w", r.FailureCount, len(messages), r.Responses[0].Error)
	}
	return err
}
