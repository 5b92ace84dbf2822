package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/centrifugal/centrifuge"

	"github.com/fanfare-im/fanfare"
)

// The chat is the host's own, and plain: a line goes to the connections of both, and the last of each pair are kept in memory, so that who comes later, or was
// cut off, reads them. Of a server that was started again there are none.
const (
	maxLine     = 2000 // bytes
	maxLines    = 50   // of a pair
	maxPairs    = 5000 // of all; that which was quiet for longest goes
	maxPartners = 20   // whose lines a client is given
	maxPeople   = 100  // that a client is shown
)

// line is what somebody wrote.
type line struct {
	ID   int64  `json:"id"` // ascending
	From string `json:"from"`
	To   string `json:"to"`
	Text string `json:"text"`
	Time int64  `json:"time"` // milliseconds since 1970
}

// pair are two who write to each other, in order of their names.
type pair [2]string

func pairOf(a, b string) pair { return pair{min(a, b), max(a, b)} }

// chats are the lines of all pairs. The zero value has none.
type chats struct {
	mu    sync.Mutex
	last  int64 // ID
	pairs map[pair][]line
	of    map[string][]pair // a user's, the last used last
}

// add keeps a line, and gives it its ID.
func (c *chats) add(l line) line {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pairs == nil {
		c.pairs, c.of = make(map[pair][]line), make(map[string][]pair)
	}
	c.last++
	l.ID = c.last
	p := pairOf(l.From, l.To)
	lines := append(c.pairs[p], l)
	c.pairs[p] = lines[max(0, len(lines)-maxLines):]
	for _, user := range p {
		c.forget(user, p)
		c.of[user] = append(c.of[user], p)
	}
	if len(c.pairs) > maxPairs {
		c.drop()
	}
	return l
}

// drop forgets the pair that was quiet for longest.
func (c *chats) drop() {
	var quiet pair
	oldest := c.last + 1
	for p, lines := range c.pairs {
		if l := lines[len(lines)-1]; l.ID < oldest {
			quiet, oldest = p, l.ID
		}
	}
	delete(c.pairs, quiet)
	for _, user := range quiet {
		c.forget(user, quiet)
	}
}

func (c *chats) forget(user string, p pair) {
	rest := slices.DeleteFunc(c.of[user], func(q pair) bool { return q == p })
	if len(rest) == 0 {
		delete(c.of, user)
		return
	}
	c.of[user] = rest
}

// lines are those of a user with the last few partners, in order.
func (c *chats) lines(user string) []line {
	c.mu.Lock()
	defer c.mu.Unlock()
	pairs := c.of[user]
	out := []line{}
	for _, p := range pairs[max(0, len(pairs)-maxPartners):] {
		out = append(out, c.pairs[p]...)
	}
	slices.SortFunc(out, func(a, b line) int { return int(a.ID - b.ID) })
	return out
}

// refusal is an error that the page shows.
func refusal(text string) *centrifuge.Error { return &centrifuge.Error{Code: 400, Message: text} }

// call answers what the page asks for.
func (s *server) call(client *centrifuge.Client, e centrifuge.RPCEvent) (centrifuge.RPCReply, error) {
	calls := map[string]func(ctx context.Context, user string, data []byte) (any, error){
		"say": s.say, "lines": s.lines, "people": s.people, "opened": s.opened, "profile": s.profile,
	}
	call := calls[e.Method]
	if call == nil {
		return centrifuge.RPCReply{}, centrifuge.ErrorMethodNotFound
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	v, err := call(ctx, client.UserID(), e.Data)
	if told := new(centrifuge.Error); errors.As(err, &told) {
		return centrifuge.RPCReply{}, told
	}
	if err != nil {
		s.log.Error("a call failed", "method", e.Method, "user", client.UserID(), "error", err)
		return centrifuge.RPCReply{}, centrifuge.ErrorInternal
	}
	data, err := json.Marshal(v)
	return centrifuge.RPCReply{Data: data}, err
}

// say sends a line to somebody who is known, and says whether a connection was there to take it.
func (s *server) say(ctx context.Context, user string, data []byte) (any, error) {
	var in struct{ To, Text string }
	if json.Unmarshal(data, &in) != nil || in.To == user || strings.TrimSpace(in.Text) == "" || len(in.Text) > maxLine || !utf8.ValidString(in.Text) {
		return nil, refusal("a line has 1 to 2,000 bytes, and is for somebody else")
	}
	there, err := s.p.Connected(ctx, in.To)
	if errors.Is(err, fanfare.ErrUnknownUser) || !isName(in.To) {
		return nil, refusal("nobody of that name has logged in so far")
	}
	if err != nil {
		return nil, err
	}
	l := s.chats.add(line{From: user, To: in.To, Text: in.Text, Time: time.Now().UnixMilli()})
	return map[string]any{"line": l, "there": there}, errors.Join(s.tell(in.To, "line", l), s.tell(user, "line", l))
}

// tell sends something to all connections of a user.
func (s *server) tell(user, what string, v any) error {
	data, err := json.Marshal(map[string]any{what: v})
	if err != nil {
		return err
	}
	_, err = s.node.Publish(channel(user), data)
	return err
}

func (s *server) lines(_ context.Context, user string, _ []byte) (any, error) {
	return s.chats.lines(user), nil
}

// person is somebody whom the page shows.
type person struct {
	Name   string `json:"name"`
	Online bool   `json:"online"`
}

// people are those who have logged in, some of them if they are many, without the user.
func (s *server) people(ctx context.Context, user string, _ []byte) (any, error) {
	out := []person{}
	for name, err := range s.p.Members(ctx, fanfare.All()) {
		if err != nil {
			return nil, err
		}
		if name == user {
			continue
		}
		online, err := s.p.Connected(ctx, name)
		if err != nil && !errors.Is(err, fanfare.ErrUnknownUser) {
			return nil, err
		}
		if out = append(out, person{name, online}); len(out) == maxPeople {
			break
		}
	}
	return out, nil
}

// opened notes that a user has read an announcement, here and on the user's other connections. Who knows the ID, which nobody guesses, was given the announcement.
func (s *server) opened(ctx context.Context, user string, data []byte) (any, error) {
	var in struct{ ID string }
	if json.Unmarshal(data, &in) != nil {
		return nil, refusal("an announcement is needed")
	}
	err := s.p.Opened(ctx, user, in.ID)
	if errors.Is(err, fanfare.ErrUnknownTask) { // it was forgotten meanwhile
		return struct{}{}, nil
	}
	if err != nil {
		return nil, err
	}
	return struct{}{}, s.tell(user, "opened", in.ID)
}
