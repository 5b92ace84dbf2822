package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/nats-io/nats.go"
)

// Options adjust a node of a cluster, and the Pusher that it runs. Name is required; what else is, depends on where NATS runs.
//
//   - Embedded in the nodes, which is the default: Listen and Peers, and Secret or TLS between machines.
//   - Embedded in a cluster of one node: nothing else. It listens nowhere.
//   - A deployment of its own: URL, and what NATS needs to get in.
type Options struct {
	// Options are those of the Pusher. ReadOnly and Maintenance are refused: they are for a directory that no node has open. Limits, Quiet, Caps and KeepAudiences must be the same on all nodes.
	fanfare.Options

	// Cluster is the name of the cluster, by which its nodes know each other, and what it keeps in NATS: several can share a deployment. Letters, digits, - and _, at most 64. Default: "fanfare".
	Cluster string
	// Name is this node's. It is another one than that of any other node, and stays the same as long as the node has its directory: as what keeps the
	// log it counts by its name, and one that comes back under another name is one more, of which the old one never comes back. The same form as Cluster's. Required.
	Name string

	// Listen is the "host:port" at which the other nodes connect to this one. Required with Peers, refused without. An empty host is all of the machine's addresses, and goes with Advertise.
	Listen string
	// Advertise is the "host:port" by which the other nodes reach this one, as it stands in their Peers. Default: Listen.
	Advertise string
	// Peers are the "host:port" of all nodes, as in their Advertise or Listen. This one may be among them, so that all nodes can have the same list. Default: none, and
	// that is a cluster of one node, as it is with only this one in the list.
	// A node connects to those in the list, but takes the connections of others too: the list says where to begin, and how many nodes there are to be at the first start. That waits for all of them; later ones do for more than half.
	Peers []string
	// Secret is at least 32 bytes that nobody can guess, the same on all nodes. The nodes then talk to each other by TLS, and each lets in only those that know the secret; nothing else is to be
	// installed. It is not sent anywhere. To change it all nodes are stopped. Default: none.
	Secret string
	// TLS is in place of Secret, for those who have certificates: the nodes' own, by which they show both as servers and as clients who they are. It must have RootCAs and ClientCAs, which say whose certificates
	// are good, and certificates that hold for the hosts of Peers. Default: none.
	TLS *tls.Config

	// URL is that of a NATS deployment with JetStream, or of several of its servers, with commas between: nothing is embedded then, and Listen, Advertise, Peers, Secret and TLS are refused. Its account is the cluster's
	// own or has what nobody else writes to: all whose names begin with fanfare-<cluster>, and the subjects below fanfare.<cluster>. Default: none, and each node runs a server of its own.
	URL string
	// NATS are options of the connection to URL: credentials, TLS. Default: none.
	NATS []nats.Option

	// Insecure lets nodes talk in the clear, and take orders from everybody who can reach them, where neither Secret nor TLS are given, or a URL that is not one of TLS. It is for networks in which that is taken care of
	// otherwise. Default: false; then that is refused, but for addresses of the machine itself (127.0.0.0/8, ::1, localhost), on which every process of the machine can reach them.
	Insecure bool

	// SyncAlways has each embedded server sync the log to its disk before it counts as written there. It makes changes slower. Default: false; then a change is answered when it is in the memory of a majority of
	// the machines, and synced every 2 minutes. Processes may be killed then, all of them at once too: nothing is lost. When more than half of the machines lose power, or their kernels stop, within the same 2 minutes,
	// changes that have been answered may be lost.
	SyncAlways bool
	// Replicas is how many nodes keep the log, 1 to 5. A change needs more than half of them, so that 3 bear the loss of one, and 5 of two. Default: 3, or as many as there are nodes in Peers, if fewer;
	// with URL 3, and 1 is for a deployment of one server. With two nodes it is 2, which does not make changes go on when one is lost, as no two nodes can;
	// but the machine that is lost takes nothing with it that has been answered. It changes nothing once the cluster has begun.
	Replicas int
	// Seed is the Name of the node whose directory the cluster begins with: one that a Pusher of one process has made, and closed completely. All nodes are started with it for the first time; those
	// without a store then wait for that one's, and with one of their own they are refused. It changes nothing once the cluster has begun. Default: the cluster begins with nothing.
	Seed string
	// Absence is for how long the log is kept for a node that is not there. One that comes back later fetches the state of another, as one that never was there does. Default: 24 hours.
	Absence time.Duration
	// MaxLog is how many bytes the log may have before a node that is not there holds it back no more, or one that is far behind all others. Default: 8 GiB.
	MaxLog int64
	// Timeout is how long a change waits for a majority before it fails with [fanfare.ErrUnavailable], whatever is before it. While the log takes what is before it, the change waits longer, as long as its context. Default: 5 s.
	Timeout time.Duration
}

// defaultCluster is the name of a cluster that has none.
const defaultCluster = "fanfare"

// minSecret is what SHA-256 can make use of, and more than anybody makes up: who needs that many bytes asks a machine for them.
const minSecret = 32

// maxReplicas is JetStream's.
const maxReplicas = 5

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// fill puts in what was left out; check comes before it.
func (o *Options) fill() {
	if o.Cluster == "" {
		o.Cluster = defaultCluster
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Replicas == 0 {
		o.Replicas = 3
		if o.URL == "" {
			o.Replicas = min(o.nodes(), 3)
		}
	}
	if o.Absence <= 0 {
		o.Absence = 24 * time.Hour
	}
	if o.MaxLog <= 0 {
		o.MaxLog = 8 << 30
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
}

// check reports the first thing that cannot be, or would be less than what was meant.
func (o *Options) check() error {
	if o.ReadOnly || o.Maintenance {
		return errors.New("cluster: ReadOnly and Maintenance are for a directory that no node has open")
	}
	if o.Cluster != "" && !nameForm.MatchString(o.Cluster) {
		return fmt.Errorf("cluster: the name of the cluster, %q, is not 1 to 64 of a-z, A-Z, 0-9, - and _", o.Cluster)
	}
	if !nameForm.MatchString(o.Name) {
		return fmt.Errorf("cluster: the node's Name, %q, is not 1 to 64 of a-z, A-Z, 0-9, - and _", o.Name)
	}
	if o.Seed != "" && !nameForm.MatchString(o.Seed) {
		return fmt.Errorf("cluster: Seed, %q, is not the name of a node", o.Seed)
	}
	if o.Replicas < 0 || o.Replicas > maxReplicas {
		return fmt.Errorf("cluster: %d Replicas are not 1 to %d", o.Replicas, maxReplicas)
	}
	if o.URL != "" {
		return o.checkExternal()
	}
	return o.checkEmbedded()
}

func (o *Options) checkExternal() error {
	if o.Listen != "" || o.Advertise != "" || len(o.Peers) > 0 {
		return errors.New("cluster: Listen, Advertise and Peers are of an embedded server; with URL there is none")
	}
	if o.Secret != "" || o.TLS != nil {
		return errors.New("cluster: Secret and TLS are of an embedded server; with URL, credentials and TLS are given by NATS")
	}
	if o.SyncAlways {
		return errors.New("cluster: SyncAlways is of an embedded server; with URL it is set in that deployment")
	}
	client := nats.GetDefaultOptions()
	for _, option := range o.NATS {
		if err := option(&client); err != nil {
			return fmt.Errorf("cluster: an option in NATS: %w", err)
		}
	}
	secure := client.Secure || client.TLSConfig != nil || o.Insecure
	var open string // a server outside of this machine to which nothing says that TLS is wanted
	for one := range strings.SplitSeq(o.URL, ",") {
		one = strings.TrimSpace(one)
		if !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		u, err := url.Parse(one)
		if err != nil {
			return errors.New("cluster: URL is malformed") // what is wrong with it may be a part of a password
		}
		u.User = nil // not to be shown: a name without a password is a token
		if u.Hostname() == "" {
			return fmt.Errorf("cluster: URL %q has no host", u)
		}
		switch u.Scheme {
		case "tls", "wss":
		case "nats", "ws":
			if !loopback(u.Hostname()) {
				open = u.String()
			}
		default:
			return fmt.Errorf("cluster: URL %q is not one of nats, tls, ws and wss", u)
		}
	}
	if open != "" && !secure {
		return fmt.Errorf("cluster: %s is on another machine and would be talked to in the clear: give it as tls:// or wss://, or TLS in NATS, or set Insecure", open)
	}
	return nil
}

func (o *Options) checkEmbedded() error {
	if len(o.NATS) > 0 {
		return errors.New("cluster: NATS is of the connection to a URL, and there is none")
	}
	if o.Secret != "" && o.TLS != nil {
		return errors.New("cluster: TLS is in place of Secret, and both are given")
	}
	if o.Secret != "" && len(o.Secret) < minSecret {
		return fmt.Errorf("cluster: a Secret has at least %d bytes, not %d", minSecret, len(o.Secret))
	}
	if t := o.TLS; t != nil {
		switch {
		case t.RootCAs == nil || t.ClientCAs == nil:
			return errors.New("cluster: TLS has no RootCAs or no ClientCAs, without which everybody would be let in whom the system trusts")
		case t.InsecureSkipVerify:
			return errors.New("cluster: TLS has InsecureSkipVerify, which lets in everybody; without Secret and TLS, Insecure says the same")
		case len(t.Certificates) == 0 && t.GetCertificate == nil:
			return errors.New("cluster: TLS has no certificate")
		}
	}
	if len(o.Peers) == 0 {
		if o.Listen != "" || o.Advertise != "" {
			return errors.New("cluster: Listen and Advertise are for the other nodes, and there are no Peers")
		}
		return o.checkReplicas()
	}
	if o.Listen == "" {
		return errors.New("cluster: with Peers, Listen says where they reach this node")
	}
	host, err := checkAddress("Listen", o.Listen)
	if err != nil {
		return err
	}
	if o.Advertise == "" && (host == "" || net.ParseIP(host).IsUnspecified()) {
		return fmt.Errorf("cluster: at %q this node listens on all addresses of the machine; Advertise says by which of them the others reach it", o.Listen)
	}
	addresses := slices.Concat([]string{o.Listen}, o.Peers)
	if o.Advertise != "" {
		if host, err := checkAddress("Advertise", o.Advertise); err != nil {
			return err
		} else if host == "" {
			return fmt.Errorf("cluster: Advertise %q has no host", o.Advertise)
		}
		addresses = append(addresses, o.Advertise)
	}
	for i, peer := range o.Peers {
		if host, err := checkAddress("Peers", peer); err != nil {
			return err
		} else if host == "" {
			return fmt.Errorf("cluster: %q in Peers has no host", peer)
		}
		if slices.ContainsFunc(o.Peers[:i], func(other string) bool { return strings.EqualFold(other, peer) }) {
			return fmt.Errorf("cluster: %q is twice in Peers", peer)
		}
	}
	if o.Secret == "" && o.TLS == nil && !o.Insecure {
		for _, a := range addresses {
			host, _, _ := net.SplitHostPort(a)
			if !loopback(host) {
				return fmt.Errorf("cluster: %q can be reached from other machines: give all nodes the same Secret, or TLS, or set Insecure", a)
			}
		}
	}
	return o.checkReplicas()
}

func (o *Options) checkReplicas() error {
	if n := o.nodes(); o.Replicas > n {
		return fmt.Errorf("cluster: %d Replicas, and Peers has %d nodes with this one", o.Replicas, n)
	}
	return nil
}

// checkAddress returns the host of an address, which has a port.
func checkAddress(what, address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("cluster: %q in %s is not host:port: %w", address, what, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("cluster: %q in %s has no port from 1 to 65535", address, what)
	}
	return host, nil
}

// loopback says whether a host is this machine, and cannot be reached from others. Names but localhost are not looked up: they may mean something else tomorrow.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// address is where the other nodes reach this one.
func (o *Options) address() string {
	if o.Advertise != "" {
		return o.Advertise
	}
	return o.Listen
}

// others are the peers without this node.
func (o *Options) others() []string {
	var others []string
	for _, peer := range o.Peers {
		if !strings.EqualFold(peer, o.address()) && !strings.EqualFold(peer, o.Listen) {
			others = append(others, peer)
		}
	}
	return others
}

// nodes is how many nodes the cluster has by Peers, with this one.
func (o *Options) nodes() int { return len(o.others()) + 1 }
