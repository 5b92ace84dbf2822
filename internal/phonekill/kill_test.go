package phonekill

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
	"github.com/fanfare-im/fanfare/transport/apns"
	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
	"github.com/fanfare-im/fanfare/transport/fcm"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

var (
	tokens = flag.Int("phones.tokens", 6000, "tokens on each platform")
	kills  = flag.Int("phones.kills", 2, "how often the process is killed")
)

const (
	topic    = "com.example.app"
	childEnv = "FANFARE_PHONES_CHILD"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// services are both simulators, as another process finds them.
type services struct {
	Dir                string
	Batch              int
	APNs, FCM          string // URLs
	Key, KeyID, TeamID string
	Account            string
	Roots              string // certificates
}

// senders makes the senders for the simulators.
func (s *services) senders() (list []transport.Mobile, err error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.Roots))
	a, err := apns.New(apns.Options{
		Key: []byte(s.Key), KeyID: s.KeyID, TeamID: s.TeamID, Topic: topic, Endpoint: s.APNs, RootCAs: roots, BatchSize: s.Batch, Connections: 4, Concurrency: 128,
	})
	if err != nil {
		return nil, err
	}
	f, err := fcm.New(context.Background(), fcm.Options{
		ServiceAccount: []byte(s.Account), Endpoint: s.FCM + "/v1", RootCAs: roots, BatchSize: s.Batch, Connections: 4, Concurrency: 128, PerSecond: -1,
	})
	return []transport.Mobile{a, f}, err
}

// child notifies until the task is done, and says so. The key makes the push of a later child that of the first.
func child() error {
	ctx := context.Background()
	var s services
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &s); err != nil {
		return err
	}
	mobile, err := s.senders()
	if err != nil {
		return err
	}
	p, err := fanfare.Open(s.Dir, fanfare.Options{Mobile: mobile, Grace: -1})
	if err != nil {
		return err
	}
	task, err := p.Push(ctx, fanfare.Message{
		From: "news", Body: []byte("body"), To: fanfare.All(), Lifetime: time.Hour, Key: "once", Notification: &fanfare.Notification{Title: "Tonight"},
	})
	if err != nil {
		return err
	}
	if err := task.Wait(ctx); err != nil {
		return err
	}
	if err := p.Close(ctx); err != nil {
		return err
	}
	fmt.Println("done", task.ID)
	return nil
}

// fates are what befalls tokens, by their numbers: some are dead, and some are answered something else the first time.
type fates struct {
	mu    sync.Mutex
	first map[string]int // token -> status of its first answer
}

func (f *fates) next(token string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := f.first[token]
	delete(f.first, token)
	return status
}

// deal gives fates to tokens: of each 200, four are dead, two are asked to wait and one finds the service away.
func deal(token func(int) string, kill func(string)) *fates {
	f := &fates{first: make(map[string]int)}
	for i := range *tokens {
		switch i % 200 {
		case 10, 60, 110, 160:
			kill(token(i))
		case 20, 120:
			f.first[token(i)] = 429
		case 30:
			f.first[token(i)] = 503
		}
	}
	return f
}

func isDead(i int) bool { return i%50 == 10 }

// TestKills: a process that is killed while it notifies phones loses none: every live token is accepted at least once, none is repeated
// but those of the batches under way, which come with the same collapse ID, and no dead one is kept. The services refuse, ask to wait, are away and leave connections meanwhile.
func TestKills(t *testing.T) {
	a, err := apnstest.NewServer(apnstest.Options{CountOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	f, err := fcmtest.NewServer(fcmtest.Options{CountOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	died := time.Now().Add(time.Hour) // after it was registered, as this process has it
	byAPNs := deal(a.Token, func(token string) { a.Kill(token, died) })
	var names sync.Map // by which a phone tells one that was repeated
	a.OnRequest(func(r *apnstest.Request) *apnstest.Answer {
		names.Store(r.Header.Get("Apns-Collapse-Id"), true)
		switch byAPNs.next(r.Token) {
		case 429:
			return &apnstest.Answer{Reason: "TooManyRequests", RetryAfter: time.Second}
		case 503:
			return &apnstest.Answer{Reason: "ServiceUnavailable"}
		}
		return nil
	})
	byFCM := deal(f.Token, f.Kill)
	tag := regexp.MustCompile(`"tag":"([^"]*)"`)
	f.OnRequest(func(r *fcmtest.Request) *fcmtest.Answer {
		if m := tag.FindSubmatch(r.Body); m != nil {
			names.Store(string(m[1]), true)
		} else if r.Token != "" {
			names.Store("none", true)
		}
		switch byFCM.next(r.Token) {
		case 429:
			return &fcmtest.Answer{ErrorCode: "QUOTA_EXCEEDED", RetryAfter: "1"}
		case 503:
			return &fcmtest.Answer{ErrorCode: "UNAVAILABLE"}
		}
		return nil
	})
	a.GoAwayEvery(min(5000, *tokens/6))
	f.GoAwayEvery(min(5000, *tokens/6))
	key := a.Key()
	s := &services{
		Dir: t.TempDir(), Batch: min(2000, *tokens/12), APNs: a.URL(), FCM: f.URL(), Key: string(key.PEM), KeyID: key.KeyID, TeamID: key.TeamID,
		Account: string(f.ServiceAccount()), Roots: string(a.RootPEM()) + "\n" + string(f.RootPEM()),
	}
	importUsers(t, s, a, f)
	live := *tokens - *tokens/50
	for k := 1; k <= *kills; k++ {
		at := live * k / (*kills + 1)
		run(t, s, func(ctx context.Context) error {
			if k%2 == 1 { // the platforms take turns in saying when
				return a.Wait(ctx, at)
			}
			return f.Wait(ctx, at)
		})
	}
	run(t, s, nil)
	n := 0
	names.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Error(n, "collapse IDs and tags, and there is one message")
	}
	repeated := map[string]int{}
	for i := range *tokens {
		for platform, n := range map[string]int{"apns": a.Count(a.Token(i)), "fcm": f.Count(f.Token(i))} {
			switch {
			case isDead(i) && n > 0:
				t.Fatalf("%s took dead token %d", platform, i)
			case !isDead(i) && n == 0:
				t.Fatalf("%s never had token %d", platform, i)
			case n > 1:
				repeated[platform] += n - 1
			}
		}
	}
	t.Logf("%d tokens a platform in %d batches of %d, repeated: %v; requests: apns %d, fcm %d", *tokens, *tokens/s.Batch, s.Batch, repeated, a.Requests(), f.Requests())
	for platform, n := range repeated {
		if n > *kills*s.Batch {
			t.Errorf("%s: %d were repeated, and %d batches of %d under way", platform, n, *kills, s.Batch)
		}
	}
	kept(t, s, live)
	if p := append(a.Problems(), f.Problems()...); len(p) > 0 {
		t.Error(p)
	}
}

// importUsers gives each platform as many users as there are tokens.
func importUsers(t *testing.T, s *services, a *apnstest.Server, f *fcmtest.Server) {
	p, err := fanfare.Open(s.Dir, fanfare.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var users iter.Seq2[fanfare.User, error] = func(yield func(fanfare.User, error) bool) {
		for i := range *tokens {
			one := fanfare.User{ID: fmt.Sprint("a", i), Devices: []fanfare.Device{{Platform: "apns", Token: a.Token(i)}}}
			two := fanfare.User{ID: fmt.Sprint("f", i), Devices: []fanfare.Device{{Platform: "fcm", Token: f.Token(i)}}}
			if !yield(one, nil) || !yield(two, nil) {
				return
			}
		}
	}
	if _, err := p.Import(context.Background(), users, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// run runs a process until it is done, or is killed when until returns.
func run(t *testing.T, s *services, until func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if until != nil {
		err := until(ctx)
		cmd.Process.Kill()
		if cmd.Wait() == nil || err != nil {
			t.Fatalf("the process was done before it was killed: %v\n%s", err, stderr.String())
		}
		return
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if err := cmd.Wait(); err != nil || line == "" {
		t.Fatalf("%q, %v\n%s", line, err, stderr.String())
	}
	task(t, s, strings.TrimSpace(strings.TrimPrefix(line, "done ")))
}

// task looks at the outcome that the task has.
func task(t *testing.T, s *services, id string) {
	p, err := fanfare.Open(s.Dir, fanfare.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	if err := p.Check(context.Background()); err != nil {
		t.Error(err)
	}
	task, err := p.Task(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	g, err := task.Progress()
	if err != nil {
		t.Fatal(err)
	}
	for platform, n := range g.Phones {
		// What a batch that was under way at a kill had come to is not known, and its dead tokens may be gone.
		lost := int64(*kills * s.Batch)
		if n.Sent != n.Accepted+n.Unregistered+n.Rejected+n.Retried || n.Rejected+n.GaveUp != 0 || n.Stopped != "" ||
			n.Accepted < int64(*tokens-*tokens/50)-lost || n.Unregistered > int64(*tokens/50) {
			t.Errorf("%s: %+v", platform, n)
		}
		t.Logf("%s: %+v", platform, n)
	}
}

// kept looks at which tokens are still there.
func kept(t *testing.T, s *services, live int) {
	p, err := fanfare.Open(s.Dir, fanfare.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	for i := range *tokens {
		for _, user := range []string{fmt.Sprint("a", i), fmt.Sprint("f", i)} {
			if !isDead(i) && i%100 != 0 {
				continue // the counts tell
			}
			d, err := p.Devices(context.Background(), user)
			if err != nil || (len(d) == 0) != isDead(i) {
				t.Fatal(user, d, err)
			}
		}
	}
	for _, platform := range []string{"apns", "fcm"} {
		if n, err := p.Count(context.Background(), fanfare.Platform(platform)); err != nil || n != int64(live) {
			t.Errorf("%s: %d tokens are kept, %d are live: %v", platform, n, live, err)
		}
	}
}
