package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/apns"
	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
	"github.com/fanfare-im/fanfare/transport/fcm"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// services are the notification services, by their senders.
type services struct {
	name    string
	senders []transport.Mobile // the Pusher closes them
	sim     *simulators        // nil for real ones
}

// services makes a sender for each service that there are credentials of; without any, for simulators of all.
func (o *options) services(ctx context.Context) (*services, error) {
	if !o.real() {
		return simulate(ctx, o)
	}
	s := new(services)
	if o.apnsKey != "" {
		key, err := readSecret(o.apnsKey)
		if err != nil {
			return nil, err
		}
		sender, err := apns.New(apns.Options{
			Key: key, KeyID: o.apnsKeyID, TeamID: o.apnsTeamID, Topic: o.apnsTopic, Sandbox: o.apnsSandbox,
		})
		if err != nil {
			return nil, err
		}
		s.senders = append(s.senders, sender)
	}
	if o.fcmAccount != "" {
		account, err := readSecret(o.fcmAccount)
		if err != nil {
			return nil, err
		}
		sender, err := fcm.New(ctx, fcm.Options{ServiceAccount: account})
		if err != nil {
			return nil, err
		}
		s.senders = append(s.senders, sender)
	}
	s.name = "real, " + strings.Join(s.platforms(), " and ")
	return s, nil
}

// readSecret reads a file of credentials. A [transport.Secret] is never printed.
func readSecret(name string) (transport.Secret, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	const most = 64 << 10
	b, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s is no file of credentials: it has more than %d bytes", name, most)
	}
	return b, err
}

func (s *services) platforms() (list []string) {
	for _, sender := range s.senders {
		list = append(list, sender.Platform())
	}
	return list
}

// simulators stand for the services. They speak HTTP/2 over TLS on ports of this machine, know their sender by its key, and refuse what
// the services refuse.
type simulators struct {
	apple, appleSandbox *apnstest.Server
	google              *fcmtest.Server
}

func simulate(ctx context.Context, o *options) (_ *services, err error) {
	sim := new(simulators)
	s := &services{name: "simulated, on this machine", sim: sim}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	l := &luck{dead: o.dead, busy: o.busy, had: make(map[string]bool)}
	for _, server := range []**apnstest.Server{&sim.apple, &sim.appleSandbox} {
		sandbox := server == &sim.appleSandbox
		a, err := apnstest.NewServer(apnstest.Options{Sandbox: sandbox})
		if err != nil {
			return nil, err
		}
		*server = a
		a.GoAwayEvery(5000)
		key := a.Key()
		if o.wrongKey {
			key.KeyID = "WRONGKEYID"
		} else {
			a.OnRequest(l.apple)
		}
		sender, err := apns.New(apns.Options{
			Key: key.PEM, KeyID: key.KeyID, TeamID: key.TeamID, Topic: cmp.Or(o.apnsTopic, sampleTopic), Sandbox: sandbox,
			Endpoint: a.URL(), RootCAs: a.RootCAs(),
		})
		if err != nil {
			return nil, err
		}
		s.senders = append(s.senders, sender)
	}

	if sim.google, err = fcmtest.NewServer(fcmtest.Options{}); err != nil {
		return nil, err
	}
	sim.google.GoAwayEvery(5000)
	if o.wrongKey {
		sim.google.RefuseAssertions(true)
	} else {
		sim.google.OnRequest(l.google)
	}
	sender, err := fcm.New(ctx, fcm.Options{
		ServiceAccount: sim.google.ServiceAccount(), Endpoint: sim.google.URL() + "/v1", RootCAs: sim.google.RootCAs(),
	})
	if err != nil {
		return nil, err
	}
	s.senders = append(s.senders, sender)
	return s, nil
}

// stop ends the simulators; the senders are closed by the Pusher.
func (s *services) stop() (err error) {
	if s.sim == nil {
		return nil
	}
	for _, a := range []*apnstest.Server{s.sim.apple, s.sim.appleSandbox} {
		if a != nil {
			err = errors.Join(err, a.Close())
		}
	}
	if s.sim.google != nil {
		err = errors.Join(err, s.sim.google.Close())
	}
	return err
}

// complaints are what simulators have to say of requests that a service would have taken and made nothing of, and of numbers that
// are not theirs.
func (s *services) complaints(phones map[string]fanfare.PhoneStats) (err error) {
	if s.sim == nil {
		return nil
	}
	for _, a := range []struct {
		platform string
		total    int
		problems []string
	}{
		{apns.Platform, s.sim.apple.Total(), s.sim.apple.Problems()},
		{apns.PlatformSandbox, s.sim.appleSandbox.Total(), s.sim.appleSandbox.Problems()},
		{fcm.Platform, s.sim.google.Total(), s.sim.google.Problems()},
	} {
		if counted := phones[a.platform].Accepted; counted != int64(a.total) {
			err = errors.Join(err, fmt.Errorf("%s took %d notifications, of which %d are counted", a.platform, a.total, counted))
		}
		for _, p := range a.problems {
			err = errors.Join(err, fmt.Errorf("%s: %s", a.platform, p))
		}
	}
	return err
}

// shown is what a simulated phone shows, if it does.
func (s *services) shown(d fanfare.Device) (t transport.Text, ok bool) {
	if s.sim == nil {
		return t, false
	}
	if d.Platform == fcm.Platform {
		for _, m := range s.sim.google.Accepted(d.Token) {
			var message struct{ Notification transport.Text }
			ok = json.Unmarshal(m.JSON, &message) == nil
			t = message.Notification
		}
		return t, ok
	}
	server := s.sim.apple
	if d.Platform == apns.PlatformSandbox {
		server = s.sim.appleSandbox
	}
	for _, n := range server.Accepted(d.Token) {
		var payload struct{ Aps struct{ Alert transport.Text } }
		ok = json.Unmarshal(n.Payload, &payload) == nil
		t = payload.Aps.Alert
	}
	return t, ok
}

// fate is what a service has to say of a token.
type fate int

const (
	fine     fate = iota
	dead          // the app was removed
	stranger      // the token is of another app
	busy          // 429, once
	down          // 503, once
)

// strangers is the percentage of tokens of another app.
const strangers = 0.25

// luck decides the fate of tokens.
type luck struct {
	dead, busy float64 // percent

	mu  sync.Mutex
	had map[string]bool // tokens that had what comes once
}

// fate is the same for a token in every run.
func (l *luck) fate(token string) fate {
	sum := sha256.Sum256([]byte("seed 1:" + token))
	drawn := 100 * float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32)
	for _, share := range []struct {
		fate    fate
		percent float64
	}{{dead, l.dead}, {stranger, strangers}, {busy, l.busy}, {down, l.busy / 2}} {
		if drawn < share.percent {
			return share.fate
		}
		drawn -= share.percent
	}
	return fine
}

// meet is the fate that a token meets now.
func (l *luck) meet(token string) fate {
	f := l.fate(token)
	if f != busy && f != down {
		return f
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.had[token] {
		return fine
	}
	l.had[token] = true
	return f
}

// apple answers in the words of APNs; nil goes on to the simulator's own checks.
func (l *luck) apple(r *apnstest.Request) *apnstest.Answer {
	switch l.meet(r.Token) {
	case dead:
		return &apnstest.Answer{Status: http.StatusGone, Reason: "Unregistered", Timestamp: time.Now()}
	case stranger:
		return &apnstest.Answer{Status: http.StatusBadRequest, Reason: "DeviceTokenNotForTopic"}
	case busy:
		return &apnstest.Answer{Status: http.StatusTooManyRequests, Reason: "TooManyRequests", RetryAfter: time.Second}
	case down:
		return &apnstest.Answer{Status: http.StatusServiceUnavailable, Reason: "ServiceUnavailable"}
	}
	return nil
}

// google answers in the words of FCM.
func (l *luck) google(r *fcmtest.Request) *fcmtest.Answer {
	if r.Token == "" {
		return nil // the sender asks for an access token
	}
	switch l.meet(r.Token) {
	case dead:
		return &fcmtest.Answer{ErrorCode: "UNREGISTERED"} // 404
	case stranger:
		return &fcmtest.Answer{ErrorCode: "SENDER_ID_MISMATCH"} // 403
	case busy:
		return &fcmtest.Answer{ErrorCode: "QUOTA_EXCEEDED", RetryAfter: "1"} // 429
	case down:
		return &fcmtest.Answer{ErrorCode: "UNAVAILABLE"} // 503
	}
	return nil
}
