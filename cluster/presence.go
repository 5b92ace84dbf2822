package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/internal/peers"
	"github.com/nats-io/nats.go"
)

var _ peers.Presence = (*presence)(nil)

// presence is who is connected to which node of a cluster. Each node tells the others what has changed every tellEvery, and beats every beatEvery, with the
// number of what it has told: who has missed some of it, or has begun since, asks for all. Nothing of it is stored.
//
// What is known of the others is some tenths of a second old, and of a node that cannot be reached it is as old as silence allows. A node that has not been heard
// of for goneAfter counts as gone, and nobody as connected to it; when it is heard again it is asked for all. Only time in which this node listened counts, by
// its own clock: after a pause of the process the others have as long as ever to be heard.
type presence struct {
	nc     *nats.Conn
	name   string
	logger *slog.Logger
	toAll  string // the subject
	prefix string // of the subjects of one process

	// These are changed by tests, before Start.
	tellEvery    time.Duration
	beatEvery    time.Duration
	goneAfter    time.Duration
	retry        time.Duration          // after which what is not answered is asked again
	learn        time.Duration          // how long Start listens, at most, before it returns
	mostOrdinals int                    // in a round
	lose         func(h *wireHead) bool // a message that has come in
	turned       func()                 // called by the loop when something may have changed

	// expected are the names of the other nodes, those that are gone too and without those that are just beginning for the first time, and least is how many others there are at
	// least. When it is known who is connected to each, Start returns. Nil or none, and 0: that nobody can say.
	expected func() []string
	least    int

	started time.Time
	epoch   uint64
	node    uint64
	settle  func(ordinals []uint32, done func(position uint64))

	blocks    [1 << 16]atomic.Pointer[presenceBlock]
	elsewhere atomic.Int64             // users who are connected to others, and not here
	nodes     atomic.Pointer[[]uint64] // the others' proposers; never nil
	dirtyMu   sync.Mutex
	dirty     []uint16 // blocks with something to tell

	inbox   chan *nats.Msg
	subs    []*nats.Subscription
	wake    chan struct{}
	quit    chan struct{}
	learnt  chan struct{} // closed when it is known who is connected to each of the expected nodes
	running sync.WaitGroup

	mu        sync.Mutex
	begun     bool
	closed    bool
	waiting   []*settleRound // not yet begun, the last one still filling
	answering map[question]struct{}
	answers   []answer

	// The rest is the loop's.
	others    map[string]*other
	learning  bool            // there are nodes that are expected and not known yet
	missing   map[string]bool // of those that are expected by name
	number    uint64          // of the last changes that were told
	all       [][]byte        // the sections of all parts, as of number; nil if not made
	rounds    map[uint64]*settleRound
	lastID    uint64
	lastRound time.Time
	pacing    time.Duration
	lastTick  time.Time
	// helloUntil is how long the hello is repeated. Of nodes that begin at the same time, each may say it before the servers have told each other that the other one listens.
	helloUntil time.Time
	sinceBeat  time.Duration
	warned     map[string]bool // once is enough
}

// presenceBlock is a block's users, here and elsewhere. Elsewhere is read without a lock, for it is asked for each user of a fan-out to phones.
type presenceBlock struct {
	mu        sync.Mutex
	here      *words // nil before the first
	dirty     bool
	told      *words // what of here the others have been told; the loop's
	elsewhere [wordsOfABlock]atomic.Uint64
}

// other is another node, as far as is known here.
type other struct {
	name   string
	node   uint64
	epoch  uint64
	born   time.Time     // when its process began, at the earliest that it may have been
	rivals []uint64      // epochs under the same name that this one has replaced
	silent time.Duration // for how long it has not been heard

	number uint64 // the changes that users has
	known  bool   // false: some are missing, and all parts have been asked for
	asked  time.Time
	users  map[uint16]*roaring.Bitmap // low halves of ordinals, by block

	nextPart   uint64 // of those that come in
	partNumber uint64
	parts      map[uint16]*roaring.Bitmap
}

const (
	maxOthers = 256 // nodes; those beyond are not heard
	maxRivals = 16  // of one name; the oldest are forgotten
)

// newPresence returns the presence of a node of a cluster, both by name. Its connection stays the caller's, and is closed after it; several presences may share
// one. Nothing is told or heard before Start.
func newPresence(nc *nats.Conn, cluster, name string, logger *slog.Logger) *presence {
	p := &presence{
		nc: nc, name: name, logger: logger, prefix: "fanfare." + cluster + ".presence.",
		tellEvery: 100 * time.Millisecond, beatEvery: time.Second, goneAfter: 5 * time.Second, retry: time.Second, learn: 300 * time.Millisecond,
		mostOrdinals: maxOrdinals,
		started:      time.Now(), epoch: rand.Uint64(),
		inbox: make(chan *nats.Msg, 4096), wake: make(chan struct{}, 1), quit: make(chan struct{}), learnt: make(chan struct{}), missing: make(map[string]bool),
		answering: make(map[question]struct{}), others: make(map[string]*other), rounds: make(map[uint64]*settleRound), warned: make(map[string]bool),
	}
	p.toAll = p.prefix + "all"
	p.nodes.Store(new([]uint64))
	return p
}

func (p *presence) toOne(epoch uint64) string { return fmt.Sprintf("%s%016x", p.prefix, epoch) }

// Start is part of [peers.Presence]. It announces this node, asks the others to answer, again and again, and gives them a short time, 300 ms or less when all that are expected have said who is connected to them: a node that is up, can be reached,
// and answers within it is known when Start returns. One that does not is known once it beats, which each does once a second; until then its users are not
// elsewhere, and Settle does not ask it. Start is called once.
func (p *presence) Start(node uint64, settle func(ordinals []uint32, done func(position uint64))) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return fanfare.ErrClosed
	case p.begun:
		return errors.New("cluster: presence has been started")
	case len(p.name) == 0 || len(p.name) > maxName:
		return fmt.Errorf("cluster: a node's name of %d bytes", len(p.name))
	}
	p.node, p.settle = node, settle
	for _, subject := range []string{p.toAll, p.toOne(p.epoch)} {
		sub, err := p.nc.ChanSubscribe(subject, p.inbox)
		if err != nil {
			p.unsubscribe()
			return fmt.Errorf("cluster: listen to the other nodes: %w", err)
		}
		p.subs = append(p.subs, sub)
	}
	if err := p.nc.FlushTimeout(5 * time.Second); err != nil { // whoever answers the hello is heard
		p.unsubscribe()
		return fmt.Errorf("cluster: listen to the other nodes: %w", err)
	}
	if p.expected != nil {
		for _, name := range p.expected() {
			p.missing[name] = true
		}
	}
	p.learning = len(p.missing) > 0 || p.least > 0
	p.begun, p.lastTick = true, time.Now()
	p.helloUntil = p.lastTick.Add(p.learn)
	p.tell(kindHello, p.toAll, binary.AppendUvarint(nil, p.number))
	p.running.Go(p.loop)
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-time.After(p.learn):
	case <-p.learnt:
	case <-p.quit:
	}
	return nil
}

func (p *presence) unsubscribe() {
	for _, sub := range p.subs {
		_ = sub.Unsubscribe() // fails when the connection is closed, and then nothing comes
	}
	p.subs = nil
}

// Close is part of [peers.Presence]. It says goodbye, if the connection is up, and waits for the settle function that Start got, if that is just being called.
func (p *presence) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	begun := p.begun
	close(p.quit)
	p.mu.Unlock()
	p.running.Wait()
	p.endRounds()
	if !begun {
		return nil
	}
	p.unsubscribe()
	p.tell(kindGoodbye, p.toAll, nil)
	for _, o := range p.others {
		p.forget(o)
	}
	if p.nc.IsConnected() {
		if err := p.nc.FlushTimeout(time.Second); err != nil {
			return fmt.Errorf("cluster: say goodbye: %w", err)
		}
	}
	return nil
}

// block returns a block, which it makes if it is not there.
func (p *presence) block(n uint16) *presenceBlock {
	b := p.blocks[n].Load()
	if b == nil {
		p.blocks[n].CompareAndSwap(nil, new(presenceBlock))
		b = p.blocks[n].Load()
	}
	return b
}

// Joined is part of [peers.Presence].
func (p *presence) Joined(ordinal uint32) { p.set(ordinal, true) }

// Left is part of [peers.Presence].
func (p *presence) Left(ordinal uint32) { p.set(ordinal, false) }

func (p *presence) set(ordinal uint32, here bool) {
	n, word, bit := uint16(ordinal>>16), uint16(ordinal)/64, uint64(1)<<(ordinal%64)
	b := p.block(n)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.here == nil {
		b.here, b.told = new(words), new(words)
	}
	if b.here[word]&bit != 0 == here {
		return
	}
	b.here[word] ^= bit
	if b.elsewhere[word].Load()&bit != 0 {
		if here {
			p.elsewhere.Add(-1)
		} else {
			p.elsewhere.Add(1)
		}
	}
	if !b.dirty {
		b.dirty = true
		p.dirtyMu.Lock()
		p.dirty = append(p.dirty, n)
		p.dirtyMu.Unlock()
	}
}

// Elsewhere is part of [peers.Presence].
func (p *presence) Elsewhere(ordinal uint32) bool {
	b := p.blocks[ordinal>>16].Load()
	return b != nil && b.elsewhere[uint16(ordinal)/64].Load()&(1<<(ordinal%64)) != 0
}

// Others is part of [peers.Presence].
func (p *presence) Others() int { return int(p.elsewhere.Load()) }

// Nodes is part of [peers.Presence].
func (p *presence) Nodes() []uint64 { return slices.Clone(*p.nodes.Load()) }

// loop hears the others and tells them. It is the only goroutine that does, so that what it tells arrives in order.
func (p *presence) loop() {
	ticker := time.NewTicker(p.tellEvery)
	defer ticker.Stop()
	pace := time.NewTimer(time.Hour)
	defer pace.Stop()
	for {
		select {
		case m := <-p.inbox:
			p.hear(m.Data)
			p.learnMissing()
		case <-ticker.C:
			p.tick()
		case <-p.wake:
		case <-pace.C:
		case <-p.quit:
			return
		}
		if again := p.turn(); again > 0 {
			pace.Reset(again)
		}
		if p.turned != nil {
			p.turned()
		}
	}
}

// learnMissing notes when the expected nodes are there, with all who are connected to them.
func (p *presence) learnMissing() {
	if !p.learning {
		return
	}
	known := 0
	for name, o := range p.others {
		if o.known {
			delete(p.missing, name)
			known++
		}
	}
	if len(p.missing) == 0 && known >= p.least {
		p.learning = false
		close(p.learnt)
	}
}

// tell sends a message. What cannot be sent is lost, as what is lost on the way: the number of the next beat shows it.
func (p *presence) tell(k wireKind, subject string, body []byte) {
	h := wireHead{k, p.name, p.node, p.epoch, uint64(time.Since(p.started).Milliseconds())}
	_ = p.nc.Publish(subject, append(h.append(make([]byte, 0, 64+len(p.name)+len(body))), body...))
}

// tick tells what has changed, and finds who is gone.
func (p *presence) tick() {
	p.tellChanges()
	now := time.Now()
	passed := min(now.Sub(p.lastTick), max(2*p.tellEvery, p.goneAfter/5)) // the rest of it nobody listened
	p.lastTick = now
	if now.Before(p.helloUntil) {
		p.tell(kindHello, p.toAll, binary.AppendUvarint(nil, p.number))
	}
	if p.sinceBeat += passed; p.sinceBeat >= p.beatEvery {
		p.sinceBeat = 0
		p.tell(kindBeat, p.toAll, binary.AppendUvarint(nil, p.number))
	}
	for _, o := range p.others {
		if o.silent += passed; o.silent >= p.goneAfter {
			p.logger.Warn("cluster: a node has not been heard of, and counts as gone", "node", o.name, "for", o.silent)
			p.forget(o)
		} else if !o.known && now.Sub(o.asked) >= p.retry {
			p.ask(o)
		}
	}
	p.askAgain()
}

// tellChanges tells who has joined and left since the last time.
func (p *presence) tellChanges() {
	p.dirtyMu.Lock()
	dirty := p.dirty
	p.dirty = nil
	p.dirtyMu.Unlock()
	slices.Sort(dirty)
	var s sheets
	for _, n := range dirty {
		b := p.block(n)
		var joined, left words
		var some uint64
		b.mu.Lock()
		b.dirty = false
		for i, here := range b.here {
			joined[i], left[i] = here&^b.told[i], b.told[i]&^here
			some |= joined[i] | left[i]
		}
		*b.told = *b.here
		b.mu.Unlock()
		if some != 0 {
			s.add(n, &joined, &left)
		}
	}
	s.end()
	for _, sections := range s.done {
		p.number++
		p.all = nil
		p.tell(kindChanges, p.toAll, append(binary.AppendUvarint(nil, p.number), sections...))
	}
}

// tellAll tells one process who is connected here, as of the changes that have been told.
func (p *presence) tellAll(epoch uint64) {
	if p.all == nil {
		var s sheets
		for n := range p.blocks {
			b := p.blocks[n].Load()
			if b == nil {
				continue
			}
			b.mu.Lock()
			told := b.told
			b.mu.Unlock()
			if told != nil && *told != (words{}) {
				s.add(uint16(n), told, nil)
			}
		}
		if s.end(); s.done == nil {
			s.done = [][]byte{{0}}
		}
		p.all = s.done
	}
	for i, sections := range p.all {
		body := binary.AppendUvarint(nil, p.number)
		body = binary.AppendUvarint(body, uint64(i))
		body = binary.AppendUvarint(body, uint64(len(p.all)))
		p.tell(kindPart, p.toOne(epoch), append(body, sections...))
	}
}

// hear takes a message of another node, or anybody's.
func (p *presence) hear(data []byte) {
	h, r, err := readHead(data)
	if err == nil && (h.epoch == p.epoch || p.lose != nil && p.lose(&h)) {
		return
	}
	if err == nil {
		err = p.take(&h, r)
	}
	switch {
	case err == nil:
	case errors.Is(err, errVersion):
		p.warn("version", slog.LevelWarn, "cluster: presence of another version is ignored", "error", err)
	default:
		p.warn("malformed", slog.LevelWarn, "cluster: presence that cannot be read is ignored", "error", err, "node", h.name)
	}
}

// warn logs something once.
func (p *presence) warn(what string, level slog.Level, text string, args ...any) {
	if len(p.warned) < 1000 && !p.warned[what] {
		p.warned[what] = true
		p.logger.Log(context.Background(), level, text, args...)
	}
}

func (p *presence) take(h *wireHead, r *wireReader) error {
	if h.name == p.name {
		if h.kind == kindBeat { // and not the last words of the process before this one
			p.warn(fmt.Sprintf("rival %x", h.epoch), slog.LevelError, "cluster: another process runs under the name of this node, and is ignored", "node", h.name)
		}
		return nil
	}
	switch h.kind {
	case kindHello, kindBeat, kindChanges:
		number := r.uvarint(1<<64 - 1)
		if r.bad {
			return errMalformed
		}
		var list []section
		if h.kind == kindChanges {
			var err error
			if list, err = r.sections(); err != nil {
				return err
			}
		}
		o := p.meet(h)
		if o == nil {
			return nil
		}
		if h.kind == kindHello {
			p.tell(kindBeat, p.toOne(h.epoch), binary.AppendUvarint(nil, p.number))
		}
		p.follow(o, number, list, h.kind == kindChanges)
		return nil
	case kindAsk:
		p.heard(h)
		p.tellAll(h.epoch)
		return nil
	case kindGoodbye:
		if o := p.heard(h); o != nil {
			p.logger.Info("cluster: a node has said goodbye", "node", o.name)
			p.forget(o)
		}
		return nil
	case kindPart:
		return p.takePart(p.heard(h), r)
	case kindSettle:
		p.heard(h)
		id := r.uvarint(1<<64 - 1)
		ordinals, err := r.ordinals()
		if err == nil {
			p.settleFor(question{h.epoch, id}, ordinals)
		}
		return err
	case kindSettled:
		p.heard(h)
		id, position := r.uvarint(1<<64-1), r.uvarint(1<<64-1)
		if r.bad {
			return errMalformed
		}
		p.answered(h.epoch, id, position)
		return nil
	}
	return nil // of a later release
}

// heard returns who has sent a message, if known.
func (p *presence) heard(h *wireHead) *other {
	o := p.others[h.name]
	if o == nil || o.epoch != h.epoch {
		return nil
	}
	o.silent = 0
	return o
}

// meet returns who has sent a message, and gets to know it if need be. Of two processes with one name it is the one that began later, and nil for the other.
func (p *presence) meet(h *wireHead) *other {
	if o := p.heard(h); o != nil {
		return o
	}
	born := time.Now().Add(-time.Duration(h.uptime) * time.Millisecond)
	o := p.others[h.name]
	var rivals []uint64
	if o != nil {
		if slices.Contains(o.rivals, h.epoch) || born.Before(o.born) {
			p.warn(fmt.Sprintf("rival %x", h.epoch), slog.LevelError, "cluster: two processes run under the name of one node; the one that began earlier is ignored", "node", h.name)
			return nil
		}
		p.logger.Info("cluster: a node has begun anew", "node", h.name)
		rivals = append(o.rivals[max(0, len(o.rivals)+1-maxRivals):], o.epoch)
		p.forget(o)
	} else if len(p.others) >= maxOthers {
		p.warn("too many", slog.LevelError, "cluster: there are too many nodes; further ones are ignored", "node", h.name)
		return nil
	} else {
		p.logger.Info("cluster: a node is there", "node", h.name)
	}
	// Number 0 is nobody, so that a node that has just begun need not be asked.
	o = &other{name: h.name, node: h.node, epoch: h.epoch, born: born, rivals: rivals, known: true, users: make(map[uint16]*roaring.Bitmap)}
	p.others[h.name] = o
	p.listNodes()
	return o
}

// forget removes a node which is gone: its users are nobody's, and nothing of it is waited for.
func (p *presence) forget(o *other) {
	delete(p.others, o.name)
	p.listNodes()
	for n, users := range o.users {
		delete(o.users, n)
		p.change(n, nil, users)
	}
	for _, r := range p.rounds {
		if _, waits := r.wait[o.epoch]; waits {
			p.waitNoMore(r, o.epoch)
		}
	}
}

func (p *presence) listNodes() {
	nodes := make([]uint64, 0, len(p.others))
	for _, name := range slices.Sorted(maps.Keys(p.others)) {
		nodes = append(nodes, p.others[name].node)
	}
	p.nodes.Store(&nodes)
}

// follow applies changes of a node that come next, and asks for all if some are missing.
func (p *presence) follow(o *other, number uint64, list []section, isChanges bool) {
	switch {
	case !o.known, number <= o.number: // they come with all parts, or are known
	case isChanges && number == o.number+1:
		o.number = number
		for _, s := range list {
			p.apply(o, s)
		}
	default:
		o.known = false
		p.ask(o)
	}
}

func (p *presence) ask(o *other) {
	o.asked, o.nextPart, o.parts = time.Now(), 0, nil
	p.tell(kindAsk, p.toOne(o.epoch), nil)
}

func (p *presence) apply(o *other, s section) {
	users := o.users[s.block]
	if users == nil {
		users = roaring.New()
		o.users[s.block] = users
	}
	if s.joined != nil {
		users.Or(s.joined)
	}
	if s.left != nil {
		users.AndNot(s.left)
	}
	if users.IsEmpty() {
		delete(o.users, s.block)
	}
	p.change(s.block, s.joined, s.left)
}

// takePart collects all parts of what a node has been asked for. They come in order, and with nothing lost, or are asked for again.
func (p *presence) takePart(o *other, r *wireReader) error {
	number, index, count := r.uvarint(1<<64-1), r.uvarint(maxParts), r.uvarint(maxParts)
	list, err := r.sections()
	if err != nil {
		return err
	}
	if o == nil || o.known {
		return nil
	}
	if index == 0 {
		o.nextPart, o.partNumber, o.parts = 0, number, make(map[uint16]*roaring.Bitmap)
	}
	if o.parts == nil || index != o.nextPart || number != o.partNumber {
		return nil
	}
	o.asked = time.Now() // it is on its way
	for _, s := range list {
		if s.joined != nil {
			o.parts[s.block] = s.joined
		}
	}
	if o.nextPart++; o.nextPart < count {
		return nil
	}
	before := o.users
	o.users, o.parts = o.parts, nil
	o.number, o.known = number, true
	for n, users := range o.users {
		p.change(n, users, before[n])
		delete(before, n)
	}
	for n, users := range before {
		p.change(n, nil, users)
	}
	return nil
}

// change brings up to date who of a block is elsewhere: those who are new on a node, and without those who may have left it and are on none. Who is both is on it.
func (p *presence) change(n uint16, joined, left *roaring.Bitmap) {
	var in, out words
	if left != nil && !left.IsEmpty() {
		left = left.Clone()
		for _, o := range p.others {
			if users := o.users[n]; users != nil {
				left.AndNot(users)
			}
		}
		left.WriteDenseTo(out[:])
	}
	if joined != nil {
		joined.WriteDenseTo(in[:])
	}
	b := p.block(n)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range in {
		if in[i]|out[i] == 0 {
			continue
		}
		was := b.elsewhere[i].Load()
		is := was&^out[i] | in[i]
		if was == is {
			continue
		}
		b.elsewhere[i].Store(is)
		var here uint64
		if b.here != nil {
			here = b.here[i]
		}
		p.elsewhere.Add(int64(bits.OnesCount64(is&^here)) - int64(bits.OnesCount64(was&^here)))
	}
}
