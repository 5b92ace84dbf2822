package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/console"
)

// console is how long the operator's page takes to answer over HTTP: the slowest of its screens, each asked for many times, and the slowest of the audiences that
// somebody types.
func (b *bench) console(ctx context.Context) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	task, err := b.p.Push(ctx, fanfare.Message{To: fanfare.All(), From: "news", Body: []byte(`{"text":"hello"}`)})
	if err != nil {
		return err
	}
	plan, err := b.p.Plan(ctx, fanfare.Plan{Message: fanfare.Message{To: fanfare.All(), Body: []byte(`{"text":"hello"}`)}, At: time.Now().Add(24 * time.Hour)})
	if err != nil {
		return err
	}
	s := httptest.NewServer(console.Handler(b.p, console.Options{Identify: func(*http.Request) (console.Identity, error) {
		return console.Identity{Name: "operator", Role: console.Operator}, nil
	}}))
	defer s.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	client := &http.Client{Jar: jar, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	answer := func(resp *http.Response, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Request.URL.Path, resp.Status)
		}
		return body, err
	}
	form, err := answer(client.Get(s.URL + "/compose"))
	if err != nil {
		return err
	}
	token := regexp.MustCompile(`name="token" value="([^"]+)"`).FindSubmatch(form)
	if token == nil {
		return fmt.Errorf("the form has no token")
	}

	user := b.who.clone().id(b.users / 2)
	view := func(path string) func() error {
		return func() error {
			_, err := answer(client.Get(s.URL + path))
			return err
		}
	}
	pages := map[string]func() error{}
	for _, path := range []string{
		"/", "/figures", "/compose", "/tasks", "/tasks/" + task.ID, "/plans", "/plans/" + plan.ID, "/audit",
		"/users?user=" + user, "/users?user=" + user + "&message=" + task.ID,
	} {
		pages[path] = view(path)
	}
	audiences := map[string]func() error{}
	typed := []string{"all", "seen within 7 days", "not platform:apns"}
	for _, q := range b.questions() {
		typed = append(typed, q.to.String())
	}
	for _, text := range typed {
		audiences[text] = func() error {
			_, err := answer(client.PostForm(s.URL+"/compose/audience", url.Values{"token": {string(token[1])}, "to": {text}}))
			return err
		}
	}
	for _, of := range []struct {
		name  string
		calls map[string]func() error
		most  float64
		words string
	}{{"console.page", pages, 100, "≤ 100 ms, p95"}, {"console.audience", audiences, 50, "≤ 50 ms, p95"}} {
		slowest := ""
		costs, err := rounds(ctx, b.rounds, true, func(context.Context, int) (worst float64, err error) {
			for name, call := range of.calls {
				p95, err := b.p95(call)
				if err != nil {
					return 0, fmt.Errorf("%s: %w", name, err)
				}
				if p95 > worst {
					worst, slowest = p95, name
				}
			}
			return worst, nil
		})
		if err != nil {
			return err
		}
		b.add(limit(of.name, "ms", costs[0], of.most, of.words).with("the slowest of %d, at last %s", len(of.calls), slowest))
	}
	return plan.Cancel(ctx)
}

// p95 is how long 19 of 20 calls take at most, in milliseconds.
func (b *bench) p95(call func() error) (float64, error) {
	n := 100
	if b.quick {
		n = 20
	}
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		if err := call(); err != nil {
			return 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return quantile(took, 0.95).Seconds() * 1e3, nil
}
