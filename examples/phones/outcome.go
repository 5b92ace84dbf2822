package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/fcm"
)

// point is how many tries there had been after a time.
type point struct {
	after time.Duration
	tries int64
}

// follow shows how a push goes on until all phones were notified, and returns how it ended and its course. Progress has what is durable, and
// so moves by batches.
func follow(ctx context.Context, out io.Writer, task *fanfare.Task, began time.Time) (p fanfare.Progress, course []point, err error) {
	if p, err = task.Progress(); err != nil {
		return p, nil, err
	}
	english.Fprintf(out, "A push to %s, of %d users, is accepted.\n", task.Info().To, p.Total)
	every, format := time.Second, "%s\n"
	if isTerminal(out) {
		every, format = 100*time.Millisecond, "\r%-78s"
		defer fmt.Fprintln(out)
	}
	done := make(chan error, 1)
	go func() { done <- task.Wait(ctx) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	shown := began
	for over := false; !over; {
		select {
		case err = <-done:
			over = true
		case <-tick.C:
		}
		if err == nil {
			p, err = task.Progress()
		}
		if err != nil {
			return p, nil, err
		}
		n := sum(&p)
		course = append(course, point{time.Since(began), n.Sent})
		if over || time.Since(shown) >= every {
			shown = time.Now()
			fmt.Fprintf(out, format, english.Sprintf("%5.1f s  %d sent: %d accepted, %d unregistered, %d rejected, %d retried",
				time.Since(began).Seconds(), n.Sent, n.Accepted, n.Unregistered, n.Rejected, n.Retried))
		}
	}
	return p, course, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// sum adds the platforms up.
func sum(p *fanfare.Progress) (all fanfare.PhoneStats) {
	for _, n := range p.Phones {
		all.Sent += n.Sent
		all.Accepted += n.Accepted
		all.Unregistered += n.Unregistered
		all.Rejected += n.Rejected
		all.Retried += n.Retried
		all.GaveUp += n.GaveUp
	}
	return all
}

// report shows what became of what was sent: it was accepted, found a dead token, was rejected, or was sent again later.
func report(out io.Writer, p *fanfare.Progress, course []point) {
	platforms := slices.Sorted(maps.Keys(p.Phones))
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nplatform\tsent\taccepted\tunregistered\trejected\tretried\tgave up\t")
	for _, platform := range platforms {
		n := p.Phones[platform]
		english.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", platform, n.Sent, n.Accepted, n.Unregistered, n.Rejected, n.Retried, n.GaveUp)
	}
	table.Flush()
	for _, platform := range platforms {
		for _, reason := range slices.Sorted(maps.Keys(p.Phones[platform].Reasons)) {
			english.Fprintf(out, "%d rejected by %s: %s.\n", p.Phones[platform].Reasons[reason], platform, reason)
		}
	}
	// What is sent again waits for a second or more, so the rate is that of the time when each phone had had a try.
	all := sum(p)
	tried := all.Accepted + all.Unregistered + all.Rejected + all.GaveUp
	if i := slices.IndexFunc(course, func(x point) bool { return x.tries >= tried }); i >= 0 && tried > 0 {
		x := course[i]
		english.Fprintf(out, "%.0f a second: %d sent in %.1f s, and with all retries %d in %.1f s.\n", float64(x.tries)/x.after.Seconds(),
			x.tries, x.after.Seconds(), all.Sent, course[len(course)-1].after.Seconds())
	}
}

// owners counts the users who have a device, for each sender.
func (s *services) owners(ctx context.Context, p *fanfare.Pusher) (map[string]int64, error) {
	owners := make(map[string]int64)
	for _, sender := range s.senders {
		n, err := p.Count(ctx, fanfare.Platform(sender.Platform()))
		if err != nil {
			return nil, err
		}
		owners[sender.Platform()] = n
	}
	return owners, nil
}

func reportOwners(out io.Writer, before, after map[string]int64) {
	fmt.Fprintln(out, "\nUnregistered tokens are removed. Users with a device, before and after:")
	for _, platform := range slices.Sorted(maps.Keys(before)) {
		english.Fprintf(out, "  %-12s  %d → %d\n", platform, before[platform], after[platform])
	}
}

// reportShown shows a simulated phone for each text, from the first users.
func (s *services) reportShown(ctx context.Context, out io.Writer, p *fanfare.Pusher, to fanfare.Audience) error {
	if s.apple == nil {
		return nil
	}
	fmt.Fprintln(out, "\nWhat phones show:")
	seen := map[transport.Text]bool{{}: true}
	users := 0
	for user, err := range p.Members(ctx, to) {
		if err != nil {
			return err
		}
		if users++; users > 1000 {
			break
		}
		devices, err := p.Devices(ctx, user)
		if err != nil {
			return err
		}
		for _, d := range devices {
			text, err := s.shown(d)
			if err != nil {
				return err
			}
			if !seen[text] {
				seen[text] = true
				fmt.Fprintf(out, "  %-12s  %-10s  %s: %s\n", d.Platform, d.Locale, text.Title, text.Body)
			}
		}
	}
	return nil
}

// denied is an error when a service denies its sender, with what to look at. The log has the library's own word of it.
func denied(p *fanfare.Progress) (err error) {
	for _, platform := range slices.Sorted(maps.Keys(p.Phones)) {
		check := "-apns-key, -apns-key-id and -apns-team-id (one key, not revoked, for this environment and app)"
		if platform == fcm.Platform {
			check = "-fcm-service-account (there still, and allowed to send messages in its project)"
		}
		if reason := p.Phones[platform].Stopped; reason != "" {
			err = errors.Join(err, fmt.Errorf("%s denies its sender: %s\n\tcheck %s, and this machine's clock", platform, reason, check))
		}
	}
	return err
}
