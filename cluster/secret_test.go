package cluster

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shake has two sides speak TLS and say a word to each other, and returns what went wrong on either.
func shake(t *testing.T, client, server *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			raw, err := l.Accept()
			if err != nil {
				return err
			}
			c := tls.Server(raw, server)
			defer c.Close()
			if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
				return err
			}
			_, err = c.Write([]byte("hi"))
			return err
		}()
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		if _, err = c.Write([]byte("hi")); err == nil {
			_, err = io.ReadFull(c, make([]byte, 2))
		}
		c.Close()
	}
	return err, <-done
}

func mustSecretTLS(t *testing.T, secret, cluster string) *tls.Config {
	t.Helper()
	c, err := secretTLS(secret, cluster)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSecretTLS(t *testing.T) {
	t.Parallel()
	one, two := mustSecretTLS(t, testSecret, "c"), mustSecretTLS(t, testSecret, "c")
	if client, server := shake(t, one, two); client != nil || server != nil {
		t.Errorf("with the same secret: %v, %v", client, server)
	}
	for name, clock := range map[string]time.Time{"1970": time.Unix(0, 0), "2100": time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)} {
		late := two.Clone()
		late.Time = func() time.Time { return clock }
		for _, pair := range [][2]*tls.Config{{one, late}, {late, one}} {
			if client, server := shake(t, pair[0], pair[1]); client != nil || server != nil {
				t.Errorf("with the clock at %s: %v, %v", name, client, server)
			}
		}
	}

	nobody := one.Clone()
	nobody.Certificates = nil
	for name, other := range map[string]*tls.Config{
		"another secret":  mustSecretTLS(t, strings.ToUpper(testSecret), "c"),
		"another cluster": mustSecretTLS(t, testSecret, "d"),
		"no certificate":  nobody,
	} {
		if client, server := shake(t, other, one); client == nil || server == nil {
			t.Errorf("%s, as a client: %v, %v", name, client, server)
		}
		if client, server := shake(t, one, other); client == nil || server == nil {
			t.Errorf("%s, as a server: %v, %v", name, client, server)
		}
	}
	// Each end asks of the other: one that trusts anybody is refused by one that does not.
	open := mustSecretTLS(t, strings.ToUpper(testSecret), "c")
	open.InsecureSkipVerify = true
	if client, server := shake(t, open, one); client == nil || server == nil {
		t.Errorf("a client that does not look: %v, %v", client, server)
	}
	old := one.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if client, server := shake(t, old, one); client == nil || server == nil {
		t.Errorf("TLS 1.2: %v, %v", client, server)
	}
}

// TestOwnTLS: certificates in place of a secret. Whatever they leave open, a peer has to show one.
func TestOwnTLS(t *testing.T) {
	t.Parallel()
	own := mustSecretTLS(t, testSecret, "own")
	own.ClientAuth, own.MinVersion = tls.NoClientCert, 0
	used, err := peerTLS(&Options{TLS: own})
	if err != nil {
		t.Fatal(err)
	}
	nobody := own.Clone()
	nobody.Certificates = nil
	if client, server := shake(t, nobody, used); client == nil || server == nil {
		t.Errorf("no certificate: %v, %v", client, server)
	}
	if own.ClientAuth != tls.NoClientCert {
		t.Error("the options of the program are changed")
	}
	nodes := testNodes(t, 2, func(_ int, o *Options) { o.TLS = own })
	waitReady(t, nodes...)
}

// errorWriter tells of what is logged.
type errorWriter chan string

func (w errorWriter) Write(b []byte) (int, error) {
	select {
	case w <- string(b):
	default:
	}
	return len(b), nil
}

// TestOtherSecret: a node with another secret is kept out, by the server and not only by the configuration.
func TestOtherSecret(t *testing.T) {
	t.Parallel()
	logged := make(errorWriter, 1000)
	nodes := testNodes(t, 2, func(i int, o *Options) {
		o.Secret = testSecret
		if i == 1 {
			o.Secret = strings.ToUpper(testSecret)
		}
		o.Logger = slog.New(slog.NewTextHandler(logged, nil))
	})
	deadline := time.After(30 * time.Second)
	for {
		select {
		case line := <-logged:
			if !strings.Contains(line, "TLS route handshake error") {
				continue
			}
		case <-deadline:
			t.Fatal("no handshake failed")
		}
		break
	}
	for _, n := range nodes {
		if routes := n.current.Load().NumRoutes(); routes != 0 {
			t.Errorf("%s has %d routes", n.options.Name, routes)
		}
	}
}

// TestPlainPeer: who speaks in the clear where nodes connect is not heard.
func TestPlainPeer(t *testing.T) {
	t.Parallel()
	addresses := unused(t, 2)
	n := &testNode{dir: filepath.Join(t.TempDir(), "nats"), options: Options{Name: "n", Listen: addresses[0], Peers: addresses, Secret: testSecret}}
	t.Cleanup(func() { n.stop(t) })
	n.start(t)
	c, err := net.Dial("tcp", addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, `INFO {"server_id":"x","server_name":"x","cluster":"fanfare"}`+"\r\n"+`CONNECT {"verbose":false,"name":"x","cluster":"fanfare"}`+"\r\nPING\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is kept")
	}
	if strings.Contains(string(answer), "PONG") || strings.Contains(string(answer), "INFO") {
		t.Errorf("answered with %q", answer)
	}
	if routes := n.current.Load().NumRoutes(); routes != 0 {
		t.Errorf("there are %d routes", routes)
	}
}
