package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/nats-io/nats.go"
)

func TestOptionsCheck(t *testing.T) {
	t.Parallel()
	pool := x509.NewCertPool()
	mutual := func() *tls.Config {
		return &tls.Config{RootCAs: pool, ClientCAs: pool, Certificates: []tls.Certificate{{}}}
	}
	three := []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}
	far := []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"}
	for _, c := range []struct {
		name    string
		options Options
		refused string // part of the error; empty: it is not refused
	}{
		{"one node", Options{}, ""},
		{"one node, of a list", Options{Listen: "127.0.0.1:1", Peers: three[:1]}, ""},
		{"three on loopback", Options{Listen: "127.0.0.1:1", Peers: three}, ""},
		{"localhost", Options{Listen: "localhost:1", Peers: []string{"localhost:1", "LOCALHOST:2", "[::1]:3", "127.9.9.9:4"}}, ""},
		{"a secret", Options{Listen: "10.0.0.1:1", Peers: far, Secret: testSecret}, ""},
		{"certificates", Options{Listen: "10.0.0.1:1", Peers: far, TLS: mutual()}, ""},
		{"in the clear", Options{Listen: "10.0.0.1:1", Peers: far, Insecure: true}, ""},
		{"all addresses", Options{Listen: ":1", Advertise: "10.0.0.1:1", Peers: far, Secret: testSecret}, ""},
		{"not in its list", Options{Listen: "127.0.0.1:9", Peers: three, Replicas: 4}, ""},
		{"elsewhere, on this machine", Options{URL: "nats://127.0.0.1:4222,[::1]:4222, localhost"}, ""},
		{"elsewhere, by TLS", Options{URL: "tls://nats.example.com,wss://nats.example.com:443"}, ""},
		{"elsewhere, by TLS as an option", Options{URL: "nats.example.com", NATS: []nats.Option{nats.Secure()}}, ""},
		{"elsewhere, in the clear", Options{URL: "nats.example.com", Insecure: true}, ""},
		{"name that is a dash", Options{Name: "-"}, ""},

		{"read only", Options{Options: fanfare.Options{ReadOnly: true}}, "ReadOnly"},
		{"maintenance", Options{Options: fanfare.Options{Maintenance: true}}, "Maintenance"},
		{"name with a dot", Options{Name: "a.b"}, "Name"},
		{"long name", Options{Name: strings.Repeat("a", 65)}, "Name"},
		{"name of the cluster", Options{Cluster: "a b"}, "name of the cluster"},
		{"many replicas", Options{Replicas: 6}, "Replicas"},
		{"negative replicas", Options{Replicas: -1}, "Replicas"},
		{"more replicas than nodes", Options{Listen: "127.0.0.1:1", Peers: three, Replicas: 5}, "3 nodes"},
		{"replicas of one node", Options{Replicas: 3}, "1 nodes"},
		{"no peers", Options{Listen: "127.0.0.1:1"}, "no Peers"},
		{"advertised, no peers", Options{Advertise: "127.0.0.1:1"}, "no Peers"},
		{"no listener", Options{Peers: three}, "Listen"},
		{"listener without a port", Options{Listen: "127.0.0.1", Peers: three}, "Listen"},
		{"listener with port 0", Options{Listen: "127.0.0.1:0", Peers: three}, "Listen"},
		{"all addresses, not advertised", Options{Listen: "0.0.0.0:1", Peers: far, Secret: testSecret}, "Advertise"},
		{"no host, not advertised", Options{Listen: ":1", Peers: far, Secret: testSecret}, "Advertise"},
		{"advertised without a host", Options{Listen: ":1", Advertise: ":1", Peers: far, Secret: testSecret}, "Advertise"},
		{"advertised without a port", Options{Listen: ":1", Advertise: "10.0.0.1", Peers: far, Secret: testSecret}, "Advertise"},
		{"peer without a port", Options{Listen: "127.0.0.1:1", Peers: []string{"127.0.0.2"}}, "Peers"},
		{"peer with a name for a port", Options{Listen: "127.0.0.1:1", Peers: []string{"127.0.0.2:nats"}}, "Peers"},
		{"peer without a host", Options{Listen: "127.0.0.1:1", Peers: []string{":2"}}, "Peers"},
		{"peer twice", Options{Listen: "127.0.0.1:1", Peers: []string{"localhost:2", "LocalHost:2"}}, "twice"},
		{"listener in the clear", Options{Listen: "10.0.0.1:1", Peers: three}, "Secret"},
		{"peer in the clear", Options{Listen: "127.0.0.1:1", Peers: far}, "Secret"},
		{"peer with a name, in the clear", Options{Listen: "127.0.0.1:1", Peers: []string{"localhost.example.com:1"}}, "Secret"},
		{"advertised in the clear", Options{Listen: "127.0.0.1:1", Advertise: "10.0.0.1:1", Peers: three}, "Secret"},
		{"all addresses in the clear", Options{Listen: ":1", Advertise: "127.0.0.1:1", Peers: three}, "Secret"},
		{"short secret", Options{Listen: "127.0.0.1:1", Peers: three, Secret: testSecret[:31]}, "32 bytes"},
		{"secret and certificates", Options{Listen: "127.0.0.1:1", Peers: three, Secret: testSecret, TLS: mutual()}, "in place of"},
		{"certificates of anybody", Options{Listen: "127.0.0.1:1", Peers: three, TLS: &tls.Config{Certificates: []tls.Certificate{{}}, RootCAs: pool}}, "ClientCAs"},
		{"peers' certificates of anybody", Options{Listen: "127.0.0.1:1", Peers: three, TLS: &tls.Config{Certificates: []tls.Certificate{{}}, ClientCAs: pool}}, "RootCAs"},
		{"certificates not looked at", Options{Listen: "127.0.0.1:1", Peers: three, TLS: func() *tls.Config { t := mutual(); t.InsecureSkipVerify = true; return t }()}, "InsecureSkipVerify"},
		{"no certificate", Options{Listen: "127.0.0.1:1", Peers: three, TLS: &tls.Config{RootCAs: pool, ClientCAs: pool}}, "no certificate"},
		{"embedded, with options of NATS", Options{NATS: []nats.Option{nats.Secure()}}, "NATS"},
		{"elsewhere, and a listener", Options{URL: "nats://127.0.0.1", Listen: "127.0.0.1:1"}, "with URL"},
		{"elsewhere, and peers", Options{URL: "nats://127.0.0.1", Peers: three}, "with URL"},
		{"elsewhere, and a secret", Options{URL: "nats://127.0.0.1", Secret: testSecret}, "with URL"},
		{"elsewhere, and syncs", Options{URL: "nats://127.0.0.1", SyncAlways: true}, "with URL"},
		{"elsewhere, one of them in the clear", Options{URL: "tls://nats.example.com,ws://nats.example.com"}, "in the clear"},
		{"elsewhere, without a scheme", Options{URL: "nats.example.com:4222"}, "in the clear"},
		{"elsewhere, another scheme", Options{URL: "http://127.0.0.1"}, "not one of"},
		{"elsewhere, nowhere", Options{URL: "nats://"}, "no host"},
		{"elsewhere, an option that fails", Options{URL: "nats://127.0.0.1", NATS: []nats.Option{nats.RootCAs("there is no such file")}}, "NATS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := c.options
			if o.Name == "" {
				o.Name = "n"
			}
			err := o.check()
			if c.refused == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%v, want an error with %q", err, c.refused)
			}
		})
	}
	if err := new(Options).check(); err == nil {
		t.Error("a node without a name")
	}
	// A secret is not to be read in a log.
	for _, u := range []string{"nats://u:hidden@nats.example.com", "nats://hidden@nats.example.com", "http://hidden@127.0.0.1", "nats://hidden@", "nats://u:hidden@127.0.0.1:port", "nats://u:hidden%@127.0.0.1", "nats://u:hidden/@127.0.0.1"} {
		if err := (&Options{Name: "n", URL: u}).check(); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%v", err)
		}
	}
}

func TestOptionsFill(t *testing.T) {
	t.Parallel()
	peers := func(n int) []string { return []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"}[:n] }
	for _, c := range []struct {
		options  Options
		replicas int
	}{
		{Options{}, 1},
		{Options{Listen: "127.0.0.1:1", Peers: peers(1)}, 1},
		{Options{Listen: "127.0.0.1:1", Peers: peers(2)}, 2},
		{Options{Listen: "127.0.0.1:9", Peers: peers(2)}, 3},
		{Options{Listen: "127.0.0.1:1", Peers: peers(3)}, 3},
		{Options{Listen: "127.0.0.1:1", Peers: peers(4)}, 3},
		{Options{Listen: "127.0.0.1:1", Peers: peers(4), Replicas: 1}, 1},
		{Options{URL: "nats://127.0.0.1"}, 3},
	} {
		o := c.options
		o.Name = "n"
		o.fill()
		if o.Replicas != c.replicas || o.Cluster != "fanfare" || o.Timeout != 5*time.Second || o.Logger == nil {
			t.Errorf("%+v: %d replicas, cluster %q, timeout %v, logger %v", c.options, o.Replicas, o.Cluster, o.Timeout, o.Logger)
		}
	}
}

// TestServerRoutes: the number of routes is what a server takes for the size of its cluster, at its first start.
func TestServerRoutes(t *testing.T) {
	t.Parallel()
	peers := []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"}
	for _, o := range []Options{
		{Listen: "10.0.0.1:1", Peers: peers},
		{Listen: "10.0.0.1:1", Peers: peers[1:]},
		{Listen: ":1", Advertise: "10.0.0.1:1", Peers: peers},
	} {
		o.Name, o.Secret = "n", testSecret
		so, err := serverOptions(t.TempDir(), &o)
		if err != nil {
			t.Fatal(err)
		}
		if len(so.Routes) != 4 {
			t.Errorf("%q, %q: routes %v", o.Listen, o.Peers, so.Routes)
		}
		if so.Cluster.Advertise != peers[0] {
			t.Errorf("%q: advertised %q", o.Listen, so.Cluster.Advertise)
		}
	}
}
