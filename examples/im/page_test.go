package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// TestTwoPeople is the page with two people, who write to each other and get announcements; the connection of one is cut meanwhile.
func TestTwoPeople(t *testing.T) {
	b := openBrowser(t)
	r := start(t, t.TempDir())
	w := newWire(t, r.listener.Addr().String())
	alice, bob := b.tab("http://"+w.Addr().String()+"/", 1280, nil), b.tab(r.address, 390, nil)
	alice.shot("login")
	alice.login("alice")
	bob.login("bob")

	alice.say("bob", "Hello, Bob!")
	bob.shows("[data-count=chats]", "1")
	bob.click("#to-chats")
	bob.say("alice", "Hello yourself.")
	alice.shows("#lines", "Hello yourself.")
	bob.shot("chat-390")

	// An announcement from the page, to all, and its being read.
	bob.click("#to-announcements")
	bob.click("#sending summary")
	bob.fill("#push-text", "The lounge is open tonight.")
	bob.click("#push-form button")
	bob.shows("#push-outcome", "Sent.")
	alice.has(1)
	bob.has(1)
	bob.click("#sending summary")
	alice.click("#feed li button")
	want := []shown{{"bob", "The lounge is open tonight.", false}}
	if got := alice.feed(); !slices.Equal(got, want) {
		t.Errorf("Alice's page has %v", got)
	}
	r.acknowledged("alice", "bob")

	// The line is cut, and nobody knows it.
	w.cut(true, true)
	var texts []string
	for i := range 30 {
		texts = append(texts, fmt.Sprintf("Number %d of thirty.", i+1))
		want = append(want, shown{"operator", texts[i], true})
	}
	ids := r.announce(fanfare.All(), texts...)
	bob.has(31)
	bob.shot("announcements-390")
	bob.click("#to-chats")
	bob.say("alice", "Are you there?")
	bob.click("#to-announcements")
	r.acknowledged("bob")
	if n := r.waiting("alice"); n != 30 {
		t.Errorf("Alice, who is cut off, waits for %d announcements", n)
	}
	if got := alice.feed(); len(got) != 1 {
		t.Errorf("Alice, who is cut off, has %d announcements", len(got))
	}
	w.mend()
	alice.has(31)
	if got := alice.feed(); !slices.Equal(got, want) {
		t.Errorf("Alice's page has %v, want %v", got, want)
	}
	alice.shows("#unread", "30 unread")
	alice.shows("#lines", "Are you there?")
	r.acknowledged("alice")

	// The acknowledgements are lost: what comes again is there once.
	w.cut(true, false)
	more := r.announce(fanfare.All(), "Said twice.", "And this.")
	want = append(want, shown{"operator", "Said twice.", true}, shown{"operator", "And this.", true})
	alice.has(33)
	alice.until("the acknowledgements are under way", "acks.length === 0")
	if n := r.waiting("alice"); n != 2 {
		t.Errorf("Alice, whose acknowledgements are lost, waits for %d announcements", n)
	}
	w.mend()
	r.acknowledged("alice")
	if got := alice.feed(); !slices.Equal(got, want) {
		t.Errorf("Alice's page has %v, want %v", got, want)
	}

	// Another tab of hers has what this one had, and what is read in one is read in both, and counted once.
	second := b.tab("http://"+w.Addr().String()+"/", 1280, alice)
	second.login("alice")
	second.has(33)
	second.click(fmt.Sprintf("#feed li[data-id='%s'] button", ids[0]))
	want[1].Unread = false
	alice.shows("#unread", "31 unread")
	r.announce(fanfare.All(), "For both tabs.")
	want = append(want, shown{"operator", "For both tabs.", true})
	alice.has(34)
	second.has(34)
	for _, page := range []*tab{alice, second} {
		if got := page.feed(); !slices.Equal(got, want) {
			t.Errorf("a page of Alice's has %v, want %v", got, want)
		}
	}
	second.openChat("bob")
	second.shows("#lines", "Are you there?")
	r.opened(ids[0], 1)
	r.opened(more[0], 0)
	alice.shot("page")
	alice.size(390)
	alice.shot("page-390")
	alice.size(1280)

	// Alice closes both, comes back, and has what was said meanwhile, once, behind what she had.
	for _, page := range []*tab{alice, second} {
		page.leave()
	}
	r.gone("alice")
	r.announce(fanfare.All(), "While you were away.")
	want = append(want, shown{"operator", "While you were away.", true})
	alice = b.tab("http://"+w.Addr().String()+"/", 1280, alice)
	alice.login("alice")
	alice.has(35)
	r.acknowledged("alice")
	if got := alice.feed(); !slices.Equal(got, want) {
		t.Errorf("Alice's page has %v, want %v", got, want)
	}
	alice.click("#read-all")
	alice.until("everything is read", "document.querySelectorAll('#feed li.unread').length === 0")
	r.opened(more[0], 1)
}

// TestAudience: what people tell of themselves is whom an announcement can be for.
func TestAudience(t *testing.T) {
	b := openBrowser(t)
	r := start(t, t.TempDir())
	alice, bob := b.tab(r.address, 1280, nil), b.tab(r.address, 390, nil)
	alice.login("alice")
	bob.login("bob")
	elsewhere := b.tab(r.address, 1280, nil) // another device of Bob's
	elsewhere.login("bob")
	alice.click("#about summary")
	alice.choose("#tier", "gold")
	alice.shows("#about-outcome", "Noted.")
	bob.click("#about summary")
	bob.click("#about input[value=news]")
	bob.shows("#about-outcome", "Noted.")
	bob.shot("about-390")
	alice.click("#sending summary")
	send := func(to, text string) {
		alice.choose("#push-to", to)
		alice.fill("#push-text", text)
		value[bool](alice, "document.querySelector('#push-outcome').textContent = '', true")
		alice.click("#push-form button")
		alice.shows("#push-outcome", "Sent.")
	}
	send(`attr.tier = "gold"`, "For gold.")
	send(`tag:"news"`, "For who follows the news.")
	send("all", "For all.")
	alice.shot("sending")
	alice.has(2)
	bob.has(2)
	if got, want := alice.feed(), []shown{{"alice", "For gold.", true}, {"alice", "For all.", true}}; !slices.Equal(got, want) {
		t.Errorf("Alice's page has %v", got)
	}
	elsewhere.has(2)
	for _, page := range []*tab{bob, elsewhere} {
		if got, want := page.feed(), []shown{{"alice", "For who follows the news.", true}, {"alice", "For all.", true}}; !slices.Equal(got, want) {
			t.Errorf("Bob's page has %v", got)
		}
	}
	bob.click("#about summary")
	bob.click("#feed li button")
	elsewhere.shows("#unread", "1 unread")
	r.acknowledged("alice", "bob")
}

// TestConsole: the operator sends from the console, and the page has it at once.
func TestConsole(t *testing.T) {
	b := openBrowser(t)
	r := start(t, t.TempDir())
	alice, operator := b.tab(r.address, 1280, nil), b.tab(r.address, 1280, nil)
	alice.login("alice")
	operator.do(chromedp.Navigate(r.address + "console/"))
	operator.click(".head .button")
	operator.do(chromedp.WaitVisible("#to"))
	operator.fill("#to", "all")
	operator.shows("#audience-size", "1 p")
	operator.fill("#text", "From the console.")
	operator.click(".actions .primary")
	operator.do(chromedp.WaitVisible("#confirm"))
	operator.fill("#confirm", "1")
	operator.click(".actions .primary")
	alice.has(1)
	if got, want := alice.feed(), []shown{{"operator", "From the console.", true}}; !slices.Equal(got, want) {
		t.Errorf("Alice's page has %v", got)
	}
	operator.shows("#progress", "have it")
}

// TestMany: of very many announcements, all of which are acknowledged, the page has the last.
func TestMany(t *testing.T) {
	b := openBrowser(t)
	r := start(t, t.TempDir())
	alice := b.tab(r.address, 1280, nil)
	alice.login("alice")
	var texts []string
	for i := range 230 {
		texts = append(texts, fmt.Sprint("Number ", i))
	}
	r.announce(fanfare.All(), texts...)
	alice.shows("#feed", texts[229])
	r.acknowledged("alice")
	var got []string
	for _, s := range alice.feed() {
		got = append(got, s.Text)
	}
	if !slices.Equal(got, texts[30:]) {
		t.Errorf("the page has %v", got)
	}
	if kept := value[int](alice, "store.ids('a').length"); kept != 200 {
		t.Errorf("the browser keeps %d", kept)
	}
}

// TestKeptFirst: what the browser cannot keep is not acknowledged, and comes again; what comes late is shown in its place; and a text is a text.
func TestKeptFirst(t *testing.T) {
	b := openBrowser(t)
	r := start(t, t.TempDir())
	alice := b.tab(r.address, 1280, nil)
	alice.login("alice")
	value[bool](alice, `{
		const real = Storage.prototype.setItem
		globalThis.full = true
		Storage.prototype.setItem = function (...args) {
			if (full) throw new Error('it is full')
			real.apply(this, args)
		}
		true
	}`)
	text := "<b>No room</b> <img src=x onerror=alert(1)>"
	r.announce(fanfare.All(), text)
	alice.shows("#trouble", "keeps no more")
	answered, err := chromedp.Run(alice.ctx, chromedp.Evaluate[bool]( // behind an acknowledgement, if there were one
		`new Promise(later => setTimeout(later, 200)).then(() => client.rpc('profile', null)).then(() => true)`, chromedp.EvalAwaitPromise))
	if err != nil || !answered {
		t.Fatal(answered, err)
	}
	if n := r.waiting("alice"); n != 1 {
		t.Errorf("Alice, whose browser keeps nothing, waits for %d announcements", n)
	}
	value[bool](alice, "full = false, true")
	second := b.tab(r.address, 1280, alice)
	second.login("alice")
	r.acknowledged("alice")
	alice.until("there is no trouble any more", "$('trouble').hidden")
	want := []shown{{"operator", text, true}}
	for i, id := range []string{"z9", "z7", "z8"} {
		m := &transport.Message{ID: id, From: "operator", Body: fmt.Appendf(nil, "{\"text\":%q}", id)}
		if err := r.hub.Deliver(t.Context(), "alice", m); err != nil {
			t.Fatal(i, err)
		}
	}
	for _, id := range []string{"z7", "z8", "z9"} {
		want = append(want, shown{"operator", id, true})
	}
	for _, page := range []*tab{alice, second} {
		page.has(len(want))
		if got := page.feed(); !slices.Equal(got, want) {
			t.Errorf("the page has %v, want %v", got, want)
		}
	}
}

// TestNoRoom: in a browser that keeps no more people log in and write to each other, and an announcement comes when there is room.
func TestNoRoom(t *testing.T) {
	b := openBrowser(t)
	r := start(t, t.TempDir())
	alice, bob := b.tab(r.address, 1280, nil), b.tab(r.address, 1280, nil)
	fill := `for (const [key, size] of [['large', 1e5], ['middle', 1e3], ['small', 1]]) {
		try { for (let i = 0;; i++) localStorage.setItem(key + i, 'x'.repeat(size)) } catch {}
	}
	true`
	value[bool](alice, fill)
	alice.login("alice")
	bob.login("bob")
	bob.say("alice", "Are you there?")
	r.announce(fanfare.All(), "For who has room.")
	alice.shows("#trouble", "keeps no more")
	alice.say("bob", "In a way.")
	bob.shows("#lines", "In a way.")
	if n := r.waiting("alice"); n != 1 {
		t.Errorf("Alice, who has no room, waits for %d announcements", n)
	}
	value[bool](alice, "localStorage.clear(), true")
	value[bool](alice, "client.disconnect(), client.connect(), true") // or the server's patience with an acknowledgement ends
	alice.has(1)
	r.acknowledged("alice")
	alice.until("the trouble is over", "document.querySelector('#trouble').hidden")

	// And when it is full again, what is read is read, as long as the page is there.
	value[bool](alice, fill)
	alice.click("#read-all")
	alice.until("it is read", "document.querySelectorAll('#feed li.unread').length === 0")
	alice.until("the server knows", "[...store.noted.values(), ...Object.values(localStorage)].includes('told')")
}

// TestStrangeName: a name that the server would refuse does not get as far.
func TestStrangeName(t *testing.T) {
	b := openBrowser(t)
	r := start(t, t.TempDir())
	alice := b.tab(r.address, 1280, nil)
	for _, name := range []string{`al\u0085ice`, `al\ud800ice`, `\u738b\u5c0f\u5c0f\u5c0f\u5c0f\u5c0f\u5c0f\u5c0f\u5c0f\u5c0f\u5c0f`} {
		value[bool](alice, fmt.Sprintf(`{ const e = document.querySelector('#name'); e.value = '%s'; e.dispatchEvent(new Event('input')); true }`, name))
		alice.click("#login button")
		alice.until(name+" is refused", "!document.querySelector('#name').validity.valid && client === null")
	}
	alice.login("alice")
}
