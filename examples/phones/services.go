package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/apns"
	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
	"github.com/fanfare-im/fanfare/transport/fcm"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// services are the notification services, as their senders, and the simulators that stand for them where there are no credentials.
type services struct {
	senders []transport.Mobile // the Pusher closes them
	apple   *apnstest.Server   // production and sandbox in one; nil with credentials
	google  *fcmtest.Server    // nil with credentials
}

func (s *services) start(ctx context.Context, o *options) error {
	if !o.real() {
		return s.simulate(ctx, o)
	}
	if o.apnsKey != "" {
		key, err := readSecret(o.apnsKey)
		if err != nil {
			return err
		}
		sender, err := apns.New(apns.Options{
			Key: key, KeyID: o.apnsKeyID, TeamID: o.apnsTeamID, Topic: o.apnsTopic, Sandbox: o.apnsSandbox,
		})
		if err != nil {
			return err
		}
		s.senders = append(s.senders, sender)
	}
	if o.fcmAccount != "" {
		account, err := readSecret(o.fcmAccount)
		if err != nil {
			return err
		}
		sender, err := fcm.New(ctx, fcm.Options{ServiceAccount: account})
		if err != nil {
			return err
		}
		s.senders = append(s.senders, sender)
	}
	return nil
}

// readSecret reads a file of credentials, which are never printed.
func readSecret(name string) (transport.Secret, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	const most = 64 << 10
	b, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s: %d bytes are the most that credentials have", name, most)
	}
	return b, err
}

// simulate starts the simulators. They speak HTTP/2 over TLS on ports of this machine, want to know who sends, and refuse what the services
// refuse. The luck of the tokens comes on top of that.
func (s *services) simulate(ctx context.Context, o *options) (err error) {
	if s.apple, err = apnstest.NewServer(apnstest.Options{}); err != nil {
		return err
	}
	if s.google, err = fcmtest.NewServer(fcmtest.Options{}); err != nil {
		return err
	}
	key := s.apple.Key()
	if o.wrongKey {
		key.KeyID = "WRONGKEYID"
		s.google.RefuseAssertions(true)
	} else {
		l := newLuck(o.dead, o.busy)
		s.apple.OnRequest(l.apple)
		s.google.OnRequest(l.google)
		s.apple.GoAwayEvery(5000)
		s.google.GoAwayEvery(5000)
	}
	for _, sandbox := range []bool{false, true} {
		sender, err := apns.New(apns.Options{
			Key: key.PEM, KeyID: key.KeyID, TeamID: key.TeamID, Topic: cmp.Or(o.apnsTopic, sampleTopic), Sandbox: sandbox,
			Endpoint: s.apple.URL(), RootCAs: s.apple.RootCAs(),
		})
		if err != nil {
			return err
		}
		s.senders = append(s.senders, sender)
	}
	sender, err := fcm.New(ctx, fcm.Options{
		ServiceAccount: s.google.ServiceAccount(), Endpoint: s.google.URL() + "/v1", RootCAs: s.google.RootCAs(),
	})
	if err != nil {
		return err
	}
	s.senders = append(s.senders, sender)
	return nil
}

// stop ends the simulators.
func (s *services) stop() (err error) {
	if s.apple != nil {
		err = s.apple.Close()
	}
	if s.google != nil {
		err = errors.Join(err, s.google.Close())
	}
	return err
}

// shown is what a simulated phone shows, if it shows anything.
func (s *services) shown(d fanfare.Device) (t transport.Text, err error) {
	if d.Platform == fcm.Platform {
		for _, m := range s.google.Accepted(d.Token) {
			var message struct{ Notification transport.Text }
			err = errors.Join(err, json.Unmarshal(m.JSON, &message))
			t = message.Notification
		}
		return t, err
	}
	for _, n := range s.apple.Accepted(d.Token) {
		var payload struct {
			Aps struct{ Alert transport.Text }
		}
		err = errors.Join(err, json.Unmarshal(n.Payload, &payload))
		t = payload.Aps.Alert
	}
	return t, err
}
