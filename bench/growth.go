package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/fanfare-im/fanfare"
)

// size is what users cost at one number of them.
type size struct {
	users                   int
	bring, count, accept    float64 // ns/user
	countRounds, acceptRuns []float64
}

// growth is how the costs per user change with the number of users.
func (b *bench) growth(ctx context.Context) error {
	if err := b.close(); err != nil {
		return err
	}
	sizes := []int{b.users / 10, b.users, 5 * b.users}
	if b.quick {
		sizes = []int{b.users / 10, b.users / 3, b.users}
	}
	var all []size
	for _, users := range sizes {
		s, err := b.grown(ctx, users)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	first, last := all[0], all[len(all)-1]
	for _, x := range []struct {
		name        string
		first, last []float64
	}{
		{"growth.audience", first.countRounds, last.countRounds},
		{"growth.import", []float64{first.bring}, []float64{last.bring}},
		{"growth.accept", first.acceptRuns, last.acceptRuns},
	} {
		r := compare(x.name, "the smallest", "ns/user", x.last, x.first, atMost(1.3))
		r.Users = last.users
		b.add(r.with("%d → %d users", first.users, last.users))
	}
	if b.svg != "" {
		return draw(b.svg, all)
	}
	return nil
}

func (b *bench) grown(ctx context.Context, users int) (s size, err error) {
	dir := filepath.Join(b.dir, "growth")
	defer os.RemoveAll(dir)
	p, err := fanfare.Open(dir, fanfare.Options{})
	if err != nil {
		return s, err
	}
	defer func() { _ = p.Close(context.Background()) }()
	if err := p.SetAttributeNames(ctx, names); err != nil {
		return s, err
	}
	s.users = users
	began := time.Now()
	if _, err := p.Import(ctx, b.who.users(0, users), nil); err != nil {
		return s, err
	}
	if err := p.Close(ctx); err != nil {
		return s, err
	}
	s.bring = float64(time.Since(began).Nanoseconds()) / float64(users)
	if p, err = fanfare.Open(dir, fanfare.Options{}); err != nil {
		return s, err
	}
	q := b.questions()[0].to
	for range b.rounds {
		n := 0
		for began = time.Now(); time.Since(began) < 200*time.Millisecond; n++ {
			if _, err := p.Count(ctx, q); err != nil {
				return s, err
			}
		}
		s.countRounds = append(s.countRounds, float64(time.Since(began).Nanoseconds())/float64(n)/float64(users))
		began = time.Now()
		const pushes = 20
		for range pushes {
			task, err := p.Push(ctx, fanfare.Message{Body: []byte("x"), To: fanfare.All(), Lifetime: week})
			if err != nil {
				return s, err
			}
			if err := p.Withdraw(ctx, task.ID); err != nil {
				return s, err
			}
		}
		s.acceptRuns = append(s.acceptRuns, float64(time.Since(began).Nanoseconds())/pushes/float64(users))
	}
	s.count, s.accept = median(s.countRounds), median(s.acceptRuns)
	b.say("  %d users: import %.0f, audience %.4f, accept %.4f ns/user", users, s.bring, s.count, s.accept)
	return s, nil
}

// draw makes a plot of the sizes, both axes logarithmic.
func draw(path string, all []size) error {
	p := plot.New()
	p.Title.Text = "Cost of a user by the number of users"
	p.X.Label.Text, p.Y.Label.Text = "users", "ns per user"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	var at []plot.Tick
	for _, s := range all {
		label := fmt.Sprintf("%d,000", s.users/1000)
		if s.users >= 1_000_000 {
			label = fmt.Sprintf("%g million", float64(s.users)/1e6)
		}
		at = append(at, plot.Tick{Value: float64(s.users), Label: label})
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.ConstantTicks(at), plot.LogTicks{Prec: -1}
	p.X.Min, p.X.Max = float64(all[0].users)/1.5, 1.5*float64(all[len(all)-1].users) // for the labels
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.XOffs, p.Legend.YOffs = vg.Inch, -1.5*vg.Inch // between import and the others
	var lines []any
	for _, x := range []struct {
		name string
		of   func(size) float64
	}{
		{"import", func(s size) float64 { return s.bring }},
		{"audience of two attributes", func(s size) float64 { return s.count }},
		{"accept a push to all, and withdraw it", func(s size) float64 { return s.accept }},
	} {
		points := make(plotter.XYs, len(all))
		for i, s := range all {
			points[i].X, points[i].Y = float64(s.users), x.of(s)
		}
		lines = append(lines, x.name, points)
	}
	if err := plotutil.AddLinePoints(p, lines...); err != nil {
		return err
	}
	return p.Save(7*vg.Inch, 5*vg.Inch, path)
}
