package faulttest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/internal/fault"
	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/fanfare-im/fanfare/transport"
)

// childEnv has the configuration of a node, for a process that is to be one.
const childEnv = "FANFARE_FAULT_NODE"

func TestMain(m *testing.M) {
	if s := os.Getenv(childEnv); s != "" {
		if err := serve(s); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// config is what a node's process is told.
type config struct {
	Node       int
	Life       int
	Dir        string
	Listen     string
	Advertise  string
	Peers      []string
	ClientAcks bool
	Timeout    time.Duration
	Skew       time.Duration // of its clock
}

// request is one line to a node.
type request struct {
	ID       int
	Do       string
	Node     int `json:"-"`
	User     string
	Fact     string
	Key      string
	Messages []string
	Session  int
	Skew     time.Duration
}

// reply is its answer.
type reply struct {
	ID         int
	Begin, End time.Duration
	Outcome    outcome
	Err        string
	Message    string
	Again      bool
	Rest       *rest
}

// line is what a node writes: an answer, or what was delivered.
type line struct {
	Reply    *reply    `json:",omitempty"`
	Delivery *delivery `json:",omitempty"`
}

// clock reads the one clock of all processes of this machine.
func clock() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return time.Duration(now.Nano())
}

// process is a node within its process.
type process struct {
	config
	pusher *fanfare.Pusher
	disk   *fault.Disk
	skew   atomic.Int64

	mu       sync.Mutex
	out      *json.Encoder
	sessions map[string]*session
}

type session struct {
	number int
	open   *fanfare.Session
}

// serve is a node, until its input ends.
func serve(env string) error {
	p := &process{disk: new(fault.Disk), out: json.NewEncoder(os.Stdout), sessions: make(map[string]*session)}
	if err := json.Unmarshal([]byte(env), &p.config); err != nil {
		return err
	}
	p.skew.Store(int64(p.Skew))
	o := fanfare.Options{
		Online:       &clients{p},
		Logger:       slog.New(slog.NewTextHandler(os.Stderr, nil)),
		AckTimeout:   2 * time.Second,
		DeltaEntries: 200, // so that there are folds
	}
	fault.Under(&o, p.disk)
	peers.Clock(&o, func() time.Time { return time.Now().Add(time.Duration(p.skew.Load())) })
	var err error
	if p.pusher, err = open(context.Background(), p.config, o); err != nil {
		return err
	}
	p.say(line{Reply: &reply{}})
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return err
		}
		if r.Do == "end" {
			break
		}
		go p.answer(&r)
	}
	return p.pusher.Close(context.Background())
}

func (p *process) say(l line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.out.Encode(l); err != nil {
		os.Exit(1) // there is nobody to be a node for
	}
}

func (p *process) answer(r *request) {
	a := &reply{ID: r.ID, Begin: clock()}
	err := p.do(context.Background(), r, a)
	a.End = clock()
	a.Outcome = outcomeOf(err)
	if err != nil {
		a.Err = err.Error()
	}
	p.say(line{Reply: a})
}

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return done
	case errors.Is(err, fanfare.ErrOutcomeUnknown):
		return unknown
	case errors.Is(err, fanfare.ErrUnavailable), errors.Is(err, fanfare.ErrNoRoom), errors.Is(err, fanfare.ErrUnknownTask), errors.Is(err, fanfare.ErrUnknownUser), errors.Is(err, fanfare.ErrClosed):
		return refused
	}
	return strange
}

// The fact of this name is an attribute with this value; others are tags.
const (
	attribute = "shade"
	value     = "dark"
)

func audience(fact string) fanfare.Audience {
	switch fact {
	case exists:
		return fanfare.All()
	case value:
		return fanfare.Attr(attribute, value)
	}
	return fanfare.Tag(fact)
}

func (p *process) do(ctx context.Context, r *request, a *reply) error {
	switch r.Do {
	case "register":
		return p.pusher.Register(ctx, r.User)
	case "name":
		return p.pusher.SetAttributeNames(ctx, map[int]string{0: attribute})
	case string(set):
		if r.Fact == value {
			return p.pusher.SetAttributes(ctx, r.User, map[string]string{attribute: value})
		}
		return p.pusher.AddTags(ctx, r.User, r.Fact)
	case string(unset):
		if r.Fact == value {
			return p.pusher.RemoveAttributes(ctx, r.User, attribute)
		}
		return p.pusher.RemoveTags(ctx, r.User, r.Fact)
	case string(push):
		task, err := p.pusher.Push(ctx, fanfare.Message{Body: []byte(r.Key), To: audience(r.Fact), Lifetime: time.Hour, Key: r.Key})
		if err == nil {
			a.Message, a.Again = task.ID, task.Duplicate
		}
		return err
	case string(connect):
		return p.connect(ctx, r)
	case string(disconnect):
		p.disconnect(r)
		return nil
	case string(ack):
		return p.pusher.Ack(ctx, r.User, r.Messages[0], r.Messages[1:]...)
	case "check":
		return p.pusher.Check(ctx)
	case "rest":
		var err error
		a.Rest, err = p.rest(ctx)
		return err
	case "fill":
		p.disk.Fill()
	case "free":
		p.disk.Free()
	case "skew":
		p.skew.Store(int64(r.Skew))
	default:
		return fmt.Errorf("no such request: %s", r.Do)
	}
	return nil
}

// connect is known to Deliver before it is done, as the first call may come before Connect returns.
func (p *process) connect(ctx context.Context, r *request) error {
	s := &session{number: r.Session}
	p.mu.Lock()
	p.sessions[r.User] = s
	p.mu.Unlock()
	open, err := p.pusher.Connect(ctx, r.User)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		delete(p.sessions, r.User)
		return err
	}
	s.open = open
	return nil
}

func (p *process) disconnect(r *request) {
	p.mu.Lock()
	s := p.sessions[r.User]
	delete(p.sessions, r.User)
	p.mu.Unlock()
	if s != nil {
		s.open.Close()
	}
}

// clients are those who are connected to this node. They have what Deliver has said.
type clients struct{ p *process }

var errGone = errors.New("not connected")

func (c *clients) ClientAcks() bool { return c.p.ClientAcks }

func (c *clients) Deliver(_ context.Context, user string, m *transport.Message) error {
	begin := clock()
	c.p.mu.Lock()
	s := c.p.sessions[user]
	c.p.mu.Unlock()
	if s == nil {
		return errGone
	}
	c.p.say(line{Delivery: &delivery{
		Node: c.p.Node, Life: c.p.Life, User: user, Session: s.number, Message: m.ID, Seq: m.Sequence, Key: string(m.Body), Begin: begin, End: clock(),
	}})
	return nil
}

// rest describes what this node has, in words that are the same on all.
func (p *process) rest(ctx context.Context) (*rest, error) {
	type task struct {
		ID       string
		Progress fanfare.Progress
	}
	type user struct {
		ID         string
		Tags       []string
		Attributes map[string]string
		Pending    []string
	}
	var all struct {
		Members map[string][]string
		Users   []user
		Tasks   []task
	}
	all.Members = make(map[string][]string)
	for _, fact := range facts {
		for id, err := range p.pusher.Members(ctx, audience(fact)) {
			if err != nil {
				return nil, err
			}
			all.Members[fact] = append(all.Members[fact], id)
		}
	}
	r := &rest{Node: p.Node, Totals: make(map[string]int64)}
	for id, err := range p.pusher.Members(ctx, fanfare.All()) {
		if err != nil {
			return nil, err
		}
		u := user{ID: id}
		var err error
		if u.Tags, err = p.pusher.Tags(ctx, id); err != nil {
			return nil, err
		}
		slices.Sort(u.Tags)
		if u.Attributes, err = p.pusher.Attributes(ctx, id); err != nil {
			return nil, err
		}
		for m, err := range p.pusher.Pending(ctx, id) {
			if err != nil {
				return nil, err
			}
			u.Pending = append(u.Pending, m.ID)
			r.Pending++
		}
		all.Users = append(all.Users, u)
	}
	for t, err := range p.pusher.Tasks(ctx) {
		if err != nil {
			return nil, err
		}
		progress, err := t.Progress()
		if err != nil {
			return nil, err
		}
		all.Tasks = append(all.Tasks, task{t.ID, progress})
		r.Totals[t.ID] = progress.Total
	}
	text, err := json.Marshal(all)
	r.State = string(text)
	return r, err
}
