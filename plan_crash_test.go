package fanfare

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

const planCrashUsers = 120

// planChild makes plans, one behind the other, until it is killed: by itself, at a random moment.
func planChild() {
	seed, _ := strconv.ParseUint(os.Getenv("FANFARE_SEED"), 10, 64)
	rnd := rand.New(rand.NewPCG(seed, 1))
	time.AfterFunc(time.Duration(rnd.IntN(120_000))*time.Microsecond, func() {
		self, _ := os.FindProcess(os.Getpid())
		self.Kill()
	})
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
	}
	p, err := Open(os.Getenv("FANFARE_DIR"), planCrashOptions(1+rnd.IntN(50)))
	check(err)
	for i := range planCrashUsers {
		check(p.Register(ctx, fmt.Sprint("u", i)))
		if i%17 == 0 { // plans go on while users come
			go func() {
				for plan, err := range p.Plans(ctx) {
					check(err)
					check(plan.Wait(ctx))
				}
			}()
		}
	}
	for n := 0; ; n++ {
		planned, err := p.Plan(ctx, planCrashPlan(n))
		check(err)
		check(planned.Wait(ctx))
	}
}

func planCrashOptions(entries int) Options {
	return Options{DeltaEntries: entries, blockBits: 4, paceEvery: time.Millisecond}
}

func planCrashPlan(n int) Plan {
	m := Message{Body: []byte(fmt.Sprint("plan ", n)), To: All(), Lifetime: week, Key: fmt.Sprint("plan ", n)}
	plan := Plan{Message: m}
	switch n % 3 {
	case 1:
		plan.Pace = 13
	case 2:
		plan.Pace, plan.Variants = 13, []Variant{{Name: "A"}, {Name: "B"}}
	}
	return plan
}

// TestPlansCrash kills a process that makes plans, again and again. In the end each plan has been released to each user once, whatever it took.
func TestPlansCrash(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	for kill := range *crashKills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "FANFARE_CHILD=plans", "FANFARE_DIR="+dir, "FANFARE_SEED="+strconv.FormatUint(rnd.Uint64()>>1, 10))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != -1 && exit.ExitCode() != 1 || len(out) > 0 {
			t.Fatalf("kill %d: the child ended by itself: %v\n%s", kill, err, out)
		}
	}
	p := testPusher(t, dir, planCrashOptions(1000))
	ctx := t.Context()
	plans := 0
	for planned, err := range p.Plans(ctx) {
		must(t, err)
		must(t, planned.Wait(ctx))
		plans++
		g, err := planned.Progress(ctx)
		must(t, err)
		if g.Held != 0 || g.Gone != 0 || g.Pending != g.Total {
			t.Errorf("%s: %+v", planned.ID, g)
		}
	}
	// Who was registered when the first plan was made has each of them once, and in order; the last of them are everybody's.
	for i := range planCrashUsers {
		if _, err := p.User(ctx, fmt.Sprint("u", i)); errors.Is(err, ErrUnknownUser) {
			continue
		}
		next := -1
		for m, err := range p.Pending(ctx, fmt.Sprint("u", i)) {
			must(t, err)
			var n int
			if _, err := fmt.Sscanf(string(m.Body), "plan %d", &n); err != nil || next >= 0 && n != next {
				t.Fatalf("u%d waits for %q, want plan %d", i, m.Body, next)
			}
			next = n + 1
		}
		if next >= 0 && next != plans {
			t.Fatalf("u%d waits for the plans to %d, there are %d", i, next, plans)
		}
	}
	t.Logf("%d plans", plans)
}
