package console

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

// TestExplain: of all that may be known, the verdict is what follows and no more.
func TestExplain(t *testing.T) {
	accepted := time.Date(2026, 11, 28, 10, 0, 0, 500e6, time.UTC)
	before, after := accepted.Add(-time.Hour), accepted.Add(time.Hour)
	waiting := fanfare.TaskInfo{To: fanfare.All(), Accepted: accepted, Expires: accepted.Add(24 * time.Hour)}
	fleeting := fanfare.TaskInfo{To: fanfare.All(), Accepted: accepted, Expires: accepted}
	tagged := waiting
	tagged.To = fanfare.Tag("vip")
	planned := waiting
	planned.Plan = "a plan"
	offers := waiting
	offers.Category = "offers"
	tests := map[string]struct {
		e       evidence
		verdict string
		says    []string
		limit   string
	}{
		"pending, away": {
			evidence{info: waiting, known: true, registered: before, standing: fanfare.StandingWaiting, progress: fanfare.Progress{Total: 3, Pending: 3}},
			verdictWaiting, []string{"It comes first thing when the user connects", "No phone was notified of it."}, "",
		},
		"pending, connected": {
			evidence{info: waiting, known: true, registered: before, standing: fanfare.StandingWaiting, connected: true, progress: fanfare.Progress{Total: 3, Pending: 3}},
			verdictWaiting, []string{"The user is connected"}, "",
		},
		"pending, with a phone": {
			evidence{info: waiting, known: true, registered: before, standing: fanfare.StandingWaiting, platforms: []string{"apns", "fcm"},
				progress: fanfare.Progress{Total: 3, Pending: 3, Phones: map[string]fanfare.PhoneStats{"apns": {Sent: 3, Stopped: "denied"}}}},
			verdictWaiting, []string{"has a phone on apns,", "stopped on apns: denied"}, "",
		},
		"pending, with a phone elsewhere": {
			evidence{info: waiting, known: true, registered: before, standing: fanfare.StandingWaiting, platforms: []string{"fcm"},
				progress: fanfare.Progress{Total: 3, Pending: 3, Phones: map[string]fanfare.PhoneStats{"apns": {}}}},
			verdictWaiting, []string{"platforms that were not notified: fcm"}, "",
		},
		"pending, without a phone": {
			evidence{info: waiting, known: true, registered: before, standing: fanfare.StandingWaiting,
				progress: fanfare.Progress{Total: 3, Pending: 3, Phones: map[string]fanfare.PhoneStats{"apns": {}}}},
			verdictWaiting, []string{"has no phone registered"}, "",
		},
		"has it": {
			evidence{info: tagged, known: true, registered: before, standing: fanfare.StandingReceived, progress: fanfare.Progress{Total: 3, Delivered: 1, Expired: 2}},
			verdictYes, []string{"was in the audience", "It was delivered to the user"}, "",
		},
		"missed it": {
			evidence{info: tagged, known: true, registered: before, standing: fanfare.StandingMissed, progress: fanfare.Progress{Total: 3, Delivered: 1, Withdrawn: 2, Ended: after}},
			verdictNo, []string{"was in the audience", "It was withdrawn", "still waited"}, "",
		},
		"outside": {
			evidence{info: tagged, known: true, registered: before, standing: fanfare.StandingOutside, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 3, Capped: 2}},
			verdictNever, []string{"was not in the audience", "fits the user now", "Left out of the push, for having had"}, "",
		},
		"outside, of a plan": {
			evidence{info: planned, known: true, registered: before, standing: fanfare.StandingOutside, progress: fanfare.Progress{Total: 3, Delivered: 3}},
			verdictNever, []string{"one of the parts"}, "",
		},
		"outside, later": {
			evidence{info: tagged, known: true, registered: after, standing: fanfare.StandingOutside, progress: fanfare.Progress{Total: 3, Delivered: 3}},
			verdictNever, []string{"after the push was accepted"}, "",
		},
		"registered later": {
			evidence{info: waiting, known: true, registered: after, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 3}},
			verdictNever, []string{"after the push was accepted"}, "",
		},
		"registered in the same second": {
			evidence{info: waiting, known: true, registered: accepted.Truncate(time.Second), fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 3}},
			verdictLikely, []string{"it is not known which came first"}, "It is not kept who has a message",
		},
		"to all, all have it": {
			evidence{info: waiting, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 3, Ended: after}},
			verdictYes, []string{"so the user was in the audience", "The whole audience has it: 3 people."}, "",
		},
		"to all, some have it": {
			evidence{info: waiting, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 1, Pending: 2}},
			verdictYes, []string{"It was delivered to 1 person"}, "",
		},
		"to all, some expired": {
			evidence{info: waiting, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 1, Expired: 2, Ended: after}},
			verdictUnknown, []string{"It expired at"}, "Once a task has ended",
		},
		"to all, but one is gone": {
			evidence{info: waiting, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 1, Pending: 1, Gone: 1}},
			verdictLikely, nil, "It is not kept",
		},
		"withdrawn before anybody had it": {
			evidence{info: waiting, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Withdrawn: 3, Ended: after}},
			verdictNo, []string{"Nobody has the message", "It was withdrawn at"}, "",
		},
		"nobody has it yet": {
			evidence{info: tagged, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Pending: 3}},
			verdictNever, []string{"everyone of the audience is still waiting"}, "",
		},
		"fits now": {
			evidence{info: tagged, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 2, Pending: 1}},
			verdictLikely, []string{`The audience fits the user now: tag:"vip"`}, "It is not kept who has a message",
		},
		"fits now, withdrawn": {
			evidence{info: tagged, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 2, Withdrawn: 1, Ended: after}},
			verdictUnknown, []string{"Still waiting then: 1 person."}, "only the numbers are kept",
		},
		"does not fit now": {
			evidence{info: tagged, known: true, registered: before, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 2, Pending: 1}},
			verdictUnlikely, []string{"does not fit the user now"}, "as it is now",
		},
		"nobody can say whether it fits": {
			evidence{info: tagged, known: true, registered: before, progress: fanfare.Progress{Total: 3, Delivered: 2, Pending: 1}},
			verdictLikely, []string{"not there any more"}, "It is not kept",
		},
		"capped": {
			evidence{info: offers, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 3, Capped: 2, Ended: after}},
			verdictLikely, []string{`Left out of the push, for having had as many of the category "offers" as one may: 2 people.`}, "It is not kept",
		},
		"opted out": {
			evidence{info: offers, known: true, registered: before, fits: true, fitsKnown: true, optedOut: true, progress: fanfare.Progress{Total: 3, Delivered: 3, OptedOut: 1, Ended: after}},
			verdictUnlikely, []string{"wants no messages of the category"}, "as it is now",
		},
		"others opted out": {
			evidence{info: offers, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 3, OptedOut: 1, Ended: after}},
			verdictLikely, []string{"for wanting no messages of the category"}, "It is not kept",
		},
		"of a plan": {
			evidence{info: planned, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 3, Ended: after}},
			verdictUnknown, []string{"A plan released it"}, "nor in which part",
		},
		"of a plan, and nobody has it": {
			evidence{info: planned, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Pending: 3}},
			verdictNo, []string{"the user may be in another", "everyone of the audience is still waiting"}, "",
		},
		"an empty audience": {
			evidence{info: tagged, known: true, registered: before, fitsKnown: true, progress: fanfare.Progress{Ended: accepted}},
			verdictNo, []string{"The audience was empty"}, "",
		},
		"fleeting, under way": {
			evidence{info: fleeting, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3}},
			verdictUnknown, []string{"is going out now"}, "Ask again",
		},
		"fleeting, over": {
			evidence{info: fleeting, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Delivered: 1, Expired: 1, Failed: 1, Ended: after}},
			verdictUnknown, []string{"Not connected, or not reached: 2 people."}, "only the numbers",
		},
		"fleeting, nobody": {
			evidence{info: fleeting, known: true, registered: before, fits: true, fitsKnown: true, progress: fanfare.Progress{Total: 3, Expired: 3, Ended: after}},
			verdictNo, []string{"Nobody has the message"}, "",
		},
		"unknown user": {
			evidence{info: waiting, progress: fanfare.Progress{Total: 3, Delivered: 2, Gone: 1, Ended: after}},
			verdictUnknown, []string{"no user of this ID now"}, "leaves no trace",
		},
		"unknown user of what nobody has": {
			evidence{info: waiting, progress: fanfare.Progress{Total: 3, Withdrawn: 3, Ended: after}},
			verdictNo, []string{"Nobody has the message"}, "",
		},
	}
	h := &handler{o: Options{Location: time.UTC}}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, l := range languages {
				v := &view{h: h, lang: l}
				a := explain(v, &test.e)
				var said []string
				for _, f := range a.Facts {
					said = append(said, v.Say(f))
				}
				all := strings.Join(said, "\n")
				if strings.Contains(all, "%!") {
					t.Errorf("it says %s", all)
				}
				if l != languages[0] {
					continue
				}
				if a.Verdict != test.verdict {
					t.Errorf("the verdict is %q, not %q, for\n%s", a.Verdict, test.verdict, all)
				}
				for _, want := range test.says {
					if !strings.Contains(all, want) {
						t.Errorf("it says nothing of %q, but\n%s", want, all)
					}
				}
				if (a.Limit == "") != (test.limit == "") || !strings.Contains(a.Limit, test.limit) {
					t.Errorf("what cannot be known is %q", a.Limit)
				}
			}
		})
	}
}

// TestWhy asks of real tasks and people.
func TestWhy(t *testing.T) {
	p := open(t, fanfare.Options{Online: transport.OnlineFunc(func(context.Context, string, *transport.Message) error { return nil })})
	b := newBenchWith(t, p, Options{})
	ctx := t.Context()
	s, err := p.Connect(ctx, "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	time.Sleep(1100 * time.Millisecond) // registrations are known to the second
	vips := b.push(fanfare.Tag("vip"))
	if err := vips.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	all := b.push(fanfare.All())
	if err := all.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	attribute, err := p.Push(ctx, fanfare.Message{Body: []byte("x"), To: fanfare.Attr("tier", "gold").Or(fanfare.Users("bob")), Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := attribute.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 10_000) // as many as an audience may have
	for i := range ids {
		ids[i] = "user-" + strconv.Itoa(i)
	}
	ids[0] = "bob"
	long := b.push(fanfare.Users(ids...))
	if err := long.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.SetAttributeNames(ctx, map[int]string{0: ""}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ who, message, want string }{
		{"alice", vips.ID, verdictWaiting},
		{"bob", vips.ID, verdictLikely},
		{"carol", vips.ID, verdictUnlikely},
		{"bob", all.ID, verdictYes},
		{"carol", all.ID, verdictWaiting},
		{"bob", attribute.ID, verdictLikely},
		{"bob", long.ID, verdictLikely},
		{"carol", long.ID, "as long as one may be"},
		{"nobody", all.ID, verdictUnknown},
		{"alice", " " + vips.ID + " ", verdictWaiting},
	} {
		w := b.get("vera", "/users?id="+test.who+"&message="+strings.ReplaceAll(test.message, " ", "+"))
		if !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s and %s: not %q: %s", test.who, test.message, test.want, w.Body)
		}
	}
	body := b.get("vera", "/users?id=alice").Body.String()
	for _, want := range []string{"stock A", "Wuhan", "a-long…lice", "zh-CN", "hello there", "not connected"} {
		if !strings.Contains(body, want) {
			t.Errorf("Alice's page is without %s: %s", want, body)
		}
	}
	if body := b.get("vera", "/users?id=bob").Body.String(); !strings.Contains(body, `good">connected`) {
		t.Errorf("Bob is not connected: %s", body)
	}
}

// TestPast: of the newest tasks those are shown that were for the user, with where the user stands.
func TestPast(t *testing.T) {
	b := newBenchWith(t, open(t, fanfare.Options{KeepAudiences: true}), Options{})
	ctx := t.Context()
	row := func(task *fanfare.Task, standing string) string {
		return `(?s)tasks/` + task.ID + `".{0,200}<td>` + standing + `</td>`
	}
	oldest := b.push(fanfare.Users("alice"))
	for range pastShown - 3 {
		b.push(fanfare.Users("bob"))
	}
	got, waits, missed := b.push(fanfare.Users("alice")), b.push(fanfare.All()), b.push(fanfare.All())
	if err := b.p.Ack(ctx, "alice", got.ID); err != nil {
		t.Fatal(err)
	}
	if err := b.p.Withdraw(ctx, missed.ID); err != nil {
		t.Fatal(err)
	}
	body := b.get("vera", "/users?id=alice").Body.String()
	for _, want := range []string{row(got, "has it"), row(waits, "waiting"), row(missed, "missed it")} {
		if !regexp.MustCompile(want).MatchString(body) {
			t.Errorf("%s is not there: %s", want, body)
		}
	}
	if n := strings.Count(body, ">Why?</a>"); n != 3 || strings.Contains(body, "tasks/"+oldest.ID+`"><time`) {
		t.Errorf("%d are shown", n)
	}
	if body := b.get("vera", "/users?id=alice&message="+missed.ID).Body.String(); !strings.Contains(body, "still waited") {
		t.Error(body)
	}
}
