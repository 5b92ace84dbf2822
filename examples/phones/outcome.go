package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/fcm"
)

// point is how many tries there were after a time.
type point struct {
	after time.Duration
	tries int64
}

// follow shows how a push goes on, until every phone was notified, and returns its course. Progress counts what is durable, so it
// moves by batches.
func follow(ctx context.Context, out io.Writer, task *fanfare.Task, began time.Time) (curve []point, err error) {
	done := make(chan error, 1)
	go func() { done <- task.Wait(ctx) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	terminal := isTerminal(out)
	every, format := time.Second, "%s\n"
	if terminal {
		every, format = 100*time.Millisecond, "\r%-78s"
	}
	for shown := began; ; {
		over := false
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
			over = true
		case <-tick.C:
		}
		progress, err := task.Progress()
		if err != nil {
			return nil, err
		}
		all, after := sum(progress.Phones), time.Since(began)
		if len(curve) == 0 || curve[len(curve)-1].tries != all.Sent {
			curve = append(curve, point{after, all.Sent})
		}
		if over || time.Since(shown) >= every {
			shown = time.Now()
			fmt.Fprintf(out, format, english.Sprintf("%5.1f s: %d tries: %d accepted, %d dead, %d rejected, %d “later”",
				after.Seconds(), all.Sent, all.Accepted, all.Unregistered, all.Rejected, all.Retried))
		}
		if over {
			if terminal {
				fmt.Fprintln(out)
			}
			return curve, nil
		}
	}
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
func sum(phones map[string]fanfare.PhoneStats) (all fanfare.PhoneStats) {
	for _, n := range phones {
		all.Sent += n.Sent
		all.Accepted += n.Accepted
		all.Unregistered += n.Unregistered
		all.Rejected += n.Rejected
		all.Retried += n.Retried
		all.GaveUp += n.GaveUp
	}
	return all
}

// report shows what became of the tries: each was accepted, found a dead token, was rejected, or is to be made again later.
func report(out io.Writer, phones map[string]fanfare.PhoneStats, curve []point) {
	platforms := slices.Sorted(maps.Keys(phones))
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nplatform\ttries\taccepted\tdead\trejected\tlater\tgave up\t")
	for _, platform := range platforms {
		n := phones[platform]
		english.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", platform, n.Sent, n.Accepted, n.Unregistered, n.Rejected, n.Retried, n.GaveUp)
	}
	table.Flush()
	for _, platform := range platforms {
		for _, reason := range slices.Sorted(maps.Keys(phones[platform].Reasons)) {
			english.Fprintf(out, "Rejected by %s: %d for %s.\n", platform, phones[platform].Reasons[reason], reason)
		}
	}
	// Those who were asked to come later wait for a second or more, so the rate is that of the time before.
	all := sum(phones)
	tried := all.Accepted + all.Unregistered + all.Rejected + all.GaveUp
	i := slices.IndexFunc(curve, func(p point) bool { return p.tries > 0 && p.tries >= tried })
	if i < 0 {
		return
	}
	english.Fprintf(out, "Rate: %d tries in %.1f s, %.0f a second; with what was tried again later it took %.1f s.\n",
		curve[i].tries, curve[i].after.Seconds(), float64(curve[i].tries)/curve[i].after.Seconds(), curve[len(curve)-1].after.Seconds())
}

// owner is how many users have a device of a platform.
type owner struct {
	platform string
	users    int64
}

func owners(ctx context.Context, p *fanfare.Pusher, s *services) (list []owner, err error) {
	for _, platform := range s.platforms() {
		n, err := p.Count(ctx, fanfare.Platform(platform))
		if err != nil {
			return nil, err
		}
		list = append(list, owner{platform, n})
	}
	return list, nil
}

func reportOwners(out io.Writer, before, after []owner) {
	fmt.Fprintln(out, "\nDead tokens are removed. Users with a device, before and after:")
	for i, b := range before {
		english.Fprintf(out, "  %-12s  %d → %d\n", b.platform, b.users, after[i].users)
	}
}

// reportShown shows one phone for each language.
func reportShown(out io.Writer, s *services, devices []fanfare.Device) {
	seen := make(map[transport.Text]bool)
	for _, d := range devices {
		text, ok := s.shown(d)
		if !ok || seen[text] {
			continue
		}
		if len(seen) == 0 {
			fmt.Fprintln(out, "\nWhat phones show:")
		}
		seen[text] = true
		fmt.Fprintf(out, "  %-4s  %-10s  %s: %s\n", d.Platform, d.Locale, text.Title, text.Body)
	}
}

// denied is an error when a service does not take its sender, with what to look at. The log has the library's own word.
func denied(phones map[string]fanfare.PhoneStats) (err error) {
	for _, platform := range slices.Sorted(maps.Keys(phones)) {
		reason := phones[platform].Stopped
		if reason == "" {
			continue
		}
		look := []string{"-apns-key, -apns-key-id and -apns-team-id: are they of one key, not revoked, for this environment and app?"}
		if platform == fcm.Platform {
			look = []string{"-fcm-service-account: does the account exist, and may it send messages in its project?"}
		}
		look = append(look, "this machine's clock: is it right?")
		err = errors.Join(err, fmt.Errorf("%s denies its sender: %s\n  check %s", platform, reason, strings.Join(look, "\n  check ")))
	}
	return err
}

