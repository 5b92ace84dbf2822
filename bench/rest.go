package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/rest"
	"github.com/fanfare-im/fanfare/rest/usersig"
	"github.com/fanfare-im/fanfare/transport"
)

const (
	restUsers   = 100_000
	restCallers = 64
	restBatch   = 100 // users of a request
)

// rest is a change of attributes of 100 users, and of one user's tag, through the REST handler, against the same calls of the Pusher; and
// with HTTP around it.
func (b *bench) rest(ctx context.Context) error {
	p, err := fanfare.Open(filepath.Join(b.dir, "rest"), fanfare.Options{})
	if err != nil {
		return err
	}
	defer p.Close(ctx)
	if err := p.SetAttributeNames(ctx, names); err != nil {
		return err
	}
	if _, err := p.Import(ctx, func(yield func(fanfare.User, error) bool) {
		for i := range restUsers {
			if !yield(fanfare.User{ID: restUser(i)}, nil) {
				return
			}
		}
	}, nil); err != nil {
		return err
	}
	key := []byte("key")
	api := rest.Handler(p, rest.Options{SDKAppID: 1, Keys: []transport.Secret{key}})
	sig := usersig.Sign(usersig.Sig{Identifier: "administrator", SDKAppID: 1, Expire: 24 * time.Hour}, key)
	query := "?sdkappid=1&identifier=administrator&random=7&contenttype=json&usersig=" + sig
	s := httptest.NewServer(api)
	defer s.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: restCallers}}
	defer client.CloseIdleConnections()

	direct := func(path string, body []byte) error {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path+query, bytes.NewReader(body)))
		return good(w.Body)
	}
	over := func(path string, body []byte) error {
		resp, err := client.Post(s.URL+path+query, "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return good(resp.Body)
	}
	type call func(r *rand.Rand) error
	attrs := func(send func(string, []byte) error) call {
		return func(r *rand.Rand) error { return send("/v4/all_member_push/im_set_attr", attrRequest(r)) }
	}
	tag := func(send func(string, []byte) error) call {
		return func(r *rand.Rand) error { return send("/v4/all_member_push/im_add_tag", tagRequest(r)) }
	}
	run := func(calls int, f call) contender {
		return func(ctx context.Context, round int) (float64, error) {
			began := time.Now()
			err := callers(restCallers, func(caller int) error {
				r := rand.New(rand.NewPCG(uint64(round), uint64(caller)))
				for range calls {
					if err := f(r); err != nil {
						return err
					}
				}
				return nil
			})
			return time.Since(began).Seconds() * 1e6 / float64(calls*restCallers), err
		}
	}
	calls := 100
	if b.quick {
		calls = 10
	}
	library := func(r *rand.Rand) error {
		var of fanfare.Batch
		for range restBatch {
			of.SetAttributes(restUser(r.IntN(restUsers)), map[string]string{"tier": "gold", "city": strconv.Itoa(r.IntN(300))})
		}
		return p.Apply(ctx, &of)
	}
	costs, err := rounds(ctx, b.rounds, true, run(calls, attrs(direct)), run(calls, library), run(calls, attrs(over)))
	if err != nil {
		return err
	}
	b.addRest(compare("rest.set_attr", "Pusher.Apply", "µs", costs[0], costs[1], atLeast(0.6)).with("%.0f requests of 100 users a second; %.0f %% of the time outside the library",
		1e6/median(costs[0]), 100*(1-median(costs[1])/median(costs[0]))))
	b.addRest(compare("rest.set_attr.http", "Pusher.Apply", "µs", costs[2], costs[1], noTarget).with("with HTTP and its client: %.0f requests a second on %d connections", 1e6/median(costs[2]), restCallers))
	calls *= 5
	one := func(r *rand.Rand) error {
		return p.AddTags(ctx, restUser(r.IntN(restUsers)), "tag"+strconv.Itoa(r.IntN(20)))
	}
	costs, err = rounds(ctx, b.rounds, true, run(calls, tag(direct)), run(calls, one), run(calls, tag(over)))
	if err != nil {
		return err
	}
	b.addRest(compare("rest.add_tag", "Pusher.AddTags", "µs", costs[0], costs[1], noTarget).with("%.0f requests a second; %.0f %% of the time outside the library", 1e6/median(costs[0]), 100*(1-median(costs[1])/median(costs[0]))))
	b.addRest(compare("rest.add_tag.http", "Pusher.AddTags", "µs", costs[2], costs[1], noTarget).with("with HTTP and its client: %.0f requests a second on %d connections", 1e6/median(costs[2]), restCallers))
	return nil
}

func (b *bench) addRest(r row) {
	r.Users = restUsers
	b.add(r)
}

func restUser(i int) string { return "user" + strconv.Itoa(i) }

func attrRequest(r *rand.Rand) []byte {
	b := []byte(`{"UserAttrs":[`)
	for i := range restBatch {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"To_Account":%q,"Attrs":{"tier":"gold","city":"%d"}}`, restUser(r.IntN(restUsers)), r.IntN(300))
	}
	return append(b, `]}`...)
}

func tagRequest(r *rand.Rand) []byte {
	return fmt.Appendf(nil, `{"UserTags":[{"To_Account":%q,"Tags":["tag%d"]}]}`, restUser(r.IntN(restUsers)), r.IntN(20))
}

// good reads an answer, and says if it is not OK.
func good(body io.Reader) error {
	var of struct {
		ActionStatus, ErrorInfo string
		ErrorList               []any
	}
	if err := json.NewDecoder(body).Decode(&of); err != nil {
		return err
	}
	if of.ActionStatus != "OK" || len(of.ErrorList) > 0 {
		return fmt.Errorf("%+v", of)
	}
	return nil
}
