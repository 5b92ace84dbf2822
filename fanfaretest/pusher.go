package fanfaretest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/internal/fault"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/transporttest"
)

// Options adjust what [New] makes. The zero value works.
type Options struct {
	// Fanfare are the options of the Pusher. Where Online is set, that is the host's own transport: it gets every delivery that the Recorder is not
	// told to spoil (by its OnDeliver, which the test then leaves alone), as does DeliverBatch, for one user at a time, if it is a [transport.Batcher]; what it returns nil for is recorded, and whether its clients acknowledge is its own word. It
	// must work after Close where the test goes on with [Pusher.Reopen]. To Mobile the phones of Platforms are added.
	Fanfare fanfare.Options
	// Dir is the directory, which stays when the test ends. Default: a temporary one.
	Dir string
	// ClientAcks makes the Recorder a [transport.ClientAcker]: a message stays pending until the test, for the client, calls [fanfare.Pusher.Ack].
	ClientAcks bool
	// Platforms are those of the phones. Empty, and not nil, is none. Default: "apns" and "fcm", without those of Fanfare.Mobile.
	Platforms []string
	// Patience is how long a Wait method waits at most. Default: until shortly before the test's deadline, and in a bubble of testing/synctest for 8 days of its time.
	Patience time.Duration
}

// Pusher is a [fanfare.Pusher] in a test, the transports that record what it does, and what can be done to it. Its methods are safe for concurrent use, but for
// [Pusher.Reopen] and [Pusher.Crash]: these put a new fanfare.Pusher in the place of the old one.
type Pusher struct {
	*fanfare.Pusher
	// Recorder is the transport of connected users. It outlives a restart, as does what it was told to do.
	Recorder *transporttest.Recorder
	// Disk is what the directory is on.
	Disk *Disk

	t        testing.TB // of New
	o        Options
	home     string // for what is temporary
	dir      string
	services map[string]*transporttest.Phones
	news     news
	life     *life   // the process, so to speak, of the fanfare.Pusher
	past     []*life // those before

	mu       sync.Mutex
	sessions map[string][]*fanfare.Session // by Login
	tokens   map[string]map[device]bool    // of each user, which notifications were sent to
	down     map[string]int                // outages, by platform
}

// New opens a Pusher. At the end of the test it is closed, unless the host has done so, and its directory checked, as [fanfare.Pusher.Check] does: what is not as it should be fails
// the test, also a call of a transport that has not returned by then. There is at most one Options.
func New(t testing.TB, o ...Options) *Pusher {
	t.Helper()
	p := &Pusher{
		Recorder: new(transporttest.Recorder), Disk: new(Disk), t: t, services: make(map[string]*transporttest.Phones),
		sessions: make(map[string][]*fanfare.Session), tokens: make(map[string]map[device]bool), down: make(map[string]int),
	}
	switch len(o) {
	case 0:
	case 1:
		p.o = o[0]
	default:
		t.Fatalf("fanfaretest: New was given %d Options, of which it takes one", len(o))
	}
	p.home = t.TempDir() // which goes after what the cleanup below does
	if p.dir = p.o.Dir; p.dir == "" {
		p.dir = filepath.Join(p.home, "fanfare")
	}
	if p.o.Platforms == nil {
		for _, platform := range []string{"apns", "fcm"} {
			if !slices.ContainsFunc(p.o.Fanfare.Mobile, func(m transport.Mobile) bool { return m.Platform() == platform }) {
				p.o.Platforms = append(p.o.Platforms, platform)
			}
		}
	}
	for _, platform := range p.o.Platforms {
		p.services[platform] = transporttest.NewPhones(platform)
	}
	p.open(t)
	t.Cleanup(p.end)
	return p
}

// open begins a life of the Pusher in its directory.
func (p *Pusher) open(t testing.TB) {
	t.Helper()
	l := newLife(p)
	o := p.o.Fanfare
	o.Hooks = l.hooks(o.Hooks)
	o.Online = l.online(o.Online, p.o.ClientAcks)
	o.Mobile = slices.Clone(o.Mobile)
	for _, platform := range p.o.Platforms {
		o.Mobile = append(o.Mobile, &service{l, p.services[platform]})
	}
	var disk fault.Disk
	fault.Under(&o, &disk)
	opened, err := open(p.dir, o)
	if err != nil {
		t.Fatalf("fanfaretest: open %s: %v", p.dir, err)
	}
	p.Pusher, p.life, p.Disk.under = opened, l, &disk
}

// open keeps other goroutines from starting processes meanwhile: until it execs, a new one holds the lock of a file that was just closed, and in a bubble, whose
// time is not real, opening would not wait for it.
func open(dir string, o fanfare.Options) (*fanfare.Pusher, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return fanfare.Open(dir, o)
}

// Dir is the directory of the Pusher now: after [Pusher.Crash] another one.
func (p *Pusher) Dir() string { return p.dir }

// Service returns the phone notification service of a platform, one of Options.Platforms, with all its phones. It outlives a restart.
func (p *Pusher) Service(platform string) *transporttest.Phones {
	s := p.services[platform]
	if s == nil {
		panic(fmt.Sprintf("fanfaretest: there is no service of platform %q; there are %q", platform, p.o.Platforms))
	}
	return s
}

// MustRegister registers users, or ends the test.
func (p *Pusher) MustRegister(t testing.TB, users ...string) {
	t.Helper()
	if err := p.Register(context.Background(), users...); err != nil {
		t.Fatalf("fanfaretest: register %s: %v", list(users), err)
	}
}

// MustPush pushes a message, or ends the test.
func (p *Pusher) MustPush(t testing.TB, m fanfare.Message) *fanfare.Task {
	t.Helper()
	task, err := p.Push(context.Background(), m)
	if err != nil {
		t.Fatalf("fanfaretest: push %s: %v", quoted(m.Body), err)
	}
	return task
}

// Login connects each of the users once, for tests in which the host's own code does not. [fanfare.Pusher.Connect] makes those known who were not.
func (p *Pusher) Login(t testing.TB, users ...string) {
	t.Helper()
	for _, user := range users {
		s, err := p.Connect(context.Background(), user)
		if err != nil {
			t.Fatalf("fanfaretest: connect %s: %v", user, err)
		}
		p.mu.Lock()
		p.sessions[user] = append(p.sessions[user], s)
		p.mu.Unlock()
	}
}

// Logout ends every connection that Login has made for the users. That of one who has none ends the test.
func (p *Pusher) Logout(t testing.TB, users ...string) {
	t.Helper()
	for _, user := range users {
		p.mu.Lock()
		sessions := p.sessions[user]
		delete(p.sessions, user)
		p.mu.Unlock()
		if len(sessions) == 0 {
			t.Fatalf("fanfaretest: %s has no connection by Login", user)
		}
		for _, s := range sessions {
			_ = s.Close() // always nil
		}
	}
}
