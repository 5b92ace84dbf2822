package rest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/rest"
	"github.com/fanfare-im/fanfare/rest/usersig"
	"github.com/fanfare-im/fanfare/transport"
)

// A backend that pushed through a cloud service pushes through the API: its requests are the same.
func ExampleHandler() {
	const app = 1400000000
	key := []byte("the application's key")
	dir, err := os.MkdirTemp("", "fanfare-example-")
	check(err)
	defer os.RemoveAll(dir)
	p, err := fanfare.Open(dir, fanfare.Options{})
	check(err)
	ctx := context.Background()
	defer p.Close(ctx)
	mux := http.NewServeMux()
	mux.Handle("/v4/", rest.Handler(p, rest.Options{SDKAppID: app, Keys: []transport.Secret{key}}))

	query := url.Values{
		"sdkappid": {fmt.Sprint(app)}, "identifier": {"administrator"}, "random": {"1"}, "contenttype": {"json"},
		"usersig": {usersig.Sign(usersig.Sig{Identifier: "administrator", SDKAppID: app, Expire: time.Hour}, key)},
	}
	for _, request := range []struct{ command, body string }{
		{"im_open_login_svc/multiaccount_import", `{"Accounts": ["alice", "bob"]}`},
		{"all_member_push/im_add_tag", `{"UserTags": [{"To_Account": "alice", "Tags": ["vip"]}]}`},
		{"all_member_push/im_push", `{"MsgRandom": 17, "MsgLifeTime": 3600, "Condition": {"TagsOr": ["vip"]},
			"MsgBody": [{"MsgType": "TIMTextElem", "MsgContent": {"Text": "Hello"}}]}`},
	} {
		w := httptest.NewRecorder() // where a backend has the connection to its server
		mux.ServeHTTP(w, httptest.NewRequest("POST", "/v4/"+request.command+"?"+query.Encode(), strings.NewReader(request.body)))
		fmt.Println(request.command, strings.Contains(w.Body.String(), `"ActionStatus":"OK"`))
	}
	for task, err := range p.Tasks(ctx) {
		check(err)
		progress, err := task.Progress()
		check(err)
		fmt.Println("pushed to", task.Info().To, "which is", progress.Total)
	}
	// Output:
	// im_open_login_svc/multiaccount_import true
	// all_member_push/im_add_tag true
	// all_member_push/im_push true
	// pushed to tag:"vip" which is 1
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
